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
from gmmdiff.engine.training import Ensemble, train
from tests.engine.test_training import SMALL, plain, runs_of

BOTH = pytest.mark.parametrize("ensemble", [ClassifierEnsemble, JointEnsemble])
NGMG = ("BCE", "NGMG s=1", "NGMG scale mixture")


def table(
    costs=NGMG, signals=("raw",), lam=(1.0,), noise=(0.0,), rates=(1e-3,), steps=100, seeds=(0,)
):
    fixed = ["feature"], [0.1], [50]
    rows = itertools.product(*fixed, rates, [steps], seeds, costs, signals, lam, noise)
    return pd.DataFrame(list(rows), columns=list(JointEnsemble.columns))


@BOTH
def test_the_gradient_is_that_of_the_stated_loss(ensemble):
    runs = runs_of(table(costs=list(COSTS), signals=("raw", "matched"), lam=(0.3, 3.0)))
    whole = ensemble(runs, "cpu")
    of_runs = whole.next_batches()
    whole.prepare(of_runs)
    whole.step(7)
    for row, (run, batches) in enumerate(zip(runs, of_runs, strict=True)):
        models = [plain(network.sizes, network.parameters[row]) for network in whole.networks]
        noisy, labels = batches.noisy[7], noisy_labels(run)[batches.index[7]]
        loss = 0.0
        if ensemble is JointEnsemble:
            x_0 = models[0](torch.cat(run.inputs(batches), -1)[7])
            loss = (batches.weight[7] * (x_0 - batches.target[7]).square()).mean()
            noisy = torch.cat([x_0, noisy[:, 8:]], -1)
        costs = Costs([run.row.cost], whole.costs.factors[row : row + 1])
        loss = loss + costs.value(models[-1](noisy).unsqueeze(0), labels.unsqueeze(0)).mean()
        expected = torch.autograd.grad(loss, [p for model in models for p in model.parameters()])
        expected = torch.cat([g.flatten() for g in expected])
        gradient = whole.gradient[row, : whole.count]
        torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-6)


def test_without_its_cost_it_is_the_plain_diffusion_run():
    rows = table(costs=("BCE", "NGMG s=1"), signals=("raw", "matched"), lam=(0.0, 10.0))
    joint = train(rows, SMALL, ensemble=JointEnsemble)
    alone = train(rows[list(Ensemble.columns)][:1], SMALL)
    count = alone.parameters.shape[1]
    for row, lam in enumerate(rows["lam"]):
        assert torch.equal(joint.parameters[row, :count], alone.parameters[0]) == (lam == 0)
        assert torch.equal(joint.norms[row], alone.norms[0]) == (lam == 0)


@BOTH
def test_a_row_is_bit_identical_whatever_its_company(ensemble):
    signals, noise, rates = ("raw", "matched"), (0.0, 0.2), (1e-3, 1e-2)
    rows = table(("BCE", "MAE", "NGMG with entropy"), signals, noise=noise, rates=rates)
    whole = train(rows, SMALL, ensemble=ensemble)
    for order in ([5], [11, 3, 20], list(range(len(rows) - 1, -1, -1))):
        part = train(rows.iloc[order], SMALL, ensemble=ensemble)
        assert torch.equal(part.parameters, whole.parameters[order])
        assert torch.equal(part.norms, whole.norms[order])


@BOTH
def test_matching_weighs_every_batch_it_draws(ensemble):
    """Against the logits of each batch, one network at a time."""
    costs = ("MAE", "NGMG s=1", "NGMG scale mixture")
    runs = runs_of(table(costs=costs, signals=("matched",), seeds=(0, 1)))
    for run, factor in zip(runs, ensemble(runs, "cpu").costs.factors, strict=True):
        streams = stream(run.row.seed, "matching"), stream(run.row.seed, "matching condition")
        alone, shape = ensemble([run], "cpu"), (MATCHED, run.settings.batch)
        alone.prepare([run.draw(*run.data[:2], shape, *streams)])
        squares = {cost: 0.0 for cost in ("BCE", run.row.cost)}
        for number in range(MATCHED):
            logits, labels = alone.logits(number), alone.labels[number]
            for cost in squares:
                squares[cost] += float(COSTS[cost].gradient(logits, labels).double().square().sum())
        expected = (squares["BCE"] / squares[run.row.cost]) ** 0.5
        assert float(factor) == pytest.approx(expected, rel=1e-5)


def test_labels_flip_once_and_for_all():
    rows = table(costs=("BCE",), noise=(0.0, 0.2), seeds=(3,))
    clean, noisy, same = runs_of(rows.iloc[[0, 1, 1]])
    true = clean.seed_data.world.combinations[clean.data[1]].float()
    assert torch.equal(noisy_labels(clean), true)
    assert torch.equal(noisy_labels(noisy), noisy_labels(same))
    assert 0.1 < (true != noisy_labels(noisy)).float().mean() < 0.3


@BOTH
def test_training_teaches_the_classifier(ensemble):
    rows = table(steps=600, rates=(1e-2,))

    def accuracy(run, parameters=None):
        one = ensemble([run], "cpu")
        if parameters is not None:
            one.parameters[:, : one.count] = parameters
        one.prepare(one.next_batches())
        return ((one.logits(0) > 0) == (one.labels[0] > 0)).float().mean()

    trained = train(rows, SMALL, ensemble=ensemble)
    for run, parameters in zip(runs_of(rows), trained.parameters, strict=True):
        assert accuracy(run, parameters) > 0.85 > accuracy(run)


BAD = {
    "cost": (table(costs=("hinge",)), "cost must be one of BCE, .*, got hinge"),
    "lambda": (table(lam=(-1.0,)), "run table: lam must be >= 0, got -1.0"),
    "signal": (table(signals=("loud",)), "run table: signal must be one of raw, .*, got loud"),
    "noise": (table(noise=(0.7,)), r"run table: label_noise must be in \[0, 0.5\], got 0.7"),
    "column": (table().drop(columns="cost"), "columns must be exactly granularity, .*, got gran"),
}


def test_the_last_that_is_allowed_is_taken():
    ends = {"lam": (0.0,), "noise": (0.0, 0.5), "signals": ("raw", "matched")}
    JointEnsemble.check(table(**ends), SMALL)


@pytest.mark.parametrize(("rows", "message"), BAD.values(), ids=BAD)
def test_bad_tables_are_named(rows, message):
    with pytest.raises(ValueError, match=message):
        train(rows, SMALL, ensemble=JointEnsemble)
