"""The engine against torch.nn, and every run against itself in other company."""

import math
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import pairwise

import pytest
import torch
from scipy.stats import kstest
from torch.nn.utils import vector_to_parameters

from gmmdiff.core.streams import stream
from gmmdiff.engine.evaluation import evaluate, run_by_run, validation_curves, validation_results
from gmmdiff.engine.networks import StackedMLP, layer_sizes
from gmmdiff.engine.runs import BATCHES_AT_ONCE, Run, SeedData, TrainingSettings, run_table
from gmmdiff.engine.training import (
    Ensemble,
    Trained,
    block_rows,
    blocks_of,
    looks,
    resolve_device,
    train,
)
from gmmdiff.worlds.arcs import Arcs
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
    for pair in pairwise(sizes):
        layers += [torch.nn.Linear(*pair), torch.nn.SiLU()]
    network = torch.nn.Sequential(*layers[:-1])
    vector_to_parameters(parameters, network.parameters())
    return network


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


def test_weights_start_as_torchs_linear_layers_do(generator):
    sizes = layer_sizes(32, 300, 1, 200)
    assert sizes == (40, 300, 200) and layer_sizes(1, 2, 3, 4) == (9, 2, 2, 2, 4)
    layers = StackedMLP.split(sizes, StackedMLP.initial(sizes, generator).unsqueeze(0))
    for parts, width in zip(layers, sizes, strict=False):
        for values in parts:
            assert kstest(values.flatten() * width**0.5, "uniform", (-1, 2)).pvalue > 1e-3


def test_batches_are_drawn_as_told():
    """Times as the first time feature tells them, in strata; by them the others and the v-loss."""
    (run,) = runs_of(table(granularity=["feature"], seeds=1))
    points, combinations, _ = run.data
    batches = next(run.batches())
    x_t, features = batches.noisy.double().split([8, 8], -1)
    t = features[..., 0].acos() / math.pi
    waves = torch.cos(math.pi * torch.arange(1, 9) * t.unsqueeze(-1))
    torch.testing.assert_close(features, waves, rtol=0, atol=1e-4)
    strata = 32 * ((t - 0.15) / 0.85) ** (2 / 3)
    assert torch.equal(strata.floor(), torch.arange(32.0).double().expand(20, 32))
    assert kstest((strata % 1).flatten(), "uniform").pvalue > 1e-3
    assert torch.equal(batches.target, points[batches.index])
    assert torch.equal(batches.combination, combinations[batches.index])
    angle = (math.pi / 2 * t).unsqueeze(-1)
    torch.testing.assert_close(batches.weight.double(), angle.sin() ** -2, rtol=1e-4, atol=0)
    _, condition = run.inputs(batches)
    own = (condition - run.means[batches.combination]) / run.conditioning.scale
    for values in ((x_t - angle.cos() * batches.target) / angle.sin(), own):
        assert kstest(values.flatten(), "norm").pvalue > 1e-3


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


@pytest.mark.parametrize(("most", "sizes"), [(8, [5, 5, 4, 4]), (4, [3] * 6)])
def test_blocks_hold_every_row_once_and_load_all_threads_equally(most, sizes, monkeypatch):
    rows = table(seeds=9, steps=[50, 100])
    monkeypatch.setattr("gmmdiff.engine.training.BLOCK", most * SMALL.width * SMALL.hidden)
    monkeypatch.setattr("torch.get_num_threads", lambda: 2)
    blocks = blocks_of(rows, SMALL)
    assert sorted(row for block in blocks for row in block) == list(range(36))
    assert [len(block) for block in blocks] == sizes * 2
    ends = [set(rows["steps"][block]) for block in blocks]
    assert ends == [{100}] * len(sizes) + [{50}] * len(sizes)
    assert blocks_of(rows[:1], SMALL) == [[0]] and block_rows(replace(SMALL, width=10**9)) == 1


def test_progress_counts_every_step_and_every_run():
    """And a sampler gets the times told, the denoiser's evaluations as many as asked for."""
    rows, trained, done, grids = table(steps=[30, 50]), None, [], []

    @contextmanager
    def progress(total, **options):
        done.clear()
        yield type("Bar", (), {"update": staticmethod(done.append)})
        assert sum(done) == total == (8 if trained else 4 * 80)

    def sampler(denoiser, x, times, *rest):
        grids.append(times)
        return x

    trained = train(rows, SMALL, progress=progress)
    for i, (row, weights) in enumerate(run_by_run(rows, trained)):
        assert torch.equal(weights, trained.parameters[[i]]) and row.equals(rows[i : i + 1])
    both = evaluate(rows, trained.parameters, SMALL, progress, sampler, 5, ("drawn", "mean"))
    assert set(both["condition"]) == {"drawn", "mean"} and len(grids) == 16
    evaluate(rows[:1], trained.parameters[:1], SMALL, sampler=sampler)
    assert [len(times) for times in grids] == [6] * 16 + [SMALL.evaluations + 1]
    torch.testing.assert_close(grids[0][[0, -2, -1]], torch.tensor([0.999, 0.15, 0]))


@pytest.mark.parametrize(
    ("name", "there", "expected"),
    [("auto", False, "cpu"), ("auto", True, "cuda"), ("cpu", True, "cpu"), ("cuda", True, "cuda")],
)
def test_a_device_is_taken_where_there_is_one(name, there, expected, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: there)
    assert resolve_device(name) == expected
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for bad in ("cuda", "gpu"):
        with pytest.raises(ValueError, match="run: device must be"):
            resolve_device(bad)


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
        (torch.cat([torch.linspace(2, 1, 18), torch.tensor([0.996, 0.992])]), 1),  # flat at the end
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
    "late": (table(), {"checkpoints": (120,)}, "checkpoints must be multiples of 20, at most"),
    "one late": (table(steps=[20, 80]), {"checkpoints": (40,)}, "checkpoints must be multiples of"),
    "steps": (table(steps=[0]), {}, "run table: steps must be >= 1, got 0"),
    "below 0": (table(), {"rare": -1}, "rare must be in 0 .. 14, the combinations seen, got -1"),
    "rate": (table(learning_rate=[0.0]), {}, "learning_rate must be > 0, got 0.0"),
}


@pytest.mark.parametrize(("rows", "settings", "message"), BAD.values(), ids=BAD)
def test_bad_tables_are_named_before_training(rows, settings, message, monkeypatch):
    begun = lambda *arguments: pytest.fail("training began")  # noqa: E731
    monkeypatch.setattr("gmmdiff.engine.training.train_block", begun)
    with pytest.raises(ValueError, match=message):
        train(rows, replace(SMALL, **settings))


def test_the_last_that_is_allowed_is_taken():
    settings = replace(SMALL, rare=14, validation=1, checkpoints=(20,))
    Ensemble.check(table(s_c=[0.0], n_train=[2], steps=[20]), settings)
    Ensemble.check(table(steps=[1]), SMALL)


EMPTY = [("seeds", 0, ">= 1, got 0"), ("granularity", [], "at least one level, got none")]


@pytest.mark.parametrize(("factor", "levels", "allowed"), EMPTY)
def test_empty_factors_are_refused(factor, levels, allowed):
    with pytest.raises(ValueError, match=f"{factor} must be {allowed}"):
        table(**{factor: levels})


def test_the_manifold_of_a_seed_is_its_own():
    assert not torch.equal(SeedData(0, SMALL).world.frame, SeedData(1, SMALL).world.frame)
    assert torch.equal(SeedData(1, SMALL).world.frame, Arcs(8, stream(1, "manifold")).frame)
