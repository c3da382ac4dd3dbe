"""Contestants take turns, and ratios are taken turn by turn: speeds of a shared machine drift."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import pandas as pd
import torch

from gmmdiff.core.checks import require
from gmmdiff.engine.training import side_by_side

Contestant = Callable[[int], None]  # does so many steps
CUDA_MISSING = "not measured: no CUDA device here"


def beside(contestants: Sequence[Contestant]) -> Contestant:
    """Several contestants side by side, as the engine's blocks go: a thread each."""

    def go(steps: int) -> None:
        side_by_side(lambda each: each(steps), contestants)

    return go


def race(contestants: dict[str, tuple[Contestant, int, int]], repeats: int) -> pd.DataFrame:
    """Lets contestants take turns: one row a turn and contestant.

    Args:
        contestants: name -> what runs, for how many steps a turn, and how much work a turn is
            (floating-point operations, say).
        repeats: turns >= 1, after one that is not counted.

    Returns:
        columns turn, contestant, seconds, rate (work a second).
    """
    require(repeats >= 1, "race", "repeats", ">= 1", repeats)
    rows = []
    for turn in range(-1, repeats):
        for name, (go, steps, work) in contestants.items():
            start = time.perf_counter()
            go(steps)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds = time.perf_counter() - start
            rows.append(
                {"turn": turn, "contestant": name, "seconds": seconds, "rate": work / seconds}
            )
    found = pd.DataFrame(rows)
    return found[found["turn"] >= 0].reset_index(drop=True)


def ratios(turns: pd.DataFrame, to: str) -> pd.DataFrame:
    """Rates against the contestant ``to`` of the same turn: one row a contestant, columns median,
    low, high (quartiles).
    """
    wide = turns.pivot(index="turn", columns="contestant", values="rate")
    require(to in wide, "ratios", "to", f"one of {', '.join(wide)}", repr(to))
    found = wide.div(wide[to], axis=0).quantile([0.5, 0.25, 0.75]).T
    return found.set_axis(["median", "low", "high"], axis=1)


def middle(turns: pd.DataFrame, value: str, by: Sequence[str]) -> pd.DataFrame:
    """Median and quartiles of a column over the turns: a row a group; median, low, high."""
    found = turns.groupby(list(by), sort=False)[value].quantile([0.5, 0.25, 0.75]).unstack()
    return found.set_axis(["median", "low", "high"], axis=1).reset_index()


def device_name(device: str) -> str:
    """What a table's column ``device`` says: the GPU's name, or cpu."""
    return torch.cuda.get_device_name() if device == "cuda" else "cpu"
