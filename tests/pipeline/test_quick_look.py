"""The quick look: every experiment in small, the notebooks that judge it, a page that says what it
is.
"""

import json
import re

import pytest

from gmmdiff.judging import register
from gmmdiff.pipeline.check_parameters import BUILDERS
from gmmdiff.pipeline.quick_look import run_all
from tests.paths import PUBLISHED, ROOT
from tests.pipeline.small_stages import contents, no_cell_warns, run

TRAINING = {f"{section}_runs" for section in BUILDERS}


def test_every_part_trains_and_every_notebook_of_a_claim_runs_without_a_warning(quick_look):
    reports, printed = quick_look
    stages = {path.relative_to(reports / "notebooks") for path in reports.rglob("*.ipynb")}
    judged = {claim.stage for claim in register.REGISTER} | {"start_here", "report"}
    assert {stage.stem for stage in stages if len(stage.parts) == 1} == judged
    assert {stage.parts[0] for stage in stages if len(stage.parts) == 2} == TRAINING
    assert len(re.findall(r"^\d+ of \d+: \S+, \d+ s$", printed, re.M)) == len(stages) - 1
    assert not [stage for stage in stages if not no_cell_warns(reports / "notebooks" / stage)]
    for stage in stages:
        record = (reports / "environment" / stage).with_suffix(".json")
        assert json.loads(record.read_text())["seconds"] > 0


def test_it_makes_the_tables_and_figures_that_are_published(quick_look):
    for stage in ("theory_checks", "feature_vs_class", "ngmg_stability"):
        for kind in ("tables", "figures"):
            folders = (reports / kind / stage for reports in (quick_look[0], PUBLISHED))
            here, there = ({path.name for path in folder.iterdir()} for folder in folders)
            assert here == there


def test_few_seeds_decide_nothing(quick_look):
    claims = json.loads((quick_look[0] / "claims.json").read_text())
    assert {claim["verdict"] for claim in claims if claim["id"][0] in "FN"} == {"inconclusive"}


def test_the_theory_notebook_again_gives_the_same_bytes(quick_look, tmp_path):
    """Whatever folder it runs to, and whatever runs beside it."""
    book = ROOT / "notebooks" / "01_theory_checks.ipynb"
    assert run(tmp_path, book, {"theory_checks": {}}, "theory_checks") == 0
    again, first = contents(tmp_path / "reports"), contents(quick_look[0])
    assert len(again) > 20 and [path for path in again if again[path] != first[path]] == []


def test_a_stage_that_fails_ends_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.ipynb"):
        run_all([(str(tmp_path / "none.ipynb"), "stage", {})], tmp_path / "reports")


def test_its_page_says_what_it_is_and_how_the_real_one_is_made(quick_look):
    page = (quick_look[0] / "index.html").read_text(encoding="utf-8")
    notice = re.search(r'<p class="notice" role="note">(.*?)</p>', page)[1]
    assert notice.startswith("Quick look, no verdicts") and "make reproduce" in notice
    assert 'class="notice"' not in (PUBLISHED / "index.html").read_text(encoding="utf-8")
