"""A trained denoiser of faces as a torch module, with its world and its conditions; its file."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import Linear, Module, Sequential, SiLU

from gmmdiff.core.checks import floating, require, require_generator, require_shape, whole
from gmmdiff.core.conditioning import GaussianMixtureConditioning
from gmmdiff.core.diffusion import CosineSchedule, dpmpp_2m
from gmmdiff.core.streams import stream
from gmmdiff.engine.networks import layer_sizes, with_time_features
from gmmdiff.worlds.faces import Faces

KEY = "gmmdiff"  # of the one entry of a file's metadata; several have no order of their own
CLONE = Path(__file__).parents[2]
PUBLISHED = CLONE / "reports" / "published" / "denoisers"
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
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings, frequencies = settings, stream(settings.seed, "manifold")
        self.world = Faces(settings.attributes, settings.size, generator=frequencies)
        means = torch.zeros(len(self.world.combinations), settings.condition)
        self.conditioning = GaussianMixtureConditioning(means, 0.0)
        inputs, pixels = settings.size**2 + settings.condition, settings.size**2
        sizes = layer_sizes(inputs, settings.width, settings.hidden, pixels)
        layers = [layer for pair in pairwise(sizes) for layer in (Linear(*pair), SiLU())]
        self.network = Sequential(*layers[:-1])

    def forward(self, x_t: Tensor, t: Any, condition: Tensor) -> Tensor:
        """x_0 as the network sees images: greys less ``centre``, over ``scale``.

        Args:
            x_t: noisy images of that kind, ``(n, size, size)``.
            t: in [0, 1], a number or ``(n,)``.
            condition: ``(n, condition)``, e.g. of the method ``condition``.

        Raises:
            ValueError: on other shapes.
        """
        owner, n = "Denoiser", len(x_t)
        require_shape(owner, "x_t", x_t, "n", *self.world.shape)
        require_shape(owner, "condition", condition, n, self.settings.condition)
        t = floating(owner, "t", t, x_t)
        good = t.ndim == 0 or t.shape == (n,)
        require(good, owner, "t", f"a number or ({n},)", tuple(t.shape))
        noisy = with_time_features(x_t.flatten(1), t.to(x_t).expand(n)).to(x_t)
        return self.network(torch.cat([noisy, condition], 1)).view_as(x_t)

    def condition(self, attributes: Any, generator: torch.Generator | None = None) -> Tensor:
        """A draw from the component of each row of attributes ``(n, m)`` in {0, 1}: ``(n, dim)``.

        Raises:
            ValueError: on another shape, or attributes that are not 0 or 1.
        """
        wanted, table = torch.as_tensor(attributes), self.world.combinations
        good = wanted.ndim == 2 and wanted.shape[1] == table.shape[1]
        good = good and bool(((wanted == 0) | (wanted == 1)).all())
        allowed = f"(n, {table.shape[1]}) in {{0, 1}}"
        require(good, "Denoiser", "attributes", allowed, wanted.tolist())
        combination = (wanted.to(table).unsqueeze(1) == table).all(2).int().argmax(1)
        return self.conditioning(combination, generator=generator)

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
        s = self.settings
        times = SCHEDULE.even_times(evaluations - 1, end=s.earliest).float()
        times = torch.cat([times, torch.zeros(1)])
        ends = [(grey - s.centre) / s.scale for grey in (s.least, s.most)]

        def predict(x_t: Tensor, t: Tensor) -> Tensor:
            return self(x_t, t, condition).clamp(*ends)

        x_0 = dpmpp_2m(predict, start.to(condition), times, SCHEDULE, "sample")
        return s.scale * x_0 + s.centre


def save(denoiser: Denoiser, path: str | os.PathLike[str]) -> None:
    """Writes a denoiser's weights, conditions and settings as one safetensors file."""
    from safetensors.torch import save_file

    metadata = {KEY: json.dumps(asdict(denoiser.settings))}
    save_file(denoiser.state_dict(), path, metadata)


def load(path: str | os.PathLike[str]) -> Denoiser:
    """A trained denoiser, in evaluation mode, from its safetensors file.

    Args:
        path: of a file, e.g. one that ``save`` wrote; or, where the package lies in its clone, the
            name of a published one, "faces-feature" or "faces-class", or its path in the clone:
            both from any working folder.

    Raises:
        ImportError: where ``safetensors`` is missing, of the extra ``gmmdiff[models]``.
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
    try:
        from safetensors import SafetensorError, safe_open
        from safetensors.torch import load_file
    except ImportError:
        message = "load: needs the package safetensors: pip install gmmdiff[models]"
        raise ImportError(message) from None

    places = (Path(path), CLONE / path, PUBLISHED / f"{path}.safetensors")
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        names = ", ".join(sorted(one.stem for one in PUBLISHED.glob("*.safetensors"))) or "none"
        raise FileNotFoundError(f"load: there is no file {path}; published here: {names}")
    try:
        with safe_open(file, "pt") as opened:
            metadata = (opened.metadata() or {}).get(KEY, "")
    except SafetensorError as error:
        metadata, path = "", f"{path} ({error})"
    require(bool(metadata), "load", "path", "a safetensors file that gmmdiff wrote", path)
    denoiser = Denoiser(Settings(**json.loads(metadata)))
    denoiser.load_state_dict(load_file(file))
    return denoiser.eval()
