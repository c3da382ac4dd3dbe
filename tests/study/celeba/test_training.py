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
    found = fit(network(), loss, len(DATA), training, 7, 5, tmp_path / "run", tqdm)
    wanted = plainly(training, 7, 5, parts)
    for one, other in zip(found.parameters(), wanted.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6) and one.isfinite().all()
    assert not found.training


def test_longer_training_goes_on_and_a_finished_one_is_loaded(tmp_path):
    training = Training(16, learning_rate=0.01, ema=0.9, every=4, device="cpu")
    run = network(), loss, len(DATA), training
    first = copy.deepcopy(fit(*run, 5, 1, tmp_path / "run", tqdm))
    longer = fit(*run, 9, 1, tmp_path / "run", tqdm)
    whole = fit(network(), loss, len(DATA), training, 9, 1, tmp_path / "other", tqdm)
    again = fit(network(), None, len(DATA), training, 5, 1, tmp_path / "run", tqdm)
    for one, other in ((longer, whole), (first, again)):
        for a, b in zip(one.parameters(), other.parameters(), strict=True):
            assert torch.equal(a, b)
    names = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert names == ["averaged_5.safetensors", "averaged_9.safetensors", "step_9"]


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
