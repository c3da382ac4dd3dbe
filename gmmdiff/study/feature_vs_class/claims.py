"""Claims F1 to F4: statements and criteria, fixed before the numbers, and the rules that judge the tables."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from gmmdiff.core.streams import numpy_stream
from gmmdiff.study.claims import ENOUGH_SEEDS, PAPER, Claim, Judgement, Tables, Verdict
from gmmdiff.study.statistics import bootstrap, holm, iqm, paired_by_seed

FEATURE_CLAIMS = {  # claim -> (first arm, second arm, group); first minus second, paired by seed
    "F1": ("feature", "class", "seen"),
    "F2": ("feature", "class", "rare"),
    "F3": ("feature", "class", "held out"),
}
ENOUGH_CHANGE = 0.02  # of the share of defects, that a longer training may still take away


def feature_contrasts(tables: Tables) -> pd.DataFrame:
    """The contrasts of F1 to F4, one row each, with Holm's correction within each claim.

    ``judged`` marks those that decide; the others are controls: the same contrast for point conditions
    (s_c = 0), and for the two parts of a defect.
    """
    runs = tables["runs"]
    mixture = runs.loc[runs["granularity"] != "real", "s_c"].max()
    rows = []
    for claim, (first, second, group) in FEATURE_CLAIMS.items():
        for s_c, metric in (
            (mixture, "defect"),
            (0.0, "defect"),
            (mixture, "off_manifold"),
            (mixture, "wrong_attributes"),
        ):
            part = runs[
                (runs["group"] == group) & (runs["metric"] == metric) & (runs["s_c"] == s_c)
            ]
            for n_train, table in part.groupby("n_train"):
                labels = {
                    "claim": claim,
                    "arm": f"{first} - {second}",
                    "metric": metric,
                    "s_c": s_c,
                    "n_train": n_train,
                }
                contrast = paired_by_seed(
                    table, f"granularity == '{first}'", f"granularity == '{second}'", **labels
                )
                rows.append(contrast | {"judged": s_c == mixture and metric == "defect"})
    part = runs[(runs["group"] == "seen") & (runs["metric"] == "defect")]
    for granularity in ("feature", "class", "coarse"):
        for n_train, table in part[part["granularity"] == granularity].groupby("n_train"):
            labels = {
                "claim": "F4",
                "arm": f"{granularity}: mixture - point",
                "metric": "defect",
                "s_c": mixture,
                "n_train": n_train,
            }
            rows.append(
                paired_by_seed(table, f"s_c == {mixture}", "s_c == 0", **labels) | {"judged": True}
            )
    found = pd.DataFrame(rows)
    corrected = (
        found[found["judged"]].groupby("claim")["p_value"].transform(lambda p: holm(p.to_numpy()))
    )
    return found.assign(corrected=corrected)


def length_contrasts(tables: Tables) -> pd.DataFrame:
    """What the longest training of the sweep changes: one row an arm, seen combinations, paired by seed."""
    seen = tables["steps"].query("group == 'seen' and metric == 'defect' and granularity != 'real'")
    published, longest = tables["runs"]["steps"].iloc[0], seen["steps"].max()
    rows = [
        paired_by_seed(
            table,
            f"steps == {longest}",
            f"steps == {published}",
            granularity=granularity,
            s_c=s_c,
            steps=longest,
        )
        for (granularity, s_c), table in seen.groupby(["granularity", "s_c"])
    ]
    return pd.DataFrame(rows)


def _judge_feature(claim: str) -> Callable[[Tables], Judgement]:
    def judge(tables: Tables) -> Judgement:
        contrasts = feature_contrasts(tables)
        mine = contrasts[(contrasts["claim"] == claim) & contrasts["judged"]]
        below = mine["high"] < 0
        verdict: Verdict = (
            "reproduced" if below.all() else "partly" if below.any() else "not reproduced"
        )
        seeds = int(mine["n_seeds"].min())
        lengths = length_contrasts(tables)
        if claim in FEATURE_CLAIMS:  # F4 compares every arm
            lengths = lengths[
                lengths["granularity"].isin(FEATURE_CLAIMS[claim][:2])
                & (lengths["s_c"] == lengths["s_c"].max())
            ]
        falling = lengths[lengths["low"] < -ENOUGH_CHANGE]
        if seeds < ENOUGH_SEEDS or len(falling):
            verdict = "inconclusive"
        each = "; ".join(
            f"{row.arm}, n_train {row.n_train}: {row.estimate:+.3f} [{row.low:+.3f}, {row.high:+.3f}]"
            for row in mine.itertuples()
        )
        point = contrasts[(contrasts["claim"] == claim) & (contrasts["s_c"] == 0)]
        control = ", ".join(
            f"{row.estimate:+.3f} [{row.low:+.3f}, {row.high:+.3f}]" for row in point.itertuples()
        )
        surely = mine[mine["corrected"] < 0.05]
        undertrained = "; ".join(
            f"{row.granularity}, s_c = {row.s_c:g} {row.estimate:+.3f} [{row.low:+.3f}, {row.high:+.3f}]"
            for row in falling.itertuples()
        )
        extreme = mine.loc[mine["high"].idxmax()]
        return Judgement(
            verdict,
            (
                f"Not trained long enough for a verdict: {int(falling['steps'].iloc[0])} steps change the defects by {undertrained}. "
                if undertrained
                else ""
            )
            + f"Difference of the share of defects (IQM over {seeds} seeds and its 95 % interval): {each}. Sign-flip test of the "
            f"mean, Holm-corrected at 5 %: {(surely['estimate'] < 0).sum()} of {len(mine)} below 0, {(surely['estimate'] > 0).sum()} above."
            + (f" Control, point conditions: {control}." if control else ""),
            estimate=extreme["estimate"],
            ci_low=extreme["low"],
            ci_high=extreme["high"],
            n_seeds=seeds,
        )

    return judge


def training_sentence(tables: Tables, evaluations: int) -> str:
    """Floor, best arm, training length and sampler, in words with their numbers."""
    rng = numpy_stream(0, "training sentence")

    def described(values: pd.Series) -> str:
        found = bootstrap([values.to_numpy()], rng)
        return f"{found.estimate:.1%} [{found.low:.1%}, {found.high:.1%}]"

    runs, lengths, samplers = tables["runs"], tables["steps"], tables["samplers"]
    seen = runs[
        (runs["group"] == "seen")
        & (runs["metric"] == "defect")
        & (runs["n_train"] == runs["n_train"].max())
    ]
    floor = seen.loc[seen["granularity"] == "real", "value"].mean()
    arms = {
        name: group["value"]
        for name, group in seen[seen["granularity"].isin(["coarse", "class", "feature"])].groupby(
            ["granularity", "s_c"]
        )
    }
    best = min(arms, key=lambda name: iqm([arms[name].to_numpy()]))
    longer = lengths[
        (lengths["group"] == "seen")
        & (lengths["metric"] == "defect")
        & (lengths["granularity"] == "feature")
    ]
    by_length = []
    for s_c, table in longer.groupby("s_c"):
        levels = {steps: described(group["value"]) for steps, group in table.groupby("steps")}
        published, longest = seen["steps"].iloc[0], max(levels)
        change = paired_by_seed(table, f"steps == {longest}", f"steps == {published}")
        enough = "long enough" if change["low"] >= -ENOUGH_CHANGE else "not long enough"
        judged = f"from {published} to {longest} {change['estimate']:+.3f} [{change['low']:+.3f}, {change['high']:+.3f}], {enough}"
        by_length.append(
            f"s_c = {s_c:g}: {'; '.join(f'{n} steps {d}' for n, d in levels.items())}; {judged}"
        )
    few, counts = (
        f"sampler != 'ancestral' and evaluations == {evaluations}",
        samplers.groupby("sampler")["evaluations"].max(),
    )
    others = {"ancestral": "ancestral", "DPM-Solver++(2M)": "the same"}
    checks = {
        f"{name} with {counts[key]}": paired_by_seed(
            samplers, few, f"sampler == '{key}' and evaluations == {counts[key]}"
        )
        for key, name in others.items()
    }
    sampled = ", minus ".join(
        f"{name} {c['estimate']:+.4f} [{c['low']:+.4f}, {c['high']:+.4f}]"
        for name, c in checks.items()
    )
    last = lengths[
        (lengths["group"] == "seen")
        & (lengths["metric"] == "defect")
        & (lengths["steps"] == lengths["steps"].max())
    ]
    mixture = last["s_c"].max()
    ends = {
        "feature minus class, mixtures": (
            f"granularity == 'feature' and s_c == {mixture}",
            f"granularity == 'class' and s_c == {mixture}",
        ),
        "mixture minus point, feature": (
            f"granularity == 'feature' and s_c == {mixture}",
            "granularity == 'feature' and s_c == 0",
        ),
        "mixture minus point, class": (
            f"granularity == 'class' and s_c == {mixture}",
            "granularity == 'class' and s_c == 0",
        ),
    }
    at_end = {name: paired_by_seed(last, *queries) for name, queries in ends.items()}
    stated = ", ".join(
        f"{name} {c['estimate']:+.3f} [{c['low']:+.3f}, {c['high']:+.3f}]"
        for name, c in at_end.items()
    )
    return (
        f"Seen combinations, n_train {seen['n_train'].max()}. Floor (real samples): {floor:.2%} defects. Fewest defects of the "
        f"conditional arms: {best[0]}, s_c = {best[1]:g}: {described(arms[best])}. Feature arm against training length, {'. '.join(by_length)}. "
        f"After the longest training: {stated}. "
        f"DPM-Solver++(2M) with {evaluations} evaluations, paired, minus {sampled}."
    )


CLAIMS = (
    Claim(
        "F1",
        "Feature conditioning gives fewer defects than class conditioning, both with Gaussian mixtures.",
        PAPER,
        "paired interval of the defects below 0 at every n_train; partly: at some, without correction for their number; "
        "inconclusive: below 10 seeds, or while twice the training may lower a compared arm's defects by more than 0.02",
        "feature_vs_class",
        _judge_feature("F1"),
    ),
    Claim(
        "F2",
        "The same on rare combinations.",
        PAPER + " (ours to ask)",
        "as F1",
        "feature_vs_class",
        _judge_feature("F2"),
    ),
    Claim(
        "F3",
        "The same on combinations held out of training.",
        PAPER + " (ours to ask)",
        "as F1",
        "feature_vs_class",
        _judge_feature("F3"),
    ),
    Claim(
        "F4",
        "It is the mixture, not only the features: mixture conditions give fewer defects than points.",
        "digests of the full text (conditions as distributions)",
        "paired interval of mixture minus point below 0 at equal granularity, for every granularity and n_train; partly and "
        "inconclusive: as F1",
        "feature_vs_class",
        _judge_feature("F4"),
    ),
)
