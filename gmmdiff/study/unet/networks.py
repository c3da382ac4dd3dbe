"""A small ``UNet2DConditionModel`` of ``diffusers``, and the loss that trains it.

The network predicts x_0 from x_t, a timestep and tokens ``(batch, tokens, dim)``, its
``encoder_hidden_states``, e.g. those that ``GaussianMixtureConditioning`` makes.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gmmdiff.core.checks import require, require_generator, whole
from gmmdiff.study.unet.shapes import NORM_GROUPS, require_shape

with warnings.catch_warnings():  # it wants widgets for progress bars that nobody asks of it
    warnings.simplefilter("ignore")
    from diffusers import DDPMScheduler, UNet2DConditionModel

# The cosine schedule (Nichol & Dhariwal 2021, arXiv 2102.09672) as diffusers calls it, for training
# and for sampling.
DISCRETE = {
    "num_train_timesteps": 1000,
    "beta_schedule": "squaredcos_cap_v2",
    "prediction_type": "sample",
}
# Of 1 / sigma^2 in the loss: the steps with the least noise have thousands, which would leave the
# others without a say (as Hang et al. 2023, arXiv 2303.09556, clip the signal-to-noise ratio).
LARGEST_WEIGHT = 20.0


def unet(
    size: int, dim: int, channels: int = 1, widths: Sequence[int] = (32, 64), layers: int = 1
) -> UNet2DConditionModel:
    """A U-Net for images ``(batch, channels, size, size)`` and any number of tokens.

    Every resolution but the first looks at the tokens by cross-attention.  Starting weights are
    drawn from torch's default generator.

    Args:
        size: pixels of a side, a multiple of 2^(len(widths) - 1).
        dim: of a token.
        channels: 1 for grey, 3 for colour.
        widths: channels at each resolution, each half the one before it; two at least, multiples
            of ``NORM_GROUPS``.
        layers: residual blocks a resolution.

    Raises:
        ValueError: on anything else.
    """
    given = {"size": size, "dim": dim, "channels": channels, "layers": layers}
    size, dim, channels, layers = (whole("unet", name, n, 1) for name, n in given.items())
    require_shape(size, widths)
    deeper = len(widths) - 1
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


def denoising_loss(
    network: Any, x_0: Tensor, tokens: Tensor, schedule: DDPMScheduler, generator: torch.Generator
) -> Tensor:
    """The v-loss of x_0-prediction, a number: (x_0_hat - x_0)^2 / sigma^2, the weight capped.

    See Li & He 2025, arXiv 2511.13720.

    Args:
        network: of ``unet``, also wrapped (by accelerate, say).
        x_0: clean images ``(batch, channels, size, size)``, about of mean 0 and variance 1.
        tokens: ``(batch, tokens, dim)``.
        schedule: ``DDPMScheduler(**DISCRETE)``.
        generator: of timesteps and noise; on the CPU, wherever the images are.

    Raises:
        ValueError: on as many tokens as there are not images, or no generator.
    """
    require_generator("denoising_loss", generator)
    expected = f"(batch, tokens, dim) with batch = {len(x_0)}"
    good = tokens.ndim == 3 and len(tokens) == len(x_0)
    require(good, "denoising_loss", "tokens", expected, tuple(tokens.shape))
    moments = schedule.config["num_train_timesteps"]
    t = torch.randint(moments, (len(x_0),), generator=generator)
    noise = torch.randn(x_0.shape, generator=generator).to(x_0)
    x_t = schedule.add_noise(x_0, noise, t)
    predicted = network(x_t, t.to(x_0.device), tokens).sample.float()
    weight = (1 / (1 - schedule.alphas_cumprod[t])).clamp_max(LARGEST_WEIGHT).to(x_0)
    return (weight * (predicted - x_0).square().flatten(1).mean(1)).mean()
