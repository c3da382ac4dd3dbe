"""How a command ends: one line on standard error, and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any


class BadInput(ValueError):
    """Something the user can mend: a message with the file, the parameter and what is allowed."""


class FailedCell(RuntimeError):
    """A cell raised; the message names the notebook, the cell and the error."""


def exit_code(command: Callable[..., int | None], *arguments: Any) -> int:
    """Runs a command: its own exit code, 0 for None.

    One line on standard error and 2 for bad input, 1 for a failed cell or what the disk refuses,
    130 for an interruption by the user.
    """
    try:
        return command(*arguments) or 0
    except KeyboardInterrupt:
        code, message = 130, "interrupted; the same command goes on from what was finished"
    except (BadInput, FailedCell) as error:
        code, message = 2 if isinstance(error, BadInput) else 1, str(error)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        code, message = 1, f"{where}{error.strerror or error}"
    print(f"error: {message}", file=sys.stderr)
    return code
