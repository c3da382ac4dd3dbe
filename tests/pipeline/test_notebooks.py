"""Every notebook explains itself: contents, parameters with meaning and range, links to the claims
it serves.
"""

import re

import nbformat
import pytest

from gmmdiff.pipeline.execution.parameters import declared_parameters
from gmmdiff.study import register
from tests.paths import ROOT

BOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
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
    for name, entry in declared_parameters(path).items():
        meaning, _, allowed = entry["help"].partition("; ")
        assert len(meaning) > 5, name
        assert (
            allowed.startswith(("in ", "one of "))
            or entry["inferred_type_name"] == "str"
            or name == "helix_starts"
        ), name
