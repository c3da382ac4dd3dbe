"""A small U-Net of diffusers: its loss, its sampling, and guidance."""

import pytest
import torch
from diffusers import DDPMScheduler

from gmmdiff.core.conditioning import GaussianMixtureConditioning
from gmmdiff.core.diffusion import dpmpp_2m
from gmmdiff.core.streams import stream
from gmmdiff.study.unet.networks import DISCRETE, LARGEST_WEIGHT, denoising_loss, unet
from gmmdiff.study.unet.sampling import sample

SIZE, DIM, TOKENS = 8, 8, 3


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return unet(SIZE, DIM, widths=(8, 16)).eval()


@pytest.fixture(scope="module")
def conditioning():
    return GaussianMixtureConditioning.for_features([2] * TOKENS, DIM, generator=stream(0, "means"))


@pytest.fixture
def tokens(conditioning):
    index = torch.randint(2, (4, TOKENS), generator=stream(0, "attributes"))
    return conditioning(index, generator=stream(0, "conditions"))


@pytest.mark.parametrize(("channels", "widths"), [(1, (8, 16)), (3, (8, 16, 16))])
def test_images_of_any_kind_and_any_number_of_tokens(channels, widths):
    network = unet(SIZE, DIM, channels, widths)
    x = torch.randn(2, channels, SIZE, SIZE)
    for count in (1, 5):
        with torch.no_grad():
            assert network(x, 3, torch.randn(2, count, DIM)).sample.shape == x.shape


class Returns(torch.nn.Module):
    """A network that predicts what it is given."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, x_t, t, tokens):
        self.seen = x_t, t
        return type("Output", (), {"sample": self.answer})


def test_the_loss_is_the_error_of_the_velocity_with_a_capped_weight():
    """v = alpha eps - sigma x_0, with eps found from x_t = alpha x_0 + sigma eps."""
    g, schedule = stream(0, "loss"), DDPMScheduler(**DISCRETE)
    x_0, answer = torch.randn(2, 64, 1, SIZE, SIZE, generator=g).unbind()
    network = Returns(answer)
    found = denoising_loss(network, x_0, torch.zeros(64, TOKENS, DIM), schedule, g)
    x_t, t = network.seen
    alpha = schedule.alphas_cumprod[t].sqrt().view(-1, 1, 1, 1)
    sigma = (1 - alpha**2).sqrt()

    def velocity(x):
        return alpha * (x_t - alpha * x) / sigma - sigma * x

    squared = (velocity(answer) - velocity(x_0)).square()
    capped = squared * (sigma**2 * LARGEST_WEIGHT).clamp_max(1)
    torch.testing.assert_close(found, capped.mean(), rtol=1e-4, atol=0)
    assert (capped < squared).any() and (capped == squared).any()


class Discrete:
    """The schedule of diffusers at its own moments, for our sampler."""

    def __init__(self, products):
        self.products = products.double()

    def alpha(self, t):
        kept = self.products[(t * 1000).round().long().clamp_max(999)].sqrt()
        return kept.where(t > 0, torch.ones_like(kept))

    def sigma(self, t):
        return (1 - self.alpha(t) ** 2).sqrt()


@pytest.mark.parametrize("guidance", [0.0, 1.0, 2.5])
def test_samples_are_those_of_our_solver(network, conditioning, tokens, guidance):
    steps, g = 16, stream(0, "noise")
    found = sample(network, tokens, conditioning.null, g, guidance, steps)
    moments = torch.linspace(0, 999, steps + 1).round().flip(0)[:-1]
    x = torch.randn(len(tokens), 1, SIZE, SIZE, generator=stream(0, "noise"))
    null = conditioning(torch.full((len(tokens), TOKENS), conditioning.NULL))

    def denoiser(x_t, t):
        without, conditioned = (
            network(x_t, (t * 1000).round(), one).sample for one in (null, tokens)
        )
        return (1 - guidance) * without + guidance * conditioned

    times = torch.cat([moments / 1000, torch.zeros(1)]).double()
    products = DDPMScheduler(**DISCRETE).alphas_cumprod
    expected = dpmpp_2m(denoiser, x, times, Discrete(products), "sample")
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


class Predicts(torch.nn.Module):
    """A network that always predicts one x_0, and remembers when it was asked."""

    def __init__(self, x_0):
        super().__init__()
        self.config = {"sample_size": SIZE, "in_channels": 1}
        self.x_0, self.asked = x_0, []

    def forward(self, x_t, t, tokens):
        self.asked.append(int(t))
        return type("Output", (), {"sample": torch.full_like(x_t, self.x_0)})


@pytest.mark.parametrize("steps", [1, 999, 1000])
def test_as_many_moments_as_evaluations_and_the_end_is_what_is_predicted(tokens, steps):
    network = Predicts(0.25)
    found = sample(network, tokens, torch.zeros(DIM), stream(0, "noise"), steps=steps)
    assert len(set(network.asked)) == steps and network.asked[0] == 999
    assert network.asked == sorted(network.asked, reverse=True)
    torch.testing.assert_close(found, torch.full((4, 1, SIZE, SIZE), 0.25))


@pytest.mark.parametrize("x_0", [float("nan"), float("inf")])
def test_images_that_are_not_finite_are_refused(tokens, x_0):
    with pytest.raises(ValueError, match=r"^sample: images must be finite, got 256 NaN or "):
        sample(Predicts(x_0), tokens, torch.zeros(DIM), stream(0, "noise"), steps=2)


def test_guidance_of_weight_1_is_none_and_of_0_asks_for_nothing(network, conditioning, tokens):
    def images(tokens, weight):
        return sample(network, tokens, conditioning.null, stream(0, "noise"), weight, 3)

    near = images(tokens, 1 + 1e-6)  # by way of both predictions
    torch.testing.assert_close(images(tokens, 1.0), near, rtol=1e-4, atol=1e-4)
    nothing = conditioning.null.expand_as(tokens)
    torch.testing.assert_close(images(tokens, 0.0), images(nothing, 1.0), rtol=1e-4, atol=1e-4)
    assert (images(tokens, 0.0) - near).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 9}, "size must be a multiple of 2, got 9"),
        ({"widths": (12, 16)}, r"widths must be two or more multiples of 8, got \[12, 16\]"),
        ({"widths": (8,)}, "widths must be two or more multiples of 8"),
        ({"channels": 0}, "channels must be a whole number >= 1, got 0"),
    ],
)
def test_a_network_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=f"^unet: {message}"):
        unet(**{"size": SIZE, "dim": DIM} | arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"guidance": -1.0}, "guidance must be >= 0, got -1.0"),
        ({"guidance": float("nan")}, "guidance must be >= 0, got nan"),
        ({"steps": 0}, "steps must be a whole number >= 1, got 0"),
        ({"steps": 1001}, r"steps must be in 1 .. 1000, got 1001"),
        ({"generator": None}, "generator must be a torch.Generator"),
        ({"null": torch.zeros(DIM + 1)}, "null must be of a shape that broadcasts to"),
        ({"tokens": torch.zeros(4, DIM)}, r"tokens must be \(n, tokens, dim\), n >= 1"),
    ],
)
def test_what_cannot_be_sampled_is_refused(network, tokens, arguments, message):
    given = {"tokens": tokens, "null": torch.zeros(DIM), "generator": stream(0, "noise")}
    with pytest.raises(ValueError, match=f"^sample: {message}"):
        sample(network, **given | arguments)


def test_a_loss_with_other_tokens_than_images_is_refused(network, tokens):
    images, schedule = torch.zeros(3, 1, SIZE, SIZE), DDPMScheduler(**DISCRETE)
    with pytest.raises(ValueError, match=r"^denoising_loss: tokens must be .* batch = 3, got"):
        denoising_loss(network, images, tokens, schedule, stream(0, "loss"))
