"""What a notebook uses of the pipeline: where its results go, progress bars, the parallel map."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from gmmdiff.engine.threads import Workers

# What the runner sets in a kernel's environment: two paths, and a scheduler's address.
RESULTS, PROGRESS, CLUSTER = "GMMDIFF_RESULTS", "GMMDIFF_PROGRESS", "GMMDIFF_CLUSTER"
QUICK_LOOK = Path(__file__).parents[2] / "reports" / "quick_look"


def progress(iterable: Any = None, **options: Any) -> tqdm:
    """A tqdm bar on the runner's terminal, or in the notebook when it runs in JupyterLab."""
    if path := os.environ.get(PROGRESS):
        lines = open(path, "a", encoding="utf-8")  # noqa: SIM115 - tqdm keeps it
        options |= {"file": lines, "ncols": 100, "position": 1}
    return tqdm(iterable, leave=False, **options)


@cache
def workers() -> Workers:
    """The parallel map over the runner's ``cluster``, or over threads where there is none."""
    if address := os.environ.get(CLUSTER):
        from gmmdiff.pipeline.cluster import Cluster

        return Cluster(address)
    from gmmdiff.engine.threads import side_by_side

    return side_by_side


class Results:
    """The tables and figures that a notebook leaves, in the runner's folder or, in JupyterLab where
    there is none, in the folder of that name in reports/quick_look.
    """

    def __init__(self, name: str) -> None:
        self.folder = Path(os.environ.get(RESULTS) or QUICK_LOOK / name)

    def _path(self, folder: str, name: str) -> Path:
        path = self.folder / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def table(self, name: str, table: pd.DataFrame) -> pd.DataFrame:
        """Writes tables/NAME.csv (10 significant digits) and gives the table back."""
        path = self._path("tables", f"{name}.csv")
        table.to_csv(path, index=False, float_format="%.10g", lineterminator="\n")
        return table

    def figure(self, name: str, figure: Figure, description: str) -> None:
        """Writes figures/NAME.png, the description inside as its alternative text."""
        metadata = {"Description": description, "Software": None}  # equal figures are equal bytes
        figure.savefig(self._path("figures", f"{name}.png"), metadata=metadata)

    def json(self, name: str, content: Any) -> None:
        """Writes NAME.json beside the folders."""
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
        self._path(".", f"{name}.json").write_text(text + "\n", encoding="utf-8")
