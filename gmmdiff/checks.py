"""Bad input stops here, with one line that names what is wrong and what is allowed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from torch import Tensor


class BadInput(ValueError):
    """Something the user can mend; the message names the file, the parameter and what is allowed."""


class FailedCell(RuntimeError):
    """A cell raised; the message names the notebook, the cell and the error."""


def exit_code(command: Callable[[], int | None]) -> int:
    """Runs a command: its own exit code, 0 for None.

    One line on standard error and 2 for bad input, 1 for a failed cell or what the disk refuses, 130 for an
    interruption by the user.
    """
    try:
        return command() or 0
    except KeyboardInterrupt:
        print("error: interrupted; what was finished is kept, the same command goes on from there", file=sys.stderr)
        return 130
    except (BadInput, FailedCell) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, BadInput) else 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}", file=sys.stderr)
        return 1


def refuse(owner: str, what: str, allowed: str, got: object) -> NoReturn:
    """Raise a ``ValueError`` of the house's one form: owner, parameter, allowed values, given value."""
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
