"""Runs one notebook as a pipeline stage: checked parameters in, byte-identical results out.

    python -m gmmdiff.execution notebooks/01_theory_checks.ipynb theory_checks

executes the notebook with Papermill and the parameters of that section of params.yaml, and puts what it
made under reports/: notebooks/STAGE.ipynb, tables/STAGE/, figures/STAGE/.  Results are collected aside and
moved into place only when every cell has passed.  Host, versions and run time go to environment/STAGE.json,
which no other output depends on.
"""

from __future__ import annotations

import argparse
import ast
import importlib.metadata
import json
import logging
import math
import os
import platform
import re
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import pandas as pd
import yaml
from tqdm import tqdm

if TYPE_CHECKING:  # and imported where they are used: a kernel, which needs neither, starts seconds sooner
    import nbformat
    from matplotlib.figure import Figure

    from gmmdiff.training import Workers

PROGRESS, RESULTS, CLUSTER = "GMMDIFF_PROGRESS", "GMMDIFF_RESULTS", "GMMDIFF_CLUSTER"
SHARED = ("seed", "device")  # top-level parameters that every notebook may declare
DEVICES = ("auto", "cpu", "cuda")


class BadInput(ValueError):
    """Something the user can mend; the message names the file, the parameter and what is allowed."""


class FailedCell(RuntimeError):
    """A cell raised; the message names the notebook, the cell and the error."""


# ---- inside a notebook --------------------------------------------------------------------------------------


def progress(iterable: Any = None, **options: Any) -> tqdm:
    """A tqdm bar on the runner's terminal, or in place when the notebook runs in JupyterLab."""
    pipe = os.environ.get(PROGRESS)
    if pipe:
        options |= {"file": open(pipe, "w"), "ncols": 100, "position": 1}  # noqa: SIM115 - tqdm keeps it
    return tqdm(iterable, leave=False, **options)


def resolve_device(name: str) -> str:
    """``"auto"`` -> ``"cuda"`` where there is one, else ``"cpu"``.

    Raises:
        BadInput: on another name than auto, cpu or cuda, or on cuda without CUDA.
    """
    import torch

    if name not in DEVICES:
        raise BadInput(f"params.yaml: device must be one of {', '.join(DEVICES)}, got {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise BadInput("params.yaml: device is cuda, but this machine has no CUDA device; allowed here: auto, cpu")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"


@cache
def workers() -> Workers:
    """The parallel map over the runner's ``cluster``; over threads where there is none, and in JupyterLab."""
    if address := os.environ.get(CLUSTER):
        from gmmdiff.cluster import Cluster

        return Cluster(address)
    from gmmdiff.training import side_by_side

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


# ---- parameters ---------------------------------------------------------------------------------------------


def declared_parameters(notebook: Path) -> dict[str, dict[str, str]]:
    """What the notebook's parameters cell declares: name -> type, default, meaning and range.

    Each line reads ``name: type = default  # meaning; in [low, high]`` or ``...; one of a, b``.

    Raises:
        BadInput: when the notebook or its tagged cell is missing.
    """
    import nbformat
    import papermill

    if not notebook.is_file():
        raise BadInput(f"{notebook}: no such notebook")
    if not any("parameters" in cell.metadata.get("tags", []) for cell in nbformat.read(notebook, 4).cells):
        raise BadInput(f"{notebook}: no cell is tagged `parameters`")
    return papermill.inspect_notebook(str(notebook))


def _has_type(value: Any, kind: str) -> bool:
    if kind.startswith("list["):
        return isinstance(value, list) and len(value) > 0 and all(_has_type(v, kind[5:-1]) for v in value)
    if isinstance(value, bool):
        return kind == "bool"
    allowed = {"int": int, "float": (int, float), "str": str, "bool": bool}[kind]
    return isinstance(value, allowed) and not (isinstance(value, float) and math.isnan(value))


def _in_range(value: Any, text: str) -> bool:
    if isinstance(value, list):
        return all(_in_range(v, text) for v in value)
    if text.startswith("one of "):
        return str(value) in text.removeprefix("one of ").split(", ")
    left, low, high, right = re.fullmatch(r"in ([\[(])(\S+), (\S+)([\])])", text).groups()
    above = value >= float(low) if left == "[" else value > float(low)
    below = value <= float(high) if right == "]" else value < float(high)
    return above and below


def check_parameters(notebook: Path, values: dict[str, Any]) -> None:
    """Refuses values the notebook does not declare, of another type, or out of the declared range.

    Raises:
        BadInput: one line that names the notebook, the parameter and what is allowed.
    """
    declared = declared_parameters(notebook)
    for name, value in values.items():
        if name not in declared:
            raise BadInput(f"{notebook}: unknown parameter {name}; allowed: {', '.join(sorted(declared))}")
        kind = declared[name]["inferred_type_name"]
        limits = declared[name]["help"].partition("; ")[2]
        wanted = f"{'a non-empty ' if kind.startswith('list') else ''}{kind}{' ' + limits if limits else ''}"
        if not _has_type(value, kind) or (limits and not _in_range(value, limits)):
            raise BadInput(f"{notebook}: parameter {name} must be {wanted}, got {value!r}")


def _interpret(text: str, kind: str | None) -> Any:
    """The value of a command-line override: a Python literal, unless a text is declared or nothing else fits."""
    if kind == "str":
        return text
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _content(params: Path) -> dict[str, Any]:
    """What params.yaml holds; raises ``BadInput`` where it is missing or malformed."""
    if not params.is_file():
        raise BadInput(f"{params}: no such file")
    try:
        content = yaml.safe_load(params.read_text())
    except yaml.YAMLError as error:
        raise BadInput(f"{params}: not valid YAML: {' '.join(str(error).split())}") from None
    return content if isinstance(content, dict) else {}


def stage_parameters(params: Path, stage: str, notebook: Path, overrides: dict[str, str]) -> dict[str, Any]:
    """Section STAGE of params.yaml, the shared parameters the notebook declares, and overrides, checked.

    Raises:
        BadInput: on a missing or malformed file or section, or a bad parameter.
    """
    content = _content(params)
    if not isinstance(content.get(stage), dict):
        raise BadInput(f"{params}: section {stage} must be a mapping of parameters")
    resolve_device(content.get("device", "auto"))
    declared = declared_parameters(notebook)
    overrides = {name: _interpret(text, declared.get(name, {}).get("inferred_type_name")) for name, text in overrides.items()}
    shared = {name: content[name] for name in SHARED if name in content and name in declared}
    values = shared | content[stage] | overrides
    check_parameters(notebook, values)
    return values


def cluster_setting(params: Path) -> str | None:
    """``cluster`` of params.yaml: where the runs are computed, which no result depends on, so no stage declares it.

    Raises:
        BadInput: unless it is null, ``local``, or the address of a scheduler that answers and whose workers fit.
    """
    cluster = _content(params).get("cluster")
    if cluster in (None, "local"):
        return cluster
    found = re.fullmatch(r"(tcp|tls)://[^\s/]+:(\d{1,5})", cluster) if isinstance(cluster, str) else None
    if not found or not 0 < int(found.group(2)) < 2**16:
        allowed = "null, local, or the address of a dask.distributed scheduler, tcp://HOST:PORT or tls://HOST:PORT"
        raise BadInput(f"{params}: cluster must be {allowed}, got {cluster!r}")
    from gmmdiff.cluster import Cluster

    try:
        Cluster(cluster).client.close()
    except ConnectionError as error:
        raise BadInput(f"{params}: cluster: {error}") from None
    return cluster


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
        )  # fmt: skip
    except papermill.PapermillExecutionError as error:
        last = re.sub(r"\x1b\[[0-9;]*m", "", str(error.evalue)).strip().splitlines()
        message = f"{error.ename}: {last[-1] if last else ''}"
        raise FailedCell(f"{notebook}: cell [{error.exec_count}] failed: {message}\n  see {target}") from None
    except DeadKernelError:
        raise FailedCell(f"{notebook}: the kernel died (out of memory?)\n  see {target}") from None
    nbformat.write(normalise(nbformat.read(target, 4)), target)


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


def run(
    notebook: Path, stage: str, values: dict[str, Any], reports: Path, html: bool = False, cluster: str | None = None
) -> None:
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
    if html:
        from gmmdiff.publishing import render

        render(executed, staged / "index.html")
    kept, record = reports / "notebooks" / f"{stage}.ipynb", reports / "environment" / f"{stage}.json"
    for path in (kept, record):
        path.parent.mkdir(parents=True, exist_ok=True)
    os.replace(executed, kept)
    _install(staged, stage, reports)
    shutil.rmtree(staged)
    content = environment() | {"cluster": cluster, "seconds": round(time.monotonic() - start, 1)}
    record.write_text(json.dumps(content, indent=1) + "\n")


def _override(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise BadInput(f"-p {text}: must be name=value")
    return name, value


def exit_code(command: Callable[[], int | None]) -> int:
    """Runs a command: its own exit code, 0 for None; one line on standard error and 2 for bad input, 1 for a failed cell."""
    try:
        return command() or 0
    except (BadInput, FailedCell) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, BadInput) else 1


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code (see ``exit_code``)."""
    parser = argparse.ArgumentParser(prog="gmmdiff.execution", description="Run one notebook as a stage.")
    parser.add_argument("notebook", type=Path)
    parser.add_argument("stage", help="name of the results, e.g. theory_checks or feature_vs_class_runs/500")
    parser.add_argument("--section", help="of params.yaml, if it is not called like the stage")
    parser.add_argument("-p", action="append", default=[], metavar="NAME=VALUE", help="override one parameter")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--reports", type=Path, default=Path("reports"))
    parser.add_argument("--html", action="store_true", help="also render the notebook to index.html")
    options = parser.parse_args(arguments)

    def command() -> None:
        overrides = dict(_override(text) for text in options.p)
        values = stage_parameters(options.params, options.section or options.stage, options.notebook, overrides)
        run(options.notebook, options.stage, values, options.reports, options.html, cluster_setting(options.params))

    return exit_code(command)


if __name__ == "__main__":
    raise SystemExit(main())
