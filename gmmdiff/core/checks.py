"""Bad input stops here, with one line that names what is wrong and what is allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from torch import Tensor


def refuse(owner: str, what: str, allowed: str, got: object) -> NoReturn:
    """Raise the house's one ``ValueError``: owner, parameter, allowed values, given value."""
    raise ValueError(f"{owner}: {what} must be {allowed}, got {got}")


def require(condition: bool, owner: str, what: str, allowed: str, got: object) -> None:
    """Refuse (see ``refuse``) unless ``condition`` holds."""
    if not condition:
        refuse(owner, what, allowed, got)


def require_finite(owner: str, what: str, x: Tensor) -> None:
    """Refuse a tensor that holds NaN or infinity, saying how many."""
    bad = int((~x.isfinite()).sum())
    require(bad == 0, owner, what, "finite", f"{bad} NaN or infinite of {x.numel()} values")


def require_points(owner: str, what: str, x: Tensor, dim: int | None = None) -> None:
    """Refuse anything but a non-empty, finite floating tensor ``(n, dim)``."""
    shape = tuple(x.shape)
    expected = f"a floating tensor (n, {'dim' if dim is None else dim}) with n >= 1"
    good = x.ndim == 2 and shape[0] >= 1 and x.is_floating_point() and dim in (None, shape[-1])
    require(good, owner, what, expected, f"{shape} {x.dtype}")
    require_finite(owner, what, x)
