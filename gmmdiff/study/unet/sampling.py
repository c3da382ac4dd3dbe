"""Images of a U-Net: DPM-Solver++(2M) of ``diffusers``, with classifier-free guidance."""

from __future__ import annotations

import math

import torch
from diffusers import DPMSolverMultistepScheduler, UNet2DConditionModel
from torch import Tensor

from gmmdiff.core.checks import refuse, require, require_finite, require_generator, whole
from gmmdiff.study.unet.networks import DISCRETE


@torch.no_grad()
def sample(
    network: UNet2DConditionModel,
    tokens: Tensor,
    null: Tensor,
    generator: torch.Generator,
    guidance: float = 1.0,
    steps: int = 20,
) -> Tensor:
    """One image for each condition: ``(n, channels, size, size)``, where the network is.

    Guided predictions are null + guidance (conditioned - null) (Ho & Salimans 2022, arXiv
    2207.12598, in the words of ``diffusers``): 1 is no guidance, more than 1 exaggerates what the
    condition says, 0 ignores it.

    Args:
        network: of ``unet``, in evaluation mode.
        tokens: ``(n, tokens, dim)``, one condition an image.
        null: the condition that says nothing, of a shape that broadcasts to that of ``tokens``:
            ``conditioning.null``.
        generator: of the noise to start from; on the CPU.
        guidance: >= 0.
        steps: network evaluations of each image, in 1 .. 1000 (twice as many with guidance).

    Raises:
        ValueError: on values out of range, a null condition of another shape than a condition, or a
            network whose images are not finite.
    """
    require_generator("sample", generator)
    steps, most = whole("sample", "steps", steps, 1), DISCRETE["num_train_timesteps"]
    require(steps <= most, "sample", "steps", f"in 1 .. {most}", steps)
    good = tokens.ndim == 3 and len(tokens) > 0
    require(good, "sample", "tokens", "(n, tokens, dim), n >= 1", tuple(tokens.shape))
    try:
        both = torch.cat([null.expand_as(tokens), tokens])
    except RuntimeError:
        allowed = f"of a shape that broadcasts to {tuple(tokens.shape)}"
        refuse("sample", "null", allowed, tuple(null.shape))
    require(0 <= guidance < math.inf, "sample", "guidance", ">= 0", guidance)
    scheduler = DPMSolverMultistepScheduler(**DISCRETE)
    # Asked for all of its moments by their number, it takes one twice.
    moments = {"timesteps": range(most)[::-1]} if steps == most else {"num_inference_steps": steps}
    scheduler.set_timesteps(**moments, device=tokens.device)
    side = network.config["sample_size"]
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
