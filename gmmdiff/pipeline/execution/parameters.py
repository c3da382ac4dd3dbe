"""The parameters of one stage: what its notebook declares, and its section of params.yaml checked
against that.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gmmdiff.pipeline.execution.errors import BadInput

PARAMS, NOTEBOOKS, REPORTS = Path("params.yaml"), Path("notebooks"), Path("reports")
SHARED = ("seed", "device")  # top-level parameters that every notebook may declare


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
    if not any(
        "parameters" in cell.metadata.get("tags", []) for cell in nbformat.read(notebook, 4).cells
    ):
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
    cells = [
        cell.source
        for cell in nbformat.read(executed, 4).cells
        if "injected-parameters" in cell.metadata.get("tags", [])
    ]
    given = {
        line.targets[0].id: ast.unparse(line.value) for line in ast.parse("\n".join(cells)).body
    }
    return {
        name: {"value": given.get(name, found["default"]), "meaning": found["help"]}
        for name, found in declared.items()
    }


def _has_type(value: Any, kind: str) -> bool:
    if kind.startswith("list["):
        return (
            isinstance(value, list)
            and len(value) > 0
            and all(_has_type(v, kind[5:-1]) for v in value)
        )
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
            raise BadInput(
                f"{owner}: unknown parameter {name}; allowed: {', '.join(sorted(declared))}"
            )
        kind = declared[name]["inferred_type_name"]
        limits = declared[name]["help"].partition("; ")[2]
        wanted = f"{'a non-empty ' if kind.startswith('list') else ''}{kind} {limits}".strip()
        if not _has_type(value, kind) or (limits and not _in_range(value, limits)):
            raise BadInput(f"{owner}: parameter {name} must be {wanted}, got {value!r}")


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
        content = YAML(typ="safe", pure=True).load(params.read_text(encoding="utf-8"))
    except MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise BadInput(
            f"{params}: not valid YAML: {line}{' '.join(str(error.problem).split())}"
        ) from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{params}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise BadInput(
            f"{params}: must be a mapping of {', '.join(SHARED)} and sections, got {content!r}"
        )
    return content


def cluster_setting(params: Path) -> str | None:
    """``cluster`` of the file: how runs are computed, on which no result depends, so no stage
    declares it.

    Raises:
        BadInput: unless it is null, ``local``, or looks like a scheduler's address.
    """
    cluster = read_params(params).get("cluster")
    if cluster in (None, "local"):
        return cluster
    found = (
        re.fullmatch(r"(tcp|tls)://[^\s/]+:(\d{1,5})", cluster)
        if isinstance(cluster, str)
        else None
    )
    if not found or not 0 < int(found.group(2)) < 2**16:
        allowed = "null, local, or the address of a dask.distributed scheduler, "
        allowed += "tcp://HOST:PORT or tls://HOST:PORT"
        raise BadInput(f"{params}: cluster must be {allowed}, got {cluster!r}")
    return cluster


def _interpret(text: str, kind: str | None) -> Any:
    """The value of a command-line override: a Python literal, unless a text is declared or nothing
    else fits.
    """
    if kind == "str":
        return text
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def stage_parameters(
    params: Path, section: str, notebook: Path, overrides: dict[str, str] | None = None
) -> dict[str, Any]:
    """One section of params.yaml, the shared parameters the notebook declares, and overrides,
    checked.

    Raises:
        BadInput: on a missing or malformed file or section, or a bad parameter.
    """
    content, declared = read_params(params), declared_parameters(notebook)
    if not isinstance(content.get(section), dict):
        allowed = f"must be a mapping of parameters, got {content.get(section)!r}"
        raise BadInput(f"{params}: section {section} {allowed}")
    from gmmdiff.engine.training import resolve_device  # here, since torch takes seconds

    try:
        resolve_device(content.get("device", "auto"))
    except ValueError as error:
        raise BadInput(f"{params}: {str(error).removeprefix('run: ')}") from None
    shared = {name: content[name] for name in SHARED if name in content and name in declared}
    check_parameters(notebook, shared | content[section], f"{params}, section {section}")
    overrides = {
        name: _interpret(text, declared.get(name, {}).get("inferred_type_name"))
        for name, text in (overrides or {}).items()
    }
    check_parameters(notebook, overrides)
    return shared | content[section] | overrides
