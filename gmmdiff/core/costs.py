"""What a classifier can be trained with: BCE, Brier, MAE, NGMG, and NGMG with entropy."""

from __future__ import annotations

from dataclasses import dataclass

from gmmdiff.core.ngmg import NGMG


@dataclass(frozen=True)
class Cost:
    """bce * BCE + brier * e^2 + mae * |e| + ngmg * psi(e)."""

    bce: float = 0.0
    brier: float = 0.0
    mae: float = 0.0
    ngmg: float = 0.0
    potential: NGMG | None = None


COSTS = {
    "BCE": Cost(bce=1.0),
    "Brier": Cost(brier=1.0),
    "MAE": Cost(mae=1.0),
    "NGMG s=0.5": Cost(ngmg=1.0, potential=NGMG([0.5])),
    "NGMG s=1": Cost(ngmg=1.0, potential=NGMG([1.0])),
    "NGMG scale mixture": Cost(ngmg=1.0, potential=NGMG.scale_mixture(0.02, 20.0, 16)),
    "NGMG with entropy": Cost(bce=0.5, ngmg=0.5, potential=NGMG([1.0])),
}
