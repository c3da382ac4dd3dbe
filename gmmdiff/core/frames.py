"""Orthonormal frames, uniformly oriented."""

from __future__ import annotations

import torch
from torch import Tensor

from gmmdiff.core.checks import require


def orthonormal_frame(dim: int, columns: int, generator: torch.Generator) -> Tensor:
    """``(dim, columns)`` orthonormal columns, uniformly oriented (QR of a Gaussian matrix),
    float64.
    """
    require(dim >= columns, "orthonormal_frame", "dim", f">= {columns}", dim)
    gaussian = torch.randn(dim, columns, generator=generator, dtype=torch.float64)
    return torch.linalg.qr(gaussian).Q
