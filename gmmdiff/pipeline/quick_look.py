"""The quick look: every notebook with its own parameters, run as a stage into a folder, and the
report's page.  No verdict is drawn from it: seeds are too few, networks too small.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import redirect_stderr
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from gmmdiff.pipeline import kernel, pages
from gmmdiff.pipeline.check_parameters import BUILDERS, SECTIONS, parts
from gmmdiff.pipeline.errors import exit_code
from gmmdiff.pipeline.parameters import NOTEBOOKS, REPORTS, defaults
from gmmdiff.pipeline.runner import run

Job = tuple[str, str, dict[str, Any]]  # a notebook, its stage, parameters
FOLDER = REPORTS / "quick_look"
SIDE_BY_SIDE = 2  # notebooks: while one works on all cores, another starts or draws
NOTICE = (
    "Quick look, no verdicts: small networks and a few seeds. What stands below as a verdict is "
    "none; <code>make reproduce</code> makes the real report."
)


def training() -> Iterator[Job]:
    """Every part of every experiment."""
    for section in BUILDERS:
        for part in parts(section, defaults(NOTEBOOKS / SECTIONS[section])):
            yield SECTIONS[section], f"{section}_runs/{part}", {"part": part}


def others(tables: str) -> Iterator[Job]:
    """What judges those tables, and beside it what reads none; the longest first."""
    yield "02_feature_vs_class.ipynb", "feature_vs_class", {"tables": tables}
    yield "01_theory_checks.ipynb", "theory_checks", {}
    yield "00_start_here.ipynb", "start_here", {}
    yield "03_ngmg_stability.ipynb", "ngmg_stability", {"tables": tables}


def _run(job: Job, reports: Path) -> str:
    """One notebook as a stage, without bars; what ran, and its seconds."""
    (name, stage, values), start = job, time.monotonic()
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stderr(nowhere):
        run(NOTEBOOKS / name, stage, values, reports)
    return f"{stage}, {time.monotonic() - start:.0f} s"


def run_all(jobs: Iterable[Job], reports: Path) -> None:
    """Runs notebooks side by side; a line each, as it ends.

    Raises:
        FailedCell, OSError: as the first that fails does; what runs beside it ends first.
    """
    threads = max(1, (os.cpu_count() or 1) // SIDE_BY_SIDE)
    with (
        kernel.environment(OMP_NUM_THREADS=str(threads)),
        ProcessPoolExecutor(SIDE_BY_SIDE, get_context("spawn")) as pool,
    ):
        begun = [pool.submit(_run, job, reports) for job in jobs]
        try:
            for number, done in enumerate(as_completed(begun), 1):
                print(f"{number} of {len(begun)}: {done.result()}", flush=True)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def main(reports: Path = FOLDER) -> None:
    """Runs what trains, what reads its tables, and the report on all of it."""
    shutil.rmtree(reports, ignore_errors=True)
    print(f"every experiment in small, {SIDE_BY_SIDE} notebooks at a time", flush=True)
    run_all(training(), reports)
    source = os.path.relpath(reports, NOTEBOOKS)
    run_all(others(os.path.join(source, "tables")), reports)
    run(NOTEBOOKS / "04_report.ipynb", "report", {"source": source}, reports)
    page = reports / "index.html"
    page.write_text(pages.report_page(reports, NOTICE), encoding="utf-8")
    print(f"{page}: a quick look, no verdicts; `make reproduce` makes the real report")


if __name__ == "__main__":
    raise SystemExit(exit_code(main, *map(Path, sys.argv[1:])))
