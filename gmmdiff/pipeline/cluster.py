"""Many processes or machines: the map of ``gmmdiff.engine.threads`` over the workers of a
dask.distributed scheduler.

What a piece of a run table ends with depends on nothing but the piece, so neither the number of
workers nor the death of one changes a bit of the results.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
import os
import platform
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

import dask.system
import torch
from distributed import Client, Future, KilledWorker, Nanny, Scheduler, SpecCluster, as_completed
from distributed.versions import VersionMismatchWarning

from gmmdiff.engine.threads import Tick
from gmmdiff.engine.training import resolve_device

REACH = 8  # seconds in which a scheduler has to answer
PATIENCE = 60  # seconds that a map waits without any worker
LOOK = 1  # seconds between two looks for workers
PACKAGE = Path(__file__).parents[1]
PACKAGES = ("torch", "numpy", "pandas", "distributed")


@cache
def versions() -> dict[str, str]:
    """What a worker must share with whoever sends it work: versions, without local labels, and the
    code of this package.

    ``Client.get_versions`` would know neither that code nor a worker that joins later.
    """
    sources = b"".join(path.read_bytes() for path in sorted(PACKAGE.rglob("*.py")))
    packages = {name: importlib.metadata.version(name).partition("+")[0] for name in PACKAGES}
    python = ".".join(platform.python_version_tuple()[:2])
    return {"python": python, **packages, "gmmdiff": hashlib.sha256(sources).hexdigest()[:12]}


def require_versions(wanted: dict[str, str], found: Any, worker: str) -> None:
    """Refuses in one line a worker whose ``versions`` are others, or an error."""
    if isinstance(found, Exception):
        why = f"cannot load gmmdiff: {found}; install it and its lock there"
        raise ConnectionError(f"the worker at {worker} {why}")
    differing = [
        f"{name} {found[name]} where {version} is wanted"
        for name, version in wanted.items()
        if found[name] != version
    ]
    if differing:
        mend = "install the same gmmdiff and its lock there, and start it anew"
        raise ConnectionError(f"the worker at {worker} has {', '.join(differing)}; {mend}")


def work(wanted: dict[str, str], function: Callable, ticking: bool, job: Any) -> tuple[Any, int]:
    """On a worker: ``function(job)`` on one torch thread, and the sum of its ticks if it is
    ``ticking``.
    """
    require_versions(wanted, versions(), platform.node())
    # For good: another task of this process may be at work when this one ends.
    torch.set_num_threads(1)
    done: list[int] = []
    return function(job, tick=done.append) if ticking else function(job), sum(done)


def reach(address: str) -> Client:
    """A client of the scheduler there, if it answers within ``REACH`` seconds."""
    # What matters stands in our errors; a notebook stays clean.
    for name in ("distributed", "distributed.client", "distributed.comm"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    warnings.simplefilter("ignore", VersionMismatchWarning)  # we look for ourselves
    dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TiB"})
    answer: SimpleQueue[Client | Exception] = SimpleQueue()

    def connect() -> None:
        try:
            answer.put(Client(address, timeout=REACH, set_as_default=False))
        except Exception as error:
            answer.put(error)

    # It would wait for ever where a server takes the call and says nothing.
    Thread(target=connect, daemon=True).start()
    try:
        client = answer.get(timeout=REACH)
    except Empty:
        client = TimeoutError(f"not within {REACH} seconds")
    if isinstance(client, Exception):
        why = " ".join(str(client).split())
        raise ConnectionError(f"no dask.distributed scheduler answers at {address}: {why}")
    return client


class Cluster:
    """The parallel map over the workers of a running scheduler at an address, such as
    ``"tcp://127.0.0.1:8786"``; they may join and leave at any time.

    Raises:
        ConnectionError: one line, when no scheduler answers or a worker has other versions.
    """

    def __init__(self, address: str) -> None:
        self.address, self.client = address, reach(address)
        for worker, found in self.client.run(versions, on_error="return").items():
            if not isinstance(found, OSError):  # a worker that is just leaving
                require_versions(versions(), found, worker)

    def __call__(self, function: Callable, jobs: Iterable, tick: Tick | None = None) -> list:
        """As ``side_by_side``; ``tick`` is called for a job when its result has arrived.

        Raises:
            ConnectionError: one line, when the scheduler is lost, there is no worker for
                ``PATIENCE`` seconds, or workers keep dying on one job.
        """
        call = partial(work, versions(), function, tick is not None)
        futures = self.client.map(call, list(jobs), pure=False)
        options = {"loop": self.client.loop, "with_results": True, "raise_errors": False}
        arriving, results = as_completed(futures, **options), {}
        seen = looked = time.monotonic()
        while arriving.count():
            if arriving.has_ready():
                future, result = next(arriving)
                results[future.key], done = self._finished(future, result)
                future.release()  # it is here: the workers may forget and lose it
                if tick is not None:
                    tick(done)
                continue
            time.sleep(0.01)
            if (now := time.monotonic()) - looked > LOOK:
                looked, seen = now, now if self._has_workers() else seen
                if now - seen > PATIENCE:
                    none = f"has had no worker for {PATIENCE} seconds"
                    raise ConnectionError(f"{self.address} {none}")
        return [results[future.key] for future in futures]

    def _finished(self, future: Future, result: Any) -> Any:
        """The result of a job that has ended; raises the job's own error, or a ConnectionError."""
        if future.status == "error":
            _, error, trace = result
            if isinstance(error, KilledWorker):
                killed = f"killed {error.allowed_failures + 1} workers of {self.address}"
                raise ConnectionError(f"one piece of work {killed} (out of memory?)")
            raise error.with_traceback(trace)
        if future.status != "finished":
            raise ConnectionError(f"the scheduler at {self.address} is gone")
        return result

    def _has_workers(self) -> bool:
        try:
            return bool(self.client.nthreads())
        except OSError:
            raise ConnectionError(f"the scheduler at {self.address} is gone") from None


@contextmanager
def local(device: str) -> Iterator[str]:
    """Workers on this machine, one a GPU where the device comes out as CUDA, else one a core; gives
    their scheduler's address.
    """
    gpus = torch.cuda.device_count() if resolve_device(device) == "cuda" else 0
    every = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(gpus))))
    environments = [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in every.split(",")[:gpus]]
    options = {"nthreads": 1, "memory_limit": None, "silence_logs": logging.WARNING}
    workers = {
        number: {"cls": Nanny, "options": options | {"env": environment}}
        for number, environment in enumerate(environments or [{}] * dask.system.CPU_COUNT)
    }
    hidden = {"host": "127.0.0.1", "dashboard": False, "dashboard_address": "127.0.0.1:0"}
    scheduler = {"cls": Scheduler, "options": hidden}
    with SpecCluster(workers, scheduler, silence_logs=logging.WARNING) as cluster:
        yield cluster.scheduler_address
