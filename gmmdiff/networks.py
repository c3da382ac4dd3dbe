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

from gmmdiff.checks import require


class StackedMLP:
    """R independent multilayer perceptrons with SiLU between layers, and their backward pass.

    A batched matrix product treats every run by itself, so a run's bits do not depend on its neighbours.
    Inside, activations are (runs, width, batch): then every product is wide, even where a layer has few outputs.

    Args:
        sizes: widths of input, hidden layers and output, e.g. ``(40, 128, 128, 8)``.
        parameters: ``(runs, count(sizes))``; layer by layer the weight ``(out, in)``, then the bias.
        gradient: room of the same shape for what ``backward`` finds; default its own.
    """

    def __init__(self, sizes: Sequence[int], parameters: Tensor, gradient: Tensor | None = None) -> None:
        count = self.count(sizes)
        good = parameters.ndim == 2 and parameters.shape[1] == count
        require(good, "StackedMLP", "parameters", f"(runs, {count}) for sizes {tuple(sizes)}", tuple(parameters.shape))
        self.sizes, self.parameters = tuple(sizes), parameters
        self.gradient = torch.zeros_like(parameters) if gradient is None else gradient
        self._layers = list(zip(self.split(sizes, parameters), self.split(sizes, self.gradient), strict=True))
        self._room: list[list[Tensor]] = []

    @staticmethod
    def count(sizes: Sequence[int]) -> int:
        """Parameters of one run."""
        return sum((inner + 1) * outer for inner, outer in pairwise(sizes))

    @staticmethod
    def split(sizes: Sequence[int], parameters: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Views (weight ``(runs, out, in)``, bias ``(runs, out, 1)``) of every layer."""
        layers, start = [], 0
        for inner, outer in pairwise(sizes):
            weight = parameters[:, start : start + inner * outer].unflatten(1, (outer, inner))
            start += inner * outer
            layers.append((weight, parameters[:, start : start + outer].unsqueeze(2)))
            start += outer
        return layers

    @staticmethod
    def initial(sizes: Sequence[int], generator: torch.Generator) -> Tensor:
        """One run's starting parameters: U(-1, 1) / sqrt(in), as ``torch.nn.Linear`` draws them."""
        bounds = torch.cat([torch.full(((i + 1) * o,), 1 / math.sqrt(i)) for i, o in pairwise(sizes)])
        return bounds * (2 * torch.rand(len(bounds), generator=generator) - 1)

    def _buffers(self, x: Tensor) -> list[Tensor]:
        """Room for every layer's ``(runs, out, batch)``, before and after its SiLU; made once for a batch size."""
        if not self._room or self._room[0][0].shape[2] != x.shape[2]:
            self._room = [[x.new_empty(len(x), out, x.shape[2]) for _ in range(2)] for out in self.sizes[1:]]
        return self._room

    def forward(self, x: Tensor) -> Tensor:
        """Outputs of every run on its own batch: ``(runs, batch, in)`` -> ``(runs, batch, out)``, valid until the next call."""
        self._input = x = x.transpose(1, 2)
        for ((weight, bias), _), (before, after) in zip(self._layers, self._buffers(x), strict=True):
            last = torch.baddbmm(bias, weight, x, out=before)
            x = torch.ops.aten.silu.out(before, out=after)
        return last.transpose(1, 2)

    def backward(self, signal: Tensor, to_input: bool = False) -> Tensor | None:
        """Fills ``gradient`` from the loss's derivative in the last output; on demand gives that in the last input.

        Both signals are ``(runs, batch, ...)``; a run's loss must depend on its own output alone.  Works in the
        room of the activations, so it follows one ``forward`` once.
        """
        signal = signal.transpose(1, 2)
        for number in range(len(self._layers) - 1, -1, -1):
            (weight, _), (of_weight, of_bias) = self._layers[number]
            x = self._room[number - 1][1] if number else self._input
            torch.bmm(signal, x.transpose(1, 2), out=of_weight)
            torch.sum(signal, 2, keepdim=True, out=of_bias)
            if number:
                signal = torch.bmm(weight.transpose(1, 2), signal, out=x)
                torch.ops.aten.silu_backward.grad_input(signal, self._room[number - 1][0], grad_input=signal)
        return torch.bmm(weight.transpose(1, 2), signal).transpose(1, 2) if to_input else None


TIMES = 8  # features of the time that a network sees


def timed(x: Tensor, t: Tensor) -> Tensor:
    """x ``(..., D)`` and cos(k pi t), k = 1 .. ``TIMES``, for t ``(...)`` in [0, 1] -> ``(..., D + TIMES)``: distinct at every t."""
    features = torch.cos(math.pi * t.unsqueeze(-1) * torch.arange(1, TIMES + 1, device=t.device))
    return torch.cat([x, features], -1)


def denoiser_sizes(dim: int, condition: int, width: int, hidden: int) -> tuple[int, ...]:
    """Widths of a network that predicts v ``(..., D)`` from ``timed`` points and a condition, by ``hidden`` >= 1 layers."""
    return (dim + TIMES + condition, *[width] * hidden, dim)


def classifier_sizes(dim: int, attributes: int, width: int, hidden: int) -> tuple[int, ...]:
    """Widths of a network that gives the logits of binary attributes from ``timed`` points, noisy or denoised."""
    return (dim + TIMES, *[width] * hidden, attributes)
