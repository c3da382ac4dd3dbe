"""Cuts the pipeline's power at random moments and looks at what is left, as `make soak` does.

The pipeline of dvc.yaml, at the smallest size that passes, runs undisturbed twice; then every round
starts it from a fresh clone, kills all of its processes at once at a random moment, and starts it
again.  A round is good when the second start ends well, runs no stage again that was finished, ends
in the bytes of the undisturbed run and in no file more.
Everything happens in a temporary folder; reports/soak.csv gets one row a round.
"""

from __future__ import annotations

import json
import operator
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import yaml
from ruamel.yaml import YAML

from gmmdiff.core.streams import numpy_stream
from gmmdiff.pipeline.check_parameters import BUILDERS, check_file
from gmmdiff.pipeline.snapshot import digest, of_the_machine
from tests.paths import ROOT

ROUNDS, SIDE_BY_SIDE, SEED = 8, 2, 5  # three quarters of an hour on two cores
BAD = ("stages_lost", "leftovers", "files_differing", "exit_code")  # what has to be nothing
LIMIT = 900  # seconds after which a run counts as stuck
# What has to differ from the notebooks' own defaults for a stage to take no longer than its
# imports.
SMALL = yaml.safe_load("""
start_here: {n_train: 200, steps: 40, n_eval: 4}
theory_checks:
  {n_marginal: 100, sampler_steps: [5, 10, 20], dimensions: [5], diffusion_times: [0.0, 1.0],
   n_latent: 8, permutations: 99, line_widths: [0.0], n_line: 8, line_repeats: 2,
   affine_scales: [1, 16], law_sizes: [8, 16], law_repeats: 2, law_pairs: 2, descent_steps: 20,
   helix_points: 4, helix_steps: 5, complexity_dimensions: [2, 8], complexity_sizes: [8, 16],
   complexity_repeats: 2}
feature_vs_class: {n_train: 420, steps: 40, evaluations: 8}
faces:
  {attributes: 4, mapped: [2], n_train: [30, 400], steps: [40, 40], judged_n_train: [30, 400],
   mixture_steps: [40, 40], story_n_train: 30, story: [20, 40], held_out: 0.25}
digits: {n_train: [50, 3000], steps: [40, 40], mixture_steps: [40, 40]}
ngmg_stability:
  {n_train: 20, label_noise: [0.0], learning_rate: [0.01, 0.1], classifier_steps: 150,
   lam: [0.0, 1.0], steps: 150, n_test: 20}
ngmg_faces:
  {attributes: 4, n_train: 30, lam: [0.0, 1.0], matched_lam: [1.0], choosing_lam: [1.0, 3.0],
   steps: 150, n_test: 20}
""")
NETWORK = {"width": 8, "hidden": 1, "batch": 8, "evaluations": 4, "n_eval": 2}
SMALL |= {section: NETWORK | SMALL[section] for section in BUILDERS}


@dataclass
class Run:
    """One start of the pipeline, to its end or to the power cut."""

    code: int
    seconds: float
    started: list[str]  # stages, in order
    killed: int  # processes


def cut_power(pid: int) -> int:
    """Kills a process and all that descend from it, in whatever session, none of them seeing
    another die; their number.
    """
    frozen: list[psutil.Process] = []
    top = psutil.Process(pid)
    while new := [p for p in (top, *top.children(recursive=True)) if p not in frozen]:
        for process in new:
            with suppress(psutil.NoSuchProcess):
                process.suspend()
        frozen += new
    for process in frozen:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    return len(frozen)


def surroundings(tree: Path) -> tuple[Path, dict[str, str]]:
    """A folder beside a tree, and the environment in which its pipeline runs: this interpreter, the
    tree's code, temporary files and DVC's hashes in that folder.
    """
    beside = tree.parent / f"{tree.name}.beside"
    (beside / "tmp").mkdir(parents=True, exist_ok=True)
    return beside, os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{tree}{os.pathsep}{ROOT}",
        "TMPDIR": str(beside / "tmp"),
        "DVC_SITE_CACHE_DIR": str(beside / "site"),
        "DVC_NO_ANALYTICS": "1",
        "OMP_NUM_THREADS": "1",
    }


def start(tree: Path, cut: Callable[[float], bool] = lambda elapsed: elapsed > LIMIT) -> Run:
    """Starts the pipeline in a tree and cuts its power once ``cut(seconds since the start)`` says
    so.
    """
    beside, environment = surroundings(tree)
    command = [sys.executable, "-m", "gmmdiff.pipeline.resume"]
    killed, since = 0, time.monotonic()
    with open(beside / "log", "w+") as log:
        shown = {"stdout": log, "stderr": log, "stdin": subprocess.DEVNULL}
        process = subprocess.Popen(command, cwd=tree, env=environment, **shown)
        while process.poll() is None:
            if not killed and cut(time.monotonic() - since):
                killed = cut_power(process.pid)
            time.sleep(0.02)
        log.seek(0)
        stages = re.findall(r"^Running stage '(.+)':$", log.read(), re.M)
    return Run(process.wait(), time.monotonic() - since, stages, killed)


def results(tree: Path) -> dict[str, str]:
    """SHA-256 of every result and every entry of dvc.lock, but for what tells of the machine."""
    reports, entries = tree / "reports", YAML(typ="safe").load(tree / "dvc.lock")["stages"]
    files = sorted(path.relative_to(reports) for path in reports.rglob("*") if path.is_file())
    found = {str(path): digest(reports / path) for path in files if not of_the_machine(path)}
    stages = {name: entry for name, entry in entries.items() if entry.get("outs")}
    return found | {f"dvc.lock: {name}": json.dumps(entry) for name, entry in stages.items()}


def everything(tree: Path) -> set[str]:
    """Every file and folder in the tree, and what DVC takes processes at work to hold."""
    dvc, apart = tree / ".dvc", {".git", "__pycache__"}
    paths = [path for path in tree.rglob("*") if not apart & set(path.parts)]
    kept = [p for p in paths if not p.is_relative_to(dvc / "cache") or p.suffix == ".tmp"]
    rwlock = dvc / "tmp" / "rwlock"
    held = rwlock.read_text() if rwlock.exists() else "{}"
    return {str(path.relative_to(tree)) for path in kept} | ({f"rwlock: {held}"} - {"rwlock: {}"})


def start_again(tree: Path, reference: Path, first: Run) -> dict[str, Any]:
    """What comes of a second start after the first one, which was cut or not, beside a tree that
    ran undisturbed.
    """
    # A stage is in dvc.lock when the next one starts; ``pages`` tells of the machine, and is last.
    finished = first.started[:-1] if first.killed else first.started
    second = start(tree)
    found, expected = results(tree), results(reference)
    return {
        "seconds": round(first.seconds, 1),
        "stage": ["before the first", *first.started][-1] if first.killed else "not killed",
        "processes_killed": first.killed,
        "stages_finished": len(finished),
        "stages_lost": sorted({*finished} & {*second.started} - {"pages"}),
        "leftovers": sorted(everything(tree) - everything(reference)),
        "files_differing": sorted({name for name, _ in found.items() ^ expected.items()}),
        "exit_code": second.code,
        "seconds_to_finish": round(second.seconds, 1),
    }


def copy_of_the_tree(tree: Path) -> None:
    """A Git and DVC repository of its own: all of the working tree that Git does not ignore."""
    subprocess.run(["git", "init", "-q", str(tree)], check=True)
    git = ["git", f"--git-dir={tree / '.git'}", f"--work-tree={ROOT}"]
    listed = [*git, "ls-files", "-zo", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, tree / name)


def small_clone(tree: Path) -> None:
    """``copy_of_the_tree`` with parameters of the smallest size, and all of it staged."""
    copy_of_the_tree(tree)
    params, pipeline = tree / "params.yaml", tree / "dvc.yaml"
    content = yaml.safe_load(params.read_text()) | SMALL
    params.write_text(yaml.safe_dump(content, sort_keys=False))
    stages = yaml.safe_load(pipeline.read_text())
    train = stages["stages"]["train"]
    of_section = {stage["section"]: stage for stage in train["foreach"].values()}
    _, parts = check_file(params)
    train["foreach"] = {f"{name}_{part}": of_section[name] | {"part": part} for name, part in parts}
    pipeline.write_text(yaml.safe_dump(stages, sort_keys=False))
    subprocess.run(["git", "add", "-A"], cwd=tree, check=True)


def soak(folder: Path, rounds: int) -> Iterator[dict[str, Any]]:
    """One row a round: round 0 is not killed, the others are at a random share of the time the
    pipeline takes.
    """
    pristine, reference, control = (folder / name for name in ("pristine", "reference", "0"))
    small_clone(pristine)

    def one(number: int, share: float) -> dict[str, Any]:
        tree, first = folder / str(number), undisturbed
        while not first.killed:  # anew where the run was faster than the last one, and ended
            shutil.rmtree(tree, ignore_errors=True)
            cut = partial(operator.lt, share * first.seconds)
            first = start(shutil.copytree(pristine, tree), cut)
        row = start_again(tree, reference, first)
        if good(row):
            shutil.rmtree(tree)
        return {"round": number} | row

    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        trees = [shutil.copytree(pristine, tree) for tree in (reference, control)]
        first, undisturbed = pool.map(start, trees)
        if first.code:
            raise SystemExit(f"error: the undisturbed run failed; see {reference}.beside/log")
        yield {"round": 0} | start_again(control, reference, undisturbed)
        shares = numpy_stream(SEED, "soak").uniform(size=rounds)
        yield from pool.map(one, range(1, rounds + 1), shares)


def good(row: dict[str, Any]) -> bool:
    """Whether a round ended well, lost nothing, left nothing and ended in the same bytes."""
    return not any(row[name] for name in BAD)


def main(rounds: int = ROUNDS) -> int:
    """Prints every round and adds it to the table; returns 0 when every round was good."""
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    (ROOT / "reports").mkdir(exist_ok=True)
    rows = []
    for row in soak(folder, rounds):
        print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
        counts = {name: len(v) if isinstance(v, list) else v for name, v in row.items()}
        rows.append(counts)
        pd.DataFrame(rows).to_csv(ROOT / "reports" / "soak.csv", index=False)
    bad = [str(row["round"]) for row in rows if not good(row)]
    print(f"{rounds} rounds; not good: {', '.join(bad) or 'none'}{f'; see {folder}' * bool(bad)}")
    if not bad:
        shutil.rmtree(folder)
    return len(bad) > 0


if __name__ == "__main__":
    raise SystemExit(main(*map(int, sys.argv[1:])))
