"""The plain way: one conditioned denoiser, trained by ordinary ``torch.nn`` and ``torch.optim``.

This is what the engine does, for one run and without its speed; a test holds the two equal.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice, pairwise

import torch
from torch import Tensor
from torch.nn.utils import vector_to_parameters
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from gmmdiff.core.streams import stream
from gmmdiff.study.engine.networks import StackedMLP
from gmmdiff.study.engine.runs import Run


def multilayer_perceptron(sizes: Sequence[int]) -> torch.nn.Sequential:
    """Linear layers of these widths with SiLU between them: ``(batch, in)`` -> ``(batch, out)``."""
    layers = [
        part for pair in pairwise(sizes) for part in (torch.nn.Linear(*pair), torch.nn.SiLU())
    ]
    return torch.nn.Sequential(*layers[:-1])


def batches(run: Run) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """For ever: noisy points with their times, conditions, and targets v, ``(batch, ...)`` each."""
    for drawn in run.batches():
        yield from zip(*run.inputs(drawn), drawn.target, strict=True)


def train(run: Run) -> tuple[torch.nn.Sequential, list[float]]:
    """One row of a run table: the moving average of the denoiser's weights, and every step's loss.

    Adam (Kingma & Ba 2015, arXiv 1412.6980) on the v-loss, its rate falling along half a cosine.
    """
    steps = run.row.steps
    denoiser = multilayer_perceptron(run.sizes)
    initial = StackedMLP.initial(run.sizes, stream(run.row.seed, "weights"))
    vector_to_parameters(initial, denoiser.parameters())
    average = AveragedModel(denoiser, multi_avg_fn=get_ema_multi_avg_fn(run.recipe.ema))
    average.update_parameters(
        denoiser
    )  # the first one copies: the average starts where training does
    optimiser = torch.optim.Adam(denoiser.parameters(), lr=run.row.learning_rate, betas=(0.9, 0.99))
    decay = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: (1 + math.cos(math.pi * step / steps)) / 2
    )
    losses = []
    for noisy, condition, target in islice(batches(run), steps):
        predicted = denoiser(torch.cat([noisy, condition], -1))
        loss = torch.nn.functional.mse_loss(predicted, target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        decay.step()
        average.update_parameters(denoiser)
        losses.append(loss.item())
    return average.module, losses
