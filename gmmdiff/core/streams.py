"""Explicit randomness: a name, with a seed, owns one random stream, whatever else is drawn."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from gmmdiff.core.checks import require, require_generator, whole


def _number(seed: int, name: str) -> int:
    seed = whole("stream", "seed", seed)
    require(isinstance(name, str), "stream", "name", "a text", repr(name))
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def stream(seed: int, name: str) -> torch.Generator:
    """The torch generator (on the CPU) of one use of randomness, e.g. ``stream(7, "data")``.

    Raises:
        ValueError: on a seed that is no whole number >= 0, or a name that is no text.

    Example:
        >>> import torch
        >>> from gmmdiff import stream
        >>> first, again = (torch.rand(3, generator=stream(7, "data")) for _ in range(2))
        >>> torch.equal(first, again)
        True
    """
    return torch.Generator().manual_seed(_number(seed, name))


def random_on(
    device: torch.device,
    law: Callable[..., Tensor],
    shape: Sequence[int],
    generator: torch.Generator | None,
    dtype: torch.dtype,
) -> Tensor:
    """Random numbers, drawn where the generator is: a seed's are the same on every device."""
    place = device if generator is None else generator.device
    return law(shape, generator=generator, dtype=dtype, device=place).to(device)


def numpy_stream(seed: int, name: str) -> np.random.Generator:
    """As ``stream``, for NumPy.

    Example:
        >>> from gmmdiff import numpy_stream
        >>> numpy_stream(7, "data").random() == numpy_stream(7, "data").random()
        True
    """
    return np.random.default_rng(_number(seed, name))


def orthonormal_frame(dim: int, columns: int, generator: torch.Generator) -> Tensor:
    """``(dim, columns)`` orthonormal columns in float64: the QR factor of a Gaussian matrix."""
    owner = "orthonormal_frame"
    dim, columns = whole(owner, "dim", dim), whole(owner, "columns", columns, 1)
    require(dim >= columns, owner, "dim", f">= {columns}", dim)
    require_generator(owner, generator)
    gaussian = torch.randn(dim, columns, generator=generator, dtype=torch.float64)
    return torch.linalg.qr(gaussian).Q
