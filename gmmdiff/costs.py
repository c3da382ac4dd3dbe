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

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

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
TOGETHER = 512  # elements of a run whose signals are measured at once: what lies between stays in the caches


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
        size = max([len(cost.potential.scales) for cost in rows if cost.potential], default=1)
        scales, weights = torch.ones(len(rows), size, dtype=torch.float64), torch.zeros(len(rows), size, dtype=torch.float64)
        for i, row in enumerate(rows):
            if row.potential:
                scales[i, : len(row.potential.scales)], weights[i, : len(row.potential.scales)] = row.potential.scales, row.potential.weights
        bce, brier, mae, ngmg = (
            self.factors.double() * torch.tensor([getattr(row, part) for row in rows]) for part in ("bce", "brier", "mae", "ngmg")
        )
        amplitude = (ngmg.unsqueeze(1) * weights).unsqueeze(1)
        same = (part.view(-1, 1, 1) for part in (bce, brier, mae, amplitude.sum(2)))
        self._exact = _Terms(*same, amplitude, amplitude / scales.unsqueeze(1) ** 2, -0.5 * math.log2(math.e) / scales.unsqueeze(2) ** 2)
        self._terms: dict[tuple, _Terms] = {}

    def _check(self, x: Tensor, labels: Tensor, kind: str) -> None:
        require(kind in KINDS, "Costs", "kind", f"one of {', '.join(KINDS)}", repr(kind))
        good = x.ndim == 3 and len(x) == len(self.names)
        require(good, "Costs", kind, f"({len(self.names)}, batch, m)", tuple(x.shape))
        require(labels.shape == x.shape, "Costs", "labels", f"{tuple(x.shape)} as the {kind}", tuple(labels.shape))
        if (bad := labels * (1 - labels) != 0).any():
            refuse("Costs", "labels", "0 or 1", labels[bad].unique().tolist()[:5])
        low, high = map(float, x.detach().aminmax())
        within = kind == "logits" or (low >= 0 and high <= 1)
        require(within, "Costs", kind, "in [0, 1]", f"values in [{low:g}, {high:g}]")

    def _prepare(self, x: Tensor, labels: Tensor, kind: str, trusted: bool) -> _Seen:
        if not trusted:
            self._check(x, labels, kind)
        place = x.dtype, x.device
        if place not in self._terms:
            self._terms[place] = _Terms(*(part.to(x) for part in self._exact))
        x, tiny, terms = x.contiguous(), torch.finfo(x.dtype).eps, self._terms[place]
        p = x.sigmoid() if kind == "logits" else x.clamp(tiny, 1 - tiny)
        e = p - labels
        squares = e.square().flatten(1).unsqueeze(1)
        return _Seen(terms, x, labels, kind == "logits", p, e, squares, torch.exp2(terms.decay * squares))  # exp is slow where it is denormal

    @staticmethod
    def _value(seen: _Seen) -> Tensor:
        terms, x, labels, logits, p, e, squares, decayed = seen
        potential = torch.baddbmm(torch.addcmul(terms.whole, terms.brier, squares), terms.amplitude, decayed, alpha=-1)
        bce = softplus(x) - labels * x if logits else -torch.log(torch.where(labels > 0, p, 1 - p))
        return potential.view_as(e) + terms.bce * bce + terms.mae * e.abs()

    @staticmethod
    def _gradient(seen: _Seen) -> Tensor:
        terms, x, labels, logits, p, e, _, decayed = seen
        pull = torch.baddbmm(terms.brier, terms.pull, decayed, beta=2)
        slope = torch.addcmul(pull.view_as(e) * e, terms.mae, e.sign())
        if logits:
            return torch.addcmul(slope * p * (-x).sigmoid(), terms.bce, e)
        return terms.bce / torch.where(labels > 0, -p, 1 - p) + slope

    def value(self, x: Tensor, labels: Tensor, kind: str = "logits", trusted: bool = False) -> Tensor:
        """The cost of every element, differentiable: x and labels ``(runs, batch, m)`` -> ``(runs, batch, m)``.

        Args:
            labels: 0 or 1. kind: ``"logits"``, or ``"probabilities"`` in [0, 1], which BCE sees no nearer to
                0 and 1 than the precision of x. trusted: arguments known to be good are not looked at.

        Raises:
            ValueError: on another kind or shape, or labels that are neither 0 nor 1.
        """
        return self._value(self._prepare(x, labels, kind, trusted))

    def gradient(self, x: Tensor, labels: Tensor, kind: str = "logits", trusted: bool = False) -> Tensor:
        """The derivative of ``value`` in x: the signal sent backward; arguments and errors as there."""
        return self._gradient(self._prepare(x, labels, kind, trusted))

    def value_and_gradient(self, x: Tensor, labels: Tensor, kind: str = "logits", trusted: bool = False) -> tuple[Tensor, Tensor]:
        """``value`` and ``gradient`` in little more than the time of one."""
        seen = self._prepare(x, labels, kind, trusted)
        return self._value(seen), self._gradient(seen)


class _Seen(NamedTuple):
    """What value and gradient have in common."""

    terms: _Terms
    x: Tensor  # side by side in memory
    labels: Tensor
    logits: bool
    p: Tensor
    e: Tensor
    squares: Tensor  # e^2, (runs, 1, elements)
    decayed: Tensor  # exp(-e^2 / 2 s_k^2), (runs, K, elements)


class _Terms(NamedTuple):
    """What the rows weigh their terms with, factors included; every row has as many components as the largest mixture.

    What a row lacks has weight 0, which changes no bit of its sums: its neighbours' costs do not matter.
    """

    bce: Tensor  # (runs, 1, 1), as the next three
    brier: Tensor
    mae: Tensor
    whole: Tensor  # sum of the amplitudes
    amplitude: Tensor  # w_k, (runs, 1, K)
    pull: Tensor  # w_k / s_k^2, (runs, 1, K)
    decay: Tensor  # -1 / 2 s_k^2, in powers of two, (runs, K, 1)


def matched(names: Sequence[str], logits: Tensor, labels: Tensor) -> Costs:
    """Costs whose signals have, row by row, the root mean square of BCE's at these logits ``(runs, batch, m)``.

    Raises:
        ValueError: as ``Costs``; and where a row's cost sends no signal there.
    """
    pieces = list(zip(*(whole.detach().flatten(1).unsqueeze(2).split(TOGETHER, 1) for whole in (logits, labels)), strict=True))
    own, bce = (
        sum(costs.gradient(*piece).double().square().sum((1, 2)) for piece in pieces).div(logits[0].numel()).sqrt()
        for costs in (Costs(names), Costs(["BCE"] * len(names)))
    )
    require(bool((own > 0).all()), "matched", "the signal of every cost", "> 0 at these logits", own.tolist())
    return Costs(names, bce / own)
