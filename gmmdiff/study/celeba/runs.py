"""The experiment: what is trained for every seed, and what it is worth."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property, partial
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor
from torch.nn import Module

from gmmdiff.core.checks import refuse, require
from gmmdiff.core.streams import stream
from gmmdiff.engine.evaluation import validation_results
from gmmdiff.engine.runs import Progress, SeedData, TrainingSettings
from gmmdiff.engine.training import Trained
from gmmdiff.experiments.feature_vs_class.arms import COMPARED
from gmmdiff.experiments.run_tables import DENSE
from gmmdiff.study.celeba.arms import Arm
from gmmdiff.study.celeba.judge import Judge, Reader, reading_loss
from gmmdiff.study.celeba.training import Loss, Training, Validate, fit
from gmmdiff.worlds.celeba import CelebA
from gmmdiff.worlds.digits import NEIGHBOURS
from gmmdiff.worlds.world import Judged, Split, find_defects

OWNER = "celeba"
SHOWN = {"held out": 2, "rare": 2, "frequent": 2}  # combinations pictured, by group
COPIES = 3  # images of each
OF_RUNS = ("held_out", "widths", "layers", "dim")  # settings that no judge depends on
VALIDATED = 512  # images, at most, whose loss chooses a run's weights


@dataclass(frozen=True)
class Settings:
    """What is asked.

    Args:
        folder, cache, attributes, size, skip_corrupt: see ``CelebA``; the cache, by default the
            folder's own, holds checkpoints too.
        seed, seeds: the first one, and how many.
        held_out: combinations left out of training. rare: how many of the least frequent seen ones
            count as rare.
        s_c, widths, layers, dim: see ``Arm``; several s_c.
        steps: of a denoiser. evaluations: of it, for one image. n_eval: images of each combination.
        judge_width, judge_steps: of the ``Reader``. references: see ``Judge``.
    """

    folder: str
    cache: str = ""
    attributes: Sequence[str] = ("Male", "Smiling", "Eyeglasses", "Young")
    size: int = 64
    skip_corrupt: bool = False
    seed: int = 0
    seeds: int = 2
    held_out: int = 2
    rare: int = 2
    s_c: Sequence[float] = (0.0, 0.1)
    widths: Sequence[int] = (32, 64)
    layers: int = 1
    dim: int = 32
    steps: int = 1000
    evaluations: int = 20
    n_eval: int = 16
    judge_width: int = 16
    judge_steps: int = 1000
    references: int = 1000
    training: Training = field(default_factory=Training)


def settings(**values: Any) -> Settings:
    """Of parameters by name, those of ``Training`` among them; what else is there is left out."""
    of = {kind: {f.name for f in fields(kind)} & set(values) for kind in (Settings, Training)}
    training = Training(**{name: values[name] for name in of[Training]})
    return Settings(**{name: values[name] for name in of[Settings]}, training=training)


class Sheet(NamedTuple):
    """Images of one arm of the first seed, and what they show."""

    arm: str
    images: Tensor  # (n, 3, size, size) in [0, 1]
    combination: Tensor  # (n,), asked for
    group: list[str]  # of each
    judged: Judged


class Experiment:
    """The settings with the data: everything that can be refused is, before any training.

    Attributes:
        work: the folder in the cache with one of its own for every judge and run, named by all that
            its training depends on: what was trained once is trained.

    Raises:
        ValueError: on bad data (see ``CelebA``), fewer training images than a batch, fewer
            combinations or validation images than are asked for, or networks that cannot be.
    """

    def __init__(self, settings: Settings, progress: Progress) -> None:
        self.settings, self.progress = settings, progress
        with settings.training.accelerator().main_process_first():  # which makes the cache
            self.data = CelebA(
                settings.folder,
                settings.attributes,
                settings.size,
                settings.cache or None,
                settings.skip_corrupt,
            )
        shared = TrainingSettings(lambda generator: self.data, settings.held_out, settings.rare)
        numbers = range(settings.seed, settings.seed + settings.seeds)
        self.seeds = [SeedData(seed, shared) for seed in numbers]
        good = 0 < settings.rare < len(self.seeds[0].seen)
        require(good, OWNER, "rare", f"in 1 .. {len(self.seeds[0].seen) - 1}", settings.rare)
        require(settings.held_out > 0, OWNER, "held_out", "at least 1", settings.held_out)
        least, batch = min(len(self.shown(s)[0]) for s in self.seeds), settings.training.batch
        require(least >= batch, OWNER, "training images", f">= batch = {batch}", least)
        fresh = min(len(self.shown(s, "validation")[0]) for s in self.seeds)
        require(fresh > 0, OWNER, "validation images", "some of the combinations seen", "none")
        real = min(settings.references, len(self.data.part("judge")[0]))
        allowed = f"more than {NEIGHBOURS}"
        require(real > NEIGHBOURS, OWNER, "the judge's images, references", allowed, real)
        self._reader(), self._arm(COMPARED[0], 0.0, settings.seed)  # refuse what they cannot be
        self.work = self.data.cache / "runs"
        try:
            self.work.mkdir(exist_ok=True)
        except OSError as error:
            where = f"{self.work.parent} ({error.strerror})"
            refuse(OWNER, "cache", "a folder that can be written", where)

    def shown(self, scene: SeedData, split: Split = "train") -> tuple[Tensor, Tensor]:
        """What is trained on: rows and combinations ``(n,)`` of the combinations seen."""
        rows, combination = self.data.part(split)
        seen = torch.isin(combination, scene.seen)
        return rows[seen], combination[seen]

    @cached_property
    def judge(self) -> Judge:
        """Trained on the whole training split, or loaded."""
        settings, (rows, combination) = self.settings, self.data.part("train")

        def loss(network: Module, places: Tensor, generator: torch.Generator) -> Tensor:
            return reading_loss(network, self.data, rows[places], combination[places])

        how = len(rows), settings.judge_steps, settings.seed, "judge"
        reader, _ = self._fit(self._reader(), loss, *how, {"judge_width": settings.judge_width})
        shuffled = stream(settings.seed, "references")
        return Judge(self.data, reader, settings.references, shuffled)

    def _reader(self) -> Reader:
        settings = self.settings
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream(settings.seed, "reader").initial_seed())
            return Reader(settings.size, len(settings.attributes), settings.judge_width)

    def _arm(self, granularity: str, s_c: float, seed: int) -> Arm:
        settings = self.settings
        shape = settings.dim, list(settings.widths), settings.layers
        return Arm(self.data, granularity, s_c, seed, *shape)

    def _fit(
        self,
        network: Module,
        loss: Loss,
        count: int,
        steps: int,
        seed: int,
        name: str,
        asked: dict[str, Any],
        validate: Validate | None = None,
    ) -> tuple[Any, list[float]]:
        training = self.settings.training
        given = {"attributes": self.settings.attributes, "data": self.data.digest, **asked}
        given |= {"steps": steps, "seed": seed, **asdict(training)}
        for free in ("every", "device"):  # which ask for no other training
            del given[free]
        told = json.dumps(given, indent=1, default=list)
        folder = self.work / f"{name}_{hashlib.sha256(told.encode()).hexdigest()[:12]}"
        folder.mkdir(exist_ok=True)
        (folder / "settings.json").write_text(told + "\n", encoding="utf-8")
        return fit(network, loss, count, training, steps, seed, folder, self.progress, validate)

    def trained(self) -> Iterator[tuple[SeedData, Arm, float, Module, list[float]]]:
        """Every run, trained or loaded: its scene, its arm, s_c, its network at the least
        validation loss, and the validation losses.
        """
        shared = {name: getattr(self.settings, name) for name in OF_RUNS}
        for scene in self.seeds:
            rows, combination = self.shown(scene)
            fresh, shown = self.shown(scene, "validation")
            some = torch.randperm(len(fresh), generator=stream(scene.seed, "validation"))
            fresh, shown = fresh[some[:VALIDATED]], shown[some[:VALIDATED]]
            for granularity, s_c in itertools.product(COMPARED, self.settings.s_c):
                arm = self._arm(granularity, s_c, scene.seed)
                loss = partial(_loss, arm, rows, combination)
                validate = partial(_validation_loss, arm, fresh, shown)
                asked = shared | {"granularity": granularity, "s_c": float(s_c)}
                how = self.settings.steps, scene.seed, f"{granularity}_{s_c:g}_{scene.seed}", asked
                yield scene, arm, s_c, *self._fit(arm.network, loss, len(rows), *how, validate)

    def train(self) -> None:
        """Judge and runs, those that are not yet there: all that takes long."""
        _ = self.judge
        for _ in self.trained():
            pass

    def measure(self) -> tuple[dict[str, pd.DataFrame], list[Sheet]]:
        """What the runs are worth, trained where they are not yet: tables by name, and images.

        ``celeba``: one row a run, group of combinations and metric, real images of the test split
        among them, and of the group "all" what the validation says.  *Copies* and the *law* are
        not measured: of photographs, distances between pixels mean little.  ``judge``: see
        ``Judge.errors``.
        """
        every, tables, sheets = torch.arange(len(self.data.combinations)), [], []
        there = torch.isin(every, self.data.part("test")[1])
        asked = every[there].repeat_interleave(self.settings.n_eval)
        for scene in self.seeds:
            real = self.data.sample(asked, stream(scene.seed, "floor"), "test")
            tables.append(self._measured(scene, "real", 0.0, real, asked, sheets))
        asked = every.repeat_interleave(self.settings.n_eval)
        for scene, arm, s_c, network, losses in self.trained():
            made = arm.generate(
                network, asked, self.settings.evaluations, self.settings.training.batch
            )
            tables.append(self._measured(scene, arm.granularity, s_c, made, asked, sheets))
            row = pd.DataFrame([self._run(scene, arm.granularity, s_c)])
            curve = torch.tensor([losses], dtype=torch.float64)
            none, diverged = curve[:, :0], ~curve[:, -1].isfinite()
            trained = Trained(none, none, none, none, diverged, curve, none)
            tables.append(validation_results(row, trained))
        found = pd.concat(tables, ignore_index=True)
        return {"celeba": found, "judge": self.judge.errors()}, sheets

    def _run(self, scene: SeedData, granularity: str, s_c: float) -> dict[str, Any]:
        """A run's columns of the tables."""
        return {
            "granularity": granularity,
            "s_c": s_c,
            "images": len(self.shown(scene)[0]),
            "learning_rate": self.settings.training.learning_rate,
            "steps": self.settings.steps,
            "seed": scene.seed,
            "regime": self.regime,
            "attributes": self.data.combinations.shape[1],
        }

    def _measured(
        self, scene: SeedData, arm: str, s_c: float, z: Tensor, asked: Tensor, sheets: list[Sheet]
    ) -> pd.DataFrame:
        """Shares of defects of images z made for combinations ``(n,)``: one row a group, whose
        combinations weigh alike, and metric.  Some images of the first seed join the sheets.
        """
        judged, groups = self.judge.judge(z), scene.groups(self.shown(scene)[1])
        itself = torch.eye(len(self.data.combinations)) > 0  # either arm's conditions tell all
        found = find_defects(judged.combination, judged.malformed, asked, itself)._asdict()
        flags = pd.DataFrame({name: flag.numpy() for name, flag in found.items()})
        shares = flags.groupby(asked.numpy()).mean()
        named = pd.Series(groups)[shares.index]
        named = pd.concat([named, named[named.isin(["frequent", "rare"])].map(lambda _: "seen")])
        means = shares.loc[named.index].groupby(named.to_numpy()).mean()
        if scene is self.seeds[0]:
            chosen = [
                c
                for group, count in SHOWN.items()
                for c in [c for c in shares.index if groups[c] == group][:count]
            ]
            place = torch.cat([(asked == c).nonzero().flatten()[:COPIES] for c in chosen])
            told = [groups[c] for c in asked[place].tolist()]
            some = Judged(*(values[place] for values in judged))
            name = f"{arm}, s_c {s_c:g}" if arm != "real" else arm
            sheets.append(Sheet(name, z[place], asked[place], told, some))
        tidy = means.rename_axis("group").reset_index().melt("group", var_name="metric")
        run = self._run(scene, arm, s_c) | {"condition": "drawn"}
        return tidy.assign(**run)[[*run, "group", "metric", "value"]]

    @property
    def regime(self) -> str:
        """Dense where the average combination seen has ``DENSE`` images in every seed."""
        counts = [len(self.shown(scene)[0]) / len(scene.seen) for scene in self.seeds]
        return "dense" if min(counts) >= DENSE else "sparse"


def _loss(
    arm: Arm,
    rows: Tensor,
    combination: Tensor,
    network: Module,
    places: Tensor,
    generator: torch.Generator,
) -> Tensor:
    return arm.loss(network, rows[places], combination[places], generator)


def _validation_loss(arm: Arm, rows: Tensor, combination: Tensor, network: Module) -> Tensor:
    """With the same times, noise and conditions at every look."""
    return arm.loss(network, rows, combination, stream(arm.seed, "validation loss"))
