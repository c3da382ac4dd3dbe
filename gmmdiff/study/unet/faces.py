"""What a model's faces show, by the world's judge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from torch import Tensor

from gmmdiff.worlds.world import World


def judged(
    images: Tensor, combination: Tensor, world: World, groups: Sequence[str], **told: Any
) -> pd.DataFrame:
    """What images ``(n, *shape)`` show that were asked for combinations ``(n,)``: one row an image.

    Columns: those of ``told``, group, combination, shown (the combination that the judge reads),
    wrong (share of the attributes that are not those asked for), malformed, p0, p1, ... (greys).

    Args:
        groups: of every combination.
        told: what else is known of all of them, e.g. the arm.
    """
    found = world.judge(images)
    wrong = found.attributes != world.combinations[combination]
    table = pd.DataFrame(told, range(len(images)))
    table["group"] = [groups[c] for c in combination.tolist()]
    table["combination"], table["shown"] = combination, found.combination
    table["wrong"], table["malformed"] = wrong.double().mean(1), found.malformed
    greys = pd.DataFrame(images.flatten(1).double().numpy().round(3)).add_prefix("p")
    return pd.concat([table, greys], axis=1)
