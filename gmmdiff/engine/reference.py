"""The plain way: one conditioned denoiser, trained by ordinary ``torch.nn`` and ``torch.optim``.

This is what the engine does, for one run and without its speed; a test holds the two equal.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, pairwise

import torch
from torch import Tensor
from torch.nn.utils import vector_to_parameters
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from gmmdiff.core.streams import stream
from gmmdiff.engine.networks import StackedMLP
from gmmdiff.engine.runs import Run
from gmmdiff.engine.training import AVERAGED, averaged, looks


def multilayer_perceptron(sizes: Sequence[int]) -> torch.nn.Sequential:
    """Linear layers of these widths with SiLU between them: ``(batch, in)`` -> ``(batch, out)``."""
    layers = [
        part for pair in pairwise(sizes) for part in (torch.nn.Linear(*pair), torch.nn.SiLU())
    ]
    return torch.nn.Sequential(*layers[:-1])


def adam(
    weights: Iterable[Tensor], rate: float, steps: int, **options: bool
) -> tuple[torch.optim.Adam, torch.optim.lr_scheduler.LambdaLR]:
    """Adam (Kingma & Ba 2015, arXiv 1412.6980), its rate falling along half a cosine.

    Args:
        options: further ones of ``torch.optim.Adam``.
    """
    optimiser = torch.optim.Adam(weights, lr=rate, betas=(0.9, 0.99), **options)
    return optimiser, torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: (1 + math.cos(math.pi * step / steps)) / 2
    )


def batches(run: Run) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """For ever: noisy points with their times, conditions, targets and weights of the v-loss,
    ``(batch, ...)`` each.
    """
    for drawn in run.batches():
        yield from zip(*run.inputs(drawn), drawn.target, drawn.weight, strict=True)


def weighted_loss(predicted: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """The v-loss by a prediction's squared error and its weight, see ``Run.draw``."""
    return (weight * (predicted - target).square()).mean()


def train(run: Run) -> tuple[torch.nn.Module, list[float], list[float]]:
    """One row of a run table: the averaged denoiser at its least validation loss, every step's
    v-loss, and the validation losses.
    """
    steps = run.row.steps
    denoiser = multilayer_perceptron(run.sizes)
    initial = StackedMLP.initial(run.sizes, stream(run.row.seed, "weights"))
    vector_to_parameters(initial, denoiser.parameters())
    average = AveragedModel(denoiser, multi_avg_fn=get_ema_multi_avg_fn(run.settings.ema**AVERAGED))
    # The first one copies: the average starts where training does.
    average.update_parameters(denoiser)
    optimiser, decay = adam(denoiser.parameters(), run.row.learning_rate, steps)
    fresh, losses, validation = run.validation(), [], []
    kept, (seen, condition) = average.module, run.inputs(fresh)
    for step, (noisy, drawn, target, weight) in enumerate(islice(batches(run), steps)):
        predicted = denoiser(torch.cat([noisy, drawn], -1))
        loss = weighted_loss(predicted, target, weight)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        decay.step()
        if averaged(step, steps):
            average.update_parameters(denoiser)
        losses.append(loss.item())
        if step + 1 in looks(steps):
            with torch.no_grad():
                predicted = average.module(torch.cat([seen, condition], -1))
            validation.append(float(weighted_loss(predicted, fresh.target, fresh.weight)))
            if validation[-1] == min(validation):
                kept = copy.deepcopy(average.module)
    return kept, losses, validation
