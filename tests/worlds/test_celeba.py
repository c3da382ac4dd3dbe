"""CelebA's folder as it is distributed: every layout, the crop, the attributes, bad input."""

import copy
import errno
import os
import pickle
import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from gmmdiff.core.streams import stream
from gmmdiff.worlds.celeba import SPLITS, CelebA
from tests.celeba_folder import ATTRIBUTES, COLOURS, write

ELEVENTH = "img_align_celeba/000011.jpg"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("celeba")
    write(path, 120)
    return path


@pytest.fixture
def fresh(folder, tmp_path):
    """A copy to spoil, with a cache of its own."""
    shutil.copytree(folder, tmp_path / "data", ignore=shutil.ignore_patterns("cache"))
    return tmp_path / "data"


def world(folder, **options):
    return CelebA(folder, options.pop("attributes", ATTRIBUTES), 16, **options)


def refused(folder, message, **options):
    with pytest.raises(ValueError, match=f"^CelebA: .*{message}"):
        world(folder, **options)


def raises(error):
    """A function that raises an error whatever it is given."""

    def function(*arguments, **options):
        raise error

    return function


@pytest.mark.parametrize("ext", ["txt", "csv"])
@pytest.mark.parametrize("by_a_spreadsheet", [False, True])
def test_every_layout_gives_the_same_world(folder, tmp_path, ext, by_a_spreadsheet):
    """Spreadsheets write a byte order mark, Windows' ends of lines; in .csv also quoted cells, and
    lines of commas.
    """
    write(tmp_path, 120, ext, nested=ext == "csv")
    for path in tmp_path.glob(f"*.{ext}") if by_a_spreadsheet else ():
        text = path.read_text()
        if ext == "csv":
            rows = [line.split(",") for line in text.splitlines()]
            lines = [", ".join(f'"{cell}"' for cell in row) for row in rows]
            text = "\n".join([*lines, "," * (len(rows[0]) - 1), ""])
        path.write_text(text, encoding="utf-8-sig", newline="\r\n")
    one, other = world(folder), world(tmp_path)
    assert np.array_equal(one.images, other.images) and one.digest == other.digest
    assert torch.equal(one.combinations, other.combinations)
    assert all(all(map(torch.equal, one.part(split), other.part(split))) for split in SPLITS)


def test_images_show_their_attributes_in_their_own_split(folder, tmp_path):
    shown, split = write(tmp_path, 120)  # the same ones as the folder's: one seed
    data, names, parts = world(folder), sorted(shown), {}
    for name, number in zip(SPLITS, (0, 1, 1, 2), strict=True):
        parts[name], combination = data.part(name)
        assert {split[names[row]] for row in parts[name]} == {number}
        wanted = [shown[names[row]] for row in parts[name]]
        assert data.combinations[combination].tolist() == [list(pair) for pair in wanted]
        upper = data.load(parts[name])[:, :, :6].mean((2, 3))
        nearest = torch.cdist(upper, torch.tensor(list(COLOURS.values())) / 255.0).argmin(1)
        assert nearest.tolist() == [pair[0] for pair in wanted]
    assert torch.cat(list(parts.values())).unique().tolist() == list(range(120))
    assert sum(map(len, parts.values())) == 120 and len(parts["validation"]) < len(parts["judge"])
    train = [shown[name] for name in names if split[name] == 0]
    counts = [train.count(tuple(pair)) for pair in data.combinations.tolist()]
    assert (data.frequencies * len(train)).tolist() == pytest.approx(counts)
    assert data.shape == (3, 16, 16) and data.describe(3) == "Eyeglasses, Smiling"
    assert data.describe(0) == "not Eyeglasses, not Smiling"


def test_the_square_in_the_middle_is_kept(fresh):
    """A photograph 36 wide and 44 high loses 4 rows above and 4 below, which are green here; a
    pixel is the mean of every four by four.
    """
    path = fresh / "img_align_celeba/000001.jpg"
    pixels = np.asarray(Image.open(path)).copy()
    pixels[:4] = pixels[40:] = (0, 255, 0)
    Image.fromarray(pixels).save(path, "PNG")
    means = pixels[4:40].reshape(9, 4, 9, 4, 3).mean((1, 3)).transpose(2, 0, 1) / 255
    kept = CelebA(fresh, ATTRIBUTES, 9).load([0])
    assert kept.shape == (1, 3, 9, 9) and np.abs(kept[0].numpy() - means).max() < 0.01


def test_samples_are_images_of_what_is_asked_for(folder):
    data, wanted = world(folder), torch.tensor([0, 1, 2, 3] * 10)
    drawn = data.sample(wanted, stream(0, "draw"), "test")
    rows, combination = data.part("test")
    real = data.load(rows)
    for image, c in zip(drawn, wanted, strict=True):
        same = (real == image).flatten(1).all(1)
        assert same.any() and (combination[same] == c).all()
    assert len(drawn[wanted == 1].unique(dim=0)) > 2  # not one image over and over
    images, attributes = data.dataset(7, stream(0, "set")).tensors
    assert images.shape == (7, 3, 16, 16) and attributes.shape == (7, 2)
    with pytest.raises(ValueError, match="split must be one of train, validation, judge, test, "):
        data.sample(wanted, stream(0, "draw"), "floor")


def test_photographs_are_read_once(fresh, monkeypatch):
    before = world(fresh)
    monkeypatch.setattr("gmmdiff.worlds.celeba._read", None)
    again = world(f"{fresh}/", attributes=ATTRIBUTES[:1])
    assert isinstance(again.images, np.memmap) and np.array_equal(before.images, again.images)
    assert len(list((fresh / "cache").iterdir())) == 2  # the array, and what it leaves out


@pytest.mark.parametrize("same", ["size", "modification time"])
def test_photographs_that_changed_are_read_again(fresh, same):
    path = fresh / ELEVENTH
    Image.new("RGB", (36, 44), (255, 0, 0)).save(path, "BMP")
    before, was = world(fresh), path.stat()
    Image.new("RGB", (36, 44), (0, 0, 255)).save(path, "BMP" if same == "size" else "PNG")
    moment = was.st_mtime_ns + (same == "size")  # on a disk with clocks of any grain
    os.utime(path, ns=(moment, moment))
    assert (path.stat().st_size == was.st_size) == (same == "size")
    again = world(fresh)
    assert again.images[10].mean((1, 2)).tolist() == [0, 0, 255]
    assert again.digest != before.digest


SPOILT = {  # file, what is replaced in it by what (None: it is deleted), what is told
    "no attributes": ("list_attr_celeba.txt", None, "", "one that holds list_attr_celeba.txt"),
    "no splits": ("list_eval_partition.txt", None, "", "one that holds list_eval_partition.txt"),
    "no folder": ("img_align_celeba", None, "", "folder must be one that holds img_align_celeba"),
    "no image": (ELEVENTH, None, "", "with every image of the lists, got no 000011.jpg$"),
    "few": ("list_attr_celeba.txt", "003.jpg  -1", "003.jpg", "name and 4 times 1 or -1 a line"),
    "a 7": ("list_attr_celeba.txt", "3.jpg  -1  ", "3.jpg  -1  7", "a line, got not for 000003.j"),
    "a split": ("list_eval_partition.txt", "003.jpg ", "003.jpg 7", "0, 1 or 2 for every image, g"),
    "a name": ("list_eval_partition.txt", "000003.jpg", "03.jpg", "got none for 000003.jpg"),
}


@pytest.mark.parametrize(("name", "old", "new", "message"), SPOILT.values(), ids=SPOILT)
def test_what_is_missing_or_does_not_fit_is_named(fresh, name, old, new, message):
    path = fresh / name
    if old is None:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    else:
        path.write_text(path.read_text().replace(old, new))
    refused(fresh, message)


def test_an_unknown_attribute_is_named(folder):
    message = "attributes must be among Young, Eyeglasses, Smiling, Male, got 'Smirking'$"
    refused(folder, message, attributes=["Smirking"])
    refused(folder, "attributes must be distinct names, at least one", attributes=["Male", "Male"])


def test_cells_that_no_comma_divides_are_shown_as_they_are(tmp_path):
    write(tmp_path, 120, "csv")
    path = tmp_path / "list_attr_celeba.csv"
    path.write_text(path.read_text().replace(",", ";"))
    refused(tmp_path, "must be a name and what is known of it, .* got .'image_id;Young;Eyeglasses;")


@pytest.mark.parametrize("keep", [0.5, 0.0])
def test_a_corrupt_image_is_named_and_left_out_on_demand_until_it_is_mended(fresh, keep):
    path = fresh / ELEVENTH
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))] or b"no image")
    for _ in range(2):  # from the cache, too
        refused(fresh, "as cached in .*data/cache, must be .* by skip_corrupt, got 000011.jpg$")
    left = world(fresh, skip_corrupt=True)
    rows = torch.cat([left.part(split)[0] for split in SPLITS])
    assert len(rows) == 119 and 10 not in rows
    shutil.copy(path.with_name("000012.jpg"), path)
    for skip_corrupt in (False, True):
        mended = world(fresh, skip_corrupt=skip_corrupt)
        assert np.array_equal(mended.images[10], mended.images[11])
        assert sum(len(mended.part(split)[0]) for split in SPLITS) == 120


DENIED = PermissionError(errno.EACCES, "Permission denied")
READ_ONLY = OSError(errno.EROFS, "Read-only file system")
STOPS = {  # what a function raises, and what is told
    "an image": ("PIL.Image.open", DENIED, r"img_align_celeba must .* 000001.jpg \(Permission de"),
    "the cache": ("pathlib.Path.mkdir", READ_ONLY, r"cache must be .*data/cache \(Read-only file"),
}


@pytest.mark.parametrize(("function", "error", "message"), STOPS.values(), ids=STOPS)
def test_what_the_system_refuses_is_named_and_not_remembered(
    fresh, tmp_path, monkeypatch, function, error, message
):
    """Nor is the image corrupt: what the system refuses may pass with no byte changed."""
    with monkeypatch.context() as patched:
        patched.setattr(function, raises(error))
        refused(fresh, message, skip_corrupt=True)
    again = world(fresh, cache=tmp_path / "elsewhere")
    assert sum(len(again.part(split)[0]) for split in SPLITS) == 120
    assert again.cache == tmp_path / "elsewhere" and not list(fresh.glob("cache/*.npy"))


def test_an_interrupted_cache_is_made_anew(fresh, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("os.replace", raises(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            world(fresh)
    assert len(world(fresh).images) == 120


def test_a_full_disk_is_told_before_it_is(fresh, monkeypatch):
    usage = shutil.disk_usage(fresh)._replace(free=1000)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    refused(fresh, "cache must be a folder with 92160 bytes free, got 1000")


@pytest.mark.parametrize(("library", "name"), [("PIL", "Pillow"), ("pandas", "pandas")])
def test_a_library_is_asked_for_where_it_is_missing(fresh, monkeypatch, library, name):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ModuleNotFoundError, match=rf"^CelebA: {name} reads the .*s; install"):
        world(fresh)


def test_the_digest_is_of_images_attributes_and_splits_wherever_they_lie(fresh, tmp_path):
    first, moved = world(fresh).digest, tmp_path / "moved"
    shutil.copytree(fresh, moved, copy_function=shutil.copyfile)  # times are new
    assert world(moved).digest == world(moved, skip_corrupt=True).digest == first
    for name, old, new in (
        ("list_attr_celeba", "000003.jpg  -1  -1", "000003.jpg  -1  1"),
        ("list_eval_partition", "000001.jpg 0", "000001.jpg 2"),
    ):
        path = moved / f"{name}.txt"
        text = path.read_text()
        path.write_text(text.replace(old, new))
        assert path.read_text() != text and world(moved).digest != first
        path.write_text(text)


def test_it_is_pickled_with_a_path_and_opens_the_array_again(folder, monkeypatch, tmp_path):
    data = world(folder)
    pickled = pickle.dumps(data)
    assert len(pickled) < data.images.nbytes / 4
    monkeypatch.chdir(tmp_path)
    for other in (pickle.loads(pickled), copy.deepcopy(data)):
        assert isinstance(other.images, np.memmap) and not other.images.flags.writeable
        assert np.array_equal(other.images, data.images)
        assert all(map(torch.equal, other.part("test"), data.part("test")))


def test_rows_are_any_array_of_whole_numbers(folder):
    data = world(folder)
    wanted = torch.tensor(np.array(data.images[[3, 1]])) / 255
    for rows in ([3, 1], (3, 1), np.array([3, 1]), torch.tensor([3, 1]), torch.tensor([3.0, 1.0])):
        assert torch.equal(data.load(rows), wanted)
    assert data.load([]).shape == (0, 3, 16, 16)
    for rows in ([120], [-1], 3, ["a"], torch.ones(120) > 0):
        with pytest.raises(ValueError, match=r"^CelebA.load: rows must be "):
            data.load(rows)


def test_a_combination_without_an_image_in_a_split_is_told(fresh):
    path = fresh / "list_eval_partition.txt"
    rows, combination = world(fresh).part("judge")
    lines = path.read_text().splitlines()
    for row in rows[combination == 3].tolist():
        lines[row] = lines[row][:-1] + "0"
    path.write_text("\n".join(lines))
    message = "the judge split must be one with an image of each combination, got none of Eyegl"
    with pytest.raises(ValueError, match=message):
        world(fresh).sample(torch.tensor([0, 3]), stream(0, "draw"), "judge")


def test_what_it_shows_no_world_of_photographs_knows(folder):
    data, images = world(folder), torch.rand(2, 3, 16, 16, generator=stream(0, "images"))
    for call in (data.judge, lambda z: data.distance(z, torch.tensor([0, 1]))):
        with pytest.raises(NotImplementedError, match=r"^CelebA: "):
            call(images)
    with pytest.raises(ValueError, match=r"^CelebA: spacing must be of a world of known .* none$"):
        _ = data.spacing
    assert torch.equal(data.clean(images, torch.tensor([0, 1])), images)
