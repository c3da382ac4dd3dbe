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


def test_photographs_are_read_once(fresh, monkeypatch):
    before = world(fresh)
    monkeypatch.setattr("gmmdiff.worlds.celeba._read", None)
    again = world(f"{fresh}/", attributes=ATTRIBUTES[:1])
    assert isinstance(again.images, np.memmap) and np.array_equal(before.images, again.images)
    assert len(list((fresh / "cache").iterdir())) == 2  # the array, and what it leaves out


@pytest.mark.parametrize("same", ["size", "modification time"])
def test_photographs_that_changed_are_read_again(fresh, same):
    path = fresh / "img_align_celeba" / "000011.jpg"
    Image.new("RGB", (36, 44), (255, 0, 0)).save(path, "BMP")
    before, was = world(fresh), path.stat()
    Image.new("RGB", (36, 44), (0, 0, 255)).save(path, "BMP" if same == "size" else "PNG")
    moment = was.st_mtime_ns + (same == "size")  # on a disk with clocks of any grain
    os.utime(path, ns=(moment, moment))
    assert (path.stat().st_size == was.st_size) == (same == "size")
    again = world(fresh)
    assert again.images[10].mean((1, 2)).tolist() == [0, 0, 255]
    assert again.digest != before.digest


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


def test_cells_that_no_comma_divides_are_shown_as_they_are(tmp_path):
    write(tmp_path, 120, "csv")
    path = tmp_path / "list_attr_celeba.csv"
    path.write_text(path.read_text().replace(",", ";"))
    message = "must be a name and what is known of it, .* got .'image_id;Young;Eyeglasses;"
    with pytest.raises(ValueError, match=message):
        world(tmp_path)


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("list_attr_celeba", "000003.jpg  -1", "000003.jpg", "a name and 4 times 1 or -1 a line"),
        (
            "list_attr_celeba",
            "000003.jpg  -1  ",
            "000003.jpg  -1  7",
            "a line, got not for 000003.jpg",
        ),
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
    message = r"as cached in .*data/cache, must be .* left out by skip_corrupt, got 000011.jpg$"
    for _ in range(2):  # from the cache, too
        with pytest.raises(ValueError, match=message):
            world(fresh)
    left = world(fresh, skip_corrupt=True)
    rows = torch.cat([left.part(split)[0] for split in SPLITS])
    assert len(rows) == 119 and 10 not in rows


@pytest.mark.parametrize("skip_corrupt", [False, True])
def test_a_corrupt_image_that_was_mended_is_read(fresh, skip_corrupt):
    path = fresh / "img_align_celeba" / "000011.jpg"
    path.write_bytes(b"no image")
    world(fresh, skip_corrupt=True)
    shutil.copy(path.with_name("000012.jpg"), path)
    mended = world(fresh, skip_corrupt=skip_corrupt)
    assert np.array_equal(mended.images[10], mended.images[11])
    assert sum(len(mended.part(split)[0]) for split in SPLITS) == 120


def test_what_the_system_refuses_is_not_corrupt(fresh, monkeypatch):
    """Nor is it remembered: it may pass with no byte of the file changed."""

    def refuse(*arguments):
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr("PIL.Image.open", refuse)
        message = r"img_align_celeba must be .*, got 000001.jpg \(Permission denied\)$"
        with pytest.raises(ValueError, match=message):
            world(fresh, skip_corrupt=True)
    assert sum(len(world(fresh).part(split)[0]) for split in SPLITS) == 120


def test_the_digest_is_of_images_attributes_and_splits_wherever_they_lie(fresh, tmp_path):
    first = world(fresh).digest
    shutil.copytree(fresh, tmp_path / "moved", copy_function=shutil.copyfile)  # times are new
    moved = tmp_path / "moved"
    assert world(moved).digest == world(moved, skip_corrupt=True).digest == first
    for name, old, new in (
        ("list_attr_celeba", "000003.jpg  -1  -1", "000003.jpg  -1  1"),
        ("list_eval_partition", "000001.jpg 0", "000001.jpg 2"),
    ):
        path = moved / f"{name}.txt"
        told = path.read_text()
        path.write_text(told.replace(old, new))
        assert path.read_text() != told and world(moved).digest != first
        path.write_text(told)


def test_it_is_pickled_with_a_path_and_opens_the_array_again(folder, monkeypatch, tmp_path):
    mine = world(folder)
    told = pickle.dumps(mine)
    assert len(told) < mine.images.nbytes / 4
    monkeypatch.chdir(tmp_path)
    for other in (pickle.loads(told), copy.deepcopy(mine)):
        assert isinstance(other.images, np.memmap) and not other.images.flags.writeable
        assert np.array_equal(other.images, mine.images)
        assert all(map(torch.equal, other.part("test"), mine.part("test")))


def test_rows_are_any_array_of_whole_numbers(folder):
    mine = world(folder)
    wanted = torch.tensor(np.array(mine.images[[3, 1]])) / 255
    for rows in ([3, 1], (3, 1), np.array([3, 1]), torch.tensor([3, 1]), torch.tensor([3.0, 1.0])):
        assert torch.equal(mine.load(rows), wanted)
    assert mine.load([]).shape == (0, 3, 16, 16)
    for rows in ([120], [-1], 3, ["a"], torch.ones(120) > 0):
        with pytest.raises(ValueError, match=r"^CelebA.load: rows must be "):
            mine.load(rows)


@pytest.mark.parametrize("ext", ["txt", "csv"])
def test_lists_as_spreadsheets_write_them(folder, tmp_path, ext):
    """A byte order mark, Windows' ends of lines; in .csv quoted cells, and lines of commas."""
    write(tmp_path, 120, ext)
    for path in tmp_path.glob(f"*.{ext}"):
        text = path.read_text()
        if ext == "csv":
            rows = [line.split(",") for line in text.splitlines()]
            lines = [", ".join(f'"{cell}"' for cell in row) for row in rows]
            text = "\n".join([*lines, "," * (len(rows[0]) - 1), ""])
        path.write_text(text, encoding="utf-8-sig", newline="\r\n")
    found, wanted = world(tmp_path), world(folder)
    assert all(map(torch.equal, found.part("train"), wanted.part("train")))
    assert torch.equal(found.combinations, wanted.combinations) and len(found.images) == 120


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
