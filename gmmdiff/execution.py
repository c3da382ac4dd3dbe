"""Runs one notebook as a pipeline stage: checked parameters in, byte-identical results out.

    python -m gmmdiff.execution notebooks/01_theory_checks.ipynb theory_checks

executes the notebook with Papermill and the parameters of that section of params.yaml, and puts what it
made under reports/: notebooks/STAGE.ipynb, tables/STAGE/, figures/STAGE/.  Results are collected aside, in
reports/.staging/STAGE, and moved into place only when every cell has passed and all is written.  Host, versions
and run time go to environment/STAGE.json, which no other output depends on.

A full disk or a folder that cannot be written is one line on standard error, and earlier results stay.  A run that
was killed leaves its staging folder, which the next run of any stage removes; killed while it moved results into
place, it was never recorded in dvc.lock, so `dvc repro` runs the stage again, which replaces all of them.
"""

from __future__ import annotations

import argparse
import ast
import errno
import fcntl
import importlib.metadata
import json
import logging
import math
import os
import platform
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import pandas as pd
import yaml
from tqdm import tqdm

if TYPE_CHECKING:  # and imported where they are used: a kernel, which needs neither, starts seconds sooner
    import nbformat
    from matplotlib.figure import Figure

PROGRESS, RESULTS = "GMMDIFF_PROGRESS", "GMMDIFF_RESULTS"
PROGRESS_FILE = "progress"  # in the staging folder of a run that has not ended
SHARED = ("seed", "device")  # top-level parameters that every notebook may declare
DEVICES = ("auto", "cpu", "cuda")
FULL = (errno.ENOSPC, errno.EDQUOT)  # no space left on the disk, or of the user's share of it


class BadInput(ValueError):
    """Something the user can mend; the message names the file, the parameter and what is allowed."""


class FailedCell(RuntimeError):
    """A cell raised; the message names the notebook, the cell and the error."""


# ---- inside a notebook --------------------------------------------------------------------------------------


def progress(iterable: Any = None, **options: Any) -> tqdm:
    """A tqdm bar on the runner's terminal, or in place when the notebook runs in JupyterLab."""
    path = os.environ.get(PROGRESS)
    if path:
        options |= {"file": open(path, "a"), "ncols": 100, "position": 1}  # noqa: SIM115 - tqdm keeps it
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


def stage_parameters(params: Path, stage: str, notebook: Path, overrides: dict[str, str]) -> dict[str, Any]:
    """Section STAGE of params.yaml, the shared parameters the notebook declares, and overrides, checked.

    Raises:
        BadInput: on a missing or malformed file or section, or a bad parameter.
    """
    if not params.is_file():
        raise BadInput(f"{params}: no such file")
    try:
        content = yaml.safe_load(params.read_text())
    except yaml.YAMLError as error:
        raise BadInput(f"{params}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict) or not isinstance(content.get(stage), dict):
        raise BadInput(f"{params}: section {stage} must be a mapping of parameters")
    resolve_device(content.get("device", "auto"))
    declared = declared_parameters(notebook)
    overrides = {name: _interpret(text, declared.get(name, {}).get("inferred_type_name")) for name, text in overrides.items()}
    shared = {name: content[name] for name in SHARED if name in content and name in declared}
    values = shared | content[stage] | overrides
    check_parameters(notebook, values)
    return values


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
def _progress_file(terminal: TextIO, path: Path) -> Iterator[None]:
    """Forwards to the terminal what the kernel's progress bars append to a file; its lock says that the run is alive."""
    done = threading.Event()
    with open(path, "w+", errors="replace", newline="") as lines:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(lines, fcntl.LOCK_SH)

        def forward() -> None:
            last = False
            while not last:
                last = done.wait(0.1)
                terminal.write(lines.read())
                terminal.flush()

        thread = threading.Thread(target=forward, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            path.unlink()


def sweep(reports: Path) -> None:
    """Removes what killed runs left in reports/.staging; runs that are alive or failed keep theirs."""
    for path in list((reports / ".staging").rglob(PROGRESS_FILE)):
        with suppress(OSError), open(path, "r+") as lines:
            fcntl.flock(lines, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _discard(path.parent)


def _discard(staged: Path) -> None:
    """Removes a staging folder, and those around it that are then empty."""
    shutil.rmtree(staged, ignore_errors=True)
    with suppress(OSError):
        os.removedirs(staged.parent)


def _require_writable(reports: Path, stage: str) -> None:
    """Refuses, before the long work, a folder of results that cannot be written.

    Raises:
        OSError: that names it.
    """
    targets = [reports / kind / stage for kind in ("tables", "figures", "notebooks", "environment")]
    folders = {path for target in targets for path in (target, *target.parents) if path.is_relative_to(reports)}
    for folder in sorted(folders):
        if folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK):
            code = errno.EROFS if os.statvfs(folder).f_flag & os.ST_RDONLY else errno.EACCES
            raise OSError(code, os.strerror(code), str(folder))


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
    """One Papermill run, from the notebook's own folder as in JupyterLab; raises ``FailedCell``, or ``OSError`` on a full disk."""
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
        for code in FULL:
            if os.strerror(code) in message:
                named = re.search(r": '(.+)'$", message)
                text = f"{os.strerror(code)} ({notebook}: cell [{error.exec_count}])"
                raise OSError(code, text, named[1] if named else str(target.parent)) from None
        raise FailedCell(f"{notebook}: cell [{error.exec_count}] failed: {message}\n  see {target}") from None
    except DeadKernelError:
        raise FailedCell(f"{notebook}: the kernel died (out of memory?)\n  see {target}") from None
    nbformat.write(normalise(nbformat.read(target, 4)), target)


def _install(staged: Path, stage: str, reports: Path) -> None:
    """Moves staged results into place, where nothing of an earlier run stays.

    All of it is renaming, which a full disk does not stop half way.
    """
    moves = {staged / kind: reports / kind / stage for kind in ("tables", "figures")}
    moves[staged / "executed.ipynb"] = reports / "notebooks" / f"{stage}.ipynb"
    moves[staged / "environment.json"] = reports / "environment" / f"{stage}.json"
    moves |= {path: reports / path.name for path in staged.iterdir() if path not in moves}
    made = {source: target for source, target in moves.items() if source.exists()}
    for target in made.values():
        target.parent.mkdir(parents=True, exist_ok=True)
    for target in moves.values():
        if target.is_dir():
            shutil.rmtree(target)
    for source, target in made.items():
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


def run(notebook: Path, stage: str, values: dict[str, Any], reports: Path, html: bool = False) -> None:
    """Executes a notebook with checked parameters and installs its results under ``reports``.

    Earlier results are untouched when it raises.

    Raises:
        FailedCell: when a cell raised.
        OSError: on a folder that cannot be written, before the notebook runs, or on a full disk.
    """
    start = time.monotonic()
    staged = reports / ".staging" / stage
    _require_writable(reports, stage)
    sweep(reports)
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    executed, shown = staged / "executed.ipynb", staged.resolve() / PROGRESS_FILE
    quiet = {} if sys.stderr.isatty() else {"TQDM_MININTERVAL": "15"}
    told = {RESULTS: str(staged.resolve()), PROGRESS: str(shown), "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    try:
        with _progress_file(sys.stderr, shown), _environment(**told, **quiet):
            _execute(notebook, executed, values)
        if html:
            from gmmdiff.publishing import render

            render(executed, staged / "index.html")
        content = environment() | {"seconds": round(time.monotonic() - start, 1)}
        (staged / "environment.json").write_text(json.dumps(content, indent=1) + "\n")
        _install(staged, stage, reports)
    except FailedCell:
        raise  # its notebook stays to be looked at
    except BaseException as error:
        _discard(staged)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror or str(error), error.filename or str(staged)) from None
        raise
    _discard(staged)


def _override(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise BadInput(f"-p {text}: must be name=value")
    return name, value


def exit_code(command: Callable[[], int | None]) -> int:
    """Runs a command: its own exit code, 0 for None; one line on standard error and 2 for bad input, 1 for what failed."""
    try:
        return command() or 0
    except (BadInput, FailedCell) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, BadInput) else 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}", file=sys.stderr)
        return 1


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
        run(options.notebook, options.stage, values, options.reports, options.html)

    return exit_code(command)


if __name__ == "__main__":
    raise SystemExit(main())
