"""The costs that the theory checks compare, in closed form for parallel lines."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from gmmdiff.core.ngmg import NGMG
from gmmdiff.worlds.lines import LineCosts

Progress = Callable[[Iterable], Iterable]


def mixtures_under_test(
    s_single: float, s_min: float, s_max: float, n_scales: int
) -> dict[str, NGMG]:
    """The two mixtures that claims T3 to T6 are judged for, by the names the tables use."""
    return {
        "NGMG single": NGMG([s_single]),
        "NGMG scale mixture": NGMG.scale_mixture(s_min, s_max, n_scales),
    }


# ---- 3. parallel lines --------------------------------------------------------------------------------------


def closed_costs(
    mixtures: dict[str, NGMG], width: float
) -> dict[str, Callable[[np.ndarray], tuple]]:
    """Every cost's (value, slope) as functions of theta, for lines of one width."""
    lines = LineCosts(width)
    named = {
        name: (lambda theta, m=mixture: lines.ngmg(theta, m)) for name, mixture in mixtures.items()
    }
    return {"W1": lines.w1, **named, "KL": lines.kl, "JS": lines.js, "TV": lines.tv}
