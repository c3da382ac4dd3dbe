"""Every notebook explains itself: contents, parameters with meaning and range, links to the claims
it serves.
"""

import re

import nbformat
import pytest

from gmmdiff.judging import register
from gmmdiff.pipeline.parameters import declared_parameters
from tests.paths import PUBLISHED, ROOT
from tests.pipeline.small_stages import no_cell_warns

BOOKS = sorted((ROOT / "notebooks").rglob("*.ipynb"))
EXECUTED = sorted((PUBLISHED / "notebooks").rglob("*.ipynb"))
SERVES = {"01": "T", "02": "F", "02a": "F", "02b": "F", "02c": "F", "03": "N"}
SERVES |= {"03a": ("N1", "N2", "N3", "N4", "N5"), "03b": ("N1", "N2", "N4", "N5", "N6a", "N6b")}


def markdown(path):
    return "\n\n".join(
        cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "markdown"
    )


@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_contents_lead_to_every_part(path):
    text = markdown(path)
    assert text.startswith("# ")
    headings = [
        line.removeprefix("## ").replace(" ", "-")
        for line in text.splitlines()
        if line.startswith("## ")
    ]
    linked = re.findall(r"\]\(#([^)\s]+)\)", text.partition("\n## ")[0])
    numbered = [heading for heading in headings if re.match(r"\d\.", heading)]
    assert linked == numbered if numbered else set(linked) <= set(headings)


@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_links_lead_somewhere(path):
    links = [
        link
        for link in re.findall(r"\]\(([^)\s]+)\)", markdown(path))
        if not link.startswith(("http", "#"))
    ]
    assert [link for link in links if not (path.parent / link.partition("#")[0]).exists()] == []


@pytest.mark.parametrize(
    "path",
    [path for path in BOOKS if path.stem.partition("_")[0] in SERVES],
    ids=lambda path: path.stem,
)
def test_the_claims_served_are_linked(path):
    served = SERVES[path.stem.partition("_")[0]]
    linked = re.findall(r"\[(\w\d\w?)\]\(\.\./reports/published/index\.html#\1\)", markdown(path))
    asked = dict.fromkeys(claim.id for claim in register.REGISTER)
    assert sorted(linked) == [name for name in asked if name.startswith(served)]


@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_parameters_tell_their_meaning_and_range(path):
    for name, parameter in declared_parameters(path).items():
        assert len(parameter.meaning) > 5, name
        limited = parameter.allowed.startswith(("in ", "one of "))
        assert limited or parameter.type == "str" or name == "helix_starts", name


@pytest.mark.parametrize("path", EXECUTED, ids=lambda path: path.stem)
def test_an_executed_notebook_opens_on_github(path):
    """Its pictures are inside, its links lead somewhere from the snapshot, its formulas are closed
    and in dollars, and nothing is a script, which GitHub leaves out, or a warning, which has a path
    of the machine.
    """
    cells = nbformat.read(path, 4).cells
    assert no_cell_warns(path)
    outputs = [output.get("data", {}) for cell in cells for output in cell.get("outputs", [])]
    texts = [cell.source for cell in cells if cell.cell_type == "markdown"]
    texts += [data["text/markdown"] for data in outputs if "text/markdown" in data]
    pages = [data["text/html"] for data in outputs if "text/html" in data]
    assert outputs and all(data["image/png"] for data in outputs if "image/png" in data)
    links = [link for text in texts for link in re.findall(r"\]\(([^)\s]+)\)", text)]
    links = [link.partition("#")[0] for link in links if not link.startswith(("http", "#"))]
    assert [link for link in links if not (path.parent / link).exists()] == []
    for text in texts:
        formulas = re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.S)
        assert formulas.count("$") % 2 == 0 and "\\(" not in formulas and "\\[" not in formulas
        assert "![" not in formulas
    assert not [text for text in [*texts, *pages] if re.search(r"<(script|iframe|link)\b", text)]
