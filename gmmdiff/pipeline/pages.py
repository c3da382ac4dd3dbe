"""The report as a web page, and the Markdown of which its notebook is made.

The executed notebook reports/notebooks/report.ipynb becomes reports/index.html: one file that asks
for nothing from outside, and whose one script lets a reader ask for a face.  What may differ
between two runs of the same numbers, run times and machines, is read from reports/environment and
stands in the page alone.  Words, templates and stylesheet are those of notebooks/report_template.
"""

from __future__ import annotations

import base64
import html
import io
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # and imported where they are used: the notebook needs none of them
    import mistune
    import nbformat
from gmmdiff.judging.claims import cell_name, in_units
from gmmdiff.judging.findings import amount, findings
from gmmdiff.judging.rule import RATIOS
from gmmdiff.pipeline.execution.errors import BadInput
from gmmdiff.pipeline.snapshot import run_records
from gmmdiff.pipeline.verification import ABSOLUTE, RELATIVE

TEMPLATE = Path(__file__).parents[2] / "notebooks" / "report_template"
FIGURES = "<!-- figures -->"  # where they go in a claim's text: the one that decides, the others
FOLD = re.compile(r"<!-- fold: (.*?) -->(.*?)<!-- end of fold -->", re.S)
# Whose parts, called NAME_runs/PART, a stage joins beside its own.
PARTS_OF = {"feature_vs_class": ("faces", "digits"), "ngmg_stability": ("ngmg_faces",)}


def _render(template: str, **values: Any) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = Environment(
        loader=FileSystemLoader(TEMPLATE),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=lambda name: name.endswith(".html.j2"),
    )
    words = (itemised, duration, reservations, together, states, setting, level, difference, least)
    templates.filters |= {word.__name__: word for word in words}
    return templates.get_template(template).render(values)


def itemised(details: str) -> str:
    """What was measured as a list: an item a sentence; three or more parts after a colon are items
    of their own.
    """
    lines = []
    # An interval stays on its line.
    details = re.sub(r"\[(\S+), (\S+)\]", "[\\1,\u00a0\\2]", details)
    for sentence in re.split(r"(?<=\.) (?=[A-Z])", details):
        lead, _, rest = sentence.partition(": ")
        parts = rest.removesuffix(".").split("; ")
        whole = len(parts) < 3
        lines += [f"- {sentence}"] if whole else [f"- {lead}:", *(f"  - {part}" for part in parts)]
    return "\n".join(lines)


def reservations(claim: Mapping[str, Any]) -> str:
    """What follows a verdict of claims.json where it is not firm: ", fragile (partly)" where
    resampled seeds often give another, ", undertrained".
    """
    rival = claim["rival_verdict"]
    fragile = f", fragile ({rival})" if rival else ""
    return fragile + (", undertrained" if claim["undertrained"] else "")


def by_claim(found: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[dict[str, Any]]]:
    """The places where claims are asked, and one row a claim: id, statement, whether it
    is ours and not the paper's, and verdicts, the objects of claims.json by place, None where it is
    not asked.
    """
    table: dict[str, dict[str, Any]] = {}
    for claim in found:
        place = f"{claim['world']}, {claim['regime']}" if claim["world"] else "exact laws"
        table.setdefault(claim["id"], {})[place] = claim
    places = list(dict.fromkeys(place for row in table.values() for place in row))
    rows = [
        {
            "id": name,
            "statement": next(iter(row.values()))["statement"],
            "ours": next(iter(row.values()))["source"] == "ours",
            "verdicts": [row.get(place) for place in places],
        }
        for name, row in table.items()
    ]
    return places, rows


def together(claims: Sequence[Mapping[str, Any]]) -> str:
    """The verdict of one claim in all its worlds, "several" where they differ."""
    found = {claim["verdict"] for claim in claims}
    return found.pop() if len(found) == 1 else "several"


def opening(found: Sequence[Mapping[str, Any]]) -> str:
    """What was found, row by row of findings.yaml, and the verdicts at a glance: Markdown whose
    rows lead to the claims of claims.json.
    """
    places, rows = by_claim(found)
    return _render("opening.md.j2", found=found, findings=findings(found), places=places, rows=rows)


def states(claim: Mapping[str, Any]) -> str:
    """A sampled claim's cells by their states: "2 holds, 1 undecided"."""
    counts = Counter(cell["state"] for cell in claim["cells"])
    return ", ".join(f"{count} {state}" for state, count in counts.most_common())


def setting(cell: Mapping[str, Any]) -> str:
    """What is compared in a cell, and where: "defect, rare: feature against class, points"."""
    told = [cell["factors"].get(name) for name in ("metric", "group")]
    what = ", ".join(filter(None, told)).replace("_", " ")
    return f"{what}: {cell_name(cell['factors'])}"


def level(arm: Mapping[str, Any], cell: Mapping[str, Any]) -> str:
    """An arm's own level in a cell, with its interval: "4.1 % [3.6, 4.4]"."""
    metric = cell["factors"]["metric"]
    low, high = (amount(arm[end], metric).removesuffix(" %") for end in ("low", "high"))
    return f"{amount(arm['estimate'], metric)} [{low},\u00a0{high}]"


def difference(cell: Mapping[str, Any]) -> str:
    """A cell's difference with its interval, in percentage points or as a factor, with two digits
    of the interval's width: "+6.5 [+5.0, +8.5] points".
    """
    metric = cell["factors"]["metric"]
    values = [in_units(cell[end], metric) for end in ("estimate", "low", "high")]
    width = values[2] - values[1] or in_units(cell["delta"], metric)
    decimals = max(0, 1 - math.floor(math.log10(width)))
    sign, unit = ("", "times") if metric in RATIOS else ("+", "points")
    told = [f"{round(value, decimals) + 0.0:{sign}.{decimals}f}" for value in values]
    estimate, low, high = (re.sub(r"^[+-](0[.0]*)$", r"\1", one).replace("-", "−") for one in told)
    return f"{estimate} [{low},\u00a0{high}] {unit}"


def least(cell: Mapping[str, Any]) -> str:
    """The smallest difference of a cell that matters, as ``difference`` writes it."""
    metric = cell["factors"]["metric"]
    unit = "times" if metric in RATIOS else "points"
    return f"{in_units(cell['delta'], metric):.3g} {unit}"


def section(
    claims: Sequence[Mapping[str, Any]], words: Mapping[str, Any], parameters: Mapping[str, Any]
) -> list[str]:
    """One claim in all its worlds: what stands before the figure that decides it, between it and
    the others, which are folded, and behind them.

    Args:
        claims: the objects of claims.json with one id.
        words: the content of claims.yaml.
        parameters: as ``execution.parameters.used_parameters`` of the claim's stage.
    """
    prose, definitions = words["claims"][claims[0]["id"]], words["definitions"]
    text = _render(
        "claim.md.j2", claims=claims, prose=prose, definitions=definitions, parameters=parameters
    )
    return text.split(FIGURES)


def formulas_to_mathml(markdown: str) -> str:
    """Replaces $...$ by MathML, which browsers show without any script."""
    from latex2mathml.converter import convert

    return re.sub(r"\$([^$\n]+)\$", lambda found: convert(found.group(1)), markdown)


@cache
def _converter() -> mistune.Markdown:
    import mistune

    class Renderer(mistune.HTMLRenderer):
        def heading(self, text: str, level: int, **_: Any) -> str:
            name = re.sub(r"[^a-z0-9]+", "-", re.sub(r"<[^>]*>", "", text).lower()).strip("-")
            return f'<h{level} id="{name}">{text}</h{level}>\n'

        def link(self, text: str, url: str, title: str | None = None) -> str:
            # A page stands alone: files beside its notebook are out of its reach.
            reached = "://" in url or url.startswith("#")
            return super().link(text, url, title) if reached else text

    return mistune.create_markdown(renderer=Renderer(escape=False), plugins=["table"])


def to_html(markdown: str) -> str:
    """HTML of a notebook's Markdown: formulas as MathML, a name on every heading, links to files as
    text.
    """
    return _converter()(formulas_to_mathml(markdown))


def small_picture(path: Path) -> tuple[bytes, str, str]:
    """A figure as a PNG of at most 256 colours, a third of its size, its alternative text, and a
    link to the function that drew it, from reports/published/notebooks.
    """
    from PIL import Image

    figure, small = Image.open(path), io.BytesIO()
    figure.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    drawn_by, _, function = figure.text["Source"].partition("#")
    return small.getvalue(), figure.text["Description"], f"[`{function}`](../../../{drawn_by})"


def _figure(data: str, alt: str, caption: str) -> str:
    """An image in the page, without loss but smaller than its PNG."""
    from PIL import Image

    image, smaller = Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"), io.BytesIO()
    image.save(smaller, "WEBP", lossless=True)
    source = base64.b64encode(smaller.getvalue()).decode()
    size = f'width="{image.width}" height="{image.height}"'
    shown = f'<img src="data:image/webp;base64,{source}" alt="{html.escape(alt)}" {size}>'
    told = f"<figcaption>{to_html(caption)}</figcaption>"
    return f'<figure>\n<div class="wide">{shown}</div>\n{told}\n</figure>\n'


def _sections(body: str, level: int = 2) -> str:
    """Headings of levels 2 and 3, each in a section with what follows it."""
    head, *rest = re.split(rf"(?=<h{level}[ >])", body)
    return head + "".join(
        f"<section>\n{part if level == 3 else _sections(part, 3)}</section>\n" for part in rest
    )


def _shown(notebook: nbformat.NotebookNode) -> Iterator[dict[str, str]]:
    """What a notebook shows without its code, in order: each piece by its kinds, an image with its
    alternative text.
    """
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            yield {"text/markdown": cell.source}
        for output in cell.get("outputs", []):
            yield output.get("data", {}) | {
                "alt": output.get("metadata", {}).get("image/png", {}).get("alt", "")
            }


def body(notebook: nbformat.NotebookNode) -> str:
    """An executed notebook without its code.  The Markdown that follows an image is its caption."""
    parts, pieces = [], _shown(notebook)
    for piece in pieces:
        if "image/png" in piece:
            parts.append(_figure(piece["image/png"], piece["alt"], next(pieces)["text/markdown"]))
        else:
            parts.append(piece.get("text/html") or to_html(piece.get("text/markdown", "")))
    folded = r'<details class="fold">\n<summary>\1</summary>\2</details>'
    return _sections(FOLD.sub(folded, "".join(parts)))


def page(title: str, body: str, notice: str = "") -> str:
    """A whole page around its body, in the one look of all pages.

    Headings of level 2 with a name are its contents, and those of level 3 with a verdict.

    Args:
        notice: HTML of a banner across the page, if there is one.
    """
    headings = re.findall(r'<h([23]) id="([^"]+)"(?: data-verdict="([^"]+)")?>(.*?)</h\1>', body)
    contents = [
        {"id": name, "verdict": verdict, "text": html.unescape(re.sub(r"<[^>]*>", "", text))}
        for level, name, verdict, text in headings
        if level == "2" or verdict
    ]
    style = (TEMPLATE / "style.css").read_text(encoding="utf-8")
    return _render(
        "page.html.j2", title=title, body=body, contents=contents, style=style, notice=notice
    )


def duration(seconds: float) -> str:
    """63.4 -> "1 min 3 s"."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def machine(record: dict[str, Any]) -> str:
    """What a stage's record says of its machine, without the machine's name."""
    versions = ", ".join(f"{name} {version}" for name, version in record["packages"].items())
    kind = f"{record['device']}, {record['processors']} processors"
    return f"{kind}, Python {record['python']}; {versions}"


def _run_time(stage: str, found: Mapping[str, dict[str, Any]]) -> str:
    """How long a stage and its parts took together."""
    parts = tuple(f"{name}_runs/" for name in (stage, *PARTS_OF.get(stage, ())))
    mine = [
        record["seconds"]
        for name, record in found.items()
        if name == stage or name.startswith(parts)
    ]
    return (
        f"run time {duration(sum(mine))}{f' in {len(mine)} runs' if len(mine) > 1 else ''}"
        if mine
        else "run time not recorded"
    )


def ask_for_a_face(folder: Path) -> str:
    """The section in which a reader asks both denoisers for a face, HTML, from the folder of the
    stage of this name; without a script, the first combination that was held out.
    """
    told = json.loads((folder / "faces.json").read_text(encoding="utf-8"))
    image = base64.b64encode((folder / "faces.png").read_bytes()).decode()
    return _render("ask_for_a_face.html.j2", told=told, image=image)


def report_page(reports: Path, notice: str = "", faces: Path | None = None) -> str:
    """The executed report with its run times and machines, and a notice as of ``page``.

    Args:
        faces: as of ``ask_for_a_face``, a section that is left out where there is none.

    Raises:
        BadInput: when there is none.
    """
    import nbformat

    executed = reports / "notebooks" / "report.ipynb"
    if not executed.is_file():
        raise BadInput(f"{executed}: no such file; run `dvc repro` first")
    found = run_records(reports / "environment")
    listed = [
        {"stage": stage, "machine": machine(record), "seconds": record["seconds"]}
        for stage, record in found.items()
    ]
    told = re.sub(
        r'(?<=<time data-stage=")(\w+)">[^<]*',
        lambda place: f'{place.group(1)}">{_run_time(place.group(1), found)}',
        body(nbformat.read(executed, 4)),
    )
    told = told.replace(
        '<div id="environment">',
        '<div id="environment">' + to_html(_render("environment.md.j2", records=listed)),
    )
    if faces and faces.is_dir():
        verdicts = '<section>\n<h2 id="verdicts">'
        told = told.replace(verdicts, ask_for_a_face(faces) + verdicts, 1)
    return page("Does the paper hold?", told, notice)


def verification_page(found: Mapping[str, Any]) -> str:
    """This machine's results beside the published ones, from the content of
    reports/verification.json.
    """
    tolerance = {"relative": RELATIVE, "absolute": ABSOLUTE}
    return page(
        "Verification", to_html(_render("verification.md.j2", found=found, tolerance=tolerance))
    )
