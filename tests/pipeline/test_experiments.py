"""`dvc exp run -S` on a small clone: only what a change touches runs again, and DVC tells what
changed.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipeline.soak import ROOT, small_clone


@pytest.fixture
def dvc(tmp_path):
    """Runs a dvc command in a small clone of its own; what it printed."""
    tree = tmp_path / "tree"
    small_clone(tree)
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{tree}{os.pathsep}{ROOT}",
        "DVC_SITE_CACHE_DIR": str(tmp_path / "site"),
        "DVC_NO_ANALYTICS": "1",
        **{
            f"GIT_{who}_{what}": "gmmdiff@example.invalid"
            for who in ("AUTHOR", "COMMITTER")
            for what in ("NAME", "EMAIL")
        },
    }

    def run(*command):
        done = subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def dvc(*arguments):
        return run("dvc", *arguments)

    dvc.git = lambda *arguments: run("git", *arguments)
    return dvc


def test_an_experiment_runs_what_its_change_touches_and_tells_it(dvc):
    dvc.git("rm", "-q", "-f", "dvc.lock")  # of the published runs, whose outputs this clone has not
    dvc("repro", "theory_checks")
    dvc.git("add", "-A")
    dvc.git("commit", "-qm", "small, and reproduced")
    other = dvc("exp", "run", "-n", "wider", "-S", "ngmg_stability.width=9", "theory_checks")
    assert (
        "Running stage 'parameters'" in other
        and "Stage 'theory_checks' didn't change, skipping" in other
    )
    mine = dvc("exp", "run", "-n", "lines", "-S", "theory_checks.n_line=9", "theory_checks")
    assert "Running stage 'theory_checks'" in mine
    changed = json.loads(dvc("params", "diff", "--json", "HEAD"))["params.yaml"]
    assert changed["theory_checks.n_line"] == {"old": 8, "new": 9, "diff": 1}
    shown = dvc("exp", "show", "--csv", "--only-changed")
    assert "wider" in shown and "lines" in shown and "theory_checks.n_line" in shown.splitlines()[0]
