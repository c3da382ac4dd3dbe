"""Online measures against pandas on whole series, and on series with known answers."""

import numpy as np
import pandas as pd
import pytest
import torch

from gmmdiff.engine.gradient_norms import SPIKE, WINDOW, GradientNorms


def measured(series, pieces):
    watch = GradientNorms(len(series), series.shape[1])
    for piece in series.split(pieces, 1):
        watch.update(piece)
    return watch.spike_rate, watch.variation


@pytest.mark.parametrize("steps", [450, 3000])
@pytest.mark.parametrize("pieces", [1, 50, 7, 3000])
def test_measures_are_those_of_the_whole_series(steps, pieces, generator):
    series = torch.randn(3, steps, generator=generator).exp()
    settled = max(WINDOW, steps // 10)
    rate, variation = measured(series, pieces)
    for row, norms in enumerate(series.double().numpy()):
        before = (
            pd.Series(norms)
            .rolling(WINDOW)
            .quantile(0.5, interpolation="lower")
            .shift(1)
            .to_numpy()
        )
        expected = (norms > SPIKE * before)[settled:].mean()
        assert rate[row] == pytest.approx(expected) and expected > 0.02
        assert variation[row] == pytest.approx(
            norms[settled:].std() / norms[settled:].mean(), rel=1e-5
        )


def test_known_series():
    steps = 1100
    calm = torch.ones(steps)
    spiked = calm.clone()
    spiked[[50, 200, 300, 301]] = 3.5  # the first comes before the measure settles
    below = calm.clone()
    below[500:520] = 2.9
    rate, variation = measured(torch.stack([calm, spiked, below]), 50)
    assert rate.tolist() == pytest.approx([0, 3 / 990, 0])
    values = np.where(np.arange(990) < 3, 3.5, 1.0)
    assert variation.tolist() == pytest.approx(
        [
            0,
            values.std() / values.mean(),
            np.where(np.arange(990) < 20, 2.9, 1).std() / (1 + 20 * 1.9 / 990),
        ]
    )


def test_steps_that_are_not_finite_are_spikes_and_leave_the_variation_alone():
    series = torch.ones(2, 1100)
    series[0, 600:] = torch.nan
    series[1, 700] = torch.inf
    rate, variation = measured(series, 50)
    assert rate.tolist() == pytest.approx([500 / 990, 1 / 990]) and variation.tolist() == [0, 0]


def test_too_short_a_series_is_not_measured():
    rate, variation = measured(torch.ones(2, WINDOW), 50)
    assert rate.isnan().all() and variation.isnan().all()


def test_norms_of_zero_do_not_vary():
    rate, variation = measured(torch.zeros(1, 1100), 50)
    assert rate.tolist() == [0] and variation.tolist() == [0]
