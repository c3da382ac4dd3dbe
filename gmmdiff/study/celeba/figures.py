"""Photographs of the test split, and what the arms make of the same combinations."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from gmmdiff.figures import pictures
from gmmdiff.study.celeba.runs import Sheet
from gmmdiff.worlds.world import World


def sheet(sheets: Sequence[Sheet], world: World) -> Figure:
    """One row an arm, one column an image, by combination; what is wrong with an image frames it,
    as the judge says.
    """
    asked = sorted({c for one in sheets for c in one.combination.tolist()})
    most = max(int((one.combination == c).sum()) for one in sheets for c in asked)
    columns = [(c, copy) for c in asked for copy in range(most)]
    shape = len(sheets), len(columns)
    figure, axes = plt.subplots(*shape, figsize=(shape[1], 1.1 * shape[0] + 1.2), squeeze=False)
    for line, one in zip(axes, sheets, strict=True):
        pictures.called(line[0], one.arm)
        for axis, (c, copy) in zip(line, columns, strict=True):
            places = (one.combination == c).nonzero().flatten().tolist()
            if copy >= len(places):
                axis.set_axis_off()
                continue
            image = one.images[places[copy]].permute(1, 2, 0).numpy()
            shown = int(one.judged.combination[places[copy]])
            malformed = bool(one.judged.malformed[places[copy]])
            pictures.framed(axis, image, world, c, shown, malformed)
    groups = {
        c: g for one in sheets for c, g in zip(one.combination.tolist(), one.group, strict=True)
    }
    for axis, (c, copy) in zip(axes[0], columns, strict=True):
        if copy == 0:
            told = textwrap.fill(f"{groups[c]}: {world.describe(c)}", 12 * most)
            axis.set_title(told, fontsize="x-small", loc="left")
    pictures.legend_of_frames(figure)
    return figure
