"""Check 2: how do the latent laws of features and of classes differ, and until when?  A class is
one arc, a feature the eight arcs that share an attribute's value.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

import pandas as pd
import torch
from torch import Tensor

from gmmdiff.core.statistics import holm
from gmmdiff.engine.threads import side_by_side
from gmmdiff.experiments.theory.closed_forms import noised
from gmmdiff.worlds.arcs import VALUES, Arcs

STRIP = 64  # points of ``energy_tests`` that are paired with all that follow in one matrix product
BLOCK = 1000  # relabellings at once, which a core's caches hold
ENOUGH = 100  # relabellings as far apart as what was observed, after which a test ends


def energy_tests(
    x: Tensor, y: Tensor, permutations: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Energy distances of pairs of samples ``(pairs, n, D)`` and ``(pairs, m, D)``, and p values of
    the permutation test of "one law", at least 1 / (permutations + 1): ``(pairs,)`` each.

    Under random relabelling the distance is -a^T D a with a = 1/n on x and -1/m on y, so many
    permutations of a pair are one matrix product with its joint distance matrix D.  The pairs share
    their permutations.  A test ends early where ``ENOUGH`` of them reach the observed distance
    (Besag & Clifford 1991, Biometrika 78:301): only large p values come from fewer.
    """
    n, m = x.shape[1], y.shape[1]
    observed = torch.tensor([1 / n] * n + [-1 / m] * m)
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


def _features(world: Arcs) -> dict[str, tuple[Tensor, Tensor]]:
    """By name: the classes that have a feature, and those that have not."""
    return {
        name: (world.with_attribute(j, value), world.with_attribute(j, 1 - value))
        for j, names in enumerate(VALUES)
        for value, name in enumerate(names)
    }


def latent_identity(
    dimensions: Iterable[int], times: Sequence[float], n: int, generator: torch.Generator
) -> pd.DataFrame:
    """p(z_t | feature) two ways, whose log densities differ by ``difference`` at most on n points;
    and the supports: the shares of noise-free points within 1e-3 of the feature's arcs, of its own
    classes (``inclusion``) and of the others (``control``).
    """
    tables = []
    for dim in dimensions:
        world = Arcs(dim, generator)
        features = _features(world)
        shares = [
            (name, *(_share_on(world, classes, own, n, generator) for classes in (own, others)))
            for name, (own, others) in features.items()
        ]
        supports = pd.DataFrame(shares, columns=["feature", "inclusion", "control"])
        draws = []
        for t in times:
            z_0 = world.sample(world.sample_combinations(n, generator), generator)
            draws.append(noised(z_0, t, generator))
        classes = [own for own, _ in features.values()]
        gaps = side_by_side(partial(_largest_gaps, world, classes), draws)
        for t, difference in zip(times, gaps, strict=True):
            tables.append(supports.assign(dimension=dim, t=t, difference=difference))
    columns = ["dimension", "feature", "t", "difference", "inclusion", "control"]
    return pd.concat(tables, ignore_index=True)[columns]


def _largest_gaps(
    world: Arcs, features: Sequence[Tensor], draw: tuple[Tensor, Tensor, Tensor]
) -> list[float]:
    """Between p(z_t | feature) by Bayes' rule from all 16 classes, p(z) P(feature | z) / P(feature)
    where P(feature | z) sums responsibilities, and the mixture of the feature's class laws.
    """
    z_t, *rates = draw
    joint = world.density(torch.arange(16)).diffuse(*rates).log_joint(z_t)
    of_class, gaps = joint.unflatten(-1, (16, -1)).logsumexp(-1), []
    for classes in features:
        bayes = of_class[:, classes].logsumexp(1) - world.frequencies[classes].sum().log()
        mixture = world.density(classes).diffuse(*rates).log_prob(z_t)
        gaps.append(float((bayes - mixture).abs().max()))
    return gaps


def _share_on(
    world: Arcs, classes: Tensor, arcs: Tensor, n: int, generator: torch.Generator
) -> float:
    """Share of n noise-free points of the classes that lie on one of the arcs."""
    drawn = world.sample_combinations(n, generator, classes)
    points = world.points(drawn, torch.rand(n, generator=generator, dtype=torch.float64))
    return float((world.distances(points)[:, arcs].amin(1) < 1e-3).double().mean())


def latent_tests(
    dimensions: Iterable[int],
    times: Sequence[float],
    n: int,
    permutations: int,
    generator: torch.Generator,
) -> pd.DataFrame:
    """``energy_tests`` of laws of z_t: one row a dimension, time, feature and class that has it
    (kind ``nested``), and one a feature against itself (``control``: there the null holds).
    """
    tables = []
    for dim in dimensions:
        world, pairs = Arcs(dim, generator), []
        for name, (own, _) in _features(world).items():
            pairs += [(name, "nested", int(c), own, c.reshape(1)) for c in own]
            pairs.append((name, "control", -1, own, own))
        cells, samples = [(t, pair) for t in times for pair in pairs], []
        for side in (3, 4):
            for t, pair in cells:
                combinations = world.sample_combinations(n, generator, pair[side])
                samples.append(noised(world.sample(combinations, generator), t, generator)[0])
        energy, p_value = energy_tests(*torch.stack(samples).chunk(2), permutations, generator)
        rows = [(*pair[:3], dim, t) for t, pair in cells]
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
