"""A small ``UNet2DConditionModel`` of ``diffusers``: its shape, its training loss, its sampling.

The network predicts x_0 from x_t, a timestep and tokens ``(batch, tokens, dim)``, its
``encoder_hidden_states``, e.g. those that ``GaussianMixtureConditioning`` makes.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gmmdiff.core.checks import require, require_finite

with warnings.catch_warnings():  # it wants widgets for progress bars that nobody asks of it
    warnings.simplefilter("ignore")
    from diffusers import DDPMScheduler, DPMSolverMultistepScheduler, UNet2DConditionModel

# The cosine schedule (Nichol & Dhariwal 2021, arXiv 2102.09672) as diffusers calls it.
DISCRETE = {
    "num_train_timesteps": 1000,
    "beta_schedule": "squaredcos_cap_v2",
    "prediction_type": "sample",
}
SCHEDULE = DDPMScheduler(**DISCRETE)
# Of 1 / sigma^2 in the loss: the steps with the least noise have thousands, which would leave the
# others without a say (as Hang et al. 2023, arXiv 2303.09556, clip the signal-to-noise ratio).
LARGEST_WEIGHT = 20.0
NORM_GROUPS = 8  # of channels, that a group normalisation takes together


def unet(
    size: int, dim: int, channels: int, widths: Sequence[int], layers: int
) -> UNet2DConditionModel:
    """A U-Net for images ``(batch, channels, size, size)`` and any number of tokens of size dim,
    at which every resolution but the first looks by cross-attention.

    Starting weights are drawn from torch's default generator.

    Args:
        size: pixels of a side, a multiple of 2^(len(widths) - 1).
        widths: channels at each resolution, each half the one before it; two at least, multiples
            of ``NORM_GROUPS``.
        layers: residual blocks a resolution.

    Raises:
        ValueError: on another size, or other widths.
    """
    deeper = len(widths) - 1
    good = deeper >= 1 and not any(width % NORM_GROUPS for width in widths)
    require(good, "unet", "widths", f"two or more multiples of {NORM_GROUPS}", list(widths))
    require(size % 2**deeper == 0, "unet", "size", f"a multiple of {2**deeper}", size)
    return UNet2DConditionModel(
        sample_size=size,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=tuple(widths),
        layers_per_block=layers,
        down_block_types=("DownBlock2D", *["CrossAttnDownBlock2D"] * deeper),
        up_block_types=(*["CrossAttnUpBlock2D"] * deeper, "UpBlock2D"),
        cross_attention_dim=dim,
        attention_head_dim=8,
        norm_num_groups=NORM_GROUPS,
    )


def denoising_loss(network: Any, x_0: Tensor, tokens: Tensor, generator: torch.Generator) -> Tensor:
    """The v-loss of x_0-prediction (Li & He 2025, arXiv 2511.13720): (x_0_hat - x_0)^2 / sigma^2,
    the weight capped.

    Args:
        network: of ``unet``, also wrapped (by accelerate, say).
        x_0: clean images ``(batch, channels, size, size)``, about of mean 0 and variance 1.
        tokens: ``(batch, tokens, dim)``.
        generator: of timesteps and noise; on the CPU, wherever the images are.
    """
    t = torch.randint(DISCRETE["num_train_timesteps"], (len(x_0),), generator=generator)
    noise = torch.randn(x_0.shape, generator=generator).to(x_0)
    x_t = SCHEDULE.add_noise(x_0, noise, t)
    predicted = network(x_t, t.to(x_0.device), tokens).sample.float()
    weight = (1 / (1 - SCHEDULE.alphas_cumprod[t])).clamp_max(LARGEST_WEIGHT).to(x_0)
    return (weight * (predicted - x_0).square().flatten(1).mean(1)).mean()


@torch.no_grad()
def sample(
    network: UNet2DConditionModel,
    tokens: Tensor,
    null: Tensor,
    generator: torch.Generator,
    guidance: float = 1.0,
    steps: int = 20,
) -> Tensor:
    """One image for each condition, by DPM-Solver++(2M): ``(n, channels, size, size)``, where the
    network is.

    Guided predictions are null + guidance (conditioned - null) (Ho & Salimans 2022, arXiv
    2207.12598, in the words of ``diffusers``): 1 is no guidance, 0 ignores the condition.

    Args:
        network: of ``unet``, in evaluation mode.
        tokens: ``(n, tokens, dim)``, one condition an image.
        null: the condition that says nothing, ``conditioning.null``; broadcasts to ``tokens``.
        generator: of the noise to start from; on the CPU.
        guidance: >= 0.
        steps: network evaluations of each image, in 1 .. 1000 (twice as many with guidance).

    Raises:
        ValueError: where an image is not finite.
    """
    scheduler, most = DPMSolverMultistepScheduler(**DISCRETE), DISCRETE["num_train_timesteps"]
    # Asked for all of its moments by their number, it takes one twice.
    moments = {"timesteps": range(most)[::-1]} if steps == most else {"num_inference_steps": steps}
    scheduler.set_timesteps(**moments, device=tokens.device)
    side, both = network.config["sample_size"], torch.cat([null.expand_as(tokens), tokens])
    shape = (len(tokens), network.config["in_channels"], side, side)
    x = torch.randn(shape, generator=generator).to(tokens)
    for t in scheduler.timesteps:
        if guidance == 1:
            x_0 = network(x, t, tokens).sample
        else:
            without, conditioned = network(x.repeat(2, 1, 1, 1), t, both).sample.chunk(2)
            x_0 = without + guidance * (conditioned - without)
        x = scheduler.step(x_0, t, x).prev_sample
    require_finite("sample", "images", x)
    return x
