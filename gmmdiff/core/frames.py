"""Orthonormal frames, uniformly oriented."""

from __future__ import annotations

import torch
from torch import Tensor

from gmmdiff.core.checks import require, require_generator, whole


def orthonormal_frame(dim: int, columns: int, generator: torch.Generator) -> Tensor:
    """``(dim, columns)`` orthonormal columns in float64: the QR factor of a Gaussian matrix."""
    owner = "orthonormal_frame"
    dim, columns = whole(owner, "dim", dim), whole(owner, "columns", columns, 1)
    require(dim >= columns, owner, "dim", f">= {columns}", dim)
    require_generator(owner, generator)
    gaussian = torch.randn(dim, columns, generator=generator, dtype=torch.float64)
    return torch.linalg.qr(gaussian).Q
