"""The batched engine is the plain loop of torch.nn and torch.optim, run by run."""

import copy
import math
from dataclasses import replace

import torch
from torch.nn.utils import parameters_to_vector
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from gmmdiff.core.streams import stream
from gmmdiff.engine.arms import GRANULARITIES
from gmmdiff.engine.networks import StackedMLP
from gmmdiff.engine.runs import BATCHES_AT_ONCE
from gmmdiff.engine.training import AVERAGED, looks, train
from tests.engine.test_training import SMALL, plain, runs_of, table


def train_plainly(run):
    """The averaged denoiser at its least validation loss, every step's gradient norm, and the
    validation losses.
    """
    steps, settings = run.row.steps, run.settings
    denoiser = plain(run.sizes, StackedMLP.initial(run.sizes, stream(run.row.seed, "weights")))
    average = AveragedModel(denoiser, multi_avg_fn=get_ema_multi_avg_fn(settings.ema**AVERAGED))
    average.update_parameters(denoiser)  # copies: the average starts where training does
    adam = torch.optim.Adam(denoiser.parameters(), run.row.learning_rate, betas=(0.9, 0.99))
    decay = torch.optim.lr_scheduler.LambdaLR(
        adam, lambda step: (1 + math.cos(math.pi * step / steps)) / 2
    )

    def loss(network, batches, number):
        predicted = network(torch.cat(run.inputs(batches), -1)[number])
        return (batches.weight[number] * (predicted - batches.target[number]).square()).mean()

    fresh, source, norms, validation = run.validation(), run.batches(), [], []
    for step in range(steps):
        number = step % BATCHES_AT_ONCE
        if number == 0:
            batches = next(source)
        adam.zero_grad()
        loss(denoiser, batches, number).backward()
        norms.append(torch.cat([p.grad.flatten() for p in denoiser.parameters()]).norm())
        adam.step()
        decay.step()
        if (step + 1) % AVERAGED == 0 or step + 1 == steps:
            average.update_parameters(denoiser)
        if step + 1 in looks(steps):
            with torch.no_grad():
                validation.append(float(loss(average.module, fresh, 0)))
            if validation[-1] == min(validation):
                kept = copy.deepcopy(average.module)
    return parameters_to_vector(kept.parameters()), torch.stack(norms), torch.tensor(validation)


def test_every_row_is_the_plain_loop():
    """To 1e-5 after 105 steps of Adam, cosine decay and moving average, on the same streams."""
    rows = table(granularity=GRANULARITIES, steps=[105], seeds=1)
    trained = train(rows, SMALL)
    ends = zip(trained.parameters, trained.norms, trained.validation, strict=True)
    for run, (weights, largest, losses) in zip(runs_of(rows), ends, strict=True):
        kept, norms, validation = train_plainly(run)
        torch.testing.assert_close(weights, kept, rtol=0, atol=1e-5)
        expected = torch.stack([part.amax() for part in norms.split(BATCHES_AT_ONCE)])
        torch.testing.assert_close(largest, expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(losses, validation, rtol=1e-4, atol=1e-5)


def test_the_same_minimum_is_kept_where_training_goes_too_far():
    """Ten points, learned by heart: the minimum lies long before the end."""
    settings, few = replace(SMALL, width=32, validation=64), {"s_c": [0.0], "n_train": [10]}
    rows = table(granularity=["class"], learning_rate=[1e-2], steps=[400], **few)
    trained = train(rows, settings)
    assert (trained.validation.argmin(1) < trained.validation.shape[1] - 3).all()
    for run, weights in zip(runs_of(rows, settings), trained.parameters, strict=True):
        kept, _, validation = train_plainly(run)
        torch.testing.assert_close(weights, kept, rtol=0, atol=1e-3)
        assert validation.min() < 0.95 * validation[-1]
