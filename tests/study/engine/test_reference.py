"""The batched engine is the plain loop of torch.nn and torch.optim, run by run."""

import pytest
import torch

from gmmdiff.study.engine.reference import train as train_plainly
from gmmdiff.study.engine.runs import PREPARED, Recipe, Run, run_table
from gmmdiff.study.engine.training import train
from tests.recipes import ARCS


@pytest.mark.parametrize("prediction", ["sample", "v_prediction"])
def test_every_row_is_the_plain_loop(prediction):
    """To 1e-5 after 100 steps of Adam, cosine decay and moving average, on the same streams."""
    recipe = Recipe(ARCS, width=16, hidden=2, batch=32, ema=0.9, prediction=prediction)
    arms = ["none", "coarse", "class", "feature", "scrambled", "shared"]
    rows = run_table(arms, [0.1], [50], [1e-3], [100], seeds=1)
    found = train(rows, recipe)
    for row, weights, losses in zip(
        rows.itertuples(index=False), found.parameters, found.losses, strict=True
    ):
        average, expected = train_plainly(Run(row, recipe))
        plain = torch.cat([weight.flatten() for weight in average.parameters()])
        torch.testing.assert_close(weights, plain, rtol=0, atol=1e-5)
        means = torch.tensor(expected).unflatten(0, (-1, PREPARED)).mean(1)
        torch.testing.assert_close(losses, means, rtol=1e-4, atol=1e-5)
