"""Gaussian mixture conditioning and negative Gaussian mixture gradients for diffusion models.

A reproduction of arXiv 2401.11261 on data whose geometry is known exactly.  The formulas that the
paper's abstracts leave open are our reconstruction; each module says which.

The public names load their modules when they are asked for: ``gmmdiff.core`` is the mathematics,
``gmmdiff.worlds`` the data.  Which they are, and where each is at home, stands in
``__init__.pyi``, which type checkers read too.
"""

import ast
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

_HOME = {
    name.name: str(statement.module)
    for statement in ast.parse(Path(__file__).with_suffix(".pyi").read_text("utf-8")).body
    if isinstance(statement, ast.ImportFrom)
    for name in statement.names
}
__all__ = [*_HOME, "__version__"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("gmmdiff")
    if name not in _HOME:
        raise AttributeError(f"module 'gmmdiff' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
