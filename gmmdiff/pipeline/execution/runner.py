"""Runs one notebook as a pipeline stage: checked parameters in, byte-identical results out.

    python -m gmmdiff.pipeline.execution notebooks/01_theory_checks.ipynb theory_checks

executes the notebook with Papermill and the parameters of that section of params.yaml, and puts
what it made under reports/: notebooks/STAGE.ipynb, tables/STAGE/, figures/STAGE/.  Results are
collected aside, in reports/.staging/STAGE, and moved into place only when every cell has passed and
all is written.  Host, versions, start, run time, how long the progress bars ran and the memory it
took go to environment/STAGE.json, on which no output depends that is compared byte by byte.

A full disk, a folder that cannot be written or a kernel that dies is one line on standard error,
and earlier results stay.
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

from gmmdiff.pipeline.execution import kernel
from gmmdiff.pipeline.execution.errors import BadInput, FailedCell, exit_code
from gmmdiff.pipeline.execution.parameters import PARAMS, REPORTS, cluster_setting, stage_parameters
from gmmdiff.pipeline.execution.staging import (
    PROGRESS_FILE,
    discard,
    install,
    require_writable,
    sweep,
)
from gmmdiff.pipeline.results import CLUSTER, PROGRESS, RESULTS

if TYPE_CHECKING:  # and imported where it is used: a kernel starts seconds sooner
    import nbformat


SHOWN = kernel.ROOT / REPORTS / "published" / "notebooks"  # where executed notebooks are read
FULL = (errno.ENOSPC, errno.EDQUOT)  # no space left on the disk, or of the user's share of it


@contextmanager
def _progress_file(terminal: TextIO, path: Path) -> Iterator[None]:
    """Forwards what the kernel's bars append to a file; its lock says that the run is alive."""
    done = threading.Event()
    with open(path, "w+", encoding="utf-8", errors="replace", newline="") as lines:
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


def normalise(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Drops what differs between two equal executions: times, paths, the injected cell's id."""
    notebook.metadata.pop("papermill", None)
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.id = "injected-parameters"
    return notebook


def move_links(notebook: nbformat.NotebookNode, start: Path, end: Path) -> nbformat.NotebookNode:
    """Relative links of the Markdown cells, written in one folder, made to start at another."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = re.sub(
                r"(?<=\]\()(?![a-z]+:|#)[^)\s]+",
                lambda link: Path(os.path.relpath(start / link[0], end)).as_posix(),
                cell.source,
            )
    return notebook


def _execute(notebook: Path, target: Path, values: dict[str, Any], shown: Path) -> None:
    """One Papermill run, from the notebook's own folder as in JupyterLab.

    Args:
        shown: the folder at which the executed notebook's links start.

    Raises:
        FailedCell: when a cell raised, or the kernel died or did not start.
        OSError: on a full disk.
    """
    import nbformat
    import papermill

    logging.getLogger("papermill").setLevel(logging.ERROR)
    try:
        papermill.execute_notebook(
            *(str(path).replace("{", "{{").replace("}", "}}") for path in (notebook, target)),
            parameters=values,
            kernel_name=kernel.NAME,
            cwd=str(notebook.parent),
            progress_bar={"desc": notebook.stem, "disable": None},
            coalesce_streams=True,
            start_timeout=kernel.PATIENCE,
        )
    except papermill.PapermillExecutionError as error:
        raise _failed(error, notebook, target) from None
    except RuntimeError as error:  # nbclient's, of which DeadKernelError is one
        told = " ".join(str(error).split()) or "no reply"
        why = f"the kernel died or did not start (out of memory?): {told}"
        raise FailedCell(f"{notebook}: {why}; see {target}") from None
    executed = normalise(nbformat.read(target, 4))
    nbformat.write(move_links(executed, notebook.resolve().parent, shown), target)


def _failed(error: Any, notebook: Path, target: Path) -> Exception:
    """What a cell raised, in one line: a full disk as the system has it."""
    last = re.sub(r"\x1b\[[0-9;]*m", "", str(error.evalue)).strip().splitlines()
    message = f"{error.ename}: {last[-1] if last else ''}"
    for code in FULL:
        if os.strerror(code) in message:
            named = re.search(r": '(.+)'$", message)
            text = f"{os.strerror(code)} ({notebook}: cell [{error.exec_count}])"
            return OSError(code, text, named[1] if named else str(target.parent))
    return FailedCell(f"{notebook}: cell [{error.exec_count}] failed: {message}\n  see {target}")


def require_reachable(cluster: str | None, params: Path) -> None:
    """Refuses a scheduler that does not answer or has workers of other code, before anything runs.

    Raises:
        BadInput: one line that names the file and what is wrong.
    """
    if cluster in (None, "local"):
        return
    from gmmdiff.pipeline.cluster import Cluster

    try:
        Cluster(cluster).client.close()
    except ConnectionError as error:
        raise BadInput(f"{params}: cluster: {error}") from None


@contextmanager
def _workers(cluster: str | None, device: str) -> Iterator[str]:
    """The scheduler's address, empty without one; this machine's workers live as the context."""
    if cluster != "local":
        yield cluster or ""
        return
    import torch

    from gmmdiff.engine.training import resolve_device
    from gmmdiff.pipeline.cluster import local

    gpus = torch.cuda.device_count() if resolve_device(device) == "cuda" else 0
    with ExitStack() as stack:
        with kernel.environment(PYTHONPATH=str(kernel.ROOT)):  # and what starting them changes
            address = stack.enter_context(local(gpus))
        yield address


def environment() -> dict[str, Any]:
    """Host, device and versions: what byte-identity must not depend on.

    Of torch also the build, which its metadata may not name.
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


def _memory() -> int:
    """MiB that the largest of the finished kernels took."""
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return peak // (2**20 if sys.platform == "darwin" else 2**10)  # macOS counts bytes, Linux KiB


def run(
    notebook: Path, stage: str, values: dict[str, Any], reports: Path, cluster: str | None = None
) -> None:
    """Executes a notebook with checked parameters and installs its results under ``reports``.

    Earlier results are untouched when it raises.

    Raises:
        BadInput: on a notebook of another tree than the code's.
        FailedCell: when a cell raised, or the kernel died.
        OSError: on a folder that cannot be written, before the notebook runs, or on a full disk.
    """
    kernel.require_own_tree(notebook)
    start, started = time.monotonic(), datetime.now(UTC).isoformat(timespec="milliseconds")
    staged = reports / ".staging" / stage
    require_writable(reports, stage)
    sweep(reports)
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    try:
        with _watched(staged, cluster, values.get("device", "auto")):
            _execute(notebook, staged / "executed.ipynb", values, (SHOWN / stage).parent)
        seconds = round(time.monotonic() - start, 1)
        told = {"started": started, "seconds": seconds, "memory": _memory()}
        record = json.dumps(environment() | told, indent=1) + "\n"
        (staged / "environment.json").write_text(record, encoding="utf-8")
        install(staged, stage, reports)
    except FailedCell:
        raise  # its notebook stays to be looked at
    except BaseException as error:
        discard(staged)
        if isinstance(error, OSError):
            told = error.strerror or str(error), error.filename or str(staged)
            raise OSError(error.errno, *told) from None
        raise
    discard(staged)


@contextmanager
def _watched(staged: Path, cluster: str | None, device: str) -> Iterator[None]:
    """The kernel's surroundings, its bars on the terminal, and its workers, if it has any."""
    shown = staged.resolve() / PROGRESS_FILE
    told = {RESULTS: str(staged.resolve()), PROGRESS: str(shown)}
    quiet = {} if sys.stderr.isatty() else {"TQDM_MININTERVAL": "15"}
    with (
        _progress_file(sys.stderr, shown),
        _workers(cluster, device) as address,
        kernel.surroundings(**told, **quiet, **{CLUSTER: address}),
    ):
        yield


def _override(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise BadInput(f"-p {text}: must be name=value")
    return name, value


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code (see ``errors.exit_code``)."""
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
