"""Check 1: are the oracle and the samplers right?  Of a mixture on the line marginals, posterior
means and the end of the probability-flow ODE are known.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import numpy as np
import pandas as pd
import torch
from scipy.optimize import brentq
from scipy.stats import kstest, norm
from torch import Tensor

from gmmdiff.core.diffusion import CosineSchedule, ddim, diffuse, dpmpp_2m
from gmmdiff.core.mixtures import GaussianMixture

ODE_SAMPLERS = {"DDIM": ddim, "DPM-Solver++(2M)": dpmpp_2m}
SCHEDULE = CosineSchedule()


def example_mixture() -> GaussianMixture:
    """Three overlapping modes on the line: the law of check 1."""
    column = torch.tensor([[-1.2, 0.1, 1.3], [0.5, 0.35, 0.45]], dtype=torch.float64)
    weights = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)
    return GaussianMixture(weights, *column.unsqueeze(-1))


def mixture_cdf(mixture: GaussianMixture, x: np.ndarray) -> np.ndarray:
    """P(X <= x) of a mixture on the line; x ``(n,)``."""
    w, m, s = (v.numpy().reshape(-1) for v in (mixture.weights, mixture.means, mixture.scales))
    return norm.cdf((np.asarray(x)[..., None] - m) / s) @ w


def mixture_quantile(mixture: GaussianMixture, level: float) -> float:
    """The x with P(X <= x) = level, by bisection in [-9, 9]."""
    return brentq(lambda x: mixture_cdf(mixture, x) - level, -9, 9, xtol=1e-14)


def noised(x_0: Tensor, t: float, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """x_t of samples x_0 ``(n, D)``, alpha and sigma, all in float64."""
    alpha, sigma = _at(torch.tensor(t, dtype=torch.float64))
    noise = torch.randn(x_0.shape, generator=generator, dtype=torch.float64)
    return diffuse(x_0, noise, alpha, sigma), alpha, sigma


def _at(t: Tensor) -> tuple[Tensor, Tensor]:
    """alpha and sigma of a time."""
    return SCHEDULE.alpha(t), SCHEDULE.sigma(t)


def forward_marginals(
    times: Iterable[float], n: int, bins: int, generator: torch.Generator
) -> pd.DataFrame:
    """Diffused samples beside the diffused mixture, one row a time and bin of x_t: its density and
    mean of x_0, sampled and in closed form, and the Kolmogorov-Smirnov p value of the time.
    """
    mixture, edges, tables = example_mixture(), np.linspace(-3.5, 3.5, bins + 1), []
    for t in times:
        x_0 = mixture.sample(n, generator)
        x_t, alpha, sigma = noised(x_0, t, generator)
        cdf = partial(mixture_cdf, mixture.diffuse(alpha, sigma))
        samples = pd.DataFrame({"x": x_t[:, 0], "x_0": x_0[:, 0]})
        samples["posterior_mean"] = mixture.posterior_mean(x_t, alpha, sigma)[:, 0].numpy()
        grouped = samples.groupby(pd.cut(samples["x"], edges, labels=False))
        table = pd.DataFrame({"t": t, "x": (edges[:-1] + edges[1:]) / 2})
        table["density"] = np.diff(cdf(edges)) / np.diff(edges)
        table["sampled_density"] = grouped.size() / n / (edges[1] - edges[0])
        table["posterior_mean"] = grouped["posterior_mean"].mean()
        table["sampled_posterior_mean"] = grouped["x_0"].mean()
        table["standard_error"] = grouped["x_0"].sem()
        table["p_value"] = kstest(samples["x"], cdf).pvalue
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def sampler_orders(steps: Iterable[int]) -> pd.DataFrame:
    """Each sampler's error on the probability-flow ODE of the example mixture, by number of steps:
    the mean absolute one over quantiles 1 % to 99 %, which that ODE keeps on the line.

    The grid is even in the log signal-to-noise ratio.
    """
    mixture, ends = example_mixture(), torch.tensor([0.98, 0.02], dtype=torch.float64)
    laws = [mixture.diffuse(*_at(t)) for t in ends]
    levels = np.linspace(0.01, 0.99, 99)
    quantiles = [[[mixture_quantile(law, level)] for level in levels] for law in laws]
    start, exact = torch.tensor(quantiles, dtype=torch.float64)

    def oracle(x_t: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = _at(t)
        return (alpha * x_t - mixture.posterior_mean(x_t, alpha, sigma)) / sigma  # v from x_0

    rows = []
    for count in steps:
        times = SCHEDULE.even_times(count, *ends.tolist())
        for name, sampler in ODE_SAMPLERS.items():
            error = float((sampler(oracle, start, times, SCHEDULE) - exact).abs().mean())
            rows.append((name, count, error))
    return pd.DataFrame(rows, columns=["sampler", "steps", "error"])
