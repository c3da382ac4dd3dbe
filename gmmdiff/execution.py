"""Runs one notebook as a pipeline stage: checked parameters in, byte-identical results out.

    python -m gmmdiff.execution notebooks/01_theory_checks.ipynb theory_checks

executes the notebook with Papermill and the parameters of that section of params.yaml, and puts what it
made under reports/: notebooks/STAGE.ipynb, tables/STAGE/, figures/STAGE/.  Results are collected aside and
moved into place only when every cell has passed.  Host, versions, start, run time, how long the
progress bars ran and the memory it took go to environment/STAGE.json, on which no output depends that is compared
byte by byte.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import logging
import os
import platform
import re
import resource
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import pandas as pd
from tqdm import tqdm

from gmmdiff.checks import BadInput, FailedCell, exit_code
from gmmdiff.parameters import PARAMS, REPORTS, stage_parameters

if TYPE_CHECKING:  # and imported where they are used: a kernel, which needs neither, starts seconds sooner
    import nbformat
    from matplotlib.figure import Figure

PROGRESS, RESULTS = "GMMDIFF_PROGRESS", "GMMDIFF_RESULTS"
SPENT = "spent.txt"  # beside the staged results until the runner takes it: a line a bar


# ---- inside a notebook --------------------------------------------------------------------------------------


class _Told(tqdm):
    """A bar that tells the runner, as it closes, what it was for and how many seconds it ran."""

    def close(self) -> None:
        if not self.disable:  # as it is once closed
            with open(Path(os.environ[RESULTS]) / SPENT, "a") as file:
                file.write(f"{(self.desc or 'other').split()[0]} {self.format_dict['elapsed']}\n")
        super().close()


def progress(iterable: Any = None, **options: Any) -> tqdm:
    """A tqdm bar on the runner's terminal, or in place when the notebook runs in JupyterLab."""
    pipe = os.environ.get(PROGRESS)
    if pipe:
        options |= {"file": open(pipe, "w"), "ncols": 100, "position": 1}  # noqa: SIM115 - tqdm keeps it
    return (_Told if pipe else tqdm)(iterable, leave=False, **options)


class Results:
    """Where a notebook leaves its tables and figures.

    The runner says where; in JupyterLab it is reports/quick_look/NAME.
    """

    def __init__(self, name: str) -> None:
        self.folder = Path(os.environ.get(RESULTS) or Path("../reports/quick_look") / name)

    def _path(self, kind: str, name: str) -> Path:
        path = self.folder / kind / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def table(self, name: str, table: pd.DataFrame) -> pd.DataFrame:
        """Writes tables/NAME.csv (10 significant digits) and gives the table back."""
        table.to_csv(self._path("tables", f"{name}.csv"), index=False, float_format="%.10g", lineterminator="\n")
        return table

    def figure(self, name: str, figure: Figure, description: str) -> None:
        """Writes figures/NAME.png and .svg; the description travels inside both as their alternative text."""
        from gmmdiff.figures import save

        save(figure, self._path("figures", name), description)

    def json(self, name: str, content: Any) -> None:
        """Writes NAME.json beside the folders."""
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
        self._path(".", f"{name}.json").write_text(text + "\n")


def read_tables(folder: Path | str) -> dict[str, pd.DataFrame]:
    """All tables of one stage by name, from FOLDER/*.csv.

    Raises:
        BadInput: when there is none.
    """
    paths = sorted(Path(folder).glob("*.csv"))
    if not paths:
        raise BadInput(f"{folder}: no tables here; run `dvc repro` first")
    return {path.stem: pd.read_csv(path) for path in paths}


# ---- the runner ---------------------------------------------------------------------------------------------


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Environment variables for the kernel, taken back afterwards."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _progress_pipe(terminal: TextIO) -> Iterator[str]:
    """A named pipe through which the kernel's progress bars reach the terminal."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "progress")
        os.mkfifo(path)
        handle = os.open(path, os.O_RDWR)  # a writer of our own, so that no kernel's exit is an end of file
        end = b"\0"

        def forward() -> None:
            while not (chunk := os.read(handle, 4096)).endswith(end):
                terminal.write(chunk.decode(errors="replace"))
                terminal.flush()

        thread = threading.Thread(target=forward, daemon=True)
        thread.start()
        try:
            yield path
        finally:
            os.write(handle, end)
            thread.join()
            os.close(handle)


def normalise(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Drops what differs between two identical executions: times, paths and the injected cell's random id."""
    notebook.metadata.pop("papermill", None)
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.id = "injected-parameters"
    return notebook


def _execute(notebook: Path, target: Path, values: dict[str, Any]) -> None:
    """One Papermill run, from the notebook's own folder as in JupyterLab; raises ``FailedCell``."""
    import nbformat
    import papermill
    from nbclient.exceptions import DeadKernelError

    logging.getLogger("papermill").setLevel(logging.ERROR)
    try:
        papermill.execute_notebook(
            str(notebook), str(target), parameters=values, kernel_name="python3", cwd=str(notebook.parent),
            progress_bar={"desc": notebook.stem, "disable": None}, coalesce_streams=True,
            extra_arguments=["--IPKernelApp.log_level=CRITICAL"],  # or every kernel warns of its local ports
        )  # fmt: skip
    except papermill.PapermillExecutionError as error:
        last = re.sub(r"\x1b\[[0-9;]*m", "", str(error.evalue)).strip().splitlines()
        message = f"{error.ename}: {last[-1] if last else ''}"
        raise FailedCell(f"{notebook}: cell [{error.exec_count}] failed: {message}\n  see {target}") from None
    except DeadKernelError:
        raise FailedCell(f"{notebook}: the kernel died (out of memory?)\n  see {target}") from None
    nbformat.write(normalise(nbformat.read(target, 4)), target)


def _install(staged: Path, stage: str, reports: Path) -> None:
    """Moves staged results into place: files directly, tables/ and figures/ under the stage's name."""
    moves = [(path, reports / path.name / stage) for path in staged.iterdir() if path.is_dir()]
    moves += [(path, reports / path.name) for path in staged.iterdir() if path.is_file()]
    for source, target in moves:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            shutil.rmtree(target)
        os.replace(source, target)


def environment() -> dict[str, Any]:
    """Host, device and versions: what byte-identity must not depend on."""
    import torch

    packages = ("torch", "numpy", "scipy", "pandas", "matplotlib", "POT", "papermill", "dvc")
    return {
        "host": platform.node(),
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in packages},
    }


def _take_spent(staged: Path) -> dict[str, float]:
    """Seconds of the kernel's progress bars by their first word; the file they were told in is gone afterwards."""
    file, spent = staged / SPENT, {}
    for line in file.read_text().splitlines() if file.is_file() else ():
        word, seconds = line.split()
        spent[word] = spent.get(word, 0.0) + float(seconds)
    file.unlink(missing_ok=True)
    return {word: round(seconds, 1) for word, seconds in spent.items()}


def _memory() -> int:
    """MiB that the largest of the finished kernels took."""
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return peak // (2**20 if sys.platform == "darwin" else 2**10)  # macOS counts bytes, Linux KiB


def run(notebook: Path, stage: str, values: dict[str, Any], reports: Path) -> None:
    """Executes a notebook with checked parameters and installs its results under ``reports``.

    Raises:
        FailedCell: when a cell raised; earlier results are untouched.
    """
    start, started = time.monotonic(), datetime.now(UTC).isoformat(timespec="milliseconds")
    staged = reports / ".staging" / stage
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    executed = staged / "executed.ipynb"
    quiet = {} if sys.stderr.isatty() else {"TQDM_MININTERVAL": "15"}
    with _progress_pipe(sys.stderr) as pipe:
        told = {RESULTS: str(staged.resolve()), PROGRESS: pipe, "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
        with _environment(**told, **quiet):
            _execute(notebook, executed, values)
    kept, record = reports / "notebooks" / f"{stage}.ipynb", reports / "environment" / f"{stage}.json"
    for path in (kept, record):
        path.parent.mkdir(parents=True, exist_ok=True)
    spent = _take_spent(staged)
    os.replace(executed, kept)
    _install(staged, stage, reports)
    shutil.rmtree(staged)
    seconds = round(time.monotonic() - start, 1)
    content = environment() | {"started": started, "seconds": seconds, "spent": spent, "memory": _memory()}
    record.write_text(json.dumps(content, indent=1) + "\n")


def _override(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise BadInput(f"-p {text}: must be name=value")
    return name, value


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code (see ``checks.exit_code``)."""
    parser = argparse.ArgumentParser(prog="gmmdiff.execution", description="Run one notebook as a stage.")
    parser.add_argument("notebook", type=Path)
    parser.add_argument("stage", help="name of the results, e.g. theory_checks or feature_vs_class_runs/500")
    parser.add_argument("--section", help="of params.yaml, if it is not called like the stage")
    parser.add_argument("-p", action="append", default=[], metavar="NAME=VALUE", help="override one parameter")
    parser.add_argument("--params", type=Path, default=PARAMS)
    parser.add_argument("--reports", type=Path, default=REPORTS)
    options = parser.parse_args(arguments)

    def command() -> None:
        overrides = dict(_override(text) for text in options.p)
        values = stage_parameters(options.params, options.section or options.stage, options.notebook, overrides)
        run(options.notebook, options.stage, values, options.reports)

    return exit_code(command)


if __name__ == "__main__":
    raise SystemExit(main())
