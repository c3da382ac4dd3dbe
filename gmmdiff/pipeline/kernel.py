"""The kernel that executes a notebook: this interpreter, on this tree, whatever kernels, start-up
files, matplotlibrc, backend, PYTHONPATH and locale a user has for other work.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gmmdiff.pipeline.errors import BadInput

ROOT = Path(__file__).resolve().parents[2]  # of the tree whose code runs
NAME = "gmmdiff"  # of the kernel
PATIENCE = 300  # seconds in which it has to start
REMOVED = ("MPLBACKEND", "MATPLOTLIBRC", "PYTHONSTARTUP", "PYTHONHOME", "PYTHONINSPECT")
REMOVED += ("JUPYTER_CONFIG_PATH", "JUPYTER_CONFIG_DIR", "JUPYTER_PLATFORM_DIRS")
# A kernel without a warning about its local ports.
LAUNCH = ["-m", "ipykernel_launcher", "-f", "{connection_file}", "--IPKernelApp.log_level=CRITICAL"]


def require_own_tree(notebook: Path) -> None:
    """Refuses a notebook that stands beside another copy of the code than the one that runs."""
    trees = (f for f in notebook.resolve().parents if (f / "gmmdiff" / "__init__.py").is_file())
    if (tree := next(trees, ROOT)) != ROOT:
        own = f"must run with the code beside it, not {ROOT}'s"
        raise BadInput(f"{notebook}: {own}; start in {tree}")


@contextmanager
def environment(**values: str) -> Iterator[None]:
    """Environment variables for what is started inside, taken back afterwards."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def surroundings(**values: str) -> Iterator[None]:
    """Inside, the kernel called ``NAME`` is this interpreter, and sees this tree and nothing else
    but these further environment variables.
    """
    with tempfile.TemporaryDirectory(prefix="gmmdiff-") as folder:
        own = Path(folder)
        spec = own / "kernels" / NAME / "kernel.json"
        spec.parent.mkdir(parents=True)
        content = {"argv": [sys.executable, *LAUNCH], "display_name": NAME, "language": "python"}
        spec.write_text(json.dumps(content), encoding="utf-8")
        values |= {
            "JUPYTER_PATH": folder,
            "IPYTHONDIR": str(own / "ipython"),
            "JUPYTER_RUNTIME_DIR": str(own / "runtime"),
            "PYTHONPATH": str(ROOT),
            "PYTHONUTF8": "1",
            "PYTHONNOUSERSITE": "1",
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        }
        if not os.access(os.path.expanduser("~"), os.W_OK):  # where matplotlib keeps its fonts
            values["MPLCONFIGDIR"] = str(own / "matplotlib")
        with environment(**values):
            for name in REMOVED:
                os.environ.pop(name, None)
            yield
