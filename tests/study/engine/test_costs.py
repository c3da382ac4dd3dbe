"""Costs against torch's own losses, autograd and their limits."""

import pytest
import torch
from torch.nn.functional import binary_cross_entropy, binary_cross_entropy_with_logits

from gmmdiff.core.costs import COSTS
from gmmdiff.core.ngmg import NGMG
from gmmdiff.study.engine.costs import KINDS, Costs, matched


@pytest.fixture
def batch(generator):
    """Logits and labels (7 costs, 50, 4) in float64."""
    logits = 2 * torch.randn(len(COSTS), 50, 4, generator=generator, dtype=torch.float64)
    return logits, torch.randint(0, 2, logits.shape, generator=generator).double()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", COSTS)
def test_gradients_are_those_of_the_values(name, kind, batch):
    x, labels = (tensor[:1, :5] for tensor in batch)
    x = (x if kind == "logits" else x.sigmoid()).clone().requires_grad_()
    costs = Costs([name])
    assert torch.autograd.gradcheck(lambda x: costs.value(x, labels, kind), (x,))
    (found,) = torch.autograd.grad(costs.value(x, labels, kind).sum(), x)
    torch.testing.assert_close(
        costs.gradient(x.detach(), labels, kind), found, rtol=1e-10, atol=1e-12
    )


def test_values_of_sure_and_right_answers_keep_their_digits():
    """Single against double precision where every cost but for MAE is all cancellation, if written carelessly."""
    logits = torch.linspace(4, 12, 64, dtype=torch.float64).expand(len(COSTS), -1).unsqueeze(2)
    costs, labels = Costs(list(COSTS)), torch.zeros_like(logits)
    found, exact = costs.value(-logits.float(), labels.float()), costs.value(-logits, labels)
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=0)


def test_a_rows_bits_do_not_depend_on_its_neighbours_costs(batch):
    x, labels = (tensor.float() for tensor in batch)
    whole = Costs(list(COSTS))
    for row, name in enumerate(COSTS):
        for other in COSTS:
            company = Costs([name if i == row else other for i in range(len(COSTS))])
            for method in ("value", "gradient"):
                found, expected = (
                    getattr(costs, method)(x, labels)[row] for costs in (company, whole)
                )
                assert torch.equal(found, expected), (name, other, method)


def test_bce_is_torchs(batch):
    x, labels = (tensor[:1] for tensor in batch)
    expected = binary_cross_entropy_with_logits(x, labels, reduction="none")
    torch.testing.assert_close(Costs(["BCE"]).value(x, labels), expected)
    expected = binary_cross_entropy(x.sigmoid(), labels, reduction="none")
    torch.testing.assert_close(Costs(["BCE"]).value(x.sigmoid(), labels, "probabilities"), expected)


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


def test_entropy_is_a_convex_combination(batch):
    x, labels = (tensor[:1] for tensor in batch)
    both, ngmg, bce = (
        Costs([name]).value(x, labels) for name in ("NGMG with entropy", "NGMG s=1", "BCE")
    )
    torch.testing.assert_close(both, (ngmg + bce) / 2)


def test_a_wide_component_tends_to_the_brier_score(batch, monkeypatch):
    """2 s^2 psi -> e^2 as s grows: the gradient is Brier's up to the factor 2 s^2."""
    x, labels = (tensor[:1] for tensor in batch)
    monkeypatch.setitem(COSTS, "wide", type(COSTS["BCE"])(ngmg=1.0, potential=NGMG([100.0])))
    wide, brier = (Costs([name]).gradient(x, labels) for name in ("wide", "Brier"))
    torch.testing.assert_close(2 * 100.0**2 * wide, brier, rtol=1e-4, atol=0)


def test_the_scale_mixture_tends_to_the_absolute_error(batch, monkeypatch):
    x, labels = (tensor[:1] for tensor in batch)
    monkeypatch.setitem(
        COSTS, "fine", type(COSTS["BCE"])(ngmg=1.0, potential=NGMG.scale_mixture(1e-3, 1e3, 200))
    )
    fine, mae = (Costs([name]).gradient(x, labels) for name in ("fine", "MAE"))
    assert ((x.sigmoid() - labels).abs() > 0.01).double().mean() > 0.95
    torch.testing.assert_close(fine, mae, rtol=0.01, atol=1e-4)


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
        (lambda x, a: Costs(["BCE"]).value(x, a + 0.5), r"labels must be 0 or 1, got \[0.5, 1.5\]"),
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
