"""Claims F1 to F8, fixed before the numbers."""

from __future__ import annotations

from functools import partial

import pandas as pd

from gmmdiff.judging.claims import PAPER, Claim, Judgement, Tables, by_rule, cell_rows, cell_table
from gmmdiff.judging.contrasts import JUDGED, SETTINGS, Setting
from gmmdiff.judging.rule import DELTA, assess

STATEMENTS = {  # claim -> statement, source, what is compared
    "F1": (
        "Feature conditioning gives fewer defects than class conditioning, both with Gaussian "
        "mixtures.",
        PAPER,
        "defects on seen combinations, feature minus class, for points and for mixtures",
    ),
    "F2": (
        "The same on rare combinations.",
        f"{PAPER} (ours to ask)",
        "as F1, on rare combinations",
    ),
    "F3": (
        "Features compose: combinations held out of training come out nearly as rare ones do.",
        "ours",
        "defects, and wrong samples alone, of the feature arm, held-out minus rare combinations, "
        "below 5 percentage points, for points and for mixtures",
    ),
    "F4": (
        "It is the mixture: mixture conditions give fewer defects than points.",
        "digests of the full text (conditions as distributions)",
        "defects on seen combinations, mixture minus point at equal granularity, conditions drawn",
    ),
    "F5": (
        "It is the features' meaning, not that codes are shared.",
        "ours",
        "feature against scrambled on rare combinations, points: difference of defects, ratio of "
        "energy distances to the true law",
    ),
    "F6": (
        "Features copy less than classes.",
        "ours",
        "copies of training samples on rare combinations, feature minus class, for points and for "
        "mixtures",
    ),
    "F7": (
        "Features come nearer to the true law.",
        "ours",
        "energy distance to the true law on rare combinations, feature over class, for points and "
        "for mixtures",
    ),
    "F8": (
        "Mixtures generalise better than points.",
        "ours",
        "validation loss at its minimum, mixture over point at equal granularity",
    ),
}


def judge(tables: Tables, setting: Setting, claim: str) -> Judgement:
    """By the rule of ``gmmdiff.judging.rule``."""
    cells = setting.cells(claim, setting.runs(tables))
    return by_rule(claim, cells, undertrained=setting.undertrained(claim, tables))


def claim_of(claim: str, setting: Setting, stage: str) -> Claim:
    """A claim in a world and regime: the published ones, or your own.

    Args:
        claim: F1 to F8.
        stage: the name under which it is filed.

    Example: ``claim_of("F1", Setting("moons", "dense", ["F1"]), "moons").judge({"moons": runs})``.
    """
    statement, source, compared = STATEMENTS[claim]
    return Claim(
        id=claim,
        statement=statement,
        source=source,
        criterion=f"{compared}, in every cell of the world and regime",
        stage=stage,
        judge=partial(judge, setting=setting, claim=claim),
        world=setting.world,
        regime=setting.regime,
        delta={one.metric: one.margin or DELTA[one.metric] for one in JUDGED[claim]},
    )


CLAIMS = tuple(
    claim_of(claim, setting, "feature_vs_class")
    for claim in STATEMENTS
    for setting in SETTINGS
    if claim in setting.claims
)


def contrasts_table(tables: Tables, setting: Setting) -> pd.DataFrame:
    """The cells of a setting's claims and the controls beside them, see ``cell_table``; a control,
    which decides nothing, has an interval and a state of its own.
    """
    runs, found = setting.runs(tables), []
    for claim in setting.claims:
        cells = setting.cells(claim, runs)
        found.append(cell_table(claim, cell_rows(cells, *assess(claim, cells))))
        for cell in setting.controls(claim, runs):
            alone = cell_rows([cell], *assess(claim, [cell]))
            found.append(cell_table(claim, alone).assign(control=True))
    table = pd.concat(found, ignore_index=True)
    return table.assign(control=table["control"].eq(True))
