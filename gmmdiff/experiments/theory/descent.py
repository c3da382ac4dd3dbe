"""Check 5: from which starts does plain gradient descent find a law, under each cost?

The lines by the exact slopes of every cost; a helix, translated, turned and scaled, by gradients of
estimates from samples.  Every cost is divided by its largest slope, so that all push equally hard.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gmmdiff.core.distances import divergences_from_samples, transport_plan
from gmmdiff.core.ngmg import NGMG
from gmmdiff.core.streams import stream
from gmmdiff.engine.threads import side_by_side
from gmmdiff.experiments.theory.costs import DIVERGENCES, closed_costs
from gmmdiff.experiments.theory.helix import Helix

EVERY = 20  # steps between two whose error is kept


def _rates(steps: int, rate: float) -> np.ndarray:
    """A learning rate that falls to 0 along half a cosine."""
    return rate * 0.5 * (1 + np.cos(np.pi * np.arange(steps) / steps))


def largest_slope(cost: Callable[[np.ndarray], tuple], reach: float) -> float:
    """A cost's largest slope for theta in (0, reach]: what its descents are divided by."""
    slope = np.abs(cost(np.geomspace(1e-3, 1, 400) * reach)[1]).max()
    return float(slope) if slope > 0 else 1.0


def _kept(steps: int) -> list[int]:
    return [*range(0, steps, EVERY), steps]


def descend_lines(
    starts: Sequence[float],
    widths: Sequence[float],
    mixtures: dict[str, NGMG],
    steps: int,
    rate: float,
) -> pd.DataFrame:
    """theta by plain gradient descent towards the line at 0: one row a cost, width, start and kept
    step.

    ``error`` is |theta| as a share of |start|.
    """
    tables, kept = [], _kept(steps)
    for width in widths:
        for name, cost in closed_costs(mixtures, width).items():
            theta = np.asarray(starts, dtype=float)
            scale = largest_slope(cost, max(starts))
            for step, now in enumerate([*_rates(steps, rate), 0.0]):
                if step in kept:
                    table = pd.DataFrame({"cost": name, "width": width, "start": starts})
                    tables.append(table.assign(step=step, error=np.abs(theta) / starts))
                theta = theta - now * cost(theta)[1] / scale
    return pd.concat(tables, ignore_index=True)


# Positions u (n,) on the helix -> points (starts, n, D), moved from every start.
Move = Callable[[Tensor], Tensor]


def _helix_cost(
    name: str,
    width: float,
    mixtures: dict[str, NGMG],
    helix: Helix,
    n: int,
    generator: torch.Generator,
) -> Callable[[Move], Tensor] | None:
    """A fresh estimate ``(starts,)`` of one cost between moved helices and the helix; None where it
    has no gradient.
    """

    def draw(move: Move) -> tuple[Tensor, Tensor]:
        return move(helix.stratified(n, generator)), helix.points(helix.stratified(n, generator))

    def transport(move: Move) -> Tensor:
        x, y = draw(move)
        plans = torch.stack([transport_plan(one, y) for one in x.detach()])
        return (plans * torch.cdist(x, y)).sum((1, 2))

    def divergence(move: Move) -> Tensor:
        nodes = (torch.arange(n, dtype=torch.float64) + 0.5) / n
        x, y = draw(move)
        noise = width * torch.randn(2, *y.shape, generator=generator, dtype=torch.float64)
        laws = move(nodes), helix.points(nodes)
        return divergences_from_samples(*laws, width, x + noise[0], y + noise[1])[name].mean(1)

    def ngmg(move: Move) -> Tensor:
        # Pairs of two independent stratified draws are pairs of the law; pairs within one draw are
        # not quite.
        (x, y), (x_other, y_other), psi = draw(move), draw(move), mixtures[name].mean_potential
        return psi(x, y) - 0.5 * psi(x, x_other) - 0.5 * psi(y, y_other)

    if name == "W1":
        return transport
    if name in mixtures:
        return ngmg
    return divergence if width > 0 else None


def descend_helix(
    dimension: int,
    starts: Sequence[Sequence[float]],
    width: float,
    mixtures: dict[str, NGMG],
    n: int,
    steps: int,
    rate: float,
    seed: int,
) -> pd.DataFrame:
    """A translated, turned and scaled helix finds its place by plain stochastic gradient descent.

    All costs and starts see the same draws.

    Args:
        starts: triples (length of the translation, turn in radians, scale > 0).
        width: thickness at which KL, JS and TV are shown a second time; the first is 0, where they
            are constant or infinite and have no gradient.

    Returns:
        one row a cost, width, start and kept step; ``error`` is the root mean square displacement
        of the curve's points as a share of the starting one.
    """
    generator = stream(seed, "helix")
    helix = Helix(dimension, generator)
    direction = torch.randn(dimension, generator=generator, dtype=torch.float64)
    direction /= direction.norm()
    length, turn, scale = torch.tensor(starts, dtype=torch.float64).T.unsqueeze(-1)
    first = torch.cat([length * direction, turn, scale.log()], 1)  # (starts, D + 2)
    kept = _kept(steps)

    def descend(arm: tuple[str, float]) -> pd.DataFrame:
        name, thickness = arm
        cost = _helix_cost(name, thickness, mixtures, helix, n, stream(seed, "helix draws"))
        largest = largest_slope(closed_costs(mixtures, thickness)[name], float(length.max()))
        shares = _path(helix, first, cost, _rates(steps, rate) / largest, kept)
        levels = itertools.product([name], [thickness], range(len(starts)), kept)
        table = pd.DataFrame(levels, columns=["cost", "width", "start", "step"])
        return table.assign(error=shares.flatten().numpy())

    arms = [(cost, 0.0) for cost in closed_costs(mixtures, 0.0)]
    arms += [(cost, width) for cost in DIVERGENCES]
    return pd.concat(side_by_side(descend, arms), ignore_index=True)


def _path(
    helix: Helix,
    first: Tensor,
    cost: Callable[[Move], Tensor] | None,
    rates: np.ndarray,
    kept: Sequence[int],
) -> Tensor:
    """Errors at the kept steps as shares of the first one, ``(starts, kept)``.

    Args:
        first: ``(starts, D + 2)``: translation, turn, log scale.
        cost: None where it has no gradient.
    """
    at, even = first.clone().requires_grad_(True), torch.linspace(0, 1, 101, dtype=torch.float64)

    def move(u: Tensor) -> Tensor:
        return at[:, None, :-2] + at[:, None, -1:].exp() * helix.points(u, at[:, -2:-1])

    errors = []
    for step, rate in enumerate([*rates, 0.0]):
        if step in kept:
            apart = (move(even) - helix.points(even)).detach()
            errors.append(apart.square().sum(-1).mean(-1).sqrt())
        if cost is not None and rate > 0:
            (gradient,) = torch.autograd.grad(cost(move).sum(), at)
            with torch.no_grad():
                at -= rate * gradient
    return torch.stack(errors, 1) / errors[0].unsqueeze(1)
