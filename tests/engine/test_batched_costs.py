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
def test_every_run_has_the_cost_that_it_names(kind, batch):
    x, labels = batch
    x = x if kind == "logits" else x.sigmoid()
    costs = Costs(list(COSTS))
    for method in ("value", "gradient"):
        found = getattr(costs, method)(x, labels, kind)
        for row, cost in enumerate(COSTS.values()):
            expected = getattr(cost, method)(x[row], labels[row], kind)
            torch.testing.assert_close(found[row], expected, rtol=1e-12, atol=1e-12)


def test_values_of_sure_and_right_answers_keep_their_digits():
    """Single against double precision, where all but MAE is cancellation if written carelessly."""
    logits = torch.linspace(4, 12, 64, dtype=torch.float64).expand(len(COSTS), -1).unsqueeze(2)
    costs, labels = Costs(list(COSTS)), torch.zeros_like(logits)
    found, exact = costs.value(-logits.float(), labels.float()), costs.value(-logits, labels)
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=0)


def test_a_rows_bits_do_not_depend_on_its_neighbours_costs(generator):
    """At the batch of the study, 128: a row of 50 ends within a vector of AVX2, where torch takes
    another path for the rest and last bits differ by the company.
    """
    x = 2 * torch.randn(len(COSTS), 128, 4, generator=generator)
    labels = torch.randint(0, 2, x.shape, generator=generator).float()
    whole = Costs(list(COSTS))
    for row, name in enumerate(COSTS):
        for other in COSTS:
            company = Costs([name if i == row else other for i in range(len(COSTS))])
            for method in ("value", "gradient"):
                found, expected = (
                    getattr(costs, method)(x, labels)[row] for costs in (company, whole)
                )
                assert torch.equal(found, expected), (name, other, method)


def test_rows_keep_their_own_cost(batch):
    x, labels = batch
    names, factors = list(COSTS), torch.linspace(0.5, 2, len(COSTS))
    together = Costs(names, factors)
    for row, name in enumerate(names):
        alone = Costs([name])
        for method in ("value", "gradient"):
            expected = factors[row].double() * getattr(alone, method)(
                x[row : row + 1], labels[row : row + 1]
            )
            torch.testing.assert_close(
                getattr(together, method)(x, labels)[row : row + 1], expected
            )


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
        assert (
            costs.value(x, labels, kind).isfinite().all()
            and costs.gradient(x, labels, kind).isfinite().all()
        )
    assert costs.value(ends, labels)[0, 1, 0] == 100  # BCE of a sure error, not clipped


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, a: Costs(["hinge"]), "cost must be one of BCE, Brier, .*, got 'hinge'"),
        (lambda x, a: Costs([]), r"names must be a list of at least one, got \[\]"),
        (lambda x, a: Costs("BCE"), "names must be a list of at least one, got 'BCE'"),
        (
            lambda x, a: Costs(["BCE"]).value(a + 0.5, a, "probabilities"),
            r"probabilities must be in \[0, 1\], got values in \[0.5, 1.5\]",
        ),
        (lambda x, a: Costs(["BCE"], torch.tensor([-1.0])), "factors must be >= 0, got -1.0"),
        (lambda x, a: Costs(["BCE"], torch.ones(2)), r"factors must be \(1,\), got \(2,\)"),
        (lambda x, a: Costs(["BCE"]).value(x, a + 0.5), r"labels must be 0 or 1, got"),
        (
            lambda x, a: Costs(["BCE"]).value(x, a[:, :3]),
            r"labels must be \(1, 8, 2\) as the logits, got \(1, 3, 2\)",
        ),
        (
            lambda x, a: Costs(["BCE"] * 2).value(x, a),
            r"logits must be \(2, batch, m\), got \(1, 8, 2\)",
        ),
        (
            lambda x, a: Costs(["BCE"]).value(x, a, "odds"),
            "kind must be one of logits, probabilities, got 'odds'",
        ),
        (
            lambda x, a: matched(["MAE"], x + 1e3, a * 0 + 1),
            "the signal of every cost must be > 0 at these logits",
        ),
    ],
)
def test_bad_input_is_named(call, message, generator):
    x = torch.randn(1, 8, 2, generator=generator)
    labels = torch.arange(16).view(1, 8, 2) % 2
    with pytest.raises(ValueError, match=message):
        call(x, labels.float())
