"""How a command ends: one line on standard error, and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable


class BadInput(ValueError):
    """Something the user can mend: a message with the file, the parameter and what is allowed."""


class FailedCell(RuntimeError):
    """A cell raised; the message names the notebook, the cell and the error."""


def exit_code(command: Callable[[], int | None]) -> int:
    """Runs a command: its own exit code, 0 for None.

    One line on standard error and 2 for bad input, 1 for a failed cell or what the disk refuses,
    130 for an interruption by the user.
    """
    try:
        return command() or 0
    except KeyboardInterrupt:
        print(
            "error: interrupted; what was finished is kept, the same command goes on from there",
            file=sys.stderr,
        )
        return 130
    except (BadInput, FailedCell) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, BadInput) else 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}", file=sys.stderr)
        return 1
