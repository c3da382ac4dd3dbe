"""Overall progress: the numbers it tells, its row on a terminal, and its lines elsewhere."""

import contextlib
import io
import pty
import select
import termios
import time

import pytest
from dvc.repo import Repo

from gmmdiff.pipeline import progress
from gmmdiff.pipeline.snapshot import run_records
from tests.paths import PUBLISHED, ROOT


class Stage:
    """As much of a stage of DVC's as is looked at."""

    def __init__(self, addressing):
        self.addressing = self.name = addressing
        self.outs = []


def test_time_left_is_recorded_time_at_the_pace_of_what_ran():
    clock = [0.0]
    overall = progress.Overall({"a": 60.0, "b": 600.0, "c": 120.0, "d": 0.0}, lambda: clock[0])
    assert str(overall) == "0 of 4 stages done, about 13 min left"
    overall.begin("a")
    clock[0] = 30.0
    assert str(overall) == "0 of 4 stages done, about 13 min left; now a"  # 30 + 600 + 120
    clock[0] = 120.0  # later than recorded, and half as fast
    overall.end(ran=True)
    assert str(overall) == "1 of 4 stages done, about 24 min left"
    overall.begin("b")
    overall.end(ran=False)  # nothing had changed
    assert str(overall) == "2 of 4 stages done, about 4 min left"
    overall.begin("c")
    clock[0] = 1000.0
    assert str(overall) == "2 of 4 stages done; now c"


def test_every_record_belongs_to_one_stage_of_the_pipeline():
    """Together they took what the records say, each told once."""
    with Repo(str(ROOT)) as repo:
        found = progress.recorded_seconds(list(repo.index.stages), PUBLISHED / "environment")
    records = run_records(PUBLISHED / "environment")
    assert sum(found.values()) == pytest.approx(sum(r["seconds"] for r in records.values()))
    untimed = {name for name, seconds in found.items() if not seconds}
    longer = "notebooks/longer/dvc.yaml:in_your_own_model"  # not made anew since measures changed
    assert untimed == {"parameters", "ask_for_a_face", "pages", longer}


def reproduce(stages, repro_fn):
    """As DVC does it: one after another, None from those that had nothing to do."""
    return [repro_fn(stage, upstream=[]) for stage in stages]


def one(stage, upstream):
    time.sleep(0.05)
    return stage if stage.addressing == "a" else None


STAGES = [Stage("a"), Stage("b")]


def test_a_pipe_gets_a_line_a_stage(monkeypatch):
    monkeypatch.setattr(progress.sys, "stderr", terminal := io.StringIO())
    assert progress.told(reproduce, one)(STAGES) == [STAGES[0], None]
    assert terminal.getvalue() == "0 of 2 stages done; now a\n1 of 2 stages done; now b\n"


ROW, GIVEN_BACK = "\x1b7\x1b[1;9r\x1b[10;1H\x1b[2K", "\x1b7\x1b[r\x1b[10;1H\x1b[2K\x1b8"


@pytest.fixture
def on_a_terminal(monkeypatch):
    """Runs the stages with standard error on a terminal of ten rows, sixteen columns; what has come
    out there.
    """

    def run(one):
        ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (10, 16))
        monkeypatch.setenv("TERM", "xterm")
        with open(theirs, "w") as stderr, open(ours, "rb", 0) as shown:
            monkeypatch.setattr(progress.sys, "stderr", stderr)
            with contextlib.suppress(RuntimeError):
                progress.told(reproduce, one)(STAGES)
            told = b""
            while select.select([shown], [], [], 0.5)[0]:  # it may come in pieces
                told += shown.read(4000)
            return told.decode()

    return run


def test_a_terminal_shows_it_on_its_last_row(on_a_terminal):
    shown = on_a_terminal(one)
    assert shown.startswith(f"\r\n\x1b[A{ROW}0 of 2 stages d\x1b8") and shown.count("\n") == 1
    assert shown.endswith(GIVEN_BACK)


def test_a_failure_gives_the_last_row_back(on_a_terminal):
    def failing(stage, upstream):
        raise RuntimeError

    assert on_a_terminal(failing).endswith(GIVEN_BACK)
