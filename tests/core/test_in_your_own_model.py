"""The two ideas in a plain torch training loop, and whether learning the scales helps."""

import inspect
import itertools

import torch

from gmmdiff.core.conditioning import GaussianMixtureConditioning
from gmmdiff.core.diffusion import CosineSchedule, diffuse
from gmmdiff.core.distances import energy_distance
from gmmdiff.core.ngmg import NGMG
from gmmdiff.core.streams import stream

OURS = "  # gmmdiff"  # ends the lines that the ideas add to a loop


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


def denoiser_with_conditioning():
    from gmmdiff import GaussianMixtureConditioning  # gmmdiff

    torch.manual_seed(0)
    g = torch.Generator().manual_seed(0)
    conditioning = GaussianMixtureConditioning.for_features([2, 2], dim=8)  # gmmdiff
    network = mlp(2 + 1 + 2 * 8, 2)

    def loss():
        x_0, attributes = points(256, g)
        t = torch.rand(256, 1, generator=g)
        alpha, sigma = torch.cos(t * torch.pi / 2), torch.sin(t * torch.pi / 2)
        x_t = alpha * x_0 + sigma * torch.randn(256, 2, generator=g)
        index = conditioning.drop(attributes, 0.1, g)  # gmmdiff
        tokens = conditioning(index, generator=g)  # gmmdiff
        predicted = network(torch.cat([x_t, t, tokens.flatten(1)], 1))  # gmmdiff
        return (predicted - x_0).square().mean()

    minimise(loss, network.parameters(), 400, 1e-2)
    return conditioning, network


def classifier_with_ngmg():
    from gmmdiff import NGMGWithLogitsLoss  # gmmdiff

    torch.manual_seed(0)
    g = torch.Generator().manual_seed(0)
    classifier, cost = mlp(2, 2), NGMGWithLogitsLoss([1.0])  # gmmdiff

    def loss():
        x, attributes = points(256, g)
        wrong = torch.rand(256, 2, generator=g) < 0.2  # a fifth of the labels is not true
        return cost(classifier(x), attributes ^ wrong)  # gmmdiff

    minimise(loss, classifier.parameters(), 200, 1e-2)
    return classifier


def test_each_idea_takes_at_most_five_lines():
    for loop in (denoiser_with_conditioning, classifier_with_ngmg):
        lines = inspect.getsource(loop).splitlines()
        ours = [line for line in lines if line.endswith(OURS)]
        assert 1 < len(ours) <= 5
        names = ("conditioning", "index", "tokens", "NGMG", "cost", "gmmdiff")
        others = [line for line in lines[1:-1] if line not in ours]
        assert not any(name in line for line in others for name in names)


def test_the_denoiser_follows_its_condition_and_knows_none():
    """At the noise alone the best guess is the corner asked for; with no condition the middle."""
    conditioning, network = denoiser_with_conditioning()
    g = stream(0, "ask")
    ask = torch.tensor(list(itertools.product((0, 1), repeat=2))).repeat_interleave(200, 0)
    noise, t = torch.randn(800, 2, generator=g), torch.ones(800, 1)
    asked, null = (
        network(torch.cat([noise, t, conditioning(index, generator=g).flatten(1)], 1)).detach()
        for index in (ask, torch.full_like(ask, conditioning.NULL))
    )
    assert ((asked > 0) == (ask > 0)).all(1).double().mean() > 0.99
    assert (asked - (2.0 * ask - 1)).abs().mean() < 0.2
    assert null.abs().mean() < 0.5
    # Guidance away from the null condition overshoots where the condition points to.
    assert ((null + 2 * (asked - null)) * (2.0 * ask - 1)).mean() > 1.5


def test_the_classifier_reads_the_attributes_despite_wrong_labels():
    classifier = classifier_with_ngmg()
    x, attributes = points(2000, stream(0, "fresh"))
    assert ((classifier(x) > 0) == (attributes > 0)).double().mean() > 0.99


def spread_of_draws(learn_scales):
    """Energy distance of draws to two laws of unlike spread, means (and scales) learned by NGMG."""
    g, truth = stream(0, "spread"), torch.tensor([[0.2, 1.0], [1.0, 0.2]])
    layer = GaussianMixtureConditioning(torch.zeros(2, 2), 0.5, learned=True)
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
    torch.manual_seed(0)
    g, schedule = stream(0, "denoise"), CosineSchedule()
    layer = GaussianMixtureConditioning.for_classes(4, 8, 1, scale, learned, g)
    if learned:
        layer.log_scales.requires_grad_(learn_scales)
    network = mlp(2 + 1 + 8, 2)

    def loss(count=256):
        x_0, attributes = points(count, g)
        t, noise = torch.rand(count, 1, generator=g), torch.randn(count, 2, generator=g)
        x_t = diffuse(x_0, noise, schedule.alpha(t), schedule.sigma(t))
        condition = layer(attributes @ torch.tensor([2, 1]), generator=g).flatten(1)
        return (network(torch.cat([x_t, t, condition], 1)) - x_0).square().mean()

    minimise(loss, [*network.parameters(), *layer.parameters()], 600, 5e-3)
    return float(loss(20_000).detach()), layer.scales


def test_under_the_denoising_loss_learned_scales_shrink_towards_points():
    """Better than fixed ones, by shrinking: a point is better still.

    A condition's noise says nothing of the sample, so the best denoiser has no use for it.
    """
    fixed, _ = denoising_loss(1.0, True, learn_scales=False)
    learned, scales = denoising_loss(1.0, True, learn_scales=True)
    point, _ = denoising_loss(0.0, False, learn_scales=False)
    assert point < learned < fixed and scales.max() < 0.8
