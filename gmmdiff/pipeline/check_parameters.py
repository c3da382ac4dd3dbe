"""The whole of params.yaml, checked: types, ranges, and combinations that an experiment would
refuse once it ran.

    python -m gmmdiff.pipeline.check_parameters

is the pipeline's first stage: it refuses a bad file before anything runs, and lists what every
parameter means.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from gmmdiff.core.checks import require
from gmmdiff.pipeline.errors import BadInput, exit_code
from gmmdiff.pipeline.parameters import (
    NOTEBOOKS,
    PARAMS,
    REPORTS,
    SHARED,
    cluster_setting,
    declared_parameters,
    defaults,
    read_params,
    stage_parameters,
)

SECTIONS = {  # of params.yaml: the notebook whose parameters cell declares it
    "start_here": "00_start_here.ipynb",
    "theory_checks": "01_theory_checks.ipynb",
    "feature_vs_class": "02a_feature_vs_class_runs.ipynb",
    "faces": "02b_faces_runs.ipynb",
    "digits": "02c_digits_runs.ipynb",
    "ngmg_stability": "03a_ngmg_stability_runs.ipynb",
    "ngmg_faces": "03b_ngmg_faces_runs.ipynb",
    "report": "04_report.ipynb",
}
BUILDERS = {  # modules of gmmdiff.experiments, whose run_tables refuses what could not be judged
    "feature_vs_class": "feature_vs_class.arcs",
    "faces": "feature_vs_class.faces",
    "digits": "feature_vs_class.digits",
    "ngmg_stability": "ngmg_stability.arcs",
    "ngmg_faces": "ngmg_stability.faces",
}


def check_file(params: Path, notebooks: Path = NOTEBOOKS) -> dict[str, dict[str, Any]]:
    """Checks a whole params.yaml, also for combinations that an experiment would refuse only once
    it ran.

    Returns:
        every section's values, with the notebook's defaults for what the file leaves out.

    Raises:
        BadInput: one line that names the file, the section and parameter, and what is allowed.
    """
    allowed = (*SHARED, "cluster", *SECTIONS)
    for name in read_params(params):
        if name not in allowed:
            raise BadInput(f"{params}: unknown key {name}; allowed: {', '.join(allowed)}")
    cluster_setting(params)
    sections = {}
    for section, name in SECTIONS.items():
        notebook = notebooks / name
        values = defaults(notebook) | stage_parameters(params, section, notebook)
        try:
            if section in BUILDERS:
                parts(section, values)
            if section == "theory_checks":
                _check_theory(values)
        except ValueError as error:
            raise BadInput(f"{params}, section {section}: {error}") from None
        sections[section] = values
    return sections


@cache
def _parts(section: str, values: str) -> tuple[str, ...]:
    module = import_module(f"gmmdiff.experiments.{BUILDERS[section]}")
    return tuple(module.run_tables(json.loads(values)))


def parts(section: str, values: Mapping[str, Any]) -> tuple[str, ...]:
    """The parts of a section's experiment, each trained by itself.

    Raises:
        ValueError: where one of them cannot be trained or judged.
    """
    return _parts(section, json.dumps(values))  # built once, which takes seconds


def trained_parts(sections: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Section and part of all that the experiments train, of which dvc.yaml has a stage each."""
    return [(name, part) for name in BUILDERS for part in parts(name, sections[name])]


def _require_stages(pipeline: Path, trained: list[tuple[str, str]]) -> None:
    """Refuses a dvc.yaml that has not a stage for each of these sections and parts.

    Raises:
        BadInput: one line that says which parts there must be.
    """
    stages = read_params(pipeline)["stages"]["train"]["foreach"].values()
    listed, wanted = {(stage["section"], stage["part"]) for stage in stages}, set(trained)
    for change, differing in (("list", wanted - listed), ("leave out", listed - wanted)):
        if differing:
            names = ", ".join(f"{part} of {section}" for section, part in sorted(differing))
            raise BadInput(f"{pipeline}: stage train must {change} {names}")


def _check_theory(values: Mapping[str, Any]) -> None:
    """What the claims T1 to T6 need together."""
    from gmmdiff.core.ngmg import NGMG

    NGMG.scale_mixture(values["s_min"], values["s_max"], values["n_scales"])
    scales, upper, most = values["n_scales"], values["affine_upper"], values["transported"]
    needed = {
        "diffusion_times": (0 in values["diffusion_times"], "0, where T2 is judged, and others"),
        "line_widths": (0 in values["line_widths"], "0 and others"),
        "affine_scales": (
            {1, scales} <= set(values["affine_scales"]),
            f"1, n_scales = {scales} and others",
        ),
        "affine_lower": (max(values["affine_lower"]) < upper, f"below affine_upper = {upper}"),
        "law_sizes": (
            len({n for n in values["law_sizes"] if n <= most}) >= 2,
            f"at least 2 distinct numbers up to transported = {most}, the largest with a W1",
        ),
        "helix_starts": (
            all(len(start) == 3 and start[2] > 0 for start in values["helix_starts"]),
            "triples of translation, turn and scale > 0",
        ),
    }
    for name, least in (("sampler_steps", 3), ("line_thetas", 2), ("complexity_sizes", 2)):
        good = len(set(values[name])) >= least
        needed[name] = (good, f"at least {least} distinct numbers")
    for name, (good, allowed) in needed.items():
        require(good, "theory_checks", name, allowed, values[name])


def reference(sections: Mapping[str, Mapping[str, Any]], notebooks: Path = NOTEBOOKS) -> str:
    """Every parameter as a Markdown table: section, name, type, range, meaning, value, and the
    notebook's default.
    """
    lines = ["| Section | Parameter | Type | Allowed | Meaning | Value | Quick look |"]
    lines.append("|---|---|---|---|---|---|---|")
    for section, values in sections.items():
        for name, p in declared_parameters(notebooks / SECTIONS[section]).items():
            value, default = f"`{values[name]}`", f"`{p.default}`"
            cells = (section, f"`{name}`", p.type, p.allowed, p.meaning, value, default)
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _write(path: Path, text: str) -> None:
    """A new file: what a cache links to the old one stays."""
    path.unlink(missing_ok=True)
    path.write_text(text, encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code (see ``errors.exit_code``)."""
    parser = argparse.ArgumentParser(
        prog="gmmdiff.pipeline.check_parameters",
        description="Check params.yaml and list its parameters.",
    )
    parser.add_argument("--params", type=Path, default=PARAMS)
    parser.add_argument("--reports", type=Path, default=REPORTS)
    options = parser.parse_args(arguments)

    def command() -> None:
        sections = check_file(options.params)
        if (pipeline := options.params.parent / "dvc.yaml").is_file():
            _require_stages(pipeline, trained_parts(sections))
        options.reports.mkdir(exist_ok=True)
        _write(options.reports / "parameters.md", f"# Parameters\n\n{reference(sections)}")
        # Every other stage depends on this file, whose bytes never change: so it comes first and
        # makes none stale.
        good = "Every value of params.yaml has its type and lies in its range.\n"
        _write(options.reports / "parameters.ok", good)

    return exit_code(command)


if __name__ == "__main__":
    raise SystemExit(main())
