"""What users' tensors did to the library, each with its right answer."""

import numpy as np
import pytest
import torch

from gmmdiff import (
    COSTS,
    NGMG,
    CosineSchedule,
    GaussianMixture,
    adams_bashforth,
    ancestral,
    dpmpp_2m,
    energy_distance,
    numpy_stream,
    stream,
    wasserstein1,
)


@pytest.mark.parametrize("sampler", [ancestral, dpmpp_2m, adams_bashforth])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_neighbouring_times_do_not_become_equal(sampler, dtype, generator):
    """A denoiser that knows x_0 is followed to it, in half precision too."""
    schedule, x_0 = CosineSchedule(), torch.linspace(-1, 1, 8)
    times = torch.cat([schedule.even_times(300), torch.zeros(1)])

    def denoiser(x_t, t):
        alpha, sigma = schedule.alpha(t.float()), schedule.sigma(t.float()).clamp_min(1e-3)
        return ((alpha * x_t.float() - x_0) / sigma).to(dtype)

    start = torch.randn(8, generator=generator).to(dtype)
    found = sampler(denoiser, start, times, schedule, "v_prediction", generator)
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), x_0, rtol=0, atol=0.05)


@pytest.mark.parametrize("n", [25, 26, 300])
@pytest.mark.parametrize("offset", [0.0, 100.0, 1e4])
@pytest.mark.parametrize("distance", [energy_distance, wasserstein1, NGMG([0.1, 5.0]).cost])
def test_distances_do_not_depend_on_where_the_origin_is(distance, offset, n, generator):
    """Against float64 at the origin, on points that float32 holds exactly."""
    x, y = ((torch.randn(n, 3, generator=generator) * 64).round() / 64 for _ in range(2))
    expected = float(distance(x.double(), y.double()))
    assert float(distance(x + offset, y + offset)) == pytest.approx(expected, abs=1e-4)


def test_equal_seeds_give_equal_streams():
    """A column of seeds that a table turned float is the same column."""
    seeds = (1, 1.0, np.int64(1), np.float64(1), torch.tensor(1), torch.tensor(1.0))
    draws = [torch.rand(3, generator=stream(seed, "a")).tolist() for seed in seeds]
    assert draws == [draws[0]] * 6
    assert numpy_stream(1.0, "a").random() == numpy_stream(1, "a").random()


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float16, torch.float64])
def test_labels_are_of_any_type_and_leave_that_of_the_logits(dtype, generator):
    z, labels = torch.randn(5, 3, generator=generator), torch.arange(15).view(5, 3) % 2
    for cost in COSTS.values():
        found = cost.value(z, labels.to(dtype))
        assert found.dtype == torch.float32 and torch.equal(found, cost.value(z, labels))


def test_nothing_in_nothing_out():
    empty = torch.empty(0, 3)
    law = GaussianMixture([1.0], [[0.0] * 3], [[1.0] * 3])
    assert NGMG([1.0]).potential(empty).shape == law.log_prob(empty).shape == (0,)
    assert NGMG([1.0]).gradient(empty).shape == law.score(empty).shape == (0, 3)
    for cost in COSTS.values():
        assert cost.value(empty, empty).shape == cost.gradient(empty, empty).shape == (0, 3)


@pytest.mark.parametrize("name", COSTS)
def test_value_and_gradient_agree_at_probabilities_of_0_and_1(name):
    p, labels = torch.tensor([0.0, 1, 0, 1], requires_grad=True), torch.tensor([0.0, 1, 1, 0])
    (found,) = torch.autograd.grad(COSTS[name].value(p, labels, "probabilities").sum(), p)
    expected = COSTS[name].gradient(p.detach(), labels, "probabilities")
    torch.testing.assert_close(found, expected)


def peak(function):
    """MiB that a call takes at its most, by torch's own account."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        function()
    held, most = 0, 0
    for event in watched.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most / 2**20


def test_gradients_of_densities_stay_within_their_block(generator):
    """40,000 points and 64 components in R^8 are 164 MiB at once; a block is 2."""
    means = torch.randn(64, 8, generator=generator)
    law = GaussianMixture([1 / 64] * 64, means, torch.ones(64, 8)).diffuse(0.8, 0.6)
    x = torch.randn(40_000, 8, generator=generator).requires_grad_()
    assert peak(lambda: law.log_prob(x).sum().backward()) < 40
    assert peak(lambda: law.score(x.detach())) < 40
    assert peak(lambda: law.posterior_mean(x.detach(), 0.8, 0.6)) < 40
    torch.testing.assert_close(x.grad[:100], law.score(x.detach()[:100]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "call",
    [
        lambda law: NGMG([0.5, 1.0]).potential,
        lambda law: NGMG([0.5, 1.0]).gradient,
        lambda law: law.log_prob,
        lambda law: law.score,
        lambda law: lambda x: law.posterior_mean(x, 0.8, 0.6),
        lambda law: lambda x: COSTS["NGMG with entropy"].value(x, torch.ones_like(x)),
    ],
)
def test_functional_transforms_see_the_same(call, generator, mixture):
    """``torch.vmap`` row by row, and ``torch.func.grad`` against autograd."""
    x, function = torch.randn(6, 3, generator=generator, dtype=torch.float64), call(mixture)
    torch.testing.assert_close(torch.vmap(function)(x), function(x))
    expected = torch.autograd.functional.jacobian(lambda x: function(x).sum(), x)
    torch.testing.assert_close(torch.func.grad(lambda x: function(x).sum())(x), expected)
