"""Claims of theory T1 to T6: their rules, fixed before the numbers (statements.yaml).

T1, T2, T3 and T6 follow from mathematics: they check definitions and code.  A judge takes the
numbers from the tables, then the verdict by a rule that reads as the claim's criterion, then the
sentence from the macro of the claim's name in theory.j2.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import numpy as np
import pandas as pd
from scipy.stats import norm

from gmmdiff.core.statistics import holm
from gmmdiff.experiments.theory.costs import DIVERGENCES, MIXTURES
from gmmdiff.experiments.theory.laws import complexity_slopes, deviation_on_laws
from gmmdiff.experiments.theory.sets import nested_pairs, share_that_differs
from gmmdiff.judging.claims import Claim, Judgement, Verdict, sentence
from gmmdiff.judging.tables import Tables

tell = partial(sentence, "theory")


def all_or_some(passed: Iterable[bool]) -> Verdict:
    """Reproduced where every case passes, partly where some do; without a case, not reproduced."""
    cases = list(passed)
    if cases and all(cases):
        return "reproduced"
    return "partly" if any(cases) else "not reproduced"


def _judge_t1(tables: Tables) -> Judgement:
    table = tables["latent_identity"]
    difference, inclusion = table["difference"].max(), table["inclusion"].min()

    verdict = all_or_some([difference <= 1e-10 and inclusion == 1])

    told = tell("T1", difference=difference, inclusion=inclusion, control=table["control"].max())
    return Judgement(verdict, told, estimate=difference)


def _judge_t2(tables: Tables) -> Judgement:
    tests = tables["latent_tests"]
    nested = nested_pairs(tests)
    start = nested.loc[nested["t"] == 0, "corrected"]
    share = share_that_differs(nested)
    drowned = share[share < 0.5].reset_index("t")["t"].groupby("dimension").min()
    drowned = drowned.reindex(share.index.unique("dimension"), fill_value=np.inf)
    one_law = tests.loc[tests["kind"] == "control", "p_value"]
    resolution = tests["p_value"].min() * len(start)

    verdict = all_or_some(start < 0.01)
    if verdict != "reproduced" and resolution >= 0.01:
        verdict = "inconclusive"  # too few permutations: no outcome could have passed

    told = tell("T2", start=start, drowned=drowned, one_law=one_law)
    return Judgement(verdict, told, estimate=start.max())


def _judge_t3(tables: Tables) -> Judgement:
    closed = tables["line_costs"]
    # The closed form is tabulated at every sampled theta, and between.
    keys, names = ["cost", "width", "theta"], ("_sampled", "")
    both = tables["line_estimates"].merge(closed, on=keys, suffixes=names, validate="1:1")
    apart = (both["value_sampled"] - both["value"]).abs() / both["value_error"]
    z = {m: apart[both["cost"] == m] for m in MIXTURES}  # in standard errors
    worst = {m: z[m].max() for m in MIXTURES}
    # One mixture's comparisons are a family: Holm-corrected, at the level of 3 standard errors.
    p_value, level = {m: holm(2 * norm.sf(z[m])).min() for m in MIXTURES}, 2 * norm.sf(3)
    near, left = _near_zero(closed, width=0)
    thick = closed.loc[closed["width"] > 0, "width"]
    left_thick = None if thick.empty else _near_zero(closed, thick.min())[1][list(DIVERGENCES)]

    others_stay = all(np.isinf(near[c]) or left[c] > 0.99 for c in DIVERGENCES)
    verdict = all_or_some(p_value[m] >= level and left[m] < 1e-3 and others_stay for m in MIXTURES)

    told = tell(
        "T3",
        theta=closed.loc[closed["width"] == 0, "theta"].agg(["min", "max"]),
        left=left[[*MIXTURES, "W1"]],
        near=near,
        worst=worst,
        p_value=p_value,
        level=level,
        thickness=thick.min(),
        left_thick=left_thick,
    )
    return Judgement(verdict, told, estimate=max(worst.values()))


def _near_zero(closed: pd.DataFrame, width: float) -> tuple[pd.Series, pd.Series]:
    """By cost: the value at the smallest theta, and as a share of that at the largest."""
    lines = closed[closed["width"] == width].sort_values("theta").groupby("cost")["value"]
    return lines.first(), lines.first() / lines.last()


def _judge_t4(tables: Tables) -> Judgement:
    table, samples = tables["affinity"], tables["one_law"]
    scales = dict(zip(MIXTURES, (1, tables["parameters"]["n_scales"].iloc[0]), strict=True))
    whole = table[table["lower"] == table["lower"].min()].set_index(["n_scales", "laws"])
    laws = deviation_on_laws(samples, MIXTURES)
    deviation = {
        (name, kind): share
        for name, count in scales.items()
        for kind, share in {**whole["deviation"].loc[count], "laws": laws[name]}.items()
    }
    slopes = complexity_slopes(samples, "value").set_index(["cost", "dimension"])["estimate"]
    pairs = tables["pairs_of_laws"]

    verdict = all_or_some(share <= 0.02 for share in deviation.values())

    told = tell(
        "T4",
        lower=whole["lower"].iloc[0],
        upper=whole["upper"].iloc[0],
        deviation=deviation,
        w1=slopes["W1"],
        ngmg=slopes[list(MIXTURES)].agg(["min", "max"]),
        pairs=len(pairs) // len(MIXTURES),
        bound=(pairs["value"] / pairs["bound"]).groupby(pairs["cost"]).max()[list(MIXTURES)],
    )
    mixture = [share for (name, _), share in deviation.items() if name == MIXTURES[1]]
    return Judgement(verdict, told, estimate=max(mixture))


def _judge_t5(tables: Tables) -> Judgement:
    by_laws = {"lines": tables["descent_lines"], "helix": tables["descent_helix"]}
    final = pd.concat(
        table[table["step"] == table["step"].max()].assign(laws=laws)
        for laws, table in by_laws.items()
    )
    final["found"] = final["error"] < 0.01
    starts = final.groupby(["cost", "laws", "width"])["found"].agg(found="sum", starts="size")
    thin = starts.xs(0, level="width")
    worst = final.loc[(final["width"] == 0) & final["cost"].isin(MIXTURES), "error"].max()

    every = (thin["found"] == thin["starts"]).groupby("cost").all()
    others_fail = not (thin["found"] == thin["starts"])[list(DIVERGENCES)].any()
    verdict = all_or_some(every["W1"] and every[m] and others_fail for m in MIXTURES)

    judged = [(cost, laws) for cost in ("W1", *MIXTURES) for laws in by_laws]
    told = tell(
        "T5",
        judged={arm: thin.loc[arm] for arm in judged},
        divergences=thin.loc[list(DIVERGENCES), "found"].sum(),
        worst=worst,
        thick=starts.query("cost in @DIVERGENCES and width > 0").droplevel("width"),
    )
    return Judgement(verdict, told, estimate=worst)


def _judge_t6(tables: Tables) -> Judgement:
    if tables["sample_complexity"]["n"].nunique() < 2:
        return Judgement("inconclusive", tell("no_slope"))
    slopes = complexity_slopes(tables["sample_complexity"])
    ours = slopes[slopes["cost"].isin(MIXTURES)]
    apart = (ours["estimate"] + 0.5).abs()

    verdict = all_or_some(apart <= 0.1)

    farthest, w1 = ours.loc[apart.idxmax()], slopes[slopes["cost"] == "W1"]
    told = tell("T6", ours=ours, farthest=farthest, w1=w1.set_index("dimension")["estimate"])
    ends = farthest["low"], farthest["high"]
    return Judgement(verdict, told, farthest["estimate"], *ends, n_seeds=int(ours["repeats"].min()))


_JUDGES = (_judge_t1, _judge_t2, _judge_t3, _judge_t4, _judge_t5, _judge_t6)
CLAIMS = tuple(
    Claim(f"T{number}", "theory_checks", judge) for number, judge in enumerate(_JUDGES, 1)
)
