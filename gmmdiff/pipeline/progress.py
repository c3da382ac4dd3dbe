"""One line of overall progress while `dvc repro` runs, beside the bars of the stage.

On a terminal it keeps the last row, which the rest then does not scroll over (a scroll region, as
apt draws its own); to a file or a pipe it is a line a stage.  All of it goes to standard error.
"""

from __future__ import annotations

import math
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from gmmdiff.pipeline.snapshot import PUBLISHED, run_records

if TYPE_CHECKING:
    from dvc.stage import Stage


class Overall:
    """How far a run of several stages is.

    Time left is what the stages not yet done took when they were recorded, at the pace of those
    that ran here; a stage without a change takes no time and tells nothing of the pace.

    Args:
        recorded: seconds by the stage's name, in the order of running; 0 where none are recorded.
        now: the clock, seconds.
    """

    def __init__(
        self, recorded: Mapping[str, float], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._waiting, self._of, self._now = dict(recorded), len(recorded), now
        self._name, self._expected, self._since = "", 0.0, now()
        self._ran = self._ran_recorded = 0.0

    def begin(self, name: str) -> None:
        """A stage begins."""
        self._name, self._expected, self._since = name, self._waiting.pop(name), self._now()

    def end(self, ran: bool) -> None:
        """It ended; whether it had something to do."""
        if ran:
            self._ran += self._now() - self._since
            self._ran_recorded += self._expected
        self._name, self._expected = "", 0.0

    def __str__(self) -> str:
        """Such as "3 of 36 stages done, about 81 min left; now faces_judged@1000"."""
        told = f"{self._of - len(self._waiting) - bool(self._name)} of {self._of} stages done"
        pace = self._ran / self._ran_recorded if self._ran_recorded else 1.0
        this = max(0.0, pace * self._expected - (self._now() - self._since))
        if left := this + pace * sum(self._waiting.values()):
            told += f", about {math.ceil(left / 60)} min left"
        return f"{told}; now {self._name}" if self._name else told


@contextmanager
def last_row(line: Any, terminal: TextIO, every: float = 1.0) -> Iterator[None]:
    """Shows ``str(line)`` on the terminal's last row, and scrolls the rest above it.

    Args:
        every: seconds between two drawings.
    """
    done = threading.Event()

    def send(text: str) -> None:
        terminal.write(text)
        terminal.flush()

    def draw() -> None:
        waiting = True
        while waiting:
            columns, rows = os.get_terminal_size(terminal.fileno())  # it may have changed
            text = str(line)[: columns - 1]
            send(f"\x1b7\x1b[1;{rows - 1}r\x1b[{rows};1H\x1b[2K{text}\x1b8")
            waiting = not done.wait(every)

    send("\n\x1b[A")  # off the last row
    thread = threading.Thread(target=draw, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        rows = os.get_terminal_size(terminal.fileno()).lines
        send(f"\x1b7\x1b[r\x1b[{rows};1H\x1b[2K\x1b8")


def recorded_seconds(stages: Sequence[Stage], environment: Path) -> dict[str, float]:
    """What the stages took by the records of an environment folder: seconds by DVC's name of the
    stage, 0 for one without a record.
    """
    records, found = run_records(environment), {}
    for stage in stages:
        notebooks = [
            re.fullmatch(r"reports/notebooks/(.+)\.ipynb", out.def_path) for out in stage.outs
        ]
        names = [notebook[1] for notebook in notebooks if notebook] or [stage.name]
        found[stage.addressing] = sum(records[n]["seconds"] for n in names if n in records)
    return found


def told(reproduce: Callable[..., Any], one: Callable[..., Any]) -> Callable[..., Any]:
    """DVC's function that reproduces stages in their order, made to show how far it is.

    Args:
        one: DVC's function that reproduces one of them and returns None when nothing had changed.
    """

    def shown(stages: Sequence[Stage], **options: Any) -> Any:
        overall, terminal = Overall(recorded_seconds(stages, PUBLISHED / "environment")), sys.stderr
        row = terminal.isatty() and os.environ.get("TERM", "dumb") != "dumb"

        def told_one(stage: Stage, **given: Any) -> Any:
            overall.begin(stage.addressing)
            if not row:
                print(overall, file=terminal, flush=True)
            result = one(stage, **given)
            overall.end(result is not None)
            return result

        if not row:
            return reproduce(stages, repro_fn=told_one, **options)
        with last_row(overall, terminal):
            return reproduce(stages, repro_fn=told_one, **options)

    return shown
