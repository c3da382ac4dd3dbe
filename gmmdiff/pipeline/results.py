"""What a notebook that trains uses: where its results go, progress bars, the parallel map."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from tqdm import tqdm

if TYPE_CHECKING:  # and imported where they are used: so a kernel starts seconds sooner
    from matplotlib.figure import Figure

    from gmmdiff.engine.threads import Workers

PROGRESS, RESULTS, CLUSTER = "GMMDIFF_PROGRESS", "GMMDIFF_RESULTS", "GMMDIFF_CLUSTER"
SPENT = "spent.txt"  # beside the staged results until the runner takes it: a line a bar


class _Told(tqdm):
    """A bar that tells the runner, as it closes, what it was for and how many seconds it ran."""

    def close(self) -> None:
        if not self.disable:  # as it is once closed
            with open(Path(os.environ[RESULTS]) / SPENT, "a", encoding="utf-8") as file:
                file.write(f"{(self.desc or 'other').split()[0]} {self.format_dict['elapsed']}\n")
        super().close()


def progress(iterable: Any = None, **options: Any) -> tqdm:
    """A tqdm bar on the runner's terminal, or in place when the notebook runs in JupyterLab."""
    path = os.environ.get(PROGRESS)
    if path:
        lines = open(path, "a", encoding="utf-8")  # noqa: SIM115 - tqdm keeps it
        options |= {"file": lines, "ncols": 100, "position": 1}
    return (_Told if path else tqdm)(iterable, leave=False, **options)


@cache
def workers() -> Workers:
    """The parallel map over the runner's ``cluster``; over threads where there is none, and in
    JupyterLab.
    """
    if address := os.environ.get(CLUSTER):
        from gmmdiff.pipeline.cluster import Cluster

        return Cluster(address)
    from gmmdiff.engine.threads import side_by_side

    return side_by_side


class Results:
    """Where a notebook leaves its tables and figures.

    The runner says where; in JupyterLab it is reports/quick_look/NAME.
    """

    def __init__(self, name: str) -> None:
        self.folder = Path(os.environ.get(RESULTS) or Path("../reports/quick_look") / name)

    def _path(self, kind: str, name: str) -> Path:
        path = self.folder / kind / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def table(self, name: str, table: pd.DataFrame) -> pd.DataFrame:
        """Writes tables/NAME.csv (10 significant digits) and gives the table back."""
        table.to_csv(
            self._path("tables", f"{name}.csv"),
            index=False,
            float_format="%.10g",
            lineterminator="\n",
        )
        return table

    def figure(self, name: str, figure: Figure, description: str) -> None:
        """Writes figures/NAME.png, the description inside as its alternative text."""
        told = {"Description": description, "Software": None}  # equal figures are equal bytes
        figure.savefig(self._path("figures", f"{name}.png"), metadata=told)

    def json(self, name: str, content: Any) -> None:
        """Writes NAME.json beside the folders."""
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
        self._path(".", f"{name}.json").write_text(text + "\n", encoding="utf-8")
