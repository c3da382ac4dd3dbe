"""What a claim is, what is found of it, and how that is put in words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gmmdiff.judging import rule as verdicts
from gmmdiff.judging.tables import Tables

# A claim of theory passes or not; a sampled one gets what ``gmmdiff.judging.rule`` says.
Verdict = Literal["not reproduced"] | verdicts.Verdict
HERE = Path(__file__).parent
STATEMENTS = yaml.safe_load((HERE / "statements.yaml").read_text(encoding="utf-8"))  # by id
# Of factors, where they are called otherwise.
WORDS = {"lam": "lambda", "label_noise": "label noise", "rival_lam": "the rival's"}


@dataclass(frozen=True)
class Judgement:
    """What the tables say of one claim; fields that do not apply are None.

    Attributes:
        cells: of a sampled claim, one object a cell: factors, estimate, low, high, delta, state,
            margin, levels.
        replication: share of the resamples of the seeds that give the same verdict.
        rival_verdict: the most frequent other verdict, of a fragile one.
        undertrained: whether some of the runs compared would still gain from longer training.
    """

    verdict: Verdict
    details: str
    estimate: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    n_seeds: int | None = None
    cells: Sequence[Mapping[str, Any]] = ()
    replication: float | None = None
    rival_verdict: Verdict | None = None
    undertrained: bool = False


@dataclass(frozen=True)
class Claim:
    """One claim, fixed before the numbers; statements.yaml holds its words.

    Attributes:
        stage: the name under which it is filed.
        world, regime: where it is asked; None for a claim of theory.
        delta: of a sampled claim, the smallest difference that matters, by metric.
    """

    id: str
    stage: str
    judge: Callable[[Tables], Judgement]
    world: str | None = None
    regime: str | None = None
    delta: Mapping[str, float] | None = None

    @property
    def words(self) -> dict[str, str]:
        """Its statement, source and criterion."""
        return STATEMENTS[self.id]


def by_rule(claim: str, cells: Sequence[verdicts.Cell], undertrained: bool = False) -> Judgement:
    """A sampled claim, judged by ``verdicts.rule``; its details are a sentence a cell.

    Its estimate is that of the judged cell whose interval ends highest, in units of its delta.
    """
    ruling = verdicts.rule(claim, cells)
    judged = [cell for cell in ruling.cells if cell.state != "not judged"] or ruling.cells
    hardest = max(judged, key=lambda cell: cell.high / cell.delta)
    rows, seeds = [cell._asdict() for cell in ruling.cells], len(cells[0].difference)
    return Judgement(
        ruling.verdict,
        sentence("cells", "cells", cells=rows, seeds=seeds, undertrained=undertrained),
        *(hardest.estimate, hardest.low, hardest.high),
        n_seeds=seeds,
        cells=rows,
        replication=ruling.replication,
        rival_verdict=ruling.rival,
        undertrained=undertrained,
    )


def cell_table(name: str, cells: Sequence[verdicts.Cell]) -> pd.DataFrame:
    """Cells with their states, a row each: claim, metric, group, name, estimate, low, high, delta,
    state, margin, and the arms' own levels, first and second.

    Args:
        name: of the claim and, after a comma, of the control; it owns the random streams.
    """
    table = []
    for row in (cell._asdict() for cell in verdicts.assess(name, cells)):
        factors, (first, second) = row.pop("factors"), row.pop("levels")
        named = {"claim": name.partition(",")[0], "metric": factors["metric"]}
        named |= {"group": factors.get("group", ""), "name": cell_name(factors)}
        table.append(named | row | {"first": first["estimate"], "second": second["estimate"]})
    return pd.DataFrame(table)


def cell_name(factors: Mapping[str, Any]) -> str:
    """A cell without its metric and group: "feature against class, points, lambda 1"."""

    def told(name: str, level: Any) -> str:
        if isinstance(level, str):
            return level
        if name == "s_c":
            return f"mixtures ({level:g})" if level else "points"
        return f"{WORDS.get(name, name)} {level:g}"

    own = [one for one in factors.items() if one[0] not in ("metric", "group")]
    own.sort(key=lambda one: not isinstance(one[1], str))  # words, then numbers
    return ", ".join(told(*one) for one in own)


def in_units(value: Any, metric: str) -> Any:
    """A difference as it is read: in percentage points, of a ratio as a factor."""
    return np.exp(value) if metric in verdicts.RATIOS else 100 * value


def listed(values: Mapping[str, float], form: str) -> str:
    """``{"a": 0.5, "b": 2}`` -> "a 0.5, b 2", every value in one format."""
    return ", ".join(f"{name} {value:{form}}" for name, value in values.items())


TEMPLATES = Environment(
    loader=FileSystemLoader(HERE), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
TEMPLATES.filters |= {"form": format, "listed": listed, "cell_name": cell_name}
TEMPLATES.filters["in_units"] = in_units
TEMPLATES.globals["RATIOS"] = verdicts.RATIOS


def sentence(template: str, macro: str, **numbers: Any) -> str:
    """What was measured, in words: a macro of TEMPLATE.j2 on these numbers, on one line."""
    module = TEMPLATES.get_template(f"{template}.j2").module
    return " ".join(getattr(module, macro)(**numbers).split())


def show_verdicts(claims: Iterable[Claim], tables: Tables, *ids: str) -> None:
    """Displays what the tables so far say of the claims with these ids."""
    from IPython.display import Markdown, display

    for claim in (claim for claim in claims if claim.id in ids):
        found = claim.judge(tables)
        where = f" ({claim.world}, {claim.regime})" if claim.world else ""
        verdict = found.verdict + (", undertrained" if found.undertrained else "")
        statement, _, criterion = claim.words.values()
        told = f"**{claim.id}{where}. {statement}** *{verdict}* ({criterion})."
        if found.replication is not None and found.verdict != "inconclusive":
            told += f" Resampled seeds give the same verdict in {found.replication:.0%}."
        display(Markdown(f"{told} {found.details}"))
