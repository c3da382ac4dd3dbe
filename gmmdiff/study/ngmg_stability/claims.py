"""Claims N1 to N6, fixed before the numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import numpy as np

from gmmdiff.study.claims import PAPER, Claim, Judgement, Tables, by_rule, sentence
from gmmdiff.study.ngmg_stability.contrasts import (
    OURS,
    REFERENCE,
    defects,
    errors,
    helps,
    measured_seeds,
    steadiness,
)
from gmmdiff.study.statistics import paired_by_seed
from gmmdiff.study.verdicts import Cell, smallest_effect

tell = partial(sentence, "ngmg_stability")
# The rival's smallest share over the cells in the pilot, which had the published parameters but
# five other seeds (REPRODUCING.md); of the variation, a ratio.
STEADINESS = {"spike_rate": smallest_effect(0.0017), "variation": float(np.log(1.1))}
ERROR = {"error": smallest_effect(0.098)}
DEFECTS = {"defect": smallest_effect(0.0253)}
UNITS = {"variation": "factor"}
# The same on faces, where rivals differ more.
FACES_BCE = STEADINESS | {"spike_rate": smallest_effect(0.0221)}
FACES_BRIER = STEADINESS | {"spike_rate": smallest_effect(0.0001)}
FACES_DEFECTS = {"defect": smallest_effect(0.5112)}
FACES_WITHOUT = {"miss": smallest_effect(0.5112), "held-out miss": smallest_effect(0.7781)}
FACES_HELPED = {"miss": smallest_effect(0.6540), "held-out miss": smallest_effect(0.9219)}

Cells = Callable[[Tables], Iterable[Cell]]


def judge(tables: Tables, claim: str, cells: Cells) -> Judgement:
    """By the rule of ``gmmdiff.study.verdicts``."""
    return by_rule(claim, list(cells(tables)), partial(tell, "cells", ours=OURS, units=UNITS))


def _more_than_brier(tables: Tables) -> Iterable[Cell]:
    """N4: both questions, against the Brier score."""
    measured, _ = measured_seeds(tables, "Brier", "raw")
    yield from steadiness(tables, "Brier", "raw", STEADINESS)
    yield from errors(tables, "Brier", ERROR, measured["variation"].index)


def on_faces(tables: Tables, cells: Cells) -> Iterable[Cell]:
    """Cells of the runs on faces."""
    return cells({name: tables[f"faces_{name}"] for name in ("joint", "choice")})


def reference_sentence(tables: Tables) -> str:
    """What twice the steps change for the denoiser without a cost, and its defects, in words with
    their numbers.
    """
    joint = tables["joint"]
    reference = joint[joint["lam"] == 0]
    short, long = sorted(reference["steps"].unique())
    changes = []
    for rate, table in reference.groupby("learning_rate"):
        losses = table[table["metric"] == "final_loss"]
        found = paired_by_seed(
            losses.assign(value=np.log(losses["value"])), f"steps == {long}", f"steps == {short}"
        )
        ends = np.expm1(found)
        shares = table[(table["metric"] == "defect") & (table["steps"] == short)]
        changes.append((rate, *ends, shares["value"].mean()))
    return tell("reference", short=short, long=long, changes=changes)


STATEMENTS = {  # claim -> statement, source
    "N1": ("NGMG trains more stably than binary cross entropy.", PAPER),
    "N2": ("The same when both send back equally strong signals.", f"{PAPER} (ours to ask)"),
    "N3": ("NGMG's classifier beats binary cross entropy's in some tasks.", PAPER),
    "N4": ("It is more than the Brier score.", "ours"),
    "N5": ("The stability costs no quality.", "ours"),
    "N6a": ("A classifier trained with NGMG helps the denoiser.", "ours"),
    "N6b": ("NGMG lets the classifier help more than binary cross entropy does.", "ours"),
}
STEADIER = (
    "spike rate and variation of the denoiser's gradient norm, NGMG minus BCE, at every lambda "
    "and learning rate where either is above the run without a cost by delta"
)
MATCHED = "as N1, at signals matched to BCE's root mean square at the start"
NO_WORSE = (
    "defects on seen combinations, NGMG minus BCE and NGMG minus the run without a cost, below "
    "delta at every lambda and learning rate"
)
HELPS = "misses on seen and on held-out combinations, NGMG minus {}, each cost at its best lambda, "
HELPS += "chosen on other seeds"
ARCS = {  # claim -> what is compared, its cells, their deltas
    "N1": (STEADIER, partial(steadiness, rival="BCE", signal="raw", delta=STEADINESS), STEADINESS),
    "N2": (
        MATCHED,
        partial(steadiness, rival="BCE", signal="matched", delta=STEADINESS),
        STEADINESS,
    ),
    "N3": (
        "classification error at each cost's best learning rate, NGMG minus BCE, at every label "
        "noise; partly, at some, is what the claim says",
        partial(errors, rival="BCE", delta=ERROR),
        ERROR,
    ),
    "N4": (
        "as N1 and, where it is asked, as N3, NGMG minus Brier",
        _more_than_brier,
        STEADINESS | ERROR,
    ),
    "N5": (NO_WORSE, partial(defects, delta=DEFECTS), DEFECTS),
}
FACES = {
    "N1": (STEADIER, partial(steadiness, rival="BCE", signal="raw", delta=FACES_BCE), FACES_BCE),
    "N2": (MATCHED, partial(steadiness, rival="BCE", signal="matched", delta=FACES_BCE), FACES_BCE),
    "N4": (
        "as N1 and, where it is asked, as N3, NGMG minus Brier",
        partial(steadiness, rival="Brier", signal="raw", delta=FACES_BRIER),
        FACES_BRIER,
    ),
    "N5": (NO_WORSE, partial(defects, delta=FACES_DEFECTS), FACES_DEFECTS),
    "N6a": (
        HELPS.format("the run without a cost"),
        partial(helps, rival=REFERENCE, delta=FACES_WITHOUT),
        FACES_WITHOUT,
    ),
    "N6b": (HELPS.format("BCE"), partial(helps, rival="BCE", delta=FACES_HELPED), FACES_HELPED),
}
SETTINGS = {
    ("arcs", "dense"): ARCS,
    ("faces", "sparse"): {
        claim: (compared, partial(on_faces, cells=cells), delta)
        for claim, (compared, cells, delta) in FACES.items()
    },
}
CLAIMS = tuple(
    Claim(
        id=claim,
        statement=statement,
        source=source,
        criterion=asked[claim][0],
        stage="ngmg_stability",
        judge=partial(judge, claim=claim, cells=asked[claim][1]),
        world=world,
        regime=regime,
        delta=asked[claim][2],
    )
    for claim, (statement, source) in STATEMENTS.items()
    for (world, regime), asked in SETTINGS.items()
    if claim in asked
)
