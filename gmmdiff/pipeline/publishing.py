"""The pages, the committed snapshot, and what README.md and REPRODUCING.md show of it.

``python -m gmmdiff.pipeline.publishing ACTION``, where ACTION is

- ``pages``: renders the report and the verification, as the pipeline's last stage;
- ``publish``: copies what `dvc repro` made to reports/published, unless dvc.lock is stale;
- ``compare``: prints how this machine's results stand beside the published ones.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from gmmdiff.judging.findings import findings
from gmmdiff.pipeline import pages
from gmmdiff.pipeline.errors import BadInput, exit_code
from gmmdiff.pipeline.parameters import PARAMS, REPORTS
from gmmdiff.pipeline.snapshot import FACES, PARTS, PUBLISHED, copy_results, write_manifest
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
    """What README.md says of the results in a folder, by the names of its markers: findings, whose
    links lead to the rows of the claims; the claims; how long `make reproduce` took.
    """
    claims = json.loads((reports / "claims.json").read_text(encoding="utf-8"))
    places, rows = pages.by_claim([claim for claim in claims if claim["world"]])
    main, _ = pages.reproduced(reports / "environment")
    minutes = sum(one["seconds"] for one in main.values()) / 60
    memory = max(one["memory"] for one in main.values()) / 1024
    where = {f"{r['processors']} processors, device {r['device']}" for r in main.values()}
    return {
        "findings": pages.render("findings.md.j2", findings=findings(claims), marks=MARKS),
        "claims": pages.render("claims.md.j2", places=places, rows=rows, marks=MARKS),
        "time": f"The stages of `make reproduce` took {minutes:.0f} minutes and at most "
        f"{memory:.1f} GiB of memory where it was published ({' or '.join(sorted(where))}).",
    }


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
        text = f"{text[: start + len(markers[0])]}\n{part.strip()}\n{text[end:]}"
    return text


def _dvc(*command: str) -> str:
    """What a command of DVC prints."""
    done = subprocess.run(["dvc", *command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BadInput(f"dvc {command[0]} failed: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout


def stale_stages() -> list[str]:
    """The stages that `dvc status` says are changed since dvc.lock was written.

    The stage that always runs does not count, nor one of another pipeline, as notebooks/more is.
    """
    changed = json.loads(_dvc("status", "--json") or "{}")
    return [name for name, why in changed.items() if ":" not in name and why != ["always changed"]]


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
        reproducing: between_markers(
            reproducing, {"times": pages.times_table(REPORTS / "environment")}
        ),
    }
    copy_results(REPORTS, PUBLISHED)
    shutil.copyfile(PARAMS, PUBLISHED / PARAMS.name)
    texts[PUBLISHED / "index.html"] = pages.report_page(PUBLISHED, faces=REPORTS / FACES)
    for file, text in texts.items():
        file.write_text(text, encoding="utf-8")
    print(f"published {write_manifest(PUBLISHED, Path('dvc.lock'))} files to {PUBLISHED}")


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
