"""The experiment on drawn faces: its run tables."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pandas as pd

from gmmdiff.core.checks import require
from gmmdiff.study.feature_vs_class.images import POINTS, Parts, check, recipe
from gmmdiff.study.feature_vs_class.runs import COMPARED, arms_table
from gmmdiff.worlds.faces import Faces

CENTRE = 0.4  # about the mean grey of the data


def parts(
    attributes: Sequence[int],
    n_train: Sequence[int],
    steps: Sequence[int],
    n_eval: Sequence[int],
    detailed: int,
    mapped: Sequence[int],
    s_c: Sequence[float],
    learning_rate: float,
    seeds: int,
    seed: int,
    swept_steps: Sequence[int],
    swept_seeds: int,
    size: int,
    held_out: float,
    **network: Any,
) -> Parts:
    """Run tables and recipes by name, each trained and kept by itself, three for every number m of
    attributes.

    ``judged_m``: class and feature at this m's n_train, as points; where m is ``detailed`` also as
    mixtures, with the control scrambled; with ``swept_seeds`` the unconditional arm, and where
    detailed shared.  With that many seeds: ``map_m``, class and feature, points, at the other
    n_train of the map; ``steps_m``, what is compared at twice the steps, and where detailed with
    fewer.

    Args:
        held_out: share of the combinations that is left out of training, in (0, 1).
        network: further fields of ``Recipe``.
    """
    lists, owner = (attributes, n_train, steps, n_eval), "faces"
    good = len(set(attributes)) == len(attributes) and len({len(one) for one in lists}) == 1
    allowed = "distinct numbers, and as many n_train, steps and n_eval"
    require(good, owner, "attributes", allowed, f"{[list(one) for one in lists]}")
    require(detailed in attributes, owner, "detailed", f"one of {list(attributes)}", detailed)
    allowed = "at least one size beside each n_train"
    require(all(set(mapped) - {n} for n in n_train), owner, "mapped", allowed, list(mapped))
    longest = steps[list(attributes).index(detailed)]
    check(owner, s_c, seeds, swept_seeds, swept_steps, longest)
    alike = {"learning_rate": [learning_rate], "first_seed": seed}
    few, found = {**alike, "seeds": swept_seeds}, {}
    for m, n, length, count in zip(*lists, strict=True):
        closely, left_out = m == detailed, round(held_out * 2**m)
        of_m = recipe(partial(Faces, m, size), left_out, CENTRE, n_eval=count, **network)
        judged = dict.fromkeys(COMPARED, list(s_c) if closely else POINTS)
        control = {"scrambled": POINTS} if closely else {}
        beside = {"none": POINTS} | ({"shared": POINTS} if closely else {})
        tables = [arms_table(judged | control, [n], [length], seeds=seeds, **alike)]
        tables.append(arms_table(beside, [n], [length], **few))
        found[f"judged_{m}"] = pd.concat(tables, ignore_index=True), of_m
        points, others = dict.fromkeys(COMPARED, POINTS), sorted(set(mapped) - {n})
        found[f"map_{m}"] = arms_table(points, others, [length], **few), of_m
        lengths = [*(swept_steps if closely else ()), 2 * length]
        found[f"steps_{m}"] = arms_table(judged, [n], lengths, **few), of_m
    return found
