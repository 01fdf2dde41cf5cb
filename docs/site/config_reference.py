"""The page of every key of a config, from its JSON Schema, as `convax configs --schema` prints it.

What a key means is said in the docstring of the function that a table is derived from, and of all
other tables in config_keys.toml.
"""

import inspect
import json
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from convax import ops
from convax.model import ARCHITECTURES, LAYERS
from convax.model.detection import linear, options
from convax.training.config.schema import json_schema
from convax.training.optim.optimizer import OPTIMIZERS
from convax.training.optim.schedules.schedules import SCHEDULES
from convax.training.tasks.registry import TASKS

_INTRO = """# The config, key by key

Made from the schema that checks a config. [Training](../training.md) explains the tables with
examples; `convax configs NAME` prints a complete one, and `convax configs --schema` the same as
JSON Schema, for completion in an editor. A key without a default has to be written; where a value
stands behind "write", it is the usual one. A duration is `"500 steps"`, `"2 epochs"`,
`"50000 examples"` or `"10%"` of the run.
"""
_KEYS = tomllib.loads(Path(__file__).with_name("config_keys.toml").read_text())
_LOSSES = {name: loss.signature for task in TASKS.values() for name, loss in task.losses.items()}
_FUNCTIONS: dict[str, dict[str, Callable[..., Any]]] = {
    "model": {**ARCHITECTURES},
    "layers": {**LAYERS},
    "optimizer": {**OPTIMIZERS},
    "schedule": {**SCHEDULES},
    "loss": _LOSSES,
}
_OPTIONS = {**vars(options), **vars(linear)}


def page() -> str:
    """Return the page as Markdown.

    Raises:
        ValueError: config_keys.toml has no word on a key, or one on what is no key.
    """
    schema = json_schema()
    reference = _Reference(schema["$defs"])
    tables = {key: list(_tables(node)) for key, node in schema["properties"].items()}
    described = {
        key: _plain(schema["$defs"][names[0]].get("description", "").partition("\n")[0])
        for key, names in tables.items()
        if len(names) == 1
    }
    parts = [_INTRO, "\n", reference.table("config", "", schema, described, strict=True)]
    for key, names in tables.items():
        if names:
            parts += reference.section(key, names)
    unused = {f"{path}.{key}" for path, keys in reference.unused.items() for key in keys}
    if unused or reference.missing:
        raise ValueError(
            "docs/site/config_keys.toml: say what they mean: "
            f"{sorted(reference.missing)}; leave out, as they are no keys: {sorted(unused)}"
        )
    return "".join(parts)


class _Reference:
    """The sections written so far, so that a table is described once."""

    def __init__(self, definitions: dict[str, Any]):
        self.definitions = definitions
        self.anchors: dict[str, str] = {}
        self.missing: set[str] = set()
        self.unused: dict[str, set[str]] = {path: {*keys} for path, keys in _KEYS.items()}

    def section(self, key: str, names: list[str]) -> Iterator[str]:
        """Yield the section of a top-level key: each table it can be, and the tables in those."""
        yield f"\n## {key} {{#{key}}}\n"
        labels = dict.fromkeys(names, "")
        for name in names:
            self._name(key, name, alone=len(names) == 1)
        todo = list(names)
        while todo:
            for inner, label in self._inside(todo.pop(0)).items():
                if inner not in self.anchors:
                    self._name(key, inner)
                    labels[inner] = label
                    todo.append(inner)
        for name, label in labels.items():
            yield from self._described(
                "layers" if label == "layers" else key, name, len(names) > 1 or label != "", label
            )

    def _name(self, key: str, name: str, alone: bool = False) -> None:
        self.anchors[name] = key if alone else f"{key}-{self._title(name)}"

    def _described(self, key: str, name: str, titled: bool, label: str = "") -> Iterator[str]:
        definition = self.definitions[name]
        tag, values = _tag(definition)
        if titled:
            title = f"{tag} = {values}" if tag else f"{label or definition['title']}"
            yield f"\n### `{title}` {{#{self.anchors[name]}}}\n"
        yield f"\n{_plain(definition.get('description', ''))}\n\n"
        title = definition["title"]
        function = _FUNCTIONS.get(key, {}).get(title) or _OPTIONS.get(title)
        path = f"{key}.{label}" if label and function is None else key
        # A layer says what it adds to its operation.
        said = _documented(getattr(ops, title, None)) if path == "layers" else {}
        for parent in reversed(getattr(function, "__mro__", (function,))):
            said |= _documented(parent)
        yield self.table(path, tag, definition, said, strict=function is None)

    def table(
        self, path: str, tag: str, definition: dict[str, Any], said: dict[str, str], strict: bool
    ) -> str:
        """Return the keys of a table, but for the one that tells it from others."""
        required = definition.get("required", ())
        keys = definition["properties"].keys() - {tag}
        self.unused[path] = self.unused.get(path, set()) - keys
        said = _KEYS.get(path, {}) | said
        if strict:
            self.missing |= {f"{path}.{key}" for key in keys - said.keys()}
        rows = [
            f"| `{key}` | {self._type(node, key)} | {_default(node, key in required)} | "
            f"{said.get(key, '')} |\n"
            for key, node in definition["properties"].items()
            if key != tag
        ]
        heads = "| key | value | default | meaning |\n|---|---|---|---|\n"
        return heads + "".join(rows) if rows else ""

    def _inside(self, name: str) -> dict[str, str]:
        """Return the tables in a table, each with the key that it is under."""
        inside = {}
        for key, node in self.definitions[name]["properties"].items():
            if key != "parts":  # of a sequence: the other schedules
                inside |= dict.fromkeys(_tables(node), key)
        return inside

    def _title(self, name: str) -> str:
        """Return a name for anchors: that of what a table is told from others by, or its own."""
        tag, values = _tag(self.definitions[name])
        return json.loads(values.split(", ")[0]) if tag else self.definitions[name]["title"]

    def _type(self, node: dict[str, Any], key: str) -> str:
        if tables := list(_tables(node)):
            link = "schedule" if key == "parts" else self.anchors.get(tables[0], key)
            others = [self._type(arm, key) for arm in node.get("oneOf", ()) if "enum" in arm]
            text = "tables" if node.get("type") == "array" else "a table"
            return " or ".join([*others, f"[{text}](#{link})"])
        arms = node.get("anyOf") or node.get("oneOf")
        if arms:
            return " or ".join(
                dict.fromkeys(self._type(a, key) for a in arms if a.get("type") != "null")
            )
        if "enum" in node or "const" in node:
            return ", ".join(f"`{_toml(v)}`" for v in node.get("enum", [node.get("const")]))
        if node.get("type") == "array":
            count = (
                f"{node['minItems']} " if node.get("minItems") == node.get("maxItems", -1) else ""
            )
            return f"list of {count}{self._type(node['items'], key)}"
        words = {
            "integer": "integer",
            "number": "number",
            "string": "text",
            "boolean": "true, false",
        }
        return f"{words.get(node.get('type', ''), 'table')}{_bounds(node)}"


def _tables(node: dict[str, Any]) -> Iterator[str]:
    """Yield the names of the tables that a key can be, or be a list of."""
    if "$ref" in node:
        yield node["$ref"].rpartition("/")[2]
    for arm in (*node.get("anyOf", ()), *node.get("oneOf", ())):
        yield from _tables(arm)
    if isinstance(node.get("items"), dict):
        yield from _tables(node["items"])


def _tag(definition: dict[str, Any]) -> tuple[str, str]:
    """Return the key that tells a table from others, and its values; empty if there is none."""
    for tag in ("name", "type", "source", "method"):
        node = definition["properties"].get(tag, {})
        if "const" in node or ("enum" in node and tag == "method"):
            return tag, ", ".join(map(_toml, node.get("enum", [node.get("const")])))
    return "", ""


def _plain(description: str) -> str:
    """Leave out where in the code there is more."""
    return re.sub(r"[;:,] see `[a-z_.]+`(, `[a-z_.]+`)*(?=[.;])", "", description)


def _default(node: dict[str, Any], required: bool) -> str:
    if required or "default" not in node:
        usual = node.get("examples")
        return f"write `{_toml(usual[0])}`" if usual else "required" if required else ""
    default = node["default"]
    return "" if default is None or isinstance(default, dict) else f"`{_toml(default)}`"


def _bounds(node: dict[str, Any]) -> str:
    signs = {
        "minimum": "from {}", "exclusiveMinimum": "above {}",
        "maximum": "to {}", "exclusiveMaximum": "below {}",
    }  # fmt: skip
    said = [
        text.format(f"{node[key]:g}")
        for key, text in signs.items()
        if key in node and abs(node[key]) < 2**31 - 1
    ]
    return f" {' '.join(said)}" if said else ""


def _toml(value: Any) -> str:
    return json.dumps(value)


def _documented(function: Callable[..., Any] | type | None) -> dict[str, str]:
    """Return what a docstring says of each parameter, or attribute."""
    text = inspect.getdoc(function) or "" if function else ""
    section = re.search(r"^(?:Args|Attributes):\n((?: +.*\n?|\n)*)", text, re.MULTILINE)
    found: dict[str, str] = {}
    for names, said in re.findall(
        r"^    (\w+(?:, \w+)*): (.*(?:\n {5,}.*)*)",
        section.group(1) if section else "",
        re.MULTILINE,
    ):
        line = re.sub(r"\s+", " ", said).strip().replace("|", "\\|")
        found |= dict.fromkeys(names.split(", "), line)
    return found
