"""What the two denoisers draw for every combination of attributes, for a reader of the page to ask:
faces.png, all faces as tiles of one image, and faces.json, what the judge reads in each.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from gmmdiff.core.distances import pairwise_distances
from gmmdiff.core.streams import stream
from gmmdiff.engine.denoiser import load
from gmmdiff.engine.runs import SeedData
from gmmdiff.pipeline import denoisers
from gmmdiff.pipeline.errors import exit_code
from gmmdiff.pipeline.parameters import PARAMS, REPORTS
from gmmdiff.pipeline.snapshot import FACES
from gmmdiff.worlds.world import World

ARMS = ("class", "feature")
SAMPLES = 8  # of a combination, by each arm
COLUMNS = SAMPLES * len(ARMS)  # of tiles: a row a combination, training images below
GREYS = 32  # of the image: twice as many cannot be told apart, and take a fifth more bytes


def tiled(images: Tensor) -> Image.Image:
    """Images ``(n, height, width)``, greys in [0, 1], as one, ``COLUMNS`` in a row."""
    blank = images.new_zeros(-len(images) % COLUMNS, *images.shape[1:])
    rows = torch.cat([images, blank]).unflatten(0, (-1, COLUMNS))
    level = (rows.transpose(1, 2).flatten(2).flatten(0, 1).clamp(0, 1) * (GREYS - 1)).round()
    return Image.fromarray((level * (255 / (GREYS - 1))).round().byte().numpy())


def read(world: World, images: Tensor, asked: Tensor) -> list[tuple[str, bool]]:
    """What the judge finds wrong with images ``(n, *shape)``: the attributes that are not those
    ``(n, m)`` asked for, in words, and whether it is malformed.
    """
    judged, wrong = world.judge(images), []
    for shown, wanted in zip(judged.attributes.tolist(), asked.tolist(), strict=True):
        values = zip(world.values, shown, wanted, strict=False)
        wrong.append(", ".join(names[now] for names, now, was in values if now != was))
    return list(zip(wrong, judged.malformed.tolist(), strict=True))


def asked_and_drawn(params: Path, folder: Path) -> tuple[dict[str, Any], Image.Image]:
    """All that the page says of every combination, and all faces as one image.

    Both arms, read from a folder, start from the same noise.  The nearest training image, by the
    distance of greys, is sought among all of them.
    """
    rows, settings, *_ = denoisers.first_runs(params)
    seed, n_train = (int(rows[name].iloc[0]) for name in ("seed", "n_train"))
    seed_data = SeedData(seed, settings)
    world, every = seed_data.world, seed_data.world.combinations
    points, combination = seed_data.training_points(n_train)
    groups, counts = seed_data.groups(combination), combination.bincount(minlength=len(every))
    none = {"held out": "none: held out", "unseen": "none: never drawn"}

    drawn = []
    for arm in ARMS:
        denoiser, noise = load(folder / denoisers.FILE.format(arm)), stream(seed, "ask for a face")
        made = denoiser.sample(every.repeat_interleave(SAMPLES, 0), noise, settings.evaluations)
        drawn.append(made.unflatten(0, (len(every), SAMPLES)))
    faces = torch.stack(drawn, 1).flatten(0, 2)
    wrong = read(world, faces, every.repeat_interleave(COLUMNS, 0))
    nearest = pairwise_distances(faces.flatten(1), points.to(faces)).argmin(1)
    shown, number = nearest.unique(return_inverse=True)
    images = points[shown].to(faces).unflatten(1, world.shape)
    told = {
        "size": world.shape[0],
        "samples": SAMPLES,
        "n_train": n_train,
        "arms": ARMS,
        "switches": [names[1] for names in world.values[: every.shape[1]]],
        "held_out": seed_data.held_out.tolist(),
        "asked": [  # one a combination
            {"name": world.describe(c), "training": none.get(group, count)}
            for c, (group, count) in enumerate(zip(groups, counts.tolist(), strict=True))
        ],
        "faces": [  # one a tile: wrong attributes, malformed, tile of the nearest training image
            (*one, len(faces) + n) for one, n in zip(wrong, number.tolist(), strict=True)
        ],
    }
    return told, tiled(torch.cat([faces, images]))


def make(params: Path = PARAMS, reports: Path = REPORTS) -> None:
    """Writes both; the denoisers must be there."""
    told, image = asked_and_drawn(params, reports / denoisers.NAME)
    folder = reports / FACES
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "faces.json").write_text(json.dumps(told) + "\n", encoding="utf-8")
    image.save(folder / "faces.png", optimize=True)


if __name__ == "__main__":
    raise SystemExit(exit_code(make))
