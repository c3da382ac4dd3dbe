"""NGMG as losses with torch's conventions, for anybody's training loop.

Of a discrepancy e, prediction minus target, they are psi(e) = sum_k w_k (1 - exp(-|e|^2 / 2
s_k^2)), whose gradient is the NGMG of ``gmmdiff.core.ngmg``.

With one scale and w = 1 it is Welsch's loss (Dennis & Welsch 1978, Communications in Statistics B
7:345), up to its factor s^2, and the correntropy loss, or C-loss (Singh, Pokharel & Principe,
Pattern Recognition 47:441), up to that one's normalisation.  An error much smaller than s costs
its square over 2 s^2; one much larger costs 1, and its gradient vanishes: outliers count little,
and a network far from its targets learns nothing.  ``scale_mixture`` is close to |e| over a range.

Example:
    >>> import torch
    >>> from gmmdiff import NGMGLoss, NGMGMulticlassLoss, NGMGWithLogitsLoss, ngmg_loss
    >>> input, target = torch.zeros(4, 2, requires_grad=True), torch.ones(4, 2)
    >>> NGMGLoss([1.0])(input, target)  # 1 - exp(-2 / 2)
    tensor(0.6321, grad_fn=<MeanBackward0>)
    >>> NGMGLoss.scale_mixture(0.02, 20.0, 16, reduction="none")(input, target).shape
    torch.Size([4])
    >>> NGMGWithLogitsLoss([1.0])(torch.zeros(4, 3), [[0, 1, 1]] * 4)  # 1 - exp(-0.5^2 / 2)
    tensor(0.1175)
    >>> NGMGMulticlassLoss([1.0])(torch.zeros(4, 2), [0, 1, 1, 0])
    tensor(0.1175)
    >>> ngmg_loss(torch.zeros(4, 2), [0, 1, 1, 0], [1.0], activation="softmax")  # the same
    tensor(0.1175)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import Module

from gmmdiff.core.checks import array, floating, in_own_precision, promoted, require, require_shape
from gmmdiff.core.costs import Cost
from gmmdiff.core.ngmg import NGMG


class NGMGLoss(Module):
    """psi(input - target), the discrepancy being the vector in the last dimension.

    Args:
        scales: K scales s_k > 0, in units of |e|, which grows as sqrt(D) where all D coordinates
            err alike.
        weights: K amplitudes w_k > 0; default 1 / K each, so that the loss lies in [0, 1).
        reduction: over all but the last dimension, "none", "mean" or "sum".

    Raises:
        ValueError: on a scale or weight that is not > 0, on counts that differ, or another
            reduction; called, on other shapes or labels, NaN or infinity.
    """

    def __init__(
        self,
        scales: Sequence[float] | Tensor,
        weights: Sequence[float] | Tensor | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        good = reduction in ("none", "mean", "sum")
        require(good, type(self).__name__, "reduction", "one of none, mean, sum", repr(reduction))
        self.reduction, self.ngmg = reduction, NGMG(scales, weights)

    @classmethod
    def scale_mixture(
        cls, s_min: float, s_max: float, n_scales: int, reduction: str = "mean"
    ) -> NGMGLoss:
        """The loss close to |e| for s_min << |e| << s_max, see ``NGMG.scale_mixture``."""
        ngmg = NGMG.scale_mixture(s_min, s_max, n_scales)
        return cls(ngmg.scales, ngmg.weights, reduction)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Both ``(..., D)`` -> ``(...)`` for "none", else a number; differentiable in both."""
        owner = type(self).__name__
        input = floating(owner, "input", input)
        target = floating(owner, "target", target, input)
        require_shape(owner, "target", target, *input.shape)
        input, target = promoted(owner, input=input, target=target)
        return self._reduced(self.ngmg.potential(input - target))

    def _reduced(self, loss: Tensor) -> Tensor:
        return loss if self.reduction == "none" else getattr(loss, self.reduction)()


class NGMGWithLogitsLoss(NGMGLoss):
    """psi(sigmoid(input) - target) of binary labels, element by element.

    What ``torch.nn.BCEWithLogitsLoss`` is to cross entropy; arguments and errors as ``NGMGLoss``,
    scales in units of a probability.
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Logits and labels in {0, 1}, ``(...)`` both -> ``(...)`` for "none", else a number."""
        return self._reduced(Cost(ngmg=1.0, potential=self.ngmg).value(input, target))


class NGMGMulticlassLoss(NGMGLoss):
    """The mean over K classes of psi(softmax(input)_k - [k is the label]).

    What ``torch.nn.CrossEntropyLoss`` is to the likelihood; arguments and errors as ``NGMGLoss``,
    scales in units of a probability.  Of two classes it is ``NGMGWithLogitsLoss`` of the difference
    of their logits; for s much larger than 1 it tends to Brier's score (1950, Monthly Weather
    Review 78:1) over 2 K s^2.
    """

    @in_own_precision
    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Logits ``(n, K, ...)``, K >= 2, and classes in 0 .. K - 1, ``(n, ...)`` -> ``(n, ...)``
        for "none", else a number.
        """
        owner = type(self).__name__
        input = array(owner, "input", input, "...")
        good = input.ndim >= 2 and input.shape[1] >= 2
        require(good, owner, "input", "(n, K, ...) with K >= 2", tuple(input.shape))
        count = input.shape[1]
        target = floating(owner, "target", target, input.double())
        promoted(owner, input=input, target=target)  # refuses two devices
        require_shape(owner, "target", target, len(input), *input.shape[2:])
        classes = torch.arange(count, device=input.device).view(-1, *[1] * (input.ndim - 2))
        one_hot = target.unsqueeze(1) == classes
        require(one_hot.any(1), owner, "target", f"in 0 .. {count - 1}", target)
        discrepancy = input.softmax(1) - one_hot.to(input)
        return self._reduced(self.ngmg.potential(discrepancy.unsqueeze(-1)).mean(1))


LOSSES = {None: NGMGLoss, "sigmoid": NGMGWithLogitsLoss, "softmax": NGMGMulticlassLoss}


def ngmg_loss(
    input: Tensor,
    target: Tensor,
    scales: Sequence[float] | Tensor,
    weights: Sequence[float] | Tensor | None = None,
    reduction: str = "mean",
    activation: str | None = None,
) -> Tensor:
    """The losses as one function, by ``activation``: None for ``NGMGLoss``, "sigmoid" for
    ``NGMGWithLogitsLoss``, "softmax" for ``NGMGMulticlassLoss``, with their arguments and errors.
    """
    good, allowed = activation in LOSSES, "one of None, sigmoid, softmax"
    require(good, "ngmg_loss", "activation", allowed, repr(activation))
    return LOSSES[activation](scales, weights, reduction)(input, target)
