"""CelebA: photographs of faces with attributes, from a folder of the reader's own.

A data sheet.  *Source*: 202,599 aligned photographs with 40 binary attributes (Liu et al. 2015,
arXiv 1411.7766), for research that is not commercial; nothing of it comes with this package.
*What varies*: everything; of the attributes some are chosen.  *Splits*: as distributed, by person;
of the validation images of a combination one in four validates, the others teach the judge.
*Frequencies*: those of the training split; a combination that it does not show is none of the
world's.  *Judge*: none here; a network has to learn it, see notebooks/more/celeba.py.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor

from gmmdiff.core.checks import indices, refuse, require, require_generator, whole
from gmmdiff.worlds.world import Judged, Split, World

SPLITS: tuple[Split, ...] = ("train", "validation", "judge", "test")
SHARE = 4  # one in so many of the distributed validation images validates here
IMAGES, ATTRIBUTES, PARTITION = "img_align_celeba", "list_attr_celeba", "list_eval_partition"
OWNER = "CelebA"
CSV: dict[str, Any] = {"sep": ",", "skipinitialspace": True, "index_col": 0}
TXT: dict[str, dict[str, Any]] = {
    ATTRIBUTES: {"sep": r"\s+", "skiprows": 1},  # how many images, then a head without theirs
    PARTITION: {"sep": r"\s+", "header": None, "index_col": 0},
}


class CelebA(World):
    """Colour images ``(3, size, size)`` in [0, 1], float32, and the attributes chosen.

    Photographs are cropped to the square in their middle and reduced once, to one memory-mapped
    array of bytes in the cache, and again where a name, size or modification time is another one.

    Args:
        folder: as it is distributed: ``img_align_celeba/`` (also one inside the other),
            ``list_attr_celeba.txt`` and ``list_eval_partition.txt`` (also ``.csv``).
        attributes: the chosen ones of the 40, each absent or present.
        size: pixels of a side.
        cache: a folder for the array, by default ``cache`` in the data's folder.
        skip_corrupt: whether images that cannot be read are left out; if not, they are refused by
            name.

    Attributes:
        images: ``(N, 3, size, size)``, uint8, memory-mapped, of all splits.
        cache: the folder where they lie.
        digest: of all that they, their attributes and their splits are, wherever they lie.

    Raises:
        ValueError: on a file that is missing or does not fit the others, an attribute that is not
            there, an image that cannot be read, or a cache that cannot be written.
        ModuleNotFoundError: without pandas, which reads the lists, or Pillow, which reads images.

    Example:
        >>> from gmmdiff import CelebA
        >>> CelebA("nowhere", ["Smiling"])
        Traceback (most recent call last):
        ValueError: CelebA: folder must be one that holds list_attr_celeba.txt or .csv, got nowhere
    """

    def __init__(
        self,
        folder: Path | str,
        attributes: Sequence[str] = ("Male", "Smiling", "Eyeglasses", "Young"),
        size: int = 64,
        cache: Path | str | None = None,
        skip_corrupt: bool = False,
    ) -> None:
        folder, size = Path(folder).expanduser(), whole(OWNER, "size", size, 1)
        self.shape = (3, size, size)
        self.values = [[f"not {name}", name] for name in attributes]
        names, shown, split = _lists(folder, list(attributes))
        self.cache = Path(cache).expanduser() if cache else folder / "cache"
        self.images, corrupt, pixels = _images(folder / IMAGES, names, size, self.cache)
        if corrupt and not skip_corrupt:
            what = f"{IMAGES}, as cached in {self.cache},"
            allowed = "images that can be read, or left out by skip_corrupt"
            refuse(OWNER, what, allowed, ", ".join(names[row] for row in corrupt))
        split[corrupt] = -1
        data = pixels.encode(), shown.numpy().tobytes(), split.numpy().tobytes()
        self.digest = hashlib.sha256(b"".join(data)).hexdigest()
        taught = shown[split == 0]
        require(len(taught) > 0, OWNER, PARTITION, "with images of the training split", "none")
        self.combinations, counts = taught.unique(dim=0, return_counts=True)
        self.frequencies = counts.double() / counts.sum()
        numbers = {tuple(row): number for number, row in enumerate(self.combinations.tolist())}
        combination = torch.tensor([numbers.get(tuple(row), -1) for row in shown.tolist()])
        rows = combination.argsort(stable=True)
        rows = rows[combination[rows] >= 0]
        train, real, test = (rows[split[rows] == number] for number in range(3))
        validates = torch.arange(len(real)) % SHARE == 0
        parts = train, real[validates], real[~validates], test
        self._parts = {
            name: (rows, combination[rows]) for name, rows in zip(SPLITS, parts, strict=True)
        }

    def __getstate__(self) -> dict[str, Any]:
        """With the array's path in place of gigabytes, which every worker would get."""
        return self.__dict__ | {"images": self.images.filename}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state | {"images": np.load(state["images"], mmap_mode="r")}

    def part(self, split: Split) -> tuple[Tensor, Tensor]:
        """A split's rows in ``images`` ``(n,)`` and their combinations ``(n,)``, by combination.

        Raises:
            ValueError: on an unknown split.
        """
        require(split in SPLITS, OWNER, "split", f"one of {', '.join(SPLITS)}", repr(split))
        return self._parts[split]

    def load(self, rows: Tensor) -> Tensor:
        """Images by their rows ``(n,)``: ``(n, 3, size, size)`` in [0, 1].

        Raises:
            ValueError: on a row that is not there.
        """
        rows = indices("CelebA.load", "rows", rows, len(self.images)).cpu()
        return torch.from_numpy(self.images[rows.numpy()]).float() / 255

    def sample(
        self, combination: Tensor, generator: torch.Generator, split: Split = "train"
    ) -> Tensor:
        """One random image for each combination, as ``World.sample``.

        Raises:
            ValueError: on an unknown split, or a combination of which it holds no image.
        """
        owner, count = "CelebA.sample", len(self.combinations)
        require_generator(owner, generator)
        combination = indices(owner, "combination", combination, count)
        rows, shown = self.part(split)
        counts = shown.bincount(minlength=count)
        absent = combination[counts[combination] == 0]
        if len(absent):
            told = f"none of {self.describe(int(absent[0]))}"
            refuse(owner, f"the {split} split", "one with an image of each combination", told)
        place = torch.rand(len(combination), generator=generator, dtype=torch.float64)
        first = counts.cumsum(0) - counts
        return self.load(rows[first[combination] + (place * counts[combination]).long()])

    def judge(self, z: Tensor) -> Judged:
        """Not here, see notebooks/more/celeba.py."""
        raise NotImplementedError("CelebA: what an image shows a network has to learn first")

    def distance(self, z: Tensor, combination: Tensor) -> Tensor:
        """Not here: nobody knows the face without noise that an image is near to."""
        raise NotImplementedError("CelebA: there are no images without noise to measure from")


@contextmanager
def _needed(what: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError:
        message = f"{OWNER}: {what}; install it, or gmmdiff[celeba]"
        raise ModuleNotFoundError(message) from None


def _lists(folder: Path, chosen: list[str]) -> tuple[list[str], Tensor, Tensor]:
    """Of every image, by name: the name, which chosen attributes it shows ``(N, m)``, 0 or 1, and
    the number of its split ``(N,)``.
    """
    table = _list(folder, ATTRIBUTES)
    good, head = 0 < len(chosen) == len(set(chosen)), list(table.columns)
    require(good, OWNER, "attributes", "distinct names, at least one", chosen)
    for name in chosen:
        require(name in head, OWNER, "attributes", f"among {', '.join(head)}", repr(name))
    table = table.sort_index()
    for name in table.index[~table.isin(["1", "-1"]).all(axis=1)]:
        refuse(OWNER, ATTRIBUTES, f"a name and {len(head)} times 1 or -1 a line", f"not for {name}")
    split = _list(folder, PARTITION).iloc[:, 0].reindex(table.index)
    for name in split.index[~split.isin(["0", "1", "2"])]:
        refuse(OWNER, PARTITION, "0, 1 or 2 for every image", f"none for {name}")
    shown = torch.tensor((table[chosen] == "1").to_numpy()).long()
    return list(table.index), shown, torch.tensor(split.astype(int).to_numpy())


def _list(folder: Path, name: str) -> Any:
    """A list as it is distributed, ``.txt`` or ``.csv``: a DataFrame of texts, a row an image."""
    with _needed("pandas reads the lists"):
        import pandas as pd
    paths = [path for ext in ("txt", "csv") if (path := folder / f"{name}.{ext}").is_file()]
    require(len(paths) > 0, OWNER, "folder", f"one that holds {name}.txt or .csv", folder)
    options = TXT[name] if paths[0].suffix == ".txt" else CSV
    try:
        table = pd.read_csv(paths[0], dtype=str, encoding="utf-8-sig", **options).dropna(how="all")
    except ValueError as error:  # its own errors among them
        refuse(OWNER, name, "a table with an image a line", f"{paths[0]} ({error})")
    columns = [table.index.name, *table.columns]
    require(table.size > 0, OWNER, name, "a name and what is known of it, an image a line", columns)
    return table


def _images(
    folder: Path, names: Sequence[str], size: int, cache: Path
) -> tuple[np.memmap[Any, Any], list[int], str]:
    """All images ``(N, 3, size, size)``, uint8, from the cache or made there; the rows of those
    that cannot be read; and a digest of all.
    """
    require(folder.is_dir(), OWNER, "folder", f"one that holds {IMAGES}", folder.parent)
    folder = folder / IMAGES if (folder / IMAGES).is_dir() else folder
    there = {entry.name: entry.stat() for entry in os.scandir(folder) if entry.is_file()}
    for name in names:
        require(name in there, OWNER, IMAGES, "with every image of the lists", f"no {name}")
    states = [(name, there[name].st_size, there[name].st_mtime_ns) for name in names]
    told = json.dumps([str(folder.resolve()), states])
    path = cache / f"images_{size}_{hashlib.sha256(told.encode()).hexdigest()[:12]}.npy"
    beside, aside = path.with_suffix(".json"), path.with_suffix(".part")
    if not path.is_file():  # written last
        shape = len(names), 3, size, size
        try:
            cache.mkdir(parents=True, exist_ok=True)
            free, wanted = shutil.disk_usage(cache).free, math.prod(shape)
            require(free > wanted, OWNER, "cache", f"a folder with {wanted} bytes free", free)
            array = open_memmap(aside, "w+", np.uint8, shape)
            beside.write_text(json.dumps(_read(folder, names, array)), encoding="utf-8")
            array.flush()
            os.replace(aside, path)
        except OSError as error:
            told = f"{cache} ({error.strerror})"
            refuse(OWNER, "cache", "a folder that can be written", told)
    corrupt, pixels = json.loads(beside.read_text(encoding="utf-8"))
    return np.load(path, mmap_mode="r"), corrupt, pixels


def _read(folder: Path, names: Sequence[str], array: np.ndarray) -> tuple[list[int], str]:
    """Fills the array, image by image; the rows of those that cannot be read, and a digest."""
    with _needed("Pillow reads the images"):
        from PIL import Image, ImageOps
    size, corrupt, digest = array.shape[2:], [], hashlib.sha256()
    for row, name in enumerate(names):
        try:
            with Image.open(folder / name) as image:
                square = ImageOps.fit(image.convert("RGB"), size, Image.Resampling.BOX)
            array[row] = np.asarray(square).transpose(2, 0, 1)
        except (OSError, SyntaxError) as error:  # both are Pillow's
            if isinstance(error, OSError) and error.errno:  # the system's, which may pass
                refuse(OWNER, IMAGES, "readable, all of it", f"{name} ({error.strerror})")
            corrupt.append(row)
        digest.update(array[row])
    return corrupt, digest.hexdigest()
