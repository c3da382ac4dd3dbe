"""Classifiers trained with any cost, alone or with the denoiser: ensembles for the engine of
``gmmdiff.engine.training``.

A run's cost, its factor lambda, whether its signal is matched, and the noise of its labels stand in
its row; rows with different costs train in one batched ensemble.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import pandas as pd
import torch
from torch import Tensor

from gmmdiff.core.checks import require
from gmmdiff.core.streams import stream
from gmmdiff.engine.joint.batched_costs import Costs, matched
from gmmdiff.engine.networks import classifier_sizes, gather_rows
from gmmdiff.engine.runs import COLUMNS, Batches, Run, TrainingSettings
from gmmdiff.engine.training import Ensemble

FACTORS = ("cost", "signal", "lam", "label_noise")
SIGNALS = ("raw", "matched")
MATCHED = 50  # batches on which a signal is matched


def attributes(run: Run, batches: Batches) -> Tensor:
    """The true labels of drawn points: ``(batches, batch, m)`` in {0, 1}."""
    return run.seed_data.world.combinations[batches.combination].float()


def noisy_labels(run: Run) -> Tensor:
    """The labels ``(n_train, m)`` of a run's training points, each flipped once and for all with
    its probability.
    """
    labels = run.seed_data.world.combinations[run.data[1]]
    flip = (
        torch.rand(labels.shape, generator=stream(run.row.seed, "label noise"))
        < run.row.label_noise
    )
    return (labels ^ flip).float()


def matching_batches(run: Run) -> Batches:
    """The batches on which a run's signal is measured where it is matched."""
    streams = (stream(run.row.seed, name) for name in ("matching", "matching condition"))
    return run.draw(*run.data[:2], (MATCHED, run.settings.batch), *streams)


class ClassifierEnsemble(Ensemble):
    """Experiment A: classifiers of noisy points x_t, trained on cost(classifier(x_t, t), labels)
    alone.
    """

    columns = (*COLUMNS, *FACTORS)
    validated = False  # it has no v-loss

    def __init__(self, runs: Sequence[Run], device: str) -> None:
        super().__init__(runs, device)
        self._noisy = {run: noisy_labels(run) for run in runs}

    @classmethod
    def check(cls, table: pd.DataFrame, settings: TrainingSettings) -> None:
        """As ``Ensemble.check``; also refuses an unknown cost or signal, lam < 0, and label noise
        outside [0, 0.5].
        """
        super().check(table, settings)
        owner, noise = "run table", table["label_noise"]
        Costs(list(table["cost"].unique()))
        for signal in table["signal"].unique():
            require(
                signal in SIGNALS, owner, "signal", f"one of {', '.join(SIGNALS)}", repr(signal)
            )
        require(bool((table["lam"] >= 0).all()), owner, "lam", ">= 0", table["lam"].min())
        require(
            bool(noise.between(0, 0.5).all()),
            owner,
            "label_noise",
            "in [0, 0.5]",
            noise.unique().tolist(),
        )

    @staticmethod
    def shapes(run: Run) -> dict[str, Sequence[int]]:
        m = run.seed_data.world.combinations.shape[1]
        return {
            "classifier weights": classifier_sizes(
                run.dimension, m, run.settings.width, run.settings.hidden
            )
        }

    @cached_property
    def costs(self) -> Costs:
        """The rows' costs times lambda, matched where the row says so, at the starting weights on
        batches of their own.
        """
        names, start = [run.row.cost for run in self.runs], type(self)(self.runs, self.device)
        start.prepare(self.shared(matching_batches))
        logits = torch.cat([start.logits(number).clone() for number in range(MATCHED)], 1).cpu()
        factors = matched(names, logits, torch.cat(start.labels, 1).cpu()).factors
        raw = torch.tensor([run.row.signal == "raw" for run in self.runs])
        lam = torch.tensor([float(run.row.lam) for run in self.runs])
        return Costs(names, lam * factors.float().masked_fill(raw, 1))

    def take(self, drawn: Sequence[Batches]) -> None:
        """Takes in the inputs of batches, of whatever points."""
        self.seen = self.stack(lambda _, batches: [batches.seen], drawn).unbind()

    def prepare(self, drawn: Sequence[Batches]) -> None:
        self.take(drawn)
        self.labels = self.stack(
            lambda run, batches: [gather_rows(self._noisy[run], batches.index)], drawn
        ).unbind()

    def logits(self, number: int) -> Tensor:
        """What the classifiers say of batch ``number``: ``(runs, batch, m)``, valid until the next
        call.
        """
        return self.networks[0].forward(self.seen[number])

    def step(self, number: int) -> Tensor:
        """Fills ``gradient`` on batch ``number``; the cost, lambda and matching included:
        ``(runs,)``.
        """
        logits, labels = self.logits(number).mT, self.labels[number].mT  # as they lie in memory
        loss = self.costs.value(logits, labels, trusted=True).mean((1, 2))
        self.networks[0].backward(
            self.costs.gradient(logits, labels, trusted=True).mT / logits[0].numel()
        )
        return loss


class JointEnsemble(ClassifierEnsemble):
    """Experiment B: v-loss + lambda * cost(classifier(x_0, t), labels), x_0 being the denoiser's
    prediction.

    The classifier learns from the cost, the denoiser from both: the cost's signal flows through the
    classifier into its output.  The gradient watched, the loss told and the validation loss are the
    denoiser's.
    """

    validated = True

    @staticmethod
    def shapes(run: Run) -> dict[str, Sequence[int]]:
        return Ensemble.shapes(run) | ClassifierEnsemble.shapes(run)

    def take(self, drawn: Sequence[Batches]) -> None:
        Ensemble.prepare(self, drawn)
        super().take(drawn)
        dimension = self.targets[0].shape[-1]
        # Where x_t stands until x_0 is predicted.
        self.x_0 = [seen[..., :dimension] for seen in self.seen]

    def logits(self, number: int) -> Tensor:
        denoiser, classifier = self.networks
        self.predicted = denoiser.forward(self.inputs[number])
        self.x_0[number].copy_(self.predicted)
        return classifier.forward(self.seen[number])

    def step(self, number: int) -> Tensor:
        """Fills ``gradient`` on batch ``number``; the v-loss ``(runs,)``."""
        denoiser, classifier = self.networks
        logits, labels = self.logits(number).mT, self.labels[number].mT
        difference = self.predicted - self.targets[number]
        gradient = self.costs.gradient(logits, labels, trusted=True)
        to_x_0 = classifier.backward(gradient.mT / logits[0].numel(), to_input=True)[
            ..., : difference.shape[-1]
        ]
        weighted = difference * self.weights[number]
        denoiser.backward(torch.add(to_x_0, weighted, alpha=2 / difference[0].numel()))
        return (weighted * difference).mean((1, 2))
