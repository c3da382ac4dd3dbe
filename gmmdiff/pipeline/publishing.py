"""The pages, the committed snapshot, and what README.md and REPRODUCING.md show of it: one command
for the pipeline's last stage, for `make publish` and for the end of `make reproduce`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from gmmdiff.judging.findings import findings
from gmmdiff.pipeline import pages, snapshot
from gmmdiff.pipeline.errors import BadInput, exit_code
from gmmdiff.pipeline.parameters import PARAMS, REPORTS
from gmmdiff.pipeline.snapshot import FACES, OPTIONAL, PARTS, PUBLISHED
from gmmdiff.pipeline.verification import show, verify

MARKS = {
    "reproduced": "✓",
    "partly": "◐",
    "no effect": "=",
    "mixed": "±",
    "reversed": "⇄",
    "not reproduced": "✗",
    "inconclusive": "?",
}


def readme_parts(reports: Path) -> dict[str, str]:
    """What README.md says of the results in a folder, by the names of its markers."""
    claims = json.loads((reports / "claims.json").read_text(encoding="utf-8"))
    found = findings(claims)
    places, rows = pages.by_claim([claim for claim in claims if claim["world"]])
    records = snapshot.run_records(reports / "environment").items()
    main = [record for stage, record in records if stage not in OPTIONAL]
    minutes = sum(record["seconds"] for record in main) / 60
    memory = max(record["memory"] for record in main) / 1024
    where = {f"{r['processors']} processors, device {r['device']}" for r in main}
    return {
        "headlines": pages.render("headlines.md.j2", findings=found),
        "findings": pages.render("findings.md.j2", findings=found, marks=MARKS),
        "claims": pages.render("claims.md.j2", places=places, rows=rows, marks=MARKS),
        "time": f"The stages of `make reproduce` took {minutes:.0f} minutes and at most "
        f"{memory:.1f} GiB of memory where it was published ({' or '.join(sorted(where))}).",
    }


def between_markers(file: Path, parts: Mapping[str, str]) -> str:
    """The file's text with every part between the two markers of its name."""
    text = file.read_text(encoding="utf-8")
    for name, part in parts.items():
        start, end = f"<!-- {name}: written by the pipeline -->", f"<!-- end of {name} -->"
        before, begun, rest = text.partition(start)
        _, ended, after = rest.partition(end)
        if not (begun and ended):
            why = f"the markers {start} and {end} must stand there, in this order"
            raise BadInput(f"{file}: {why}")
        text = f"{before}{start}\n{part.strip()}\n{end}{after}"
    return text


def _dvc(*command: str) -> str:
    """What a command of DVC prints."""
    done = subprocess.run(["dvc", *command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BadInput(f"dvc {command[0]} failed: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout


def stale_stages() -> list[str]:
    """The stages changed since dvc.lock was written, but for ``pages``, which always runs and needs
    the snapshot that is to be replaced, and those of another pipeline, as notebooks/more is.
    """
    changed = json.loads(_dvc("status", "--json") or "{}")
    return [name for name in changed if ":" not in name and name != "pages"]


def forget_old_stages(lock: Path) -> None:
    """Takes out of dvc.lock what is no stage any more: DVC keeps it."""
    from dvc.utils.serialize import modify_yaml

    stages = _dvc("stage", "list", "--name-only").split()
    with modify_yaml(lock) as content:
        for name in content["stages"].keys() - set(stages):
            del content["stages"][name]
            print(f"dvc.lock: without {name}, which is no stage any more")


def publish() -> None:
    """Copies the parts of reports/ to reports/published/, writes its page, manifest and tables.

    What else is there, the table of `make soak`, stays.  Where dvc.lock is stale or a part is
    missing, the earlier snapshot is untouched.
    """
    if stale := stale_stages():
        raise BadInput(f"dvc.lock is stale, run `dvc repro` first; changed: {', '.join(stale)}")
    if missing := [part for part in PARTS if not (REPORTS / part).exists()]:
        raise BadInput(f"reports: missing {', '.join(missing)}; run `dvc repro` first")
    forget_old_stages(Path("dvc.lock"))
    times = {"times": pages.times_table(REPORTS / "environment")}
    shown = {Path("README.md"): readme_parts(REPORTS), Path("REPRODUCING.md"): times}
    texts = {file: between_markers(file, parts) for file, parts in shown.items()}
    snapshot.copy_results(REPORTS, PUBLISHED)
    shutil.copyfile(PARAMS, PUBLISHED / PARAMS.name)
    texts[PUBLISHED / "index.html"] = pages.report_page(PUBLISHED, faces=REPORTS / FACES)
    for file, text in texts.items():
        file.write_text(text, encoding="utf-8")
    count = snapshot.write_manifest(PUBLISHED, Path("dvc.lock"))
    print(f"published {count} files to {PUBLISHED}")


def write_pages(
    reports: Path = REPORTS, published: Path = PUBLISHED, params: Path = PARAMS
) -> None:
    """index.html, verification.json and verification.html, written once all of them are made."""
    found = verify(reports, published, params)
    made = {
        "index.html": pages.report_page(reports, faces=reports / FACES),
        "verification.json": json.dumps(found, indent=1) + "\n",
        "verification.html": pages.verification_page(found),
    }
    for name, text in made.items():
        (reports / name).write_text(text, encoding="utf-8")


def compare() -> int:
    """Prints what the last stage found; returns 1 when a verdict differs."""
    path = REPORTS / "verification.json"
    if not path.is_file():
        raise BadInput(f"{path}: no such file; run `dvc repro` first")
    return show(json.loads(path.read_text(encoding="utf-8")))


ACTIONS = {"pages": write_pages, "publish": publish, "compare": compare}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="gmmdiff.pipeline.publishing", description=__doc__)
    parser.add_argument("action", choices=ACTIONS)
    raise SystemExit(exit_code(ACTIONS[parser.parse_args().action]))
