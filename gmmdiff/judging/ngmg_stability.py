"""Claims N1 to N6, fixed before the numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import pandas as pd

from gmmdiff.judging.claims import PAPER, Claim, Judgement, Tables, by_rule, cell_rows, cell_table
from gmmdiff.judging.ngmg_contrasts import (
    NO_WORSE,
    REFERENCE,
    UNSTEADY,
    errors,
    helps,
    no_worse,
    steadiness,
    undertrained,
)
from gmmdiff.judging.rule import DELTA, Cell, assess

JOINT = {"arcs": "joint", "faces": "faces_joint"}  # experiment B's table, by world


def _more_than_brier(tables: Tables, world: str) -> Iterator[Cell]:
    """N4: both questions where both are asked."""
    yield from steadiness(tables[JOINT[world]], "Brier", "raw")
    if world == "arcs":
        yield from errors(tables["classifier"], "Brier")


def _helps(rival: str, tables: Tables, world: str) -> Iterator[Cell]:
    return helps(tables[JOINT[world]], tables["faces_choice"], rival)


class Asked(NamedTuple):
    """One claim, wherever it is asked."""

    statement: str
    source: str
    criterion: str
    cells: Callable[[Tables, str], Iterator[Cell]]  # of a world
    metrics: tuple[str, ...]
    worlds: tuple[str, ...] = ("arcs", "faces")


STEADIER = (
    "spike rate and variation of the denoiser's gradient norm, NGMG against {}, at every lambda "
    "where either is above the run without a cost by delta"
)
HELPS = (
    "defects on rare and on held-out combinations, NGMG against {}, each cost at the lambda of its "
    "least validation loss on other seeds"
)
ASKED = {
    "N1": Asked(
        "NGMG trains more stably than binary cross entropy.",
        PAPER,
        STEADIER.format("BCE"),
        lambda tables, world: steadiness(tables[JOINT[world]], "BCE", "raw"),
        UNSTEADY,
    ),
    "N2": Asked(
        "The same when both send back equally strong signals.",
        f"{PAPER} (ours to ask)",
        "as N1, with signals matched to BCE's root mean square at the start",
        lambda tables, world: steadiness(tables[JOINT[world]], "BCE", "matched"),
        UNSTEADY,
    ),
    "N3": Asked(
        "NGMG's classifier beats binary cross entropy's in some tasks.",
        PAPER,
        "classification error at each cost's best learning rate, NGMG against BCE, at every label "
        "noise; partly, in some tasks, is what the claim says",
        lambda tables, world: errors(tables["classifier"], "BCE"),
        ("error",),
        ("arcs",),
    ),
    "N4": Asked(
        "It is more than the Brier score.",
        "ours",
        f"{STEADIER.format('Brier')}; on arcs also as N3, NGMG against Brier",
        _more_than_brier,
        (*UNSTEADY, "error"),
    ),
    "N5": Asked(
        "The stability costs no quality.",
        "ours",
        "validation loss and defects on seen combinations, less than delta above the run without a "
        "cost, at lambda 0.1 and 1, of those that are tried",
        lambda tables, world: no_worse(tables[JOINT[world]]),
        tuple(NO_WORSE),
    ),
    "N6a": Asked(
        "A classifier trained with NGMG helps the denoiser.",
        "ours",
        HELPS.format("the run without a cost"),
        partial(_helps, REFERENCE),
        ("defect",),
        ("faces",),
    ),
    "N6b": Asked(
        "NGMG lets the classifier help more than binary cross entropy does.",
        "ours",
        HELPS.format("BCE"),
        partial(_helps, "BCE"),
        ("defect",),
        ("faces",),
    ),
}
REGIMES = {"arcs": "dense", "faces": "sparse"}


def judge(tables: Tables, claim: str, world: str) -> Judgement:
    """By the rule of ``gmmdiff.judging.rule``; N3's classifiers have no validation loss."""
    cells = list(ASKED[claim].cells(tables, world))
    short = claim != "N3" and undertrained(tables[JOINT[world]], cells)
    return by_rule(claim, cells, undertrained=short)


def cells(tables: Tables) -> pd.DataFrame:
    """Every cell of every claim, and BCE beside the run without a cost, N5's control, see
    ``gmmdiff.judging.claims.cell_table``; columns world and control.
    """
    found = []
    for world, joint in JOINT.items():
        asked = {
            claim: one.cells(tables, world) for claim, one in ASKED.items() if world in one.worlds
        }
        asked["N5, BCE"] = no_worse(tables[joint], "BCE")
        for claim, own in asked.items():
            own = list(own)
            table = cell_table(claim.partition(",")[0], cell_rows(own, *assess(claim, own)))
            found.append(table.assign(world=world, control=claim.endswith("BCE")))
    return pd.concat(found, ignore_index=True)


CLAIMS = tuple(
    Claim(
        id=claim,
        statement=asked.statement,
        source=asked.source,
        criterion=asked.criterion,
        stage="ngmg_stability",
        judge=partial(judge, claim=claim, world=world),
        world=world,
        regime=REGIMES[world],
        delta={
            metric: DELTA[metric]
            for metric in asked.metrics
            if metric != "error" or world == "arcs"
        },
    )
    for claim, asked in ASKED.items()
    for world in asked.worlds
)
