"""Many processes or machines: the map of ``gmmdiff.engine.threads`` over the workers
of a dask.distributed scheduler.

Pieces of a run table go to workers, results come back in order.  What a piece ends with depends on
nothing but the piece, so neither the number of workers nor the death of one changes a bit of the
results.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.metadata
import logging
import os
import platform
import socket
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # and imported where it is used: whoever needs no cluster starts sooner
    from distributed import Client, Future

    from gmmdiff.engine.threads import Tick

REACH = 8  # seconds in which a scheduler has to answer
PATIENCE = 60  # seconds that a map waits without any worker
LOOK = 1  # seconds between two looks for workers
PACKAGE = Path(__file__).parents[3]
PACKAGES = ("torch", "numpy", "pandas", "distributed")


@cache
def made_of() -> dict[str, str]:
    """What a worker must share with whoever sends it work: versions, without local labels, and the
    code of this package.
    """
    sources = b"".join(path.read_bytes() for path in sorted(PACKAGE.rglob("*.py")))
    found = {name: importlib.metadata.version(name).partition("+")[0] for name in PACKAGES}
    python = ".".join(platform.python_version_tuple()[:2])
    return {"python": python, **found, "gmmdiff": hashlib.sha256(sources).hexdigest()[:12]}


def require_like(wanted: dict[str, str], found: Any, place: str) -> None:
    """Refuses a worker whose ``made_of`` is another, or an error.

    Raises:
        ConnectionError: one line that says where and how it differs.
    """
    if isinstance(found, Exception):
        raise ConnectionError(
            f"the worker at {place} cannot load gmmdiff: {found}; install it and its lock there"
        )
    differing = [
        f"{name} {found[name]} where {wanted[name]} is wanted"
        for name in wanted
        if found[name] != wanted[name]
    ]
    if differing:
        mend = "install the same gmmdiff and its lock there, and start it anew"
        raise ConnectionError(f"the worker at {place} has {', '.join(differing)}; {mend}")


def work(wanted: dict[str, str], function: Callable, ticking: bool, job: Any) -> tuple[Any, int]:
    """On a worker: ``function(job)`` on one torch thread, and the sum of what it told ``tick`` if
    it is ``ticking``.
    """
    import torch

    require_like(wanted, made_of(), platform.node())
    # For good: another task of this process may be at work when this one ends.
    torch.set_num_threads(1)
    done: list[int] = []
    return function(job, tick=done.append) if ticking else function(job), sum(done)


def reach(address: str) -> Client:
    """A client of the scheduler there.

    Raises:
        ConnectionError: one line, when none answers within ``REACH`` seconds.
    """
    import dask
    from distributed import Client, Security
    from distributed.comm import connect, get_address_host_port
    from distributed.versions import VersionMismatchWarning

    answer: SimpleQueue[Exception | None] = SimpleQueue()

    async def greet() -> None:
        comm = await connect(address, **Security().get_connection_args("client"))
        await comm.close()

    def knock() -> None:
        try:
            socket.create_connection(get_address_host_port(address), REACH).close()
            asyncio.run(asyncio.wait_for(greet(), REACH))
            answer.put(None)
        except Exception as error:
            answer.put(error)

    # A client of its own would wait for ever where a server takes the call and says nothing.
    Thread(target=knock, daemon=True).start()
    try:
        error = answer.get(timeout=REACH)
    except Empty:
        error = TimeoutError(f"not within {REACH} seconds")
    if error is not None:
        raise ConnectionError(
            f"no dask.distributed scheduler answers at {address}: {' '.join(str(error).split())}"
        )
    # What matters stands in our errors; a notebook stays clean.
    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    warnings.simplefilter("ignore", VersionMismatchWarning)  # we look for ourselves
    dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TiB"})
    return Client(address, timeout=REACH, set_as_default=False)


class Cluster:
    """The parallel map over the workers of a running scheduler, which may join and leave at any
    time.

    Args:
        address: of the scheduler, e.g. ``"tcp://127.0.0.1:8786"``.

    Raises:
        ConnectionError: one line, when no scheduler answers (see ``reach``) or a worker is made of
            other code.
    """

    def __init__(self, address: str) -> None:
        self.address, self.client = address, reach(address)
        for place, found in self.client.run(made_of, on_error="return").items():
            if not isinstance(found, OSError):  # a worker that is just leaving
                require_like(made_of(), found, place)

    def __call__(self, function: Callable, jobs: Iterable, tick: Tick | None = None) -> list:
        """As ``side_by_side``; ``tick`` is told of a job when its result has arrived.

        Raises:
            ConnectionError: one line, when the scheduler is lost, there is no worker for
                ``PATIENCE`` seconds, or workers keep dying on one job.
        """
        futures = self.client.map(
            partial(work, made_of(), function, tick is not None), list(jobs), pure=False
        )
        numbers = {future.key: number for number, future in enumerate(futures)}
        results = [None] * len(futures)
        for future, found in self._arriving(futures):
            results[numbers[future.key]], done = found
            if tick is not None:
                tick(done)
        return results

    def _arriving(self, futures: list[Future]) -> Iterator[tuple[Future, Any]]:
        """Each future with its result as soon as that is here; then the workers may forget and lose
        it.
        """
        from distributed import KilledWorker, as_completed

        arriving = as_completed(
            futures, loop=self.client.loop, with_results=True, raise_errors=False
        )
        seen = looked = time.monotonic()
        while arriving.count():
            if not arriving.has_ready():
                time.sleep(0.01)
                if (now := time.monotonic()) - looked > LOOK:
                    looked, seen = now, now if self._has_workers() else seen
                    if now - seen > PATIENCE:
                        raise ConnectionError(
                            f"{self.address} has had no worker for {PATIENCE} seconds"
                        )
                continue
            future, result = next(arriving)
            if future.status == "error":
                _, error, trace = result
                if isinstance(error, KilledWorker):
                    killed = f"killed {error.allowed_failures + 1} workers of {self.address}"
                    raise ConnectionError(f"one piece of work {killed} (out of memory?)")
                raise error.with_traceback(trace)
            if future.status != "finished":
                raise ConnectionError(f"the scheduler at {self.address} is gone")
            future.release()
            yield future, result

    def _has_workers(self) -> bool:
        try:
            return bool(self.client.nthreads())
        except OSError:
            raise ConnectionError(f"the scheduler at {self.address} is gone") from None


@contextmanager
def local(gpus: int) -> Iterator[str]:
    """Workers on this machine, one for each of ``gpus`` or, with none, one a core; gives their
    scheduler's address.
    """
    from dask.system import CPU_COUNT
    from distributed import Nanny, Scheduler, SpecCluster

    visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(gpus)))).split(",")[
        :gpus
    ]
    places = [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in visible] or [{}] * CPU_COUNT
    options = {"nthreads": 1, "memory_limit": None, "silence_logs": logging.WARNING}
    workers = {
        number: {"cls": Nanny, "options": options | {"env": place}}
        for number, place in enumerate(places)
    }
    scheduler = {
        "cls": Scheduler,
        "options": {"host": "127.0.0.1", "dashboard": False, "dashboard_address": "127.0.0.1:0"},
    }
    with SpecCluster(workers, scheduler, silence_logs=logging.WARNING) as cluster:
        yield cluster.scheduler_address
