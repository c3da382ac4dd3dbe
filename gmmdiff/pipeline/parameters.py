"""The parameters of one stage: what its notebook declares, and its section of params.yaml checked
against that.
"""

from __future__ import annotations

import ast
import io
import math
import re
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gmmdiff.pipeline.errors import BadInput

PARAMS, NOTEBOOKS, REPORTS = Path("params.yaml"), Path("notebooks"), Path("reports")
SHARED = ("seed", "device")  # top-level parameters that every notebook may declare


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell, ``name: type = default  # meaning; allowed``.

    ``allowed`` reads ``in [low, high]``, ``(`` and ``)`` for open ends, or ``one of a, b``; what
    has no such limit leaves it out.
    """

    type: str
    default: str  # as Python text
    meaning: str
    allowed: str


def declared_parameters(notebook: Path) -> dict[str, Parameter]:
    """What the notebook's parameters cell declares, by name.

    Raises:
        BadInput: when the notebook or its tagged cell is missing.
    """
    import nbformat

    if not notebook.is_file():
        raise BadInput(f"{notebook}: no such notebook")
    cells = nbformat.read(notebook, 4).cells
    own = [cell.source for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    if not own:
        raise BadInput(f"{notebook}: no cell is tagged `parameters`")
    source = own[0]
    comments = {
        token.start[0]: token.string.removeprefix("#").strip()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    declared = {}
    for line in ast.parse(source).body:
        if isinstance(line, ast.AnnAssign) and line.value:
            meaning, _, allowed = comments.get(line.end_lineno, "").partition("; ")
            default = ast.get_source_segment(source, line.value)
            kind = ast.unparse(line.annotation)
            declared[line.target.id] = Parameter(kind, default, meaning, allowed)
    return declared


def defaults(notebook: Path) -> dict[str, Any]:
    """What the notebook runs with when nobody gives it other parameters: its quick look.

    Raises:
        BadInput: as ``declared_parameters``.
    """
    declared = declared_parameters(notebook).items()
    return {name: ast.literal_eval(parameter.default) for name, parameter in declared}


def _has_type(value: Any, kind: str) -> bool:
    if kind.startswith("list["):
        each = isinstance(value, list) and [_has_type(v, kind[5:-1]) for v in value]
        return bool(each) and all(each)
    if isinstance(value, bool):
        return kind == "bool"
    types = {"int": int, "float": (int, float), "str": str, "bool": bool}[kind]
    return isinstance(value, types) and not (isinstance(value, float) and math.isnan(value))


def _is_allowed(value: Any, allowed: str) -> bool:
    if isinstance(value, list):
        return all(_is_allowed(v, allowed) for v in value)
    if allowed.startswith("one of "):
        return str(value) in allowed.removeprefix("one of ").split(", ")
    left, low, high, right = re.fullmatch(r"in ([\[(])(\S+), (\S+)([\])])", allowed).groups()
    low, high = float(low), float(high)
    return low <= value <= high and (left == "[" or value > low) and (right == "]" or value < high)


def require_declared(notebook: Path, values: Mapping[str, Any], owner: str | None = None) -> None:
    """Refuses values the notebook does not declare, of another type, or out of the declared range.

    Args:
        owner: what the message begins with, by default the notebook.

    Raises:
        BadInput: one line that names the owner, the parameter and what is allowed.
    """
    owner, declared = owner or str(notebook), declared_parameters(notebook)
    for name, value in values.items():
        if name not in declared:
            names = ", ".join(sorted(declared))
            raise BadInput(f"{owner}: unknown parameter {name}; allowed: {names}")
        kind, allowed = declared[name].type, declared[name].allowed
        if not _has_type(value, kind) or (allowed and not _is_allowed(value, allowed)):
            article = "a non-empty " if kind.startswith("list") else ""
            wanted = f"{article}{kind} {allowed}".strip()
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

    Raises:
        BadInput: unless it is null, ``local``, or looks like a scheduler's address.
    """
    cluster = read_params(params).get("cluster")
    if cluster in (None, "local"):
        return cluster
    if not re.fullmatch(r"(tcp|tls)://[^\s/]+:\d{1,5}", str(cluster)):
        allowed = "null, local, or the address of a dask.distributed scheduler, "
        allowed += "tcp://HOST:PORT or tls://HOST:PORT"
        raise BadInput(f"{params}: cluster must be {allowed}, got {cluster!r}")
    return cluster


def _interpret(text: str, kind: str) -> Any:
    """The value of a command-line override: a Python literal, unless a text is declared or nothing
    else fits.
    """
    try:
        return text if kind == "str" else ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def stage_parameters(
    params: Path, section: str, notebook: Path, overrides: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """One section of params.yaml, the shared parameters the notebook declares, and overrides,
    checked.

    Args:
        section: its name, empty for a notebook that has none.

    Raises:
        BadInput: on a missing or malformed file or section, or a bad parameter.
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
    require_declared(notebook, values, f"{params}, section {section}" if section else str(params))
    given = {
        name: _interpret(text, declared[name].type if name in declared else "")
        for name, text in (overrides or {}).items()
    }
    require_declared(notebook, given)
    return values | given
