"""Costs against torch's own losses, autograd and their limits."""

import pytest
import torch
from torch.nn.functional import binary_cross_entropy, binary_cross_entropy_with_logits

from gmmdiff.core.costs import COSTS, KINDS, Cost
from gmmdiff.core.ngmg import NGMG


@pytest.fixture
def batch(generator):
    """Logits and labels (50, 4) in float64."""
    logits = 2 * torch.randn(50, 4, generator=generator, dtype=torch.float64)
    return logits, torch.randint(0, 2, logits.shape, generator=generator).double()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", COSTS)
def test_gradients_are_those_of_the_values(name, kind, batch):
    x, labels = (tensor[:5] for tensor in batch)
    x = (x if kind == "logits" else x.sigmoid()).clone().requires_grad_()
    cost = COSTS[name]
    assert torch.autograd.gradcheck(lambda x: cost.value(x, labels, kind), (x,))
    (found,) = torch.autograd.grad(cost.value(x, labels, kind).sum(), x)
    gradient = cost.gradient(x.detach(), labels, kind)
    torch.testing.assert_close(gradient, found, rtol=1e-10, atol=1e-12)


def test_bce_brier_and_mae_are_torchs(batch):
    x, labels = batch
    p = x.sigmoid()
    bce = binary_cross_entropy_with_logits(x, labels, reduction="none")
    torch.testing.assert_close(COSTS["BCE"].value(x, labels), bce)
    bce = binary_cross_entropy(p, labels, reduction="none")
    torch.testing.assert_close(COSTS["BCE"].value(p, labels, "probabilities"), bce)
    for name, loss in (("Brier", torch.nn.MSELoss), ("MAE", torch.nn.L1Loss)):
        torch.testing.assert_close(COSTS[name].value(x, labels), loss(reduction="none")(p, labels))


def test_entropy_is_a_convex_combination(batch):
    both, ngmg, bce = (COSTS[n].value(*batch) for n in ("NGMG with entropy", "NGMG s=1", "BCE"))
    torch.testing.assert_close(both, (ngmg + bce) / 2)


def test_a_wide_component_tends_to_the_brier_score(batch):
    """2 s^2 psi -> e^2 as s grows: the gradient is Brier's up to the factor 2 s^2."""
    wide, brier = Cost(ngmg=1.0, potential=NGMG([100.0])), COSTS["Brier"]
    expected = brier.gradient(*batch)
    torch.testing.assert_close(2 * 100.0**2 * wide.gradient(*batch), expected, rtol=1e-4, atol=0)


def test_the_scale_mixture_tends_to_the_absolute_error(batch):
    x, labels = batch
    fine = Cost(ngmg=1.0, potential=NGMG.scale_mixture(1e-3, 1e3, 200)).gradient(x, labels)
    assert ((x.sigmoid() - labels).abs() > 0.01).double().mean() > 0.95
    torch.testing.assert_close(fine, COSTS["MAE"].gradient(x, labels), rtol=0.01, atol=1e-4)
