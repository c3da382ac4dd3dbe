"""A trained denoiser of faces as a torch module, with its world and its conditions; its file."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import Linear, Module, Sequential, SiLU

from gmmdiff.core.checks import floating, refuse, require, require_generator, whole
from gmmdiff.core.conditioning import GaussianMixtureConditioning
from gmmdiff.core.diffusion import CosineSchedule, dpmpp_2m
from gmmdiff.core.streams import stream
from gmmdiff.engine.networks import denoiser_sizes, with_time_features
from gmmdiff.worlds.faces import Faces

KEY = "gmmdiff"  # of the one entry of a file's metadata; several have no order of their own
SCHEDULE = CosineSchedule()


@dataclass(frozen=True)
class Settings:
    """What a denoiser is made of, but for its weights and conditions."""

    attributes: int  # of its world, with the next two
    size: int
    seed: int
    condition: int  # dimension of a condition
    width: int  # of the hidden layers
    hidden: int  # hidden layers
    centre: float = 0.0  # of the greys, taken out of every pixel
    scale: float = 1.0  # and what they are divided by then
    least: float = 0.0  # of the greys to whose range predictions are clipped in sampling
    most: float = 1.0
    earliest: float = 0.15  # time of the last step: one prediction takes the rest of the noise away


class Denoiser(Module):
    """Predicts faces x_0 from x_t, a time and a condition, on the schedule ``CosineSchedule``.

    Attributes:
        world: the ``Faces`` it learned, whose judge reads what an image shows.
        conditioning: a component for every combination of attributes.
        settings: what else it is made of.

    Example:
        >>> import torch
        >>> from gmmdiff import stream
        >>> from gmmdiff.engine.denoiser import Denoiser, Settings
        >>> untrained = Denoiser(Settings(3, 16, seed=0, condition=6, width=8, hidden=1))
        >>> faces = untrained.sample(torch.tensor([[0, 1, 1]] * 5), stream(0, "faces"))
        >>> faces.shape, untrained.world.judge(faces).attributes.shape
        (torch.Size([5, 16, 16]), torch.Size([5, 3]))
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings, frequencies = settings, stream(settings.seed, "manifold")
        self.world = Faces(settings.attributes, settings.size, generator=frequencies)
        means = torch.zeros(len(self.world.combinations), settings.condition)
        self.conditioning = GaussianMixtureConditioning(means, 0.0)
        shape = settings.size**2, settings.condition, settings.width, settings.hidden
        layers: list[Module] = []
        for inner, outer in pairwise(denoiser_sizes(*shape)):
            layers += [Linear(inner, outer), SiLU()]
        self.network = Sequential(*layers[:-1])

    def forward(self, x_t: Tensor, t: Any, condition: Tensor) -> Tensor:
        """x_0 as the network sees images: greys less ``centre``, over ``scale``.

        Args:
            x_t: noisy images of that kind, ``(n, size, size)``.
            t: in [0, 1], a number or ``(n,)``.
            condition: ``(n, condition)``, e.g. of ``condition``.

        Raises:
            ValueError: on other shapes.
        """
        owner, shape = "Denoiser", self.world.shape
        good = x_t.shape[1:] == shape
        require(good, owner, "x_t", f"(n, {shape[0]}, {shape[1]})", tuple(x_t.shape))
        expected = len(x_t), self.settings.condition
        require(condition.shape == expected, owner, "condition", f"{expected}", condition.shape)
        t = floating(owner, "t", t, x_t)
        good, expected = t.ndim == 0 or t.shape == x_t.shape[:1], f"a number or ({len(x_t)},)"
        require(good, owner, "t", expected, tuple(t.shape))
        seen = with_time_features(x_t.flatten(1), t.to(x_t).expand(len(x_t))).to(x_t)
        return self.network(torch.cat([seen, condition], 1)).view_as(x_t)

    def condition(self, attributes: Any, generator: torch.Generator | None = None) -> Tensor:
        """A draw from the component of each row of attributes ``(n, m)`` in {0, 1}: ``(n, dim)``.

        Raises:
            ValueError: on another shape, or attributes that are not 0 or 1.
        """
        wanted, table = torch.as_tensor(attributes), self.world.combinations
        m = table.shape[1]
        good = (
            wanted.ndim == 2
            and wanted.shape[1] == m
            and bool(((wanted == 0) | (wanted == 1)).all())
        )
        require(good, "Denoiser", "attributes", f"(n, {m}) in {{0, 1}}", wanted.tolist())
        place = (wanted.to(table).unsqueeze(1) == table).all(2).int().argmax(1)
        return self.conditioning(place, generator=generator)

    @torch.no_grad()
    def sample(self, attributes: Any, generator: torch.Generator, evaluations: int = 20) -> Tensor:
        """A face for each row of attributes ``(n, m)``: greys ``(n, size, size)``, about in [0, 1].

        By DPM-Solver++(2M), predictions clipped to the training images' range, as in the study.

        Args:
            generator: of the noise to start from, and of the conditions.
            evaluations: of the network for a face, >= 2.

        Raises:
            ValueError: on attributes that are not 0 or 1, or values out of range.
        """
        evaluations = whole("Denoiser.sample", "evaluations", evaluations, 2)
        require_generator("Denoiser.sample", generator)
        start = torch.randn(len(attributes), *self.world.shape, generator=generator)
        condition = self.condition(attributes, generator)
        times = SCHEDULE.even_times(evaluations - 1, end=self.settings.earliest)
        times = torch.cat([times.float(), torch.zeros(1)])

        given = self.settings
        ends = [(grey - given.centre) / given.scale for grey in (given.least, given.most)]

        def predict(x_t: Tensor, t: Tensor) -> Tensor:
            return self(x_t, t, condition).clamp(*ends)

        x_0 = dpmpp_2m(predict, start.to(condition), times, SCHEDULE, "sample")
        return given.scale * x_0 + given.centre


def save(denoiser: Denoiser, path: str | os.PathLike[str]) -> None:
    """Writes a denoiser's weights, conditions and settings as one safetensors file."""
    from safetensors.torch import save_file

    told = {KEY: json.dumps(asdict(denoiser.settings))}
    save_file(denoiser.state_dict(), path, told)


def load(path: str | os.PathLike[str]) -> Denoiser:
    """A trained denoiser from its safetensors file: those of faces are in reports/published.

    Needs the package ``safetensors``.

    Returns:
        a ``torch.nn.Module`` in evaluation mode, called with x_t, t and a condition; it has a
        ``world``, a ``conditioning``, and samples by itself: see ``Denoiser``.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: on a file that is none of ours.

    Example:
        >>> import tempfile, torch
        >>> from gmmdiff import load, stream
        >>> from gmmdiff.engine.denoiser import Denoiser, Settings, save
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = f"{folder}/untrained.safetensors"
        ...     save(Denoiser(Settings(6, 16, seed=0, condition=66, width=8, hidden=1)), path)
        ...     denoiser = load(path)
        >>> wanted = [[1, 0, 1, 0, 0, 1]]  # hair, no glasses, smile, shaved, no hat, ears
        >>> denoiser.sample(wanted, stream(0, "faces")).shape
        torch.Size([1, 16, 16])
    """
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    allowed = "a safetensors file that gmmdiff wrote"
    try:
        with safe_open(path, "pt") as file:
            told = (file.metadata() or {}).get(KEY)
    except SafetensorError as error:
        refuse("load", "path", allowed, f"{path} ({error})")
    require(told is not None, "load", "path", allowed, path)
    denoiser = Denoiser(Settings(**json.loads(str(told))))
    denoiser.load_state_dict(load_file(path))
    return denoiser.eval()
