"""Runs one notebook as a pipeline stage: checked parameters in, byte-identical results out.

Results are collected in reports/.staging/STAGE and moved to where they belong when every cell has
passed, so that a run which fails leaves earlier results as they were.
"""

from __future__ import annotations

import argparse
import base64
import errno
import importlib.metadata
import io
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
from typing import Any

import nbformat

from gmmdiff.pipeline import kernel
from gmmdiff.pipeline.errors import BadInput, FailedCell
from gmmdiff.pipeline.parameters import PARAMS, REPORTS, cluster_setting, stage_parameters
from gmmdiff.pipeline.results import CLUSTER, PROGRESS, RESULTS

SHOWN = kernel.ROOT / REPORTS / "published" / "notebooks"  # where executed notebooks are read
PACKAGES = ("numpy", "scipy", "pandas", "matplotlib", "POT", "papermill", "dvc")
COLOURS = 128  # of a picture that is kept


def few_colours(png: bytes) -> bytes:
    """A PNG with its texts in so few colours that it takes a third of the bytes.

    Colours are chosen to cover what is there, however little of it: by the most frequent ones, a
    label would take the colour of a line.
    """
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    image, texts, smaller = Image.open(io.BytesIO(png)), PngInfo(), io.BytesIO()
    for name, text in image.text.items():
        texts.add_text(name, text)
    cover = {"method": Image.Quantize.MAXCOVERAGE, "dither": Image.Dither.NONE}
    few = image.convert("RGB").quantize(COLOURS, **cover)
    few.save(smaller, "PNG", optimize=True, pnginfo=texts)
    return smaller.getvalue()


def normalise(notebook: nbformat.NotebookNode, start: Path, end: Path) -> nbformat.NotebookNode:
    """Drops what differs between two equal executions: times, paths, the injected cell's id, and
    where in memory what is shown lies.

    Pictures are kept in few colours; relative links, which start at one folder, start at another.
    """

    def moved(link: re.Match) -> str:
        return Path(os.path.relpath(start / link[0], end)).as_posix()

    notebook.metadata.pop("papermill", None)
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.id = "injected-parameters"
        if cell.cell_type == "markdown":
            cell.source = re.sub(r"(?<=\]\()(?![a-z]+:|#)[^)\s]+", moved, cell.source)
        for data in (output.get("data", {}) for output in cell.get("outputs", [])):
            if png := data.get("image/png"):
                data["image/png"] = base64.b64encode(few_colours(base64.b64decode(png))).decode()
            if text := data.get("text/plain"):
                data["text/plain"] = re.sub(r" at 0x[0-9a-f]+(?=>)", "", text)
    return notebook


def _execute(notebook: Path, target: Path, values: dict[str, Any], shown: Path) -> None:
    """One Papermill run, from the notebook's own folder as in JupyterLab; links of the executed
    notebook start at the folder ``shown``.
    """
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
        lines = re.sub(r"\x1b\[[0-9;]*m", "", str(error.evalue)).strip().splitlines()
        why = f"cell [{error.exec_count}] failed: {error.ename}: {lines[-1] if lines else ''}"
        raise FailedCell(f"{notebook}: {why}; see {target}") from None
    except RuntimeError as error:  # nbclient's, of which DeadKernelError is one
        reply = " ".join(str(error).split()) or "no reply"
        why = f"the kernel died or did not start (out of memory?): {reply}"
        raise FailedCell(f"{notebook}: {why}; see {target}") from None
    executed = normalise(nbformat.read(target, 4), notebook.resolve().parent, shown)
    nbformat.write(executed, target)


@contextmanager
def _bars_on_the_terminal(path: Path) -> Iterator[None]:
    """Forwards to standard error what the kernel's progress bars append to a file."""
    done = threading.Event()
    with open(path, "w+", encoding="utf-8", errors="replace", newline="") as lines:

        def forward() -> None:
            last = False
            while not last:
                last = done.wait(0.1)
                sys.stderr.write(lines.read())
                sys.stderr.flush()

        thread = threading.Thread(target=forward, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            path.unlink()


@contextmanager
def _workers(cluster: str | None, device: str) -> Iterator[str]:
    """The scheduler's address, empty without one; this machine's workers live as the context."""
    if cluster is None:
        yield ""
        return
    from gmmdiff.pipeline.cluster import Cluster, local

    with ExitStack() as stack:
        if cluster == "local":
            with kernel.environment(PYTHONPATH=str(kernel.ROOT)):  # and what starting them changes
                cluster = stack.enter_context(local(device))
        try:
            Cluster(cluster).client.close()
        except ConnectionError as error:
            raise BadInput(f"cluster: {error}") from None
        yield cluster


@contextmanager
def recorded(file: Path, whose: int = resource.RUSAGE_SELF) -> Iterator[None]:
    """Writes on what the lines inside ran, how long and in how many MiB, unless they raise: what
    byte-identity must not depend on.

    Args:
        whose: memory counts, this process's or that of the largest of its finished children.
    """
    start, started = time.monotonic(), datetime.now(UTC).isoformat(timespec="milliseconds")
    yield
    import torch  # whose metadata may not name the build

    unit = 2**20 if sys.platform == "darwin" else 2**10  # macOS counts bytes, Linux KiB
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    record = {
        "host": platform.node(),
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "python": platform.python_version(),
        "packages": {"torch": torch.__version__, **versions},
        "started": started,
        "seconds": round(time.monotonic() - start, 1),
        "memory": resource.getrusage(whose).ru_maxrss // unit,
    }
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _require_writable(reports: Path, stage: str) -> None:
    """Refuses, before the long work, a folder of results that cannot be written."""
    for kind in ("tables", "figures", "notebooks", "environment"):
        target = reports / kind / stage
        for folder in (path for path in (target, *target.parents) if path.is_relative_to(reports)):
            if folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, "this folder cannot be written", str(folder))


def install(staged: Path, stage: str, reports: Path) -> None:
    """Moves staged results to where they belong, where nothing of an earlier run stays.

    Killed half way it is repaired by the next run, since DVC has not recorded this one.  No file is
    written into: what a cache links to stays as it is.
    """
    moves = {staged / kind: reports / kind / stage for kind in ("tables", "figures")}
    moves[staged / "executed.ipynb"] = reports / "notebooks" / f"{stage}.ipynb"
    moves[staged / "environment.json"] = reports / "environment" / f"{stage}.json"
    moves |= {path: reports / path.name for path in staged.iterdir() if path not in moves}
    for source, target in moves.items():
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)
        if source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(source, target)


def run(
    notebook: Path, stage: str, values: dict[str, Any], reports: Path, cluster: str | None = None
) -> None:
    """Executes a notebook with checked parameters and installs its results under ``reports``;
    earlier ones are untouched when it raises.

    Raises:
        BadInput: on a notebook of another tree than the code's, or a scheduler that does not answer
            or has workers of other code.
        FailedCell: when a cell raised, or the kernel died or did not start; its notebook stays in
            ``.staging``.
        OSError: on a folder that cannot be written, before the notebook runs, or on a full disk.
    """
    kernel.require_own_tree(notebook)
    _require_writable(reports, stage)
    staged = reports / ".staging" / stage
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    bars = staged.resolve() / "progress"
    variables = {RESULTS: str(staged.resolve()), PROGRESS: str(bars)}
    if not sys.stderr.isatty():
        variables["TQDM_MININTERVAL"] = "15"
    try:
        with recorded(staged / "environment.json", resource.RUSAGE_CHILDREN):
            with (
                _bars_on_the_terminal(bars),
                _workers(cluster, values.get("device", "auto")) as address,
                kernel.surroundings(**variables, **{CLUSTER: address}),
            ):
                _execute(notebook, staged / "executed.ipynb", values, (SHOWN / stage).parent)
            for figure in (staged / "figures").glob("*.png"):
                figure.write_bytes(few_colours(figure.read_bytes()))
        install(staged, stage, reports)
    finally:
        if not isinstance(sys.exception(), FailedCell):  # whose notebook shows what failed
            shutil.rmtree(staged, ignore_errors=True)
            with suppress(OSError):  # folders around it that others use
                os.removedirs(staged.parent)


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="gmmdiff.pipeline.run", description=__doc__.split(":")[0])
    parser.add_argument("notebook", type=Path)
    parser.add_argument("stage", help="name of the results, e.g. theory_checks or faces_runs/map_4")
    parser.add_argument(
        "--section", help="of params.yaml, if not called like the stage; '' is none"
    )
    parser.add_argument("-p", action="append", default=[], metavar="NAME=VALUE", help="an override")
    parser.add_argument("--params", type=Path, default=PARAMS)
    parser.add_argument("--reports", type=Path, default=REPORTS)
    options = parser.parse_args(arguments)
    section = options.stage if options.section is None else options.section
    if bare := [text for text in options.p if "=" not in text]:
        raise BadInput(f"-p must be NAME=VALUE, got {bare[0]!r}")
    overrides = dict(text.split("=", 1) for text in options.p)
    values = stage_parameters(options.params, section, options.notebook, overrides)
    cluster = cluster_setting(options.params)
    run(options.notebook, options.stage, values, options.reports, cluster)
