"""The losses against torch.distributions, closed forms, torch's conventions and autograd."""

import itertools
import math

import pytest
import torch
from torch.autograd import grad as gradient
from torch.distributions import Normal

from gmmdiff.core.costs import COSTS
from gmmdiff.core.losses import NGMGLoss, NGMGMulticlassLoss, NGMGWithLogitsLoss, ngmg_loss
from gmmdiff.core.ngmg import NGMG


@pytest.fixture
def batch(generator):
    """Inputs and targets (7, 5, 3) in float64."""
    return torch.randn(2, 7, 5, 3, generator=generator, dtype=torch.float64)


def test_it_is_the_negative_mixture_of_torchs_gaussians(batch):
    """-sum_k w_k N(e; 0, s_k^2) / N(0; 0, s_k^2), up to a constant."""
    x, y = batch
    scales, weights = [0.3, 2.0], [0.5, 1.5]
    mixture = sum(
        w * (law.log_prob(x - y) - law.log_prob(torch.zeros_like(x))).sum(-1).exp()
        for w, law in zip(weights, (Normal(0.0, s) for s in scales), strict=True)
    )
    loss = NGMGLoss(scales, weights, "none")(x, y)
    torch.testing.assert_close(loss, sum(weights) - mixture)


def test_welschs_loss_and_the_correntropy_loss(generator):
    """s^2 psi is Welsch's; psi over psi(1) is the C-loss, which is 1 at a margin of 0."""
    e, s = torch.randn(50, 1, generator=generator, dtype=torch.float64), 0.5
    psi = ngmg_loss(e, torch.zeros_like(e), [s], reduction="none")
    c = math.sqrt(2) * s
    welsch = c**2 / 2 * (1 - torch.exp(-((e / c) ** 2))).squeeze(-1)
    torch.testing.assert_close(s**2 * psi, welsch)
    beta = 1 / (1 - math.exp(-1 / (2 * s**2)))
    margin = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    c_loss = beta * ngmg_loss(margin, torch.ones_like(margin), [s], reduction="none")
    torch.testing.assert_close(c_loss, torch.tensor([1.0, 0.0], dtype=torch.float64))


LOSSES = {  # activation -> the loss, and the shape of its elements where inputs are (7, 5, 3)
    None: (NGMGLoss([0.5, 2.0]), (7, 5)),
    "sigmoid": (NGMGWithLogitsLoss([0.5, 2.0]), (7, 5, 3)),
    "softmax": (NGMGMulticlassLoss([0.5, 2.0]), (7, 3)),
}


def targets(activation, batch):
    """Labels of two classes where there is an activation, else the second half of the batch."""
    labels = (batch[1] > 0).long()
    return {None: batch[1], "sigmoid": labels, "softmax": labels[:, 0]}[activation]


@pytest.mark.parametrize("activation", LOSSES)
def test_reductions_are_torchs(activation, batch):
    """Shapes and sums as ``SmoothL1Loss`` has them, of the vectors' losses or the elements'."""
    (module, shape), x, y = LOSSES[activation], batch[0], targets(activation, batch)
    of = {r: type(module)([0.5, 2.0], reduction=r)(x, y) for r in ("none", "mean", "sum")}
    assert of["none"].shape == shape
    assert torch.equal(of["mean"], of["none"].mean()) and torch.equal(of["sum"], of["none"].sum())
    assert torch.equal(module(x, y), of["mean"])
    for reduction, value in of.items():
        found = ngmg_loss(x, y, [0.5, 2.0], reduction=reduction, activation=activation)
        assert torch.equal(found, value)


def test_the_gradient_is_the_ngmg(batch):
    x, y = batch[0].requires_grad_(), batch[1]
    scales, weights = [0.5, 2.0], [1.0, 3.0]
    (found,) = torch.autograd.grad(ngmg_loss(x, y, scales, weights, "sum"), x)
    torch.testing.assert_close(found, NGMG(scales, weights).gradient(x.detach() - y))
    loss = NGMGLoss.scale_mixture(0.05, 5.0, 8)
    assert torch.autograd.gradcheck(loss, (x[:2].detach().requires_grad_(), y[:2]))


def test_of_logits_it_is_the_loss_of_their_probabilities(batch):
    """And the study's cost of the same name."""
    logits, labels = batch[0], (batch[1] > 0).long()
    expected = 1 - torch.exp(-(logits.sigmoid() - labels).square() / 2)
    found = ngmg_loss(logits, labels, [1.0], reduction="none", activation="sigmoid")
    torch.testing.assert_close(found, expected)
    assert torch.equal(found, COSTS["NGMG s=1"].value(logits, labels))


def test_of_classes_it_is_the_mean_of_the_closed_form(batch):
    """One element at a time, in Python's own arithmetic."""
    logits, scales, weights = batch[0], [0.3, 1.0], [0.5, 2.0]
    labels = torch.arange(21).view(7, 3) % 5
    found = NGMGMulticlassLoss(scales, weights, "none")(logits, labels)
    for i, j in itertools.product(range(7), range(3)):
        powers = [math.exp(z) for z in logits[i, :, j].tolist()]
        errors = [power / sum(powers) - int(k == labels[i, j]) for k, power in enumerate(powers)]
        pairs = list(zip(scales, weights, strict=True))
        psi = [sum(w * (1 - math.exp(-(e**2) / (2 * s**2))) for s, w in pairs) for e in errors]
        assert float(found[i, j]) == pytest.approx(sum(psi) / 5, rel=1e-12)


def test_gradients_of_classes_are_right(batch):
    labels = torch.arange(21).view(7, 3) % 5
    logits = batch[0].requires_grad_()
    assert torch.autograd.gradcheck(lambda x: NGMGMulticlassLoss([0.3, 1.0])(x, labels), logits)


def test_two_classes_are_one_binary_label(batch):
    logits, labels = batch[0][..., :2], (batch[1][..., 0] > 0).long()
    found = NGMGMulticlassLoss([0.5], reduction="none")(logits.flatten(0, 1), labels.flatten())
    binary = NGMGWithLogitsLoss([0.5], reduction="none")(logits[..., 1] - logits[..., 0], labels)
    torch.testing.assert_close(found, binary.flatten())


def test_a_wide_scale_tends_to_briers_score_of_classes(batch):
    labels = torch.arange(7) % 5
    logits, s = batch[0][..., 0], 1e3
    one_hot = torch.nn.functional.one_hot(labels, 5)
    brier = (logits.softmax(1) - one_hot).square().sum(1).mean()
    torch.testing.assert_close(2 * 5 * s**2 * NGMGMulticlassLoss([s])(logits, labels), brier)


@pytest.mark.parametrize("activation", LOSSES)
def test_a_step_under_autocast_compiles_as_a_whole(activation, batch):
    (module, _), y = LOSSES[activation], targets(activation, batch)
    x = batch[0].float().requires_grad_()
    weight = torch.eye(3).requires_grad_()

    def step(x, y):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return module(x @ weight, y)

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    found, expected = ([value := f(x, y), *gradient(value, weight)] for f in (compiled, step))
    torch.testing.assert_close(found, expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = torch.compile(module, fullgraph=True, backend="aot_eager")(x, y)
    torch.testing.assert_close(inside, module(x, y))


@pytest.mark.parametrize("activation", LOSSES)
def test_one_graph_serves_batches_of_every_size(activation, batch):
    """The last batch of an epoch is smaller: torch.compile then traces sizes as symbols."""
    (module, _), y = LOSSES[activation], targets(activation, batch)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager", dynamic=True)
    for n in (7, 5, 3):
        torch.testing.assert_close(compiled(batch[0][:n], y[:n]), module(batch[0][:n], y[:n]))


@pytest.mark.parametrize("activation", LOSSES)
def test_one_sample_at_a_time_under_vmap(activation, batch):
    x, y = batch[0].unsqueeze(1), targets(activation, batch).unsqueeze(1)
    module = LOSSES[activation][0]
    each = torch.stack([module(a, b) for a, b in zip(x, y, strict=True)])
    torch.testing.assert_close(torch.vmap(module)(x, y), each)
