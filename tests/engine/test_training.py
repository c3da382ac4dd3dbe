"""The engine against torch.nn, and every run against itself in other company."""

from dataclasses import replace
from functools import partial

import pandas as pd
import pytest
import torch

from gmmdiff.core.mixtures import GaussianMixture
from gmmdiff.core.streams import stream
from gmmdiff.engine.evaluation import Yardstick, evaluate, validation_curves, validation_results
from gmmdiff.engine.networks import StackedMLP
from gmmdiff.engine.runs import (
    BATCHES_AT_ONCE,
    SCHEDULE,
    Run,
    SeedData,
    TrainingSettings,
    run_table,
)
from gmmdiff.engine.training import Ensemble, Trained, blocks_of, looks, train
from gmmdiff.worlds.arcs import Arcs
from gmmdiff.worlds.digits import Digits
from gmmdiff.worlds.faces import Faces
from tests.small_settings import ARCS

SMALL = TrainingSettings(ARCS, width=16, hidden=2, batch=32, n_eval=8, ema=0.9)


def table(**changes):
    factors = {"granularity": ["class", "feature"], "s_c": [0.1], "n_train": [50], "seeds": 2}
    return run_table(**(factors | {"learning_rate": [1e-3], "steps": [100]} | changes))


def runs_of(rows, settings=SMALL):
    return [Run(row, settings) for row in rows.itertuples(index=False)]


def plain(sizes, parameters):
    """The torch.nn network with one run's weights."""
    layers = []
    for weight, bias in StackedMLP.split(sizes, parameters.unsqueeze(0)):
        linear = torch.nn.Linear(*weight.shape[:0:-1], dtype=parameters.dtype)
        linear.load_state_dict({"weight": weight[0], "bias": bias[0, :, 0]})
        layers += [linear, torch.nn.SiLU()]
    return torch.nn.Sequential(*layers[:-1])


def test_stacked_networks_are_those_of_torch_nn(generator):
    sizes = (5, 7, 6, 3)
    parameters = torch.stack([StackedMLP.initial(sizes, generator) for _ in range(4)]).double()
    network = StackedMLP(sizes, parameters)
    x = torch.randn(4, 10, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    signal = torch.randn(4, 10, 3, generator=generator, dtype=torch.float64)
    outputs = network.forward(x.detach())
    of_input = network.backward(signal, to_input=True)
    close = partial(torch.testing.assert_close, rtol=1e-12, atol=1e-12)
    for row in range(4):
        model = plain(sizes, parameters[row])
        expected = model(x[row])
        close(outputs[row], expected)
        gradients = torch.autograd.grad((expected * signal[row]).sum(), [x, *model.parameters()])
        close(of_input[row], gradients[0][row])
        close(network.gradient[row], torch.cat([g.flatten() for g in gradients[1:]]))


@pytest.mark.parametrize("threads", [1, 2])
def test_a_row_is_bit_identical_whatever_its_company(threads):
    rows = table(granularity=["none", "class", "feature"], learning_rate=[1e-3, 3e-3])
    whole, before = train(rows, SMALL), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for order in ([5], [11, 3, 8], list(range(11, -1, -1))):
            part = train(rows.iloc[order], SMALL)
            for name in ("parameters", "norms", "validation"):
                assert torch.equal(getattr(part, name), getattr(whole, name)[order])
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_a_diverging_row_is_marked_and_touches_nobody():
    rows = table(seeds=1, learning_rate=[1e-3, 1e30])
    trained = train(rows, SMALL)
    assert trained.diverged.tolist() == [False, True, False, True]
    calm = rows[rows["learning_rate"] < 1]
    assert torch.equal(trained.parameters[~trained.diverged], train(calm, SMALL).parameters)
    results = evaluate(rows, trained.parameters, SMALL)
    made = results[(results["granularity"] != "real") & (results["metric"] == "defect")]
    assert (made.loc[made["learning_rate"] > 1, "value"] > 0.9).all()
    assert not validation_results(rows, trained)["value"].isna().any()


def test_rows_of_different_length_keep_their_order():
    rows = table(granularity=["class"], seeds=1, steps=[2 * BATCHES_AT_ONCE, BATCHES_AT_ONCE])
    trained = train(rows, SMALL)
    assert torch.equal(trained.parameters[1], train(rows[1:], SMALL).parameters[0])
    assert trained.norms.isnan().tolist() == [[False, False], [False, True]]


def test_blocks_hold_every_row_once_and_load_all_threads_equally(monkeypatch):
    rows = table(seeds=9, steps=[50, 100])
    monkeypatch.setattr("gmmdiff.engine.training.BLOCK", 8 * SMALL.width * SMALL.hidden)
    monkeypatch.setattr("torch.get_num_threads", lambda: 2)
    blocks = blocks_of(rows, SMALL)
    assert sorted(row for block in blocks for row in block) == list(range(36))
    assert [len(block) for block in blocks] == [5, 5, 4, 4] * 2
    assert [set(rows["steps"][block]) for block in blocks] == [{100}] * 4 + [{50}] * 4
    assert blocks_of(rows[:1], SMALL) == [[0]]


def test_arms_of_a_seed_share_data_noise_and_weights():
    runs = runs_of(table(seeds=1))
    weights = Ensemble(runs, "cpu").parameters
    assert torch.equal(weights[0], weights[1])
    for batches in (lambda run: next(run.batches()), Run.validation):
        one, other = map(batches, runs)
        assert all(torch.equal(*pair) for pair in zip(one, other, strict=True))
        assert not torch.equal(runs[0].inputs(one)[1], runs[1].inputs(other)[1])
    fresh, _ = runs[0].scaled(512, "validation", "validation")
    assert torch.cdist(fresh, runs[0].data[0]).min() > 1e-4


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


def test_looks_are_some_twenty_and_the_last_is_the_end():
    for steps in (1, 19, 20, 399, 400, 1500, 2000, 3000, 8000):
        found = looks(steps)
        assert found[-1] == steps and found == sorted(set(found))
        assert all(step % BATCHES_AT_ONCE == 0 for step in found[:-1])
        assert min(14, steps // BATCHES_AT_ONCE) <= len(found) <= 21


def test_the_average_at_the_least_validation_loss_is_kept():
    rows = table(granularity=["class"], n_train=[10], steps=[400], learning_rate=[1e-2])
    trained = train(rows, replace(SMALL, checkpoints=tuple(looks(400))))
    assert trained.checkpoints.shape[:2] == (2, 20)
    least = trained.validation.argmin(1)
    assert torch.equal(trained.parameters, trained.checkpoints[torch.arange(2), least])
    results = validation_results(rows, trained)
    results = results.pivot(index="seed", columns="metric", values="value")
    for seed, curve in validation_curves(rows, trained).groupby("seed"):
        minimum = curve.loc[curve["loss"].idxmin()]
        assert results.loc[seed, "validation_loss"] == pytest.approx(minimum["loss"])
        assert results.loc[seed, "validation_step"] == minimum["step"]


@pytest.mark.parametrize(
    ("curve", "enough"),
    [
        (torch.linspace(2, 1, 20), 0),  # still falling at the end
        (torch.cat([torch.linspace(2, 1, 18), torch.full((2,), 0.995)]), 1),  # flat at the end
        (torch.cat([torch.linspace(2, 1, 18), torch.tensor([0.99, 0.985])]), 0),
        (torch.cat([torch.linspace(2, 1, 10), torch.linspace(1.1, 2, 10)]), 1),
    ],
)
def test_long_enough_is_a_minimum_before_the_end_or_a_flat_last_tenth(curve, enough):
    rows = table(granularity=["class"], seeds=1, steps=[400])
    nothing = dict.fromkeys(("parameters", "norms", "spike_rate", "variation", "checkpoints"))
    trained = Trained(**nothing, diverged=torch.tensor([False]), validation=curve.unsqueeze(0))
    results = validation_results(rows, trained).set_index("metric")["value"]
    assert results["long_enough"] == enough


ALL_HELD_OUT = "held_out must be so few that others show every value of every attribute, got 16"
BAD = {
    "n_train": (table(n_train=[1]), {}, "run table: n_train must be >= 2, got 1"),
    "held out": (table(), {"held_out": 16}, ALL_HELD_OUT),
    "rare": (table(), {"rare": 15}, "rare must be in 0 .. 14, the combinations seen, got 15"),
    "D": (table(), {"world": partial(Arcs, 4)}, "Arcs: dim must be a whole number >= 5, got 4"),
    "s_c": (table(s_c=[-0.1]), {}, "run table: s_c must be >= 0, got -0.1"),
    "granularity": (table(granularity=["fine"]), {}, "one of none, .*, shared, got 'fine'"),
    "missing": (table().drop(columns="seed"), {}, "exactly granularity, .*, got .*, steps"),
    "unknown": (table().assign(width=3), {}, "exactly granularity, .*, got .*, seed, width"),
    "no rows": (table()[:0], {}, "rows must be at least one, got none"),
    "validation": (table(), {"validation": 0}, "run table: validation must be >= 1, got 0"),
    "checkpoints": (table(), {"checkpoints": (30,)}, "checkpoints must be multiples of 20, at mo"),
    "rate": (table(learning_rate=[0.0]), {}, "learning_rate must be > 0, got 0.0"),
}


@pytest.mark.parametrize(("rows", "settings", "message"), BAD.values(), ids=BAD)
def test_bad_tables_are_named_before_training(rows, settings, message, monkeypatch):
    begun = lambda *arguments: pytest.fail("training began")  # noqa: E731
    monkeypatch.setattr("gmmdiff.engine.training.train_block", begun)
    with pytest.raises(ValueError, match=message):
        train(rows, replace(SMALL, **settings))


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ({"seeds": 0}, "seeds must be >= 1, got 0"),
        ({"granularity": []}, "granularity must be at least one level, got none"),
    ],
)
def test_empty_factors_are_refused(factors, message):
    with pytest.raises(ValueError, match=message):
        table(**factors)


def test_the_manifold_of_a_seed_is_its_own():
    assert not torch.equal(SeedData(0, SMALL).world.frame, SeedData(1, SMALL).world.frame)
    assert torch.equal(SeedData(1, SMALL).world.frame, Arcs(8, stream(1, "manifold")).frame)
