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
from types import SimpleNamespace

import pytest
import torch
import yaml

from gmmdiff.engine.runs import TrainingSettings, run_table
from gmmdiff.engine.threads import side_by_side
from gmmdiff.engine.training import train
from gmmdiff.pipeline import cluster, results
from gmmdiff.pipeline.parameters import declared_parameters
from tests.paths import ROOT
from tests.pipeline.small_stages import PARAMETERS, contents, notebook, run
from tests.small_settings import ARCS

SETTINGS = TrainingSettings(ARCS, width=8, hidden=1, batch=8, n_eval=4, evaluations=8)
LENGTHS = [150, 160, 170, 180, 190, 200]  # rows of one length make a block
SMALL = {"n_train": 420, "steps": 40, "width": 8, "n_eval": 2, "evaluations": 8}


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A scheduler and two workers, processes of their own whom nobody restarts, and the map over
    them.
    """
    folder, processes = tmp_path_factory.mktemp("cluster"), []

    def start(*command):
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        options = {"cwd": folder, "env": os.environ | {"PYTHONPATH": path}}
        nowhere = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        command = [sys.executable, "-m", "dask", *command]
        processes.append(subprocess.Popen(command, **options, **nowhere))

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    address = f"tcp://127.0.0.1:{port}"
    host = ("--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0")
    start("scheduler", "--port", port, *host)
    for _ in range(2):
        start("worker", address, "--no-nanny", "--nthreads", "1", "--no-dashboard")
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cluster, "REACH", 60)
            workers = cluster.Cluster(address)
        workers.client.wait_for_workers(2, timeout=60)
        yield SimpleNamespace(
            address=address, scheduler=processes[0], processes=processes[1:], map=workers
        )
        workers.client.close()
    finally:
        for process in processes:
            process.kill()
            process.wait()


def table(longer=1):
    steps = [longer * steps for steps in LENGTHS]
    return run_table(["class", "feature"], [0.1], [20], [1e-3], steps, 2)


def same(found, expected):
    pairs = zip(found, expected, strict=True)
    return all(torch.equal(a.nan_to_num(7), b.nan_to_num(7)) for a, b in pairs)


def bar(update):
    """A progress bar that calls ``update``."""

    @contextmanager
    def bar(total, **options):
        yield SimpleNamespace(update=update)

    return bar


@pytest.mark.slow
def test_two_workers_train_as_none(running):
    """The same bits in the table's order, every step counted; jobs keep their order, and errors
    their kind.
    """
    steps = []
    trained = train(table(), SETTINGS, progress=bar(steps.append), workers=running.map)
    assert same(trained, train(table(), SETTINGS))
    assert len(steps) == len(LENGTHS) and sum(steps) == table()["steps"].sum()
    assert running.map(int, [str(n) for n in range(50)]) == list(range(50))
    with pytest.raises(ValueError, match="invalid literal"):
        running.map(int, ["1", "one"])


@pytest.mark.slow
def test_a_worker_that_dies_costs_its_block_alone(running):
    """One of two is killed at work: the other computes what it had, with the same results."""
    client, victim = running.map.client, running.processes[0]
    worker = next(worker for worker, pid in client.run(os.getpid).items() if pid == victim.pid)
    finished, lost, kept = [], [], []

    def kill(steps):
        finished.append(steps)
        if len(finished) == 3:
            time.sleep(0.05)  # the scheduler hears of results that are here
            lost.extend(client.processing()[worker])
            kept.extend(key for key, workers in client.who_has().items() if workers)
            victim.send_signal(signal.SIGKILL)

    rows = table(10)
    trained = train(rows, SETTINGS, progress=bar(kill), workers=running.map)
    assert same(trained, train(rows, SETTINGS))
    assert lost, "it was idle"
    assert len(kept) < 3, "results that are here could be lost with a worker"
    assert len(client.nthreads()) == 1 and len(finished) == len(LENGTHS)


@pytest.mark.slow
def test_nobody_left_is_one_clear_line(running, monkeypatch):
    monkeypatch.setattr(cluster, "PATIENCE", 2)
    for process in running.processes:
        process.kill()
    with pytest.raises(ConnectionError, match=f"{running.address} has had no worker for 2 seconds"):
        train(table(), SETTINGS, workers=running.map)
    running.scheduler.kill()
    with pytest.raises(ConnectionError, match=f"the scheduler at {running.address} is gone"):
        train(table(), SETTINGS, workers=running.map)


@pytest.mark.slow
def test_workers_of_this_machine_leave_the_same_files(tmp_path, monkeypatch):
    """Executed notebook and tables, through the runner."""
    monkeypatch.setattr("dask.system.CPU_COUNT", 1)  # however many cores the machine has
    book = ROOT / "notebooks" / "02a_feature_vs_class_runs.ipynb"
    for setting in ("local", None):
        params = {"cluster": setting, "stage": SMALL}
        assert run(tmp_path, book, params, reports=str(setting)) == 0
    here = contents(tmp_path / "None")
    assert len(here) > 5 and here == contents(tmp_path / "local")


def test_a_worker_of_other_versions_or_code_is_refused(tmp_path, monkeypatch):
    here = cluster.versions()
    cluster.require_versions(here, dict(here), "here")
    other = "worker at there has torch 1.0 where .* is wanted; install the same gmmdiff"
    with pytest.raises(ConnectionError, match=other):
        cluster.require_versions(here, here | {"torch": "1.0"}, "there")
    with pytest.raises(ConnectionError, match="worker at there cannot load gmmdiff: No module"):
        cluster.require_versions(here, ModuleNotFoundError("No module named 'gmmdiff'"), "there")
    with pytest.raises(ConnectionError, match="has gmmdiff"):
        cluster.work(here | {"gmmdiff": "changed"}, pytest.fail, False, None)
    assert cluster.PACKAGE == ROOT / "gmmdiff"
    monkeypatch.setattr(cluster, "PACKAGE", tmp_path)
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "a.py").write_text("one = 1")
    before = cluster.versions.__wrapped__()
    (tmp_path / "core" / "a.py").write_text("one = 2")
    assert cluster.versions.__wrapped__() != before


def test_no_stage_and_no_notebook_declares_the_cluster(monkeypatch):
    """It changes how runs are computed, not what: nothing is stale when it changes."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].values()
    assert not [stage for stage in stages if "cluster" in stage.get("params", [])]
    books = (ROOT / "notebooks").glob("*.ipynb")
    assert not [book for book in books if "cluster" in declared_parameters(book)]
    monkeypatch.delenv(results.CLUSTER, raising=False)
    assert results.workers.__wrapped__() is side_by_side


def refused(folder, capfd, setting):
    """The one line with which a stage refuses this ``cluster`` before anything runs."""
    book = notebook(folder / "book.ipynb", PARAMETERS)
    assert run(folder, book, {"cluster": setting, "stage": {}}) == 2
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert not (folder / "reports").exists()
    return line


BAD = ["locally", 2, ["local"], "http://host:8786", "tcp://host", "host:8786"]


@pytest.mark.parametrize("setting", BAD)
def test_a_bad_cluster_is_named(tmp_path, capfd, setting):
    allowed = "null, local, or the address of a dask.distributed scheduler, tcp://HOST:PORT"
    line = refused(tmp_path, capfd, setting)
    assert f"params.yaml: cluster must be {allowed}" in line and f"got {setting!r}" in line


@pytest.mark.parametrize("listening", [False, True])
def test_a_scheduler_out_of_reach_is_one_line_in_time(tmp_path, capfd, monkeypatch, listening):
    """Nobody at the port, and somebody who takes the call but says nothing."""
    assert cluster.REACH <= 8
    monkeypatch.setattr(cluster, "REACH", 2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        if listening:
            silent.listen()
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        line = refused(tmp_path, capfd, address)
    assert f"error: cluster: no dask.distributed scheduler answers at {address}: " in line
