"""Schedules and samplers against diffusers, and the samplers' orders on an exact ODE."""

import math

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from scipy.integrate import quad, solve_ivp

from gmmdiff import CosineSchedule, LinearBetaSchedule, ancestral, ddim, dpmpp_2m
from gmmdiff.core.diffusion import adams_bashforth_moulton, diffuse, split_prediction, velocity
from gmmdiff.core.mixtures import GaussianMixture
from gmmdiff.core.streams import numpy_stream, random_on, stream
from gmmdiff.experiments.theory import closed_forms
from gmmdiff.worlds.arcs import Arcs

COSINE, LINEAR = CosineSchedule(), LinearBetaSchedule()
KINDS = ("epsilon", "sample", "v_prediction")
MIXTURE = GaussianMixture([0.3, 0.7], np.array([[1.0, -1.0], [-0.5, 0.4]]), [[0.3] * 2] * 2)


def exact(law, x, t, kind="sample", schedule=COSINE):
    """The exact prediction of a mixture, from its posterior mean."""
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    x_0 = law.posterior_mean(x, alpha, sigma)
    epsilon = (x - alpha * x_0) / sigma
    v = velocity(x_0, epsilon, alpha, sigma)
    return {"epsilon": epsilon, "sample": x_0, "v_prediction": v}[kind]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", [50, 1000])
@pytest.mark.parametrize(("ours", "theirs"), [(ancestral, DDPMScheduler), (ddim, DDIMScheduler)])
def test_samplers_are_those_of_diffusers(ours, theirs, steps, kind):
    x = torch.randn(16, 2, generator=stream(0, "start"), dtype=torch.float64)
    scheduler = theirs(prediction_type=kind, clip_sample=False, timestep_spacing="leading")
    scheduler.set_timesteps(steps)
    expected, noise = x, stream(0, "noise")
    for t in scheduler.timesteps:
        extra = {"generator": noise} if theirs is DDPMScheduler else {}
        prediction = exact(MIXTURE, expected, (t + 1).double() / 1000, kind, LINEAR)
        expected = scheduler.step(prediction, t, expected, **extra).prev_sample
    times = (torch.arange(steps).flip(0) * (1000 // steps) + 1) / 1000
    times = torch.cat([times, torch.zeros(1)]).double()
    denoiser = lambda x, t: exact(MIXTURE, x, t, kind, LINEAR)  # noqa: E731
    found = ours(denoiser, x, times, LINEAR, kind, stream(0, "noise"))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_ddim_is_of_first_and_dpmpp_of_second_order():
    table = closed_forms.sampler_orders([40, 80, 160])
    for name, order in (("DDIM", 1), ("DPM-Solver++(2M)", 2)):
        errors = table[table["sampler"] == name]
        slope = np.polyfit(np.log(errors["steps"]), np.log(errors["error"]), 1)[0]
        assert abs(-slope - order) < 0.15, (name, slope)


LEVELS = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)


def quantiles(t):
    """The example mixture's, diffused to t: where the exact flow carries each level."""
    t = torch.as_tensor(t, dtype=torch.float64)
    law = closed_forms.example_mixture().diffuse(COSINE.alpha(t), COSINE.sigma(t))
    return torch.tensor(
        [[closed_forms.mixture_quantile(law, level)] for level in LEVELS.tolist()]
    ).double()


def on_the_line(x, t):
    return exact(closed_forms.example_mixture(), x, t)


def error_and_order(law, start, expected, ends, order=3):
    """By Adams-Bashforth-Moulton at 160 steps, and from 40, 80 and 160."""
    errors, counts = [], [40, 80, 160]
    for steps in counts:
        times = COSINE.even_times(steps, *ends, bend=1.5)
        found = adams_bashforth_moulton(
            lambda x, t: exact(law, x, t), start, times, COSINE, "sample", order=order
        )
        errors.append(float((found - expected).square().mean().sqrt()))
    return errors[-1], -np.polyfit(np.log(counts), np.log(errors), 1)[0]


@pytest.mark.parametrize("order", [1, 2, 3])
def test_adams_bashforth_moulton_is_of_its_order_on_the_exact_flow(order):
    """From t = 0.999, where the first steps, of lower order, cost nothing."""
    ends, law = (0.999, 0.05), closed_forms.example_mixture()
    error, slope = error_and_order(law, *map(quantiles, ends), ends, order)
    assert abs(slope - order - 1) < 0.2, (slope, error)


def arcs():
    return Arcs(8, stream(0, "arcs")).density([0, 5], nodes=32)


def four():
    draws = torch.randn(2, 4, 8, generator=stream(0, "R^8"), dtype=torch.float64)
    return GaussianMixture([0.25] * 4, draws[0], 0.3 + draws[1].square() / 10)


@pytest.mark.parametrize("law", [four, arcs])
def test_adams_bashforth_moulton_is_of_fourth_order_in_several_dimensions(law):
    """On exact laws, against SciPy's solution of dx / dt in the angle of alpha and sigma."""
    law, ends = law(), (0.999, 0.3)
    x = torch.randn(4, 8, generator=stream(0, "noise"), dtype=torch.float64)

    def slope(t, flat):  # x_t = cos x_0 + sin eps at this angle
        x_t = torch.from_numpy(flat).view_as(x)
        x_0 = exact(law, x_t, torch.tensor(t, dtype=torch.float64))
        eps = (x_t - math.cos(t * math.pi / 2) * x_0) / math.sin(t * math.pi / 2)
        v = math.cos(t * math.pi / 2) * eps - math.sin(t * math.pi / 2) * x_0
        return math.pi / 2 * v.flatten().numpy()

    solved = solve_ivp(slope, ends, x.flatten().numpy(), rtol=1e-10, atol=1e-10)
    expected = torch.from_numpy(solved.y[:, -1])
    error, order = error_and_order(law, x, expected.view_as(x), ends)
    assert order > 3.7 and error < 1e-5, (order, error)


def test_a_step_of_adams_bashforth_moulton_integrates_a_parabola():
    """Against quadrature of d(x / sigma) = x_0 dk, where x_0 is a parabola in the angle."""
    times = torch.tensor([0.9, 0.7, 0.6, 0.45, 0.2], dtype=torch.float64)
    x_0 = lambda t: 1 + (t - 0.3) ** 2  # noqa: E731
    start = torch.tensor([[2.0]], dtype=torch.float64)
    found = adams_bashforth_moulton(lambda x, t: x_0(t) + 0 * x, start, times, COSINE, "sample")
    k = lambda t: 1 / math.tan(math.pi / 2 * t)  # noqa: E731
    angle = lambda k: math.atan2(1, k) * 2 / math.pi  # noqa: E731
    # The last step is predicted by three points; all before it are corrected, from two on.
    first = np.polyfit([0.9, 0.7], [x_0(0.9), x_0(0.7)], 1)
    grown = quad(lambda k: np.polyval(first, angle(k)), k(0.9), k(0.7))[0]
    grown += quad(lambda k: x_0(angle(k)), k(0.7), k(0.2))[0]
    sigma = [math.sin(math.pi / 2 * t) for t in (0.9, 0.2)]
    assert float(found) == pytest.approx(sigma[1] * (2 / sigma[0] + grown), abs=1e-10)


def test_adams_bashforth_moulton_at_12_evaluations_halves_the_error_of_dpm_solver_of_diffusers():
    """And has less than that one at 20, from one noise to the mixture's own quantiles."""
    start, asked = torch.special.ndtri(LEVELS).unsqueeze(1), []
    times = COSINE.even_times(11, 0.999, 0.02, bend=1.5)
    times = torch.cat([times, times.new_zeros(1)])

    def denoiser(x, t):
        asked.append(t)
        return on_the_line(x, t)

    found = adams_bashforth_moulton(denoiser, start, times, COSINE, "sample")
    assert len(asked) == 12
    moments = torch.linspace(0.002, 0.999, 1000, dtype=torch.float64)
    kept = torch.cat([torch.ones(1).double(), COSINE.alpha(moments).square()])
    betas = (1 - kept[1:] / kept[:-1]).numpy()
    others = {}
    for count in (12, 20):
        scheduler = DPMSolverMultistepScheduler(trained_betas=betas, prediction_type="sample")
        scheduler.set_timesteps(count)
        theirs = start
        for sigma, number in zip(scheduler.sigmas.double(), scheduler.timesteps, strict=False):
            t = torch.atan(sigma) * (2 / torch.pi)
            theirs = scheduler.step(on_the_line(theirs, t), number, theirs).prev_sample
        others[count] = float((theirs - quantiles(0.0)).square().mean().sqrt())
    error = float((found - quantiles(0.0)).square().mean().sqrt())
    assert error < others[12] / 2 and error < others[20], (error, others)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("sampler", [ddim, dpmpp_2m, adams_bashforth_moulton])
def test_samplers_are_one_for_every_prediction_and_precision(sampler, dtype):
    x, times = torch.randn(9, 2, generator=stream(0, "x")).double(), torch.linspace(0.96, 0, 13)
    law = GaussianMixture(*(torch.tensor(z).double() for z in ([1.0], [[0.5] * 2], [[0.3] * 2])))

    def sampled(kind, dtype):
        def denoiser(x, t):
            assert t.ndim == 0 and x.dtype == t.dtype == dtype
            return exact(law, x.double(), t.double(), kind).to(dtype)

        return sampler(denoiser, x.to(dtype), times, COSINE, kind)

    room = {torch.float64: 1e-6, torch.float32: 1e-4, torch.bfloat16: 0.1}[dtype]
    for kind in ("epsilon", "v_prediction"):
        found = sampled(kind, dtype)
        assert found.dtype == dtype
        expected = sampled("sample", torch.float64)
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=room)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("sampler", [ancestral, ddim, dpmpp_2m, adams_bashforth_moulton])
def test_a_perfect_denoiser_of_one_point_gives_that_point(sampler, dtype, generator):
    """From t = 1 to t = 0; in half precision too neighbouring times do not become equal."""
    point = torch.linspace(-1, 1, 8)
    times = torch.cat([torch.ones(1), COSINE.even_times(300), torch.zeros(1)])

    def denoiser(x, t):
        alpha, sigma = COSINE.alpha(t.double()), COSINE.sigma(t.double())
        return ((alpha * x.double() - point) / sigma).to(dtype)

    start = torch.randn(8, generator=generator).to(dtype)
    found = sampler(denoiser, start, times, COSINE, "v_prediction", generator)
    assert found.dtype == dtype
    room = 1e-10 if dtype == torch.float64 else 0.05
    torch.testing.assert_close(found.double(), point.double(), rtol=0, atol=room)


@pytest.mark.parametrize("kind", KINDS)
def test_every_prediction_of_one_x_0_stands_for_it(kind):
    x_0, noise = torch.randn(2, 5, 3, generator=stream(0, "split"), dtype=torch.float64)
    x_t, v = diffuse(x_0, noise, 0.6, 0.8), velocity(x_0, noise, 0.6, 0.8)
    prediction = {"epsilon": noise, "sample": x_0, "v_prediction": v}[kind]
    found = split_prediction(prediction, x_t, 0.6, 0.8, kind)
    torch.testing.assert_close(found, (x_0, noise))


@pytest.mark.parametrize("schedule", [COSINE, LINEAR])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_schedules_preserve_variance_and_start_at_data(schedule, dtype):
    t = torch.linspace(0, 1, 1001, dtype=dtype)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(t), rtol=0, atol=1e-6)
    assert alpha[0] == 1 and sigma[0] == 0 and (alpha >= 0).all()


@pytest.mark.parametrize("bend", [torch.inf, 1.5])
def test_even_times_are_even_in_the_bent_log_signal_to_noise_ratio(bend):
    times = COSINE.even_times(7, 0.98, 0.02, bend)
    half_log_snr = (COSINE.alpha(times) / COSINE.sigma(times)).log()
    bent = half_log_snr if bend == torch.inf else (half_log_snr / bend).asinh()
    torch.testing.assert_close(bent.diff(), bent.diff()[:1].expand(7))
    torch.testing.assert_close(times[[0, -1]], torch.tensor([0.98, 0.02], dtype=torch.float64))
    assert COSINE.even_times(2)[[0, -1]].tolist() == pytest.approx([0.999, 0.005])


@pytest.mark.parametrize("size", [(), (3,), (3, 3), (2, 5, 4)])
@pytest.mark.parametrize("call", ["diffuse", "velocity", "split_prediction"])
def test_a_time_a_sample_is_that_samples(call, size, generator):
    """Against ``torch.vmap``, also where other sizes are as many as the samples are."""
    function = {"diffuse": diffuse, "velocity": velocity}.get(
        call, lambda x, y, a, s: split_prediction(x, y, a, s, "v_prediction")[0]
    )
    x, y = torch.randn(2, 3, *size, generator=generator)
    t = torch.rand(3, generator=generator)
    alpha, sigma = COSINE.alpha(t), COSINE.sigma(t)
    expected = torch.vmap(function)(x, y, alpha, sigma)
    column = (3, *[1] * len(size))
    compiled = torch.compile(function, fullgraph=True, backend="eager")
    assert torch.equal(compiled(x, y, alpha, sigma), expected)
    for form in (lambda rate: rate, torch.Tensor.tolist, lambda rate: rate.view(column)):
        assert torch.equal(function(x, y, form(alpha), form(sigma)), expected)
    one = torch.tensor(0.25, dtype=torch.float64)  # a number widens no type, whatever its form
    assert torch.equal(function(x, y, one, one), function(x, y, 0.25, 0.25))
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
        with pytest.raises(ValueError, match=r"alpha must be a number .* got"):
            MIXTURE.posterior_mean(x, rate, sigma)


def test_a_named_stream_is_that_of_every_version():
    assert stream(7, "data").initial_seed() == 4237268861321998237
    expected = np.random.default_rng(4237268861321998237).random()
    assert numpy_stream(7, "data").random() == expected


def test_noise_is_drawn_where_the_generator_is():
    """So a seed's is one on every device; ``meta`` stands for another one, of shapes alone."""
    one, other = stream(0, "noise"), stream(0, "noise")
    found = random_on(torch.device("meta"), torch.randn, (4, 2), one, torch.float32)
    assert found.is_meta and found.shape == (4, 2)
    torch.randn(4, 2, generator=other)
    assert torch.equal(one.get_state(), other.get_state())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_generator_on_the_cpu_serves_tensors_on_a_gpu():
    law = GaussianMixture(*(z.cuda() for z in (MIXTURE.weights, MIXTURE.means, MIXTURE.scales)))
    expected = MIXTURE.sample(4, stream(0, "draws"))
    assert torch.equal(law.sample(4, stream(0, "draws")).cpu(), expected)
    found, expected = (
        ancestral(lambda x, t: x, x, [0.9, 0.5, 0.1], COSINE, "sample", stream(0, "steps"))
        for x in (expected.cuda(), expected)
    )
    torch.testing.assert_close(found.cpu(), expected)
