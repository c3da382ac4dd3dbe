"""Runs one notebook as a pipeline stage: checked parameters in, byte-identical results out.

    python -m gmmdiff.pipeline.execution notebooks/01_theory_checks.ipynb theory_checks

executes the notebook with Papermill and the parameters of that section of params.yaml, and puts
what it made under reports/: notebooks/STAGE.ipynb, tables/STAGE/, figures/STAGE/.  Results are
collected aside, in reports/.staging/STAGE, and moved into place only when every cell has passed and
all is written.  Host, versions, start, run time, how long the progress bars ran and the memory it
took go to environment/STAGE.json, on which no output depends that is compared byte by byte.

A full disk or a folder that cannot be written is one line on standard error, and earlier results
stay.  A run that was killed leaves its staging folder, which the next run of any stage removes;
killed while it moved results into place, it was never recorded in dvc.lock, so `dvc repro` runs the
stage again, which replaces all of them.
"""

from __future__ import annotations

import argparse
import errno
import fcntl
import importlib.metadata
import json
import logging
import os
import platform
import re
import resource
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if (
    TYPE_CHECKING
):  # and imported where they are used: a kernel, which needs neither, starts seconds sooner
    import nbformat

from gmmdiff.pipeline.execution.errors import BadInput, FailedCell, exit_code
from gmmdiff.pipeline.execution.notebook import CLUSTER, PROGRESS, RESULTS, SPENT
from gmmdiff.pipeline.execution.parameters import (
    PARAMS,
    REPORTS,
    cluster_setting,
    resolve_device,
    stage_parameters,
)

PROGRESS_FILE = "progress"  # in the staging folder of a run that has not ended
FULL = (errno.ENOSPC, errno.EDQUOT)  # no space left on the disk, or of the user's share of it


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
    """Forwards to the terminal what the kernel's progress bars append to a file; its lock says that
    the run is alive.
    """
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
    """Removes what killed runs left in reports/.staging; those alive or failed keep theirs."""
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
    folders = {
        path
        for target in targets
        for path in (target, *target.parents)
        if path.is_relative_to(reports)
    }
    for folder in sorted(folders):
        if folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK):
            code = errno.EROFS if os.statvfs(folder).f_flag & os.ST_RDONLY else errno.EACCES
            raise OSError(code, os.strerror(code), str(folder))


def normalise(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Drops what differs between two identical executions: times, paths and the injected cell's
    random id.
    """
    notebook.metadata.pop("papermill", None)
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.id = "injected-parameters"
    return notebook


def _execute(notebook: Path, target: Path, values: dict[str, Any]) -> None:
    """One Papermill run, from the notebook's own folder as in JupyterLab; raises ``FailedCell``, or
    ``OSError`` on a full disk.
    """
    import nbformat
    import papermill
    from nbclient.exceptions import DeadKernelError

    logging.getLogger("papermill").setLevel(logging.ERROR)
    try:
        papermill.execute_notebook(
            str(notebook),
            str(target),
            parameters=values,
            kernel_name="python3",
            cwd=str(notebook.parent),
            progress_bar={"desc": notebook.stem, "disable": None},
            coalesce_streams=True,
            extra_arguments=[
                "--IPKernelApp.log_level=CRITICAL"
            ],  # or every kernel warns of its local ports
        )
    except papermill.PapermillExecutionError as error:
        last = re.sub(r"\x1b\[[0-9;]*m", "", str(error.evalue)).strip().splitlines()
        message = f"{error.ename}: {last[-1] if last else ''}"
        for code in FULL:
            if os.strerror(code) in message:
                named = re.search(r": '(.+)'$", message)
                text = f"{os.strerror(code)} ({notebook}: cell [{error.exec_count}])"
                raise OSError(code, text, named[1] if named else str(target.parent)) from None
        raise FailedCell(
            f"{notebook}: cell [{error.exec_count}] failed: {message}\n  see {target}"
        ) from None
    except DeadKernelError:
        raise FailedCell(f"{notebook}: the kernel died (out of memory?)\n  see {target}") from None
    nbformat.write(normalise(nbformat.read(target, 4)), target)


def require_reachable(cluster: str | None, params: Path) -> None:
    """Refuses the address of a scheduler that does not answer or has other workers than this
    code's, before anything runs.

    Raises:
        BadInput: one line that names the file and what is wrong.
    """
    if cluster in (None, "local"):
        return
    from gmmdiff.study.engine.parallel.cluster import Cluster

    try:
        Cluster(cluster).client.close()
    except ConnectionError as error:
        raise BadInput(f"{params}: cluster: {error}") from None


@contextmanager
def _workers(cluster: str | None, device: str) -> Iterator[str]:
    """The address of the scheduler, empty where there is none; workers of this machine live as long
    as the context.
    """
    if cluster != "local":
        yield cluster or ""
        return
    import torch

    from gmmdiff.study.engine.parallel.cluster import local

    gpus = torch.cuda.device_count() if resolve_device(device) == "cuda" else 0
    with ExitStack() as stack:
        with _environment():  # which starting workers changes, and the kernel must not see
            address = stack.enter_context(local(gpus))
        yield address


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
    """Host, device and versions: what byte-identity must not depend on.  Of torch also the build,
    which its metadata may not name.
    """
    import torch

    packages = ("numpy", "scipy", "pandas", "matplotlib", "POT", "papermill", "dvc")
    return {
        "host": platform.node(),
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "python": platform.python_version(),
        "packages": {
            "torch": torch.__version__,
            **{name: importlib.metadata.version(name) for name in packages},
        },
    }


def _take_spent(staged: Path) -> dict[str, float]:
    """Seconds of the kernel's progress bars by their first word; the file they were told in is gone
    afterwards.
    """
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


def run(
    notebook: Path, stage: str, values: dict[str, Any], reports: Path, cluster: str | None = None
) -> None:
    """Executes a notebook with checked parameters, on a ``cluster``, and installs its results under
    ``reports``.

    Earlier results are untouched when it raises.

    Raises:
        FailedCell: when a cell raised.
        OSError: on a folder that cannot be written, before the notebook runs, or on a full disk.
    """
    start, started = time.monotonic(), datetime.now(UTC).isoformat(timespec="milliseconds")
    staged = reports / ".staging" / stage
    _require_writable(reports, stage)
    sweep(reports)
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    executed, shown = staged / "executed.ipynb", staged.resolve() / PROGRESS_FILE
    quiet = {} if sys.stderr.isatty() else {"TQDM_MININTERVAL": "15"}
    told = {
        RESULTS: str(staged.resolve()),
        PROGRESS: str(shown),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    try:
        workers_at = _workers(cluster, values.get("device", "auto"))
        with (
            _progress_file(sys.stderr, shown),
            workers_at as address,
            _environment(**told, **quiet, **{CLUSTER: address}),
        ):
            _execute(notebook, executed, values)
        spent, seconds = _take_spent(staged), round(time.monotonic() - start, 1)
        content = environment() | {
            "started": started,
            "seconds": seconds,
            "spent": spent,
            "memory": _memory(),
        }
        (staged / "environment.json").write_text(json.dumps(content, indent=1) + "\n")
        _install(staged, stage, reports)
    except FailedCell:
        raise  # its notebook stays to be looked at
    except BaseException as error:
        _discard(staged)
        if isinstance(error, OSError):
            raise OSError(
                error.errno, error.strerror or str(error), error.filename or str(staged)
            ) from None
        raise
    _discard(staged)


def _override(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise BadInput(f"-p {text}: must be name=value")
    return name, value


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code (see ``checks.exit_code``)."""
    parser = argparse.ArgumentParser(
        prog="gmmdiff.pipeline.execution", description="Run one notebook as a stage."
    )
    parser.add_argument("notebook", type=Path)
    parser.add_argument(
        "stage", help="name of the results, e.g. theory_checks or feature_vs_class_runs/500"
    )
    parser.add_argument("--section", help="of params.yaml, if it is not called like the stage")
    parser.add_argument(
        "-p", action="append", default=[], metavar="NAME=VALUE", help="override one parameter"
    )
    parser.add_argument("--params", type=Path, default=PARAMS)
    parser.add_argument("--reports", type=Path, default=REPORTS)
    options = parser.parse_args(arguments)

    def command() -> None:
        overrides = dict(_override(text) for text in options.p)
        values = stage_parameters(
            options.params, options.section or options.stage, options.notebook, overrides
        )
        cluster = cluster_setting(options.params)
        require_reachable(cluster, options.params)
        run(options.notebook, options.stage, values, options.reports, cluster)

    return exit_code(command)
