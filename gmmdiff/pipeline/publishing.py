"""The pages, the committed snapshot, and what README.md and REPRODUCING.md show of it.

``python -m gmmdiff.pipeline.publishing ACTION``, where ACTION is

- ``pages``: renders the report and the verification, as the pipeline's last stage;
- ``publish``: copies what `dvc repro` made to reports/published, unless dvc.lock is stale;
- ``compare``: prints how this machine's results stand beside the published ones.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gmmdiff.judging.findings import findings
from gmmdiff.pipeline import pages
from gmmdiff.pipeline.comparing import show, verify
from gmmdiff.pipeline.execution.errors import BadInput, exit_code
from gmmdiff.pipeline.execution.parameters import PARAMS, REPORTS
from gmmdiff.pipeline.snapshot import (
    FACES,
    PARTS,
    PUBLISHED,
    copy_results,
    run_records,
    write_manifest,
)

MARKS = {
    "reproduced": "✓",
    "partly": "◐",
    "no effect": "=",
    "mixed": "±",
    "reversed": "⇄",
    "not reproduced": "✗",
    "inconclusive": "?",
}
LEFT_OUT = ("in_your_own_model",)  # notebooks/longer, a pipeline of its own


def _verdict(verdict: str, claims: Sequence[Mapping[str, Any]]) -> str:
    """With its mark, and what is not firm of it."""
    told = dict.fromkeys(pages.reservations(claim) for claim in claims)
    return f"{MARKS[verdict]} {verdict}{''.join(told)}"


def findings_table(claims: Sequence[Mapping[str, Any]]) -> str:
    """The sentences worth quoting, and a row a finding with both arms' own levels: Markdown whose
    links lead to the rows of ``claims_table``.
    """
    found = findings(claims)
    lines = [f"- {one.sentence}" for one in found if one.headline]
    lines += [
        "",
        "| Question | Where | Level | Beside it | Verdict | Claim |",
        "|---|---|---|---|---|---|",
    ]
    for one in found:
        levels = [*one.levels, "", ""][:2]
        names = [f"[{c['id']}](#{c['id']})" if c["world"] else c["id"] for c in one.claims]
        told = [one.question, one.where, *levels, _verdict(one.verdict, one.claims)]
        lines.append(f"| {' | '.join([*told, ', '.join(names)])} |")
    return "\n".join(lines)


def claims_table(claims: Sequence[Mapping[str, Any]]) -> str:
    """The verdicts of what is asked in worlds, a row a claim and a column a world and regime, as a
    Markdown table whose rows have the claims' names.
    """
    places, rows = pages.by_claim([claim for claim in claims if claim["world"]])
    lines = [f"| Id | Claim | {' | '.join(places)} |", f"|---|---|{'---|' * len(places)}"]
    for row in rows:
        told = [_verdict(one["verdict"], [one]) if one else "" for one in row["verdicts"]]
        name = f'<a id="{row["id"]}"></a>{row["id"]}{", ours" if row["ours"] else ""}'
        lines.append(f"| {name} | {row['statement']} | {' | '.join(told)} |")
    return "\n".join(lines)


def _reproduced(records: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the stages that `make reproduce` runs."""
    return {stage: record for stage, record in records.items() if stage not in LEFT_OUT}


def times_table(folder: Path) -> str:
    """How long every stage took, in what memory and on what, as a Markdown table; what `make
    reproduce` leaves out stands below its sum.

    Args:
        folder: an environment folder, of which every record is a row.
    """
    records = run_records(folder)
    rows = {
        stage: f"| {stage} | {r['seconds']:.0f} | {r['memory']} | {r['device']} | "
        f"{r['processors']} |"
        for stage, r in records.items()
    }
    mine = _reproduced(records)
    total = sum(record["seconds"] for record in mine.values())
    most = max(record["memory"] for record in mine.values())
    return "\n".join(
        [
            "| Stage | Seconds | Peak memory, MiB | Device | Processors |",
            "|---|---|---|---|---|",
            *(rows[stage] for stage in mine),
            f"| **`make reproduce`** | **{total:.0f}** | **{most}** | | |",
            *(rows[stage] for stage in LEFT_OUT if stage in rows),
        ]
    )


def time_needed(folder: Path) -> str:
    """In a sentence how long the stages of `make reproduce` took, and in what memory.

    Args:
        folder: an environment folder.
    """
    mine = _reproduced(run_records(folder)).values()
    minutes = sum(record["seconds"] for record in mine) / 60
    most = max(record["memory"] for record in mine) / 1024
    where = {f"{r['processors']} processors, device {r['device']}" for r in mine}
    return (
        f"The stages of `make reproduce` took {minutes:.0f} minutes and at most {most:.1f} GiB of "
        f"memory where it was published ({' or '.join(sorted(where))})."
    )


def between_markers(file: Path, parts: Mapping[str, str]) -> str:
    """The file's text with every part between the two markers of its name.

    Raises:
        BadInput: when a marker is missing.
    """
    text = file.read_text(encoding="utf-8")
    for name, part in parts.items():
        markers = (f"<!-- {name}: written by the pipeline -->", f"<!-- end of {name} -->")
        start, end = (text.find(marker) for marker in markers)
        if not 0 <= start < end:
            raise BadInput(
                f"{file}: the markers {markers[0]} and {markers[1]} must stand there, in this order"
            )
        text = f"{text[: start + len(markers[0])]}\n{part}\n{text[end:]}"
    return text


def readme_parts(reports: Path) -> dict[str, str]:
    """What README.md says of the results in a folder, by the names of its markers."""
    claims = json.loads((reports / "claims.json").read_text(encoding="utf-8"))
    return {
        "findings": findings_table(claims),
        "claims": claims_table(claims),
        "time": time_needed(reports / "environment"),
    }


def _dvc(*command: str) -> str:
    """What a command of DVC prints."""
    found = subprocess.run(["dvc", *command], capture_output=True, text=True, check=False)
    if found.returncode:
        raise BadInput(f"dvc {command[0]} failed: {found.stderr.strip().splitlines()[-1]}")
    return found.stdout


def stale_stages() -> dict[str, Any]:
    """What `dvc status` finds changed since dvc.lock was written; empty when nothing is.

    The stage that always runs does not count, nor one of another pipeline, as notebooks/longer is.
    """
    found = json.loads(_dvc("status", "--json") or "{}")
    own = {stage: why for stage, why in found.items() if ":" not in stage}
    return {stage: why for stage, why in own.items() if why != ["always changed"]}


def forget_old_stages(lock: Path) -> list[str]:
    """Takes out of dvc.lock what is no stage any more: DVC keeps it. Returns the names."""
    from dvc.utils.serialize import modify_yaml

    stages = set(_dvc("stage", "list", "--name-only").split())
    with modify_yaml(lock) as content:
        old = [name for name in content["stages"] if name not in stages]
        for name in old:
            del content["stages"][name]
    return old


def publish() -> None:
    """Copies the parts of reports/ to reports/published/, writes its page, manifest and tables.

    What else is there, the table of `make soak`, stays.

    Raises:
        BadInput: when dvc.lock is stale or a part is missing; the earlier snapshot is untouched.
    """
    if stale := stale_stages():
        raise BadInput(f"dvc.lock is stale, run `dvc repro` first; changed: {', '.join(stale)}")
    if missing := [part for part in PARTS if not (REPORTS / part).exists()]:
        raise BadInput(f"reports: missing {', '.join(missing)}; run `dvc repro` first")
    if old := forget_old_stages(Path("dvc.lock")):
        print(f"dvc.lock: without {', '.join(old)}, which are no stages any more")
    readme, reproducing = Path("README.md"), Path("REPRODUCING.md")
    texts = {
        readme: between_markers(readme, readme_parts(REPORTS)),
        reproducing: between_markers(reproducing, {"times": times_table(REPORTS / "environment")}),
    }
    copy_results(REPORTS, PUBLISHED)
    shutil.copyfile(PARAMS, PUBLISHED / PARAMS.name)
    page = pages.report_page(PUBLISHED, faces=REPORTS / FACES)
    (PUBLISHED / "index.html").write_text(page, encoding="utf-8")
    files = write_manifest(PUBLISHED, Path("dvc.lock"))
    for file, text in texts.items():
        file.write_text(text, encoding="utf-8")
    print(f"published {files} files to {PUBLISHED}")


def write_pages(
    reports: Path = REPORTS, published: Path = PUBLISHED, params: Path = PARAMS
) -> None:
    """index.html, verification.json and verification.html, each written whole or left as it was."""
    found = verify(reports, published, params)
    made = {
        "index.html": pages.report_page(reports, faces=reports / FACES),
        "verification.json": json.dumps(found, indent=1) + "\n",
        "verification.html": pages.verification_page(found),
    }
    staged = reports / ".staging" / "pages"
    staged.mkdir(parents=True, exist_ok=True)
    for name, text in made.items():
        (staged / name).write_text(text, encoding="utf-8")
        os.replace(staged / name, reports / name)
    staged.rmdir()


def compare() -> int:
    """Prints what the last stage found; returns 1 when a verdict differs.

    Raises:
        BadInput: when it has not run.
    """
    path = REPORTS / "verification.json"
    if not path.is_file():
        raise BadInput(f"{path}: no such file; run `dvc repro` first")
    return show(json.loads(path.read_text(encoding="utf-8")))


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code: 1 where a verdict differs, else ``exit_code``'s."""
    parser = argparse.ArgumentParser(
        prog="gmmdiff.pipeline.publishing", description=__doc__.split("\n")[0]
    )
    parser.add_argument("action", choices=["pages", "publish", "compare"])
    actions = {"pages": write_pages, "publish": publish, "compare": compare}
    return exit_code(actions[parser.parse_args(arguments).action])


if __name__ == "__main__":
    raise SystemExit(main())
