"""The theory checks: batches against one at a time, and no result from the number of threads."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from gmmdiff.core.streams import stream
from gmmdiff.experiments.theory import (
    affinity,
    closed_forms,
    complexity,
    costs,
    descent,
    laws,
    line_checks,
    sets,
)
from gmmdiff.experiments.theory.helix import Helix
from gmmdiff.experiments.theory.parallel_lines import ParallelLine
from gmmdiff.figures import theory as figures
from gmmdiff.judging import register
from gmmdiff.worlds.arcs import Arcs

MIXTURES = costs.mixtures_under_test(1.0, 0.1, 5.0, 4)


@pytest.mark.parametrize("width", [0.0, 0.2])
def test_line_estimates_are_the_means_of_single_estimates(width):
    """Every theta and repeat by itself: NGMG by its cost, whose slope is a difference quotient; W1
    by SciPy's assignment.
    """
    thetas, generator, h, rows = [0.3, 1.0], stream(0, "lines"), 1e-5, []
    for _ in range(3):
        base, other = (ParallelLine(0.0, width).sample(9, generator) for _ in range(2))
        for theta in thetas:
            low, at, high = (
                base + torch.tensor([theta + d, 0.0], dtype=torch.float64) for d in (-h, 0, h)
            )
            apart = torch.cdist(at, other).numpy()
            rows.append(("W1", theta, apart[linear_sum_assignment(apart)].mean(), np.nan))
            for name, ngmg in MIXTURES.items():
                below, value, above = (float(ngmg.cost(x, other)) for x in (low, at, high))
                rows.append((name, theta, value, (above - below) / (2 * h)))
    columns = ["cost", "theta", "value", "slope"]
    expected = pd.DataFrame(rows, columns=columns).groupby(["cost", "theta"]).mean()
    found = line_checks.line_estimates(thetas, [width], MIXTURES, 9, 3, stream(0, "lines"))
    found = found.set_index(["cost", "theta"]).loc[expected.index, ["value", "slope"]]
    pd.testing.assert_frame_equal(found, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", ["W1", *MIXTURES, "JS"])
def test_helices_from_many_starts_are_those_from_each(name):
    helix = Helix(5, stream(0, "helix"))
    turns, offsets = (
        torch.tensor([[0.1], [2.0], [0.4]]).double(),
        torch.tensor([0.2, 1.0, 0.0]).double(),
    )

    def cost(starts):
        estimate = descent._helix_cost(name, 0.3, MIXTURES, helix, 8, stream(0, "draws"))
        return estimate(lambda u: helix.points(u, turns[starts]) + offsets[starts, None, None])

    torch.testing.assert_close(cost([0, 1, 2]), torch.cat([cost([i]) for i in range(3)]))


def small_tables():
    manifold_checks = ([5], [0.0, 0.7], 6)
    return {
        "latent_identity": sets.latent_identity(*manifold_checks, stream(0, "identity")),
        "latent_tests": sets.latent_tests(*manifold_checks, 19, stream(0, "tests")),
        "line_estimates": line_checks.line_estimates(
            [0.1], [0.0, 0.1], MIXTURES, 8, 4, stream(0, "lines")
        ),
        "descent_helix": descent.descend_helix(5, [[0.5, 0.1, 1.2]], 0.1, MIXTURES, 8, 5, 0.1, 0),
        "sample_complexity": complexity.sample_complexity(
            [3], [8], 6, MIXTURES, stream(0, "complexity")
        ),
        "one_law": laws.samples_of_one_law([3], [8], 8, 2, MIXTURES, stream(0, "one law")),
        "pairs_of_laws": laws.pairs_of_laws([3], 4, MIXTURES, stream(0, "pairs")),
    }


def test_no_table_depends_on_the_number_of_threads():
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(small_tables())
    finally:
        torch.set_num_threads(before)
    for name, table in found[0].items():
        pd.testing.assert_frame_equal(table, found[1][name], check_exact=True)


@pytest.mark.filterwarnings("error")
def test_every_figure_takes_lists_of_one():
    tables = small_tables()
    tests = sets.latent_tests([5], [0.0], 6, 19, stream(0, "tests"))
    marginals = closed_forms.forward_marginals([0.3], 200, 20, stream(0, "marginals"))
    costs = line_checks.line_costs(line_checks.refine([0.1]), [0.0], MIXTURES)
    deviations = affinity.affinity([4], [0.1], 3.0, (0.1, 5.0), 1.0)
    descents = descent.descend_lines([0.5], [0.0, 0.1], MIXTURES, 5, 0.05)
    shown = [
        figures.diffusion_checks(marginals, closed_forms.sampler_orders([10])),
        figures.latent_sets(Arcs(5, stream(0, "picture")), tests),
        figures.line_costs(costs, tables["line_estimates"]),
        figures.affinity(deviations, MIXTURES, 3.0),
        figures.laws(tables["one_law"], tables["pairs_of_laws"]),
        figures.descents(descents, tables["descent_helix"]),
        figures.sample_complexity(tables["sample_complexity"]),
    ]
    for figure in shown:
        figure.draw_without_rendering()
    plt.close("all")
    (sizes,) = (claim for claim in register.REGISTER if claim.id == "T6")
    assert sizes.judge(tables).verdict == "inconclusive"
