"""The quick look: what a notebook runs with when nobody gives it other parameters.

    python -m gmmdiff.pipeline.quick_look

runs the notebooks so, each as a stage, and puts their results and the report's page under
reports/quick_look.  No verdict is drawn from it: seeds are too few, networks too small.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import redirect_stderr
from pathlib import Path

from gmmdiff.pipeline.execution.errors import exit_code
from gmmdiff.pipeline.execution.parameters import NOTEBOOKS, REPORTS

FOLDER = REPORTS / "quick_look"
STAGES = {  # what the report rests on, the longest first
    "feature_vs_class": NOTEBOOKS / "02_feature_vs_class.ipynb",
    "ngmg_stability": NOTEBOOKS / "03_ngmg_stability.ipynb",
    "theory_checks": NOTEBOOKS / "01_theory_checks.ipynb",
    "start_here": NOTEBOOKS / "00_start_here.ipynb",
}
SIDE_BY_SIDE = 2  # notebooks: while one trains, another draws
NOTICE = (
    "Quick look, no verdicts: small networks and a few seeds. What stands below as a verdict is "
    "none; <code>make reproduce</code> makes the real report."
)


def _run(notebook: Path, stage: str, reports: Path) -> float:
    """One notebook as a stage, without bars; its seconds."""
    from gmmdiff.pipeline.execution.runner import run

    began = time.monotonic()
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stderr(nowhere):
        run(notebook, stage, {}, reports)
    return time.monotonic() - began


def run_stages(stages: Mapping[str, Path], reports: Path) -> None:
    """Runs notebooks with their own parameters, side by side; a line each, as it ends.

    Args:
        stages: notebooks by the name of their results.

    Raises:
        FailedCell, OSError: as the first that fails does; what runs beside it ends first.
    """
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from multiprocessing import get_context

    from gmmdiff.pipeline.execution import kernel

    threads = max(1, (os.cpu_count() or 1) // SIDE_BY_SIDE)
    with (
        kernel.environment(OMP_NUM_THREADS=str(threads)),
        ProcessPoolExecutor(SIDE_BY_SIDE, get_context("spawn")) as pool,
    ):
        begun = {pool.submit(_run, book, name, reports): name for name, book in stages.items()}
        try:
            for number, done in enumerate(as_completed(begun), 1):
                print(f"{number} of {len(begun)}: {begun[done]}, {done.result():.0f} s", flush=True)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def write_report(reports: Path) -> Path:
    """The report on the results in a folder, told on its page to be a quick look; the page."""
    from gmmdiff.pipeline import pages
    from gmmdiff.pipeline.execution import runner
    from gmmdiff.pipeline.execution.staging import write_whole

    source = os.path.relpath(reports, NOTEBOOKS)
    runner.run(NOTEBOOKS / "04_report.ipynb", "report", {"source": source}, reports)
    write_whole(page := reports / "index.html", pages.report_page(reports, NOTICE))
    return page


def main() -> int:
    """The command line; returns the exit code (see ``errors.exit_code``)."""

    def command() -> None:
        print(f"{len(STAGES)} notebooks at quick-look size, {SIDE_BY_SIDE} at a time", flush=True)
        run_stages(STAGES, FOLDER)
        page = write_report(FOLDER)
        print(f"{page}: a quick look, no verdicts; `make reproduce` makes the real report")

    return exit_code(command)


if __name__ == "__main__":
    raise SystemExit(main())
