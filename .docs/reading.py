"""How griffe, which makes the pages, is to read the docstrings and names of this project."""

import ast
import re
from pathlib import Path
from typing import Any

import griffe

NAMES = ast.walk(ast.parse((Path(__file__).parents[1] / "gmmdiff" / "__init__.pyi").read_text()))
PUBLIC = {name.name for name in NAMES if isinstance(name, ast.alias)}


class Reading(griffe.Extension):
    def on_object(self, *, obj: griffe.Object, **others: Any) -> None:
        # An example stands under "Example:", which griffe knows as "Examples:" alone.
        if obj.docstring:
            obj.docstring.value = re.sub("(?m)^Example:$", "Examples:", obj.docstring.value)
        # Of a module's functions and constants those are public that gmmdiff itself has.
        if obj.parent and obj.parent.is_module and (obj.is_function or obj.is_attribute):
            obj.public = obj.name in PUBLIC
