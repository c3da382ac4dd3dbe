"""Denoiser and classifier in one ensemble: against autograd, against the plain denoiser, and row by
row.
"""

import itertools

import pandas as pd
import pytest
import torch

from gmmdiff.core.costs import COSTS
from gmmdiff.core.streams import stream
from gmmdiff.engine.joint.batched_costs import Costs
from gmmdiff.engine.joint.classifiers import (
    MATCHED,
    ClassifierEnsemble,
    JointEnsemble,
    noisy_labels,
)
from gmmdiff.engine.runs import Run, TrainingSettings
from gmmdiff.engine.training import Ensemble, train
from tests.engine.test_training import plain
from tests.small_settings import ARCS

SMALL = TrainingSettings(ARCS, width=16, hidden=2, batch=32, n_eval=8, ema=0.9)


def table(
    costs=("BCE", "NGMG s=1", "NGMG scale mixture"),
    signals=("raw",),
    lam=(1.0,),
    noise=(0.0,),
    rates=(1e-3,),
    steps=100,
    seeds=(0,),
):
    rows = itertools.product(
        ["feature"], [0.1], [50], rates, [steps], seeds, costs, signals, lam, noise
    )
    return pd.DataFrame(list(rows), columns=list(JointEnsemble.columns))


def runs_of(rows):
    return [Run(row, SMALL) for row in rows.itertuples(index=False)]


@pytest.mark.parametrize("ensemble", [ClassifierEnsemble, JointEnsemble])
def test_the_gradient_is_that_of_the_stated_loss(ensemble):
    runs = runs_of(table(costs=list(COSTS), signals=("raw", "matched"), lam=(0.3, 3.0)))
    whole = ensemble(runs, "cpu")
    drawn = whole.next_batches()
    whole.prepare(drawn)
    whole.step(7)
    for row, run in enumerate(runs):
        parts = whole.parameters[row, : whole.count].split(
            [network.parameters.shape[1] for network in whole.networks]
        )
        models = [
            plain(network.sizes, part) for network, part in zip(whole.networks, parts, strict=True)
        ]
        draws, costs = drawn[row], Costs([run.row.cost], whole.costs.factors[row : row + 1])
        noisy, labels = draws.noisy[7], noisy_labels(run)[draws.index[7]]
        loss = 0.0
        if ensemble is JointEnsemble:
            x_0 = models[0](torch.cat(run.inputs(draws), -1)[7])
            loss = (draws.weight[7] * (x_0 - draws.target[7]).square()).mean()
            noisy = torch.cat([x_0, noisy[:, 8:]], -1)
        loss = loss + costs.value(models[-1](noisy).unsqueeze(0), labels.unsqueeze(0)).mean()
        found = torch.autograd.grad(loss, [p for model in models for p in model.parameters()])
        torch.testing.assert_close(
            whole.gradient[row, : whole.count],
            torch.cat([g.flatten() for g in found]),
            rtol=1e-3,
            atol=1e-6,
        )


def test_without_its_cost_it_is_the_plain_diffusion_run():
    rows = table(costs=("BCE", "NGMG s=1"), signals=("raw", "matched"), lam=(0.0, 10.0))
    found = train(rows, SMALL, ensemble=JointEnsemble)
    alone = train(rows[list(Ensemble.columns)][:1], SMALL)
    count = alone.parameters.shape[1]
    for row in range(len(rows)):
        same = torch.equal(found.parameters[row, :count], alone.parameters[0])
        assert same == (rows["lam"][row] == 0)
        if same:
            assert torch.equal(found.norms[row], alone.norms[0])


@pytest.mark.parametrize("ensemble", [ClassifierEnsemble, JointEnsemble])
def test_a_row_is_bit_identical_whatever_its_company(ensemble):
    rows = table(
        costs=("BCE", "MAE", "NGMG with entropy"),
        signals=("raw", "matched"),
        noise=(0.0, 0.2),
        rates=(1e-3, 1e-2),
    )
    whole = train(rows, SMALL, ensemble=ensemble)
    for order in ([5], [11, 3, 20], list(range(len(rows) - 1, -1, -1))):
        found = train(rows.iloc[order], SMALL, ensemble=ensemble)
        assert torch.equal(found.parameters, whole.parameters[order])
        assert torch.equal(found.norms, whole.norms[order])


def test_matched_signals_have_bces_size_at_the_start():
    runs = runs_of(table(costs=list(COSTS), signals=("matched",)))
    ensemble = JointEnsemble(runs, "cpu")
    found = []
    for _ in range(3):
        ensemble.prepare(ensemble.next_batches())
        pairs = ((ensemble.logits(i), labels) for i, labels in enumerate(ensemble.labels))
        found += [ensemble.costs.gradient(*pair) for pair in pairs]
    signals = torch.cat(found, 1)
    sizes = signals.square().mean((1, 2)).sqrt()
    torch.testing.assert_close(sizes, sizes[:1].expand_as(sizes), rtol=0.01, atol=0)
    assert ensemble.costs.factors[0] == 1 and ensemble.costs.factors[1:].min() > 1


@pytest.mark.parametrize("ensemble", [ClassifierEnsemble, JointEnsemble])
def test_matching_weighs_every_batch_it_draws(ensemble):
    """Against the logits of each batch, one network at a time."""
    runs = runs_of(
        table(costs=("MAE", "NGMG s=1", "NGMG scale mixture"), signals=("matched",), seeds=(0, 1))
    )
    found = ensemble(runs, "cpu").costs.factors
    for run, factor in zip(runs, found, strict=True):
        streams = stream(run.row.seed, "matching"), stream(run.row.seed, "matching condition")
        alone, draws = (
            ensemble([run], "cpu"),
            run.draw(*run.data[:2], (MATCHED, run.settings.batch), *streams),
        )
        signals = {cost: 0.0 for cost in ("BCE", run.row.cost)}
        for number in range(MATCHED):
            alone.prepare([draws])
            logits, labels = alone.logits(number), alone.labels[number]
            for cost in signals:
                signals[cost] += float(
                    Costs([cost]).gradient(logits, labels).double().square().sum()
                )
        assert float(factor) == pytest.approx(
            (signals["BCE"] / signals[run.row.cost]) ** 0.5, rel=1e-5
        )


def test_labels_flip_once_and_for_all():
    clean, noisy, same = runs_of(
        table(costs=("BCE",), noise=(0.0, 0.2), seeds=(3,)).iloc[[0, 1, 1]]
    )
    assert torch.equal(
        noisy_labels(clean), clean.seed_data.world.combinations[clean.data[1]].float()
    )
    assert torch.equal(noisy_labels(noisy), noisy_labels(same))
    flipped = (noisy_labels(clean) != noisy_labels(noisy)).float().mean()
    assert 0.1 < flipped < 0.3


@pytest.mark.parametrize("ensemble", [ClassifierEnsemble, JointEnsemble])
def test_training_teaches_the_classifier(ensemble):
    rows = table(steps=600, rates=(1e-2,))
    found = train(rows, SMALL, ensemble=ensemble)
    for run, parameters in zip(runs_of(rows), found.parameters, strict=True):
        start = ensemble([run], "cpu")
        trained = ensemble([run], "cpu")
        trained.parameters[:, : trained.count] = parameters
        for each in (start, trained):
            each.prepare(each.next_batches())
            each.accuracy = ((each.logits(0) > 0) == (each.labels[0] > 0)).float().mean()
        assert trained.accuracy > 0.85 > start.accuracy


BAD = {
    "cost": (table(costs=("hinge",)), "cost must be one of BCE, .*, got 'hinge'"),
    "lambda": (table(lam=(-1.0,)), "run table: lam must be >= 0, got -1.0"),
    "signal": (
        table(signals=("loud",)),
        "run table: signal must be one of raw, matched, got loud",
    ),
    "noise": (table(noise=(0.7,)), r"run table: label_noise must be in \[0, 0.5\], got 0.7"),
    "rate": (table(rates=(0.0,)), "learning_rate must be > 0, got 0.0"),
    "column": (
        table().drop(columns="cost"),
        "columns must be exactly granularity, .*, got granularity, .*, label_noise",
    ),
}


@pytest.mark.parametrize(("rows", "message"), BAD.values(), ids=BAD)
def test_bad_tables_are_named_before_training(rows, message, monkeypatch):
    monkeypatch.setattr(
        "gmmdiff.engine.training.train_block", lambda *a: pytest.fail("training began")
    )
    with pytest.raises(ValueError, match=message):
        train(rows, SMALL, ensemble=JointEnsemble)
