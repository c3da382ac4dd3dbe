"""The parameters of one stage: its section of params.yaml, checked against what its notebook
declares.  Every refusal is a ``BadInput`` of one line: file, parameter, and what is allowed.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from gmmdiff.pipeline.errors import BadInput
from gmmdiff.pipeline.kernel import ROOT

PARAMS, REPORTS, NOTEBOOKS = Path("params.yaml"), Path("reports"), ROOT / "notebooks"
SHARED = ("seed", "device")  # top-level parameters that every notebook may declare
TYPES = {"int": int, "float": (int, float), "str": str, "bool": bool}


class Parameter(NamedTuple):
    """One line of a parameters cell, ``name: type = default  # meaning; allowed``.

    ``allowed`` reads ``in [low, high]``, ``(`` and ``)`` for open ends, or ``one of a, b``; what
    has no such limit leaves it out.
    """

    type: str
    default: str  # as Python text
    meaning: str
    allowed: str


def declared_parameters(notebook: Path) -> dict[str, Parameter]:
    """What the notebook's parameters cell declares, by name."""
    if not notebook.is_file():
        raise BadInput(f"{notebook}: no such notebook")
    cells = nbformat.read(notebook, 4).cells
    own = [cell.source for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    if not own:
        raise BadInput(f"{notebook}: no cell is tagged `parameters`")
    lines, declared = own[0].encode().splitlines(), {}  # whose columns are those of bytes
    for line in ast.parse(own[0]).body:
        if isinstance(line, ast.AnnAssign) and line.value:
            comment = lines[line.end_lineno - 1][line.end_col_offset :].decode().strip(" #")
            meaning, _, allowed = comment.partition("; ")
            default = ast.get_source_segment(own[0], line.value)
            kind = ast.unparse(line.annotation)
            declared[line.target.id] = Parameter(kind, default, meaning, allowed)
    return declared


def defaults(notebook: Path) -> dict[str, Any]:
    """What the notebook runs with when nobody gives it other parameters: its quick look."""
    declared = declared_parameters(notebook).items()
    return {name: ast.literal_eval(parameter.default) for name, parameter in declared}


def _is_allowed(value: Any, kind: str, allowed: str) -> bool:
    """Whether a value, or each of a list's, has a declared type and lies in the declared range."""
    if kind.startswith("list["):
        inner = kind[5:-1]
        good = isinstance(value, list) and all(_is_allowed(v, inner, allowed) for v in value)
        return good and bool(value)
    if not isinstance(value, TYPES[kind]) or isinstance(value, bool) != (kind == "bool"):
        return False
    if allowed.startswith("one of "):
        return str(value) in allowed.removeprefix("one of ").split(", ")
    if not allowed:
        return value == value  # no NaN
    left, low, high, right = re.fullmatch(r"in ([\[(])(\S+), (\S+)([\])])", allowed).groups()
    above = value >= float(low) if left == "[" else value > float(low)
    return above and (value <= float(high) if right == "]" else value < float(high))


def require_declared(
    declared: Mapping[str, Parameter], values: Mapping[str, Any], owner: object
) -> None:
    """Refuses values that are not declared, of another type, or out of the declared range; the
    message begins with their owner.
    """
    for name, value in values.items():
        if name not in declared:
            names = ", ".join(sorted(declared))
            raise BadInput(f"{owner}: unknown parameter {name}; allowed: {names}")
        kind, allowed = declared[name].type, declared[name].allowed
        if not _is_allowed(value, kind, allowed):
            article = "a non-empty " if kind.startswith("list") else ""
            wanted = f"{article}{kind} {allowed}".strip()
            raise BadInput(f"{owner}: parameter {name} must be {wanted}, got {value!r}")


def read_params(params: Path) -> dict[str, Any]:
    """The whole file, read as the YAML 1.2 that DVC reads, in which 1e-5 is a number."""
    if not params.is_file():
        raise BadInput(f"{params}: no such file")
    try:
        content = YAML(typ="safe", pure=True).load(params.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError) as error:
        why = str(error)
        if isinstance(error, MarkedYAMLError):
            line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
            why = f"{line}{error.problem}"
        raise BadInput(f"{params}: not valid YAML: {' '.join(why.split())}") from None
    if not isinstance(content, dict):
        wanted = f"a mapping of {', '.join(SHARED)} and sections"
        raise BadInput(f"{params}: must be {wanted}, got {content!r}")
    return content


def cluster_setting(params: Path) -> str | None:
    """``cluster`` of the file: how runs are computed, on which no result depends, so no stage
    declares it.
    """
    cluster = read_params(params).get("cluster")
    if cluster in (None, "local") or re.fullmatch(r"(tcp|tls)://[^\s/]+:\d{1,5}", str(cluster)):
        return cluster
    allowed = "null, local, or the address of a dask.distributed scheduler, "
    allowed += "tcp://HOST:PORT or tls://HOST:PORT"
    raise BadInput(f"{params}: cluster must be {allowed}, got {cluster!r}")


def _interpret(text: str, kind: str) -> Any:
    """A command-line override: a Python literal, unless a text is declared or nothing else fits."""
    try:
        return text if kind == "str" else ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def stage_parameters(
    params: Path, section: str, notebook: Path, overrides: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """One section of params.yaml, '' for a notebook that has none, the shared parameters that the
    notebook declares, and overrides, checked.
    """
    from gmmdiff.engine.training import resolve_device  # here, since torch takes seconds

    content, declared = read_params(params), declared_parameters(notebook)
    own = content.get(section) if section else {}
    if not isinstance(own, dict):
        raise BadInput(f"{params}: section {section} must be a mapping of parameters, got {own!r}")
    try:
        resolve_device(content.get("device", "auto"))
    except ValueError as error:
        raise BadInput(f"{params}: {str(error).removeprefix('run: ')}") from None
    values = {name: content[name] for name in SHARED if name in content and name in declared} | own
    require_declared(declared, values, f"{params}, section {section}" if section else params)
    given = {
        name: _interpret(text, declared[name].type if name in declared else "")
        for name, text in (overrides or {}).items()
    }
    require_declared(declared, given, notebook)
    return values | given
