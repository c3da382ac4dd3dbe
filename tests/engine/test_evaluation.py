"""What trained runs are worth: generation, measures, groups of combinations."""

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import kstest

from gmmdiff.core.distances import energy_distance
from gmmdiff.core.mixtures import GaussianMixture
from gmmdiff.engine.evaluation import Yardstick, evaluate
from gmmdiff.engine.networks import StackedMLP
from gmmdiff.engine.runs import SCHEDULE, SeedData, TrainingSettings
from gmmdiff.engine.training import train
from gmmdiff.worlds.digits import Digits
from gmmdiff.worlds.faces import Faces
from tests.engine.test_training import SMALL, runs_of, table
from tests.small_settings import ARCS


@pytest.mark.parametrize(("arcs", "evaluations"), [(1, 20), (14, 80)])
def test_an_exact_denoiser_generates_the_manifold(monkeypatch, arcs, evaluations):
    """With the posterior mean of the scaled law as its denoiser, ``generate`` ends on the law's
    arcs, by frequency.

    (Where the law has several arcs, 20 evaluations leave up to 1 % between them, whatever the
    network.)
    """
    (run,) = runs_of(table(granularity=["none"], seeds=1, n_train=[20_000]))
    world, scale, asked = run.seed_data.world, run.data[2], run.seed_data.seen[:arcs]
    law = world.density(asked, nodes=64)
    law = GaussianMixture(law.weights, law.means / scale, law.scales / scale)

    def denoise(x_t, t):
        alpha, sigma = SCHEDULE.alpha(t.double()), SCHEDULE.sigma(t.double())
        return law.posterior_mean(x_t.double(), alpha, sigma).float()

    monkeypatch.setattr(run, "predict", lambda parameters, condition: denoise)
    z = run.generate(None, torch.zeros(400).long(), evaluations).double()
    nearest = world.distances(z).min(1)
    assert (nearest.values > 4 * world.noise).double().mean() < 0.005
    expected = world.frequencies[asked] / world.frequencies[asked].sum()
    shares = nearest.indices.bincount(minlength=16)[asked] / 400
    assert (shares - expected).abs().max() < 0.08


def test_what_is_generated_is_finite_and_in_the_units_of_the_world(generator):
    """Clipped to the range of the data before the scale and the centre are put back."""
    settings = replace(SMALL, world=partial(Faces, 4), centre=0.5)
    (run,) = runs_of(table(granularity=["feature"], seeds=1), settings)
    given, x = (torch.arange(16), 4), torch.randn(16, 256, generator=generator)
    weights = torch.zeros(StackedMLP.count(run.sizes))
    torch.testing.assert_close(run.generate(weights, *given), torch.full((16, 256), 0.5))
    least, most = run.seed_data.training_points(50)[0].aminmax()
    for bias, end in ((100, most), (-100, least)):
        weights[-256:] = bias
        found = run.generate(weights, *given)
        torch.testing.assert_close(found, torch.full_like(found, float(end)))
    for value, end in ((math.nan, 1e6), (math.inf, 1e6), (-math.inf, -1e6), (-1e9, -1e6)):
        assert (run.generate(weights, *given, lambda *_, v=value: x * 0 + v) == end).all()


def test_a_condition_is_drawn_or_its_components_mean(monkeypatch):
    (run,), seen = runs_of(table(granularity=["feature"], seeds=1)), []
    monkeypatch.setattr(run, "predict", lambda _, condition: seen.append(condition))
    combination = torch.arange(16).repeat(200)
    for at_mean in (False, True):
        run.generate(None, combination, 3, lambda _, x, *rest: x, at_mean)
    drawn, mean = seen
    assert torch.equal(mean, run.means[combination])
    assert kstest(((drawn - mean) / run.conditioning.scale).flatten(), "norm").pvalue > 1e-3


def test_mixtures_are_measured_at_both_conditions():
    """Points have one."""
    settings, conditions = replace(SMALL, n_eval=2, evaluations=4), ("drawn", "mean")
    rows = table(granularity=["class"], seeds=1, s_c=[0.0, 5.0])
    results = evaluate(rows, train(rows, settings).parameters, settings, conditions=conditions)
    own = results[results["granularity"] == "class"].groupby(["s_c", "condition"])["value"]
    found = own.agg(list).to_dict()
    assert found.keys() == {(0.0, "drawn"), (5.0, "drawn"), (5.0, "mean")}
    assert found[5.0, "drawn"] != found[5.0, "mean"]


def test_fresh_points_are_scaled_as_those_of_the_training():
    settings = replace(SMALL, world=partial(Faces, 4), centre=0.5)
    (run,) = runs_of(table(granularity=["class"], seeds=1), settings)
    points, combinations, scale = run.data
    fresh, shown = run.scaled(len(points), "data 50")
    torch.testing.assert_close(fresh, points)
    assert torch.equal(shown, combinations) and fresh.min() < 0 and scale != 1


def test_held_out_combinations_are_not_trained_on_and_rare_ones_are_rarest():
    seed_data = SeedData(3, replace(SMALL, rare=4))
    _, combination, _ = seed_data.data(4000)
    seen, held_out = set(seed_data.seen.tolist()), set(seed_data.held_out.tolist())
    assert set(combination.tolist()) == seen and len(held_out) == 2 and not seen & held_out
    groups, counts = seed_data.groups(combination), combination.bincount(minlength=16)
    rare = [c for c, group in enumerate(groups) if group == "rare"]
    assert len(rare) == 4 and counts[rare].max() < counts[seed_data.seen[:4]].min()
    assert {c for c, group in enumerate(groups) if group == "held out"} == held_out


def test_where_data_are_sparse_few_samples_are_rare_and_none_is_unseen():
    seed_data = SeedData(0, TrainingSettings(partial(Faces, 4), held_out=2))
    first, second, third = seed_data.seen[:3]
    groups = seed_data.groups(torch.tensor([first] * 6 + [second] * 5 + [third]))
    assert [groups[c] for c in seed_data.seen[:4]] == ["frequent", "rare", "rare", "unseen"]
    assert [groups[c] for c in seed_data.held_out] == ["held out", "held out"]


def test_every_value_of_every_attribute_is_shown_by_others():
    """Half of the pairs of digits held out at random would often leave a value unseen."""
    for seed in range(5):
        seed_data = SeedData(seed, TrainingSettings(Digits, held_out=75))
        seen = seed_data.world.combinations[seed_data.seen]
        assert all(len(column.unique()) == 10 for column in seen.T)


@pytest.mark.parametrize(("world", "n"), [(partial(Faces, 4), 100), (Digits, 300)])
def test_any_world_is_trained_sampled_and_judged(world, n):
    """Few steps, so nothing is asked of the samples but that the tables are whole."""
    settings = replace(SMALL, world=world, hidden=1, n_eval=2, evaluations=4, centre=0.5)
    rows = table(seeds=1, n_train=[n])
    results = evaluate(rows, train(rows, settings).parameters, settings)
    assert {"seen", "rare", "held out"} <= set(results["group"])
    assert not results.isna().any(axis=None)
    defects = results[(results["metric"] == "defect") & (results["group"] == "seen")]
    means = defects.groupby("granularity")["value"].mean()
    assert means["real"] < 0.3 < means[["class", "feature"]].min()
    points, _, scale = SeedData(0, settings).data(n)
    assert float(points.square().mean().sqrt()) == pytest.approx(2, rel=1e-3) and scale < 0.5


def test_real_samples_are_the_floor():
    yardstick = Yardstick(0, 500, TrainingSettings(ARCS, n_eval=300))
    value = yardstick.by_group(yardstick.floor).set_index(["metric", "group"])["value"]
    assert value["defect", "seen"] <= 1e-3 and value["defect", "held out"] <= 1e-3
    assert value["law"].to_list() == pytest.approx([1] * len(value["law"]))
    assert value["copy", "seen"] == pytest.approx(0.01, abs=0.006)


def test_samples_are_measured_by_the_definitions(generator):
    """One combination at a time, some of its samples another's and some noise."""
    settings = TrainingSettings(partial(Faces, 2), held_out=0, n_eval=6)
    yardstick, asked = Yardstick(3, 40, settings), torch.arange(4).repeat_interleave(6)
    world = yardstick.seed_data.world
    z = world.sample(asked.roll(1), generator)
    z[::3] += torch.randn(8, 16, 16, generator=generator)
    judged, distance = world.judge(z), world.distance(z, asked)
    copies, found = yardstick.copies(z, judged.combination), yardstick.by_combination
    found = found(z.flatten(1), torch.eye(4) > 0)
    for c in range(4):
        own = slice(6 * c, 6 * c + 6)
        flags = {"wrong": judged.combination[own] != c, "malformed": judged.malformed[own]}
        flags |= {"defect": flags["wrong"] | flags["malformed"], "copy": copies[own]}
        expected = {name: float(flag.double().mean()) for name, flag in flags.items()}
        for percent in (50, 90):
            expected[f"distance_{percent}"] = np.percentile(distance[own], percent)
        expected["energy_distance"] = energy_distance(z[own].flatten(1), yardstick.real[own])
        assert found.loc[c].to_dict() == pytest.approx(expected)


def test_groups_weigh_combinations_equally_and_the_law_is_a_ratio():
    yardstick = Yardstick(0, 60, TrainingSettings(ARCS, n_eval=8))
    groups = yardstick.groups
    metrics = pd.DataFrame({"energy_distance": 2 * yardstick.floor["energy_distance"]})
    metrics["defect"] = range(16)
    value = yardstick.by_group(metrics).set_index(["group", "metric"])["value"]
    seen = groups.isin(["frequent", "rare"])
    for group, of_group in {**{name: groups == name for name in set(groups)}, "seen": seen}.items():
        assert value[group, "defect"] == pytest.approx(groups.index[of_group].to_numpy().mean())
        assert group == "seen" or value[group, "law"] == pytest.approx(2)
