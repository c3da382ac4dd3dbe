"""A small U-Net of diffusers: its loss, its sampling, and guidance."""

import pytest
import torch
from unet import DISCRETE, LARGEST_WEIGHT, SCHEDULE, denoising_loss, sample, unet

from gmmdiff.core.conditioning import GaussianMixtureConditioning
from gmmdiff.core.diffusion import dpmpp_2m
from gmmdiff.core.streams import stream

SIZE, DIM, TOKENS = 8, 8, 3


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return unet(SIZE, DIM, 1, (8, 16), 1).eval()


@pytest.fixture(scope="module")
def conditioning():
    return GaussianMixtureConditioning.for_features([2] * TOKENS, DIM, generator=stream(0, "means"))


@pytest.fixture
def tokens(conditioning):
    index = torch.randint(2, (4, TOKENS), generator=stream(0, "attributes"))
    return conditioning(index, generator=stream(0, "conditions"))


@torch.no_grad()
@pytest.mark.parametrize(("channels", "widths"), [(1, (8, 16)), (3, (8, 16, 16))])
def test_grey_and_colour_and_any_number_of_tokens(channels, widths):
    network, x = unet(SIZE, DIM, channels, widths, 1), torch.randn(2, channels, SIZE, SIZE)
    for count in (1, 5):
        assert network(x, 3, torch.randn(2, count, DIM)).sample.shape == x.shape


@pytest.mark.parametrize(
    ("size", "widths", "message"),
    [
        (9, (8, 16), "size must be a multiple of 2, got 9"),
        (8, (12, 16), r"widths must be two or more multiples of 8, got \[12, 16\]"),
        (8, (8,), "widths must be two or more multiples of 8"),
    ],
)
def test_a_network_that_cannot_be_is_refused(size, widths, message):
    with pytest.raises(ValueError, match=f"^unet: {message}"):
        unet(size, DIM, 1, widths, 1)


class Returns(torch.nn.Module):
    """A network that predicts what it is given, and remembers what it was asked."""

    config = {"sample_size": SIZE, "in_channels": 1}  # noqa: RUF012 - as diffusers has it

    def __init__(self, answer):
        super().__init__()
        self.answer, self.seen = answer, []

    def forward(self, x_t, t, tokens):
        self.seen.append((x_t, t))
        return type("Output", (), {"sample": self.answer * torch.ones_like(x_t)})


def test_the_loss_is_the_error_of_the_velocity_with_a_capped_weight():
    """v = alpha eps - sigma x_0, with eps found from x_t = alpha x_0 + sigma eps."""
    g = stream(0, "loss")
    x_0, answer = torch.randn(2, 64, 1, SIZE, SIZE, generator=g).unbind()
    network = Returns(answer)
    found = denoising_loss(network, x_0, torch.zeros(64, TOKENS, DIM), g)
    ((x_t, t),) = network.seen
    alpha = SCHEDULE.alphas_cumprod[t].sqrt().view(-1, 1, 1, 1)
    sigma = (1 - alpha**2).sqrt()

    def velocity(x):
        return alpha * (x_t - alpha * x) / sigma - sigma * x

    squared = (velocity(answer) - velocity(x_0)).square()
    capped = squared * (sigma**2 * LARGEST_WEIGHT).clamp_max(1)
    torch.testing.assert_close(found, capped.mean(), rtol=1e-4, atol=0)
    assert (capped < squared).any() and (capped == squared).any()


class Discrete:
    """The schedule of diffusers at its own moments, for our sampler."""

    def alpha(self, t):
        kept = SCHEDULE.alphas_cumprod.double()[(t * 1000).round().long().clamp_max(999)].sqrt()
        return kept.where(t > 0, torch.ones_like(kept))

    def sigma(self, t):
        return (1 - self.alpha(t) ** 2).sqrt()


@pytest.mark.parametrize("guidance", [0.0, 1.0, 2.5])
def test_samples_are_those_of_our_solver(network, conditioning, tokens, guidance):
    steps = 16
    found = sample(network, tokens, conditioning.null, stream(0, "noise"), guidance, steps)
    moments = torch.linspace(0, 999, steps + 1).round().flip(0)[:-1]
    x = torch.randn(len(tokens), 1, SIZE, SIZE, generator=stream(0, "noise"))
    null = conditioning(torch.full((len(tokens), TOKENS), conditioning.NULL))

    def denoiser(x_t, t):
        without, conditioned = (
            network(x_t, (t * 1000).round(), one).sample for one in (null, tokens)
        )
        return (1 - guidance) * without + guidance * conditioned

    times = torch.cat([moments / 1000, torch.zeros(1)]).double()
    expected = dpmpp_2m(denoiser, x, times, Discrete(), "sample")
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("steps", [1, 999, 1000])
def test_as_many_moments_as_evaluations_and_the_end_is_what_is_predicted(tokens, steps):
    network = Returns(0.25)
    found = sample(network, tokens, torch.zeros(DIM), stream(0, "noise"), steps=steps)
    asked = [int(t) for _, t in network.seen]
    assert len(set(asked)) == steps and asked[0] == DISCRETE["num_train_timesteps"] - 1
    assert asked == sorted(asked, reverse=True)
    torch.testing.assert_close(found, torch.full((4, 1, SIZE, SIZE), 0.25))


@pytest.mark.parametrize("x_0", [float("nan"), float("inf")])
def test_images_that_are_not_finite_are_refused(tokens, x_0):
    with pytest.raises(ValueError, match=r"^sample: images must be finite, got 256 NaN or "):
        sample(Returns(x_0), tokens, torch.zeros(DIM), stream(0, "noise"), steps=2)
