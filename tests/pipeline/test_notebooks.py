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
    cells = nbformat.read(path, 4).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def lead_nowhere(path, text):
    """The relative links of a notebook's Markdown that lead to no file."""
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text)]
    return [x for x in links if not x.startswith("http") and not (path.parent / x).exists()]


@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_a_notebook_explains_itself(path):
    """Contents lead to every part, links and claims served lead somewhere, and parameters tell
    their meaning and range.
    """
    text = markdown(path)
    assert text.startswith("# ") and lead_nowhere(path, text) == []
    headings = [h.replace(" ", "-") for h in re.findall(r"^## (.*)", text, re.M)]
    linked = re.findall(r"\]\(#([^)\s]+)\)", text.partition("\n## ")[0])
    numbered = [heading for heading in headings if re.match(r"\d\.", heading)]
    assert linked == numbered if numbered else set(linked) <= set(headings)
    if served := SERVES.get(path.stem.partition("_")[0]):
        linked = re.findall(r"\[(\w\d\w?)\]\(\.\./reports/published/index\.html#\1\)", text)
        asked = dict.fromkeys(claim.id for claim in register.REGISTER)
        assert sorted(linked) == [name for name in asked if name.startswith(served)]
    for name, parameter in declared_parameters(path).items():
        limited = parameter.allowed.startswith(("in ", "one of "))
        assert len(parameter.meaning) > 5, name
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
    assert outputs and all(data["image/png"] for data in outputs if "image/png" in data)
    for text in texts:
        formulas = re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.S)
        assert formulas.count("$") % 2 == 0 and "\\(" not in formulas and "\\[" not in formulas
        assert "![" not in formulas and lead_nowhere(path, text) == []
    pages = [data["text/html"] for data in outputs if "text/html" in data]
    assert not [text for text in [*texts, *pages] if re.search(r"<(script|iframe|link)\b", text)]
