"""Check 5: from which starts does plain gradient descent find a law, under each cost?

Every cost is divided by its largest slope, so that all push equally hard.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gmmdiff.core.distances import divergences_from_samples, transport_plan
from gmmdiff.core.streams import stream
from gmmdiff.engine.threads import side_by_side
from gmmdiff.experiments.theory.costs import DIVERGENCES, Cost, Mixtures, closed_costs
from gmmdiff.experiments.theory.helix import Helix

EVERY = 20  # steps between two whose error is kept
Move = Callable[[Tensor], Tensor]  # u (n,) on the helix -> points (starts, n, D) of moved helices


def _rates(steps: int, rate: float) -> np.ndarray:
    """A learning rate that falls to 0 along half a cosine: ``(steps + 1,)``."""
    return rate * 0.5 * (1 + np.cos(np.pi * np.arange(steps + 1) / steps))


def _largest_slope(cost: Cost, reach: float) -> float:
    """For theta in (0, reach], where there is any: what a cost's descents are divided by."""
    return np.abs(cost(np.geomspace(1e-3, 1, 400) * reach)[1]).max() or 1.0


def descend_lines(
    starts: Sequence[float], widths: Sequence[float], mixtures: Mixtures, steps: int, rate: float
) -> pd.DataFrame:
    """theta by plain gradient descent towards the line at 0: one row a cost, width, start and kept
    step; ``error`` is |theta| as a share of |start|.
    """
    tables = []
    for width in widths:
        for name, cost in closed_costs(mixtures, width).items():
            theta, scale = np.asarray(starts, dtype=float), _largest_slope(cost, max(starts))
            for step, now in enumerate(_rates(steps, rate)):
                if step % EVERY == 0 or step == steps:
                    table = pd.DataFrame({"cost": name, "width": width, "start": starts})
                    tables.append(table.assign(step=step, error=np.abs(theta) / starts))
                theta = theta - now * cost(theta)[1] / scale
    return pd.concat(tables, ignore_index=True)


def _helix_cost(
    name: str,
    width: float,
    mixtures: Mixtures,
    helix: Helix,
    n: int,
    generator: torch.Generator,
    move: Move,
) -> Tensor:
    """A fresh estimate ``(starts,)`` of one cost between moved helices and the helix."""

    def draw() -> tuple[Tensor, Tensor]:
        return move(helix.stratified(n, generator)), helix.points(helix.stratified(n, generator))

    x, y = draw()
    if name == "W1":
        plans = torch.stack([transport_plan(one, y) for one in x.detach()])
        return (plans * torch.cdist(x, y)).sum((1, 2))
    if name in mixtures:
        # Pairs of two independent stratified draws are pairs of the law; pairs within one draw are
        # not quite.
        (x_other, y_other), psi = draw(), mixtures[name].mean_potential
        return psi(x, y) - 0.5 * psi(x, x_other) - 0.5 * psi(y, y_other)
    noise = width * torch.randn(2, *y.shape, generator=generator, dtype=torch.float64)
    nodes = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    laws = move(nodes), helix.points(nodes)
    return divergences_from_samples(*laws, width, x + noise[0], y + noise[1])[name].mean(1)


def descend_helix(
    dimension: int,
    starts: Sequence[Sequence[float]],
    width: float,
    mixtures: Mixtures,
    n: int,
    steps: int,
    rate: float,
    seed: int,
) -> pd.DataFrame:
    """A helix finds its place by stochastic gradient descent, all costs and starts on the same
    draws: one row a cost, width, start and kept step.

    ``error`` is the root mean square displacement of the curve's points as a share of the first.

    Args:
        starts: triples (length of the translation, turn in radians, scale > 0).
        width: thickness at which KL, JS and TV are shown a second time; the first is 0, where they
            are constant or infinite and have no gradient.
    """
    generator = stream(seed, "helix")
    helix = Helix(dimension, generator)
    direction = torch.randn(dimension, generator=generator, dtype=torch.float64)
    direction /= direction.norm()
    length, turn, scale = torch.tensor(starts, dtype=torch.float64).T.unsqueeze(-1)
    first = torch.cat([length * direction, turn, scale.log()], 1)  # (starts, D + 2)

    def descend(arm: tuple[str, float]) -> pd.DataFrame:
        name, thickness = arm
        cost = partial(_helix_cost, *arm, mixtures, helix, n, stream(seed, "helix draws"))
        largest = _largest_slope(closed_costs(mixtures, thickness)[name], float(length.max()))
        moves = thickness > 0 or name not in DIVERGENCES
        shares = _path(helix, first, cost, moves * _rates(steps, rate) / largest)
        levels = itertools.product([name], [thickness], range(len(starts)), shares)
        table = pd.DataFrame(levels, columns=["cost", "width", "start", "step"])
        return table.assign(error=torch.stack([*shares.values()], 1).flatten().numpy())

    arms = [(cost, 0.0) for cost in closed_costs(mixtures, 0.0)]
    arms += [(cost, width) for cost in DIVERGENCES]
    return pd.concat(side_by_side(descend, arms), ignore_index=True)


def _path(
    helix: Helix, first: Tensor, cost: Callable[[Move], Tensor], rates: np.ndarray
) -> dict[int, Tensor]:
    """By kept step the errors ``(starts,)`` as shares of the first ones, from ``first`` on.

    Args:
        first: ``(starts, D + 2)``: translation, turn, log scale.
    """
    at, even = first.clone().requires_grad_(True), torch.linspace(0, 1, 101, dtype=torch.float64)

    def move(u: Tensor) -> Tensor:
        return at[:, None, :-2] + at[:, None, -1:].exp() * helix.points(u, at[:, -2:-1])

    errors = {}
    for step, rate in enumerate(rates):
        if step % EVERY == 0 or step == len(rates) - 1:
            apart = (move(even) - helix.points(even)).detach()
            errors[step] = apart.square().sum(-1).mean(-1).sqrt()
        if rate > 0:
            (gradient,) = torch.autograd.grad(cost(move).sum(), at)
            with torch.no_grad():
                at -= rate * gradient
    return {step: error / errors[0] for step, error in errors.items()}
