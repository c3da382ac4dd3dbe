"""How long the full scale would take, from training steps measured here."""

from __future__ import annotations

import time
from typing import NamedTuple

import pandas as pd
import torch

from gmmdiff.core.streams import stream
from gmmdiff.experiments.feature_vs_class.arms import COMPARED
from gmmdiff.study.celeba.runs import Settings
from gmmdiff.study.unet.networks import DISCRETE, DDPMScheduler, denoising_loss, unet

HOUR = 3600  # seconds
RARE_AT_MOST = 4  # images


class Estimate(NamedTuple):
    """What training the denoisers of all runs takes on the device that was measured.

    The judge, sampling and reading the photographs come on top.
    """

    device: str
    rate: float  # images a second
    runs: int
    steps: int  # of all runs together
    images: int
    hours: float


def images_a_second(settings: Settings, turns: int = 2) -> float:
    """Of a training step of the settings' denoiser on its device: the fastest of the turns.

    Images are noise: time does not depend on what they show.  A GPU gets as many as in training, a
    CPU, whose time grows with them, ``RARE_AT_MOST`` at most.
    """
    accelerator = settings.training.accelerator()
    images = settings.training.batch // settings.training.accumulation
    if accelerator.device.type == "cpu":
        images = min(images, RARE_AT_MOST)
    network = unet(settings.size, settings.dim, 3, settings.widths, settings.layers)
    optimiser = torch.optim.Adam(network.parameters(), settings.training.learning_rate)
    network, optimiser = accelerator.prepare(network, optimiser)
    drawn, schedule = stream(0, "throughput"), DDPMScheduler(**DISCRETE)
    shape = images, 3, settings.size, settings.size
    x_0 = torch.randn(shape, generator=drawn).to(accelerator.device)
    tokens = torch.randn(images, len(settings.attributes), settings.dim, generator=drawn)
    tokens, seconds = tokens.to(accelerator.device), []
    for _ in range(1 + turns):  # the first one makes what the others use again
        start = time.perf_counter()
        accelerator.backward(denoising_loss(network, x_0, tokens, schedule, drawn))
        optimiser.step()
        optimiser.zero_grad()
        if accelerator.device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    accelerator.free_memory()
    return images / min(seconds[1:])


def estimate(settings: Settings, rate: float) -> Estimate:
    """At a rate in images a second, see ``images_a_second``."""
    runs = len(COMPARED) * len(settings.s_c) * settings.seeds
    steps = runs * settings.steps
    images = steps * settings.training.batch
    device = str(settings.training.accelerator().device)
    return Estimate(device, rate, runs, steps, images, images / rate / HOUR)


def table(found: Estimate) -> pd.DataFrame:
    """One row: what ``Estimate`` holds."""
    return pd.DataFrame([found])
