"""Spikes and variation against pandas, and on series with known answers."""

import numpy as np
import pandas as pd
import pytest
import torch

from gmmdiff.engine.gradient_norms import SPIKE, WINDOW, spike_rate, variation


@pytest.mark.parametrize("steps", [450, 3000])
def test_measures_are_those_of_pandas(steps, generator):
    series = torch.randn(3, steps, generator=generator).exp()
    settled = max(WINDOW, steps // 10)
    rates, variations = spike_rate(series), variation(series)
    for row, norms in enumerate(series.double().numpy()):
        rolling = pd.Series(norms).rolling(WINDOW)
        before = rolling.quantile(0.5, interpolation="lower").shift(1).to_numpy()
        expected = (norms > SPIKE * before)[settled:].mean()
        assert rates[row] == pytest.approx(expected) and expected > 0.02
        expected = norms[settled:].std() / norms[settled:].mean()
        assert variations[row] == pytest.approx(expected, rel=1e-5)


def test_known_series():
    calm = torch.ones(1100)
    spiked, below = calm.clone(), calm.clone()
    spiked[[50, 200, 300, 301]] = 3.5  # the first comes before the measure settles
    below[500:520] = 2.9
    series = torch.stack([calm, spiked, below])
    assert spike_rate(series).tolist() == pytest.approx([0, 3 / 990, 0])
    expected = [np.std(row[110:]) / np.mean(row[110:]) for row in series.double().numpy()]
    assert variation(series).tolist() == pytest.approx(expected) and expected[1] > 0


def test_steps_that_are_not_finite_are_spikes_and_leave_the_variation_alone():
    series = torch.ones(2, 1100)
    series[0, 600:] = torch.nan
    series[1, 700] = torch.inf
    assert spike_rate(series).tolist() == pytest.approx([500 / 990, 1 / 990])
    assert variation(series).tolist() == [0, 0]


@pytest.mark.parametrize("steps", [1, WINDOW])
def test_too_short_a_series_is_not_measured(steps):
    series = torch.ones(2, steps)
    assert spike_rate(series).isnan().all() and variation(series).isnan().all()


def test_norms_of_zero_do_not_vary():
    series = torch.zeros(1, 1100)
    assert spike_rate(series).tolist() == [0] and variation(series).tolist() == [0]
