"""Denoisers to load: modules like any other, which come back from a file as they were."""

import sys
from functools import partial

import pytest
import torch
from safetensors.torch import save_file

from gmmdiff.core.conditioning import GaussianMixtureConditioning
from gmmdiff.core.streams import stream
from gmmdiff.engine.denoiser import Denoiser, Settings, load, save
from tests.paths import PUBLISHED, ROOT

WANTED = [[1, 0, 1, 0], [0, 1, 1, 0], [1, 1, 0, 0]]


@pytest.fixture
def denoiser(generator):
    made = Denoiser(Settings(4, 16, seed=3, condition=8, width=8, hidden=1))
    made.conditioning = GaussianMixtureConditioning(torch.randn(16, 8, generator=generator), 0.1)
    return made


def test_a_file_gives_back_what_was_saved(denoiser, tmp_path):
    exactly = partial(torch.testing.assert_close, rtol=0, atol=0)
    for name in ("one", "two"):
        save(denoiser, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    again = load(tmp_path / "one")
    assert not again.training and again.settings == denoiser.settings
    exactly(again.state_dict(), denoiser.state_dict())
    exactly(*(one.sample(WANTED, stream(0, "noise")) for one in (denoiser, again)))
    exactly(again.world.frequencies, denoiser.world.frequencies)


def test_published_ones_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = PUBLISHED / "denoisers" / "faces-class.safetensors"
    for path in ("faces-class", file.relative_to(ROOT), str(file)):
        assert load(path).settings == load(file).settings
    for path in ("faces", tmp_path / "faces-class"):
        with pytest.raises(FileNotFoundError, match=r"no file .*; published here: faces-class, "):
            load(path)


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ImportError, match=r"^load: needs .* pip install gmmdiff\[models\]$"):
        load("faces-class")


def test_it_is_a_module_like_any_other(denoiser):
    x_t = torch.randn(3, 16, 16, generator=stream(0, "x"), requires_grad=True)
    condition = denoiser.condition(WANTED)
    many = denoiser(x_t, torch.tensor([0.2, 0.5, 0.9]), condition)
    many.sum().backward()
    assert x_t.grad.abs().sum() > 0 and denoiser.network[0].weight.grad is not None
    one = denoiser(x_t[1:2], 0.5, condition[1:2])
    torch.testing.assert_close(one, many[1:2], rtol=1e-4, atol=1e-5)
    assert set(dict(denoiser.named_buffers())) >= {"conditioning.means"}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_it_samples_in_its_own_precision(dtype):
    """To the precision of the type the published one's faces stay what they are."""
    wanted, exact, other = [[1, 0, 1, 0, 0, 1]] * 4, load("faces-feature"), load("faces-feature")
    other = other.to(dtype)
    assert other(torch.zeros(4, 16, 16, dtype=dtype), 0.5, other.condition(wanted)).dtype == dtype
    images, expected = (one.sample(wanted, stream(0, "faces")) for one in (other, exact))
    assert images.dtype == dtype
    assert (images.float() - expected).square().mean().sqrt() < 0.1  # greys


def test_a_file_that_is_none_of_ours_is_refused(tmp_path):
    (tmp_path / "text").write_text("no tensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "others")
    for name in ("text", "others"):
        with pytest.raises(ValueError, match=r"^load: path must be a safetensors file that gmm"):
            load(tmp_path / name)
