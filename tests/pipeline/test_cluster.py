"""Runs computed by real dask.distributed processes: the same bytes, whoever computes them and
whoever dies.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace

import pytest
import torch
import yaml
from tqdm import tqdm

from gmmdiff.engine.runs import TrainingSettings, run_table
from gmmdiff.engine.threads import side_by_side
from gmmdiff.engine.training import train
from gmmdiff.experiments.feature_vs_class import arcs
from gmmdiff.experiments.ngmg_stability import arcs as ngmg, measuring
from gmmdiff.pipeline import cluster, results as notebook, runner
from gmmdiff.pipeline.parameters import declared_parameters
from tests.paths import ROOT
from tests.pipeline.test_execution import one_part
from tests.small_settings import ARCS

SETTINGS = TrainingSettings(ARCS, width=8, hidden=1, batch=8, n_eval=4, evaluations=8)
QUIET = partial(tqdm, disable=True)
LENGTHS = [150, 160, 170, 180, 190, 200]  # rows of one length make a block


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A scheduler and two workers, processes of their own whom nobody restarts, and the map over
    them.
    """
    folder, processes = tmp_path_factory.mktemp("cluster"), []

    def start(*command):
        log = open(folder / f"{len(processes)}.log", "w")  # noqa: SIM115 - for the process
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        processes.append(
            subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=folder,
                env=os.environ | {"PYTHONPATH": path},
                stdout=log,
                stderr=log,
            )
        )

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    start(
        "dask",
        "scheduler",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--dashboard-address",
        "127.0.0.1:0",
    )
    for _ in range(2):
        start("dask", "worker", address, "--no-nanny", "--nthreads", "1", "--no-dashboard")
    try:
        workers = patiently(lambda: cluster.Cluster(address))
        patiently(lambda: len(workers.client.nthreads()) == 2 or [][0])
        yield SimpleNamespace(
            address=address, scheduler=processes[0], processes=processes[1:], map=workers
        )
        workers.client.close()
    finally:
        for process in processes:
            process.kill()
            process.wait()


def patiently(attempt, seconds=60):
    """What ``attempt`` gives once it raises nothing."""
    end = time.monotonic() + seconds
    while True:
        try:
            return attempt()
        except (ConnectionError, IndexError):
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def table(longer=1):
    return run_table(
        ["class", "feature"], [0.1], [20], [1e-3], [longer * steps for steps in LENGTHS], 2
    )


def same(found, expected):
    return all(
        torch.equal(a.nan_to_num(7), b.nan_to_num(7)) for a, b in zip(found, expected, strict=True)
    )


def test_two_workers_train_as_none(running):
    """The same bits in the table's order, and the bar told of every step."""
    steps = []

    @contextmanager
    def bar(total, **options):
        yield SimpleNamespace(update=steps.append)

    trained = train(table(), SETTINGS, progress=bar, workers=running.map)
    assert same(trained, train(table(), SETTINGS))
    assert len(steps) == len(LENGTHS) and sum(steps) == table()["steps"].sum()


def test_two_workers_measure_as_none(running):
    """Every table of both experiments."""
    network = {"width": 8, "hidden": 1, "batch": 8, "ema": 0.9, "n_eval": 4, "evaluations": 8}
    shared = network | {"s_c": 0.1, "seed": 0, "seeds": 2, "dimension": 8, "held_out": 2}
    arms = {"n_train": 420, "steps": 50, "learning_rate": 1e-2, "control_seeds": 2, "rare": 4}
    costs = {"lam": [0.0, 1.0], "joint_learning_rate": [1e-2], "steps": 150, "n_train": 20}
    costs |= {"label_noise": [0.2], "learning_rate": [1e-3], "classifier_steps": 150}
    arms = arcs.run_tables(shared | arms)["judged"]
    costs = ngmg.run_tables(shared | costs | {"other_seeds": 2})
    experiments = [
        partial(arcs.run_part, *arms, "cpu", QUIET),
        *(partial(measuring.run_part, *one, "cpu", QUIET, n_test=20) for one in costs.values()),
    ]
    for run_part in experiments:
        expected, found = run_part(), run_part(workers=running.map)
        assert {name: one.to_csv() for name, one in found.items()} == {
            name: one.to_csv() for name, one in expected.items()
        }


def test_results_keep_their_order_and_errors_their_kind(running):
    assert running.map(int, [str(n) for n in range(50)]) == list(range(50))
    with pytest.raises(ValueError, match="invalid literal"):
        running.map(int, ["1", "one"])


def test_a_worker_must_share_the_code_of_every_wing(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "PACKAGE", tmp_path)
    for name in ("core/a.py", "study/engine/b.py"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("one = 1")
    before = cluster.versions.__wrapped__()
    (tmp_path / "core" / "a.py").write_text("one = 2")
    assert cluster.versions.__wrapped__() != before


def test_a_worker_that_dies_costs_its_block_alone(running):
    """One of two is killed at work: the other computes what it had, with the same results."""
    client, victim = running.map.client, running.processes[0]
    place = next(place for place, pid in client.run(os.getpid).items() if pid == victim.pid)
    finished, lost, kept = [], [], []

    def kill(steps):
        finished.append(steps)
        if len(finished) == 3:
            time.sleep(0.05)  # the scheduler hears of results that are here
            lost.extend(client.processing()[place])
            kept.extend(key for key, places in client.who_has().items() if places)
            victim.send_signal(signal.SIGKILL)

    @contextmanager
    def bar(total, **options):
        yield SimpleNamespace(update=kill)

    rows = table(10)
    assert same(train(rows, SETTINGS, progress=bar, workers=running.map), train(rows, SETTINGS))
    assert lost, "it was idle"
    assert len(kept) < 3, "results that are here could be lost with a worker"
    assert len(client.nthreads()) == 1 and len(finished) == len(LENGTHS)


def test_nobody_left_is_one_clear_line(running, monkeypatch):
    monkeypatch.setattr(cluster, "PATIENCE", 2)
    for process in running.processes:
        process.kill()
    with pytest.raises(ConnectionError, match=f"{running.address} has had no worker for 2 seconds"):
        train(table(), SETTINGS, workers=running.map)
    running.scheduler.kill()
    with pytest.raises(ConnectionError, match=f"the scheduler at {running.address} is gone"):
        train(table(), SETTINGS, workers=running.map)


def test_a_worker_of_another_make_is_refused():
    mine = cluster.versions()
    cluster.require_versions(mine, dict(mine), "here")
    with pytest.raises(
        ConnectionError,
        match=r"worker at there has torch 1.0 where .* is wanted; install the same gmmdiff",
    ):
        cluster.require_versions(mine, mine | {"torch": "1.0"}, "there")
    with pytest.raises(ConnectionError, match="worker at there cannot load gmmdiff: No module"):
        cluster.require_versions(mine, ModuleNotFoundError("No module named 'gmmdiff'"), "there")
    with pytest.raises(ConnectionError, match="has gmmdiff"):
        cluster.work(mine | {"gmmdiff": "changed"}, pytest.fail, False, None)


def stage(folder, setting):
    """Runs one small part with this ``cluster``; the exit code."""
    folder.mkdir()
    return runner.main(one_part(folder, cluster=setting))


def test_workers_of_this_machine_leave_the_same_files(tmp_path, monkeypatch):
    """Executed notebook and tables, through the runner; and what the kernel is told is its own
    affair.
    """
    monkeypatch.setattr("dask.system.CPU_COUNT", 1)  # however many cores the machine has
    before = dict(os.environ)
    for setting in ("local", None):
        assert stage(tmp_path / str(setting), setting) == 0
    here, there = tmp_path / "None/reports", tmp_path / "local/reports"
    files = [
        path.relative_to(here)
        for path in here.rglob("*")
        if path.is_file() and "environment" not in path.parts
    ]
    assert len(files) == 1 + 5
    assert [
        path for path in files if (here / path).read_bytes() != (there / path).read_bytes()
    ] == []
    assert dict(os.environ) == before


def test_no_stage_and_no_notebook_declares_the_cluster(monkeypatch):
    """It changes how runs are computed, not what: nothing is stale when it changes."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert [name for name, stage in stages.items() if "cluster" in stage.get("params", [])] == []
    assert [
        book
        for book in (ROOT / "notebooks").glob("*.ipynb")
        if "cluster" in declared_parameters(book)
    ] == []
    monkeypatch.delenv(notebook.CLUSTER, raising=False)
    assert notebook.workers.__wrapped__() is side_by_side


@pytest.mark.parametrize(
    "setting",
    [
        "locally",
        2,
        True,
        ["local"],
        "http://host:8786",
        "tcp://host",
        "tcp://host:0",
        "tcp://host:70000",
        "host:8786",
    ],
)
def test_a_bad_cluster_is_named(tmp_path, capsys, setting):
    assert stage(tmp_path / "a", setting) == 2
    error = capsys.readouterr().err
    assert (
        "params.yaml: cluster must be null, local, or the address of a dask.distributed "
        "scheduler, tcp://HOST:PORT" in error
    )
    assert f"got {setting!r}" in error and len(error.strip().splitlines()) == 1
    assert not (tmp_path / "a/reports").exists()


@pytest.mark.parametrize("listening", [False, True])
def test_a_scheduler_out_of_reach_is_one_line_within_ten_seconds(tmp_path, capfd, listening):
    """Nobody at the port, and somebody who takes the call but says nothing."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        if listening:
            silent.listen()
        address, start = f"tcp://127.0.0.1:{silent.getsockname()[1]}", time.monotonic()
        code = stage(tmp_path / "a", address)
    error = capfd.readouterr().err
    assert code == 2 and time.monotonic() - start < 10
    assert f"params.yaml: cluster: no dask.distributed scheduler answers at {address}: " in error
    assert len(error.strip().splitlines()) == 1 and not (tmp_path / "a/reports").exists()
