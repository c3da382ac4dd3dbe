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


@pytest.mark.slow
def test_an_experiment_runs_what_its_change_touches_and_tells_it(tmp_path):
    tree = tmp_path / "tree"
    small_clone(tree)
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{tree}{os.pathsep}{ROOT}",
        "DVC_SITE_CACHE_DIR": str(tmp_path / "site"),
        "DVC_NO_ANALYTICS": "1",
    }
    for who in ("AUTHOR", "COMMITTER"):
        for what in ("NAME", "EMAIL"):
            environment[f"GIT_{who}_{what}"] = "gmmdiff@example.invalid"

    def run(*command):
        options = {"cwd": tree, "env": environment, "capture_output": True, "text": True}
        done = subprocess.run(command, check=False, **options)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("git", "rm", "-q", "-f", "dvc.lock")  # of the published runs, which this clone has not
    run("dvc", "repro", "theory_checks")
    run("git", "add", "-A")
    run("git", "commit", "-qm", "small, and reproduced")
    experiment = ("dvc", "exp", "run", "-n")
    other = run(*experiment, "wider", "-S", "ngmg_stability.width=9", "theory_checks")
    assert "Running stage 'parameters'" in other
    assert "Stage 'theory_checks' didn't change, skipping" in other
    own = run(*experiment, "lines", "-S", "theory_checks.n_line=9", "theory_checks")
    assert "Running stage 'theory_checks'" in own
    changed = json.loads(run("dvc", "params", "diff", "--json", "HEAD"))["params.yaml"]
    assert changed["theory_checks.n_line"] == {"old": 8, "new": 9, "diff": 1}
    shown = run("dvc", "exp", "show", "--csv", "--only-changed")
    assert "wider" in shown and "lines" in shown and "theory_checks.n_line" in shown.splitlines()[0]
