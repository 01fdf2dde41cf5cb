"""A griffe extension: ``a, b: text`` under "Args" is said of each of them."""

import re
from typing import Any

from griffe import Class, Extension, Function

_GROUP = re.compile(r"^( +)(\w+(?:, \w+)+): (.*(?:\n\1 +\S.*)*)", re.MULTILINE)


class GroupedParameters(Extension):
    """Give each parameter of a group its own entry, so that its name is checked and typed."""

    def on_function_instance(self, *, func: Function, **_: Any) -> None:
        """Rewrite the docstring of a function."""
        _ungroup(func)

    def on_class_instance(self, *, cls: Class, **_: Any) -> None:
        """Rewrite the docstring of a class."""
        _ungroup(cls)


def _ungroup(thing: Function | Class) -> None:
    if thing.docstring is None:
        return

    def each(match: re.Match[str]) -> str:
        indent, names, text = match.groups()
        return "\n".join(f"{indent}{name}: {text}" for name in names.split(", "))

    thing.docstring.value = _GROUP.sub(each, thing.docstring.value)
