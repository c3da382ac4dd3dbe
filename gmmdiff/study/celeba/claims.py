"""Claims F1 to F3 on CelebA: the rule and the words of ``feature_vs_class``."""

from __future__ import annotations

from collections.abc import Sequence

from gmmdiff.core.checks import require
from gmmdiff.study.claims import Claim, Tables
from gmmdiff.study.feature_vs_class import claims as asked
from gmmdiff.study.feature_vs_class.contrasts import Setting
from gmmdiff.study.verdicts import smallest_effect

CELL = ("attributes", "s_c")  # the factors that make one


def claims(tables: Tables, pilot: Sequence[float]) -> list[Claim]:
    """F1 to F3 for the regime of the tables, see ``Experiment.measure``.

    Args:
        pilot: the class arm's share of misses on seen and on rare combinations, from runs on other
            seeds; 0 where there are none, which leaves the smallest delta.

    Raises:
        ValueError: unless these are two shares.
    """
    good = len(pilot) == 2 and all(0 <= share <= 1 for share in pilot)
    require(good, "celeba", "pilot", "two shares, on seen and on rare combinations", list(pilot))
    seen, rare = map(smallest_effect, pilot)
    delta = {"F1": {asked.F1: seen}, "F2": {asked.F2: rare}, "F3": {asked.F3: asked.COMPOSED}}
    (regime,) = tables["celeba"]["regime"].unique()
    setting = Setting("celeba", regime, "celeba", "celeba_steps", CELL, list(delta))
    return [asked.claim_of(name, setting, of, "celeba") for name, of in delta.items()]
