"""Variance-preserving diffusion: schedules, forward process and samplers.

x_t = alpha_t x_0 + sigma_t eps with alpha^2 + sigma^2 = 1 and time t in [0, 1], 0 being data. A
denoiser is any callable ``denoiser(x_t, t) -> prediction`` of x_t's shape, t a scalar tensor in the
samplers; its prediction bears its name in ``diffusers``: ``"epsilon"``, ``"sample"`` = x_0, or
``"v_prediction"``, the velocity alpha eps - sigma x_0 (Salimans & Ho 2022, arXiv 2202.00512).

Every sampler takes x, noise at ``times[0]`` of any shape, and falling ``times`` ``(S + 1,)`` in
[0, 1], evaluates the denoiser once a step, and returns samples at ``times[-1]`` of x's shape; all
but ``ancestral`` are deterministic and leave the generator alone.  They raise a ValueError on bad
times, an unknown prediction, or a denoiser that gives another shape.

Example:
    >>> import torch
    >>> from gmmdiff import CosineSchedule, GaussianMixture, stream, velocity
    >>> from gmmdiff import adams_bashforth_moulton, ancestral, ddim, dpmpp_2m
    >>> schedule, law = CosineSchedule(), GaussianMixture([1.0], [[3.0]], [[0.01]])
    >>> def denoiser(x_t, t):  # exact, where a network would stand
    ...     alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    ...     x_0 = law.posterior_mean(x_t, alpha, sigma)
    ...     return velocity(x_0, (x_t - alpha * x_0) / sigma, alpha, sigma)
    >>> noise, times = torch.randn(4, 1, generator=stream(0, "x")), schedule.even_times(100)
    >>> for sampler in (ancestral, ddim, dpmpp_2m, adams_bashforth_moulton):
    ...     x = sampler(denoiser, noise, times, schedule, generator=stream(0, "steps"))
    ...     assert ((x - 3).abs() < 0.1).all()
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from gmmdiff.core.checks import DOUBLE, floating, refuse, require, require_generator, whole
from gmmdiff.core.streams import random_on

Denoiser = Callable[[Tensor, Tensor], Tensor]
Prediction = Literal["epsilon", "sample", "v_prediction"]
Rate = float | Tensor  # alpha or sigma: a number, or ``(n,)``, one a sample of ``(n, ...)``


class Schedule(Protocol):
    """The signal rate alpha(t) and noise rate sigma(t), both in [0, 1]."""

    def alpha(self, t: Tensor) -> Tensor: ...
    def sigma(self, t: Tensor) -> Tensor: ...


class CosineSchedule:
    """alpha_t = cos(pi t / 2) (Nichol & Dhariwal 2021, arXiv 2102.09672, without the offset)."""

    def alpha(self, t: Tensor) -> Tensor:
        """cos(pi t / 2), exactly 0 at t = 1 whatever the precision."""
        t = _time("CosineSchedule", t)
        return torch.cos(0.5 * math.pi * t).clamp_min(0).where(t < 1, torch.zeros_like(t))

    def sigma(self, t: Tensor) -> Tensor:
        """sin(pi t / 2)."""
        return torch.sin(0.5 * math.pi * _time("CosineSchedule", t))

    def even_times(
        self, steps: int, start: float = 0.999, end: float = 0.005, bend: float = math.inf
    ) -> Tensor:
        """``(steps + 1,)`` falling times, evenly spaced in the log signal-to-noise ratio.

        With a finite bend, evenly in asinh(log(alpha / sigma) / bend): sparser at both ends.  A
        ValueError unless steps >= 1, 1 > start > end > 0 and bend > 0.
        """
        owner = "CosineSchedule.even_times"
        steps = whole(owner, "steps", steps, 1)
        require(1 > start > end > 0, owner, "start, end", "1 > start > end > 0", (start, end))
        require(bend > 0, owner, "bend", "> 0", bend)
        ends = torch.tensor([start, end], dtype=torch.float64)
        ends = (self.alpha(ends) / self.sigma(ends)).log()  # halves of log SNR
        first, last = (ends if bend == math.inf else (ends / bend).asinh()).tolist()
        grid = torch.linspace(first, last, steps + 1, dtype=torch.float64)
        grid = grid if bend == math.inf else bend * grid.sinh()
        return torch.atan(torch.exp(-grid)) * (2 / math.pi)


class LinearBetaSchedule:
    """DDPM's schedule (Ho et al. 2020, arXiv 2006.11239): beta_1..beta_T evenly spaced.

    Step k of T lies at t = k / T, where alpha^2 = prod_{i <= k} (1 - beta_i); between steps log
    alpha is linear.  A ValueError unless steps >= 1 and 0 < beta_start <= beta_end < 1.

    Example:
        >>> import torch
        >>> from gmmdiff import LinearBetaSchedule
        >>> LinearBetaSchedule(2, beta_start=0.5, beta_end=0.5).alpha(torch.tensor([0.5, 1.0]))
        tensor([0.7071, 0.5000])
    """

    def __init__(self, steps: int = 1000, beta_start: float = 1e-4, beta_end: float = 2e-2) -> None:
        owner, allowed = "LinearBetaSchedule", "0 < beta_start <= beta_end < 1"
        self.steps, ends = whole(owner, "steps", steps, 1), (beta_start, beta_end)
        require(0 < beta_start <= beta_end < 1, owner, "beta_start, beta_end", allowed, ends)
        beta = torch.linspace(*ends, self.steps, dtype=torch.float64, device="cpu")
        self._log_alphas = torch.cat([beta.new_zeros(1), 0.5 * torch.log1p(-beta).cumsum(0)])

    def _log_alpha(self, t: Tensor) -> Tensor:
        position = t.double() * self.steps
        low = position.floor().long().clamp(0, self.steps - 1)
        table = self._log_alphas.to(t.device)
        return torch.lerp(table[low], table[low + 1], position - low)

    def alpha(self, t: Tensor) -> Tensor:
        """sqrt(prod (1 - beta_i)) up to step t T."""
        t = _time("LinearBetaSchedule", t)
        return self._log_alpha(t).exp().to(t.dtype)

    def sigma(self, t: Tensor) -> Tensor:
        """sqrt(1 - alpha^2)."""
        t = _time("LinearBetaSchedule", t)
        return (-torch.expm1(2 * self._log_alpha(t))).sqrt().to(t.dtype)


def _time(owner: str, t: Any) -> Tensor:
    t = floating(owner, "t", t)
    require((t >= 0) & (t <= 1), owner, "t", "in [0, 1]", t)
    return t


def _pair(owner: str, alpha: Any, sigma: Any, **pair: Any) -> tuple[Tensor, Tensor, Any, Any]:
    """Two tensors, and their rates, one a sample in a shape that multiplies the two."""
    x, y = (floating(owner, name, value) for name, value in pair.items())
    shape = torch.broadcast_tensors(x, y)[0].shape  # broadcast_shapes imports sympy: seconds

    def beside(name: str, rate: Any) -> Any:
        if isinstance(rate, numbers.Real):
            return rate
        rate = floating(owner, name, rate, x)
        good = all(a == b or 1 in (a, b) for a, b in zip(rate.shape, shape, strict=False))
        allowed = f"a number, or one a sample of {tuple(shape)}"
        require(good and rate.ndim <= len(shape), owner, name, allowed, tuple(rate.shape))
        # A number in a tensor widens no type: it stays one.
        return rate.reshape(rate.shape + (1,) * (len(shape) - rate.ndim)) if rate.ndim else rate

    return x, y, beside("alpha", alpha), beside("sigma", sigma)


def diffuse(x_0: Tensor, noise: Tensor, alpha: Rate, sigma: Rate) -> Tensor:
    """The forward process: x_t = alpha x_0 + sigma eps.

    Args:
        x_0, noise: ``(n, ...)``.
        alpha, sigma: numbers; or one a sample, ``(n,)`` or ``(n, 1)``, whose dimensions are the
            first of x_0's.

    Raises:
        ValueError: on rates of another shape.

    Example:
        >>> from gmmdiff import diffuse
        >>> diffuse([1.0, 1.0], [0.0, 1.0], alpha=0.8, sigma=0.6)
        tensor([0.8000, 1.4000])
    """
    x_0, noise, alpha, sigma = _pair("diffuse", alpha, sigma, x_0=x_0, noise=noise)
    return alpha * x_0 + sigma * noise


def velocity(x_0: Tensor, noise: Tensor, alpha: Rate, sigma: Rate) -> Tensor:
    """The v-prediction target: v = alpha eps - sigma x_0; arguments and errors as ``diffuse``."""
    x_0, noise, alpha, sigma = _pair("velocity", alpha, sigma, x_0=x_0, noise=noise)
    return alpha * noise - sigma * x_0


def split_prediction(
    prediction: Tensor, x_t: Tensor, alpha: Rate, sigma: Rate, kind: Prediction
) -> tuple[Tensor, Tensor]:
    """(x_0, eps) that a prediction stands for: the inverse of ``diffuse`` and ``velocity``.

    Raises:
        ValueError: on an unknown kind, another shape than x_t's, ``"epsilon"`` where alpha = 0 (x_t
            then says nothing of x_0), or ``"sample"`` where sigma = 0 (nor of eps).
    """
    same, expected = prediction.shape == x_t.shape, f"{tuple(x_t.shape)} as x_t"
    require(same, "sampler", "the denoiser's prediction", expected, tuple(prediction.shape))
    x_t, prediction, alpha, sigma = _pair("sampler", alpha, sigma, x_t=x_t, prediction=prediction)
    if kind == "v_prediction":
        return alpha * x_t - sigma * prediction, sigma * x_t + alpha * prediction
    if kind == "epsilon":
        allowed = "> 0 (start below t = 1)"
        require(torch.as_tensor(alpha) > 0, "epsilon prediction", "alpha", allowed, alpha)
        return (x_t - sigma * prediction) / alpha, prediction
    if kind == "sample":
        allowed = "> 0 (end above t = 0)"
        require(torch.as_tensor(sigma) > 0, "sample prediction", "sigma", allowed, sigma)
        return prediction, (x_t - alpha * prediction) / sigma
    refuse("sampler", "prediction", 'one of "epsilon", "sample", "v_prediction"', repr(kind))


def _prepare(
    denoiser: Denoiser, x: Any, times: Any, schedule: Schedule, prediction: Prediction
) -> tuple[Tensor, Callable[[Tensor, int], tuple[Tensor, Tensor]], list[float], list[float]]:
    """The start, (x_0, eps) at step i, and alpha and sigma of all times, in double precision
    whatever x is: neighbouring times must not become equal.
    """
    x = floating("sampler", "x", x)
    times = floating("sampler", "times", times, DOUBLE).to(x.device, torch.float64)
    good = times.ndim == 1 and len(times) >= 2 and bool((times.diff() < 0).all())
    good = good and float(times[0]) <= 1 and float(times[-1]) >= 0
    allowed = "at least 2 times in [0, 1], strictly falling"
    require(good, "sampler", "times", allowed, times.tolist())
    alpha, sigma = schedule.alpha(times).tolist(), schedule.sigma(times).tolist()
    seen = times.to(x.dtype)

    def look(x_t: Tensor, i: int) -> tuple[Tensor, Tensor]:
        return split_prediction(denoiser(x_t, seen[i]), x_t, alpha[i], sigma[i], prediction)

    return x, look, alpha, sigma


@torch.no_grad()
def ancestral(
    denoiser: Denoiser,
    x: Tensor,
    times: Tensor,
    schedule: Schedule,
    prediction: Prediction = "v_prediction",
    generator: torch.Generator | None = None,
) -> Tensor:
    """DDPM's stochastic sampler (Ho et al. 2020, arXiv 2006.11239, algorithm 2).

    The generator is the source of the noise between steps; the last step to t = 0 draws none.
    """
    require_generator("ancestral", generator)
    x, look, alpha, sigma = _prepare(denoiser, x, times, schedule, prediction)
    for i in range(len(alpha) - 1):
        x_0, _ = look(x, i)
        a, s, a_next, s_next = alpha[i], sigma[i], alpha[i + 1], sigma[i + 1]
        kept = a / a_next  # signal rate of x_t given x_s
        lost = s**2 - (kept * s_next) ** 2  # noise variance of x_t given x_s
        x = (kept * s_next**2 * x + a_next * lost * x_0) / s**2
        if s_next > 0:
            noise = random_on(x.device, torch.randn, x.shape, generator, x.dtype)
            x = x + s_next / s * math.sqrt(lost) * noise
    return x


@torch.no_grad()
def ddim(
    denoiser: Denoiser,
    x: Tensor,
    times: Tensor,
    schedule: Schedule,
    prediction: Prediction = "v_prediction",
    generator: torch.Generator | None = None,
) -> Tensor:
    """DDIM with eta = 0 (Song et al. 2021, arXiv 2010.02502): first order on the flow's ODE."""
    x, look, alpha, sigma = _prepare(denoiser, x, times, schedule, prediction)
    for i in range(len(alpha) - 1):
        x_0, eps = look(x, i)
        x = alpha[i + 1] * x_0 + sigma[i + 1] * eps
    return x


@torch.no_grad()
def dpmpp_2m(
    denoiser: Denoiser,
    x: Tensor,
    times: Tensor,
    schedule: Schedule,
    prediction: Prediction = "v_prediction",
    generator: torch.Generator | None = None,
) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095, algorithm 2): second order.

    A step to t = 0, where the log signal-to-noise ratio is infinite, is of first order.
    """
    x, look, alpha, sigma = _prepare(denoiser, x, times, schedule, prediction)
    rates = torch.tensor([alpha, sigma], dtype=torch.float64)
    half_log_snr = (rates[0].log() - rates[1].log()).tolist()
    previous = None
    for i in range(len(alpha) - 1):
        x_0, _ = look(x, i)
        target = x_0
        if previous is not None and sigma[i + 1] > 0:
            h = half_log_snr[i + 1] - half_log_snr[i]
            h_before = half_log_snr[i] - half_log_snr[i - 1]
            target = x_0 + h / (2 * h_before) * (x_0 - previous)
        decay = sigma[i + 1] / sigma[i]
        x = decay * x + (alpha[i + 1] - decay * alpha[i]) * target
        previous = x_0
    return x


def _adams_weights(angles: Any, start: float, end: float) -> Any:
    """Means over alpha / sigma, from start to end, of the Lagrange polynomials on angles."""
    points, mass = np.polynomial.legendre.leggauss(32)
    low, high = np.arcsinh(1 / np.tan([start, end]))  # in arsinh(alpha / sigma): smooth
    place = low + (high - low) * (points + 1) / 2
    mass = mass * np.cosh(place) / (mass @ np.cosh(place))
    powers, inner = np.arange(len(angles))[:, None], np.arctan2(1, np.sinh(place))
    return np.linalg.solve((angles - angles[-1]) ** powers, (inner - angles[-1]) ** powers @ mass)


@torch.no_grad()
def adams_bashforth_moulton(
    denoiser: Denoiser,
    x: Tensor,
    times: Tensor,
    schedule: Schedule,
    prediction: Prediction = "v_prediction",
    generator: torch.Generator | None = None,
    order: int = 3,
) -> Tensor:
    """Exponential Adams-Bashforth-Moulton on the x_0 prediction: of one order more than ``order``.

    With k = alpha / sigma the flow is d(x / sigma) = x_0 dk (Lu et al. 2022, arXiv 2211.01095,
    proposition 4.1).  A polynomial through predictions of x_0 is integrated to machine precision,
    as DEIS does (Zhang & Chen 2022, arXiv 2204.13902); here in the angle arccot k, in which x_0 is
    smooth at both ends.  A step is predicted from the last ``order`` >= 1 predictions, fewer at the
    start, and corrected by the next one, which is asked there anyway (as in UniPC: Zhao et al.
    2023, arXiv 2302.04867); the last step, which no prediction follows, is not.

    A step to t = 0 returns the x_0 prediction.  The low orders at the start cost nothing from t =
    0.999 on.  Few steps want ``CosineSchedule.even_times(steps - 1, end=0.02, bend=1.5)``, then 0.
    """
    order = whole("adams_bashforth_moulton", "order", order, 1)
    x, look, alpha, sigma = _prepare(denoiser, x, times, schedule, prediction)
    angles = np.arctan2(sigma, alpha)

    def step(x: Tensor, i: int, seen: list[Tensor], latest: int) -> Tensor:
        """From times[i] to the next by the predictions ``seen``, the last of them at ``latest``."""
        x_0 = seen[-1]
        if sigma[i + 1] > 0:
            known = angles[latest + 1 - len(seen) : latest + 1]
            weights = _adams_weights(known, angles[i], angles[i + 1]).tolist()
            x_0 = sum((w * z for w, z in zip(weights, seen, strict=True)), torch.zeros_like(x))
        decay = sigma[i + 1] / sigma[i]
        return decay * x + (alpha[i + 1] - decay * alpha[i]) * x_0

    before = x
    seen: list[Tensor] = []
    for i in range(len(alpha) - 1):
        x_0, _ = look(x, i)
        seen = [*seen, x_0][-order - 1 :]
        before = step(before, i - 1, seen, i) if i else x
        x = step(before, i, seen[-order:], i)
    return x
