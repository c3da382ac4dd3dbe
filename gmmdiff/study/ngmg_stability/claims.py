"""Claims N1 to N5: statements and criteria, fixed before the numbers, and the rules that judge the tables."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from gmmdiff.core.streams import numpy_stream
from gmmdiff.study.claims import ENOUGH_SEEDS, PAPER, Claim, Judgement, Tables, Verdict
from gmmdiff.study.statistics import holm, paired, paired_by_seed

# ---- NGMG stability -----------------------------------------------------------------------------------------

OURS = "NGMG s=1"  # judged; every other cost is reported
RIVALS = ("BCE", "Brier")
STABILITY = ("spike_rate", "variation", "spread", "diverged")
QUALITY = ("accuracy", "defect", "energy_distance")
NEAR_BEST = 0.95  # of the best accuracy: what still lies in the basin of learning rates
ENOUGH_QUALITY = 0.02  # of the share of defects, that stability may cost


def with_spread(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs, and the metric "spread": how far a final loss lies from its arm's median, relative to that (1 if not finite)."""
    last = runs[runs["metric"] == "final_loss"]
    arm = [name for name in runs if name not in ("seed", "value")]
    middle = last.groupby(arm)["value"].transform("median")
    away = ((last["value"] - middle).abs() / middle).replace(np.inf, np.nan).fillna(1.0)
    return pd.concat([runs, last.assign(metric="spread", value=away)], ignore_index=True)


def at_best_rate(classifier: pd.DataFrame) -> pd.DataFrame:
    """Experiment A's runs at every arm's learning rate of the best mean accuracy on its validation points."""
    arm = ["label_noise", "cost", "signal"]
    found = (
        classifier[classifier["metric"] == "validation_accuracy"]
        .groupby([*arm, "learning_rate"], as_index=False)["value"]
        .mean()
    )
    best = found.loc[found.groupby(arm)["value"].idxmax(), [*arm, "learning_rate"]]
    return classifier.merge(best, on=[*arm, "learning_rate"])


def basins(classifier: pd.DataFrame) -> pd.DataFrame:
    """Decades of learning rate within 5 % of the arm's best accuracy: one row a noise, cost, signal and seed, metric "basin"."""
    accuracy = classifier[classifier["metric"] == "accuracy"]
    arm = ["label_noise", "cost", "signal", "seed"]
    near = accuracy[
        accuracy["value"] >= NEAR_BEST * accuracy.groupby(arm)["value"].transform("max")
    ]
    rates = near.groupby(arm)["learning_rate"].agg(["min", "max"]).reset_index()
    return rates[arm].assign(metric="basin", value=np.log10(rates["max"] / rates["min"]))


def _against(
    runs: pd.DataFrame, cells: list[str], metrics: tuple[str, ...], costs: Sequence[str] | None
) -> pd.DataFrame:
    """Each of ``costs`` (default all) against each rival, raw and matched, paired by seed, in every cell and metric."""
    rows = []
    for (*cell, metric), table in runs[runs["metric"].isin(metrics)].groupby(
        [*cells, "metric"], sort=False
    ):
        arms = table.pivot(index="seed", columns=["cost", "signal"], values="value")
        for cost, rival, signal in itertools.product(
            costs or table["cost"].unique(), RIVALS, ("raw", "matched")
        ):
            if cost in ("BCE", rival):
                continue
            labels = dict(zip(cells, cell, strict=True)) | {
                "metric": metric,
                "cost": cost,
                "rival": rival,
                "signal": signal,
            }
            pair = (
                arms[[(cost, signal), (rival, "raw" if rival == "BCE" else signal)]]
                .dropna()
                .to_numpy()
                .T
            )
            if pair.shape[1] < 2:  # a run without one finite norm has no variation
                continue
            found = paired(*pair, numpy_stream(0, " ".join(map(str, labels.values()))))
            rows.append(labels | found._asdict() | {"n_seeds": pair.shape[1]})
    return pd.DataFrame(rows)


def stability_contrasts(tables: Tables, costs: Sequence[str] | None = None) -> pd.DataFrame:
    """Experiment B: one row a lambda, learning rate, metric, cost, rival and signal.

    ``above`` marks the cells (one lambda and learning rate of a cost, rival and signal) in which the spike rate or
    the variation of either is surely above that of the reference without a cost, the paired interval above 0: there
    is something to make stable.
    """
    runs = with_spread(tables["joint"][tables["joint"]["steps"] == tables["joint"]["steps"].min()])
    found = _against(runs[runs["lam"] > 0], ["lam", "learning_rate"], (*STABILITY, *QUALITY), costs)
    watched = runs[runs["metric"].isin(STABILITY[:2])]
    reference = watched[watched["lam"] == 0][["learning_rate", "metric", "seed", "value"]]
    beside = (
        watched[watched["lam"] > 0]
        .merge(reference, on=["learning_rate", "metric", "seed"], suffixes=("", "_reference"))
        .dropna()
    )
    surely = {
        cell: paired(
            arm["value"].to_numpy(),
            arm["value_reference"].to_numpy(),
            numpy_stream(0, f"above {cell}"),
        ).low
        > 0
        for cell, arm in beside.groupby(["lam", "learning_rate", "cost", "signal", "metric"])
        if len(arm) > 1
    }

    def above(row: Any) -> bool:
        arms = [(row.cost, row.signal), (row.rival, "raw" if row.rival == "BCE" else row.signal)]
        return any(
            surely.get((row.lam, row.learning_rate, *arm, metric), False)
            for metric in STABILITY[:2]
            for arm in arms
        )

    found["above"] = [above(row) for row in found.itertuples()]
    family = found[found["metric"].isin(STABILITY[:2]) & found["above"]].groupby(
        ["cost", "rival", "signal"]
    )["p_value"]
    return found.assign(corrected=family.transform(lambda p: holm(p.to_numpy())))


def cells(contrasts: pd.DataFrame) -> pd.DataFrame:
    """Every cost as N1 judges one: of the cells above the reference, in how many spike rate and variation are both surely lower.

    One row a cost, rival and signal: cells, both_lower, and either_higher than the rival's.
    """
    both = contrasts[contrasts["above"] & contrasts["metric"].isin(STABILITY[:2])]
    both = both.assign(both_lower=both["high"] < 0, either_higher=both["low"] > 0)
    arm = ["rival", "signal", "cost"]
    found = both.groupby([*arm, "lam", "learning_rate"]).agg(
        {"both_lower": "all", "either_higher": "any"}
    )
    return (
        found.assign(cells=1)
        .groupby(arm)
        .sum()[["cells", "both_lower", "either_higher"]]
        .reset_index()
    )


def classifier_contrasts(tables: Tables, costs: Sequence[str] | None = None) -> pd.DataFrame:
    """Experiment A, every arm at its best learning rate: one row a label noise, metric, cost, rival and signal."""
    best = at_best_rate(with_spread(tables["classifier"]))
    runs = pd.concat([best, basins(tables["classifier"])], ignore_index=True)
    found = _against(runs, ["label_noise"], (*STABILITY, "accuracy", "basin"), costs)
    family = found[found["metric"] == "accuracy"].groupby(["cost", "rival", "signal"])["p_value"]
    return found.assign(corrected=family.transform(lambda p: holm(p.to_numpy())))


def _interval(row: Any) -> str:
    estimate, low, high = (
        f"{round(value, 5) + 0.0:+.3g}" for value in (row.estimate, row.low, row.high)
    )
    return f"{estimate} [{low}, {high}]"


def _mine(contrasts: pd.DataFrame, rival: str, signal: str) -> pd.DataFrame:
    return contrasts[(contrasts["rival"] == rival) & (contrasts["signal"] == signal)]


def _of_all(passed: pd.Series, seeds: int) -> Verdict:
    """Reproduced when all cells pass, partly when some do; inconclusive without a cell or with too few seeds."""
    if not len(passed) or seeds < ENOUGH_SEEDS:
        return "inconclusive"
    return "reproduced" if passed.all() else "partly" if passed.any() else "not reproduced"


def _steadier(tables: Tables, rival: str, signal: str) -> Judgement:
    mine = _mine(stability_contrasts(tables, [OURS]), rival, signal)
    both = mine[mine["above"] & mine["metric"].isin(STABILITY[:2])]
    passed = (both["high"] < 0).groupby([both["lam"], both["learning_rate"]]).all()
    seeds = int(mine["n_seeds"].min())
    each = "; ".join(
        f"lambda {lam:g}, rate {rate:g}: "
        + ", ".join(f"{row.metric.replace('_', ' ')} {_interval(row)}" for row in cell.itertuples())
        for (lam, rate), cell in both.groupby(["lam", "learning_rate"])
    )
    untouched = mine.groupby(["lam", "learning_rate"]).ngroups - len(passed)
    surely = both[both["corrected"] < 0.05]
    unsure = ", ".join(
        f"{row.metric.replace('_', ' ')} at lambda {row.lam:g}, rate {row.learning_rate:g}"
        for row in both.drop(surely.index).itertuples()
    )
    hardest = both.loc[both["high"].idxmax()] if len(both) else None
    return Judgement(
        _of_all(passed, seeds),
        f"{OURS} minus {rival}, {signal} (IQM over {seeds} seeds and its 95 % interval): {each or 'no cell to judge'}. Both below 0 in {passed.sum()} "
        f"of {len(passed)} cells; in {untouched} more, neither is above the reference. Sign-flip test of the mean, Holm-corrected at 5 %: "
        f"{(surely['estimate'] < 0).sum()} of {len(both)} below 0, {(surely['estimate'] > 0).sum()} above"
        f"{f'; undecided: {unsure}' if unsure else ''}.",
        **(
            {}
            if hardest is None
            else {
                "estimate": hardest["estimate"],
                "ci_low": hardest["low"],
                "ci_high": hardest["high"],
            }
        ),
        n_seeds=seeds,
    )


def _more_accurate(tables: Tables, rival: str) -> Judgement:
    contrasts = classifier_contrasts(tables, [OURS])
    mine, beside = (_mine(contrasts, rival, signal) for signal in ("raw", "matched"))
    accuracy = mine[mine["metric"] == "accuracy"]
    seeds = int(accuracy["n_seeds"].min())
    verdict: Verdict = (
        "inconclusive"
        if seeds < ENOUGH_SEEDS
        else "reproduced"
        if (accuracy["low"] > 0).any()
        else "not reproduced"
    )

    def told(table: pd.DataFrame, metric: str) -> str:
        return ", ".join(
            f"noise {row.label_noise:g} {_interval(row)}"
            for row in table[table["metric"] == metric].itertuples()
        )

    best = accuracy.loc[accuracy["low"].idxmax()]
    return Judgement(
        verdict,
        f"Accuracy at each arm's best learning rate, {OURS} minus {rival}: {told(mine, 'accuracy')} (matched: {told(beside, 'accuracy')}). "
        f"Width of the basin in decades: {told(mine, 'basin')} (matched: {told(beside, 'basin')}).",
        estimate=best["estimate"],
        ci_low=best["low"],
        ci_high=best["high"],
        n_seeds=seeds,
    )


def reference_sentence(tables: Tables) -> str:
    """What twice the steps change for the denoiser without a cost, in words with their numbers."""
    reference = tables["joint"][
        (tables["joint"]["lam"] == 0) & (tables["joint"]["metric"] == "final_loss")
    ]
    short, long = sorted(reference["steps"].unique())
    changes = []
    for rate, table in reference.groupby("learning_rate"):
        found = paired_by_seed(
            table.assign(value=np.log(table["value"])), f"steps == {long}", f"steps == {short}"
        )
        change, low, high = (np.expm1(found[name]) for name in ("estimate", "low", "high"))
        changes.append(f"{change:+.1%} [{low:+.1%}, {high:+.1%}] at learning rate {rate:g}")
    return f"From {short} to {long} steps the final v-loss of the reference changes by {', '.join(changes)} (IQM over seeds and its 95 % interval)."


def _judge_n4(tables: Tables) -> Judgement:
    steady, accurate = _steadier(tables, "Brier", "raw"), _more_accurate(tables, "Brier")
    verdicts = {steady.verdict, accurate.verdict}
    verdict: Verdict = (
        "reproduced"
        if verdicts == {"reproduced"}
        else "partly"
        if verdicts & {"reproduced", "partly"}
        else "inconclusive"
        if "inconclusive" in verdicts
        else "not reproduced"
    )
    matched = _steadier(tables, "Brier", "matched")
    return Judgement(
        verdict,
        f"Stability: {steady.verdict}. {steady.details} Matched: {matched.verdict}. Accuracy: {accurate.verdict}. {accurate.details}",
        estimate=steady.estimate,
        ci_low=steady.ci_low,
        ci_high=steady.ci_high,
        n_seeds=steady.n_seeds,
    )


def _judge_n5(tables: Tables) -> Judgement:
    contrasts = stability_contrasts(tables, [OURS])
    mine, beside = (
        table[table["metric"] == "defect"]
        for table in (_mine(contrasts, "BCE", signal) for signal in ("raw", "matched"))
    )
    seeds = int(mine["n_seeds"].min())
    worst = mine.loc[mine["high"].idxmax()]

    def told(table: pd.DataFrame) -> str:
        return "; ".join(
            f"lambda {row.lam:g}, rate {row.learning_rate:g}: {_interval(row)}"
            for row in table.itertuples()
        )

    return Judgement(
        _of_all(mine["high"] < ENOUGH_QUALITY, seeds),
        f"Share of defects, {OURS} minus BCE (IQM over {seeds} seeds and its 95 % interval): {told(mine)}. "
        f"Surely more, interval above 0: {(mine['low'] > 0).sum()} of {len(mine)} cells; surely fewer: {(mine['high'] < 0).sum()}. Matched: {told(beside)}.",
        estimate=worst["estimate"],
        ci_low=worst["low"],
        ci_high=worst["high"],
        n_seeds=seeds,
    )


CLAIMS = (
    Claim(
        "N1",
        "NGMG trains more stably than binary cross entropy.",
        PAPER,
        "spike rate and variation of the denoiser's gradient norm both lower, intervals below 0, at every lambda and learning rate "
        "where either arm's is above that of the run without a cost, paired interval above 0; partly: at some; inconclusive: at none to judge, or below 10 seeds; intervals without correction for their number",
        "ngmg_stability",
        lambda tables: _steadier(tables, "BCE", "raw"),
    ),
    Claim(
        "N2",
        "The same when both send back equally strong signals.",
        PAPER + " (ours to ask)",
        "as N1, at signals matched to BCE's root mean square at the start",
        "ngmg_stability",
        lambda tables: _steadier(tables, "BCE", "matched"),
    ),
    Claim(
        "N3",
        "NGMG's classifier beats binary cross entropy's in some tasks.",
        PAPER,
        "accuracy at each arm's best learning rate higher at one noise level or more, interval above 0, without correction for their number",
        "ngmg_stability",
        lambda tables: _more_accurate(tables, "BCE"),
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
        "upper end of the paired interval of defects, NGMG minus BCE, below +0.02 at every lambda and learning rate; partly: at some",
        "ngmg_stability",
        _judge_n5,
    ),
)
