"""Notebook 07's training loop, on a small network, beside a loop of torch's own."""

import copy

import pytest
import torch
from celeba import LARGEST_NORM, fit

from gmmdiff.core.streams import stream
from tests.more.test_celeba import asked, quiet, same

DATA = torch.randn(40, 3, generator=stream(0, "data"))


def loss(network, rows, generator):
    x = DATA[rows]
    noise = torch.randn(x.shape, generator=generator)
    return (network(x + noise) - 5 * x).square().mean()


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.SiLU(), torch.nn.Linear(8, 3))


def plainly(how, steps, seed):
    """The same in a loop of torch's own: the gradient of all parts together, then one step."""
    trained = network()
    average, optimiser = copy.deepcopy(trained), torch.optim.Adam(trained.parameters(), 0.01)
    for step in range(steps):
        index = torch.randint(len(DATA), (how.batch,), generator=stream(seed, f"batch {step}"))
        optimiser.zero_grad()
        values = [
            loss(trained, part, stream(seed, f"step {step}, part {number}"))
            for number, part in enumerate(index.split(how.batch // how.accumulation))
        ]
        torch.stack(values).mean().backward()
        torch.nn.utils.clip_grad_norm_(trained.parameters(), LARGEST_NORM)
        optimiser.step()
        with torch.no_grad():
            for mean, new in zip(average.parameters(), trained.parameters(), strict=True):
                mean.copy_(new if step == 0 else how.ema * mean + (1 - how.ema) * new)
    return average


@pytest.mark.parametrize("parts", [1, 4])
def test_training_is_the_plain_loop(tmp_path, parts):
    how = asked(accumulation=parts, learning_rate=0.01, every=3)
    found, losses = fit(network(), loss, len(DATA), how, 7, 5, tmp_path / "run", quiet)
    for one, other in zip(found.parameters(), plainly(how, 7, 5).parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6) and one.isfinite().all()
    assert not found.training and not losses


def test_the_least_validation_loss_chooses_also_after_a_stop(tmp_path):
    """Looked at every twenty steps; the second look is the best."""
    how, wanted, seen = asked(learning_rate=0.01, every=30), [3.0, 1.0, 2.0], []

    def validate(average):
        seen.append(copy.deepcopy(average).state_dict())
        return torch.tensor(wanted[len(seen) - 1])

    def stopped(network, rows, generator):
        if len(seen) == 2:
            raise KeyboardInterrupt
        return loss(network, rows, generator)

    run = len(DATA), how, 60, 1
    found, losses = fit(network(), loss, *run, tmp_path / "run", quiet, validate)
    assert losses == wanted and len(seen) == 3 and same(found.state_dict(), seen[1])
    seen.clear()
    with pytest.raises(KeyboardInterrupt):
        fit(network(), stopped, *run, tmp_path / "other", quiet, validate)
    seen.pop()  # of step 40, after the checkpoint at 30
    for of in (loss, None):  # the second time nothing is trained
        again, losses = fit(network(), of, *run, tmp_path / "other", quiet, validate)
        assert losses == wanted and same(again.state_dict(), found.state_dict())
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["step_60"]
