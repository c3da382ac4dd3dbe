"""Claims F1 to F4, fixed before the numbers, and the rule that judges their tables."""

from __future__ import annotations

from functools import partial

import pandas as pd

from gmmdiff.study.claims import ENOUGH_SEEDS, PAPER, Claim, Judgement, Tables, Verdict, sentence
from gmmdiff.study.feature_vs_class.contrasts import (
    FEATURE_CLAIMS,
    feature_contrasts,
    length_contrasts,
)

tell = partial(sentence, "feature_vs_class")
ENOUGH_CHANGE = 0.02  # of the share of defects, that a longer training may still take away


def undertrained(claim: str, tables: Tables) -> pd.DataFrame:
    """The compared arms whose defects the longest training may lower by more than allowed."""
    lengths = length_contrasts(tables)
    if claim in FEATURE_CLAIMS:  # F4 compares every arm
        compared = lengths["granularity"].isin(FEATURE_CLAIMS[claim][:2])
        lengths = lengths[compared & (lengths["s_c"] == lengths["s_c"].max())]
    return lengths[lengths["low"] < -ENOUGH_CHANGE]


def judge(tables: Tables, claim: str) -> Judgement:
    """Reproduced: the paired interval lies below 0 at every n_train; partly: at some."""
    contrasts = feature_contrasts(tables)
    mine = contrasts[(contrasts["claim"] == claim) & contrasts["judged"]]
    below, seeds = mine["high"] < 0, int(mine["n_seeds"].min())
    falling = undertrained(claim, tables)

    verdict: Verdict = (
        "reproduced" if below.all() else "partly" if below.any() else "not reproduced"
    )
    if seeds < ENOUGH_SEEDS or len(falling):
        verdict = "inconclusive"

    point = contrasts[(contrasts["claim"] == claim) & (contrasts["s_c"] == 0)]
    surely = mine.loc[mine["corrected"] < 0.05, "estimate"]
    told = tell(
        "contrasts",
        falling=list(falling.itertuples()),
        seeds=seeds,
        cells=list(mine.itertuples()),
        surely_below=(surely < 0).sum(),
        surely_above=(surely > 0).sum(),
        control=list(point.itertuples()),
    )
    extreme = mine.loc[mine["high"].idxmax()]
    return Judgement(
        verdict, told, extreme["estimate"], extreme["low"], extreme["high"], n_seeds=seeds
    )


CLAIMS = (
    Claim(
        id="F1",
        statement="Feature conditioning gives fewer defects than class conditioning, "
        "both with Gaussian mixtures.",
        source=PAPER,
        criterion="paired interval of the defects below 0 at every n_train; partly: at some, "
        "without correction for their number; inconclusive: below 10 seeds, or while twice the "
        "training may lower a compared arm's defects by more than 0.02",
        stage="feature_vs_class",
        judge=partial(judge, claim="F1"),
    ),
    Claim(
        id="F2",
        statement="The same on rare combinations.",
        source=PAPER + " (ours to ask)",
        criterion="as F1",
        stage="feature_vs_class",
        judge=partial(judge, claim="F2"),
    ),
    Claim(
        id="F3",
        statement="The same on combinations held out of training.",
        source=PAPER + " (ours to ask)",
        criterion="as F1",
        stage="feature_vs_class",
        judge=partial(judge, claim="F3"),
    ),
    Claim(
        id="F4",
        statement="It is the mixture, not only the features: mixture conditions give fewer "
        "defects than points.",
        source="digests of the full text (conditions as distributions)",
        criterion="paired interval of mixture minus point below 0 at equal granularity, for every "
        "granularity and n_train; partly and inconclusive: as F1",
        stage="feature_vs_class",
        judge=partial(judge, claim="F4"),
    ),
)
