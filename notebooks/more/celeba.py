"""CelebA: features against classes, with a U-Net of ``diffusers`` that ``accelerate`` trains.

    accelerate launch notebooks/more/celeba.py

trains what params.yaml beside this file asks for, on one GPU or several.  It may be stopped at any
moment; the same command goes on from the last checkpoints.  Notebook 07 then measures and judges;
``asked`` are its parameters, by name.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn import Conv2d, GroupNorm, Linear, Module, ModuleList, Sequential, SiLU
from torch.nn.functional import binary_cross_entropy_with_logits, normalize
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm
from unet import NORM_GROUPS, denoising_loss, unet

from gmmdiff.core.checks import require, require_finite
from gmmdiff.core.conditioning import GaussianMixtureConditioning
from gmmdiff.core.distances import pairwise_distances
from gmmdiff.core.streams import stream
from gmmdiff.engine.runs import SeedData, TrainingSettings
from gmmdiff.engine.training import looks, resolve_device
from gmmdiff.pipeline.errors import BadInput, exit_code
from gmmdiff.pipeline.parameters import defaults, stage_parameters
from gmmdiff.worlds.celeba import CelebA
from gmmdiff.worlds.digits import NEIGHBOURS
from gmmdiff.worlds.world import Split

OWNER = "celeba"
GRANULARITIES = ("class", "feature")
CENTRE = 0.5  # of the images' range
SOME = 1000  # training images, at most, of which the spread about it is taken
VALIDATED = 512  # images, at most, whose loss chooses a run's weights
LARGEST_NORM = 1.0  # of a step's gradient; a longer one is shortened
SMALLEST = 4  # pixels of a side to which the judge halves images
CHUNK = 500  # images that the judge sees at once
REFUSED = 0.01  # share of real images that are called malformed
SMALLEST_UNIT = 0.01  # of a feature, in units of the average one: what hardly varies stays small
# All weights depend on the former, a denoiser's also on the latter.
TRAINED_BY = ("batch", "accumulation", "learning_rate", "ema", "precision")
SHARED = ("held_out", "widths", "layers", "dim")
Loss = Callable[[Module, Tensor, torch.Generator], Tensor]  # of some rows of the training images


def make_accelerator(asked: SimpleNamespace) -> Accelerator:
    """Of this process, or of all that ``accelerate launch`` has started.  A CPU, where few have
    bf16, computes in single precision.
    """
    cuda, parts = resolve_device(asked.device) == "cuda", asked.accumulation
    precision = asked.precision if cuda else "no"
    found = Accelerator(cpu=not cuda, mixed_precision=precision, gradient_accumulation_steps=parts)
    parts *= found.num_processes
    require(asked.batch % parts == 0, OWNER, "batch", f"a multiple of {parts} parts", asked.batch)
    return found


class _Best:
    """An averaged network's weights at the least validation loss so far; part of a checkpoint."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.kept: dict[str, Tensor] = {}

    @torch.no_grad()
    def look(self, average: Module, validate: Callable[[Module], Tensor] | None) -> None:
        if validate is not None:
            self.losses.append(float(validate(average)))
        if not self.kept or validate is None or self.losses[-1] == min(self.losses):
            self.kept = {name: value.clone() for name, value in average.state_dict().items()}

    def state_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        vars(self).update(state)


def fit(
    network: Module,
    loss: Loss,
    count: int,
    asked: SimpleNamespace,
    steps: int,
    seed: int,
    folder: Path,
    progress: Callable,
    validate: Callable[[Module], Tensor] | None = None,
) -> tuple[Module, list[float]]:
    """Trains to a number of steps, from the last checkpoint in the run's folder where there is one.

    Every step, and every part of it, by accumulation or on several GPUs, draws from a stream of its
    own: so a run that was stopped goes on as if it never had been, and four parts are the same four
    on one GPU or on two.

    Args:
        count: of the training images.
        validate: the loss on other images; without it the last weights are kept.

    Returns:
        The network with the moving average of its weights at the least validation loss, in
        evaluation mode; and the validation losses.
    """
    accelerator, best = make_accelerator(asked), _Best()
    parts = accelerator.num_processes * asked.accumulation
    own = range(parts)[accelerator.process_index :: accelerator.num_processes]
    optimiser = torch.optim.Adam(network.train().parameters(), asked.learning_rate)
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(asked.ema))
    average.to(accelerator.device)
    model, optimiser = accelerator.prepare(network, optimiser)
    accelerator.register_for_checkpointing(average, best)
    todo = range(_resume(accelerator, folder), steps)
    if todo and accelerator.is_main_process:
        todo = progress(todo, desc=f"training {folder.name}")
    for step in todo:
        rows = torch.randint(count, (asked.batch,), generator=stream(seed, f"batch {step}"))
        for part in own:
            with accelerator.accumulate(model):
                drawn = stream(seed, f"step {step}, part {part}")
                accelerator.backward(loss(model, rows.chunk(parts)[part], drawn))
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), LARGEST_NORM)
                optimiser.step()
                optimiser.zero_grad()
        average.update_parameters(accelerator.unwrap_model(model))
        if step + 1 in looks(steps):
            best.look(average.module, validate)
        if (step + 1) % asked.every == 0 or step + 1 == steps:
            _save(accelerator, folder, step + 1)
    network = accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    network.load_state_dict(best.kept)
    accelerator.free_memory()
    return network.eval(), best.losses


def _resume(accelerator: Accelerator, folder: Path) -> int:
    """Loads the last checkpoint; its number of steps, 0 without one."""
    done = {int(path.name.removeprefix("step_")): path for path in folder.glob("step_*")}
    if done:
        accelerator.load_state(str(done[max(done)]))
    return max(done, default=0)


def _save(accelerator: Accelerator, folder: Path, step: int) -> None:
    """A checkpoint, whole or not there, since it is written aside and renamed; older ones go."""
    aside, older = folder / ".saving", list(folder.glob("step_*"))
    accelerator.save_state(str(aside))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        os.replace(aside, folder / f"step_{step}")
        for path in older:
            shutil.rmtree(path)
    accelerator.wait_for_everyone()


class Reader(Module):
    """Images ``(n, 3, size, size)`` in [0, 1] -> logits ``(n, m)``, one an attribute.

    Stages halve the image until its side is at most 4, and double ``width`` channels thrice.
    """

    def __init__(self, size: int, attributes: int, width: int) -> None:
        super().__init__()
        good = width % NORM_GROUPS == 0
        require(good, OWNER, "judge_width", f"a multiple of {NORM_GROUPS}", width)
        self.stages, channels = ModuleList(), 3
        for k in range(max(1, math.ceil(math.log2(size / SMALLEST)))):
            out = width * 2 ** min(k, 3)
            first, second = Conv2d(channels, out, 3, padding=1), Conv2d(out, out, 3, 2, padding=1)
            norms = GroupNorm(NORM_GROUPS, out), GroupNorm(NORM_GROUPS, out)
            self.stages.append(Sequential(first, norms[0], SiLU(), second, norms[1], SiLU()))
            channels = out
        self.head = Linear(channels, attributes)

    def seen(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``(n, m)``, and features ``(n, f)``: means and standard deviations over places of
        the channels of all stages, since noise may have the last one's means.
        """
        z, found = 2 * z - 1, []
        for stage in self.stages:
            z = stage(z)
            found += [z.mean((2, 3)), z.std((2, 3))]
        return self.head(z.mean((2, 3))), torch.cat(found, 1)

    def forward(self, z: Tensor) -> Tensor:
        return self.seen(z)[0]


class Judge:
    """Reads images by a trained reader, and says which are malformed.

    Up to ``references`` real images of the judge's split, on which nothing has trained, stand for
    the manifold; ``logits`` ``(n, m)`` are those of the test split.
    """

    def __init__(
        self, data: CelebA, reader: Reader, references: int, generator: torch.Generator
    ) -> None:
        self.combinations, self.reader, (rows, _) = data.combinations, reader, data.part("judge")
        rows = rows[torch.randperm(len(rows), generator=generator)[:references]]
        _, real = self._read(data.load(some) for some in rows.split(CHUNK))
        test = (data.load(some) for some in data.part("test")[0].split(CHUNK))
        self.logits, features = self._read(test)
        require_finite(OWNER, "what the judge sees in real images", torch.cat([real, features]))
        self._unit = real.std(0).clamp_min(real.std(0).mean() * SMALLEST_UNIT)
        self._real = real / self._unit
        away = (pairwise_distances(some, self._real) for some in self._real.split(CHUNK))
        # The nearest is the image itself.
        self._radius = torch.cat([strip.kthvalue(NEIGHBOURS + 1, 1).values for strip in away])
        self._radius *= self._reach(features).quantile(1 - REFUSED)

    @torch.no_grad()
    def _read(self, chunks: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
        """Logits and features, in double precision on the CPU."""
        weight = next(self.reader.parameters())
        read = [[part.double().cpu() for part in self.reader.seen(z.to(weight))] for z in chunks]
        logits, features = map(torch.cat, zip(*read, strict=True))
        return logits, features

    def _reach(self, features: Tensor) -> Tensor:
        """By what the radii must be multiplied for a sphere to hold each of the features."""
        chunks = (features / self._unit).split(CHUNK)
        away = (pairwise_distances(some, self._real) / self._radius for some in chunks)
        return torch.cat([strip.min(1).values for strip in away])

    def __call__(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The combinations ``(n,)`` of the data that images in [0, 1] most probably show, and which
        are malformed: in features over their standard deviations outside the k-nearest-neighbour
        sphere of every real image (Kynkaanniemi et al. 2019, arXiv 1904.06991), all radii widened
        by the one factor with which one in a hundred images of the test split lies outside.
        """
        logits, features = self._read(z.split(CHUNK))
        # Of independent attributes log p(combination) is this and what all of them share.
        shown = (logits @ self.combinations.double().T).argmax(1)
        return shown, ~(self._reach(features) <= 1)


class Arm:
    """One arm's conditions and network for one seed.

    Conditions are a token an attribute, of fixed means of norm sqrt(dim) and the scale ``s_c``
    times the smallest distance of two of the *feature* arm's conditions.
    """

    def __init__(
        self, data: CelebA, granularity: str, s_c: float, seed: int, asked: SimpleNamespace
    ) -> None:
        self.data, self.granularity, self.s_c, self.seed = data, granularity, s_c, seed
        (count, tokens), drawn = data.combinations.shape, stream(seed, "condition means")
        shapes = (2 * tokens, asked.dim), (count, tokens, asked.dim)
        means = [normalize(torch.randn(shape, generator=drawn), dim=-1) for shape in shapes]
        values, classes = (asked.dim**0.5 * mean for mean in means)
        # Conditions that differ in one attribute are the nearest.
        scale = s_c * float((values[::2] - values[1::2]).norm(dim=1).min())
        features = granularity == "feature"
        means, counts = (values, [2] * tokens) if features else (classes, None)
        self.conditioning = GaussianMixtureConditioning(means, scale, counts=counts)
        self.index = data.combinations if features else torch.arange(count)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream(seed, "weights").initial_seed())
            self.network = unet(asked.size, asked.dim, 3, asked.widths, asked.layers)

    @cached_property
    def spread(self) -> float:
        """Of the training images about the middle of their range, root mean square."""
        rows, _ = self.data.part("train")
        some = rows[:: max(1, len(rows) // SOME)]
        return float((self.data.load(some) - CENTRE).square().mean().sqrt())

    def loss(
        self, rows: Tensor, combination: Tensor, network: Module, chosen: Any, generator: Any
    ) -> Tensor:
        """As ``denoising_loss``, of the chosen of rows and combinations ``(n,)``."""
        where = next(network.parameters()).device
        x_0 = ((self.data.load(rows[chosen]) - CENTRE) / self.spread).to(where)
        tokens = self.conditioning(self.index[combination[chosen]], generator=generator)
        return denoising_loss(network, x_0, tokens.to(where), generator)

    def validation_loss(self, rows: Tensor, combination: Tensor, network: Module) -> Tensor:
        """With the same times, noise and conditions at every look."""
        generator = stream(self.seed, "validation loss")
        return self.loss(rows, combination, network, slice(None), generator)


class Experiment:
    """Judge and runs, each with a folder in ``work`` named by all that its training depends on:
    what was trained once is trained.

    Raises:
        ValueError: before any training, on whatever cannot be.
    """

    def __init__(self, asked: SimpleNamespace, progress: Callable) -> None:
        self.asked, self.progress = asked, progress
        for name, path in (("folder", asked.folder), ("cache", asked.cache)):
            good = not path or Path(path).expanduser().is_absolute()
            require(good, OWNER, name, "an absolute path", path)
        given = asked.folder, asked.attributes, asked.size, asked.cache or None, asked.skip_corrupt
        with make_accelerator(asked).main_process_first():  # which makes the cache
            self.data = CelebA(*given)
        shared = TrainingSettings(lambda generator: self.data, asked.held_out, asked.rare)
        numbers = range(asked.seed, asked.seed + asked.seeds)
        self.seeds = [SeedData(seed, shared) for seed in numbers]
        most = len(self.seeds[0].seen) - 1
        require(0 < asked.rare <= most, OWNER, "rare", f"in 1 .. {most}", asked.rare)
        for split, n in (("train", asked.batch), ("validation", 1)):
            least = min(len(self.shown(one, split)[0]) for one in self.seeds)
            require(least >= n, OWNER, f"{split} images of the combinations seen", f">= {n}", least)
        real = min(asked.references, len(self.data.part("judge")[0]))
        what = "the judge's images, references"
        require(real > NEIGHBOURS, OWNER, what, f"more than {NEIGHBOURS}", real)
        Arm(self.data, "class", 0.0, asked.seed, asked)  # refuses what it cannot be
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream(asked.seed, "reader").initial_seed())
            self._reader = Reader(asked.size, len(asked.attributes), asked.judge_width)
        self.work = self.data.cache / "runs"
        self.work.mkdir(exist_ok=True)

    def shown(self, seed_data: SeedData, split: Split = "train") -> tuple[Tensor, Tensor]:
        """What is trained on: rows and combinations ``(n,)`` of the combinations seen."""
        rows, combination = self.data.part(split)
        seen = torch.isin(combination, seed_data.seen)
        return rows[seen], combination[seen]

    @cached_property
    def judge(self) -> Judge:
        """Trained on the whole training split, or loaded."""
        asked, data, (rows, combination) = self.asked, self.data, self.data.part("train")

        def loss(network: Module, chosen: Tensor, generator: torch.Generator) -> Tensor:
            where = next(network.parameters()).device
            wanted = data.combinations[combination[chosen]].to(where, torch.float32)
            logits = network(data.load(rows[chosen]).to(where)).float()
            return binary_cross_entropy_with_logits(logits, wanted)

        given = {"judge_width": asked.judge_width, "steps": asked.judge_steps, "seed": asked.seed}
        reader, _ = self._fit(self._reader, loss, len(rows), "judge", given)
        return Judge(data, reader, asked.references, stream(asked.seed, "references"))

    def _fit(
        self, network: Module, loss: Loss, count: int, name: str, given: dict, *validate: Callable
    ) -> tuple[Any, list[float]]:
        given = {"attributes": self.asked.attributes, "data": self.data.digest, **given}
        given |= {name: vars(self.asked)[name] for name in TRAINED_BY}
        told = json.dumps(given, indent=1)
        folder = self.work / f"{name}_{hashlib.sha256(told.encode()).hexdigest()[:12]}"
        folder.mkdir(exist_ok=True)
        (folder / "settings.json").write_text(told + "\n", encoding="utf-8")
        how = self.asked, given["steps"], given["seed"], folder, self.progress
        return fit(network, loss, count, *how, *validate)

    def trained(self) -> Iterator[tuple[SeedData, Arm, Module, list[float]]]:
        """Every run, trained or loaded: its seed's data, its arm, and what ``fit`` returns."""
        for one in self.seeds:
            data, (fresh, shown) = self.shown(one), self.shown(one, "validation")
            some = torch.randperm(len(fresh), generator=stream(one.seed, "validation"))[:VALIDATED]
            for granularity, s_c in itertools.product(GRANULARITIES, self.asked.s_c):
                arm = Arm(self.data, granularity, s_c, one.seed, self.asked)
                loss = partial(arm.loss, *data)
                validate = partial(arm.validation_loss, fresh[some], shown[some])
                given = {name: vars(self.asked)[name] for name in SHARED}
                given |= {"granularity": granularity, "s_c": float(s_c)}
                given |= {"steps": self.asked.steps, "seed": one.seed}
                name = f"{granularity}_{s_c:g}_{one.seed}"
                run = self._fit(arm.network, loss, len(data[0]), name, given, validate)
                yield one, arm, *run

    def train(self) -> None:
        """Judge and runs, those that are not yet there: all that takes long."""
        _ = self.judge
        for _ in self.trained():
            pass


def main() -> None:
    """Trains what a file of parameters asks for."""
    folder = Path(__file__).parent
    params, notebook = Path(*sys.argv[1:] or [folder / "params.yaml"]), folder / "07_celeba.ipynb"
    values = defaults(notebook) | stage_parameters(params, OWNER, notebook)
    try:
        require(values["folder"] != "", OWNER, "folder", "set", "nothing")
        experiment = Experiment(SimpleNamespace(**values), partial(tqdm, leave=False))
    except ValueError as error:
        raise BadInput(f"{params}: {error}") from None
    experiment.train()


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
