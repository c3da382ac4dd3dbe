"""Many small networks of one shape as one stacked network: one batched matrix product a layer.

Every run's weights lie in one row of a matrix, so optimiser, moving average and gradient norms are a
handful of operations on (runs, parameters), whatever the number of runs and layers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import silu

from gmmdiff.checks import require


class StackedMLP:
    """R independent multilayer perceptrons with SiLU between layers; forward and backward in place.

    A batched matrix product treats every run by itself, so a run's bits do not depend on its neighbours.

    Args:
        sizes: widths of input, hidden layers and output, e.g. ``(40, 128, 128, 8)``.
        parameters: ``(runs, count(sizes))``; layer by layer the weight ``(in, out)``, then the bias.
    """

    def __init__(self, sizes: Sequence[int], parameters: Tensor) -> None:
        count = self.count(sizes)
        good = parameters.ndim == 2 and parameters.shape[1] == count
        require(good, "StackedMLP", "parameters", f"(runs, {count}) for sizes {tuple(sizes)}", tuple(parameters.shape))
        self.sizes, self.parameters = tuple(sizes), parameters
        self.gradient = torch.zeros_like(parameters)
        self._layers = list(zip(self.split(sizes, parameters), self.split(sizes, self.gradient), strict=True))
        self._kept: list[tuple[Tensor, Tensor]] = []

    @staticmethod
    def count(sizes: Sequence[int]) -> int:
        """Parameters of one run."""
        return sum((inner + 1) * outer for inner, outer in pairwise(sizes))

    @staticmethod
    def split(sizes: Sequence[int], parameters: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Views (weight ``(runs, in, out)``, bias ``(runs, 1, out)``) of every layer."""
        layers, start = [], 0
        for inner, outer in pairwise(sizes):
            weight = parameters[:, start : start + inner * outer].unflatten(1, (inner, outer))
            start += inner * outer
            layers.append((weight, parameters[:, start : start + outer].unsqueeze(1)))
            start += outer
        return layers

    @staticmethod
    def initial(sizes: Sequence[int], generator: torch.Generator) -> Tensor:
        """One run's starting parameters: U(-1, 1) / sqrt(in), as ``torch.nn.Linear`` draws them."""
        bounds = torch.cat([torch.full(((i + 1) * o,), 1 / math.sqrt(i)) for i, o in pairwise(sizes)])
        return bounds * (2 * torch.rand(len(bounds), generator=generator) - 1)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs of every run on its own batch: ``(runs, batch, in)`` -> ``(runs, batch, out)``."""
        self._kept = []
        for number, ((weight, bias), _) in enumerate(self._layers):
            before = torch.baddbmm(bias, x, weight)
            self._kept.append((x, before))
            x = silu(before) if number < len(self._layers) - 1 else before
        return x

    def backward(self, signal: Tensor) -> Tensor:
        """Fills ``gradient`` from the loss's derivative in the last output; returns that in the last input.

        Both signals are ``(runs, batch, ...)``; a run's loss must depend on its own output alone.
        """
        last = len(self._layers) - 1
        for number in range(last, -1, -1):
            (x, before), ((weight, _), (of_weight, of_bias)) = self._kept[number], self._layers[number]
            if number < last:
                signal = torch.ops.aten.silu_backward(signal, before)
            torch.bmm(x.transpose(1, 2), signal, out=of_weight)
            torch.sum(signal, 1, keepdim=True, out=of_bias)
            signal = torch.bmm(signal, weight.transpose(1, 2))
        return signal


def time_features(t: Tensor, count: int) -> Tensor:
    """cos(k pi t), k = 1 .. count, for t ``(...)`` in [0, 1] -> ``(..., count)``: distinct at every t."""
    return torch.cos(math.pi * t.unsqueeze(-1) * torch.arange(1, count + 1, device=t.device))


class Denoiser:
    """v-predictions of R runs: an MLP of x_t, features of t and the condition.

    Args:
        dim: D of the data.
        condition: dimension of the condition, >= 0.
        width: of every hidden layer. hidden: how many of them, >= 1.
    """

    TIMES = 8

    def __init__(self, dim: int, condition: int, width: int, hidden: int) -> None:
        self.dim = dim
        self.sizes = (dim + self.TIMES + condition, *[width] * hidden, dim)

    def inputs(self, x_t: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """What the network sees: x_t ``(..., D)``, t ``(...)``, condition ``(..., C)`` side by side."""
        return torch.cat([x_t, time_features(t, self.TIMES), condition], -1)
