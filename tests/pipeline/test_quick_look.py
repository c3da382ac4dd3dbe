"""The quick look of all notebooks: side by side, to a page that says what it is."""

import re
import shutil

import pytest

from gmmdiff.judging import register
from gmmdiff.pipeline import quick_look
from gmmdiff.pipeline.execution import runner
from gmmdiff.pipeline.execution.errors import FailedCell
from tests.paths import PUBLISHED, ROOT
from tests.pipeline.test_execution import notebook

PARAMETERS = "n: int = 1  # a number"


def test_notebooks_side_by_side_and_one_that_fails(tmp_path, capfd):
    good = notebook(tmp_path / "good.ipynb", PARAMETERS, "assert n == 1")
    bad = notebook(tmp_path / "bad.ipynb", PARAMETERS, "assert n == 2, 'n is not 2'")
    reports = tmp_path / "reports"
    with pytest.raises(FailedCell, match=r"bad.ipynb: cell \[2\] failed.*n is not 2"):
        quick_look.run_stages({"good": good, "bad": bad}, reports)
    quick_look.run_stages({"good": good}, reports)
    shown = capfd.readouterr()
    assert re.search(r"^1 of 1: good, \d+ s$", shown.out, re.M) and not shown.err
    assert [path.name for path in (reports / "notebooks").iterdir()] == ["good.ipynb"]


def test_its_stages_are_those_of_the_report_and_the_page_to_read_first():
    stages = {claim.stage for claim in register.REGISTER}
    assert set(quick_look.STAGES) == stages | {"start_here"}
    assert all((ROOT / book).is_file() for book in quick_look.STAGES.values())


def test_its_page_says_what_it_is_and_how_the_real_one_is_made(tmp_path, monkeypatch):
    """The page of the published report's notebook; the published page carries no notice."""
    monkeypatch.chdir(ROOT)
    reports, asked = tmp_path / "reports", []

    def run(*stage):
        asked.append(stage)
        (reports / "notebooks").mkdir(parents=True)
        shutil.copy(PUBLISHED / "notebooks" / "report.ipynb", reports / "notebooks")

    shutil.copytree(PUBLISHED / "environment", reports / "environment")
    monkeypatch.setattr(runner, "run", run)
    page = quick_look.write_report(reports).read_text(encoding="utf-8")
    ((book, stage, values, folder),) = asked
    assert (book.name, stage, folder) == ("04_report.ipynb", "report", reports)
    assert (ROOT / "notebooks" / values["source"]).resolve() == reports
    notice = re.search(r'<p class="notice" role="note">(.*?)</p>', page)[1]
    assert notice.startswith("Quick look, no verdicts") and "make reproduce" in notice
    assert 'class="notice"' not in (PUBLISHED / "index.html").read_text(encoding="utf-8")
