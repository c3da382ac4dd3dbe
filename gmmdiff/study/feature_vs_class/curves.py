"""Training curves as their figure draws them."""

from __future__ import annotations

import pandas as pd


def training_curves(losses: pd.DataFrame) -> pd.DataFrame:
    """Median losses of the mixture arms at the largest training set: one row an arm and step."""
    largest = losses[losses["n_train"] == losses["n_train"].max()]
    mixture = largest[largest["s_c"] == largest["s_c"].max()]
    columns = ["granularity", "n_train", "step"]
    return mixture.groupby(columns, sort=False, as_index=False)["loss"].median()
