"""Schedules and samplers against diffusers, and the samplers' orders on an exact ODE."""

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from scipy.integrate import quad

from gmmdiff.core.diffusion import (
    CosineSchedule,
    LinearBetaSchedule,
    adams_bashforth,
    ancestral,
    ddim,
    diffuse,
    dpmpp_2m,
    split_prediction,
    velocity,
)
from gmmdiff.core.losses import NGMGLoss
from gmmdiff.core.mixtures import GaussianMixture
from gmmdiff.core.streams import stream
from gmmdiff.experiments.theory.closed_forms import (
    example_mixture,
    mixture_quantile,
    sampler_orders,
)

SCHEDULE = LinearBetaSchedule()
MIXTURE = GaussianMixture(
    torch.tensor([0.3, 0.7]).double(),
    torch.tensor([[1.0, -1.0], [-0.5, 0.4]]).double(),
    torch.full((2, 2), 0.3).double(),
)


def oracle(x, t, kind):
    """The exact prediction of a mixture, from its posterior mean."""
    alpha, sigma = SCHEDULE.alpha(t), SCHEDULE.sigma(t)
    x_0 = MIXTURE.posterior_mean(x, alpha, sigma)
    epsilon = (x - alpha * x_0) / sigma
    v = velocity(x_0, epsilon, alpha, sigma)
    return {"epsilon": epsilon, "sample": x_0, "v_prediction": v}[kind]


def by_diffusers(scheduler, x, steps, kind, generator):
    scheduler.set_timesteps(steps)
    for t in scheduler.timesteps:
        extra = {"generator": generator} if isinstance(scheduler, DDPMScheduler) else {}
        prediction = oracle(x, (t + 1).double() / 1000, kind)
        x = scheduler.step(prediction, t, x, **extra).prev_sample
    return x


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("steps", [50, 1000])
@pytest.mark.parametrize(("ours", "theirs"), [(ancestral, DDPMScheduler), (ddim, DDIMScheduler)])
def test_samplers_are_those_of_diffusers(ours, theirs, steps, kind):
    x = torch.randn(16, 2, generator=stream(0, "start"), dtype=torch.float64)
    scheduler = theirs(prediction_type=kind, clip_sample=False, timestep_spacing="leading")
    expected = by_diffusers(scheduler, x, steps, kind, stream(0, "noise"))
    stride = 1000 // steps
    times = torch.cat([(torch.arange(steps).flip(0) * stride + 1) / 1000, torch.zeros(1)]).double()
    found = ours(lambda x, t: oracle(x, t, kind), x, times, SCHEDULE, kind, stream(0, "noise"))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_ddim_is_of_first_and_dpmpp_of_second_order():
    table = sampler_orders([40, 80, 160])
    for name, order in (("DDIM", 1), ("DPM-Solver++(2M)", 2)):
        errors = table[table["sampler"] == name]
        slope = np.polyfit(np.log(errors["steps"]), np.log(errors["error"]), 1)[0]
        assert abs(-slope - order) < 0.15, (name, slope)


LEVELS = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)


def quantiles(t):
    """The example mixture's, diffused to t: where the exact flow carries each level."""
    t = torch.as_tensor(t, dtype=torch.float64)
    law = example_mixture().diffuse(CosineSchedule().alpha(t), CosineSchedule().sigma(t))
    return torch.tensor([[mixture_quantile(law, level)] for level in LEVELS.tolist()]).double()


def on_the_line(x, t, kind="sample", asked=None):
    """The exact prediction of the example mixture; t is noted in ``asked``."""
    if asked is not None:
        asked.append(t)
    alpha, sigma = CosineSchedule().alpha(t), CosineSchedule().sigma(t)
    x_0 = example_mixture().posterior_mean(x, alpha, sigma)
    epsilon = (x - alpha * x_0) / sigma
    v = velocity(x_0, epsilon, alpha, sigma)
    return {"epsilon": epsilon, "sample": x_0, "v_prediction": v}[kind]


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_adams_bashforth_is_of_its_order_on_the_exact_flow(order):
    """From t = 0.999, where the first steps, of lower order, cost nothing."""
    start, expected, errors, counts = quantiles(0.999), quantiles(0.05), [], [40, 80, 160]
    for steps in counts:
        times = CosineSchedule().even_times(steps, 0.999, 0.05, bend=1.5)
        found = adams_bashforth(on_the_line, start, times, CosineSchedule(), "sample", order=order)
        errors.append(float((found - expected).square().mean().sqrt()))
    slope = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert abs(slope - order) < 0.2, (slope, errors)


def test_adams_bashforth_at_20_evaluations_beats_dpm_solver_of_diffusers():
    """From one noise to the mixture's own quantiles, each asking exactly at its own times."""
    start = torch.special.ndtri(LEVELS).unsqueeze(1)
    times = CosineSchedule().even_times(19, end=0.0125, bend=1.25)
    times, asked = torch.cat([times, times.new_zeros(1)]), []
    found = adams_bashforth(
        lambda x, t: on_the_line(x, t, asked=asked), start, times, CosineSchedule(), "sample"
    )
    assert len(asked) == 20
    moments = torch.linspace(0.002, 0.999, 1000, dtype=torch.float64)
    kept = torch.cat([torch.ones(1).double(), CosineSchedule().alpha(moments).square()])
    betas = (1 - kept[1:] / kept[:-1]).numpy()
    scheduler = DPMSolverMultistepScheduler(trained_betas=betas, prediction_type="sample")
    scheduler.set_timesteps(20)
    theirs = start
    for sigma, number in zip(scheduler.sigmas.double(), scheduler.timesteps, strict=False):
        t = torch.atan(sigma) * (2 / torch.pi)
        theirs = scheduler.step(on_the_line(theirs, t), number, theirs).prev_sample
    ours, other = ((z - quantiles(0.0)).square().mean().sqrt() for z in (found, theirs))
    assert ours < other / 3, (float(ours), float(other))


def test_adams_bashforth_of_first_order_is_ddim():
    x, times = torch.randn(9, 1, generator=stream(0, "x")).double(), torch.linspace(1, 0, 9)
    found, expected = (
        sampler(on_the_line, x, times, CosineSchedule(), "sample", None, *order)
        for sampler, order in ((adams_bashforth, [1]), (ddim, []))
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("first", [1.0, 0.9])
def test_adams_bashforth_integrates_a_parabola_in_the_angle(first):
    """Its third step against ``scipy.integrate.quad`` of d(x / sigma) = x_0 d(alpha / sigma)."""
    times = torch.tensor([first, 0.8, 0.5, 0.06], dtype=torch.float64)
    x_0 = lambda t: 1 - 2 * t + 3 * t**2  # noqa: E731 - t is the angle
    given = lambda x, t: x_0(t).expand_as(x), torch.ones(2).double()
    before = adams_bashforth(*given, times[:3], CosineSchedule(), "sample")
    found = adams_bashforth(*given, times, CosineSchedule(), "sample")
    s, e = times[2:] * (torch.pi / 2)
    area, _ = quad(lambda k: x_0(np.arctan2(1, k) * 2 / np.pi), 1 / s.tan(), 1 / e.tan())
    torch.testing.assert_close(found, e.sin() * (before / s.sin() + area), rtol=1e-9, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_adams_bashforth_is_one_for_every_prediction_and_precision(kind, dtype):
    """Also where the denoiser makes one time an entry of the scalar, as networks do."""
    x, times = torch.randn(9, 2, generator=stream(0, "x")).double(), torch.linspace(0.96, 0, 13)

    def of_a_gaussian(x, t, kind="sample"):
        alpha, sigma = CosineSchedule().alpha(t), CosineSchedule().sigma(t)
        x_0 = 0.5 + 0.09 * alpha / (0.09 * alpha**2 + sigma**2) * (x - 0.5 * alpha)
        epsilon = (x - alpha * x_0) / sigma
        v = velocity(x_0, epsilon, alpha, sigma)
        return {"epsilon": epsilon, "sample": x_0, "v_prediction": v}[kind]

    def denoiser(x, t):
        assert t.ndim == 0 and x.dtype == t.dtype == dtype
        return of_a_gaussian(x.double(), t.double().expand(len(x), 1), kind).to(dtype)

    expected = adams_bashforth(of_a_gaussian, x, times.double(), CosineSchedule(), "sample")
    found = adams_bashforth(denoiser, x.to(dtype), times, CosineSchedule(), kind)
    assert found.dtype == dtype
    room = {torch.float64: 1e-6, torch.float32: 1e-4, torch.bfloat16: 0.1}[dtype]
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=room)


@pytest.mark.parametrize("schedule", [CosineSchedule(), LinearBetaSchedule()])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_schedules_preserve_variance_and_start_at_data(schedule, dtype):
    t = torch.linspace(0, 1, 1001, dtype=dtype)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(t), rtol=0, atol=1e-6)
    assert alpha[0] == 1 and sigma[0] == 0 and (alpha >= 0).all()


@pytest.mark.parametrize("sampler", [ancestral, ddim, dpmpp_2m, adams_bashforth])
def test_a_perfect_denoiser_of_one_point_gives_that_point(sampler, generator):
    """With x_0 known, every sampler must end there, from t = 1 to t = 0."""
    point, schedule = torch.tensor([0.3, -0.7], dtype=torch.float64), CosineSchedule()

    def denoiser(x, t):
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        return velocity(point, (x - alpha * point) / sigma, alpha, sigma)

    start = torch.randn(8, 2, generator=generator, dtype=torch.float64)
    times = torch.linspace(1, 0, 11, dtype=torch.float64)
    found = sampler(denoiser, start, times, schedule, "v_prediction", generator)
    torch.testing.assert_close(found, point.expand(8, 2), rtol=0, atol=1e-10)


def test_even_times_are_even_in_the_log_signal_to_noise_ratio():
    schedule = CosineSchedule()
    times = schedule.even_times(7, 0.98, 0.02)
    half_log_snr = (schedule.alpha(times) / schedule.sigma(times)).log()
    torch.testing.assert_close(half_log_snr.diff(), half_log_snr.diff()[:1].expand(7))
    torch.testing.assert_close(times[[0, -1]], torch.tensor([0.98, 0.02], dtype=torch.float64))


def test_bent_times_are_even_in_the_bent_log_signal_to_noise_ratio():
    schedule = CosineSchedule()
    times = schedule.even_times(7, 0.98, 0.02, bend=1.5)
    bent = ((schedule.alpha(times) / schedule.sigma(times)).log() / 1.5).asinh()
    torch.testing.assert_close(bent.diff(), bent.diff()[:1].expand(7))
    torch.testing.assert_close(times[[0, -1]], torch.tensor([0.98, 0.02], dtype=torch.float64))


def test_diffuse_and_velocity_invert():
    x_0, noise = torch.tensor([2.0]), torch.tensor([-1.0])
    alpha, sigma = torch.tensor(0.6), torch.tensor(0.8)
    x_t, v = diffuse(x_0, noise, alpha, sigma), velocity(x_0, noise, alpha, sigma)
    torch.testing.assert_close(alpha * x_t - sigma * v, x_0)


@pytest.mark.parametrize("size", [(), (3,), (3, 3), (2, 5, 4)])
@pytest.mark.parametrize("call", ["diffuse", "velocity", "split_prediction"])
def test_a_time_a_sample_is_that_samples(call, size, generator):
    """Against ``torch.vmap``, also where other sizes are as many as the samples are."""
    function = {"diffuse": diffuse, "velocity": velocity}.get(
        call, lambda x, y, a, s: split_prediction(x, y, a, s, "v_prediction")[0]
    )
    x, y = torch.randn(2, 3, *size, generator=generator)
    t = torch.rand(3, generator=generator)
    alpha, sigma = CosineSchedule().alpha(t), CosineSchedule().sigma(t)
    expected = torch.vmap(function)(x, y, alpha, sigma)
    assert torch.equal(function(x, y, alpha, sigma), expected)
    assert torch.equal(function(x, y, alpha.tolist(), sigma.tolist()), expected)
    one = torch.tensor(0.25, dtype=torch.float64)  # a number widens no type, whatever its form
    assert torch.equal(function(x, y, one, one), function(x, y, 0.25, 0.25))
    column = (3, *[1] * len(size))
    assert torch.equal(function(x, y, alpha.view(column), sigma.view(column)), expected)
    compiled = torch.compile(function, fullgraph=True, backend="eager")
    assert torch.equal(compiled(x, y, alpha, sigma), expected)
    for wrong in (alpha[:2], alpha.view(*column, 1)):
        with pytest.raises(ValueError, match=r"alpha must be a number, or one a sample of \(3,"):
            function(x, y, wrong, sigma)


def test_mixtures_take_one_time_or_vmap(generator):
    """The posterior mean of samples at times of their own is that of each alone."""
    x = torch.randn(2, 2, generator=generator, dtype=torch.float64)
    alpha, sigma = torch.tensor([[0.6, 0.8], [0.8, 0.6]]).double()
    each = [MIXTURE.posterior_mean(*given) for given in zip(x, alpha, sigma, strict=True)]
    found = torch.vmap(MIXTURE.posterior_mean)(x, alpha, sigma)
    torch.testing.assert_close(found, torch.stack(each))
    for rate in (alpha, alpha[:, None]):
        for call in (MIXTURE.diffuse, lambda *rates: MIXTURE.posterior_mean(x, *rates)):
            with pytest.raises(ValueError, match=r"alpha must be a number .* got") as caught:
                call(rate, sigma)
            assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("draw", ["ancestral", "GaussianMixture.sample"])
def test_noise_is_drawn_where_the_generator_is(draw, monkeypatch):
    """As if the CPU's generator were another device's: all draws are asked for there."""

    class Elsewhere(torch.Generator):
        device = torch.device("cuda")

    asked = []

    def randn(shape, generator, dtype, device):
        asked.append(device.type)
        return torch.zeros(shape, dtype=dtype)

    move = torch.Tensor.to

    def to(tensor, *place):
        asked.extend(z.type for z in place if isinstance(z, torch.device))
        return move(tensor, *[z for z in place if not isinstance(z, torch.device)] or ["cpu"])

    generator = Elsewhere()
    monkeypatch.setattr(torch, "randn", randn)
    monkeypatch.setattr(torch.Tensor, "to", to)
    if draw == "ancestral":
        x, times = torch.zeros(4, 2), torch.tensor([0.9, 0.5, 0.1])
        found = ancestral(lambda x, t: x, x, times, CosineSchedule(), "sample", generator)
    else:
        found = MIXTURE.sample(4, generator)
        assert asked[0] == "cuda"  # the weights, whose components are drawn
    assert found.shape == (4, 2) and asked[-2:] == ["cuda", "cpu"]


def test_schedules_and_losses_made_on_meta_keep_their_numbers():
    with torch.device("meta"):
        schedule, loss = LinearBetaSchedule(), NGMGLoss.scale_mixture(0.1, 1.0, 4)
    t, x = torch.tensor([0.3]), torch.ones(3, 2)
    assert torch.equal(schedule.alpha(t), SCHEDULE.alpha(t))
    assert loss(x, 0 * x) == NGMGLoss.scale_mixture(0.1, 1.0, 4)(x, 0 * x)


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
def test_every_prediction_of_one_x_0_stands_for_it(kind):
    x_0, noise = torch.randn(2, 5, 3, generator=stream(0, "split"), dtype=torch.float64)
    alpha, sigma = 0.6, 0.8
    x_t = diffuse(x_0, noise, alpha, sigma)
    told = {"epsilon": noise, "sample": x_0, "v_prediction": velocity(x_0, noise, alpha, sigma)}
    for found, expected in zip(
        split_prediction(told[kind], x_t, alpha, sigma, kind), (x_0, noise), strict=True
    ):
        torch.testing.assert_close(found, expected)
