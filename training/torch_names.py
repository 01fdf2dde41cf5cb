"""What PyTorch's networks call the layers of ours: a table for each architecture.

A rule is a regular expression for the whole path of a layer of ours, and the name of its module in
PyTorch, in which ``{group}`` stands for what that group of the expression matched, and
``{group-1}`` for a number that counts from another place.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from ..model import Layer


class Rule(NamedTuple):
    """``Rule(r"conv(?P<i>\\d+)", "features.{i-1}")``."""

    ours: str
    torch: str


Rules: TypeAlias = Sequence[Rule]

# Our names of arrays, and those of PyTorch's modules.
LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "slope": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}


def module_name(path: str, rules: Rules) -> str | None:
    """PyTorch's name of our layer at `path`, by the first rule that matches; None without one."""
    for rule in rules:
        if found := re.fullmatch(rule.ours, path):
            return re.sub(r"\{(\w+)([+-]\d+)?\}", lambda m: _fill(m, found), rule.torch)
    return None


def _fill(place: re.Match[str], found: re.Match[str]) -> str:
    text, offset = found[place[1]], place[2]
    return str(int(text) + int(offset)) if offset else text


def sequential(net: Layer) -> Rules | None:
    """The names in a `torch.nn.Sequential` of the same layers: their places, counted from 0.

    None where the network is more than layers one after the other.
    """
    rules: list[Rule] = []

    def walk(layer: Layer, path: str, name: str) -> bool:
        if not layer.about.parts:
            rules.append(Rule(re.escape(path), name))
            return True
        return layer.about.flow == "serial" and all(
            walk(part, f"{path}/{key}".strip("/"), f"{name}.{i}".strip("."))
            for i, (key, part) in enumerate(layer.about.parts.items())
        )

    return rules if walk(net, "", "") else None


# Named architectures: rules from the keywords of their table in a config.
ARCHITECTURES: dict[str, Callable[..., Rules]] = {}


def names_of(spec: Mapping[str, Any], net: Layer) -> Rules | None:
    """The rules for the network of a config's ``[model]`` table; None where there are none."""
    keywords = {key: value for key, value in spec.items() if key != "name"}
    make = ARCHITECTURES.get(spec.get("name", ""))
    return make(**keywords) if make else sequential(net)
