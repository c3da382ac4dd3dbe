"""Claims F1 to F8, fixed before the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import pandas as pd

from gmmdiff.core.checks import require
from gmmdiff.judging.claims import Claim, Judgement, by_rule, cell_table
from gmmdiff.judging.contrasts import Contrast, cells, undertrained
from gmmdiff.judging.rule import DELTA, Cell
from gmmdiff.judging.tables import Tables

OWN_UNIT = "class, own unit"  # the class arm at a scale that counts its own smallest distance
COMPOSED = 0.05  # margin of F3
POINTS, MIXTURES = " and s_c == 0", " and s_c > 0"
ENDS, CONDITIONAL = ("defect", "wrong"), ("class", "feature")


def _query(granularity: str, group: str, condition: str = "drawn") -> str:
    """The rows of one arm and group, conditions drawn, as points' are, or at the mean."""
    arm = f"granularity == '{granularity}' and group == '{group}'"
    return f"{arm} and condition == '{condition}'"


def _features(metric: str, group: str, second: str = "class", only: str = "") -> Contrast:
    """Features against another granularity, at every scale that both have."""
    arms = {arm: _query(arm, group) + only for arm in ("feature", second)}
    name = {"metric": metric, "contrast": f"feature against {second}", "group": group}
    return Contrast(name, arms)


def _mixture(metric: str, group: str, granularity: str, condition: str = "drawn") -> Contrast:
    """Mixtures against points of one granularity."""
    rows = _query(granularity, group, condition)
    arms = {"mixture": rows + MIXTURES, "point": _query(granularity, group) + POINTS}
    at = "" if condition == "drawn" else " at its mean"
    name = {"metric": metric, "granularity": granularity, "contrast": f"mixture{at} against point"}
    return Contrast(name | ({} if group == "all" else {"group": group}), arms, by=())


def _composed(metric: str, granularity: str) -> Contrast:
    """Held-out against rare combinations in one arm."""
    arms = {group: _query(granularity, group) for group in ("held out", "rare")}
    name = {"metric": metric, "granularity": granularity, "contrast": "held out against rare"}
    return Contrast(name, arms, margin=COMPOSED)


def _other_classes(metric: str, group: str) -> list[Contrast]:
    """Features against classes at the scale of their own unit, and those that could compose."""
    own = _features(metric, group, OWN_UNIT)
    arms = own.arms | {"feature": own.arms["feature"] + MIXTURES}
    return [own._replace(arms=arms, by=()), _features(metric, group, "shared")]


JUDGED = {  # what decides each claim
    "F1": [_features("defect", "seen")],
    "F2": [_features("defect", "rare")],
    "F3": [_composed(metric, "feature") for metric in ENDS],
    "F4": [_mixture("defect", "seen", arm) for arm in CONDITIONAL],
    "F5": [_features(metric, "rare", "scrambled", POINTS) for metric in ("defect", "law")],
    "F6": [_features("copy", "rare")],
    "F7": [_features("law", "rare")],
    "F8": [_mixture("validation_loss", "all", arm) for arm in CONDITIONAL],
}
BESIDE = {  # the controls of each claim, where the runs have them
    "F1": _other_classes("defect", "seen"),
    "F2": _other_classes("defect", "rare"),
    "F3": [_composed(end, arm) for end in ENDS for arm in ("shared", "scrambled", "class")],
    "F4": [_mixture("defect", "seen", arm, "mean") for arm in CONDITIONAL],
    "F5": [_features(metric, "seen", "scrambled", POINTS) for metric in ("defect", "law")],
    "F6": _other_classes("copy", "rare"),
    "F7": _other_classes("law", "rare"),
    "F8": [],
}


class Setting(NamedTuple):
    """One world and regime, and which claims are asked there.

    Its runs are the table of the world's name, of that regime where the table has a column for it.

    Attributes:
        longer: the table of the same arms trained much longer, where there is one.
    """

    world: str
    regime: str
    claims: Sequence[str]
    longer: str = ""

    def runs(self, tables: Tables) -> pd.DataFrame:
        """Tidy run table; class runs at a scale that no feature run has are ``OWN_UNIT``."""
        owner = f"{self.world}, {self.regime}"
        require(self.world in tables, owner, "tables", f"with one of {self.world}", list(tables))
        table = tables[self.world]
        table = table[table["regime"] == self.regime] if "regime" in table else table
        scales = table.loc[table["granularity"] == "feature", "s_c"]
        own = (table["granularity"] == "class") & ~table["s_c"].isin(scales)
        return table.assign(granularity=table["granularity"].mask(own, OWN_UNIT))

    def cells(self, claim: str, runs: pd.DataFrame) -> list[Cell]:
        """What decides a claim here."""
        return cells(f"{claim} ({self.world}, {self.regime})", JUDGED[claim], runs)

    def judge(self, tables: Tables, claim: str) -> Judgement:
        """A claim by the rule of ``gmmdiff.judging.rule``."""
        runs = self.runs(tables)
        short = undertrained(JUDGED[claim], runs, tables.get(self.longer))
        return by_rule(claim, self.cells(claim, runs), short)


EVERY, DENSE = ("F1", "F2", "F3", "F4", "F6", "F7", "F8"), ("F1", "F4", "F8")
SETTINGS = (
    Setting("arcs", "dense", EVERY),
    Setting("faces", "sparse", [*JUDGED], "story"),
    Setting("faces", "dense", DENSE),
    Setting("digits", "sparse", EVERY),
    Setting("digits", "dense", DENSE),
)


def claim_of(claim: str, setting: Setting, stage: str) -> Claim:
    """A claim in a world and regime: the published ones, or your own.

    Args:
        claim: F1 to F8.
        stage: the name under which it is filed.

    Example: ``claim_of("F1", Setting("moons", "dense", ["F1"]), "moons").judge({"moons": runs})``.
    """
    delta = {one.metric: one.margin or DELTA[one.metric] for one in JUDGED[claim]}
    judge = partial(setting.judge, claim=claim)
    return Claim(claim, stage, judge, setting.world, setting.regime, delta)


CLAIMS = tuple(
    claim_of(claim, setting, "feature_vs_class")
    for claim in JUDGED
    for setting in SETTINGS
    if claim in setting.claims
)


def contrasts_table(tables: Tables, setting: Setting) -> pd.DataFrame:
    """The cells of a setting's claims and the controls beside them, see ``cell_table``; a control,
    which decides nothing, needs two seeds and has an interval and a state of its own.
    """
    runs, found = setting.runs(tables), []
    for claim in setting.claims:
        found.append(cell_table(claim, setting.cells(claim, runs)).assign(control=False))
        beside = ((one, *of_cell) for one in BESIDE[claim] for of_cell in one.values(runs))
        for one, factors, values in beside:
            if len(values) > 1:
                table = cell_table(claim, [one.cell(runs, factors, values)])
                found.append(table.assign(control=True))
    return pd.concat(found, ignore_index=True)
