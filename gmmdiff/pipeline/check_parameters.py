"""The pipeline's first stage: it refuses a bad params.yaml before anything runs, also for what an
experiment would refuse only once it ran, and lists what every parameter means.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from gmmdiff.core.checks import require
from gmmdiff.core.ngmg import NGMG
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


def check_file(params: Path) -> tuple[dict[str, dict[str, Any]], list[tuple[str, str]]]:
    """Checks a whole params.yaml.

    Returns:
        every section's values, with the notebook's defaults for what the file leaves out; section
        and part of all that the experiments train, of which dvc.yaml has a stage each.
    """
    allowed = (*SHARED, "cluster", *SECTIONS)
    for name in read_params(params):
        if name not in allowed:
            raise BadInput(f"{params}: unknown key {name}; allowed: {', '.join(allowed)}")
    cluster_setting(params)
    sections, trained = {}, []
    for section, name in SECTIONS.items():
        notebook = NOTEBOOKS / name
        sections[section] = defaults(notebook) | stage_parameters(params, section, notebook)
        try:
            trained += [(section, part) for part in parts(section, sections[section])]
        except ValueError as error:
            raise BadInput(f"{params}, section {section}: {error}") from None
    return sections, trained


def parts(section: str, values: Mapping[str, Any]) -> list[str]:
    """The parts of a section's experiment, each trained by itself; none where nothing is trained.

    Raises:
        ValueError: on what cannot be trained or judged.
    """
    if section == "theory_checks":
        _check_theory(values)
    if section not in BUILDERS:
        return []
    return list(import_module(f"gmmdiff.experiments.{BUILDERS[section]}").run_tables(values))


def require_stages(pipeline: Path, trained: list[tuple[str, str]]) -> None:
    """Refuses a dvc.yaml that has not a stage for each of these sections and parts."""
    stages = read_params(pipeline)["stages"]["train"]["foreach"].values()
    listed, wanted = {(stage["section"], stage["part"]) for stage in stages}, set(trained)
    for change, differing in (("list", wanted - listed), ("leave out", listed - wanted)):
        if differing:
            names = ", ".join(f"{part} of {section}" for section, part in sorted(differing))
            raise BadInput(f"{pipeline}: stage train must {change} {names}")


def _check_theory(values: Mapping[str, Any]) -> None:
    """What the claims T1 to T6 need together."""
    p, two = SimpleNamespace(**values), "at least 2 distinct numbers"
    NGMG.scale_mixture(p.s_min, p.s_max, p.n_scales)
    scales, upper, most = p.n_scales, p.affine_upper, p.transported
    with_w1 = {n for n in p.law_sizes if n <= most}
    turns = all(len(start) == 3 and start[2] > 0 for start in p.helix_starts)
    for name, good, allowed in (
        ("diffusion_times", 0 in p.diffusion_times, "0, where T2 is judged, and others"),
        ("line_widths", 0 in p.line_widths, "0 and others"),
        ("affine_scales", {1, scales} <= {*p.affine_scales}, f"1, n_scales = {scales} and others"),
        ("affine_lower", max(p.affine_lower) < upper, f"below affine_upper = {upper}"),
        ("law_sizes", len(with_w1) >= 2, f"{two} up to transported = {most}, the largest with W1"),
        ("helix_starts", turns, "triples of translation, turn and scale > 0"),
        ("sampler_steps", len({*p.sampler_steps}) >= 3, "at least 3 distinct numbers"),
        ("line_thetas", len({*p.line_thetas}) >= 2, two),
        ("complexity_sizes", len({*p.complexity_sizes}) >= 2, two),
    ):
        require(good, "theory_checks", name, allowed, values[name])


def reference(sections: Mapping[str, Mapping[str, Any]]) -> str:
    """Every parameter, its value and the notebook's default as a Markdown table."""
    lines = ["| Section | Parameter | Type | Allowed | Meaning | Value | Quick look |"]
    lines.append("|---|---|---|---|---|---|---|")
    for section, values in sections.items():
        for name, p in declared_parameters(NOTEBOOKS / SECTIONS[section]).items():
            value, default = f"`{values[name]}`", f"`{p.default}`"
            cells = (section, f"`{name}`", p.type, p.allowed, p.meaning, value, default)
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(params: Path = PARAMS, reports: Path = REPORTS) -> None:
    """Checks the file, and the dvc.yaml beside it if there is one, and writes the list."""
    sections, trained = check_file(params)
    if (pipeline := params.parent / "dvc.yaml").is_file():
        require_stages(pipeline, trained)
    reports.mkdir(exist_ok=True)
    made = {
        "parameters.md": f"# Parameters\n\n{reference(sections)}",
        # Every other stage depends on this file, whose bytes never change: so it comes first and
        # makes none stale.
        "parameters.ok": "Every value of params.yaml has its type and lies in its range.\n",
    }
    for name, text in made.items():
        (reports / name).unlink(missing_ok=True)  # what a cache links to it stays
        (reports / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
