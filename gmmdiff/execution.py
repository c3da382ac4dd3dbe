"""Runs one notebook as a pipeline stage: checked parameters in, byte-identical results out.

    python -m gmmdiff.execution notebooks/01_theory_checks.ipynb theory_checks

executes the notebook with Papermill and the parameters of that section of params.yaml, and puts what it
made under reports/: notebooks/STAGE.ipynb, tables/STAGE/, figures/STAGE/.  Results are collected aside and
moved into place only when every cell has passed.  Host, versions and run time go to environment/STAGE.json,
which no other output depends on.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import logging
import os
import platform
import re
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import pandas as pd
from tqdm import tqdm

from gmmdiff.checks import BadInput, FailedCell, exit_code
from gmmdiff.parameters import PARAMS, REPORTS, cluster_setting, resolve_device, stage_parameters

if TYPE_CHECKING:  # and imported where they are used: a kernel, which needs neither, starts seconds sooner
    import nbformat
    from matplotlib.figure import Figure

    from gmmdiff.parallel import Workers

PROGRESS, RESULTS, CLUSTER = "GMMDIFF_PROGRESS", "GMMDIFF_RESULTS", "GMMDIFF_CLUSTER"


# ---- inside a notebook --------------------------------------------------------------------------------------


def progress(iterable: Any = None, **options: Any) -> tqdm:
    """A tqdm bar on the runner's terminal, or in place when the notebook runs in JupyterLab."""
    pipe = os.environ.get(PROGRESS)
    if pipe:
        options |= {"file": open(pipe, "w"), "ncols": 100, "position": 1}  # noqa: SIM115 - tqdm keeps it
    return tqdm(iterable, leave=False, **options)


@cache
def workers() -> Workers:
    """The parallel map over the runner's ``cluster``; over threads where there is none, and in JupyterLab."""
    if address := os.environ.get(CLUSTER):
        from gmmdiff.cluster import Cluster

        return Cluster(address)
    from gmmdiff.parallel import side_by_side

    return side_by_side


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


def require_reachable(cluster: str | None, params: Path) -> None:
    """Refuses the address of a scheduler that does not answer or has other workers than this code's, before anything runs.

    Raises:
        BadInput: one line that names the file and what is wrong.
    """
    if cluster in (None, "local"):
        return
    from gmmdiff.cluster import Cluster

    try:
        Cluster(cluster).client.close()
    except ConnectionError as error:
        raise BadInput(f"{params}: cluster: {error}") from None


@contextmanager
def _workers(cluster: str | None, device: str) -> Iterator[str]:
    """The address of the scheduler, empty where there is none; workers of this machine live as long as the context."""
    if cluster != "local":
        yield cluster or ""
        return
    import torch

    from gmmdiff.cluster import local

    gpus = torch.cuda.device_count() if resolve_device(device) == "cuda" else 0
    with ExitStack() as stack:
        with _environment():  # which starting workers changes, and the kernel must not see
            address = stack.enter_context(local(gpus))
        yield address


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


def run(notebook: Path, stage: str, values: dict[str, Any], reports: Path, cluster: str | None = None) -> None:
    """Executes a notebook with checked parameters, on a ``cluster``, and installs its results under ``reports``.

    Raises:
        FailedCell: when a cell raised; earlier results are untouched.
    """
    start = time.monotonic()
    staged = reports / ".staging" / stage
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    executed = staged / "executed.ipynb"
    quiet = {} if sys.stderr.isatty() else {"TQDM_MININTERVAL": "15"}
    with _progress_pipe(sys.stderr) as pipe, _workers(cluster, values.get("device", "auto")) as address:
        told = {RESULTS: str(staged.resolve()), PROGRESS: pipe, CLUSTER: address, "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
        with _environment(**told, **quiet):
            _execute(notebook, executed, values)
    kept, record = reports / "notebooks" / f"{stage}.ipynb", reports / "environment" / f"{stage}.json"
    for path in (kept, record):
        path.parent.mkdir(parents=True, exist_ok=True)
    os.replace(executed, kept)
    _install(staged, stage, reports)
    shutil.rmtree(staged)
    content = environment() | {"seconds": round(time.monotonic() - start, 1)}
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
        cluster = cluster_setting(options.params)
        require_reachable(cluster, options.params)
        run(options.notebook, options.stage, values, options.reports, cluster)

    return exit_code(command)


if __name__ == "__main__":
    raise SystemExit(main())
