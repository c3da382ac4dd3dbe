"""`dvc exp run -S` on a small clone: only what a change touches runs again, and DVC tells what
changed.
"""

import json
import subprocess

import pytest

from tests.pipeline.soak import small_clone, surroundings


@pytest.mark.slow
def test_an_experiment_runs_what_its_change_touches_and_tells_it(tmp_path):
    tree = tmp_path / "tree"
    small_clone(tree)
    _, environment = surroundings(tree)
    for name in ("AUTHOR_NAME", "AUTHOR_EMAIL", "COMMITTER_NAME", "COMMITTER_EMAIL"):
        environment[f"GIT_{name}"] = "gmmdiff@example.invalid"

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
