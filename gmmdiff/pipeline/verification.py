"""Does another machine find what was published?  Metric by metric, verdict by verdict, byte by
byte.

A metric is one number of one arm: the interquartile mean over its repeats.  It is reproduced when
it lies in the published 95 % interval, widened on either side by that interval's own width and by
``RELATIVE`` of the published estimate plus ``ABSOLUTE``: seeds and data are the same everywhere,
but rounding differs between processors, and training amplifies it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from gmmdiff.core.statistics import bootstrap
from gmmdiff.core.streams import numpy_stream

RELATIVE, ABSOLUTE = 0.01, 0.001
# Stage -> table -> (what tells repeats apart, the columns with values); what is made of these,
# such as levels and tolerances, tells nothing new.
REPEATS = {
    "theory_checks": {
        "affinity": ((), ("deviation",)),
        "latent_tests": (("feature", "class"), ("energy_distance",)),
        "line_estimates": ((), ("value", "slope")),
        "one_law": (("repeat",), ("value",)),
        "pairs_of_laws": (("pair",), ("w1", "value", "bound")),
        "sample_complexity": (("repeat",), ("error",)),
        "sampler_orders": ((), ("error",)),
    },
    "feature_vs_class": {
        "arcs": (("seed",), ("value",)),
        "samplers": (("seed",), ("value",)),
        "faces": (("seed",), ("value",)),
        "faces_map": (("seed",), ("value",)),
        "story": (("seed",), ("value",)),
        "notices": (("seed",), ("value",)),
        "digits": (("seed",), ("value",)),
        "validation": (("seed",), ("loss",)),
    },
    "ngmg_stability": {
        "classifier": (("seed",), ("value",)),
        "joint": (("seed",), ("value",)),
        "faces_joint": (("seed",), ("value",)),
        "faces_choice": (("seed",), ("value",)),
        "known_terms": ((), ("measured",)),
    },
}
KEY = ["stage", "table", "arm", "metric"]
CLAIM = ("id", "world", "regime")  # what tells one verdict from another


def claim_name(claim: Mapping[str, Any]) -> str:
    """A claim in one world and regime: "T1", "F1, faces, sparse"."""
    return ", ".join(claim[part] for part in CLAIM if claim[part])


def summarise(stage: str, tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Every metric of one stage: stage, table, arm, metric, estimate, low, high, n (of repeats).

    Where there is one repeat, or all agree, the interval is the estimate itself.  Values that are
    not finite count as missing; a metric without any is left out, and so is a table that an older
    snapshot does not have.
    """
    rows = []
    for name, (repeats, values) in REPEATS[stage].items():
        if name not in tables:
            continue
        table = tables[name]
        told = [column for column in ("metric",) if column in table]
        factors = [
            c
            for c in table
            if c not in (*repeats, *values, *told)
            and not c.endswith("_error")
            and c not in ("p_value", "expected")
        ]
        for value in values:
            for (*arm, metric), group in table.assign(of=table[told[0]] if told else value).groupby(
                [*factors, "of"], sort=False, dropna=False
            ):
                found = group[value].to_numpy(float)
                found = found[np.isfinite(found)]
                if not len(found):
                    continue
                text = ", ".join(
                    f"{factor} {level}" for factor, level in zip(factors, arm, strict=True)
                )
                same = len(found) == 1 or np.ptp(found) == 0
                interval = (
                    (found[0],) * 3
                    if same
                    else bootstrap(
                        [found], numpy_stream(0, f"{stage} {name} {text} {metric}"), resamples=1000
                    )
                )
                rows.append((stage, name, text, metric, *interval, len(found)))
    return pd.DataFrame(rows, columns=[*KEY, "estimate", "low", "high", "n"])


def compare_metrics(here: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """Both summaries side by side, one row a published metric: published estimate and widened
    interval, here, inside.

    ``here`` is NaN and ``inside`` False for a metric that this machine did not make.
    """
    both = published.merge(
        here[[*KEY, "estimate"]].rename(columns={"estimate": "here"}),
        on=KEY,
        how="left",
        validate="1:1",
    )
    width = both["high"] - both["low"] + RELATIVE * both["estimate"].abs() + ABSOLUTE
    both = both.assign(low=both["low"] - width, high=both["high"] + width)
    return both.assign(inside=both["here"].between(both["low"], both["high"]))


def compare_verdicts(
    here: Sequence[Mapping[str, Any]], published: Sequence[Mapping[str, Any]]
) -> pd.DataFrame:
    """One row a published claim, world and regime: these, statement, verdicts here ("missing"
    without one) and published, same.
    """
    ours = {tuple(claim.get(name) for name in CLAIM): claim["verdict"] for claim in here}
    rows = []
    for claim in published:
        key = tuple(claim.get(name) for name in CLAIM)
        rows.append((*key, claim["statement"], ours.get(key, "missing"), claim["verdict"]))
    table = pd.DataFrame(rows, columns=[*CLAIM, "statement", "here", "published"], dtype=object)
    return table.assign(same=table["here"] == table["published"])


def differences(
    here: Mapping[str, Any], there: Mapping[str, Any], path: str = ""
) -> list[dict[str, Any]]:
    """Leaves that differ between two nested mappings: name, here, published; None where one side
    has none.
    """
    found = []
    for name in dict.fromkeys([*there, *here]):
        one, other, full = here.get(name), there.get(name), f"{path}{name}"
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            found += differences(one, other, f"{full}.")
        elif one != other:
            found.append({"name": full, "here": one, "published": other})
    return found


def conclusion(verdicts: pd.DataFrame, metrics: pd.DataFrame, differing_files: int) -> str:
    """In words: "byte-identical", "reproduced" (every verdict and metric), "verdicts reproduced" or
    "not reproduced".
    """
    if not verdicts["same"].all():
        return "not reproduced"
    if not differing_files:
        return "byte-identical"
    return "reproduced" if metrics["inside"].all() else "verdicts reproduced"
