"""Costs against torch's own losses, autograd and their limits."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy, binary_cross_entropy_with_logits

from gmmdiff.core.costs import COSTS, KINDS


@pytest.fixture
def batch(generator):
    """Logits and labels (50, 4) in float64."""
    logits = 2 * torch.randn(50, 4, generator=generator, dtype=torch.float64)
    return logits, torch.randint(0, 2, logits.shape, generator=generator).double()


def test_the_studys_costs_have_the_scales_told():
    scales = {name: cost.potential.scales for name, cost in COSTS.items() if cost.potential}
    np.testing.assert_allclose(scales.pop("NGMG scale mixture"), np.geomspace(0.02, 20, 16))
    one = {name: float(scale) for name, scale in scales.items()}
    assert one == {"NGMG s=0.5": 0.5, "NGMG s=1": 1, "NGMG with entropy": 1}


def test_a_sure_error_costs_bce_what_the_precision_can_tell():
    found = COSTS["BCE"].value(torch.tensor([1.0, 0.0]), [0, 1], "probabilities")
    assert found.tolist() == pytest.approx([23 * math.log(2)] * 2)  # single has 2^-23


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", COSTS)
def test_gradients_are_those_of_the_values(name, kind, batch):
    """Also at probabilities of 0 and 1."""
    x, labels = (tensor[:5] for tensor in batch)
    x, cost = x if kind == "logits" else x.sigmoid(), COSTS[name]
    assert torch.autograd.gradcheck(lambda x: cost.value(x, labels, kind), x.requires_grad_())
    ends = torch.tensor([[0.0, 0, 1, 1]]).double(), torch.tensor([[0.0, 1, 0, 1]]).double()
    x, labels = (torch.cat(pair) for pair in zip((x.detach(), labels), ends, strict=True))
    (found,) = torch.autograd.grad(cost.value(x.requires_grad_(), labels, kind).sum(), x)
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


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float16, torch.float64])
@pytest.mark.parametrize("name", COSTS)
def test_labels_are_of_any_type_and_leave_that_of_the_logits(name, dtype, batch):
    x, labels = batch[0].float(), batch[1]
    found = COSTS[name].value(x, labels.to(dtype))
    assert found.dtype == torch.float32 and torch.equal(found, COSTS[name].value(x, labels))
