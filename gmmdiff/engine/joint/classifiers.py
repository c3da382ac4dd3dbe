"""Ensembles of classifiers trained with any cost, alone or with the denoiser.

A run's cost, its factor lambda, whether its signal is matched, and the noise of its labels stand in
its row; rows with different costs train in one batched ensemble.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import pandas as pd
import torch
from torch import Tensor

from gmmdiff.core.costs import COSTS
from gmmdiff.core.streams import stream
from gmmdiff.engine.joint.batched_costs import Costs, matched
from gmmdiff.engine.networks import gather_rows, layer_sizes
from gmmdiff.engine.runs import COLUMNS, Batches, Run
from gmmdiff.engine.training import Ensemble

SIGNALS = ("raw", "matched")
MATCHED = 50  # batches on which a signal is matched


def attributes(run: Run, batches: Batches) -> Tensor:
    """The true labels of points: ``(batches, batch, m)`` in {0, 1}."""
    return run.seed_data.world.combinations[batches.combination].float()


def noisy_labels(run: Run) -> Tensor:
    """Labels ``(n_train, m)`` of the training points, some of them flipped once and for all."""
    labels = run.seed_data.world.combinations[run.data[1]]
    uniform = torch.rand(labels.shape, generator=stream(run.row.seed, "label noise"))
    return (labels ^ (uniform < run.row.label_noise)).float()


def _matching_batches(run: Run) -> Batches:
    streams = (stream(run.row.seed, name) for name in ("matching", "matching condition"))
    return run.draw(*run.data[:2], (MATCHED, run.settings.batch), *streams)


class ClassifierEnsemble(Ensemble):
    """Experiment A: classifiers of noisy points x_t, trained on cost(classifier(x_t, t), labels)
    alone.
    """

    columns = (*COLUMNS, "cost", "signal", "lam", "label_noise")
    validated = False  # it has no v-loss

    def __init__(self, runs: Sequence[Run], device: str) -> None:
        super().__init__(runs, device)
        self._noisy_labels = {run: noisy_labels(run) for run in runs}

    @staticmethod
    def levels(table: pd.DataFrame) -> list[tuple[str, pd.Series, str]]:
        return [
            *Ensemble.levels(table),
            ("cost", table["cost"].isin(COSTS), f"one of {', '.join(COSTS)}"),
            ("signal", table["signal"].isin(SIGNALS), f"one of {', '.join(SIGNALS)}"),
            ("lam", table["lam"] >= 0, ">= 0"),
            ("label_noise", table["label_noise"].between(0, 0.5), "in [0, 0.5]"),
        ]

    @staticmethod
    def shapes(run: Run) -> dict[str, Sequence[int]]:
        settings, m = run.settings, run.seed_data.world.combinations.shape[1]
        sizes = layer_sizes(run.dimension, settings.classifier_width, settings.hidden, m)
        return {"classifier weights": sizes}

    @cached_property
    def costs(self) -> Costs:
        """The rows' costs times lambda; those that are matched, at the starting weights."""
        names, start = [run.row.cost for run in self.runs], type(self)(self.runs, self.device)
        start.prepare(self.shared(_matching_batches))
        logits = torch.cat([start.logits(number).clone() for number in range(MATCHED)], 1).cpu()
        factors = matched(names, logits, torch.cat(start.labels, 1).cpu()).factors
        raw = torch.tensor([run.row.signal == "raw" for run in self.runs])
        lam = torch.tensor([float(run.row.lam) for run in self.runs])
        return Costs(names, lam * factors.float().masked_fill(raw, 1))

    def take(self, batches: Sequence[Batches]) -> None:
        """Takes in the inputs of batches, of whatever points."""
        self.noisy = self.stack(lambda _, own: [own.noisy], batches).unbind()

    def prepare(self, batches: Sequence[Batches]) -> None:
        self.take(batches)
        self.labels = self.stack(
            lambda run, own: [gather_rows(self._noisy_labels[run], own.index)], batches
        ).unbind()

    def logits(self, number: int) -> Tensor:
        """On batch ``number``: ``(runs, batch, m)``, valid until the next call."""
        return self.networks[0].forward(self.noisy[number])

    def signal(self, number: int) -> Tensor:
        """The costs' mean, lambda and matching included, derived in ``logits``."""
        logits, labels = self.logits(number).mT, self.labels[number].mT  # as they lie in memory
        return self.costs.gradient(logits, labels, trusted=True).mT / logits[0].numel()

    def step(self, number: int) -> None:
        """Fills ``gradient``, of the cost on batch ``number``, lambda and matching included."""
        self.networks[0].backward(self.signal(number))


class JointEnsemble(ClassifierEnsemble):
    """Experiment B: v-loss + lambda * cost(classifier(x_0, t), labels), x_0 being the denoiser's
    prediction.

    The classifier learns from the cost, the denoiser from both: the cost's signal flows through the
    classifier into its output.  The gradient watched and the validation loss are the denoiser's.
    """

    validated = True

    @staticmethod
    def shapes(run: Run) -> dict[str, Sequence[int]]:
        return Ensemble.shapes(run) | ClassifierEnsemble.shapes(run)

    def take(self, batches: Sequence[Batches]) -> None:
        Ensemble.prepare(self, batches)
        super().take(batches)
        dimension = self.targets[0].shape[-1]
        # Where x_t stands until x_0 is predicted.
        self.x_0 = [noisy[..., :dimension] for noisy in self.noisy]

    def logits(self, number: int) -> Tensor:
        denoiser, classifier = self.networks
        self.predicted = denoiser.forward(self.inputs[number])
        self.x_0[number].copy_(self.predicted)
        return classifier.forward(self.noisy[number])

    def step(self, number: int) -> None:
        """Fills ``gradient``, of both on batch ``number``."""
        denoiser, classifier = self.networks
        signal = self.signal(number)
        difference = self.predicted - self.targets[number]
        to_x_0 = classifier.backward(signal, to_input=True)[..., : difference.shape[-1]]
        weighted = difference * self.weights[number]
        denoiser.backward(torch.add(to_x_0, weighted, alpha=2 / difference[0].numel()))
