"""What users' tensors did to the library, each with its right answer."""

import numpy as np
import pytest
import torch

from gmmdiff import (
    COSTS,
    NGMG,
    Conditioning,
    CosineSchedule,
    Costs,
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
@pytest.mark.parametrize("distance", [energy_distance, wasserstein1])
def test_distances_do_not_depend_on_where_the_origin_is(distance, offset, n, generator):
    """Against float64 at the origin, on points that float32 holds exactly."""
    x, y = ((torch.randn(n, 3, generator=generator) * 64).round() / 64 for _ in range(2))
    found = distance(x + offset, y + offset)
    assert found == pytest.approx(distance(x.double(), y.double()), abs=1e-4)


def test_the_cost_does_not_depend_on_where_the_origin_is(generator):
    x, y = ((torch.randn(90, 3, generator=generator) * 64).round() / 64 for _ in range(2))
    ngmg = NGMG.scale_mixture(0.02, 20, 16)
    expected = float(ngmg.cost(x.double(), y.double()))
    assert float(ngmg.cost(x + 1e4, y + 1e4)) == pytest.approx(expected, abs=1e-5)


def test_whole_numbers_are_promoted():
    found = NGMG([1.5]).gradient(torch.tensor([[1]]))
    assert float(found) == pytest.approx(np.exp(-1 / 4.5) / 2.25, rel=1e-6)  # .3559, not .6065
    assert float(NGMG([1.5]).gradient([[1]])) == pytest.approx(float(found))
    assert float(NGMG([1.5]).potential(np.array([[1]]))) == pytest.approx(1 - np.exp(-1 / 4.5))


def test_equal_seeds_give_equal_streams():
    """A column of seeds that a table turned float is the same column."""
    draws = [
        torch.rand(3, generator=stream(seed, "a")).tolist()
        for seed in (1, 1.0, np.int64(1), np.float64(1), torch.tensor(1), torch.tensor(1.0))
    ]
    assert draws == [draws[0]] * 6
    assert numpy_stream(1.0, "a").random() == numpy_stream(1, "a").random()


@pytest.mark.parametrize(
    "seed",
    [True, np.True_, torch.tensor(True), 1.5, -1, float("nan"), float("inf"), "1", None, [1, 2]],
)
def test_another_seed_is_refused_by_name(seed):
    with pytest.raises(ValueError, match="stream: seed must be a whole number >= 0, got"):
        stream(seed, "a")


LABELS = (torch.bool, torch.uint8, torch.int64, torch.float16, torch.float32, torch.float64)


@pytest.mark.parametrize("dtype", LABELS)
def test_labels_are_of_any_type(dtype, generator):
    z = torch.randn(2, 5, 3, generator=generator)
    labels = torch.randint(0, 2, z.shape, generator=generator)
    expected = Costs(["BCE", "NGMG s=1"]).value(z, labels.float())
    found = Costs(["BCE", "NGMG s=1"]).value(z, labels.to(dtype))
    assert found.dtype == torch.float32 and torch.equal(found, expected)
    assert torch.equal(
        COSTS["BCE"].value(z[0], labels[0].to(dtype)), COSTS["BCE"].value(z[0], labels[0])
    )


@pytest.mark.parametrize("call", ["potential", "gradient", "cost", "costs", "density"])
def test_autocast_changes_nothing(call, generator, mixture):
    x, y = (torch.randn(40, 3, generator=generator) for _ in range(2))
    ngmg, labels = NGMG.scale_mixture(0.1, 10, 8), (y > 0).float()
    calls = {
        "potential": lambda: ngmg.potential(x),
        "gradient": lambda: ngmg.gradient(x),
        "cost": lambda: ngmg.cost(x, y),
        "costs": lambda: Costs(list(COSTS)).value(
            x.expand(len(COSTS), -1, -1), labels.expand(len(COSTS), -1, -1)
        ),
        "density": lambda: mixture.log_prob(x),
    }
    outside = calls[call]()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = calls[call]()
    assert inside.dtype == outside.dtype and torch.equal(inside, outside)


def test_a_distance_is_a_float_whatever_the_graph_and_type(generator):
    x, y = torch.randn(9, 2, generator=generator), torch.randn(7, 2, generator=generator)
    for distance in (wasserstein1, energy_distance):
        expected = distance(x, y)
        assert distance(x.clone().requires_grad_(), y) == expected
        assert distance(x, y.double()) == pytest.approx(expected, abs=1e-6)


def test_nothing_in_nothing_out_or_one_line():
    empty = torch.empty(0, 3)
    assert NGMG([1.0]).potential(empty).shape == (0,) and NGMG([1.0]).gradient(empty).shape == (
        0,
        3,
    )
    for name in COSTS:
        assert (
            COSTS[name].value(empty, empty).shape
            == COSTS[name].gradient(empty, empty).shape
            == (0, 3)
        )
        assert Costs([name]).value(empty.unsqueeze(0), empty.unsqueeze(0)).shape == (1, 0, 3)
    law = GaussianMixture([1.0], [[0.0, 0, 0]], [[1.0, 1, 1]])
    assert law.log_prob(empty).shape == (0,) and law.score(empty).shape == (0, 3)
    for distance in (wasserstein1, energy_distance):
        with pytest.raises(ValueError, match=r"x must be \(n, dim\) with n >= 1, got \(0, 3\)"):
            distance(empty, torch.ones(2, 3))


@pytest.mark.parametrize("x", [torch.ones(1, 2), torch.ones(2)])
def test_one_point_has_no_unbiased_cost(x):
    with pytest.raises(ValueError, match=r"NGMG.cost: x must be \(n, dim\) with n >= 2, got"):
        NGMG([1.0]).cost(x, torch.ones(4, 2))
    with pytest.raises(
        ValueError, match=r"NGMG.mean_potential: x must be \(..., n, D\) with n >= 2"
    ):
        NGMG([1.0]).mean_potential(x)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("method", ["value", "gradient"])
def test_logits_that_are_no_numbers_are_one_line(bad, method):
    z, labels = torch.tensor([[0.5, bad]]), torch.ones(1, 2)
    with pytest.raises(ValueError, match="Cost: logits must be finite, got 1 NaN or infinite of 2"):
        getattr(COSTS["BCE"], method)(z, labels)
    with pytest.raises(
        ValueError, match="Costs: logits must be finite, got 1 NaN or infinite of 2"
    ):
        getattr(Costs(["BCE"]), method)(z.unsqueeze(0), labels.unsqueeze(0))


@pytest.mark.parametrize("name", COSTS)
def test_value_and_gradient_agree_at_probabilities_of_0_and_1(name):
    p = torch.tensor([[[0.0, 1.0, 0.0, 1.0]]], requires_grad=True)
    labels = torch.tensor([[[0.0, 1.0, 1.0, 0.0]]])
    for cost in (COSTS[name], Costs([name])):
        (found,) = torch.autograd.grad(cost.value(p, labels, "probabilities").sum(), p)
        torch.testing.assert_close(found, cost.gradient(p.detach(), labels, "probabilities"))


def test_zero_weights_leave_their_component_out(generator):
    with_zero = GaussianMixture([0.0, 1.0], [[9.0], [0.0]], [[1.0], [2.0]])
    alone, x = GaussianMixture([1.0], [[0.0]], [[2.0]]), torch.randn(5, 1, generator=generator)
    for method in ("log_prob", "score"):
        torch.testing.assert_close(getattr(with_zero, method)(x), getattr(alone, method)(x))
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(with_zero.log_prob(x).sum(), x)
    torch.testing.assert_close(gradient, alone.score(x.detach()))


def test_conditioning_takes_lists_and_arrays(generator):
    table = [[0, 0], [0, 1], [1, 0], [1, 1]]
    arms = [
        Conditioning("class", 0.1, form, stream(0, "means"))
        for form in (
            table,
            np.array(table),
            torch.tensor(table, dtype=torch.uint8),
            np.array(table, float),
        )
    ]
    for arm in arms:
        assert torch.equal(arm.means, arms[0].means)
        for index in ([0, 3], np.array([0, 3]), torch.tensor([0, 3], dtype=torch.int32)):
            assert torch.equal(
                arm.sample(index, stream(0, "d")), arms[0].sample([0, 3], stream(0, "d"))
            )


@pytest.mark.parametrize("mask", [[True, False], np.array([True, False])])
def test_a_mask_is_no_index(mask):
    arm = Conditioning("class", 0.1, [[0, 0], [0, 1]], stream(0, "means"))
    for form in (mask, torch.as_tensor(mask)):
        with pytest.raises(ValueError, match=r"must be \(n,\) in 0 .. 1, got \[True, False\]"):
            arm.sample(form, stream(0, "d"))


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
    law = GaussianMixture(
        torch.full((64,), 1 / 64), torch.randn(64, 8, generator=generator), torch.ones(64, 8)
    ).diffuse(0.8, 0.6)
    x = torch.randn(40_000, 8, generator=generator).requires_grad_()
    assert peak(lambda: law.log_prob(x).sum().backward()) < 40
    assert peak(lambda: law.score(x.detach())) < 40
    assert peak(lambda: law.posterior_mean(x.detach(), 0.8, 0.6)) < 40
    torch.testing.assert_close(x.grad[:100], law.score(x.detach()[:100]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "call", ["potential", "gradient", "log_prob", "score", "posterior_mean", "value"]
)
def test_functional_transforms_see_the_same(call, generator, mixture):
    """``torch.vmap`` row by row, and ``torch.func.grad`` against autograd."""
    x = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    labels = (x > 0).double()
    calls = {
        "potential": NGMG([0.5, 1.0]).potential,
        "gradient": NGMG([0.5, 1.0]).gradient,
        "log_prob": mixture.log_prob,
        "score": mixture.score,
        "posterior_mean": lambda x: mixture.posterior_mean(x, 0.8, 0.6),
        "value": lambda x: COSTS["NGMG with entropy"].value(x, torch.ones_like(x)),
    }
    function = calls[call]
    torch.testing.assert_close(torch.vmap(function)(x), function(x))
    expected = torch.autograd.functional.jacobian(lambda x: function(x).sum(), x)
    torch.testing.assert_close(torch.func.grad(lambda x: function(x).sum())(x), expected)
    assert labels.shape == x.shape
