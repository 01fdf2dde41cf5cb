"""A small judge of JSON Schema: as much of it as the schema of a config has."""

import random
from typing import Any

TYPES = {
    "object": lambda v: isinstance(v, dict),
    "array": lambda v: isinstance(v, list),
    "string": lambda v: isinstance(v, str),
    "boolean": lambda v: isinstance(v, bool),
    "integer": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "number": lambda v: isinstance(v, (int, float)) and not isinstance(v, bool),
    "null": lambda v: v is None,
}
BOUNDS = {
    "minimum": lambda v, bound: v >= bound,
    "maximum": lambda v, bound: v <= bound,
    "exclusiveMinimum": lambda v, bound: v > bound,
    "exclusiveMaximum": lambda v, bound: v < bound,
    "minLength": lambda v, bound: len(v) >= bound,
    "minItems": lambda v, bound: len(v) >= bound,
    "maxItems": lambda v, bound: len(v) <= bound,
}


def fault(value: Any, schema: dict[str, Any], root: dict[str, Any], path: str = "") -> str | None:
    """Where `value` does not fit, if anywhere."""
    schema = resolved(schema, root)
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            faults = [fault(value, arm, root, path) for arm in schema[choice]]
            if None not in faults:
                return f"{path}: fits no member of a union: {faults[-1]}"
    if "type" in schema and not TYPES[schema["type"]](value):
        return f"{path}: {value!r:.80} is no {schema['type']}"
    if "const" in schema and value != schema["const"]:
        return f"{path}: {value!r:.80} is not {schema['const']!r}"
    if "enum" in schema and value not in schema["enum"]:
        return f"{path}: {value!r:.80} is not in {schema['enum']}"
    for name, holds in BOUNDS.items():
        if name in schema and not holds(value, schema[name]):
            return f"{path}: {value!r:.80} against {name} {schema[name]}"
    return _fault_inside(value, schema, root, path)


def _fault_inside(value, schema, root, path) -> str | None:
    inside: list[str | None] = []
    if isinstance(value, list) and "items" in schema:
        inside = [fault(v, schema["items"], root, f"{path}.{i}") for i, v in enumerate(value)]
    elif isinstance(value, dict) and "properties" in schema:
        known = schema["properties"]
        for key in schema.get("required", ()):
            if key not in value:
                return f"{path}.{key}: missing"
        if schema.get("additionalProperties") is False and (odd := set(value) - set(known)):
            return f"{path}: unknown {sorted(odd)}"
        inside = [fault(v, known[k], root, f"{path}.{k}") for k, v in value.items() if k in known]
    return next((found for found in inside if found), None)


def resolved(schema: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """The schema, or the definition that it points to."""
    while "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    return schema


def sample(schema: dict[str, Any], root: dict[str, Any], rng: random.Random) -> Any:
    """A value of the right kind, often one at the edge of what is allowed."""
    schema = resolved(schema, root)
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            arms = [arm for arm in schema[choice] if arm.get("type") != "null"]
            return sample(rng.choice(arms), root, rng)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return rng.choice(schema["enum"])
    low = schema.get("minimum", schema.get("exclusiveMinimum", 0))
    high = schema.get("maximum", schema.get("exclusiveMaximum", low + 8))
    kind = schema.get("type")
    if kind == "object":
        known = schema.get("properties", {})
        optional = [k for k in known if k not in schema.get("required", ())]
        some = [*schema.get("required", ()), *(k for k in optional if rng.random() < 0.5)]
        return {key: sample(known[key], root, rng) for key in some}
    if kind == "array":
        count = schema.get("minItems", rng.randrange(3))
        return [sample(schema["items"], root, rng) for _ in range(count)]
    if kind == "integer":
        return rng.choice([low, low + 1, low + 2, low + 3, high])
    if kind == "number":
        return rng.choice([float(low), low + 0.5, low + 1e-3, float(high), 1.0])
    return {"boolean": rng.random() < 0.5}.get(str(kind), rng.choice(["x", "1 epoch", ".*", "50%"]))
