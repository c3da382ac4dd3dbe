"""What a classifier can be trained with: BCE, Brier, MAE and NGMG under one signature, value and gradient.

All act on one probability p = sigmoid(logit) and its label a in {0, 1}, element by element, and all but BCE
depend on the discrepancy e = p - a alone:

    BCE                  -log of the probability of the label
    Brier                e^2 (Brier 1950, Monthly Weather Review 78:1)
    MAE                  |e|
    NGMG                 psi(e) = sum_k w_k (1 - exp(-e^2 / 2 s_k^2)), our reconstruction (see ``gmmdiff.core.ngmg``)
    NGMG with entropy    a convex combination of NGMG and BCE

Every cost is a weighted sum of these four terms, so rows with different costs share one program.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad, softplus

from gmmdiff.core.checks import refuse, require, require_finite
from gmmdiff.core.costs import COSTS

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
        require(
            self.factors.shape == (len(names),),
            "Costs",
            "factors",
            f"({len(names)},)",
            tuple(self.factors.shape),
        )
        require_finite("Costs", "factors", self.factors)
        require(
            bool((self.factors >= 0).all()), "Costs", "factors", ">= 0", float(self.factors.min())
        )
        rows = [COSTS[name] for name in names]
        bce, brier, mae, ngmg = (
            self.factors.double() * torch.tensor([getattr(row, part) for row in rows])
            for part in ("bce", "brier", "mae", "ngmg")
        )
        scales = [row.potential.scales if row.potential else torch.ones(1) for row in rows]
        weights = [row.potential.weights if row.potential else torch.ones(1) for row in rows]
        single, mixed = (
            [i for i, scale in enumerate(scales) if (len(scale) > 1) == several]
            for several in (False, True)
        )
        self._exact = _Terms(
            *(part.view(-1, 1, 1) for part in (bce, brier, mae)),
            [_Components.of(rows, ngmg, scales, weights) for rows in (single, mixed) if rows],
        )
        self._terms: dict[tuple, _Terms] = {}

    def _prepare(
        self, x: Tensor, labels: Tensor, kind: str, trusted: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, _Terms]:
        """x side by side in memory, its probabilities, e, e^2 ``(runs, 1, elements)``, and the terms in x's precision and place."""
        if kind not in KINDS:
            refuse("Costs", "kind", f"one of {', '.join(KINDS)}", repr(kind))
        if x.ndim != 3 or len(x) != len(self.names):
            refuse("Costs", kind, f"({len(self.names)}, batch, m)", tuple(x.shape))
        if labels.shape != x.shape:
            refuse("Costs", "labels", f"{tuple(x.shape)} as the {kind}", tuple(labels.shape))
        if not trusted:
            if (bad := labels * (1 - labels) != 0).any():
                refuse("Costs", "labels", "0 or 1", labels[bad].unique().tolist()[:5])
            low, high = map(float, x.detach().aminmax())
            within = kind == "logits" or (low >= 0 and high <= 1)
            require(within, "Costs", kind, "in [0, 1]", f"values in [{low:g}, {high:g}]")
        place = x.dtype, x.device
        if place not in self._terms:
            self._terms[place] = self._exact.to(x)
        x, tiny = x.contiguous(), torch.finfo(x.dtype).eps
        p = x.sigmoid() if kind == "logits" else x.clamp(tiny, 1 - tiny)
        e = p - labels
        return x, p, e, e.square().flatten(1).unsqueeze(1), self._terms[place]

    def value(
        self, x: Tensor, labels: Tensor, kind: str = "logits", trusted: bool = False
    ) -> Tensor:
        """The cost of every element, differentiable: x and labels ``(runs, batch, m)`` -> ``(runs, batch, m)``.

        Args:
            labels: 0 or 1. kind: ``"logits"``, or ``"probabilities"`` in [0, 1], which BCE sees no nearer to
                0 and 1 than the precision of x. trusted: labels known to be 0 or 1 are not looked at.

        Raises:
            ValueError: on another kind or shape, or labels that are neither 0 nor 1.
        """
        x, p, e, squares, terms = self._prepare(x, labels, kind, trusted)
        bce = (
            softplus(x) - labels * x
            if kind == "logits"
            else -torch.log(torch.where(labels > 0, p, 1 - p))
        )
        potential = terms.brier * squares
        for part in terms.components:
            of_part = torch.bmm(
                part.amplitude, torch.expm1(part.decay * squares.index_select(0, part.rows))
            )
            potential = potential.index_add(0, part.rows, of_part, alpha=-1)
        return potential.view_as(e) + terms.bce * bce + terms.mae * e.abs()

    def gradient(
        self, x: Tensor, labels: Tensor, kind: str = "logits", trusted: bool = False
    ) -> Tensor:
        """The derivative of ``value`` in x: the signal sent backward; arguments and errors as there."""
        x, p, e, squares, terms = self._prepare(x, labels, kind, trusted)
        pull = (2 * terms.brier).expand_as(squares)
        for part in terms.components:
            of_part = torch.bmm(
                part.pull, torch.exp2(part.halvings * squares.index_select(0, part.rows))
            )  # exp is slow where it is denormal
            pull = pull.index_add(0, part.rows, of_part)
        slope = torch.addcmul(pull.view_as(e) * e, terms.mae, e.sign())
        if kind == "logits":
            return torch.addcmul(slope * p * (-x).sigmoid(), terms.bce, e)
        return terms.bce / torch.where(labels > 0, -p, 1 - p) + slope


class _Components(NamedTuple):
    """The NGMG terms, factors included, of those rows that have one component, or of those that have several.

    So a row's arithmetic is the same whatever its neighbours' costs; who has fewer than K has some of weight 0.
    """

    rows: Tensor  # (M,), which of the runs
    amplitude: Tensor  # w_k, (M, 1, K)
    pull: Tensor  # w_k / s_k^2, (M, 1, K)
    decay: Tensor  # -1 / 2 s_k^2, (M, K, 1)
    halvings: Tensor  # the same for powers of two

    @staticmethod
    def of(
        rows: Sequence[int], factors: Tensor, scales: Sequence[Tensor], weights: Sequence[Tensor]
    ) -> _Components:
        size = (
            max(len(cost.potential.scales) for cost in COSTS.values() if cost.potential)
            if len(scales[rows[0]]) > 1
            else 1
        )
        scale, weight = (
            torch.stack(
                [pad(of[row].double(), (0, size - len(of[row])), value=rest) for row in rows]
            )
            for of, rest in ((scales, 1.0), (weights, 0.0))
        )
        amplitude, decay = (
            (factors[rows].unsqueeze(1) * weight).unsqueeze(1),
            -0.5 / scale.unsqueeze(2) ** 2,
        )
        return _Components(
            torch.tensor(rows),
            amplitude,
            amplitude / scale.unsqueeze(1) ** 2,
            decay,
            decay * math.log2(math.e),
        )


class _Terms(NamedTuple):
    """What the rows weigh their terms with, factors included."""

    bce: Tensor  # (runs, 1, 1), as the next two
    brier: Tensor
    mae: Tensor
    components: list[_Components]

    def to(self, x: Tensor) -> _Terms:
        """The same in the precision and place of x."""
        parts = [
            _Components(part.rows.to(x.device), *(term.to(x) for term in part[1:]))
            for part in self.components
        ]
        return _Terms(*(term.to(x) for term in self[:3]), parts)


def matched(names: Sequence[str], logits: Tensor, labels: Tensor) -> Costs:
    """Costs whose signals have, row by row, the root mean square of BCE's at these logits ``(runs, batch, m)``.

    Raises:
        ValueError: as ``Costs``; and where a row's cost sends no signal there.
    """
    pieces = list(
        zip(
            *(
                whole.detach().flatten(1).unsqueeze(2).split(TOGETHER, 1)
                for whole in (logits, labels)
            ),
            strict=True,
        )
    )
    own, bce = (
        sum(costs.gradient(*piece).double().square().sum((1, 2)) for piece in pieces)
        .div(logits[0].numel())
        .sqrt()
        for costs in (Costs(names), Costs(["BCE"] * len(names)))
    )
    require(
        bool((own > 0).all()),
        "matched",
        "the signal of every cost",
        "> 0 at these logits",
        own.tolist(),
    )
    return Costs(names, bce / own)
