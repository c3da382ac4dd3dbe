"""What checks 3 to 6 compare: W1, NGMG under two mixtures, and the f-divergences KL, JS and TV.

Between parallel lines every one of them is known in closed form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import numpy as np

from gmmdiff.core.ngmg import NGMG
from gmmdiff.experiments.theory.parallel_lines import LineCosts

Progress = Callable[[Iterable], Iterable]  # passes the items on, and may show how far they are
Cost = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]  # theta (n,) -> value and slope (n,)

MIXTURES = ("NGMG single", "NGMG scale mixture")  # those that claims T3 to T6 are judged for
DIVERGENCES = ("KL", "JS", "TV")  # they see no distance between disjoint supports


def mixtures_under_test(
    s_single: float, s_min: float, s_max: float, n_scales: int
) -> dict[str, NGMG]:
    """The two mixtures by the names that the tables use: one scale, and many log-spaced ones."""
    ngmg = NGMG([s_single]), NGMG.scale_mixture(s_min, s_max, n_scales)
    return dict(zip(MIXTURES, ngmg, strict=True))


def closed_costs(mixtures: dict[str, NGMG], width: float) -> dict[str, Cost]:
    """Every cost between the lines of one width at theta and at 0, as a function of theta."""
    lines = LineCosts(width)
    ngmg = {name: partial(lines.ngmg, ngmg=mixture) for name, mixture in mixtures.items()}
    return {"W1": lines.w1, **ngmg, "KL": lines.kl, "JS": lines.js, "TV": lines.tv}
