"""Claims N1 to N5: statements and criteria, fixed before the numbers, and the rules that judge."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from gmmdiff.study.claims import ENOUGH_SEEDS, PAPER, Claim, Judgement, Tables, Verdict, sentence
from gmmdiff.study.ngmg_stability.contrasts import (
    CELL,
    OURS,
    UNSTEADY,
    classifier_contrasts,
    stability_contrasts,
)
from gmmdiff.study.statistics import paired_by_seed

tell = partial(sentence, "ngmg_stability")
ENOUGH_QUALITY = 0.02  # of the share of defects, that stability may cost


def _beside(contrasts: pd.DataFrame, rival: str, signal: str) -> pd.DataFrame:
    return contrasts[(contrasts["rival"] == rival) & (contrasts["signal"] == signal)]


def _rows(contrasts: pd.DataFrame, **levels: Any) -> list[Any]:
    """The rows at these levels of their columns, as the sentences read them."""
    for column, level in levels.items():
        contrasts = contrasts[contrasts[column] == level]
    return list(contrasts.itertuples(index=False))


def _numbers(row: pd.Series) -> dict[str, float]:
    """The contrast that a verdict hangs on, as a judgement holds it."""
    return {"estimate": row["estimate"], "ci_low": row["low"], "ci_high": row["high"]}


def _at_every(passed: pd.Series, seeds: int) -> Verdict:
    """Reproduced when all cells pass, partly when some do.

    Inconclusive without a cell to judge, or with too few seeds.
    """
    if not len(passed) or seeds < ENOUGH_SEEDS:
        return "inconclusive"
    if passed.all():
        return "reproduced"
    return "partly" if passed.any() else "not reproduced"


def _judge_steadier(tables: Tables, rival: str, signal: str) -> Judgement:
    """N1, N2 and half of N4."""
    contrasts = _beside(stability_contrasts(tables, [OURS]), rival, signal)
    seeds = int(contrasts["n_seeds"].min())
    judged = contrasts[contrasts["above"] & contrasts["metric"].isin(UNSTEADY)]
    sure = judged["corrected"] < 0.05

    both_lower = (judged["high"] < 0).groupby([judged[name] for name in CELL]).all()
    verdict = _at_every(both_lower, seeds)

    told = tell(
        "steadier",
        ours=OURS,
        rival=rival,
        signal=signal,
        seeds=seeds,
        cells=[(*cell, _rows(rows)) for cell, rows in judged.groupby(CELL)],
        lower=both_lower.sum(),
        calm=contrasts.groupby(CELL).ngroups - len(both_lower),
        tests=len(judged),
        below=(sure & (judged["estimate"] < 0)).sum(),
        above=(sure & (judged["estimate"] > 0)).sum(),
        undecided=_rows(judged[~sure]),
    )
    hardest = {} if judged.empty else _numbers(judged.loc[judged["high"].idxmax()])
    return Judgement(verdict, told, n_seeds=seeds, **hardest)


def _judge_more_accurate(tables: Tables, rival: str) -> Judgement:
    """N3 and the other half of N4."""
    contrasts = classifier_contrasts(tables, [OURS])
    raw, matched = (_beside(contrasts, rival, signal) for signal in ("raw", "matched"))
    accuracy = raw[raw["metric"] == "accuracy"]
    seeds = int(accuracy["n_seeds"].min())

    higher = accuracy["low"] > 0
    verdict: Verdict = "reproduced" if higher.any() else "not reproduced"
    if seeds < ENOUGH_SEEDS:
        verdict = "inconclusive"

    told = tell(
        "more_accurate",
        ours=OURS,
        rival=rival,
        accuracy=_rows(accuracy),
        accuracy_matched=_rows(matched, metric="accuracy"),
        basin=_rows(raw, metric="basin"),
        basin_matched=_rows(matched, metric="basin"),
    )
    best = accuracy.loc[accuracy["low"].idxmax()]
    return Judgement(verdict, told, n_seeds=seeds, **_numbers(best))


def _judge_n4(tables: Tables) -> Judgement:
    steadier = _judge_steadier(tables, "Brier", "raw")
    accurate = _judge_more_accurate(tables, "Brier")

    both = {steadier.verdict, accurate.verdict}
    verdict: Verdict = "not reproduced"
    if both == {"reproduced"}:
        verdict = "reproduced"
    elif "reproduced" in both or "partly" in both:
        verdict = "partly"
    elif "inconclusive" in both:
        verdict = "inconclusive"

    matched = _judge_steadier(tables, "Brier", "matched")
    told = tell("N4", steadier=steadier, matched=matched, accurate=accurate)
    return replace(steadier, verdict=verdict, details=told)


def _judge_n5(tables: Tables) -> Judgement:
    contrasts = stability_contrasts(tables, [OURS])
    defects = contrasts[contrasts["metric"] == "defect"]
    raw, matched = (_beside(defects, "BCE", signal) for signal in ("raw", "matched"))
    seeds = int(raw["n_seeds"].min())

    no_worse = raw["high"] < ENOUGH_QUALITY
    verdict = _at_every(no_worse, seeds)

    told = tell(
        "N5",
        ours=OURS,
        seeds=seeds,
        defects=_rows(raw),
        defects_matched=_rows(matched),
        more=(raw["low"] > 0).sum(),
        fewer=(raw["high"] < 0).sum(),
    )
    worst = raw.loc[raw["high"].idxmax()]
    return Judgement(verdict, told, n_seeds=seeds, **_numbers(worst))


def reference_sentence(tables: Tables) -> str:
    """What twice the steps change for the denoiser without a cost, in words with their numbers."""
    joint = tables["joint"]
    reference = joint[(joint["lam"] == 0) & (joint["metric"] == "final_loss")]
    short, long = sorted(reference["steps"].unique())
    changes = []
    for rate, table in reference.groupby("learning_rate"):
        logs = table.assign(value=np.log(table["value"]))
        found = paired_by_seed(logs, f"steps == {long}", f"steps == {short}")
        ends = (np.expm1(found[name]) for name in ("estimate", "low", "high"))
        changes.append((rate, *ends))
    return tell("reference", short=short, long=long, changes=changes)


CLAIMS = (
    Claim(
        "N1",
        "NGMG trains more stably than binary cross entropy.",
        PAPER,
        "spike rate and variation of the denoiser's gradient norm both lower, intervals below 0, "
        "at every lambda and learning rate where either arm's is above that of the run without a "
        "cost, paired interval above 0; partly: at some; inconclusive: at none to judge, or below "
        "10 seeds; intervals without correction for their number",
        "ngmg_stability",
        partial(_judge_steadier, rival="BCE", signal="raw"),
    ),
    Claim(
        "N2",
        "The same when both send back equally strong signals.",
        PAPER + " (ours to ask)",
        "as N1, at signals matched to BCE's root mean square at the start",
        "ngmg_stability",
        partial(_judge_steadier, rival="BCE", signal="matched"),
    ),
    Claim(
        "N3",
        "NGMG's classifier beats binary cross entropy's in some tasks.",
        PAPER,
        "accuracy at each arm's best learning rate higher at one noise level or more, interval "
        "above 0, without correction for their number",
        "ngmg_stability",
        partial(_judge_more_accurate, rival="BCE"),
    ),
    Claim(
        "N4",
        "It is more than the Brier score.",
        "ours",
        "NGMG against Brier as N1 and as N3; partly: one of the two, or one partly",
        "ngmg_stability",
        _judge_n4,
    ),
    Claim(
        "N5",
        "The stability costs no quality.",
        "ours",
        "upper end of the paired interval of defects, NGMG minus BCE, below +0.02 at every lambda "
        "and learning rate; partly: at some",
        "ngmg_stability",
        _judge_n5,
    ),
)
