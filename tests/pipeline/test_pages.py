"""The report's words fit the register, and its page works in a real browser, without asking for
anything.
"""

import json
import math
import re
import shutil

import pytest
import yaml

from gmmdiff.judging import register
from gmmdiff.judging.findings import findings
from gmmdiff.judging.rule import DELTA
from gmmdiff.pipeline import ask_for_a_face, pages, publishing, runner
from gmmdiff.pipeline.errors import BadInput
from gmmdiff.pipeline.verification import claim_name
from tests.paths import PUBLISHED, ROOT
from tests.pipeline.small_stages import no_cell_warns

WORDS = yaml.safe_load((pages.TEMPLATE / "claims.yaml").read_text())


def leaves(value):
    if isinstance(value, dict):
        value = list(value.values())
    return [leaf for part in value for leaf in leaves(part)] if isinstance(value, list) else [value]


def test_words_fit_the_register_and_every_figure_and_definition_is_used():
    claims, stages = WORDS["claims"], WORDS["stages"]
    assert list(claims) == list(dict.fromkeys(claim.id for claim in register.REGISTER))
    assert list(stages) == list(dict.fromkeys(claim.stage for claim in register.REGISTER))
    parts = {"definition", "rests_on", "number", "figures", "controls", "caveats"}
    assert all(set(one) == parts and one["figures"] and one["caveats"] for one in claims.values())
    assert all(isinstance(text, str) and text.strip() for text in leaves(WORDS))
    shown = {name for one in claims.values() for name in one["figures"]} | set(WORDS["ground"])
    files = [path for stage in stages for path in (PUBLISHED / "figures" / stage).glob("*.png")]
    assert shown == set(WORDS["figures"]) == {f"{path.parent.name}/{path.stem}" for path in files}
    rests_on = {name for one in claims.values() for name in one["rests_on"]}
    assert rests_on == set(WORDS["definitions"])


def cell(estimate, low, high, metric="defect"):
    ends = {"estimate": estimate, "low": low, "high": high}
    return ends | {"factors": {"metric": metric}, "delta": DELTA[metric]}


DIFFERENCES = [
    (cell(0.0652841, 0.0500201, 0.084737), "+6.5 [+5.0,\u00a0+8.5] points"),
    (cell(-0.0009, -0.0031, 0.0022), "−0.1 [−0.3,\u00a0+0.2] points"),
    (cell(-0.00001, -0.002, 0.98), "+0.0 [−0.2,\u00a0+98.0] points"),
    (cell(*map(math.log, (0.3, 0.258, 1.0)), "variation"), "0.300 [0.258,\u00a01.00] times"),
]


@pytest.mark.parametrize(("found", "text"), DIFFERENCES)
def test_a_difference_has_its_unit(found, text):
    assert pages.difference(found) == text


def test_a_level_has_its_unit_and_what_is_not_firm_follows_its_verdict():
    arm = {"arm": "class", "estimate": 0.0412, "low": 0.0361, "high": 0.0444}
    assert pages.level(arm, "spike_rate") == "4.1 % [3.6,\u00a04.4]"
    assert pages.level(arm | {"high": None}, "law") == "0.0412 [0.0361,\u00a0?]"
    assert pages.reservations({"rival_verdict": None, "undertrained": False}) == ""
    soft = {"rival_verdict": "partly", "undertrained": True}
    assert pages.reservations(soft) == ", fragile (partly), undertrained"


def test_markdown_becomes_html():
    html = pages.to_html(
        "## A *new* part\n\n$\\alpha_t$ [book](x.ipynb) [drawing](../figures/a.png) "
        "[up](#T1) [out](https://a.b/c)\n\n|a|b|\n|-|-|\n|$x$|1|\n"
    )
    assert '<h2 id="a-new-part">A <em>new</em> part</h2>' in html and "$" not in html
    assert html.count("<math") == 2
    assert re.findall(r'href="([^"]*)"', html) == ["#T1", "https://a.b/c"]
    assert "book drawing <a" in html, "what a page alone cannot reach is text"


def test_without_a_report_there_is_no_page(tmp_path):
    with pytest.raises(BadInput, match=r"report.ipynb: no such file; run `dvc repro` first"):
        pages.report_page(tmp_path)


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """The report as the pipeline makes it, from the published tables: executed in a real kernel,
    then rendered.
    """
    folder = tmp_path_factory.mktemp("report") / "reports"
    for part in ("tables", "figures", "denoisers", "environment"):
        shutil.copytree(PUBLISHED / part, folder / part)
    shutil.copy(PUBLISHED / "parameters.md", folder)
    ask_for_a_face.make(ROOT / "params.yaml", folder)
    runner.run(ROOT / "notebooks" / "04_report.ipynb", "report", {"source": str(folder)}, folder)
    record = folder / "environment" / "theory_checks.json"
    other = {"device": "a GPU", "seconds": 3723, "host": "secret", "platform": "secret"}
    record.write_text(json.dumps(json.loads(record.read_text()) | other))
    publishing.write_pages(folder, PUBLISHED, ROOT / "params.yaml")
    return folder


@pytest.fixture(scope="module")
def claims(reports):
    return json.loads((reports / "claims.json").read_text())


def test_the_report_judges_the_published_tables(reports, claims):
    assert claims == json.loads((PUBLISHED / "claims.json").read_text())
    metrics = json.loads((reports / "metrics.json").read_text())
    assert list(metrics) == [claim_name(claim) for claim in claims]
    for claim, kept in zip(claims, metrics.values(), strict=True):
        names = ("verdict", "estimate", "ci_low", "ci_high")
        assert kept == {name: claim[name] for name in names if claim[name] is not None}


def test_the_notebook_holds_neither_times_nor_machines_and_pictures_that_decide(reports):
    executed = reports / "notebooks" / "report.ipynb"
    assert no_cell_warns(executed)
    text = executed.read_text()
    assert "processors" not in text and text.count("data-file=") == len(WORDS["figures"])
    deciding = {claim["figures"][0] for claim in WORDS["claims"].values()}
    assert text.count('"image/png"') == len(deciding)


def test_the_page_is_one_file(reports):
    """Its one script, and the data of that, stand in it."""
    page = (reports / "index.html").read_text()
    scripts = re.findall(r"<script.*?>", page)
    assert scripts == ['<script type="application/json">', "<script>"]
    assert re.findall(r"<(iframe|object|embed)\b", page) == []
    script = re.search(r"<script>.*?</script>", page, re.S)[0]
    assert not re.search(r"fetch|XMLHttp|import|eval|innerHTML|storage|cookie|://", script)
    page = page.replace(script, "")
    sources = re.findall(
        r"""(?:src|srcset|poster|data)=["']([^"']{0,20})|<image[^>]*href="([^"]{0,20})"""
        r"""|<link[^>]*href="([^"]*)|url\(([^)]*)|@import(.*)""",
        page,
    )
    assert [s for groups in sources for s in groups if s and not s.startswith("data:")] == []
    assert "$" not in re.sub(r"<[^>]*>", "", page) and "<math" in page
    assert len(page) < 3e6


def test_every_link_and_image_of_every_page_is_good(visit):
    for name in ("index.html", "verification.html"):
        tab = visit(name)
        links = tab.evaluate("[...document.querySelectorAll('a')].map(a => a.getAttribute('href'))")
        names = tab.evaluate("[...document.querySelectorAll('[id]')].map(element => element.id)")
        assert len(names) == len(set(names))
        assert [link for link in links if link.startswith("#") and link[1:] not in names] == []
        outside = [link for link in links if not link.startswith("#")]
        assert all(re.match(r"https://arxiv\.org/abs/[\d.]+$", link) for link in outside)
        images = tab.evaluate("[...document.images].map(image => [image.alt, image.naturalWidth])")
        assert all(alt and width > 0 for alt, width in images)
        assert len(images) == (len(WORDS["figures"]) if name == "index.html" else 0)


def test_the_pages_tell_times_machines_and_parameters_and_what_differs(visit, reports):
    tab, text = visit(), (reports / "index.html").read_text()
    times = tab.locator("#environment").text_content()
    assert "3723" in times and "a GPU" in times and "torch" in times and "secret" not in text
    rows = tab.locator("#parameters-of-all tbody tr")
    assert rows.count() == (reports / "parameters.md").read_text().count("\n| ") - 1
    found = json.loads((reports / "verification.json").read_text())
    other = visit("verification.html")
    assert found["conclusion"] in other.locator("main").text_content()
    assert other.locator("table").first.locator("tbody tr").count() == len(register.REGISTER)
    assert "device" in other.locator("table").last.text_content()


def test_picture_and_findings_come_first_then_verdicts(visit, claims):
    tab = visit()
    headings = tab.locator("main h2").all_text_contents()
    assert headings[:3] == ["Findings", "Ask for a face", "Verdicts"]
    picture, heading = (tab.locator(one).first.bounding_box()["y"] for one in ("img", "h2"))
    assert picture < heading < 1200
    rows = tab.locator(".findings tbody tr").all_text_contents()
    for text, one in zip(rows, findings(claims), strict=True):
        assert all(part in text for part in (one.question, one.sentence, one.verdict, *one.levels))
    places, lines = pages.by_claim(claims)
    assert len(places) == 6
    rows = tab.locator("table").nth(1).locator("tbody tr").all()
    for row, line in zip(rows, lines, strict=True):
        assert row.locator("a").first.get_attribute("href") == f"#{line['id']}"
        asked = [one and one["verdict"] + pages.reservations(one) for one in line["verdicts"]]
        assert row.locator("td").all_text_contents()[2:] == [text or "" for text in asked]


def test_a_claim_shows_verdict_figure_and_cells_and_folds_the_rest(visit, claims):
    tab = visit()
    for name in WORDS["claims"]:
        own = [claim for claim in claims if claim["id"] == name]
        section = tab.locator(f"section:has(> #{name})").last
        fold, shown = section.locator("> details.fold"), "not(.fold *)"
        labels = fold.locator("dt").all_text_contents()
        compared = "What is compared" if own[0]["cells"] else "Reproduced when"
        first = ["Definition (our reconstruction)", compared]
        assert labels == [*first, "Controls", "Caveats", "Made by"]
        assert fold.get_attribute("open") is None
        assert own[0]["criterion"] in fold.text_content()
        given = section.locator(f"span[data-verdict]:{shown}").all_text_contents()
        assert given == [claim["verdict"] for claim in own]
        figures = "img{0}, a[href^='#figure-']{0}, p:has-text('See the figure of'){0}"
        assert section.locator(figures.format(f":{shown}")).count() == 1
        links = section.locator(figures.format("")).count()
        assert links == len(WORDS["claims"][name]["figures"])
        levels = section.locator(f"td:nth-child(3):{shown}").all_text_contents()
        for claim, text in zip(own if own[0]["cells"] else [], levels, strict=True):
            judged = (one for one in claim["cells"] if one["state"] != "not judged")
            first = next(judged, claim["cells"][0])
            metric = first["factors"]["metric"]
            assert all(pages.level(arm, metric) in text for arm in first["levels"])
        states = fold.locator("> table td:nth-child(4)").all_text_contents()
        cells = [one["state"] for claim in own for one in claim["cells"]]
        assert [text.partition("matters")[0] for text in states] == cells


def width(tab):
    return tab.evaluate("document.documentElement.scrollWidth")


def test_the_folded_page_is_short_and_nothing_is_cut(visit):
    """At the width of a small window and of a phone: no column, figure or link lies outside."""
    reach = """[...document.querySelectorAll('td, th, img, nav a')]
        .map(e => e.getBoundingClientRect().right).reduce((a, b) => Math.max(a, b), 0)"""
    hidden = """[...document.querySelectorAll('main *, nav')].filter(e => e.checkVisibility() &&
        getComputedStyle(e).overflowX !== 'visible' && e.scrollWidth > e.clientWidth).length"""
    for pixels in (390, 1100):
        tab = visit(viewport={"width": pixels, "height": 900})
        assert max(width(tab), tab.evaluate(reach)) <= pixels and tab.evaluate(hidden) == 0
    assert tab.evaluate("document.documentElement.scrollHeight") <= 25_000


def test_a_figure_is_enlarged_on_a_phone(visit):
    """By a tap or by keyboard; then it scrolls by itself, not the page."""
    tab = visit(viewport={"width": 390, "height": 900})
    figure, image = tab.locator(".wide").first, tab.locator("img").first
    assert image.bounding_box()["width"] < 390
    figure.click()
    assert image.bounding_box()["width"] >= 700 and width(tab) <= 390


def contrasts(tab):
    """Luminance contrast (WCAG 2) of every verdict, every link and the text, each on its ground."""
    return tab.evaluate("""() => {
        const rgb = colour => colour.match(/[\\d.]+/g).map(Number);
        const light = colour => rgb(colour).slice(0, 3).map(v => v / 255)
            .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
            .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
        const own = e => getComputedStyle(e).backgroundColor;
        const ground = e => rgb(own(e))[3] === 0 ? ground(e.parentElement) : own(e);
        const read = 'p, li, dt, th, td, a, small, summary, figcaption, span[data-verdict], nav a';
        return [...document.querySelectorAll(read)].map(e => {
            const pair = [light(getComputedStyle(e).color), light(ground(e))];
            return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
        });
    }""")


def test_the_page_is_readable_on_a_phone_and_in_the_dark(visit):
    grounds, phone = set(), {"width": 360, "height": 800}
    for scheme in ("light", "dark"):
        tab = visit(viewport=phone, color_scheme=scheme)
        tab.evaluate("document.querySelectorAll('details').forEach(e => { e.open = true; })")
        assert width(tab) <= 360 and min(contrasts(tab)) >= 4.5
        grounds.add(tab.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(grounds) == 2 and width(visit("verification.html", viewport=phone)) <= 360


def test_the_page_prints_whole(visit):
    """Unfolded, no figure cut: none is higher than a page of A4."""
    paper = visit(viewport={"width": 673, "height": 1002})  # A4 less margins, at 96 dots an inch
    paper.emulate_media(media="print", color_scheme="light")
    assert paper.evaluate("getComputedStyle(document.querySelector('header')).display") == "none"
    shown = "[...document.querySelectorAll('.fold *:last-child')].some(e => !e.checkVisibility())"
    assert not paper.evaluate(shown)
    figures = paper.evaluate(
        "[...document.querySelectorAll('figure')].map(e => [e.getBoundingClientRect().height,"
        " e.querySelector('img').getBoundingClientRect().right,"
        " getComputedStyle(e).breakInside])"
    )
    assert {inside for *_, inside in figures} == {"avoid"}
    assert max(height for height, *_ in figures) <= 1002 and max(f[1] for f in figures) <= 673
    assert len(re.findall(rb"/Type\s*/Page\b", paper.pdf(format="A4"))) > len(WORDS["stages"])
