"""The report as a web page, and the Markdown of which its notebook is made."""

from __future__ import annotations

import base64
import html
import io
import json
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import mistune
import nbformat
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from latex2mathml.converter import convert
from PIL import Image

from gmmdiff.judging.claims import cell_name, in_units
from gmmdiff.judging.findings import amount, findings
from gmmdiff.judging.rule import RATIOS
from gmmdiff.pipeline.errors import BadInput
from gmmdiff.pipeline.parameters import NOTEBOOKS
from gmmdiff.pipeline.snapshot import OPTIONAL, run_records
from gmmdiff.pipeline.verification import ABSOLUTE, RELATIVE

TEMPLATE = NOTEBOOKS / "report_template"
FIGURES = "<!-- figures -->"  # where they go in a claim's text: the one that decides, the others
FOLD = re.compile(r"<!-- fold: (.*?) -->(.*?)<!-- end of fold -->", re.S)
CAPTION = re.compile(r'<p><span id="(figure-\d+)" data-file="(.*?)"></span>(.*?)</p>', re.S)


def render(template: str, **values: Any) -> str:
    """A template of notebooks/report_template, filled in."""
    templates = Environment(
        loader=FileSystemLoader(TEMPLATE),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=lambda name: name.endswith(".html.j2"),
    )
    words = (reservations, level, difference, cell_name, in_units)
    templates.filters |= {word.__name__: word for word in words}
    return templates.get_template(template).render(values, RATIOS=RATIOS)


def reservations(claim: Mapping[str, Any]) -> str:
    """What follows a verdict that is not firm: ", fragile (partly)", ", undertrained", or both."""
    rival = claim["rival_verdict"]
    fragile = f", fragile ({rival})" if rival else ""
    return fragile + (", undertrained" if claim["undertrained"] else "")


def level(arm: Mapping[str, Any], metric: str) -> str:
    """An arm's own level in a cell, with its interval: "4.1 % [3.6, 4.4]"."""
    low, high = (amount(arm[end], metric).removesuffix(" %") for end in ("low", "high"))
    return f"{amount(arm['estimate'], metric)} [{low},\u00a0{high}]"


def difference(cell: Mapping[str, Any]) -> str:
    """A cell's difference with its interval: "+6.5 [+5.0, +8.5] points", or "times" for a ratio."""
    metric = cell["factors"]["metric"]
    form, unit = ("#.3g", "times") if metric in RATIOS else ("+z.1f", "points")
    values = (in_units(cell[end], metric) for end in ("estimate", "low", "high"))
    estimate, low, high = (f"{value:{form}}".replace("-", "−") for value in values)
    return f"{estimate} [{low},\u00a0{high}] {unit}"


def by_claim(found: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[dict[str, Any]]]:
    """The places where claims are asked, and one row a claim: id, statement, whether it is ours,
    and verdicts, the objects of claims.json by place, None where it is not asked.
    """
    table: dict[str, dict[str, Any]] = {}
    for claim in found:
        place = f"{claim['world']}, {claim['regime']}" if claim["world"] else "exact laws"
        table.setdefault(claim["id"], {})[place] = claim
    places = list(dict.fromkeys(place for row in table.values() for place in row))
    rows = []
    for name, row in table.items():
        first = next(iter(row.values()))
        told = {"id": name, "statement": first["statement"], "ours": first["source"] == "ours"}
        rows.append(told | {"verdicts": [row.get(place) for place in places]})
    return places, rows


def opening(found: Sequence[Mapping[str, Any]]) -> str:
    """Findings and verdicts at a glance, Markdown, from the content of claims.json."""
    places, rows = by_claim(found)
    return render("opening.md.j2", found=found, findings=findings(found), places=places, rows=rows)


def section(claims: Sequence[Mapping[str, Any]], words: Mapping[str, Any]) -> list[str]:
    """One claim in all its worlds, the objects of claims.json with its id, by the words of
    claims.yaml: before the figure that decides it, between it and the others, and behind them.
    """
    prose, definitions = words["claims"][claims[0]["id"]], words["definitions"]
    text = render("claim.md.j2", claims=claims, prose=prose, definitions=definitions)
    return text.split(FIGURES)


def caption(figure: Path, number: int, words: str) -> str:
    """A figure's caption, Markdown, from which the page draws the figure too."""
    file = Path(*figure.parts[-2:]).as_posix()
    code, _, function = Image.open(figure).text["Source"].partition("#")
    drawn = f"In full: [`{file}`](../figures/{file}), drawn by [`{function}`](../../../{code})."
    span = f'<span id="figure-{number}" data-file="{file}"></span>'
    return f"{span}**Figure {number}.** {words} ({drawn})"


def times_table(folder: Path) -> str:
    """What every stage took, and on what: Markdown, from an environment folder."""
    main = run_records(folder)
    more = {stage: main.pop(stage) for stage in OPTIONAL if stage in main}
    return render("times.md.j2", main=main, more=more)


class _Renderer(mistune.HTMLRenderer):
    def heading(self, text: str, level: int, **_: Any) -> str:
        name = re.sub(r"[^a-z0-9]+", "-", re.sub(r"<[^>]*>", "", text).lower()).strip("-")
        return f'<h{level} id="{name}">{text}</h{level}>\n'

    def link(self, text: str, url: str, title: str | None = None) -> str:
        # A page stands alone: files beside its notebook are out of its reach.
        reached = "://" in url or url.startswith("#")
        return super().link(text, url, title) if reached else text

    def inline_math(self, text: str) -> str:
        return convert(text)  # MathML, which browsers show without any script


def to_html(markdown: str) -> str:
    """HTML of a notebook's Markdown, its formulas MathML and its links to files text."""
    plugins = ["table", "math"]
    return mistune.create_markdown(renderer=_Renderer(escape=False), plugins=plugins)(markdown)


def _figure(found: re.Match[str], folder: Path) -> str:
    """A figure of a folder, without loss but smaller than its PNG, and its caption, HTML."""
    image, smaller = Image.open(folder / found[2]), io.BytesIO()
    image.convert("RGB").save(smaller, "WEBP", lossless=True)
    source = base64.b64encode(smaller.getvalue()).decode()
    alt = html.escape(image.text["Description"])
    size = f'width="{image.width}" height="{image.height}"'
    shown = f'<img src="data:image/webp;base64,{source}" alt="{alt}" {size}>'
    told = f'<figcaption><p><span id="{found[1]}"></span>{found[3]}</p></figcaption>'
    return f'<figure>\n<div class="wide" tabindex="0">{shown}</div>\n{told}\n</figure>\n'


def _sections(body: str, level: int = 2) -> str:
    """Headings of levels 2 and 3, each in a section with what follows it."""
    head, *rest = re.split(rf"(?=<h{level}[ >])", body)
    return head + "".join(
        f"<section>\n{part if level == 3 else _sections(part, 3)}</section>\n" for part in rest
    )


def body(notebook: nbformat.NotebookNode, figures: Path) -> str:
    """An executed notebook without its code, HTML; every caption with its figure."""
    texts = []
    for cell in notebook.cells:
        shown = [output.get("data", {}) for output in cell.get("outputs", [])]
        texts += [cell.source] if cell.cell_type == "markdown" else []
        texts += [data.get("text/markdown") or data.get("text/html", "") for data in shown]
    whole = CAPTION.sub(partial(_figure, folder=figures), to_html("\n\n".join(texts)))
    folded = r'<details class="fold">\n<summary>\1</summary>\2</details>'
    return _sections(FOLD.sub(folded, whole))


def page(title: str, body: str, notice: str = "") -> str:
    """A whole page around its body and below a banner, if there is a notice, both HTML.

    Its contents are the headings of level 2 with a name and those of level 3 with a verdict.
    """
    headings = re.findall(r'<h([23]) id="([^"]+)"(?: data-verdict="([^"]+)")?>(.*?)</h\1>', body)
    contents = [
        {"id": name, "verdict": verdict, "text": html.unescape(re.sub(r"<[^>]*>", "", text))}
        for level, name, verdict, text in headings
        if level == "2" or verdict
    ]
    values = {"title": title, "body": body, "notice": notice, "contents": contents}
    style = (TEMPLATE / "style.css").read_text(encoding="utf-8")
    return render("page.html.j2", style=style, **values)


def ask_for_a_face(folder: Path) -> str:
    """The section in which a reader asks for a face, HTML, from the folder of that stage."""
    told = json.loads((folder / "faces.json").read_text(encoding="utf-8"))
    image = base64.b64encode((folder / "faces.png").read_bytes()).decode()
    return render("ask_for_a_face.html.j2", told=told, image=image)


def report_page(reports: Path, notice: str = "", faces: Path | None = None) -> str:
    """The executed report with its figures, run times, machines and parameters, a notice as of
    ``page``, and the section of ``ask_for_a_face`` where there is a folder ``faces``.
    """
    executed, environment = reports / "notebooks" / "report.ipynb", reports / "environment"
    if not executed.is_file():
        raise BadInput(f"{executed}: no such file; run `dvc repro` first")
    packages = (record["packages"].items() for record in run_records(environment).values())
    versions = dict.fromkeys(", ".join(" ".join(one) for one in each) for each in packages)
    machines = f"{times_table(environment)}\n\nWith {'; or with '.join(versions)}."
    parameters = reports / "parameters.md"
    listed = parameters.read_text(encoding="utf-8") if parameters.is_file() else ""
    told = body(nbformat.read(executed, 4), reports / "figures")
    beside = {"environment": machines, "parameters-of-all": listed.partition("\n")[2]}
    for name, text in beside.items():
        told = told.replace(f'id="{name}">', f'id="{name}">{to_html(text)}')
    if faces and faces.is_dir():
        verdicts = '<section>\n<h2 id="verdicts">'
        told = told.replace(verdicts, ask_for_a_face(faces) + verdicts, 1)
    return page("Does the paper hold?", told, notice)


def verification_page(found: Mapping[str, Any]) -> str:
    """This machine's results beside the published ones, from the content of verification.json."""
    tolerance = {"relative": RELATIVE, "absolute": ABSOLUTE}
    body = to_html(render("verification.md.j2", found=found, tolerance=tolerance))
    return page("Verification", body)
