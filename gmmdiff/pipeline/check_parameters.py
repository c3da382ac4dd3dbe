"""The whole of params.yaml, checked: types, ranges, and combinations that an experiment would
refuse once it ran.

    python -m gmmdiff.pipeline.check_parameters

is the pipeline's first stage: it refuses a bad file before anything runs, and lists what every
parameter means.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

from gmmdiff.core.checks import require
from gmmdiff.pipeline.defaults import defaults
from gmmdiff.pipeline.execution.errors import BadInput, exit_code
from gmmdiff.pipeline.execution.parameters import (
    NOTEBOOKS,
    PARAMS,
    REPORTS,
    SHARED,
    cluster_setting,
    declared_parameters,
    read_params,
    stage_parameters,
)
from gmmdiff.pipeline.execution.staging import write_whole

SECTIONS = {  # of params.yaml: the notebook whose parameters cell declares it
    "start_here": "00_start_here.ipynb",
    "theory_checks": "01_theory_checks.ipynb",
    "feature_vs_class": "02_feature_vs_class.ipynb",
    "faces": "02b_faces_runs.ipynb",
    "digits": "02c_digits_runs.ipynb",
    "ngmg_stability": "03_ngmg_stability.ipynb",
    "ngmg_faces": "03b_ngmg_faces_runs.ipynb",
    "report": "04_report.ipynb",
    "performance": "05_performance.ipynb",
    "in_your_own_model": "06_in_your_own_model.ipynb",
    "celeba": "07_celeba.ipynb",
}


def check_file(params: Path, notebooks: Path = NOTEBOOKS) -> dict[str, dict[str, Any]]:
    """Checks a whole params.yaml, also for combinations that an experiment would refuse only once
    it ran.

    Returns:
        every section's values, with the notebook's defaults for what the file leaves out.

    Raises:
        BadInput: one line that names the file, the section and parameter, and what is allowed.
    """
    content, found = read_params(params), {}
    for name in content:
        if name not in (allowed := (*SHARED, "cluster", *SECTIONS)):
            raise BadInput(f"{params}: unknown key {name}; allowed: {', '.join(allowed)}")
    cluster_setting(params)
    for section, book in SECTIONS.items():
        notebook = notebooks / book
        values = stage_parameters(params, section, notebook)
        found[section] = defaults(notebook) | values
        try:
            COMBINATIONS.get(section, lambda values: None)(found[section])
        except ValueError as error:
            raise BadInput(f"{params}, section {section}: {error}") from None
    return found


def _taken(values: Mapping[str, Any], function: Callable) -> dict[str, Any]:
    return {name: values[name] for name in signature(function).parameters if name in values}


def _check_theory(values: Mapping[str, Any]) -> None:
    from gmmdiff.core.ngmg import NGMG

    owner, lower = "theory_checks", values["affine_lower"]
    NGMG.scale_mixture(values["s_min"], values["s_max"], values["n_scales"])
    require(
        0 in values["diffusion_times"],
        owner,
        "diffusion_times",
        "0, where T2 is judged, and others",
        values["diffusion_times"],
    )
    require(0 in values["line_widths"], owner, "line_widths", "0 and others", values["line_widths"])
    judged = {1, values["n_scales"]}
    require(
        judged <= set(values["affine_scales"]),
        owner,
        "affine_scales",
        f"1, n_scales = {values['n_scales']} and others",
        values["affine_scales"],
    )
    require(
        max(lower) < values["affine_upper"],
        owner,
        "affine_lower",
        f"below affine_upper = {values['affine_upper']}",
        lower,
    )
    sizes, most = values["law_sizes"], values["transported"]
    allowed = f"at least 2 distinct numbers up to transported = {most}, the largest with a W1"
    require(len({n for n in sizes if n <= most}) >= 2, owner, "law_sizes", allowed, sizes)
    starts = values["helix_starts"]
    require(
        all(len(start) == 3 and start[2] > 0 for start in starts),
        owner,
        "helix_starts",
        "triples of translation, turn and scale > 0",
        starts,
    )
    for name, least in (("sampler_steps", 3), ("line_thetas", 2), ("complexity_sizes", 2)):
        require(
            len(set(values[name])) >= least,
            owner,
            name,
            f"at least {least} distinct numbers",
            values[name],
        )


def _run_parts(owner: str, values: Mapping[str, Any]) -> None:
    from gmmdiff.engine.training import Ensemble
    from gmmdiff.experiments.feature_vs_class import arcs, digits, faces, image_runs as images
    from gmmdiff.experiments.feature_vs_class.run_tables import DENSE, regime

    if owner == "faces":  # whose first seed is trained again for the denoisers
        n, judged = values["story_n_train"], values["judged_n_train"]
        require(n in judged, owner, "story_n_train", f"one of judged_n_train {judged}", n)
    parts = {"feature_vs_class": arcs.parts, "faces": faces.parts, "digits": digits.parts}[owner]
    unused = ("device", "part", "finished")
    regimes = set()
    for part, (rows, settings) in parts(
        **{name: value for name, value in values.items() if name not in unused}
    ).items():
        Ensemble.check(rows, settings)
        if part.startswith("judged"):
            images.require_groups(owner, rows, settings)
            regimes |= {regime(n, settings) for n in rows["n_train"].unique()}
    wanted = {"feature_vs_class": {"dense"}}.get(owner, {"dense", "sparse"})
    allowed = f"judged {' and '.join(sorted(wanted))}, from {DENSE} samples a combination on dense"
    require(regimes == wanted, owner, "n_train", allowed, f"only {', '.join(sorted(regimes))}")


def _check_stability(values: Mapping[str, Any]) -> None:
    from gmmdiff.engine.joint.classifiers import JointEnsemble
    from gmmdiff.engine.runs import TrainingSettings
    from gmmdiff.experiments.ngmg_stability.run_tables import parts
    from gmmdiff.worlds.arcs import Arcs

    given = {
        field.name: values[field.name] for field in fields(TrainingSettings) if field.name in values
    }
    settings = TrainingSettings(partial(Arcs, values["dimension"]), **given)
    for rows in parts(**_taken(values, parts), first_seed=values["seed"]).values():
        JointEnsemble.check(rows, settings)


def _check_ngmg_faces(values: Mapping[str, Any]) -> None:
    from gmmdiff.engine.joint.classifiers import JointEnsemble
    from gmmdiff.experiments.feature_vs_class.image_runs import require_groups
    from gmmdiff.experiments.feature_vs_class.run_tables import DENSE, regime
    from gmmdiff.experiments.ngmg_stability.faces import parts

    owner = "ngmg_faces"
    given = {k: v for k, v in values.items() if k not in ("device", "part", "n_test")}
    for rows, settings in parts(**given).values():
        JointEnsemble.check(rows, settings)
        few, allowed = values["n_train"], f"fewer than {DENSE} images a combination, so sparse"
        require(regime(few, settings) == "sparse", owner, "n_train", allowed, few)
        require_groups(owner, rows, settings)


def _check_performance(values: Mapping[str, Any]) -> None:
    from gmmdiff.study.speed.sampling import MOMENTS

    counts = values["evaluations"]
    require(
        all(MOMENTS % count == 0 for count in counts),
        "performance",
        "evaluations",
        f"divisors of {MOMENTS}",
        counts,
    )
    for name in ("rows", "cuda_rows", "evaluations", "samples"):
        require(
            len(set(values[name])) == len(values[name]),
            "performance",
            name,
            "distinct numbers",
            values[name],
        )


def _check_in_your_own_model(values: Mapping[str, Any]) -> None:
    from gmmdiff.study.unet.shapes import require_shape

    require_shape(values["size"], values["widths"])
    held_out, count = values["held_out"], 2 ** values["attributes"]
    allowed = f"below {count}, so that some are seen"
    require(held_out < count, "in_your_own_model", "held_out", allowed, held_out)
    weights, allowed = values["guidance"], "distinct numbers"
    require(len(set(weights)) == len(weights), "in_your_own_model", "guidance", allowed, weights)


def _check_celeba(values: Mapping[str, Any]) -> None:
    """Where a folder is set: of all that can be refused before training; its cache is made."""
    if not values["folder"]:
        return
    from tqdm import tqdm

    from gmmdiff.study.celeba.runs import Experiment, settings

    for name in ("folder", "cache"):
        path = Path(values[name]).expanduser()
        good = not values[name] or path.is_absolute()
        require(good, "celeba", name, "an absolute path", values[name])
    Experiment(settings(**values), tqdm)


COMBINATIONS = {
    "theory_checks": _check_theory,
    "feature_vs_class": partial(_run_parts, "feature_vs_class"),
    "faces": partial(_run_parts, "faces"),
    "digits": partial(_run_parts, "digits"),
    "ngmg_stability": _check_stability,
    "ngmg_faces": _check_ngmg_faces,
    "performance": _check_performance,
    "in_your_own_model": _check_in_your_own_model,
    "celeba": _check_celeba,
}


def reference(found: Mapping[str, Mapping[str, Any]], notebooks: Path = NOTEBOOKS) -> str:
    """Every parameter as a Markdown table: section, name, type, range, meaning, value, and the
    notebook's default.
    """
    lines = [
        "| Section | Parameter | Type | Allowed | Meaning | Value | Quick look |",
        "|---|---|---|---|---|---|---|",
    ]
    for section, values in found.items():
        for name, entry in declared_parameters(notebooks / SECTIONS[section]).items():
            meaning, _, allowed = entry["help"].partition("; ")
            cells = (
                section,
                f"`{name}`",
                entry["inferred_type_name"],
                allowed,
                meaning,
                f"`{values[name]}`",
                f"`{entry['default']}`",
            )
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


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
        found = check_file(options.params)
        options.reports.mkdir(exist_ok=True)
        write_whole(options.reports / "parameters.md", f"# Parameters\n\n{reference(found)}")
        # Every other stage depends on this file, whose bytes never change: so it comes first and
        # makes none stale.
        good = "Every value of params.yaml has its type and lies in its range.\n"
        write_whole(options.reports / "parameters.ok", good)

    return exit_code(command)


if __name__ == "__main__":
    raise SystemExit(main())
