"""Independent jobs side by side on this machine's cores; over many see ``pipeline.cluster``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch

Workers = Callable[..., list]  # a parallel map, as ``side_by_side``
Tick = Callable[[int], object]  # takes how much has been done since its last call


def side_by_side(function: Callable, jobs: Iterable, tick: Tick | None = None) -> list:
    """``[function(job) for job in jobs]``, on as many Python threads as torch has, one torch thread
    in each.

    A job that draws brings its own generator: so no result depends on the number of threads.  What
    may run on another map too can be pickled: function, jobs and results.

    Args:
        tick: handed to every call, as ``function(job, tick=tick)``.
    """
    call = function if tick is None else partial(function, tick=tick)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(call, jobs))
    finally:
        torch.set_num_threads(threads)
