"""The costs of an ensemble: one of ``gmmdiff.core.costs.COSTS`` a run.

The formula of their gradient stands here again, so that runs with different costs share its
operations; a test holds the two equal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gmmdiff.core.checks import in_own_precision, require, require_finite, require_shape
from gmmdiff.core.costs import COSTS, check_batch

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
        factors = torch.ones(len(names)) if factors is None else factors
        require_shape("Costs", "factors", factors, len(names))
        require_finite("Costs", "factors", factors)
        require(factors >= 0, "Costs", "factors", ">= 0", float(factors.min()))
        self.names, self.factors = tuple(names), factors
        self._terms: dict[tuple, _Terms] = {}  # by precision and device

    @in_own_precision
    def value(self, x: Tensor, labels: Tensor, kind: str = "logits") -> Tensor:
        """The cost of every element, differentiable: x, labels and result ``(runs, batch, m)``.

        Labels, kind and errors as ``Cost.value``; a ValueError also on another shape.
        """
        return self._row_by_row("value", *self._checked(x, labels, kind), kind)

    @in_own_precision
    def gradient(
        self, x: Tensor, labels: Tensor, kind: str = "logits", trusted: bool = False
    ) -> Tensor:
        """The derivative of ``value`` in x; arguments and errors as there.

        Args:
            trusted: logits known to be good, as at every step of a training, are not looked at.
        """
        if not trusted:
            x, labels = self._checked(x, labels, kind)
        if kind != "logits":
            return self._row_by_row("gradient", x, labels, kind)
        x = x.contiguous()
        p = x.sigmoid()
        e = p - labels
        squares = e.square().flatten(1).unsqueeze(1)
        if (x.dtype, x.device) not in self._terms:
            self._terms[x.dtype, x.device] = _terms(self.names, self.factors, x)
        terms = self._terms[x.dtype, x.device]
        pull = (2 * terms.brier).expand_as(squares)
        for rows, amplitude, halvings in terms.components:
            # exp2, since exp is slow where its result is denormal.
            own = torch.exp2(halvings * squares.index_select(0, rows))
            pull = pull.index_add(0, rows, torch.bmm(amplitude, own))
        slope = torch.addcmul(pull.view_as(e) * e, terms.mae, e.sign())
        return torch.addcmul(slope * p * (-x).sigmoid(), terms.bce, e)

    def _checked(self, x: Tensor, labels: Tensor, kind: str) -> tuple[Tensor, Tensor]:
        x, labels = check_batch("Costs", x, labels, kind)
        require_shape("Costs", kind, x, len(self.names), "batch", "m")
        return x, labels

    def _row_by_row(self, method: str, x: Tensor, labels: Tensor, kind: str) -> Tensor:
        """What every run's own ``Cost`` says, times its factor."""
        rows = zip(self.names, self.factors, x, labels, strict=True)
        return torch.stack(
            [factor * getattr(COSTS[name], method)(*own, kind) for name, factor, *own in rows]
        )


class _Terms(NamedTuple):
    """What the rows weigh their terms with, factors included: ``(runs, 1, 1)`` each."""

    bce: Tensor
    brier: Tensor
    mae: Tensor
    # NGMG's, of the M rows with K components each: which rows ``(M,)``, w_k / s_k^2 ``(M, 1, K)``
    # and -log2(e) / 2 s_k^2 ``(M, K, 1)``.  So a row's arithmetic is the same in any company.
    components: list[tuple[Tensor, Tensor, Tensor]]


def _terms(names: Sequence[str], factors: Tensor, x: Tensor) -> _Terms:
    """In the precision of x, and on its device."""
    costs, factors = [COSTS[name] for name in names], factors.double()
    bce, brier, mae, ngmg = (
        factors * torch.tensor([getattr(cost, part) for cost in costs])
        for part in ("bce", "brier", "mae", "ngmg")
    )
    one = torch.ones(1)
    laws = [(c.potential.scales, c.potential.weights) if c.potential else (one, one) for c in costs]
    components = []
    for size in sorted({len(scales) for scales, _ in laws}):
        rows = [row for row, (scales, _) in enumerate(laws) if len(scales) == size]
        scale, weight = (torch.stack([laws[row][i].double() for row in rows]) for i in (0, 1))
        amplitude = (ngmg[rows].unsqueeze(1) * weight).unsqueeze(1) / scale.unsqueeze(1) ** 2
        halvings = -0.5 / scale.unsqueeze(2) ** 2 * math.log2(math.e)
        components.append((torch.tensor(rows).to(x.device), amplitude.to(x), halvings.to(x)))
    return _Terms(*(part.view(-1, 1, 1).to(x) for part in (bce, brier, mae)), components)


def matched(names: Sequence[str], logits: Tensor, labels: Tensor) -> Costs:
    """Costs whose signals have, run by run, the root mean square of BCE's at these logits.

    Logits and labels are ``(runs, batch, m)``; errors as ``Costs``, and a ValueError where a row's
    cost sends no signal there.
    """
    flat = (each.detach().flatten(1).unsqueeze(2) for each in (logits, labels))
    pieces = list(zip(*(each.split(TOGETHER, 1) for each in flat), strict=True))
    own, bce = (
        sum(costs.gradient(*piece).double().square().sum((1, 2)) for piece in pieces)
        .div(logits[0].numel())
        .sqrt()
        for costs in (Costs(names), Costs(["BCE"] * len(names)))
    )
    require(own > 0, "matched", "the signal of every cost", "> 0 at these logits", own.tolist())
    return Costs(names, bce / own)
