"""The batched engine is the plain loop of torch.nn and torch.optim, run by run."""

import torch

from gmmdiff.engine.reference import train as train_plainly
from gmmdiff.engine.runs import BATCHES_AT_ONCE, Run, TrainingSettings, run_table
from gmmdiff.engine.training import train
from tests.small_settings import ARCS


def test_every_row_is_the_plain_loop():
    """To 1e-5 after 100 steps of Adam, cosine decay and moving average, on the same streams."""
    settings = TrainingSettings(ARCS, width=16, hidden=2, batch=32, ema=0.9)
    arms = ["none", "coarse", "class", "feature", "scrambled", "shared"]
    rows = run_table(arms, [0.1], [50], [1e-3], [100], seeds=1)
    found = train(rows, settings)
    told = zip(found.parameters, found.losses, found.validation, strict=True)
    for row, (weights, losses, validation) in zip(rows.itertuples(index=False), told, strict=True):
        kept, expected, fresh = train_plainly(Run(row, settings))
        plain = torch.cat([weight.flatten() for weight in kept.parameters()])
        torch.testing.assert_close(weights, plain, rtol=0, atol=1e-5)
        means = torch.tensor(expected).unflatten(0, (-1, BATCHES_AT_ONCE)).mean(1)
        torch.testing.assert_close(losses, means, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(validation, torch.tensor(fresh), rtol=1e-4, atol=1e-5)


def test_the_plain_loop_keeps_the_same_minimum_where_training_goes_too_far():
    """Ten points, learned by heart: the minimum lies long before the end."""
    settings = TrainingSettings(ARCS, width=32, hidden=2, batch=32, ema=0.9, validation=64)
    rows = run_table(["class"], [0.0], [10], [1e-2], [400], seeds=2)
    found = train(rows, settings)
    assert (found.validation.argmin(1) < found.validation.shape[1] - 3).all()
    for row, weights in zip(rows.itertuples(index=False), found.parameters, strict=True):
        kept, _, fresh = train_plainly(Run(row, settings))
        plain = torch.cat([weight.flatten() for weight in kept.parameters()])
        torch.testing.assert_close(weights, plain, rtol=0, atol=1e-3)
        assert min(fresh) < 0.95 * fresh[-1]
