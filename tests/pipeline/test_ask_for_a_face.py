"""What the page lets a reader ask is what the denoisers draw and the judge reads, and a reader can
ask it, by mouse and by keyboard.
"""

import io
import json
import shutil

import nbformat
import numpy as np
import pytest
from PIL import Image

from gmmdiff.core.streams import stream
from gmmdiff.engine.denoiser import load
from gmmdiff.engine.runs import SeedData
from gmmdiff.pipeline import ask_for_a_face, denoisers, pages
from gmmdiff.pipeline.ask_for_a_face import ARMS, COLUMNS, SAMPLES
from tests.paths import PUBLISHED, ROOT
from tests.pipeline.small_stages import contents


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """The page of a report of two headings, with what the published denoisers draw."""
    folder = tmp_path_factory.mktemp("reports")
    shutil.copytree(PUBLISHED / denoisers.NAME, folder / denoisers.NAME)
    ask_for_a_face.make(ROOT / "params.yaml", folder)
    (folder / "notebooks").mkdir()
    cell = nbformat.v4.new_markdown_cell("# Report\n\n## Findings\n\n## Verdicts")
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), folder / "notebooks" / "report.ipynb")
    shutil.copytree(PUBLISHED / "environment", folder / "environment")
    page = pages.report_page(folder, faces=folder / "ask_for_a_face")
    (folder / "index.html").write_text(page, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def told(reports):
    return json.loads((reports / "ask_for_a_face" / "faces.json").read_text())


@pytest.fixture(scope="module")
def tiles(reports):
    """The faces ``(n, 16, 16)``, greys in [0, 255]."""
    sheet = np.asarray(Image.open(reports / "ask_for_a_face" / "faces.png"), dtype=float)
    return sheet.reshape(-1, 16, COLUMNS, 16).swapaxes(1, 2).reshape(-1, 16, 16)


def test_the_stage_tells_what_is_drawn_and_read(reports, told, tiles):
    rows, settings, *_ = denoisers.first_runs(ROOT / "params.yaml")
    seed_data = SeedData(int(rows["seed"].iloc[0]), settings)
    world, (points, combination) = seed_data.world, seed_data.training_points(told["n_train"])
    assert told["switches"] == ["hair", "glasses", "smile", "beard", "hat", "ears"]
    assert told["held_out"] == seed_data.held_out.tolist() and len(told["faces"]) == 64 * COLUMNS
    for c, one in enumerate(told["asked"]):
        why = "none: held out" if c in seed_data.held_out else "none: never drawn"
        images = int((combination == c).sum()) or why
        assert one == {"name": world.describe(c), "training": images}
    asked = world.combinations.repeat_interleave(SAMPLES, 0)
    for place, arm in enumerate(ARMS):
        denoiser = load(reports / denoisers.NAME / denoisers.FILE.format(arm))
        noise = stream(seed_data.seed, "ask for a face")
        drawn = denoiser.sample(asked, noise, settings.evaluations)
        judged = world.judge(drawn)
        for number in range(0, len(drawn), 7):
            c, sample = divmod(number, SAMPLES)
            here, image = c * COLUMNS + place * SAMPLES + sample, drawn[number]
            wrong, malformed, nearest = told["faces"][here]
            assert np.abs(tiles[here] / 255 - image.clamp(0, 1).numpy()).max() < 0.02
            shown = judged.attributes[number].tolist()
            named = [world.values[j][v] for j, v in enumerate(shown) if v != asked[number, j]]
            assert (wrong, malformed) == (", ".join(named), bool(judged.malformed[number]))
            expected = points[(points - image.flatten()).norm(dim=1).argmin()].view(16, 16)
            assert np.abs(tiles[nearest] / 255 - expected.clamp(0, 1).numpy()).max() < 0.02


def test_the_stage_gives_equal_bytes_each_time_and_the_page_stays_small(reports):
    first = contents(reports / "ask_for_a_face")
    ask_for_a_face.make(ROOT / "params.yaml", reports)
    assert contents(reports / "ask_for_a_face") == first
    without = pages.report_page(reports, faces=reports / "nowhere")
    assert without == pages.report_page(reports) and "ask-for-a-face" not in without
    assert 1e5 < (reports / "index.html").stat().st_size - len(without.encode()) <= 400e3


def check(tab, told, asked):
    """The page shows a combination as the data tell it."""
    across, size = told["samples"] * len(told["arms"]), told["size"]
    name, training = tab.locator(".ask [data-told]").all_text_contents()
    assert [name, training] == [str(told["asked"][asked][key]) for key in ("name", "training")]
    first, found = asked * across, tab.locator(".ask li").all()
    assert len(found) == across
    for tile, item in enumerate(found, first):
        wrong, malformed, nearest = told["faces"][tile]
        assert item.locator("small").text_content() == wrong
        classes = (item.get_attribute("class") or "").split()
        assert classes == ["wrong"] * bool(wrong) + ["malformed"] * malformed
        for svg, number in zip(item.locator("svg").all(), (tile, nearest), strict=True):
            x, y = number % across * size, number // across * size
            assert svg.get_attribute("viewBox") == f"{x} {y} {size} {size}"
    for arm, count in enumerate(tab.locator(".ask h3 span").all_text_contents()):
        start = first + arm * told["samples"]
        samples = told["faces"][start : start + told["samples"]]
        right = sum(not wrong and not malformed for wrong, malformed, _ in samples)
        assert count == f"{right} of {told['samples']} right"


def test_a_reader_asks_by_mouse_and_by_keyboard(visit, told):
    tab, (shown, second, *_), m = visit(), told["held_out"], len(told["switches"])
    boxes = tab.locator(".ask label")
    assert [text.strip() for text in boxes.all_text_contents()] == told["switches"]
    check(tab, told, shown)
    for place in (0, m - 1):
        boxes.nth(place).click()
        shown ^= 1 << m - 1 - place
        check(tab, told, shown)
    tab.get_by_role("button", name="One that was held out").click()
    check(tab, told, second)
    assert "none: held out" in tab.locator(".ask").text_content()
    state = [box.is_checked() for box in tab.locator(".ask input").all()]
    assert state == [bool(second >> m - 1 - place & 1) for place in range(m)]
    tab = visit()
    tab.locator(".ask input").first.focus()
    for _ in range(m):
        assert tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
        tab.keyboard.press("Space")
        tab.keyboard.press("Tab")
    check(tab, told, told["held_out"][0] ^ (2**m - 1))
    tab.keyboard.press("Enter")  # the button
    check(tab, told, second)


def test_without_a_script_and_on_paper_there_is_a_still_picture(visit):
    """The same that the script shows first, without switches."""
    scripted, plain = visit(), visit(java_script_enabled=False)
    text = "all => all.map(one => one.outerHTML.replace(/\\s+/g, ' '))"
    lists = [tab.locator(".ask ol").evaluate_all(text) for tab in (scripted, plain)]
    assert lists[0] == lists[1] and len(lists[0]) == len(ARMS)
    assert not plain.locator(".ask fieldset").is_visible()
    assert plain.locator(".ask noscript").is_visible()
    scripted.emulate_media(media="print")
    assert not scripted.locator(".ask fieldset").is_visible()
    assert scripted.locator(".ask li").last.is_visible()


@pytest.mark.parametrize("width", [390, 1100])
def test_it_is_usable_at_a_width(visit, told, tiles, width):
    tab = visit(viewport={"width": width, "height": 900})
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    boxes = [one.bounding_box() for one in tab.locator(".ask :is(label, button, li)").all()]
    assert max(box["x"] + box["width"] for box in boxes) <= width
    assert min(min(box["width"], box["height"]) for box in boxes) >= 24
    frame, first = 3, told["held_out"][0] * COLUMNS
    for place in (0, COLUMNS - 1):  # of all tiles the right one is seen
        shown = tab.locator(".ask li").nth(place).locator("svg").first
        box = shown.bounding_box()  # a screenshot begins and ends at whole pixels
        left, top, size = box["x"] % 1 + frame, box["y"] % 1 + frame, box["width"] - 2 * frame
        grey = Image.open(io.BytesIO(shown.screenshot())).convert("L")
        inner = left, top, left + size, top + size
        seen = np.asarray(grey.resize((16, 16), Image.Resampling.BOX, box=inner), dtype=float)
        assert np.square(tiles - seen).sum((1, 2)).argmin() == first + place
