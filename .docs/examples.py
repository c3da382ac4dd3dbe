"""A docstring's example stands under "Example:", which griffe knows as "Examples:" alone."""

import re
from typing import Any

import griffe


class Examples(griffe.Extension):
    def on_object(self, *, obj: griffe.Object, **others: Any) -> None:
        if obj.docstring:
            obj.docstring.value = re.sub("(?m)^Example:$", "Examples:", obj.docstring.value)
