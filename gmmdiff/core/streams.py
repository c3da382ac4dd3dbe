"""Explicit randomness: a name, with a seed, owns one random stream, whatever else is drawn."""

from __future__ import annotations

import hashlib

import numpy as np
import torch


def _number(seed: int, name: str) -> int:
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def stream(seed: int, name: str) -> torch.Generator:
    """The torch generator (on the CPU) of one use of randomness, e.g. ``stream(7, "data")``."""
    return torch.Generator().manual_seed(_number(seed, name))


def numpy_stream(seed: int, name: str) -> np.random.Generator:
    """As ``stream``, for NumPy."""
    return np.random.default_rng(_number(seed, name))
