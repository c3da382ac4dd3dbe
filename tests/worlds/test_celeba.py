"""CelebA's folder as it is distributed: every layout, the crop, the attributes, bad input."""

import errno
import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from gmmdiff.core.streams import stream
from gmmdiff.worlds.celeba import SPLITS, CelebA
from tests.celeba_folder import ATTRIBUTES, COLOURS, write


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


def test_every_layout_gives_the_same_world(folder, tmp_path):
    first = world(folder)
    write(tmp_path, 120, "csv", nested=True)
    other = world(tmp_path)
    assert np.array_equal(first.images, other.images)
    assert torch.equal(first.combinations, other.combinations)
    for split in SPLITS:
        assert all(map(torch.equal, first.part(split), other.part(split)))


def test_no_image_is_of_two_splits(folder):
    rows = torch.cat([world(folder).part(split)[0] for split in SPLITS])
    assert len(rows) == len(rows.unique())
    fresh, taught = (len(world(folder).part(split)[0]) for split in ("validation", "judge"))
    assert 0 < fresh < taught


def test_images_show_their_attributes_in_their_own_split(folder, tmp_path):
    shown, split = write(tmp_path, 120)  # the same ones as the folder's: one seed
    mine, names = world(folder), sorted(shown)
    count = 0
    for name, number in SPLITS.items():
        rows, combination = mine.part(name)
        assert [split[names[row]] for row in rows] == [number] * len(rows)
        asked = [shown[names[row]] for row in rows]
        assert mine.combinations[combination].tolist() == [list(pair) for pair in asked]
        upper = mine.load(rows)[:, :, :6].mean((2, 3))
        nearest = torch.cdist(upper, torch.tensor(list(COLOURS.values())) / 255.0).argmin(1)
        assert nearest.tolist() == [pair[0] for pair in asked]
        count += len(rows)
    assert count == 120 and mine.shape == (3, 16, 16)
    train = [shown[name] for name in names if split[name] == 0]
    for place, pair in enumerate(mine.combinations.tolist()):
        assert mine.frequencies[place] * len(train) == pytest.approx(train.count(tuple(pair)))
    assert mine.describe(0) == "not Eyeglasses, not Smiling"
    assert mine.describe(3) == "Eyeglasses, Smiling"


def test_the_square_in_the_middle_is_kept(fresh):
    """A photograph 36 wide and 44 high loses 4 rows above and 4 below, which are green here."""
    for path in (fresh / "img_align_celeba").iterdir():
        pixels = np.full((44, 36, 3), (0, 255, 0), np.uint8)
        pixels[4:40] = (255, 0, 255)
        Image.fromarray(pixels).save(path, quality=100, subsampling=0)
    kept = CelebA(fresh, ATTRIBUTES, 9).load(torch.arange(5))
    assert kept.shape == (5, 3, 9, 9)
    assert kept[:, 1, 2:-2].max() < 0.05 and kept[:, 0, 2:-2].min() > 0.95
    # As the mean of every four by four of the photograph's pixels.
    read = np.asarray(Image.open(sorted((fresh / "img_align_celeba").iterdir())[0]))[4:40] / 255
    means = read.reshape(9, 4, 9, 4, 3).mean((1, 3)).transpose(2, 0, 1)
    assert np.abs(kept[0].numpy() - means).max() < 0.01


def test_samples_are_images_of_what_is_asked_for(folder):
    mine = world(folder)
    asked = torch.tensor([0, 1, 2, 3] * 10)
    drawn = mine.sample(asked, stream(0, "draw"), "test")
    rows, combination = mine.part("test")
    real = mine.load(rows)
    for image, c in zip(drawn, asked, strict=True):
        alike = (real == image).flatten(1).all(1)
        assert alike.any() and (combination[alike] == c).all()
    assert len(drawn[asked == 1].unique(dim=0)) > 2  # not one image over and over
    images, attributes = mine.dataset(7, stream(0, "set")).tensors
    assert images.shape == (7, 3, 16, 16) and attributes.shape == (7, 2)
    with pytest.raises(ValueError, match="split must be one of train, validation, judge, test, "):
        mine.sample(asked, stream(0, "draw"), "floor")


def test_photographs_are_read_once(fresh):
    before = np.array(world(fresh).images)
    shutil.rmtree(fresh / "img_align_celeba")
    (fresh / "img_align_celeba").mkdir()
    again = world(fresh)
    assert isinstance(again.images, np.memmap) and np.array_equal(before, again.images)
    assert len(list((fresh / "cache").iterdir())) == 2  # the array, and what it leaves out


def test_an_interrupted_cache_is_made_anew(fresh, monkeypatch):
    def stop(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("gmmdiff.worlds.celeba.os.replace", stop)
        with pytest.raises(KeyboardInterrupt):
            world(fresh)
    assert len(world(fresh).images) == 120


BAD = {  # what is spoilt -> what its one line has to say
    "attributes": ("list_attr_celeba.txt", r"folder must be one that holds list_attr_celeba.txt"),
    "partition": ("list_eval_partition.txt", r"must be one that holds list_eval_partition.txt"),
    "folder of images": ("img_align_celeba", r"folder must be one that holds img_align_celeba"),
    "an image": (
        "img_align_celeba/000007.jpg",
        r"img_align_celeba must be with every image of the lists, got no 000007.jpg",
    ),
}


@pytest.mark.parametrize(("name", "message"), BAD.values(), ids=BAD)
def test_what_is_missing_is_named(fresh, name, message):
    path = fresh / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(ValueError, match=f"^CelebA: .*{message}"):
        world(fresh)


def test_an_unknown_attribute_is_named(folder):
    message = r"^CelebA: attributes must be among Young, Eyeglasses, Smiling, Male, got 'Smirking'$"
    with pytest.raises(ValueError, match=message):
        world(folder, attributes=["Smirking"])
    with pytest.raises(ValueError, match="attributes must be distinct names, at least one"):
        world(folder, attributes=["Male", "Male"])


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("list_attr_celeba", "000003.jpg  -1", "000003.jpg", "a name and 4 times 1 or -1 a line"),
        ("list_attr_celeba", "000003.jpg  -1  ", "000003.jpg  -1  7", "1 or -1 a line, got"),
        ("list_eval_partition", "000003.jpg ", "000003.jpg 7", "0, 1 or 2 for every image, got n"),
        ("list_eval_partition", "000003.jpg", "0000003.jpg", "got none for 000003.jpg"),
    ],
)
def test_a_line_that_does_not_fit_is_named(fresh, name, old, new, message):
    path = fresh / f"{name}.txt"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ValueError, match=f"^CelebA: {name} must be .*{message}"):
        world(fresh)


@pytest.mark.parametrize("spoil", [lambda data: data[: len(data) // 2], lambda data: b"no image"])
def test_a_corrupt_image_is_named_and_left_out_on_demand(fresh, spoil):
    path = fresh / "img_align_celeba" / "000011.jpg"
    path.write_bytes(spoil(path.read_bytes()))
    for _ in range(2):  # from the cache, too
        with pytest.raises(ValueError, match=r"left out by skip_corrupt, got 000011.jpg$"):
            world(fresh)
    left = world(fresh, skip_corrupt=True)
    rows = torch.cat([left.part(split)[0] for split in SPLITS])
    assert len(rows) == 119 and 10 not in rows


def test_a_cache_that_cannot_be_written_is_named_with_its_parameter(fresh, monkeypatch, tmp_path):
    def refuse(*arguments, **options):
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr("gmmdiff.worlds.celeba.Path.mkdir", refuse)
        message = r"^CelebA: cache must be a folder that can be written, got .*data/cache \(Read-o"
        with pytest.raises(ValueError, match=message):
            world(fresh)
    elsewhere = world(fresh, cache=tmp_path / "elsewhere")
    assert elsewhere.cache == tmp_path / "elsewhere" and not (fresh / "cache").exists()


def test_a_full_disk_is_told_before_it_is(fresh, monkeypatch):
    usage = shutil.disk_usage(fresh)._replace(free=1000)
    monkeypatch.setattr("gmmdiff.worlds.celeba.shutil.disk_usage", lambda path: usage)
    with pytest.raises(ValueError, match="cache must be a folder with 92160 bytes free, got 1000"):
        world(fresh)


def test_pillow_is_asked_for_where_it_is_missing(fresh, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ModuleNotFoundError, match=r"^CelebA: Pillow reads the images; install"):
        world(fresh)


def test_a_combination_without_an_image_in_a_split_is_told(fresh):
    path, shown = fresh / "list_eval_partition.txt", world(fresh)
    rows, combination = shown.part("judge")
    lines = path.read_text().splitlines()
    for row in rows[combination == 3].tolist():
        lines[row] = lines[row][:-1] + "0"
    path.write_text("\n".join(lines))
    message = "the judge split must be one with an image of each combination, got none of Eyegl"
    with pytest.raises(ValueError, match=message):
        world(fresh).sample(torch.tensor([0, 3]), stream(0, "draw"), "judge")


def test_what_it_shows_no_world_of_photographs_knows(folder):
    for call in ("judge", "distance"):
        with pytest.raises(NotImplementedError, match=r"^CelebA: "):
            getattr(world(folder), call)(*[None] * (1 + (call == "distance")))
    with pytest.raises(ValueError, match=r"^CelebA: spacing must be of a world of known .* none$"):
        _ = world(folder).spacing
    images = torch.rand(2, 3, 16, 16, generator=stream(0, "images"))
    assert torch.equal(world(folder).clean(images, torch.tensor([0, 1])), images)
