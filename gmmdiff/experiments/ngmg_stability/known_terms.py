"""NGMG beside what is known: the other costs' signals, M-estimators, MMD, the energy distance."""

from __future__ import annotations

import math

import pandas as pd
import torch
from scipy.spatial.distance import cdist, pdist
from sklearn.metrics.pairwise import rbf_kernel
from torch import Tensor

from gmmdiff.core.costs import COSTS
from gmmdiff.core.ngmg import NGMG
from gmmdiff.core.streams import stream
from gmmdiff.engine.joint.batched_costs import Costs


def backward_signals(points: int = 201) -> pd.DataFrame:
    """What every cost sends back to a probability p in (0, 1) and to its logit, at a true label.

    One row a cost and discrepancy e = p - 1, with the columns cost, e, probability and logit.
    """
    p = torch.linspace(0.001, 0.999, points, dtype=torch.float64).view(1, -1, 1)
    labels, tables = torch.ones_like(p), []
    for name in COSTS:
        costs = Costs([name])
        to_probability = costs.gradient(p, labels, "probabilities")
        columns = {"e": p - 1, "probability": to_probability}
        columns |= {"logit": costs.gradient(p.logit(), labels)}
        tables.append(pd.DataFrame({"cost": name} | {k: v.flatten() for k, v in columns.items()}))
    return pd.concat(tables, ignore_index=True)


def _unbiased_mmd(x: Tensor, y: Tensor) -> float:
    """Squared MMD of two samples ``(n, dim)`` under a Gaussian kernel of width 1, no point paired
    with itself (Gretton et al. 2012, JMLR 13:723).
    """
    n = len(x)
    within_x, within_y = ((rbf_kernel(a, gamma=0.5).sum() - n) / (n * n - n) for a in (x, y))
    return within_x + within_y - 2 * rbf_kernel(x, y, gamma=0.5).mean()


def known_terms(seed: int) -> pd.DataFrame:
    """NGMG in known terms: one row a statement, with what was measured, and what it should be."""
    generator, double = stream(seed, "known terms"), torch.float64
    e = torch.linspace(-4, 4, 8001, dtype=double).unsqueeze(-1)
    x, y = (torch.randn(400, 3, generator=generator, dtype=double) + shift for shift in (0.0, 1.0))
    pull = NGMG([1.0]).gradient(e).abs().squeeze(-1)
    wide = 2 * 100.0**2 * NGMG([100.0]).gradient(e[1:]) / (2 * e[1:])
    mmd = float(NGMG([1.0]).cost(x, y)) / (0.5 * _unbiased_mmd(x, y))
    fine = NGMG.scale_mixture(1e-3, 1e3, 200)
    unbiased = 2 * cdist(x, y).mean() - pdist(x).mean() - pdist(y).mean()
    influence = "bounded influence: the largest pull of one component, at e = s"
    descent = "redescending: the pull at e = 4 s, of the largest"
    brier = "Brier score: 2 s^2 NGMG / 2 e for s = 100, smallest on |e| <= 4"
    kernel = "half a squared MMD: NGMG's cost over that of scikit-learn's kernel"
    energy = "energy distance: twice the cost of a fine scale mixture over it, unbiased"
    rows = [
        (influence, float(pull.max()), math.exp(-0.5)),
        ("where that pull is largest, in units of s", float(e[pull.argmax()].abs()), 1.0),
        (descent, float(pull[-1] / pull.max()), 4 * math.exp(-8) / math.exp(-0.5)),
        (brier, float(wide.nan_to_num(1.0).min()), 1.0),
        (kernel, mmd, 1.0),
        (energy, 2 * float(fine.cost(x, y)) / unbiased, 1.0),
    ]
    return pd.DataFrame(rows, columns=["statement", "measured", "expected"])
