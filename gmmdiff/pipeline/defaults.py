"""What a notebook runs with when nobody gives it other parameters: its quick look."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from gmmdiff.pipeline.execution.parameters import declared_parameters


def defaults(notebook: Path) -> dict[str, Any]:
    """The values that a notebook's parameters have by themselves.

    Raises:
        BadInput: as ``declared_parameters``.
    """
    declared = declared_parameters(notebook).items()
    return {name: ast.literal_eval(entry["default"]) for name, entry in declared}
