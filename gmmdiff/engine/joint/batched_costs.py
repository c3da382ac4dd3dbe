"""The costs of an ensemble: one of ``gmmdiff.core.costs.COSTS`` a run, value and gradient.

Every cost is a weighted sum of BCE, Brier, MAE and NGMG, so runs with different costs share their
operations; a test holds each run equal to its cost alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad, softplus

from gmmdiff.core.checks import in_own_precision, refuse, require, require_finite
from gmmdiff.core.costs import COSTS, check_batch, inner

TOGETHER = 512  # elements of a run measured at once: what lies between stays in the caches


class Costs:
    """One cost a run.

    Args:
        names: of ``COSTS``, one a row.
        factors: ``(runs,)`` >= 0, what a row's value and gradient are multiplied with; default 1.

    Raises:
        ValueError: on an unknown name, no row, or a factor below 0 or not finite.

    Example:
        >>> import torch
        >>> from gmmdiff import Costs
        >>> logits, labels = torch.zeros(2, 4, 3), torch.ones(2, 4, 3)
        >>> Costs(["BCE", "MAE"]).value(logits, labels).mean((1, 2))  # log 2 and 1 / 2
        tensor([0.6931, 0.5000])
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
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, _Terms]:
        """x contiguous, labels, p, e, e^2 ``(runs, 1, elements)``, the terms in the kind of x."""
        if not trusted:
            x, labels = check_batch("Costs", x, labels, kind)
        if x.ndim != 3 or len(x) != len(self.names):
            refuse("Costs", kind, f"({len(self.names)}, batch, m)", tuple(x.shape))
        place = x.dtype, x.device
        if place not in self._terms:
            self._terms[place] = self._exact.to(x)
        x = x.contiguous()
        p = x.sigmoid() if kind == "logits" else inner(x)
        e = p - labels
        return x, labels, p, e, e.square().flatten(1).unsqueeze(1), self._terms[place]

    @in_own_precision
    def value(
        self, x: Tensor, labels: Tensor, kind: str = "logits", trusted: bool = False
    ) -> Tensor:
        """The cost of every element, differentiable: x, labels and result ``(runs, batch, m)``.

        Args:
            labels, kind: as ``Cost.value``.
            trusted: what is known to be good is not looked at, at every step of a training.

        Raises:
            ValueError: on another shape, and see ``check_batch``.
        """
        x, labels, p, e, squares, terms = self._prepare(x, labels, kind, trusted)
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

    @in_own_precision
    def gradient(
        self, x: Tensor, labels: Tensor, kind: str = "logits", trusted: bool = False
    ) -> Tensor:
        """The derivative of ``value`` in x; arguments and errors as there."""
        x, labels, p, e, squares, terms = self._prepare(x, labels, kind, trusted)
        pull = (2 * terms.brier).expand_as(squares)
        for part in terms.components:
            # exp2, since exp is slow where its result is denormal.
            own = torch.exp2(part.halvings * squares.index_select(0, part.rows))
            of_part = torch.bmm(part.pull, own)
            pull = pull.index_add(0, part.rows, of_part)
        slope = torch.addcmul(pull.view_as(e) * e, terms.mae, e.sign())
        if kind == "logits":
            return torch.addcmul(slope * p * (-x).sigmoid(), terms.bce, e)
        return terms.bce / torch.where(labels > 0, -p, 1 - p) + slope


class _Components(NamedTuple):
    """The NGMG terms, factors included, of the rows with one component, or of those with several.

    So a row's arithmetic is the same whatever its neighbours' costs; who has fewer than K
    components has some of weight 0.
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
    """Costs whose signals have, run by run, the root mean square of BCE's at these logits.

    Args:
        logits, labels: ``(runs, batch, m)``.

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
