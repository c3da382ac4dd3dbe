"""Check 2: how do the latent laws of features and of classes differ, and until when?

A class is one arc, a feature the eight arcs that share an attribute's value.  The mixture identity
is computed two ways, supports are compared without noise, and a permutation test of the energy
distance compares samples at every diffusion time.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pandas as pd
import torch
from torch import Tensor

from gmmdiff.core import diffusion
from gmmdiff.core.checks import points, require
from gmmdiff.study.engine.parallel.threads import side_by_side
from gmmdiff.study.statistics import holm
from gmmdiff.study.theory.costs import Progress
from gmmdiff.worlds.arcs import VALUES, Arcs

STRIP = 64  # points of ``energy_tests`` that are paired with all that follow in one matrix product


def energy_tests(
    x: Tensor, y: Tensor, permutations: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Energy distances of many pairs of samples, and p values of the permutation test of "one law".

    Under random relabelling the distance is -a^T D a with a = 1/n on x and -1/m on y, so all
    permutations of a pair are one matrix product with its joint distance matrix D.  The pairs share
    their permutations.

    Args:
        x, y: ``(pairs, n, D)`` and ``(pairs, m, D)``.
        permutations: at least 1; the smallest p is 1 / (permutations + 1).

    Returns:
        distances and p values, ``(pairs,)`` each.

    Raises:
        ValueError: on other shapes, NaN or infinity, or permutations < 1.
    """
    require(x.ndim == 3, "energy_tests", "x", "a tensor (pairs, n, D)", tuple(x.shape))
    good = y.ndim == 3 and len(y) == len(x)
    require(good, "energy_tests", "y", f"a tensor ({len(x)}, m, D) as x", tuple(y.shape))
    require(permutations >= 1, "energy_tests", "permutations", ">= 1", permutations)
    for one, other in zip(x, y, strict=True):
        points("energy_tests", "x", one)
        points("energy_tests", "y", other, one.shape[1])
    n, m = x.shape[1], y.shape[1]
    observed = torch.cat([torch.full((n,), 1 / n), torch.full((m,), -1 / m)])
    order = torch.rand(permutations, n + m, generator=generator).argsort(1)
    labels = torch.cat([observed.unsqueeze(0), observed[order]]).T.contiguous()
    strips = [(slice(i, i + STRIP), slice(i, n + m)) for i in range(0, n + m, STRIP)]

    def test(pair: Tensor) -> tuple[Tensor, Tensor]:
        # D is symmetric: each pair of points once.
        twice = 2 * torch.cdist(pair, pair).triu(1).float()
        energy = -sum(
            ((twice[some, rest] @ labels[rest]) * labels[some]).sum(0) for some, rest in strips
        )
        # A relabelling equal to the observed one must count as "at least as far", whatever float32
        # rounds.
        reached = energy[1:] >= energy[0] - 1e-6 * energy[0].abs()
        return energy[0], (1 + reached.sum()) / (permutations + 1)

    found, p_values = zip(*side_by_side(test, torch.cat([x, y], 1)), strict=True)
    return torch.stack(found), torch.stack(p_values)


def _noised(z_0: Tensor, t: float, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    schedule = diffusion.CosineSchedule()
    alpha, sigma = (
        rate(torch.tensor(t, dtype=torch.float64)) for rate in (schedule.alpha, schedule.sigma)
    )
    noise = torch.randn(z_0.shape, generator=generator, dtype=torch.float64)
    return diffusion.diffuse(z_0, noise, alpha, sigma), alpha, sigma


def _feature_values() -> list[tuple[int, int, str]]:
    return [(j, value, name) for j, names in enumerate(VALUES) for value, name in enumerate(names)]


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
    tables = []
    for dim in progress(dimensions):
        manifold = Arcs(dim, generator)
        rows, drawn = [], []
        for attribute, value, name in _feature_values():
            members = manifold.with_attribute(attribute, value)
            others = manifold.with_attribute(attribute, 1 - value)
            support = [
                _share_on(manifold, classes, members, n, generator) for classes in (members, others)
            ]
            for t in times:
                z_0 = manifold.sample(manifold.sample_combinations(n, generator), generator)
                drawn.append((members, *_noised(z_0, t, generator)))
                rows.append(
                    {
                        "dimension": dim,
                        "feature": name,
                        "t": t,
                        "inclusion": support[0],
                        "control": support[1],
                    }
                )
        table = pd.DataFrame(rows)
        table.insert(3, "difference", side_by_side(partial(_largest_gap, manifold), drawn))
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _largest_gap(
    manifold: Arcs, drawn: tuple[Tensor, Tensor, Tensor, Tensor], nodes: int = 256
) -> float:
    """The two sides of ``latent_identity`` for the member classes, z_t, alpha and sigma of one
    draw.
    """
    members, z_t, alpha, sigma = drawn
    every = manifold.density(torch.arange(16), nodes).diffuse(alpha, sigma)
    within = every.log_joint(z_t).unflatten(-1, (16, nodes)).logsumexp(-1)
    left = within[:, members].logsumexp(1) - manifold.frequencies[members].sum().log()
    right = manifold.density(members, nodes).diffuse(alpha, sigma).log_prob(z_t)
    return float((left - right).abs().max())


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
    require(n >= 2, "latent_tests", "n", ">= 2", n)
    rows = []
    for dim, t in progress([(dim, t) for dim in dimensions for t in times]):
        manifold = Arcs(dim, generator)
        pairs = []
        for attribute, value, name in _feature_values():
            members = manifold.with_attribute(attribute, value)
            pairs += [(name, "nested", int(c), members, c.reshape(1)) for c in members]
            pairs += [(name, "control", -1, members, members)]
        x, y = (
            torch.stack(
                [
                    _noised(
                        manifold.sample(
                            manifold.sample_combinations(n, generator, pair[side]), generator
                        ),
                        t,
                        generator,
                    )[0]
                    for pair in pairs
                ]
            )
            for side in (3, 4)
        )
        energy, p_value = energy_tests(x, y, permutations, generator)
        table = pd.DataFrame([pair[:3] for pair in pairs], columns=["feature", "kind", "class"])
        rows.append(
            table.assign(
                dimension=dim, t=t, energy_distance=energy.numpy(), p_value=p_value.numpy()
            )
        )
    return pd.concat(rows, ignore_index=True)


def nested_pairs(tests: pd.DataFrame) -> pd.DataFrame:
    """Nested pairs with their Holm-corrected p values; one family for each diffusion time."""
    nested = tests.query("kind == 'nested'").copy()
    nested["corrected"] = nested.groupby("t")["p_value"].transform(lambda p: holm(p.to_numpy()))
    return nested


def share_that_differs(nested: pd.DataFrame) -> pd.Series:
    """Share of nested pairs with a corrected p < 0.01, by dimension and t."""
    differs = nested.assign(differs=nested["corrected"] < 0.01)
    return differs.groupby(["dimension", "t"])["differs"].mean()
