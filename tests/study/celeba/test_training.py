"""The loop by accelerate against a plain one; what it refuses."""

import copy

import pytest
import torch
from tqdm import tqdm

from gmmdiff.core.streams import stream
from gmmdiff.study.celeba.training import LARGEST_NORM, Training, fit

DATA = torch.randn(40, 3, generator=stream(0, "data"))


def loss(network, places, generator):
    x = DATA[places]
    noise = torch.randn(x.shape, generator=generator)
    return (network(x + noise) - 5 * x).square().mean()


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.SiLU(), torch.nn.Linear(8, 3))


def plainly(training, steps, seed, parts):
    """The same in a loop of torch's own: the gradient of all parts together, then one step."""
    trained = network()
    average, optimiser = copy.deepcopy(trained), torch.optim.Adam(trained.parameters(), 0.01)
    for step in range(steps):
        index = torch.randint(len(DATA), (training.batch,), generator=stream(seed, f"batch {step}"))
        optimiser.zero_grad()
        values = [
            loss(trained, part, stream(seed, f"step {step}, part {number}"))
            for number, part in enumerate(index.split(training.batch // parts))
        ]
        torch.stack(values).mean().backward()
        torch.nn.utils.clip_grad_norm_(trained.parameters(), LARGEST_NORM)
        optimiser.step()
        with torch.no_grad():
            for mean, new in zip(average.parameters(), trained.parameters(), strict=True):
                mean.copy_(new if step == 0 else training.ema * mean + (1 - training.ema) * new)
    return average


@pytest.mark.parametrize("parts", [1, 4])
def test_it_is_the_plain_loop(tmp_path, parts):
    training = Training(16, parts, 0.01, 0.9, every=3, device="cpu")
    found, losses = fit(network(), loss, len(DATA), training, 7, 5, tmp_path / "run", tqdm)
    wanted = plainly(training, 7, 5, parts)
    for one, other in zip(found.parameters(), wanted.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6) and one.isfinite().all()
    assert not found.training and not losses


def test_the_least_validation_loss_chooses_also_after_a_stop(tmp_path):
    """Looked at every twenty steps; the second look is the best."""
    training = Training(16, learning_rate=0.01, ema=0.9, every=30, device="cpu")
    wanted, seen = [3.0, 1.0, 2.0], []

    def validate(average):
        seen.append(copy.deepcopy(average))
        return torch.tensor(wanted[len(seen) - 1])

    def stopped(network, places, generator):
        if len(seen) == 2:
            raise KeyboardInterrupt
        return loss(network, places, generator)

    run = network(), loss, len(DATA), training, 60, 1
    found, losses = fit(*run, tmp_path / "run", tqdm, validate)
    assert losses == wanted and len(seen) == 3
    for one, best in zip(found.parameters(), seen[1].parameters(), strict=True):
        assert torch.equal(one, best)
    seen.clear()
    with pytest.raises(KeyboardInterrupt):
        fit(network(), stopped, *run[2:], tmp_path / "other", tqdm, validate)
    seen.pop()  # of step 40, after the checkpoint at 30
    again, losses = fit(network(), *run[1:], tmp_path / "other", tqdm, validate)
    assert losses == wanted
    for one, other in zip(again.parameters(), found.parameters(), strict=True):
        assert torch.equal(one, other)
    loaded, losses = fit(network(), None, *run[2:], tmp_path / "other", tqdm)
    assert losses == wanted
    for one, other in zip(loaded.parameters(), found.parameters(), strict=True):
        assert torch.equal(one, other)
    names = sorted(path.name for path in (tmp_path / "other").iterdir())
    assert names == ["averaged.safetensors", "step_60"]


def test_what_it_refuses_before_any_step(tmp_path):
    def run(count, **how):
        fit(network(), None, count, Training(device="cpu", **how), 1, 0, tmp_path, tqdm)

    with pytest.raises(ValueError, match=r"^celeba: training images must be >= 16, got 15$"):
        run(15, batch=16)
    with pytest.raises(ValueError, match=r"^celeba: batch must be a multiple of 3 parts, got 16$"):
        run(40, batch=16, accumulation=3)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_without_cuda_is_named():
    with pytest.raises(ValueError, match=r"^celeba: device must be auto or cpu, without a CUDA"):
        Training(device="cuda")
    with pytest.raises(ValueError, match=r"^celeba: precision must be no or bf16, without a CUDA"):
        Training(precision="fp16")
    assert Training(precision="bf16", device="cpu").accelerator().mixed_precision == "no"
