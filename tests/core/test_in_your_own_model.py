"""The two ideas in a plain torch training loop, and whether learning the scales helps."""

import itertools

import torch

from gmmdiff.core.conditioning import GaussianMixtureConditioning as Layer
from gmmdiff.core.diffusion import CosineSchedule, diffuse
from gmmdiff.core.distances import energy_distance
from gmmdiff.core.losses import NGMGWithLogitsLoss
from gmmdiff.core.ngmg import NGMG
from gmmdiff.core.streams import stream


def mlp(inputs, outputs, width=64):
    return torch.nn.Sequential(
        torch.nn.Linear(inputs, width), torch.nn.SiLU(), torch.nn.Linear(width, outputs)
    )


def points(count, generator):
    """Around the four corners of a square, and their two attributes: left or right, up or down."""
    attributes = torch.randint(2, (count, 2), generator=generator)
    return 2.0 * attributes - 1 + 0.1 * torch.randn(count, 2, generator=generator), attributes


def minimise(loss, parameters, steps, lr):
    optimiser = torch.optim.Adam([p for p in parameters if p.requires_grad], lr)
    for _ in range(steps):
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()


def trained_denoiser(layer, index, g, dropped=0.0):
    """Of the four corners, at the layer's draws for an index of the attributes; and its loss."""
    torch.manual_seed(0)
    network, schedule = mlp(2 + 1 + 16, 2), CosineSchedule()

    def loss(count=256):
        x_0, attributes = points(count, g)
        t, noise = torch.rand(count, 1, generator=g), torch.randn(count, 2, generator=g)
        x_t = diffuse(x_0, noise, schedule.alpha(t), schedule.sigma(t))
        condition = layer(layer.drop(index(attributes), dropped, g), generator=g).flatten(1)
        return (network(torch.cat([x_t, t, condition], 1)) - x_0).square().mean()

    minimise(loss, [*network.parameters(), *layer.parameters()], 600, 5e-3)
    return network, loss


def test_the_denoiser_follows_its_condition_and_knows_none():
    """At the noise alone the best guess is the corner asked for; with no condition the middle."""
    g, layer = stream(0, "ask"), Layer.for_features([2, 2], 8, generator=stream(0, "means"))
    network, _ = trained_denoiser(layer, torch.as_tensor, stream(0, "denoise"), 0.1)
    ask = torch.tensor(list(itertools.product((0, 1), repeat=2))).repeat_interleave(200, 0)
    noise, t = torch.randn(800, 2, generator=g), torch.ones(800, 1)
    asked, null = (
        network(torch.cat([noise, t, layer(index, generator=g).flatten(1)], 1)).detach()
        for index in (ask, torch.full_like(ask, layer.NULL))
    )
    assert ((asked > 0) == (ask > 0)).all(1).double().mean() > 0.99
    assert (asked - (2.0 * ask - 1)).abs().mean() < 0.2
    assert null.abs().mean() < 0.5
    # Guidance away from the null condition overshoots where the condition points to.
    assert ((null + 2 * (asked - null)) * (2.0 * ask - 1)).mean() > 1.5


def test_the_classifier_reads_the_attributes_despite_wrong_labels():
    torch.manual_seed(0)
    classifier, cost, g = mlp(2, 2), NGMGWithLogitsLoss([1.0]), stream(0, "classify")

    def loss():
        x, attributes = points(256, g)
        wrong = torch.rand(256, 2, generator=g) < 0.2  # a fifth of the labels is not true
        return cost(classifier(x), attributes ^ wrong)

    minimise(loss, classifier.parameters(), 200, 1e-2)
    x, attributes = points(2000, stream(0, "fresh"))
    assert ((classifier(x) > 0) == (attributes > 0)).double().mean() > 0.99


def spread_of_draws(learn_scales):
    """Energy distance of draws to two laws of unlike spread, means (and scales) learned by NGMG."""
    g, truth = stream(0, "spread"), torch.tensor([[0.2, 1.0], [1.0, 0.2]])
    layer = Layer(torch.zeros(2, 2), 0.5, learned=True)
    layer.log_scales.requires_grad_(learn_scales)
    ngmg = NGMG.scale_mixture(0.05, 10, 8)

    def pairs(count):
        for k in range(2):
            real = 2 * k + truth[k] * torch.randn(count, 2, generator=g)
            yield layer(torch.full((count,), k), generator=g), real

    minimise(lambda: sum(ngmg.cost(*pair) for pair in pairs(128)), layer.parameters(), 150, 0.03)
    return sum(energy_distance(*pair) for pair in pairs(1000)) / 2


def test_learned_scales_help_where_a_draw_must_have_the_spread_of_data():
    assert spread_of_draws(True) < spread_of_draws(False) / 5


def denoising_loss(scale, learned, learn_scales):
    """Of a small denoiser of four corners after training, and the scales then."""
    g = stream(0, "denoise")
    layer = Layer.for_classes(4, 8, 2, scale, learned, g)
    if learned:
        layer.log_scales.requires_grad_(learn_scales)
    _, loss = trained_denoiser(layer, lambda attributes: attributes @ torch.tensor([2, 1]), g)
    return float(loss(20_000).detach()), layer.scales


def test_under_the_denoising_loss_learned_scales_shrink_towards_points():
    """Better than fixed ones, by shrinking: a point is better still.

    A condition's noise says nothing of the sample, so the best denoiser has no use for it.
    """
    fixed, _ = denoising_loss(1.0, True, learn_scales=False)
    learned, scales = denoising_loss(1.0, True, learn_scales=True)
    point, _ = denoising_loss(0.0, False, learn_scales=False)
    assert point < learned < fixed and scales.max() < 0.8
