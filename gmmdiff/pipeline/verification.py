"""Does another machine find what was published?  Byte by byte, metric by metric, verdict by
verdict: the content of reports/verification.json.

A metric is one number of one arm: the interquartile mean over its repeats.  It is reproduced when
it lies in the published 95 % interval, widened on either side by that interval's own width and by
``RELATIVE`` of the published estimate plus ``ABSOLUTE``: seeds and data are the same everywhere,
but rounding differs between processors, and training amplifies it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gmmdiff.core.statistics import bootstrap
from gmmdiff.core.streams import numpy_stream
from gmmdiff.judging.tables import stage_tables
from gmmdiff.pipeline.errors import BadInput
from gmmdiff.pipeline.parameters import PARAMS, REPORTS, read_params
from gmmdiff.pipeline.snapshot import PUBLISHED, run_records, snapshot_files

RELATIVE, ABSOLUTE = 0.01, 0.001
TABLES = {  # by stage; what is made of these, such as levels and tolerances, tells nothing new
    "theory_checks": (
        *("affinity", "latent_tests", "line_estimates", "one_law", "pairs_of_laws"),
        *("sample_complexity", "sampler_orders"),
    ),
    "feature_vs_class": (
        *("validation", "arcs", "samplers", "faces", "faces_map", "story", "notices", "digits"),
    ),
    "ngmg_stability": ("known_terms", "classifier", "joint", "faces_joint", "faces_choice"),
}
REPEATS = ("seed", "repeat", "pair", "feature", "class")  # columns that tell repeats apart
VALUES = ("deviation", "energy_distance", "w1", "value", "slope", "bound", "error", "loss")
VALUES += ("measured",)
BESIDE = ("p_value", "expected", "value_error", "slope_error")  # columns that tell arms not apart
KEY = ["stage", "table", "arm", "metric"]
CLAIM = ["id", "world", "regime"]  # what tells one verdict from another
OF_ONE_RUN = ("host", "started", "seconds", "memory")  # in a record, not compared


def claim_name(claim: Mapping[str, Any]) -> str:
    """A claim in one world and regime: "T1", "F1, faces, sparse"."""
    return ", ".join(claim[part] for part in CLAIM if claim[part])


def summarise(stage: str, tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Every metric of one stage: stage, table, arm, metric, estimate, low, high, n (of repeats).

    Where there is one repeat, or all agree, the interval is the estimate itself.  Values that are
    not finite count as missing; a metric without any is left out.
    """
    rows = []
    for name in TABLES[stage]:
        table = tables[name].drop(columns=[*BESIDE], errors="ignore")
        if "metric" not in table:
            values = [c for c in table if c in VALUES]
            rest = table.drop(columns=values)
            table = pd.concat([rest.assign(metric=one, value=table[one]) for one in values])
        factors = [c for c in table if c not in (*REPEATS, "metric", "value")]
        finite = table[np.isfinite(table["value"])]
        groups = finite.groupby([*factors, "metric"], sort=False, dropna=False)["value"]
        for (*levels, metric), group in groups:
            arm = ", ".join(f"{factor} {at}" for factor, at in zip(factors, levels, strict=True))
            found = group.to_numpy(float)
            interval = (found[0],) * 3
            if np.ptp(found):
                rng = numpy_stream(0, f"{stage} {name} {arm} {metric}")
                interval = bootstrap([found], rng, resamples=1000)
            rows.append((stage, name, arm, metric, *interval, len(found)))
    return pd.DataFrame(rows, columns=[*KEY, "estimate", "low", "high", "n"])


def metrics_of(reports: Path) -> pd.DataFrame:
    """Every metric of every stage with claims, from a folder of reports."""
    tables = {stage: stage_tables(stage, reports / "tables") for stage in TABLES}
    return pd.concat([summarise(*one) for one in tables.items()], ignore_index=True)


def compare_metrics(here: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """Both summaries side by side, one row a published metric: published estimate and widened
    interval; here, NaN for a metric that this machine did not make; inside.
    """
    ours = here[[*KEY, "estimate"]].rename(columns={"estimate": "here"})
    both = published.merge(ours, on=KEY, how="left", validate="1:1")
    width = both["high"] - both["low"] + RELATIVE * both["estimate"].abs() + ABSOLUTE
    both = both.assign(low=both["low"] - width, high=both["high"] + width)
    return both.assign(inside=both["here"].between(both["low"], both["high"]))


def compare_verdicts(
    here: Sequence[Mapping[str, Any]], published: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """One row a published claim, world and regime: these, statement, verdicts here ("missing"
    without one) and published, same.
    """
    ours, rows = {claim_name(claim): claim["verdict"] for claim in here}, []
    for claim in published:
        pair = {"here": ours.get(claim_name(claim), "missing"), "published": claim["verdict"]}
        row = {name: claim[name] for name in (*CLAIM, "statement")}
        rows.append(row | pair | {"same": pair["here"] == pair["published"]})
    return rows


def differences(here: Mapping[str, Any], there: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Leaves that differ between two nested mappings: name, here, published; None where one side
    has none.
    """
    ours, theirs = (pd.json_normalize(dict(one)).to_dict("records")[0] for one in (here, there))
    return [
        {"name": name, "here": ours.get(name), "published": theirs.get(name)}
        for name in dict.fromkeys([*theirs, *ours])
        if ours.get(name) != theirs.get(name)
    ]


def conclusion(verdicts: bool, metrics: bool, files: bool) -> str:
    """What is reproduced, each of them wholly or not, in words."""
    if not verdicts:
        return "not reproduced"
    if files:
        return "byte-identical"
    return "reproduced" if metrics else "verdicts reproduced"


def _machines(folder: Path) -> dict[str, str]:
    """What the stages ran on, one record: several values, where stages differ, are joined."""
    records = pd.json_normalize(list(run_records(folder).values()))
    kept = records.drop(columns=[c for c in records if c.split(".")[0] in OF_ONE_RUN])
    return {name: ", ".join(dict.fromkeys(kept[name].astype(str))) for name in kept}


def verify(here: Path = REPORTS, there: Path = PUBLISHED, params: Path = PARAMS) -> dict[str, Any]:
    """This machine's results beside the published ones."""
    both = here / "claims.json", there / "claims.json"
    for path in both:
        if not path.is_file():
            raise BadInput(f"{path}: no such file; run `dvc repro` first")
    ours, theirs = (json.loads(path.read_text(encoding="utf-8")) for path in both)
    verdicts = compare_verdicts(ours, theirs)
    try:
        published = metrics_of(there)
    except (FileNotFoundError, KeyError):  # after a change of the code, or of the snapshot
        mend = f"`make publish` replaces it, `git checkout {there}` brings it back"
        raise BadInput(f"{there}: its tables are not as this code reads them; {mend}") from None
    metrics = compare_metrics(metrics_of(here), published)
    made, files = snapshot_files(here), snapshot_files(there)
    differing = [path for path, digest in files.items() if made.get(path) != digest]
    outside = metrics[~metrics["inside"]].replace({np.nan: None}).to_dict("records")
    same = all(row["same"] for row in verdicts)
    return {
        "conclusion": conclusion(same, not outside, not differing),
        "verdicts": verdicts,
        "metrics": {"of": len(metrics), "inside": len(metrics) - len(outside), "outside": outside},
        "files": {"of": len(files), "same": len(files) - len(differing), "differing": differing},
        "parameters": differences(read_params(params), read_params(there / "params.yaml")),
        "machine": differences(*(_machines(one / "environment") for one in (here, there))),
    }


def show(found: Mapping[str, Any]) -> int:
    """Prints what ``verify`` found; returns 1 when a verdict differs, else 0."""
    print(f"\n{'claim':20} {'here':15} {'published':15} statement")
    for claim in found["verdicts"]:
        verdicts = f"{claim['here']:15} {claim['published']:15}"
        print(f"{claim_name(claim):20} {verdicts} {claim['statement']}")
    metrics, files = found["metrics"], found["files"]
    inside = f"{metrics['inside']} of {metrics['of']} metrics"
    print(f"\n{inside} lie in their published interval, widened as stated.")
    for row in metrics["outside"][:10]:
        metric = f"{row['stage']}, {row['arm']}: {row['metric']}"
        print(f"  outside: {metric} {row['here']} not in [{row['low']:.4g}, {row['high']:.4g}]")
    print(f"{files['same']} of {files['of']} files are byte-identical to the published ones.")
    for kind in ("parameters", "machine"):
        for row in found[kind]:
            print(f"other {kind}: {row['name']} {row['here']}, published {row['published']}")
    pages = f"more in {REPORTS / 'verification.html'}, the report is {REPORTS / 'index.html'}"
    print(f"\n{found['conclusion']}; {pages}")
    return int(found["conclusion"] == "not reproduced")
