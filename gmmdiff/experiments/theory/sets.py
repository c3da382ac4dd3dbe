"""Check 2: how do the latent laws of features and of classes differ, and until when?

A class is one arc, a feature the eight arcs that share an attribute's value.  The mixture identity
is computed two ways, supports are compared without noise, and a permutation test of the energy
distance compares samples at every diffusion time.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial

import pandas as pd
import torch
from torch import Tensor

from gmmdiff.core.statistics import holm
from gmmdiff.engine.threads import side_by_side
from gmmdiff.experiments.theory.closed_forms import noised
from gmmdiff.experiments.theory.costs import Progress
from gmmdiff.worlds.arcs import VALUES, Arcs

STRIP = 64  # points of ``energy_tests`` that are paired with all that follow in one matrix product
BLOCK = 1000  # relabellings at once, which a core's caches hold
ENOUGH = 100  # relabellings as far apart as what was observed, after which a test ends


def energy_tests(
    x: Tensor, y: Tensor, permutations: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Energy distances of many pairs of samples, and p values of the permutation test of "one law".

    Under random relabelling the distance is -a^T D a with a = 1/n on x and -1/m on y, so many
    permutations of a pair are one matrix product with its joint distance matrix D.  The pairs share
    their permutations.  A test ends early where ``ENOUGH`` of them reach the observed distance
    (Besag & Clifford 1991, Biometrika 78:301): only large p values come from fewer.

    Args:
        x, y: ``(pairs, n, D)`` and ``(pairs, m, D)``.
        permutations: at least 1; the smallest p is 1 / (permutations + 1).

    Returns:
        distances and p values, ``(pairs,)`` each.
    """
    n, m = x.shape[1], y.shape[1]
    observed = torch.cat([torch.full((n,), 1 / n), torch.full((m,), -1 / m)])
    order = torch.rand(permutations, n + m, generator=generator).argsort(1)
    labels = torch.cat([observed.unsqueeze(0), observed[order]])
    blocks = [block.T.contiguous() for block in labels.split(BLOCK)]
    strips = [(slice(i, i + STRIP), slice(i, n + m)) for i in range(0, n + m, STRIP)]

    def test(pair: Tensor) -> tuple[Tensor, float]:
        # D is symmetric: each pair of points once.
        twice = 2 * torch.cdist(pair, pair).triu(1).float()
        reached, seen, first = 0, 0, None
        for block in blocks:
            energy = -sum(
                ((twice[some, rest] @ block[rest]) * block[some]).sum(0) for some, rest in strips
            )
            first = energy[0] if first is None else first
            # A relabelling equal to the observed one, which is the first, must count as "at least
            # as far", whatever float32 rounds.
            reached += int((energy >= first - 1e-6 * first.abs()).sum())
            seen += len(energy)
            if reached > ENOUGH:
                break
        return first, reached / seen

    distances, p_values = zip(*side_by_side(test, torch.cat([x, y], 1)), strict=True)
    return torch.stack(distances), torch.tensor(p_values)


def _features(manifold: Arcs) -> dict[str, tuple[Tensor, Tensor]]:
    """By name: the classes that have a feature, and those that have not."""
    return {
        name: (manifold.with_attribute(j, value), manifold.with_attribute(j, 1 - value))
        for j, names in enumerate(VALUES)
        for value, name in enumerate(names)
    }


def latent_identity(
    dimensions: Sequence[int],
    times: Sequence[float],
    n: int,
    generator: torch.Generator,
    progress: Progress = iter,
) -> pd.DataFrame:
    """p(z_t | feature) two ways, and whether the classes' supports lie in the feature's.

    Left side by Bayes' rule from all 16 classes, p(z) P(feature | z) / P(feature), where P(feature
    | z) sums responsibilities; right side the frequency-weighted mixture of the feature's class
    laws.  ``difference`` is the largest gap of the two log densities over n points.  ``inclusion``
    is the share of noise-free class points within 1e-3 of the feature's arcs; ``control`` the same
    for classes without the feature.
    """
    rows, gaps = [], []
    for dim in progress(dimensions):
        manifold = Arcs(dim, generator)
        features = _features(manifold)
        supports = {
            name: [_share_on(manifold, some, members, n, generator) for some in (members, others)]
            for name, (members, others) in features.items()
        }
        draws = []
        for t in times:
            z_0 = manifold.sample(manifold.sample_combinations(n, generator), generator)
            draws.append(noised(z_0, t, generator))
            rows += [(dim, name, t, *supports[name]) for name in features]
        members = [members for members, _ in features.values()]
        gaps += itertools.chain(*side_by_side(partial(_largest_gaps, manifold, members), draws))
    table = pd.DataFrame(rows, columns=["dimension", "feature", "t", "inclusion", "control"])
    table.insert(3, "difference", gaps)
    return table


def _largest_gaps(
    manifold: Arcs, features: Sequence[Tensor], draw: tuple[Tensor, Tensor, Tensor]
) -> list[float]:
    """The largest gap between the two sides of ``latent_identity``, for every feature's classes, of
    a draw as ``noised`` gives it.
    """
    z_t, alpha, sigma = draw
    every = manifold.density(torch.arange(16)).diffuse(alpha, sigma)
    within = every.log_joint(z_t).unflatten(-1, (16, -1)).logsumexp(-1)
    gaps = []
    for members in features:
        left = within[:, members].logsumexp(1) - manifold.frequencies[members].sum().log()
        right = manifold.density(members).diffuse(alpha, sigma).log_prob(z_t)
        gaps.append(float((left - right).abs().max()))
    return gaps


def _share_on(
    manifold: Arcs, classes: Tensor, members: Tensor, n: int, generator: torch.Generator
) -> float:
    """Share of n noise-free points of the classes that lie on an arc of the members."""
    drawn = manifold.sample_combinations(n, generator, classes)
    points = manifold.points(drawn, torch.rand(n, generator=generator, dtype=torch.float64))
    return float((manifold.distances(points)[:, members].min(1).values < 1e-3).double().mean())


def latent_tests(
    dimensions: Sequence[int],
    times: Sequence[float],
    n: int,
    permutations: int,
    generator: torch.Generator,
    progress: Progress = iter,
) -> pd.DataFrame:
    """Energy distance and permutation test between feature- and class-conditional laws of z_t.

    One row a dimension, time, feature and class that has the feature (kind ``nested``), and one a
    feature against a second sample of itself (kind ``control``: there the null holds).
    """
    tables = []
    for dim in progress(dimensions):
        manifold = Arcs(dim, generator)
        pairs = []
        for name, (members, _) in _features(manifold).items():
            pairs += [(name, "nested", int(c), members, c.reshape(1)) for c in members]
            pairs += [(name, "control", -1, members, members)]

        def draw(classes: Tensor, t: float, manifold: Arcs = manifold) -> Tensor:
            combinations = manifold.sample_combinations(n, generator, classes)
            return noised(manifold.sample(combinations, generator), t, generator)[0]

        x, y = (
            torch.stack([draw(pair[side], t) for t in times for pair in pairs]) for side in (3, 4)
        )
        energy, p_value = energy_tests(x, y, permutations, generator)
        rows = [(*pair[:3], dim, t) for t in times for pair in pairs]
        table = pd.DataFrame(rows, columns=["feature", "kind", "class", "dimension", "t"])
        tables.append(table.assign(energy_distance=energy.numpy(), p_value=p_value.numpy()))
    return pd.concat(tables, ignore_index=True)


def nested_pairs(tests: pd.DataFrame) -> pd.DataFrame:
    """Nested pairs with their Holm-corrected p values; one family for each diffusion time."""
    nested = tests.query("kind == 'nested'").copy()
    nested["corrected"] = nested.groupby("t")["p_value"].transform(lambda p: holm(p.to_numpy()))
    return nested


def share_that_differs(nested: pd.DataFrame) -> pd.Series:
    """Share of nested pairs with a corrected p < 0.01, by dimension and t."""
    differs = nested.assign(differs=nested["corrected"] < 0.01)
    return differs.groupby(["dimension", "t"])["differs"].mean()
