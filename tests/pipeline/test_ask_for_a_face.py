"""What the page lets a reader ask is what the denoisers draw and the judge reads, and a reader can
ask it, by mouse and by keyboard.
"""

import io
import json
import shutil

import nbformat
import numpy as np
import pytest
import yaml
from PIL import Image

from gmmdiff.core.streams import stream
from gmmdiff.engine.denoiser import Denoiser, Settings, load, save
from gmmdiff.engine.runs import SeedData
from gmmdiff.experiments.feature_vs_class import faces
from gmmdiff.pipeline import ask_for_a_face, denoisers, pages
from gmmdiff.pipeline.ask_for_a_face import ARMS, COLUMNS, SAMPLES
from tests.engine.test_denoisers import FACES
from tests.paths import PUBLISHED, ROOT


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The stage's folder of reports, of untrained denoisers of four attributes."""
    folder = tmp_path_factory.mktemp("small")
    given = {name: value for name, value in FACES.items() if name != "seed"}
    params = {"seed": FACES["seed"], "device": "cpu", "faces": given}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    (folder / denoisers.NAME).mkdir()
    for arm in ARMS:
        settings = Settings(4, 16, FACES["seed"], condition=8, width=8, hidden=1)
        save(Denoiser(settings), folder / denoisers.NAME / denoisers.FILE.format(arm))
    ask_for_a_face.make(folder / "params.yaml", folder)
    return folder


def test_the_stage_tells_what_is_drawn_and_read(small):
    told = json.loads((small / "ask_for_a_face" / "faces.json").read_text())
    sheet = np.asarray(Image.open(small / "ask_for_a_face" / "faces.png"), dtype=float) / 255
    seed_data = SeedData(FACES["seed"], faces.run_tables(FACES)["judged_30"][1])
    world, (points, combination) = seed_data.world, seed_data.training_points(30)
    assert told["switches"] == ["hair", "glasses", "smile", "beard"]
    assert told["held_out"] == seed_data.held_out.tolist() and len(told["faces"]) == 16 * COLUMNS
    for c, one in enumerate(told["asked"]):
        images = int((combination == c).sum())
        why = "none: held out" if c in seed_data.held_out else "none: never drawn"
        assert one == {"name": world.describe(c), "training": images or why}

    def tile(number):
        row, column = divmod(number, COLUMNS)
        return sheet[row * 16 : row * 16 + 16, column * 16 : column * 16 + 16]

    asked = world.combinations.repeat_interleave(SAMPLES, 0)
    for place, arm in enumerate(ARMS):
        denoiser = load(small / denoisers.NAME / denoisers.FILE.format(arm))
        drawn = denoiser.sample(asked, stream(FACES["seed"], "ask for a face"), 6)
        judged = world.judge(drawn)
        for number, image in enumerate(drawn):
            c, sample = divmod(number, SAMPLES)
            here = c * COLUMNS + place * SAMPLES + sample
            wrong, malformed, nearest = told["faces"][here]
            assert np.abs(tile(here) - image.clamp(0, 1).numpy()).max() < 0.02
            shown = judged.attributes[number].tolist()
            named = [world.values[j][v] for j, v in enumerate(shown) if v != asked[number, j]]
            assert (wrong, malformed) == (", ".join(named), bool(judged.malformed[number]))
            away = (points - image.flatten()).norm(dim=1).argmin()
            expected = points[away].view(16, 16).clamp(0, 1).numpy()
            assert np.abs(tile(nearest) - expected).max() < 0.02


def test_the_stage_gives_equal_bytes_each_time(small):
    def contents():
        return {path.name: path.read_bytes() for path in (small / "ask_for_a_face").iterdir()}

    first = contents()
    ask_for_a_face.make(small / "params.yaml", small)
    assert contents() == first and set(first) == {"faces.json", "faces.png"}
    assert not (small / ".staging").exists()


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """The page of a report of two headings, with what the published denoisers draw."""
    folder = tmp_path_factory.mktemp("reports")
    shutil.copytree(PUBLISHED / denoisers.NAME, folder / denoisers.NAME)
    ask_for_a_face.make(ROOT / "params.yaml", folder)
    (folder / "notebooks").mkdir()
    cell = nbformat.v4.new_markdown_cell("# Report\n\n## Findings\n\n## Verdicts")
    book = nbformat.v4.new_notebook(cells=[cell])
    nbformat.write(book, folder / "notebooks" / "report.ipynb")
    page = pages.report_page(folder, faces=folder / "ask_for_a_face")
    (folder / "index.html").write_text(page, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def told(reports):
    return json.loads((reports / "ask_for_a_face" / "faces.json").read_text())


def test_a_page_without_the_faces_has_no_such_section_and_with_them_stays_small(reports):
    without = pages.report_page(reports, faces=reports / "nowhere")
    assert without == pages.report_page(reports) and "ask-for-a-face" not in without
    assert 1e5 < len((reports / "index.html").read_bytes()) - len(without.encode()) <= 400e3


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
    counts = tab.locator(".ask h3 span").all_text_contents()
    for arm, count in enumerate(counts):
        start = first + arm * told["samples"]
        samples = told["faces"][start : start + told["samples"]]
        right = sum(not wrong and not malformed for wrong, malformed, _ in samples)
        assert count == f"{right} of {told['samples']} right"


def test_a_reader_asks_by_mouse(visit, told):
    tab = visit()
    boxes, m = tab.locator(".ask label"), len(told["switches"])
    assert [text.strip() for text in boxes.all_text_contents()] == told["switches"]
    check(tab, told, told["held_out"][0])
    wanted, shown = told["held_out"][3], told["held_out"][0]
    for place in range(m):
        bit = 1 << m - 1 - place
        if (wanted ^ shown) & bit:
            boxes.nth(place).click()
            shown ^= bit
            check(tab, told, shown)
    assert "none: held out" in tab.locator(".ask").text_content()
    tab.get_by_role("button", name="One that was held out").click()
    check(tab, told, told["held_out"][1])
    state = [box.is_checked() for box in tab.locator(".ask input").all()]
    assert state == [bool(told["held_out"][1] >> m - 1 - place & 1) for place in range(m)]


def test_a_reader_asks_by_keyboard(visit, told):
    tab, asked, m = visit(), told["held_out"][0], len(told["switches"])
    tab.locator(".ask input").first.focus()
    for place in range(m):
        assert tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
        tab.keyboard.press("Space")
        asked ^= 1 << m - 1 - place
        check(tab, told, asked)
        tab.keyboard.press("Tab")
    tab.keyboard.press("Enter")  # the button
    check(tab, told, told["held_out"][1])


def test_without_a_script_and_on_paper_there_is_a_still_picture(visit):
    """The same that the script shows first, without switches."""
    scripted, plain = visit(), visit(java_script_enabled=False)
    lists = [tab.locator(".ask ol").evaluate_all for tab in (scripted, plain)]
    first, second = (
        found("all => all.map(one => one.outerHTML.replace(/\\s+/g, ' '))") for found in lists
    )
    assert first == second and len(first) == len(ARMS)
    assert not plain.locator(".ask fieldset").is_visible()
    assert plain.locator(".ask noscript").is_visible()
    scripted.emulate_media(media="print")
    assert not scripted.locator(".ask fieldset").is_visible()
    assert scripted.locator(".ask li").last.is_visible()


@pytest.mark.parametrize("width", [390, 1100])
def test_it_is_usable_at_a_width(visit, reports, told, width):
    tab = visit(viewport={"width": width, "height": 900})
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    boxes = [one.bounding_box() for one in tab.locator(".ask :is(label, button, li)").all()]
    assert max(box["x"] + box["width"] for box in boxes) <= width
    assert min(min(box["width"], box["height"]) for box in boxes) >= 24
    sheet = np.asarray(Image.open(reports / "ask_for_a_face" / "faces.png"), dtype=float)
    tiles = sheet.reshape(-1, 16, COLUMNS, 16).swapaxes(1, 2).reshape(-1, 16, 16)
    frame, first = 3, told["held_out"][0] * COLUMNS
    for place in (0, COLUMNS - 1):  # of all tiles the right one is seen
        shown = tab.locator(".ask li").nth(place).locator("svg").first
        box = shown.bounding_box()  # a screenshot begins and ends at whole pixels
        left, top, size = box["x"] % 1 + frame, box["y"] % 1 + frame, box["width"] - 2 * frame
        grey = Image.open(io.BytesIO(shown.screenshot())).convert("L")
        inner = left, top, left + size, top + size
        grey = grey.resize((16, 16), Image.Resampling.BOX, box=inner)
        found = np.asarray(grey, dtype=float)
        assert np.square(tiles - found).sum((1, 2)).argmin() == first + place
