"""A folder laid out as CelebA is distributed, of drawn pictures whose attributes are visible."""

import numpy as np
from PIL import Image

ATTRIBUTES = ("Eyeglasses", "Smiling")
OTHERS = ("Young", "Male")  # columns before and after, which the pictures do not show
COLOURS = {0: (70, 90, 200), 1: (220, 120, 60)}  # of the upper half, by the first attribute


def picture(rng, glasses, smiling, size=(44, 36)):
    """Upper half blue or orange; a bright bar below, or none; noise and an offset of its own."""
    height, width = size
    pixels = np.full((height, width, 3), 60.0) + rng.uniform(-15, 15)
    pixels[: height // 2] = COLOURS[glasses]
    if smiling:
        low = height * 5 // 8 + rng.integers(-1, 2)
        pixels[low : low + height // 8, width // 5 : -width // 5] = 230
    return np.clip(pixels + rng.normal(0, 8, pixels.shape), 0, 255).astype(np.uint8)


def write(folder, count=320, ext="txt", nested=False, seed=0):
    """Four combinations, the last one rarer; of ten images seven to train, one to validate and two
    to test; attributes by name of the image.
    """
    rng = np.random.default_rng(seed)
    images = folder / "img_align_celeba"
    images = images / "img_align_celeba" if nested else images
    images.mkdir(parents=True)
    shown, split = {}, {}
    for number in range(count):
        name = f"{number + 1:06d}.jpg"
        shown[name] = divmod(int(rng.choice(4, p=[0.3, 0.3, 0.25, 0.15])), 2)
        split[name] = int(rng.choice(3, p=[0.7, 0.1, 0.2]))
        Image.fromarray(picture(rng, *shown[name])).save(images / name, quality=95)
    names = [OTHERS[0], *ATTRIBUTES, OTHERS[1]]
    rows = {name: [-1, *(2 * value - 1 for value in pair), 1] for name, pair in shown.items()}
    gap, split_gap = ("  ", " ") if ext == "txt" else (",", ",")
    head = f"{count}\n{' '.join(names)} \n" if ext == "txt" else f"image_id,{','.join(names)}\n"
    lines = [gap.join([name, *map(str, row)]) + "\n" for name, row in rows.items()]
    (folder / f"list_attr_celeba.{ext}").write_text(head + "".join(lines))
    head = "" if ext == "txt" else "image_id,partition\n"
    lines = [f"{name}{split_gap}{number}\n" for name, number in split.items()]
    (folder / f"list_eval_partition.{ext}").write_text(head + "".join(lines))
    return shown, split
