"""What the measurements say, beside what was asked for before them."""

from __future__ import annotations

import math
from functools import partial

import pandas as pd

from gmmdiff.core.statistics import paired
from gmmdiff.core.streams import numpy_stream
from gmmdiff.judging.claims import sentence
from gmmdiff.study.speed.sampling import MOMENTS
from gmmdiff.study.speed.stages import pipeline_share

tell = partial(sentence, "speed")
TARGETS = {  # what was asked for before anything was measured
    "training": 0.75,  # of the products' rate, on the CPU
    "loop": 8,  # times the loop's speed, at the small shape with 64 rows
    "cuda": 50,  # times the loop's speed on the same GPU, with 1024 rows
    "evaluations": 20,  # of DPM-Solver++(2M), as good as ancestral sampling
    "inside": 0.9,  # of a training stage's time, training or sampling
}
JUDGED_ROWS = {"loop": 64, "cuda": 1024}


def training_finding(ratio: pd.DataFrame) -> str:
    """What the engine's share of the products' rate says."""
    cpu, target = ratio.loc[ratio["device"] == "cpu", "median"], TARGETS["training"]
    met, shapes = (cpu >= target).sum(), list(ratio.itertuples())
    return tell("training", shapes=shapes, target=target, met=met, cpu=len(cpu))


def threads_finding(speedups: pd.DataFrame) -> str:
    """How many times as fast as on one thread training is on several."""
    return tell("threads", several=list(speedups[speedups["threads"] != "1"].itertuples()))


def growth_finding(ratio: pd.DataFrame, target: str) -> str:
    """What the engine's speed against the loops and torch.func says.

    Args:
        target: "loop" or "cuda", for the small shape.
    """
    rivals = ratio[ratio["rival"] != "engine"].groupby(["shape", "rival"], sort=False)
    told = [
        (*key, table.loc[table["median"] < 1, "rows"].tolist(), table.loc[table["median"].idxmax()])
        for key, table in rivals
    ]
    rows = JUDGED_ROWS[target]
    loop = ratio[(ratio["shape"] == "small") & (ratio["rival"] == "loop") & (ratio["rows"] == rows)]
    judged = list(loop.itertuples())[:1]
    return tell("growth", rivals=told, target=TARGETS[target], rows=rows, judged=judged)


def sampling_finding(errors: pd.DataFrame) -> str:
    """Whether few evaluations are as good as ancestral sampling with many, paired by seed."""
    most = TARGETS["evaluations"]
    own = errors[errors["side"] == "ours, own times"]
    mine = own.set_index(["sampler", "evaluations", "seed"])["error"].sort_index()
    full = mine["ancestral", MOMENTS]
    counts = sorted({n for name, n, _ in mine.index if name == "DPM-Solver++(2M)" and n <= most})
    if not counts:
        return tell("not_sampled", most=most)
    few = mine["DPM-Solver++(2M)", counts[-1]].loc[full.index]
    found = paired(few.to_numpy(), full.to_numpy(), numpy_stream(0, "performance"))
    real = errors.loc[errors["sampler"] == "real", "error"].mean()
    steps = {"few": counts[-1], "many": MOMENTS}
    return tell("sampling", found=found, seeds=len(full), full=full.mean(), real=real, **steps)


def evaluation_finding(ratio: pd.DataFrame) -> str:
    """Whether our samplers take longer an evaluation than those of diffusers."""
    return tell("evaluation", ratios=list(ratio.itertuples()), met=(ratio["median"] <= 1).sum())


def stages_finding(stages: pd.DataFrame) -> str:
    """The training stages' share inside training and sampling, the pipeline's outside notebooks."""
    trained = stages[stages["training"] > 0]
    inside = math.nan
    if len(trained):
        spent = (trained["outside"] * trained["seconds"]).sum()
        inside = 1 - spent / trained["seconds"].sum()
    return tell(
        "stages",
        inside=None if math.isnan(inside) else inside,
        target=TARGETS["inside"],
        share=None if math.isnan(share := pipeline_share(stages)) else share,
        missing=int(stages["outside"].isna().sum()),
        records=len(stages),
    )
