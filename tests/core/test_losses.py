"""The losses against torch.distributions, closed forms, torch's conventions and autograd."""

import math

import pytest
import torch
from torch.autograd import grad as gradient
from torch.distributions import Normal
from torch.nn.functional import one_hot

from gmmdiff.core.costs import COSTS
from gmmdiff.core.losses import NGMGLoss, NGMGMulticlassLoss, NGMGWithLogitsLoss, ngmg_loss
from gmmdiff.core.ngmg import NGMG

SCALES, WEIGHTS = [0.3, 2.0], [0.5, 1.5]
LOSSES = {  # activation -> the loss, and the shape of its elements where inputs are (7, 5, 3)
    None: (NGMGLoss(SCALES, WEIGHTS), (7, 5)),
    "sigmoid": (NGMGWithLogitsLoss(SCALES, WEIGHTS), (7, 5, 3)),
    "softmax": (NGMGMulticlassLoss(SCALES, WEIGHTS), (7, 3)),
}


@pytest.fixture
def batch(generator):
    """Inputs and targets (7, 5, 3) in float64."""
    return torch.randn(2, 7, 5, 3, generator=generator, dtype=torch.float64)


@pytest.fixture(params=LOSSES, ids=str)
def case(request, batch):
    """An activation, its loss, inputs, and targets: vectors, binary labels or classes."""
    x, y = batch
    targets = {None: y, "sigmoid": (y > 0).long(), "softmax": torch.arange(21).view(7, 3) % 5}
    return request.param, LOSSES[request.param][0], x, targets[request.param]


def test_it_is_the_negative_mixture_of_torchs_gaussians(batch):
    """-sum_k w_k N(e; 0, s_k^2) / N(0; 0, s_k^2), up to a constant; its gradient is the NGMG."""
    x, y = batch[0].requires_grad_(), batch[1]
    mixture = sum(
        w * (law.log_prob(x - y) - law.log_prob(torch.zeros_like(x))).sum(-1).exp()
        for w, law in zip(WEIGHTS, (Normal(0.0, s) for s in SCALES), strict=True)
    )
    loss = NGMGLoss(SCALES, WEIGHTS, "none")(x, y)
    torch.testing.assert_close(loss, sum(WEIGHTS) - mixture)
    (found,) = gradient(loss.sum(), x)
    torch.testing.assert_close(found, NGMG(SCALES, WEIGHTS).gradient(x.detach() - y))


def test_welschs_loss_and_the_correntropy_loss(generator):
    """s^2 psi is Welsch's; psi over psi(1) is the C-loss, which is 1 at a margin of 0."""
    e, s = torch.randn(50, 1, generator=generator, dtype=torch.float64), 0.5
    psi = ngmg_loss(e, torch.zeros_like(e), [s], reduction="none")
    c = math.sqrt(2) * s
    welsch = c**2 / 2 * (1 - torch.exp(-((e / c) ** 2))).squeeze(-1)
    torch.testing.assert_close(s**2 * psi, welsch)
    beta = 1 / (1 - math.exp(-1 / (2 * s**2)))
    c_loss = beta * ngmg_loss(torch.tensor([[0.0], [1.0]]), torch.ones(2, 1), [s], reduction="none")
    torch.testing.assert_close(c_loss, torch.tensor([1.0, 0.0]))


def test_reductions_are_torchs(case):
    """Shapes and sums as ``SmoothL1Loss`` has them, of the vectors' losses or the elements'."""
    activation, module, x, y = case
    of = {r: type(module)(SCALES, WEIGHTS, r)(x, y) for r in ("none", "mean", "sum")}
    assert of["none"].shape == LOSSES[activation][1]
    assert torch.equal(of["mean"], of["none"].mean()) and torch.equal(of["sum"], of["none"].sum())
    assert torch.equal(module(x, y), of["mean"])
    for reduction, value in of.items():
        assert torch.equal(ngmg_loss(x, y, SCALES, WEIGHTS, reduction, activation), value)


def test_of_logits_it_is_the_loss_of_their_probabilities(batch):
    """And the study's cost of the same name."""
    logits, labels = batch[0], (batch[1] > 0).long()
    expected = 1 - torch.exp(-(logits.sigmoid() - labels).square() / 2)
    found = ngmg_loss(logits, labels, [1.0], reduction="none", activation="sigmoid")
    torch.testing.assert_close(found, expected)
    assert torch.equal(found, COSTS["NGMG s=1"].value(logits, labels))


def test_of_classes_it_is_the_mean_of_the_closed_form(batch):
    labels = torch.arange(21).view(7, 3) % 5
    e = batch[0].exp() / batch[0].exp().sum(1, keepdim=True) - one_hot(labels, 5).movedim(-1, 1)
    psi = sum(w * (1 - (-(e**2) / (2 * s**2)).exp()) for s, w in zip(SCALES, WEIGHTS, strict=True))
    found = NGMGMulticlassLoss(SCALES, WEIGHTS, "none")(batch[0], labels)
    torch.testing.assert_close(found, psi.mean(1))


def test_gradients_are_right(case):
    _, module, x, y = case
    assert torch.autograd.gradcheck(lambda x: module(x, y), x.requires_grad_())


def test_one_compiled_step_under_autocast_serves_batches_of_every_size(case):
    """The last batch of an epoch is smaller: torch.compile then traces sizes as symbols."""
    _, module, x, y = case
    weight = torch.eye(3).requires_grad_()

    def step(x, y):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return module(x @ weight, y)

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager", dynamic=True)
    for n in (7, 5, 3):
        given = x[:n].float(), y[:n]
        found, expected = ([value := f(*given), *gradient(value, weight)] for f in (compiled, step))
        torch.testing.assert_close(found, expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = torch.compile(module, fullgraph=True, backend="aot_eager")(x, y)
    torch.testing.assert_close(inside, module(x, y))


def test_one_sample_at_a_time_under_vmap(case):
    _, module, x, y = case
    x, y = x.unsqueeze(1), y.unsqueeze(1)
    each = torch.stack([module(a, b) for a, b in zip(x, y, strict=True)])
    torch.testing.assert_close(torch.vmap(module)(x, y), each)
