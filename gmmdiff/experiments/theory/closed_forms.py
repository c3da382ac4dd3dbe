"""Check 1: are the oracle and the samplers right?

A mixture on the line is diffused; its marginals and posterior means are closed forms, and so is the
end of its probability-flow ODE, which keeps quantiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
import torch
from scipy.optimize import brentq
from scipy.stats import kstest, norm
from torch import Tensor

from gmmdiff.core import diffusion
from gmmdiff.core.mixtures import GaussianMixture
from gmmdiff.experiments.theory.costs import Progress

ODE_SAMPLERS = {"DDIM": diffusion.ddim, "DPM-Solver++(2M)": diffusion.dpmpp_2m}


def example_mixture() -> GaussianMixture:
    """Three overlapping modes on the line: the law of check 1."""
    column = torch.tensor([[-1.2, 0.1, 1.3], [0.5, 0.35, 0.45]], dtype=torch.float64)
    weights = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)
    return GaussianMixture(weights, column[0].unsqueeze(1), column[1].unsqueeze(1))


def mixture_cdf(mixture: GaussianMixture, x: np.ndarray) -> np.ndarray:
    """P(X <= x) of a mixture on the line; x ``(n,)``."""
    w, m, s = (v.numpy().reshape(-1) for v in (mixture.weights, mixture.means, mixture.scales))
    return norm.cdf((np.asarray(x)[..., None] - m) / s) @ w


def mixture_quantile(mixture: GaussianMixture, level: float) -> float:
    """The x with P(X <= x) = level, by bisection in [-9, 9]."""
    return brentq(lambda x: mixture_cdf(mixture, x) - level, -9, 9, xtol=1e-14)


def noised(x_0: Tensor, t: float, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """x_t of samples x_0 ``(n, D)``, alpha and sigma, all in float64."""
    at, schedule = torch.tensor(t, dtype=torch.float64), diffusion.CosineSchedule()
    alpha, sigma = schedule.alpha(at), schedule.sigma(at)
    noise = torch.randn(x_0.shape, generator=generator, dtype=torch.float64)
    return diffusion.diffuse(x_0, noise, alpha, sigma), alpha, sigma


def forward_marginals(
    times: Sequence[float], n: int, bins: int, generator: torch.Generator
) -> pd.DataFrame:
    """Diffused samples beside the diffused mixture: density, posterior mean, Kolmogorov-Smirnov p
    value.

    One row a time and bin of x_t: the bin's density and mean of x_0 (with standard error), sampled
    and in closed form, averaged over the bin's samples.
    """
    mixture, tables = example_mixture(), []
    for t in times:
        x_0 = mixture.sample(n, generator)
        x_t, alpha, sigma = noised(x_0, t, generator)
        cdf = partial(mixture_cdf, mixture.diffuse(alpha, sigma))
        samples = pd.DataFrame({"x": x_t[:, 0], "x_0": x_0[:, 0]})
        samples["posterior_mean"] = mixture.posterior_mean(x_t, alpha, sigma)[:, 0].numpy()
        edges = np.linspace(-3.5, 3.5, bins + 1)
        grouped = samples.groupby(pd.cut(samples["x"], edges, labels=False))
        table = pd.DataFrame({"t": t, "x": (edges[:-1] + edges[1:]) / 2})
        table["density"] = np.diff(cdf(edges)) / np.diff(edges)
        table["sampled_density"] = grouped.size() / n / (edges[1] - edges[0])
        table["posterior_mean"] = grouped["posterior_mean"].mean()
        table["sampled_posterior_mean"] = grouped["x_0"].mean()
        table["standard_error"] = grouped["x_0"].sem()
        table["p_value"] = kstest(x_t[:, 0].numpy(), cdf).pvalue
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def sampler_orders(steps: Sequence[int], progress: Progress = iter) -> pd.DataFrame:
    """Each sampler's error on the probability-flow ODE of the example mixture, against the number
    of steps.

    On the line that ODE keeps quantiles, so a start at the q quantile of the noised law must end at
    the q quantile of the law at the final time: exact, with no reference solver.  The error is the
    mean absolute one over quantiles 1 % to 99 %; the grid is even in the log signal-to-noise ratio.
    """
    mixture, schedule = example_mixture(), diffusion.CosineSchedule()
    ends = torch.tensor([0.98, 0.02], dtype=torch.float64)
    laws = [mixture.diffuse(schedule.alpha(t), schedule.sigma(t)) for t in ends]
    levels = np.linspace(0.01, 0.99, 99)
    start, exact = (
        torch.tensor([[mixture_quantile(law, q)] for q in levels], dtype=torch.float64)
        for law in laws
    )

    def oracle(x_t: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        x_0 = mixture.posterior_mean(x_t, alpha, sigma)
        return (alpha * x_t - x_0) / sigma  # v from x_0

    rows = []
    for count in progress(steps):
        times = schedule.even_times(count, *ends.tolist())
        for name, sampler in ODE_SAMPLERS.items():
            error = float((sampler(oracle, start, times, schedule) - exact).abs().mean())
            rows.append((name, count, error))
    return pd.DataFrame(rows, columns=["sampler", "steps", "error"])
