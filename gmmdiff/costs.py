"""What a classifier can be trained with: BCE, Brier, MAE and NGMG under one signature, value and gradient.

All act on one probability p = sigmoid(logit) and its label a in {0, 1}, element by element, and all but BCE
depend on the discrepancy e = p - a alone:

    BCE                  -log of the probability of the label
    Brier                e^2 (Brier 1950, Monthly Weather Review 78:1)
    MAE                  |e|
    NGMG                 psi(e) = sum_k w_k (1 - exp(-e^2 / 2 s_k^2)), our reconstruction (see ``gmmdiff.ngmg``)
    NGMG with entropy    a convex combination of NGMG and BCE

Every cost is a weighted sum of these four terms, so rows with different costs share one program.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from gmmdiff.checks import refuse, require, require_finite
from gmmdiff.ngmg import NGMG


@dataclass(frozen=True)
class Cost:
    """bce * BCE + brier * e^2 + mae * |e| + ngmg * psi(e)."""

    bce: float = 0.0
    brier: float = 0.0
    mae: float = 0.0
    ngmg: float = 0.0
    potential: NGMG | None = None


COSTS = {
    "BCE": Cost(bce=1.0),
    "Brier": Cost(brier=1.0),
    "MAE": Cost(mae=1.0),
    "NGMG s=0.5": Cost(ngmg=1.0, potential=NGMG([0.5])),
    "NGMG s=1": Cost(ngmg=1.0, potential=NGMG([1.0])),
    "NGMG scale mixture": Cost(ngmg=1.0, potential=NGMG.scale_mixture(0.02, 20.0, 16)),
    "NGMG with entropy": Cost(bce=0.5, ngmg=0.5, potential=NGMG([1.0])),
}
KINDS = ("logits", "probabilities")


class Costs:
    """One cost a row of a run table.

    Args:
        names: of ``COSTS``, one a row.
        factors: ``(runs,)`` >= 0, what a row's value and gradient are multiplied with; default 1.

    Raises:
        ValueError: on an unknown name, no row, or a factor below 0 or not finite.
    """

    def __init__(self, names: Sequence[str], factors: Tensor | None = None) -> None:
        good = not isinstance(names, str) and len(names) > 0
        require(good, "Costs", "names", "a list of at least one", repr(names))
        for name in names:
            require(name in COSTS, "Costs", "cost", f"one of {', '.join(COSTS)}", repr(name))
        self.names = tuple(names)
        self.factors = torch.ones(len(names)) if factors is None else factors
        require(self.factors.shape == (len(names),), "Costs", "factors", f"({len(names)},)", tuple(self.factors.shape))
        require_finite("Costs", "factors", self.factors)
        require(bool((self.factors >= 0).all()), "Costs", "factors", ">= 0", float(self.factors.min()))
        rows = [COSTS[name] for name in names]
        self._parts = {part: torch.tensor([getattr(row, part) for row in rows]) for part in ("bce", "brier", "mae", "ngmg")}
        self._potentials = [
            (COSTS[name].potential, torch.tensor([i for i, other in enumerate(names) if other == name]))
            for name in dict.fromkeys(names)
            if COSTS[name].potential is not None
        ]

    def _prepare(self, x: Tensor, labels: Tensor, kind: str) -> tuple[Tensor, dict[str, Tensor]]:
        """Probabilities, and every term's factor ``(runs, 1, 1)`` in x's precision and place."""
        require(kind in KINDS, "Costs", "kind", f"one of {', '.join(KINDS)}", repr(kind))
        good = x.ndim == 3 and len(x) == len(self.names)
        require(good, "Costs", kind, f"({len(self.names)}, batch, m)", tuple(x.shape))
        require(labels.shape == x.shape, "Costs", "labels", f"{tuple(x.shape)} as the {kind}", tuple(labels.shape))
        bad = labels * (1 - labels) != 0
        if bad.any():
            refuse("Costs", "labels", "0 or 1", labels[bad].unique().tolist()[:5])
        factors = {part: (self.factors * amount).to(x).view(-1, 1, 1) for part, amount in self._parts.items()}
        if kind == "logits":
            return x.sigmoid(), factors
        low, high = map(float, x.detach().aminmax())
        require(low >= 0 and high <= 1, "Costs", kind, "in [0, 1]", f"values in [{low:g}, {high:g}]")
        tiny = torch.finfo(x.dtype).eps
        return x.clamp(tiny, 1 - tiny), factors

    def value(self, x: Tensor, labels: Tensor, kind: str = "logits") -> Tensor:
        """The cost of every element, differentiable: x and labels ``(runs, batch, m)`` -> ``(runs, batch, m)``.

        Args:
            labels: 0 or 1. kind: ``"logits"``, or ``"probabilities"`` in [0, 1], which BCE sees no nearer to
                0 and 1 than the precision of x.

        Raises:
            ValueError: on another kind or shape, or labels that are neither 0 nor 1.
        """
        p, factors = self._prepare(x, labels, kind)
        e = p - labels
        bce = softplus(x) - labels * x if kind == "logits" else -torch.log(torch.where(labels > 0, p, 1 - p))
        found = factors["bce"] * bce + factors["brier"] * e**2 + factors["mae"] * e.abs()
        for ngmg, rows in self._potentials:
            found = found.index_add(0, rows, factors["ngmg"][rows] * ngmg.potential(e[rows].unsqueeze(-1)))
        return found

    def gradient(self, x: Tensor, labels: Tensor, kind: str = "logits") -> Tensor:
        """The derivative of ``value`` in x: the signal sent backward; arguments and errors as there."""
        p, factors = self._prepare(x, labels, kind)
        e = p - labels
        slope = factors["brier"] * 2 * e + factors["mae"] * e.sign()
        for ngmg, rows in self._potentials:
            slope = slope.index_add(0, rows, factors["ngmg"][rows] * ngmg.gradient(e[rows].unsqueeze(-1)).squeeze(-1))
        if kind == "logits":
            return factors["bce"] * e + slope * p * (-x).sigmoid()
        return factors["bce"] / torch.where(labels > 0, -p, 1 - p) + slope


def matched(names: Sequence[str], logits: Tensor, labels: Tensor) -> Costs:
    """Costs whose signals have, row by row, the root mean square of BCE's at these logits ``(runs, batch, m)``.

    Raises:
        ValueError: as ``Costs``; and where a row's cost sends no signal there.
    """
    logits = logits.detach()
    own, bce = (Costs(n).gradient(logits, labels).double().square().flatten(1).mean(1).sqrt() for n in (names, ["BCE"] * len(names)))
    require(bool((own > 0).all()), "matched", "the signal of every cost", "> 0 at these logits", own.tolist())
    return Costs(names, bce / own)
