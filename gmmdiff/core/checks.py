"""Bad input stops here, with one line that names what is wrong and what is allowed.

Numbers, lists, NumPy arrays and tensors of any type are welcome where a tensor is meant.  Values
are looked at wherever they can be seen, which inside ``torch.vmap`` and ``torch.compile`` they
cannot.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from functools import reduce, wraps
from typing import Any, NoReturn, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

LONGEST = 200  # characters of a refused value that are shown
DOUBLE = torch.empty(0, dtype=torch.float64, device="cpu")  # ``like`` for double precision
Given = ParamSpec("Given")
Result = TypeVar("Result")


def refuse(owner: str, what: str, allowed: str, got: object) -> NoReturn:
    """Raise the one ``ValueError`` of this package."""
    if isinstance(got, Tensor):
        few = got.numel() <= 8
        got = got.tolist() if few else f"values in [{float(got.min()):g}, {float(got.max()):g}]"
    shown = " ".join(str(got).split())  # one line, whatever it is
    shown = shown if len(shown) <= LONGEST else f"{shown[:LONGEST]} ..."
    raise ValueError(f"{owner}: {what} must be {allowed}, got {shown}")


def require(condition: bool | Tensor, owner: str, what: str, allowed: str, got: object) -> None:
    """Refuse unless a condition holds; one on values, wherever they are seen."""
    if not (holds(condition) if isinstance(condition, Tensor) else condition):
        refuse(owner, what, allowed, got)


def holds(condition: Tensor) -> bool:
    """Whether a condition on values holds everywhere; True where there are no values to see."""
    if torch.compiler.is_compiling() or condition.is_meta:
        return True
    try:
        return bool(condition.all())
    except RuntimeError as error:
        if "vmap" in str(error):
            return True
        raise


def floating(owner: str, what: str, value: Any, like: Tensor | None = None) -> Tensor:
    """A floating tensor of a number, list, NumPy array or tensor; a ValueError on anything else.

    A value that is no tensor takes the device of ``like``, one without a precision that of it.
    """
    plain = not hasattr(value, "dtype")  # numbers and lists have digits, and no type of their own
    device = getattr(value if isinstance(value, Tensor) else like, "device", None)
    try:
        tensor = torch.as_tensor(value, device=device, dtype=torch.float64 if plain else None)
    except (TypeError, ValueError, RuntimeError):
        refuse(owner, what, "a tensor of real numbers", repr(value))
    if tensor.is_complex():
        refuse(owner, what, "a tensor of real numbers", str(tensor.dtype))
    if tensor.is_floating_point() and not plain:
        return tensor
    return tensor.to(torch.get_default_dtype() if like is None else like.dtype)


def require_shape(owner: str, what: str, x: Tensor, *shape: int | str, least: int = 0) -> None:
    """Refuse a tensor of another shape: sizes, names of free ones ("n" >= ``least``), "..."."""
    wanted = tuple(size for size in shape if size != "...")
    given = tuple(x.shape)[max(0, x.ndim - len(wanted)) if "..." in shape else 0 :]
    good = len(given) == len(wanted) and all(
        size >= least * (name == "n") if isinstance(name, str) else size == name
        for size, name in zip(given, wanted, strict=True)
    )
    if not good:  # words are made here alone: torch.compile cannot trace those of a dynamic size
        allowed = str(shape).replace("'", "") + (f" with n >= {least}" if least else "")
        refuse(owner, what, allowed, tuple(x.shape))


def require_finite(owner: str, what: str, x: Tensor) -> None:
    """Refuse a tensor that holds NaN or infinity, saying how many."""
    if not holds(finite := x.isfinite()):
        bad = x.numel() - int(finite.sum())
        refuse(owner, what, "finite", f"{bad} NaN or infinite of {x.numel()} values")


def array(
    owner: str, what: str, value: Any, *shape: int | str, least: int = 0, like: Tensor | None = None
) -> Tensor:
    """``floating``, of one shape (see ``require_shape``) and finite; a ValueError otherwise."""
    x = floating(owner, what, value, like)
    require_shape(owner, what, x, *shape, least=least)
    require_finite(owner, what, x)
    return x


def at_least_single(x: Tensor) -> Tensor:
    """Half precision as single: sums of squares need the room."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def whole(owner: str, what: str, value: Any, least: int = 0, most: float = math.inf) -> int:
    """A whole number in ``least`` .. ``most``, also one that a table turned into a float.

    A ValueError on anything else, True and False too.
    """
    number = value.item() if hasattr(value, "item") and getattr(value, "size", None) else value
    good = isinstance(number, numbers.Real) and not isinstance(number, bool)
    good = good and number == number // 1 and least <= number <= most
    allowed = f"a whole number >= {least}" if most == math.inf else f"in {least}..{most}"
    require(good, owner, what, allowed, repr(value))
    return int(number)


def indices(owner: str, what: str, value: Any, count: int) -> Tensor:
    """``(n,)`` whole numbers in 0 .. count - 1, of a list, array or tensor of any type.

    A ValueError on another shape or number, or a mask of True and False.
    """
    floating(owner, what, value)  # refuses what is no array of numbers
    given = torch.as_tensor(value)
    index = given.long()
    good = index.ndim == 1 and given.dtype != torch.bool
    good = good and holds((index == given) & (index >= 0) & (index < count))
    require(good, owner, what, f"(n,) in 0 .. {count - 1}", given.tolist())
    return index


def promoted(owner: str, **tensors: Tensor) -> list[Tensor]:
    """The tensors in the one type that holds them all; a ValueError unless on one device."""
    devices = {str(tensor.device) for tensor in tensors.values()}
    require(len(devices) == 1, owner, ", ".join(tensors), "on one device", ", ".join(devices))
    wide = reduce(torch.promote_types, (tensor.dtype for tensor in tensors.values()))
    return [tensor.to(wide) for tensor in tensors.values()]


def require_generator(owner: str, generator: object) -> None:
    """Refuse to draw from anything but an explicit generator."""
    good = isinstance(generator, torch.Generator)
    require(good, owner, "generator", "a torch.Generator", type(generator).__name__)


def recomputed(function: Callable[..., Tensor], *differentiable: Tensor) -> Callable[..., Tensor]:
    """The function, its inner values made anew in a backward pass, if one can come, and not kept.

    Where ``torch.func`` forbids it they are kept.
    """
    if not (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in differentiable)):
        return function

    def call(*args: Tensor) -> Tensor:
        try:
            return checkpoint(function, *args, use_reentrant=False)
        except RuntimeError as error:
            if "saved tensor hooks" not in str(error):
                raise
            return function(*args)

    return call


def in_own_precision(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """Keeps ``torch.autocast`` out of a function: its result is the same inside as outside."""

    @wraps(function)
    def outside(*args: Given.args, **options: Given.kwargs) -> Result:
        if not (torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")):
            return function(*args, **options)
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            return function(*args, **options)

    return outside
