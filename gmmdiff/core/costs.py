"""What a classifier can be trained with: BCE, Brier, MAE and NGMG under one signature.

All act on one probability p = sigmoid(logit) and its label a in {0, 1}, element by element, and all
but BCE depend on the discrepancy e = p - a alone:

    BCE                  -log of the probability of the label
    Brier                e^2 (Brier 1950, Monthly Weather Review 78:1)
    MAE                  |e|
    NGMG                 psi(e) = sum_k w_k (1 - exp(-e^2 / 2 s_k^2)), see ``gmmdiff.core.ngmg``
    NGMG with entropy    a convex combination of NGMG and BCE

NGMG as a cost is our reconstruction.  ``COSTS`` holds the study's, by name.

Example:
    >>> import torch
    >>> from gmmdiff import COSTS, Cost
    >>> for name in ("BCE", "MAE", "NGMG s=1"):  # log 2, 1 / 2 and 1 - exp(-0.5^2 / 2)
    ...     print(name, COSTS[name].value(torch.zeros(2), [0, 1]))
    BCE tensor([0.6931, 0.6931])
    MAE tensor([0.5000, 0.5000])
    NGMG s=1 tensor([0.1175, 0.1175])
    >>> Cost(brier=1.0, mae=0.5).value(torch.zeros(1), [1])  # 0.5^2 + 0.5 * 0.5
    tensor([0.5000])
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from gmmdiff.core.checks import array, floating, in_own_precision, promoted, require, require_shape
from gmmdiff.core.ngmg import NGMG

KINDS = ("logits", "probabilities")


def check_batch(owner: str, x: Any, labels: Any, kind: str) -> tuple[Tensor, Tensor]:
    """x and its labels as floating tensors of x's type.

    Raises:
        ValueError: on another kind, NaN or infinity, probabilities outside [0, 1], or labels of
            another shape or neither 0 nor 1.
    """
    require(kind in KINDS, owner, "kind", f"one of {', '.join(KINDS)}", repr(kind))
    x = array(owner, kind, x, "...")
    labels = floating(owner, "labels", labels, x)
    require_shape(owner, "labels", labels, *x.shape)
    promoted(owner, x=x, labels=labels)  # refuses two devices
    require((labels == 0) | (labels == 1), owner, "labels", "0 or 1", labels)
    if kind == "probabilities":
        require((x >= 0) & (x <= 1), owner, kind, "in [0, 1]", x)
    return x, labels.to(x.dtype)


def inner(p: Tensor) -> Tensor:
    """Probabilities no nearer to 0 and 1 than their precision; a gradient passes as it comes."""
    tiny = torch.finfo(p.dtype).eps
    return p + (p.detach().clamp(tiny, 1 - tiny) - p.detach())


@dataclass(frozen=True)
class Cost:
    """bce * BCE + brier * e^2 + mae * |e| + ngmg * psi(e), psi being that of ``potential``."""

    bce: float = 0.0
    brier: float = 0.0
    mae: float = 0.0
    ngmg: float = 0.0
    potential: NGMG | None = None

    @in_own_precision
    def value(self, x: Tensor, labels: Tensor, kind: str = "logits") -> Tensor:
        """The cost of every element, differentiable in x: x and labels ``(...)`` -> ``(...)``.

        Args:
            labels: 0 or 1.
            kind: what x is: ``"logits"``, or ``"probabilities"`` in [0, 1], which BCE sees no
                nearer to 0 and 1 than the precision of x.

        Raises:
            ValueError: see ``check_batch``.
        """
        x, labels = check_batch("Cost", x, labels, kind)
        p = x.sigmoid() if kind == "logits" else inner(x)
        e = p - labels
        value = self.brier * e.square() + self.mae * e.abs()
        if self.potential is not None:
            value = value + self.ngmg * self.potential.potential(e.unsqueeze(-1))
        if self.bce and kind == "logits":
            value = value + self.bce * (softplus(x) - labels * x)
        elif self.bce:
            value = value + self.bce * -torch.where(labels > 0, p, 1 - p).log()
        return value

    @in_own_precision
    def gradient(self, x: Tensor, labels: Tensor, kind: str = "logits") -> Tensor:
        """The signal sent backward: the derivative of ``value`` in x, with its arguments."""
        x, labels = check_batch("Cost", x, labels, kind)
        p = x.sigmoid() if kind == "logits" else inner(x)
        e = p - labels
        slope = 2 * self.brier * e + self.mae * e.sign()
        if self.potential is not None:
            slope = slope + self.ngmg * self.potential.gradient(e.unsqueeze(-1)).squeeze(-1)
        if kind == "logits":
            return slope * p * (-x).sigmoid() + self.bce * e
        return slope + self.bce / torch.where(labels > 0, -p, 1 - p)


COSTS = {
    "BCE": Cost(bce=1.0),
    "Brier": Cost(brier=1.0),
    "MAE": Cost(mae=1.0),
    "NGMG s=0.5": Cost(ngmg=1.0, potential=NGMG([0.5])),
    "NGMG s=1": Cost(ngmg=1.0, potential=NGMG([1.0])),
    "NGMG scale mixture": Cost(ngmg=1.0, potential=NGMG.scale_mixture(0.02, 20.0, 16)),
    "NGMG with entropy": Cost(bce=0.5, ngmg=0.5, potential=NGMG([1.0])),
}
