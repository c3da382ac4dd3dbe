"""A training loop by ``accelerate``: checkpoints, resumption, mixed precision, several GPUs; of the
weights those at the least validation loss.

Every step's randomness is a stream of its own, named by the step, and so are those of the parts
that it is computed in, by accumulation or on several GPUs.  So a run that was stopped goes on as if
it never had been, and four parts are the same four on one GPU or on two.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import Module
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from gmmdiff.core.checks import require
from gmmdiff.core.streams import stream
from gmmdiff.engine.runs import Progress
from gmmdiff.engine.training import looks

LOSSES = "validation"  # where a file of weights holds the validation losses
LARGEST_NORM = 1.0  # of a step's gradient; a longer one is shortened
# Of the network, for places ``(part,)`` in the training set, with the generator of all that is
# drawn: a number.
Loss = Callable[[Module, Tensor, torch.Generator], Tensor]
Validate = Callable[[Module], Tensor]  # the loss of a network on images that it never sees


@dataclass(frozen=True)
class Training:
    """How a network is trained.

    Args:
        batch: images a step, on all GPUs together, a multiple of the parts that it is computed in.
        accumulation: parts of a step, on each GPU, computed one after another.
        precision: of the network's products on a GPU: "no" (single), "bf16" or "fp16"; a CPU, where
            few have bf16 and the others imitate it slowly, computes in single precision.
        every: steps between two checkpoints.
        device: "cpu", "cuda", or "auto" (CUDA where there is one).

    Raises:
        ValueError: on CUDA, or what needs it, that is demanded and not there; on a batch that does
            not divide into its parts.
    """

    batch: int = 128
    accumulation: int = 1
    learning_rate: float = 2e-4
    ema: float = 0.999
    precision: str = "no"
    every: int = 1000
    device: str = "auto"

    def __post_init__(self) -> None:
        cuda = torch.cuda.is_available()
        allowed = "auto or cpu, without a CUDA device"
        require(cuda or self.device != "cuda", "celeba", "device", allowed, self.device)
        allowed = "no or bf16, without a CUDA device"
        cuda = cuda and self.device != "cpu"
        require(cuda or self.precision != "fp16", "celeba", "precision", allowed, self.precision)
        good = self.batch % self.accumulation == 0
        require(good, "celeba", "batch", f"a multiple of {self.accumulation} parts", self.batch)

    def accelerator(self) -> Accelerator:
        """Of this process, or of all that ``accelerate launch`` has started."""
        cuda = torch.cuda.is_available() and self.device != "cpu"
        return Accelerator(
            mixed_precision=self.precision if cuda else "no",
            gradient_accumulation_steps=self.accumulation,
            cpu=self.device == "cpu",
        )


def fit(
    network: Module,
    loss: Loss,
    count: int,
    training: Training,
    steps: int,
    seed: int,
    folder: Path,
    progress: Progress,
    validate: Validate | None = None,
) -> tuple[Module, list[float]]:
    """Trains to a number of steps, from the last checkpoint in the folder where there is one.

    Args:
        network: with its starting weights.
        count: of images in the training set, at least a batch.
        folder: of this run alone: its checkpoint, and the averaged weights that it ends with, which
            are only loaded where they are there.
        validate: looked at after the steps ``looks``; without it the last weights are kept.

    Returns:
        the network with the moving average of its weights at the least validation loss, in
        evaluation mode, on the device; and the validation losses.

    Raises:
        ValueError: on fewer images than a batch, or a batch that does not divide into its parts.
    """
    accelerator = training.accelerator()
    parts = accelerator.num_processes * training.accumulation
    good = training.batch % parts == 0
    require(good, "celeba", "batch", f"a multiple of {parts} parts", training.batch)
    require(count >= training.batch, "celeba", "training images", f">= {training.batch}", count)
    averaged = folder / "averaged.safetensors"
    finished = averaged.is_file()
    accelerator.wait_for_everyone()  # all have looked, before one of them may write it
    if not finished:
        network.train()
        optimiser = torch.optim.Adam(network.parameters(), training.learning_rate)
        average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(training.ema))
        average.to(accelerator.device)
        model, optimiser = accelerator.prepare(network, optimiser)
        best = _Best(average.module, validate)
        accelerator.register_for_checkpointing(average, best)
        first = _resume(accelerator, folder)
        todo = range(first, steps)
        if accelerator.is_main_process:
            todo = progress(todo, desc=f"training {folder.name}")
        for step in todo:
            places = torch.randint(
                count, (training.batch,), generator=stream(seed, f"batch {step}")
            ).chunk(parts)
            own = slice(accelerator.process_index, parts, accelerator.num_processes)
            for part in range(parts)[own]:
                drawn = stream(seed, f"step {step}, part {part}")
                with accelerator.accumulate(model):
                    accelerator.backward(loss(model, places[part], drawn))
                    if accelerator.sync_gradients:
                        accelerator.clip_grad_norm_(model.parameters(), LARGEST_NORM)
                    optimiser.step()
                    optimiser.zero_grad()
            average.update_parameters(accelerator.unwrap_model(model))
            if step + 1 in looks(steps):
                best.look()
            if (step + 1) % training.every == 0 or step + 1 == steps:
                _save(accelerator, folder, step + 1)
        if accelerator.is_main_process:
            folder.mkdir(parents=True, exist_ok=True)
            aside = averaged.with_suffix(".part")
            save_file(best.kept, aside, {LOSSES: json.dumps(best.losses)})
            os.replace(aside, averaged)
        network = accelerator.unwrap_model(model, keep_fp32_wrapper=False)
        accelerator.free_memory()
        accelerator.wait_for_everyone()
    network.load_state_dict(load_file(averaged))
    with safe_open(averaged, "pt") as file:
        losses = json.loads(file.metadata()[LOSSES])
    return network.to(accelerator.device).eval(), losses


class _Best:
    """An averaged network's weights at the least validation loss so far; part of a checkpoint."""

    def __init__(self, average: Module, validate: Validate | None) -> None:
        self._average, self._validate = average, validate
        self.losses: list[float] = []
        self.kept: dict[str, Tensor] = {}

    @torch.no_grad()
    def look(self) -> None:
        if self._validate is not None:
            self.losses.append(float(self._validate(self._average)))
        if not self.kept or self._validate is None or self.losses[-1] == min(self.losses):
            weights = self._average.state_dict().items()
            self.kept = {name: value.clone().contiguous() for name, value in weights}

    def state_dict(self) -> dict[str, Any]:
        return {"losses": self.losses, "kept": self.kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.losses, self.kept = state["losses"], state["kept"]


def _checkpoints(folder: Path) -> list[Path]:
    """Those in the folder, the last one last."""
    return sorted(folder.glob("step_*"), key=lambda path: int(path.name.partition("_")[2]))


def _resume(accelerator: Accelerator, folder: Path) -> int:
    """Loads the last checkpoint; its number of steps, 0 without one."""
    found = _checkpoints(folder)
    if not found:
        return 0
    accelerator.load_state(str(found[-1]))
    return int(found[-1].name.partition("_")[2])


def _save(accelerator: Accelerator, folder: Path, step: int) -> None:
    """A checkpoint, written aside and renamed, so that it is whole or not there; then the older
    ones go.
    """
    aside = folder / ".saving"
    if accelerator.is_main_process:
        shutil.rmtree(aside, ignore_errors=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(aside))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        older = _checkpoints(folder)
        os.replace(aside, folder / f"step_{step}")
        for path in older:
            shutil.rmtree(path)
    accelerator.wait_for_everyone()
