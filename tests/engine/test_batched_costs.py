"""An ensemble's costs against each cost alone, in any company and at the ends."""

import pytest
import torch

from gmmdiff.core.costs import COSTS, KINDS
from gmmdiff.engine.joint.batched_costs import Costs, matched


@pytest.fixture
def batch(generator):
    """Logits and labels (7 costs, 50, 4) in float64."""
    logits = 2 * torch.randn(len(COSTS), 50, 4, generator=generator, dtype=torch.float64)
    return logits, torch.randint(0, 2, logits.shape, generator=generator).double()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["value", "gradient"])
def test_every_run_has_its_cost_times_its_factor(method, kind, batch):
    x, labels = batch
    x = x if kind == "logits" else x.sigmoid()
    factors = torch.linspace(0.5, 2, len(COSTS))
    results = getattr(Costs(list(COSTS), factors), method)(x, labels, kind)
    for row, cost in enumerate(COSTS.values()):
        expected = factors[row].double() * getattr(cost, method)(x[row], labels[row], kind)
        torch.testing.assert_close(results[row], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("method", ["value", "gradient"])
def test_sure_and_right_answers_keep_their_digits(method):
    """Single against double precision, where all but MAE is cancellation if written carelessly."""
    logits = torch.linspace(4, 12, 64, dtype=torch.float64).expand(len(COSTS), -1).unsqueeze(2)
    function, labels = getattr(Costs(list(COSTS)), method), torch.zeros_like(logits)
    single, exact = function(-logits.float(), labels.float()), function(-logits, labels)
    torch.testing.assert_close(single.double(), exact, rtol=1e-5, atol=0)


def test_a_rows_bits_do_not_depend_on_its_neighbours_costs(generator):
    """At the batch of the study, 128: a row of 50 ends within a vector of AVX2, where torch takes
    another path for the rest and last bits differ by the company.
    """
    x = 2 * torch.randn(len(COSTS), 128, 4, generator=generator)
    labels = torch.randint(0, 2, x.shape, generator=generator).float()
    whole = Costs(list(COSTS)).gradient(x, labels)
    for row, name in enumerate(COSTS):
        for other in COSTS:
            company = Costs([name if i == row else other for i in range(len(COSTS))])
            assert torch.equal(company.gradient(x, labels)[row], whole[row]), (name, other)


def test_matched_signals_have_bces_size(batch):
    x, labels = (tensor.float() for tensor in batch)
    signals = matched(list(COSTS), x, labels).gradient(x, labels).square().mean((1, 2)).sqrt()
    bce = (x.sigmoid() - labels).square().mean((1, 2)).sqrt()
    torch.testing.assert_close(signals, bce, rtol=0.01, atol=0)


def test_matched_costs_train_a_network(batch):
    """What is matched to is a number: no graph of the logits stays behind."""
    x, labels = batch
    x = x.clone().requires_grad_()
    costs = matched(list(COSTS), x, labels)
    for _ in range(2):
        costs.value(x, labels).mean().backward()
    assert not costs.factors.requires_grad and x.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_everything_is_finite_at_the_ends(dtype):
    ends = torch.tensor([-100.0, 100.0, 0.0], dtype=dtype).expand(len(COSTS), 2, 3)
    labels = torch.tensor([[0.0], [1.0]], dtype=dtype).expand(len(COSTS), 2, 3)
    costs = Costs(list(COSTS))
    for kind, x in (("logits", ends), ("probabilities", ends.sigmoid())):
        assert costs.value(x, labels, kind).isfinite().all()
        assert costs.gradient(x, labels, kind).isfinite().all()
    assert costs.value(ends, labels)[0, 1, 0] == 100  # BCE of a sure error, not clipped
