"""Many small networks of one shape as one stacked network.

A layer of all runs is one batched matrix product.  Every run's weights lie in one row of a matrix,
so optimiser, moving average and gradient norms are a few operations on (runs, parameters).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from gmmdiff.core.checks import require

TIME_FEATURES = 8  # features of the time that a network takes


class StackedMLP:
    """R independent multilayer perceptrons with SiLU between layers, and their backward pass.

    A batched matrix product treats every run by itself, so a run's bits do not depend on its
    neighbours.  Inside, activations are (runs, width, batch): then every product is wide, even
    where a layer has few outputs.

    Args:
        sizes: widths of input, hidden layers and output, e.g. ``(40, 128, 128, 8)``.
        parameters: ``(runs, count(sizes))``; a layer's weight ``(out, in)``, its bias, the next's.
        gradient: memory of the same shape that ``backward`` fills; default its own.

    Raises:
        ValueError: on parameters of another shape.
    """

    def __init__(
        self, sizes: Sequence[int], parameters: Tensor, gradient: Tensor | None = None
    ) -> None:
        shape, count = tuple(parameters.shape), self.count(sizes)
        allowed = f"(runs, {count}) for sizes {tuple(sizes)}"
        require(shape[1:] == (count,), "StackedMLP", "parameters", allowed, shape)
        self.sizes, self.parameters = tuple(sizes), parameters
        self.gradient = torch.zeros_like(parameters) if gradient is None else gradient
        self._batch, self._layers = -1, []

    @staticmethod
    def count(sizes: Sequence[int]) -> int:
        """Parameters of one run."""
        return sum((inner + 1) * outer for inner, outer in pairwise(sizes))

    @staticmethod
    def split(sizes: Sequence[int], parameters: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Views (weight ``(runs, out, in)``, bias ``(runs, out, 1)``) of every layer."""
        pairs = list(pairwise(sizes))
        lengths = [n for inner, outer in pairs for n in (inner * outer, outer)]
        parts = iter(parameters.split(lengths, 1))
        return [
            (next(parts).unflatten(1, (outer, inner)), next(parts).unsqueeze(2))
            for inner, outer in pairs
        ]

    @staticmethod
    def initial(sizes: Sequence[int], generator: torch.Generator) -> Tensor:
        """One run's starting parameters: U(-1, 1) / sqrt(in), as ``torch.nn.Linear`` draws them."""
        layers = [torch.full(((i + 1) * o,), 1 / math.sqrt(i)) for i, o in pairwise(sizes)]
        bounds = torch.cat(layers)
        return bounds * (2 * torch.rand(len(bounds), generator=generator) - 1)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs of every run on its own batch: ``(runs, batch, in)`` -> ``(runs, batch, out)``.

        Valid until the next call.
        """
        if x.shape[1] != self._batch:
            self._batch = x.shape[1]
            both = (self.split(self.sizes, each) for each in (self.parameters, self.gradient))
            self._layers = [_Layer(*own, *of, self._batch) for own, of in zip(*both, strict=True)]
        self._input, (*hidden, last) = x, self._layers
        below = x.mT
        for layer in hidden:
            torch.baddbmm(layer.bias, layer.weight, below, out=layer.values)
            torch.sigmoid(layer.values, out=layer.slopes)
            below = layer.values.mul_(layer.slopes)
        return torch.baddbmm(last.bias, last.weight, below, out=last.values).mT

    def backward(self, signal: Tensor, to_input: bool = False) -> Tensor | None:
        """Fills ``gradient`` from the loss's derivative in the last output, ``(runs, batch, out)``.

        Works in the memory of the activations, so it follows one ``forward`` once.  ``to_input``
        asks for the derivative in the last input, ``(runs, batch, in)``.
        """
        signal = signal.mT
        for layer, below in pairwise(reversed(self._layers)):
            layer.learn(signal, below.values_t)
            # SiLU' = sigmoid + SiLU (1 - sigmoid)
            torch.lerp(below.values, layer.one, below.slopes, out=below.slopes)
            signal = torch.bmm(layer.weight_t, signal, out=below.values).mul_(below.slopes)
        first = self._layers[0]
        first.learn(signal, self._input)
        return torch.bmm(first.weight_t, signal).mT if to_input else None


class _Layer:
    """One layer's weight ``(runs, out, in)`` and bias ``(runs, out, 1)``, their gradients, and
    memory ``(runs, out, batch)``: ``values``, its outputs, and ``slopes``, of the SiLU behind it.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor, of_weight: Tensor, of_bias: Tensor, batch: int
    ) -> None:
        self.weight, self.bias, self.of_weight, self.of_bias = weight, bias, of_weight, of_bias
        self.values, self.slopes = (weight.new_empty(*weight.shape[:2], batch) for _ in range(2))
        # Kept, since a view costs as much as a small product.
        self.weight_t, self.values_t = weight.mT, self.values.mT
        self.one, self._product = weight.new_ones(()), weight.new_empty(weight.shape)

    def learn(self, signal: Tensor, below: Tensor) -> None:
        """The gradients, from the loss's derivative in ``values``, ``(runs, out, batch)``, and the
        layer's input, ``(runs, batch, in)``.
        """
        # By way of memory of its own: straight into the gradient it is one product a run.
        self.of_weight.copy_(torch.bmm(signal, below, out=self._product))
        torch.sum(signal, 2, keepdim=True, out=self.of_bias)


def features_first(x: Tensor) -> Tensor:
    """x ``(..., batch, features)``, in memory as ``StackedMLP`` works: feature by feature."""
    return x.mT.contiguous().mT


def gather_rows(table: Tensor, index: Tensor) -> Tensor:
    """Rows ``(..., batch, features)`` of a table at an index ``(..., batch)``, features first."""
    return table.T.index_select(1, index.flatten()).unflatten(1, index.shape).movedim(0, -2).mT


def with_time_features(x: Tensor, t: Tensor) -> Tensor:
    """x ``(..., n, D)`` beside cos(k pi t), k = 1 .. K = ``TIME_FEATURES``, of t ``(..., n)`` in
    [0, 1], each told from every other by them: ``(..., n, D + K)``, ``features_first``.
    """
    k = torch.arange(1, TIME_FEATURES + 1, device=t.device).unsqueeze(-1)
    features = torch.cos(math.pi * k * t.unsqueeze(-2))
    return torch.cat([x.mT, features], -2).mT


def layer_sizes(inputs: int, width: int, hidden: int, outputs: int) -> tuple[int, ...]:
    """Widths of a network of ``hidden`` >= 1 hidden layers that takes ``inputs`` features and those
    of the time.
    """
    return (inputs + TIME_FEATURES, *[width] * hidden, outputs)
