"""params.yaml, checked: every value against what its notebook declares, and their combinations against the experiments.

    python -m gmmdiff.parameters

is the pipeline's first stage: it refuses a bad file before anything runs, and lists what every parameter means.
"""

from __future__ import annotations

import argparse
import ast
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from inspect import signature
from pathlib import Path
from typing import Any

from gmmdiff.checks import BadInput, exit_code, require

PARAMS, NOTEBOOKS, REPORTS = Path("params.yaml"), Path("notebooks"), Path("reports")
SECTIONS = {  # of params.yaml: the notebook whose parameters cell declares it
    "theory_checks": "01_theory_checks.ipynb",
    "feature_vs_class": "02_feature_vs_class.ipynb",
    "ngmg_stability": "03_ngmg_stability.ipynb",
    "report": "04_report.ipynb",
    "performance": "05_performance.ipynb",
}
SHARED = ("seed", "device")  # top-level parameters that every notebook may declare
DEVICES = ("auto", "cpu", "cuda")


# ---- what a notebook declares -------------------------------------------------------------------------------


def declared_parameters(notebook: Path) -> dict[str, dict[str, str]]:
    """What the notebook's parameters cell declares: name -> type, default, meaning and range.

    Each line reads ``name: type = default  # meaning; in [low, high]`` or ``...; one of a, b``.

    Raises:
        BadInput: when the notebook or its tagged cell is missing.
    """
    import nbformat
    import papermill

    if not notebook.is_file():
        raise BadInput(f"{notebook}: no such notebook")
    if not any("parameters" in cell.metadata.get("tags", []) for cell in nbformat.read(notebook, 4).cells):
        raise BadInput(f"{notebook}: no cell is tagged `parameters`")
    return papermill.inspect_notebook(str(notebook))


def used_parameters(executed: Path) -> dict[str, dict[str, str]]:
    """What an executed notebook ran with: name -> value (as Python text) and meaning.

    Its own defaults, and over them what the runner injected.

    Raises:
        BadInput: as ``declared_parameters``.
    """
    import nbformat

    declared = declared_parameters(executed)
    cells = [cell.source for cell in nbformat.read(executed, 4).cells if "injected-parameters" in cell.metadata.get("tags", [])]
    given = {line.targets[0].id: ast.unparse(line.value) for line in ast.parse("\n".join(cells)).body}
    return {name: {"value": given.get(name, found["default"]), "meaning": found["help"]} for name, found in declared.items()}


def _has_type(value: Any, kind: str) -> bool:
    if kind.startswith("list["):
        return isinstance(value, list) and len(value) > 0 and all(_has_type(v, kind[5:-1]) for v in value)
    if isinstance(value, bool):
        return kind == "bool"
    allowed = {"int": int, "float": (int, float), "str": str, "bool": bool}[kind]
    return isinstance(value, allowed) and not (isinstance(value, float) and math.isnan(value))


def _in_range(value: Any, text: str) -> bool:
    if isinstance(value, list):
        return all(_in_range(v, text) for v in value)
    if text.startswith("one of "):
        return str(value) in text.removeprefix("one of ").split(", ")
    left, low, high, right = re.fullmatch(r"in ([\[(])(\S+), (\S+)([\])])", text).groups()
    above = value >= float(low) if left == "[" else value > float(low)
    below = value <= float(high) if right == "]" else value < float(high)
    return above and below


def check_parameters(notebook: Path, values: Mapping[str, Any], owner: str | None = None) -> None:
    """Refuses values the notebook does not declare, of another type, or out of the declared range.

    Args:
        owner: what the message begins with, by default the notebook.

    Raises:
        BadInput: one line that names the owner, the parameter and what is allowed.
    """
    owner, declared = owner or str(notebook), declared_parameters(notebook)
    for name, value in values.items():
        if name not in declared:
            raise BadInput(f"{owner}: unknown parameter {name}; allowed: {', '.join(sorted(declared))}")
        kind = declared[name]["inferred_type_name"]
        limits = declared[name]["help"].partition("; ")[2]
        wanted = f"{'a non-empty ' if kind.startswith('list') else ''}{kind}{' ' + limits if limits else ''}"
        if not _has_type(value, kind) or (limits and not _in_range(value, limits)):
            raise BadInput(f"{owner}: parameter {name} must be {wanted}, got {value!r}")


# ---- the file -----------------------------------------------------------------------------------------------


def read_params(params: Path) -> dict[str, Any]:
    """The whole file, read as the YAML 1.2 that DVC reads, in which 1e-5 is a number.

    Raises:
        BadInput: when it is missing, no YAML, names a key twice, or is no mapping.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    if not params.is_file():
        raise BadInput(f"{params}: no such file")
    try:
        content = YAML(typ="safe", pure=True).load(params.read_text())
    except MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise BadInput(f"{params}: not valid YAML: {line}{' '.join(str(error.problem).split())}") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{params}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise BadInput(f"{params}: must be a mapping with the sections {', '.join(SECTIONS)}, got {content!r}")
    return content


def resolve_device(name: str) -> str:
    """``"auto"`` -> ``"cuda"`` where there is one, else ``"cpu"``.

    Raises:
        BadInput: on another name than auto, cpu or cuda, or on cuda without CUDA.
    """
    import torch

    if name not in DEVICES:
        raise BadInput(f"params.yaml: device must be one of {', '.join(DEVICES)}, got {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise BadInput("params.yaml: device is cuda, but this machine has no CUDA device; allowed here: auto, cpu")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"


def cluster_setting(params: Path) -> str | None:
    """``cluster`` of the file: how runs are computed, on which no result depends, so no stage declares it.

    Raises:
        BadInput: unless it is null, ``local``, or looks like a scheduler's address.
    """
    cluster = read_params(params).get("cluster")
    if cluster in (None, "local"):
        return cluster
    found = re.fullmatch(r"(tcp|tls)://[^\s/]+:(\d{1,5})", cluster) if isinstance(cluster, str) else None
    if not found or not 0 < int(found.group(2)) < 2**16:
        allowed = "null, local, or the address of a dask.distributed scheduler, tcp://HOST:PORT or tls://HOST:PORT"
        raise BadInput(f"{params}: cluster must be {allowed}, got {cluster!r}")
    return cluster


def _interpret(text: str, kind: str | None) -> Any:
    """The value of a command-line override: a Python literal, unless a text is declared or nothing else fits."""
    if kind == "str":
        return text
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def stage_parameters(params: Path, section: str, notebook: Path, overrides: dict[str, str] | None = None) -> dict[str, Any]:
    """One section of params.yaml, the shared parameters the notebook declares, and overrides, checked.

    Raises:
        BadInput: on a missing or malformed file or section, or a bad parameter.
    """
    content, declared = read_params(params), declared_parameters(notebook)
    if not isinstance(content.get(section), dict):
        raise BadInput(f"{params}: section {section} must be a mapping of parameters, got {content.get(section)!r}")
    resolve_device(content.get("device", "auto"))
    shared = {name: content[name] for name in SHARED if name in content and name in declared}
    check_parameters(notebook, shared | content[section], f"{params}, section {section}")
    overrides = {name: _interpret(text, declared.get(name, {}).get("inferred_type_name")) for name, text in (overrides or {}).items()}
    check_parameters(notebook, overrides)
    return shared | content[section] | overrides


def check_file(params: Path, notebooks: Path = NOTEBOOKS) -> dict[str, dict[str, Any]]:
    """Checks a whole params.yaml, also for combinations that an experiment would refuse only once it ran.

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
        defaults = {name: ast.literal_eval(entry["default"]) for name, entry in declared_parameters(notebook).items()}
        found[section] = defaults | values
        try:
            COMBINATIONS.get(section, lambda values: None)(found[section])
        except ValueError as error:
            raise BadInput(f"{params}, section {section}: {error}") from None
    return found


# ---- combinations -------------------------------------------------------------------------------------------


def _taken(values: Mapping[str, Any], function: Callable) -> dict[str, Any]:
    return {name: values[name] for name in signature(function).parameters if name in values}


def _check_theory(values: Mapping[str, Any]) -> None:
    from gmmdiff.ngmg import NGMG

    owner, lower = "theory_checks", values["affine_lower"]
    NGMG.scale_mixture(values["s_min"], values["s_max"], values["n_scales"])
    require(0 in values["diffusion_times"], owner, "diffusion_times", "0, where T2 is judged, and others", values["diffusion_times"])
    require(0 in values["line_widths"], owner, "line_widths", "0 and others", values["line_widths"])
    judged = {1, values["n_scales"]}
    require(judged <= set(values["affine_scales"]), owner, "affine_scales", f"1, n_scales = {values['n_scales']} and others", values["affine_scales"])
    require(max(lower) < values["affine_upper"], owner, "affine_lower", f"below affine_upper = {values['affine_upper']}", lower)
    starts = values["helix_starts"]
    require(all(len(start) == 3 and start[2] > 0 for start in starts), owner, "helix_starts", "triples of translation, turn and scale > 0", starts)
    for name, least in (("sampler_steps", 3), ("line_thetas", 2), ("complexity_sizes", 2)):
        require(len(set(values[name])) >= least, owner, name, f"at least {least} distinct numbers", values[name])


def _check_runs(parts: Callable, program: type, values: Mapping[str, Any]) -> None:
    from gmmdiff.training import Recipe

    recipe = Recipe(**{field.name: values[field.name] for field in fields(Recipe) if field.name in values})
    for rows in parts(**_taken(values, parts), first_seed=values["seed"]).values():
        program.check(rows, recipe)


def _check_feature(values: Mapping[str, Any]) -> None:
    from gmmdiff.feature_vs_class import parts
    from gmmdiff.training import Program

    _check_runs(parts, Program, values)


def _check_stability(values: Mapping[str, Any]) -> None:
    from gmmdiff.joint import JointProgram
    from gmmdiff.ngmg_stability import parts

    _check_runs(parts, JointProgram, values)


def _check_performance(values: Mapping[str, Any]) -> None:
    from gmmdiff.performance import MOMENTS

    counts = values["evaluations"]
    require(all(MOMENTS % count == 0 for count in counts), "performance", "evaluations", f"divisors of {MOMENTS}", counts)
    for name in ("rows", "cuda_rows", "evaluations", "samples"):
        require(len(set(values[name])) == len(values[name]), "performance", name, "distinct numbers", values[name])


COMBINATIONS = {
    "theory_checks": _check_theory,
    "feature_vs_class": _check_feature,
    "ngmg_stability": _check_stability,
    "performance": _check_performance,
}


# ---- the stage ----------------------------------------------------------------------------------------------


def reference(found: Mapping[str, Mapping[str, Any]], notebooks: Path = NOTEBOOKS) -> str:
    """Every parameter as a Markdown table: section, name, type, range, meaning, value, and the notebook's default."""
    lines = ["| Section | Parameter | Type | Allowed | Meaning | Value | Quick look |", "|---|---|---|---|---|---|---|"]
    for section, values in found.items():
        for name, entry in declared_parameters(notebooks / SECTIONS[section]).items():
            meaning, _, allowed = entry["help"].partition("; ")
            cells = (section, f"`{name}`", entry["inferred_type_name"], allowed, meaning, f"`{values[name]}`", f"`{entry['default']}`")
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code (see ``checks.exit_code``)."""
    parser = argparse.ArgumentParser(prog="gmmdiff.parameters", description="Check params.yaml and list its parameters.")
    parser.add_argument("--params", type=Path, default=PARAMS)
    parser.add_argument("--reports", type=Path, default=REPORTS)
    options = parser.parse_args(arguments)

    def command() -> None:
        found = check_file(options.params)
        options.reports.mkdir(exist_ok=True)
        (options.reports / "parameters.md").write_text(f"# Parameters\n\n{reference(found)}")
        # Every other stage depends on this file, whose bytes never change: so it comes first and makes none stale.
        (options.reports / "parameters.ok").write_text("Every value of params.yaml has its type and lies in its range.\n")

    return exit_code(command)


if __name__ == "__main__":
    raise SystemExit(main())
