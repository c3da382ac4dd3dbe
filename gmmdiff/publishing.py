"""The report page, the committed snapshot in reports/published, and the README's table.

    python -m gmmdiff.publishing publish    copies what `dvc repro` made, unless dvc.lock is stale
    python -m gmmdiff.publishing compare    this machine's verdicts beside the published ones
"""

from __future__ import annotations

import argparse
import hashlib
import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import nbformat

from gmmdiff.execution import BadInput, exit_code

REPORTS = Path("reports")
PUBLISHED = REPORTS / "published"
PARTS = ("index.html", "claims.json", "tables", "figures", "notebooks", "environment")
MACHINE = ("environment", "soak.csv")  # what tells of a machine, outside byte-identity
MARKERS = ("<!-- claims: written by the pipeline -->", "<!-- end of claims -->")
TEMPLATE = Path(__file__).parents[1] / "notebooks" / "report_template"


# ---- the page -----------------------------------------------------------------------------------------------


def formulas_to_mathml(markdown: str) -> str:
    """Replaces $...$ by MathML, which browsers show without any script."""
    from latex2mathml.converter import convert

    return re.sub(r"\$([^$\n]+)\$", lambda found: convert(found.group(1)), markdown)


def render(notebook: Path, page: Path) -> None:
    """One self-contained HTML page of an executed notebook: no code, no scripts, nothing from outside."""
    from nbconvert import HTMLExporter

    content = nbformat.read(notebook, 4)
    for cell in content.cells:
        if cell.cell_type == "markdown":
            cell.source = formulas_to_mathml(cell.source)
        for output in cell.get("outputs", []):
            if "text/markdown" in output.get("data", {}):
                output["data"]["text/markdown"] = formulas_to_mathml(output["data"]["text/markdown"])
    exporter = HTMLExporter(
        extra_template_basedirs=[str(TEMPLATE.parent)], template_name=TEMPLATE.name, exclude_input=True,
        exclude_input_prompt=True, exclude_output_prompt=True, exclude_anchor_links=True,
    )  # fmt: skip
    page.write_text(exporter.from_notebook_node(content)[0])


# ---- the table of claims ------------------------------------------------------------------------------------


def claims_table(claims: list[dict[str, Any]]) -> str:
    """The claims as a Markdown table."""
    marks = {"reproduced": "✓", "partly": "◐", "not reproduced": "✗", "inconclusive": "?"}
    lines = ["| | Claim | Verdict | What was measured |", "|---|---|---|---|"]
    lines += [
        f"| {c['id']} | {c['statement']} | {marks[c['verdict']]} **{c['verdict']}** | {html.escape(c['details'], quote=False)} |"
        for c in claims
    ]
    return "\n".join(lines)


def write_between_markers(text: str, table: str) -> str:
    """The README's text with the table between its two markers.

    Raises:
        BadInput: when a marker is missing.
    """
    start, end = (text.find(marker) for marker in MARKERS)
    if not 0 <= start < end:
        raise BadInput(f"README.md: the markers {MARKERS[0]} and {MARKERS[1]} must stand there, in this order")
    return f"{text[: start + len(MARKERS[0])]}\n{table}\n{text[end:]}"


# ---- the snapshot -------------------------------------------------------------------------------------------


def digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def snapshot_files(folder: Path) -> dict[str, str]:
    """Path and SHA-256 of every file of a snapshot but its manifest and the records of the machine."""
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {str(path): digest(folder / path) for path in files if path.parts[0] not in ("manifest.json", *MACHINE)}


def stale_stages() -> dict[str, Any]:
    """What `dvc status` finds changed since dvc.lock was written; empty when nothing is."""
    found = subprocess.run(["dvc", "status", "--json"], capture_output=True, text=True, check=False)
    if found.returncode:
        raise BadInput(f"dvc status failed: {found.stderr.strip().splitlines()[-1]}")
    return json.loads(found.stdout or "{}")


def publish() -> None:
    """Copies the parts of reports/ to reports/published/, writes its manifest and the README's table.

    What else is there, the table of `make soak`, stays.

    Raises:
        BadInput: when dvc.lock is stale or a part is missing; the earlier snapshot is untouched.
    """
    if stale := stale_stages():
        raise BadInput(f"dvc.lock is stale, run `dvc repro` first; changed: {', '.join(stale)}")
    if missing := [part for part in PARTS if not (REPORTS / part).exists()]:
        raise BadInput(f"reports: missing {', '.join(missing)}; run `dvc repro` first")
    claims = json.loads((REPORTS / "claims.json").read_text())
    readme = write_between_markers(Path("README.md").read_text(), claims_table(claims))
    PUBLISHED.mkdir(exist_ok=True)
    for part in PARTS:
        source, target = REPORTS / part, PUBLISHED / part
        if source.is_dir():
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, target)
        else:
            shutil.copy2(source, target)
    manifest = {"dvc.lock": digest(Path("dvc.lock")), "files": snapshot_files(PUBLISHED)}
    (PUBLISHED / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    Path("README.md").write_text(readme)
    print(f"published {len(manifest['files'])} files to {PUBLISHED}")


def compare(here: Path = REPORTS, there: Path = PUBLISHED) -> int:
    """Prints every claim's verdict here beside the published one; returns 1 when one differs, else 0."""
    for path in (here / "claims.json", there / "claims.json"):
        if not path.is_file():
            raise BadInput(f"{path}: no such file; run `dvc repro` first")
    ours, published = ({c["id"]: c for c in json.loads((p / "claims.json").read_text())} for p in (here, there))
    differing = [id for id in published if id not in ours or ours[id]["verdict"] != published[id]["verdict"]]
    print(f"\n{'claim':6} {'here':15} {'published':15} statement")
    for id, claim in published.items():
        verdict = ours[id]["verdict"] if id in ours else "missing"
        print(f"{id:6} {verdict:15} {claim['verdict']:15} {claim['statement']}")
    made = {path: digest(here / path) for path in snapshot_files(there) if (here / path).is_file()}
    same = sum(made.get(path) == value for path, value in snapshot_files(there).items())
    print(f"\n{same} of {len(snapshot_files(there))} files are byte-identical to the published ones.")
    print(f"verdicts that differ: {', '.join(differing) or 'none'}; the report is {here / 'index.html'}")
    return 1 if differing else 0


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code: 1 where a verdict differs, else as ``execution.exit_code``."""
    parser = argparse.ArgumentParser(prog="gmmdiff.publishing", description=__doc__.split("\n")[0])
    parser.add_argument("action", choices=["publish", "compare"])
    actions = {"publish": publish, "compare": compare}
    return exit_code(actions[parser.parse_args(arguments).action])


if __name__ == "__main__":
    raise SystemExit(main())
