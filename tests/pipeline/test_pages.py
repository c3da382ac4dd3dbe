"""The report's words fit the register, and its page works in a real browser, without asking for
anything.
"""

import ast
import json
import math
import re
import shutil

import nbformat
import pytest
import yaml

from gmmdiff.judging import register, rule as verdicts
from gmmdiff.judging.findings import findings
from gmmdiff.pipeline import (
    ask_for_a_face,
    pages,
    publishing,
    results as notebook,
    runner,
    verification,
)
from gmmdiff.pipeline.execution.errors import BadInput
from tests.paths import PUBLISHED, ROOT

WORDS = yaml.safe_load((pages.TEMPLATE / "claims.yaml").read_text())


def texts(value):
    """All leaves of the words."""
    if isinstance(value, dict | list):
        return [
            leaf
            for part in (value.values() if isinstance(value, dict) else value)
            for leaf in texts(part)
        ]
    return [value]


def test_words_fit_the_register():
    assert list(WORDS["claims"]) == list(dict.fromkeys(claim.id for claim in register.REGISTER))
    assert list(WORDS["stages"]) == list(dict.fromkeys(claim.stage for claim in register.REGISTER))
    parts = {"definition", "rests_on", "number", "figures", "controls", "caveats"}
    assert all(
        set(words) == parts and words["figures"] and words["caveats"]
        for words in WORDS["claims"].values()
    )
    assert all(isinstance(text, str) and text.strip() for text in texts(WORDS))


def test_every_figure_and_definition_named_exists_and_is_used():
    shown = {name for words in WORDS["claims"].values() for name in words["figures"]} | set(
        WORDS["ground"]
    )
    folders = [PUBLISHED / "figures" / stage for stage in WORDS["stages"]]
    made = {
        path.relative_to(PUBLISHED / "figures").with_suffix("").as_posix()
        for folder in folders
        for path in folder.glob("*.png")
    }
    assert shown == set(WORDS["figures"]) == made
    assert {name for words in WORDS["claims"].values() for name in words["rests_on"]} == set(
        WORDS["definitions"]
    )


def test_details_become_lists_where_they_list():
    details = "Difference (IQM; 10 seeds): a, n 5: -0.1 [-0.2, +0.0]; b: 2; c: 3. "
    details += "Two: x; y. At 1.5 % it ends."
    assert pages.itemised(details).splitlines() == [
        "- Difference (IQM; 10 seeds):",
        "  - a, n 5: -0.1 [-0.2,\u00a0+0.0]",
        "  - b: 2",
        "  - c: 3",
        "- Two: x; y.",
        "- At 1.5 % it ends.",
    ]


def cell(estimate, low, high, metric="defect", state="negligible", **factors):
    ends = {"estimate": estimate, "low": low, "high": high}
    delta = verdicts.DELTA[metric]
    return {"factors": {"metric": metric} | factors, **ends, "delta": delta, "state": state}


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (cell(0.0652841, 0.0500201, 0.084737), "+6.5 [+5.0,\u00a0+8.5] points"),
        (cell(-0.45298, -0.46392, -0.434517), "−45.3 [−46.4,\u00a0−43.5] points"),
        (cell(-0.0009, -0.0031, 0.0022), "−0.09 [−0.31,\u00a0+0.22] points"),
        (cell(0.98, 0.785, 0.998), "+98 [+78,\u00a0+100] points"),
        (cell(-0.00001, -0.002, 0.002), "0.00 [−0.20,\u00a0+0.20] points"),
        (cell(0.0, 0.0, 0.0), "0.0 [0.0,\u00a00.0] points"),
        (
            cell(math.log(0.3), math.log(0.258), math.log(0.333), "variation"),
            "0.300 [0.258,\u00a00.333] times",
        ),
    ],
)
def test_a_difference_has_its_unit_and_as_many_digits_as_its_interval_allows(found, told):
    assert pages.difference(found) == told


def test_a_cell_is_told_with_both_levels():
    rate, law = cell(-0.006, -0.008, 0.001, "spike_rate", lam=10.0), cell(0.1, 0, 0.2, "law")
    assert pages.setting(rate) == "spike rate: lambda 10"
    assert (pages.least(rate), pages.least(law)) == ("1 points", "1.1 times")
    arm = {"arm": "class", "estimate": 0.0412, "low": 0.0361, "high": 0.0444}
    assert pages.level(arm, rate) == "4.1 % [3.6,\u00a04.4]"
    assert pages.level(arm | {"high": None}, law) == "0.041 [0.036,\u00a0?]"
    made = cell(0, 0, 0, contrast="mixture against point", group="rare", granularity="class")
    assert pages.setting(made) == "defect, rare: mixture against point, class"
    claim = {"cells": [cell(0, 0, 0, state=one) for one in ("leans", "holds", "leans")]}
    assert pages.states(claim) == "2 leans, 1 holds"


def test_what_is_not_firm_follows_its_verdict():
    firm = {"rival_verdict": None, "undertrained": False}
    assert pages.reservations(firm) == ""
    soft = {"rival_verdict": "partly", "undertrained": True}
    assert pages.reservations(soft) == ", fragile (partly), undertrained"


def test_markdown_becomes_html():
    html = pages.to_html(
        "## A *new* part\n\n$\\alpha_t$ [book](x.ipynb) [drawing](../figures/a.png) "
        "[up](#T1) [out](https://a.b/c)\n"
    )
    assert (
        '<h2 id="a-new-part">A <em>new</em> part</h2>' in html
        and "<math" in html
        and "$" not in html
    )
    assert re.findall(r'href="([^"]*)"', html) == ["#T1", "https://a.b/c"]
    assert "book drawing <a" in html, "what a page alone cannot reach is text"


def test_durations_and_missing_records(tmp_path):
    assert [pages.duration(s) for s in (0.44, 59.9, 63.4, 3723)] == [
        "0.4 s",
        "1 min 0 s",
        "1 min 3 s",
        "62 min 3 s",
    ]
    with pytest.raises(BadInput, match=r"report.ipynb: no such file; run `dvc repro` first"):
        pages.report_page(tmp_path)


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """The report as the pipeline makes it, from the published tables: executed in a real kernel,
    then rendered.
    """
    folder = tmp_path_factory.mktemp("report")
    for part in ("tables", "figures", "notebooks", "denoisers", "environment"):
        shutil.copytree(PUBLISHED / part, folder / "reports" / part)
    ask_for_a_face.make(ROOT / "params.yaml", folder / "reports")
    (folder / "params.yaml").write_text("report: {}")
    command = [
        str(ROOT / "notebooks" / "04_report.ipynb"),
        "report",
        "--params",
        str(folder / "params.yaml"),
    ]
    assert runner.main([*command, "--reports", str(folder / "reports")]) == 0
    record = folder / "reports" / "environment" / "theory_checks.json"
    record.write_text(
        json.dumps(
            json.loads(record.read_text())
            | {"device": "a GPU", "seconds": 3723, "host": "secret", "platform": "secret"}
        )
    )
    publishing.write_pages(folder / "reports", PUBLISHED, ROOT / "params.yaml")
    return folder / "reports"


def test_the_report_judges_the_published_tables(reports):
    found = json.loads((reports / "claims.json").read_text())
    assert found == json.loads((PUBLISHED / "claims.json").read_text())
    metrics = json.loads((reports / "metrics.json").read_text())
    assert list(metrics) == [verification.claim_name(claim) for claim in found]
    for claim in found:
        kept = {name: claim[name] for name in ("verdict", "estimate", "ci_low", "ci_high")}
        assert metrics[verification.claim_name(claim)] == {
            name: value for name, value in kept.items() if value is not None
        }


def test_the_notebook_holds_neither_times_nor_machines(reports):
    outputs = [
        o
        for cell in nbformat.read(reports / "notebooks" / "report.ipynb", 4).cells
        for o in cell.get("outputs", [])
    ]
    assert not [o for o in outputs if o.get("name") == "stderr"], "a cell warns"
    told = json.dumps([o.get("data", {}).get("text/markdown", "") for o in outputs])
    assert (
        told.count("<time") == len(WORDS["claims"]) == told.count(">run time: on the page</time>")
    )
    assert "processors" not in told


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
    assert [
        found for groups in sources for found in groups if found and not found.startswith("data:")
    ] == []
    assert "$" not in re.sub(r"<[^>]*>", "", page) and "<math" in page
    assert len(page) < 4e6


def test_the_page_tells_times_machines_and_parameters(reports):
    page = (reports / "index.html").read_text()
    times = dict(re.findall(r'<time data-stage="(\w+)">([^<]*)</time>', page))
    parts = [
        json.loads(path.read_text())["seconds"]
        for name in ("feature_vs_class", "faces", "digits")
        for path in (reports / "environment" / f"{name}_runs").glob("*.json")
    ]
    own = json.loads((reports / "environment" / "feature_vs_class.json").read_text())["seconds"]
    assert times["theory_checks"] == "run time 62 min 3 s"
    about = [own + sum(parts) + rest for rest in (-0.01, 0.01)]  # it may lie on half a second
    assert times["feature_vs_class"] in {
        f"run time {pages.duration(one)} in {len(parts) + 1} runs" for one in about
    }
    machines = {
        pages.machine(record) for record in notebook.run_records(reports / "environment").values()
    }
    assert (
        len(re.findall(r"On (?:cpu|a GPU|[^<]*), \d+ processors, Python", page))
        == len(machines)
        >= 2
    )
    assert "secret" not in page
    for stage in WORDS["stages"]:
        book = nbformat.read(reports / "notebooks" / f"{stage}.ipynb", 4)
        injected = next(
            cell.source
            for cell in book.cells
            if "injected-parameters" in cell.metadata.get("tags", [])
        )
        for line in ast.parse(injected).body:
            cells = (line.targets[0].id, ast.unparse(line.value))
            row = "\n  ".join(f"<td><code>{cell}</code></td>" for cell in cells)
            claims = {claim.id for claim in register.REGISTER if claim.stage == stage}
            assert page.count(row) >= len(claims), row


def test_every_link_and_image_of_every_page_is_good(visit, reports):
    for name in ("index.html", "verification.html"):
        tab = visit(name)
        links = tab.evaluate(
            "[...document.querySelectorAll('a')].map(link => link.getAttribute('href'))"
        )
        names = tab.evaluate("[...document.querySelectorAll('[id]')].map(element => element.id)")
        assert len(names) == len(set(names))
        assert [link for link in links if link.startswith("#") and link[1:] not in names] == []
        outside = [link for link in links if not link.startswith("#")]
        assert all(re.match(r"https://arxiv\.org/abs/[\d.]+$", link) for link in outside)
        images = tab.evaluate("[...document.images].map(image => [image.alt, image.naturalWidth])")
        assert all(alt and width > 0 for alt, width in images)
        assert len(images) == (len(WORDS["figures"]) if name == "index.html" else 0)


def test_the_verification_tells_what_differs(visit, reports):
    tab, found = visit("verification.html"), json.loads((reports / "verification.json").read_text())
    assert found["conclusion"] in tab.locator("main").text_content() and tab.locator(
        "table"
    ).first.locator("tbody tr").count() == len(register.REGISTER)
    assert (
        "device" in tab.locator("table").last.text_content()
        and tab.evaluate("document.documentElement.scrollWidth") <= 1280
    )


def test_picture_and_findings_come_first_then_verdicts(visit, reports):
    tab, found = visit(), json.loads((reports / "claims.json").read_text())
    headings = tab.locator("main h2").all_text_contents()
    assert headings[:3] == ["Findings", "Ask for a face", "Verdicts"]
    picture, heading = (tab.locator(one).first.bounding_box()["y"] for one in ("img", "h2"))
    assert picture < heading < 1200
    told = tab.locator(".findings tbody tr").all_text_contents()
    for text, one in zip(told, findings(found), strict=True):
        assert all(part in text for part in (one.question, one.sentence, one.verdict, *one.levels))
    rows = tab.locator("table").nth(1).locator("tbody tr")
    table = [
        (row.locator("a").first.get_attribute("href"), row.locator("td").all_text_contents()[2:])
        for row in rows.all()
    ]
    places, lines = pages.by_claim(found)
    asked = [one for row in lines for one in row["verdicts"] if one]
    assert len(places) == 6 and len(asked) == len(found)
    assert table == [
        (
            f"#{row['id']}",
            [one["verdict"] + pages.reservations(one) if one else "" for one in row["verdicts"]],
        )
        for row in lines
    ]


def test_a_claim_shows_verdict_figure_and_cells_and_folds_the_rest(visit, reports):
    tab, found = visit(), json.loads((reports / "claims.json").read_text())
    for name in WORDS["claims"]:
        claims = [claim for claim in found if claim["id"] == name]
        section = tab.locator(f"section:has(> #{name})").last
        fold, shown = section.locator("> details.fold"), "not(.fold *)"
        labels = fold.locator("dt").all_text_contents()
        assert fold.get_attribute("open") is None and labels == [
            "Definition (our reconstruction)",
            "What is compared" if claims[0]["cells"] else "Reproduced when",
            "Controls",
            "Caveats",
            "Made by",
        ]
        folded = fold.text_content()
        assert claims[0]["criterion"] in folded and f"dvc repro {claims[0]['stage']}" in folded
        given = section.locator(f"span[data-verdict]:{shown}").all_text_contents()
        assert given == [claim["verdict"] for claim in claims]
        figures = "img{0}, a[href^='#figure-']{0}, p:has-text('See the figure of'){0}"
        assert section.locator(figures.format(f":{shown}")).count() == 1
        links = section.locator(figures.format("")).count()
        assert links == len(WORDS["claims"][name]["figures"])
        levels = section.locator(f"td:nth-child(3):{shown}").all_text_contents()
        assert len(levels) == (len(claims) if claims[0]["cells"] else 0)
        for claim, text in zip(claims, levels, strict=False):
            judged = (one for one in claim["cells"] if one["state"] != "not judged")
            first = next(judged, claim["cells"][0])
            assert all(pages.level(arm, first) in text for arm in first["levels"])
        cells = [cell for claim in claims for cell in claim["cells"]]
        states = fold.locator("> table td:nth-child(4)").all_text_contents()
        assert [text.partition("matters")[0] for text in states] == [one["state"] for one in cells]
        assert claims[0]["statement"] in section.text_content()
        assert tab.locator(f"nav a[href='#{name}']").get_attribute(
            "data-verdict"
        ) == pages.together(claims)


def test_the_folded_page_is_short_and_nothing_is_cut(visit):
    """At the width of a small window and of a phone: no column, figure or link lies outside."""
    reach = """[...document.querySelectorAll('td, th, img, nav a')]
        .map(e => e.getBoundingClientRect().right).reduce((a, b) => Math.max(a, b), 0)"""
    for width in (390, 1100):
        tab = visit(viewport={"width": width, "height": 900})
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert tab.evaluate(reach) <= width
        hidden = "[...document.querySelectorAll('main *, nav')].filter(e => e.checkVisibility() && "
        hidden += "getComputedStyle(e).overflowX !== 'visible' && e.scrollWidth > e.clientWidth)"
        assert tab.evaluate(f"{hidden}.length") == 0
    assert tab.evaluate("document.documentElement.scrollHeight") <= 25_000


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
    ground = "getComputedStyle(document.body).backgroundColor"
    tabs = {
        scheme: visit(viewport={"width": 360, "height": 800}, color_scheme=scheme)
        for scheme in ("light", "dark")
    }
    for tab in tabs.values():
        tab.evaluate("document.querySelectorAll('details').forEach(e => { e.open = true; })")
        assert tab.evaluate("document.documentElement.scrollWidth") <= 360
        assert min(contrasts(tab)) >= 4.5
    assert tabs["light"].evaluate(ground) != tabs["dark"].evaluate(ground)
    narrow = visit("verification.html", viewport={"width": 360, "height": 800})
    assert narrow.evaluate("document.documentElement.scrollWidth") <= 360


def test_the_page_prints_whole(visit):
    """Unfolded, a stage's parameters once, no figure cut: none is higher than a page of A4."""
    paper = visit(viewport={"width": 673, "height": 1002})  # A4 less margins, at 96 dots an inch
    paper.emulate_media(media="print", color_scheme="light")
    assert paper.evaluate("getComputedStyle(document.querySelector('header')).display") == "none"
    shown = "[...document.querySelectorAll('{}')].filter(e => e.checkVisibility()).length"
    folded = len(WORDS["claims"]) + 1  # the definitions too
    assert paper.evaluate(shown.format(".fold dl:last-of-type")) == folded
    assert paper.evaluate(shown.format(".parameters")) == len(WORDS["stages"])
    figures = paper.evaluate(
        "[...document.querySelectorAll('figure')].map(e => [e.getBoundingClientRect().height,"
        " e.querySelector('img').getBoundingClientRect().right,"
        " getComputedStyle(e).breakInside])"
    )
    assert {inside for *_, inside in figures} == {"avoid"}
    assert max(height for height, *_ in figures) <= 1002 and max(f[1] for f in figures) <= 673
    assert len(re.findall(rb"/Type\s*/Page\b", paper.pdf(format="A4"))) > len(WORDS["stages"])
