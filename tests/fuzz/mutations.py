"""Ways to spoil a config: each a function of a config and a source of random numbers."""

import copy
import math
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import tomli_w

from .schema import sample

Path = tuple[str | int, ...]
Config = dict[str, Any]


class Mutant(NamedTuple):
    """A spoiled config."""

    content: bytes
    overrides: list[str]
    touched: list[Path]  # the keys that a message may be expected to name; none: anything


NUMBERS = [
    *(
        0,
        1,
        -1,
        2,
        3,
        7,
        255,
        256,
        65536,
        2**31 - 1,
        2**31,
        -(2**31),
        2**32,
        2**53 + 1,
        2**63,
        10**30,
    ),
    *(
        0.0,
        -0.0,
        0.5,
        1.0,
        -0.5,
        1.5,
        99.0,
        0.99999999,
        1.00000001,
        1e-320,
        1e-30,
        1e30,
        1e39,
        1e308,
    ),
    *(math.nan, math.inf, -math.inf),
]
TEXTS = [
    "",
    " ",
    "x",
    "5",
    "true",
    "a\0b",
    "é" * 40,
    "x" * 5000,
    "../..",
    "~nobody/x",
    "/",
    "(",
    "%s{}",
]
TEXTS += [
    "[]",
    "1 epoch",
    "0 steps",
    "-1 steps",
    "1e9 epochs",
    "9" * 400 + " steps",
    "\n",
    "\u202e",
]
OTHERS = [[], {}, [[]], [{}], {"": 1}, [1, "x"], [None for _ in ()], True, False, {"name": []}]


def places(table: Any, path: Path = ()) -> Iterator[Path]:
    """The path of every key and item."""
    items = table.items() if isinstance(table, dict) else enumerate(table)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, (dict, list)):
            yield from places(value, (*path, key))


def at(table: Any, path: Path) -> Any:
    """What is at a path."""
    for key in path:
        table = table[key]
    return table


def _key(config: Config, rng: random.Random) -> Path:
    """A key, at each depth as often; not an item of a list."""
    paths = [path for path in places(config) if isinstance(path[-1], str)]
    depth = rng.choice(sorted({len(path) for path in paths}))
    return rng.choice([path for path in paths if len(path) == depth])


def drop(config: Config, rng: random.Random) -> list[Path]:
    path = _key(config, rng)
    del at(config, path[:-1])[path[-1]]
    return [path]


def typo(config: Config, rng: random.Random) -> list[Path]:
    path = _key(config, rng)
    old, place = str(path[-1]), rng.randrange(len(str(path[-1])) or 1)
    letter = rng.choice("aeioux_-. é\"'\0")
    new = rng.choice(
        [old[:place] + old[place + 1 :], old[:place] + letter + old[place:], old.upper(), old * 2]
    )
    table = at(config, path[:-1])
    table[new] = table.pop(old)
    return [path, (*path[:-1], new)]


def retype(config: Config, rng: random.Random) -> list[Path]:
    path = rng.choice(list(places(config)))
    value = at(config, path)
    wrong: list[Any] = [*OTHERS, rng.choice(TEXTS), rng.choice(NUMBERS), [value], {"value": value}]
    wrong += [str(value), [value, value]]
    if isinstance(value, (int, float)):
        wrong += [bool(value), float(value) if abs(value) < 1e300 else 1.5]
    at(config, path[:-1])[path[-1]] = copy.deepcopy(rng.choice(wrong))
    return [path]


def out_of_range(config: Config, rng: random.Random) -> list[Path]:
    paths = [p for p in places(config) if isinstance(at(config, p), (int, float))]
    path = rng.choice(paths)
    value = at(config, path)
    wrong = [*NUMBERS, -value, value + 1, value * 1000, value / 3, value // 2]
    at(config, path[:-1])[path[-1]] = rng.choice(wrong)
    return [path]


def text(config: Config, rng: random.Random) -> list[Path]:
    paths = [p for p in places(config) if isinstance(at(config, p), str)]
    path = rng.choice(paths)
    others = [at(config, p) for p in paths]
    at(config, path[:-1])[path[-1]] = rng.choice([*TEXTS, *others, at(config, path)[:-1]])
    return [path]


def lists(config: Config, rng: random.Random) -> list[Path]:
    paths = [p for p in places(config) if isinstance(at(config, p), list)]
    path = rng.choice(paths)
    value = at(config, path)
    wrong = [[], value * 2, value * 50, value[::-1], value[:1], [*value, None], [value]]
    wrong += [[*value, x] for x in ("x", 0, -3, 1e9, True, [])]
    chosen = [x for x in rng.choice(wrong) if x is not None]
    at(config, path[:-1])[path[-1]] = copy.deepcopy(chosen)
    return [path]


def swap(config: Config, rng: random.Random) -> list[Path]:
    """Two values of one table, or two tables, in each other's place."""
    tables = [(), *(p for p in places(config) if isinstance(at(config, p), dict))]
    path = rng.choice([p for p in tables if len(at(config, p)) > 1])
    one, other = rng.sample(list(at(config, path)), 2)
    table = at(config, path)
    table[one], table[other] = table[other], table[one]
    return [(*path, one), (*path, other)]


def graft(config: Config, rng: random.Random, others: list[Config]) -> list[Path]:
    """A table of another config in place of this one's, or within it."""
    other = rng.choice(others)
    name = rng.choice(list(other))
    value = copy.deepcopy(other[name])
    if isinstance(value, dict) and isinstance(config.get(name), dict) and rng.random() < 0.5:
        config[name] |= value
    else:
        config[name] = value
    return [(name,)]


def extra(config: Config, rng: random.Random, schema: dict[str, Any]) -> list[Path]:
    """A key from anywhere in the schema, here; with a value that would do there."""
    tables = [(), *(p for p in places(config) if isinstance(at(config, p), dict))]
    path = rng.choice(tables)
    optional = [k for k in schema["properties"] if k not in config]
    if rng.random() < 0.5 and optional:
        path, known = (), schema["properties"]
        key = rng.choice(optional)
    else:
        known = rng.choice([d for d in schema["$defs"].values() if d.get("properties")])[
            "properties"
        ]
        key = rng.choice(list(known))
    at(config, path)[key] = sample(known[key], schema, rng)
    return [(*path, key)]


def tables(config: Config, rng: random.Random, schema: dict[str, Any]) -> list[Path]:
    """A table as the schema has it, any of its kinds, in place of this config's."""
    key = rng.choice([k for k in schema["properties"] if isinstance(config.get(k, {}), dict)])
    config[key] = sample(schema["properties"][key], schema, rng)
    return [(key,)]


def network(config: Config, rng: random.Random, schema: dict[str, Any]) -> list[Path]:
    """A few layers of any type, with numbers that they may not take; then what makes a vector."""
    layer = schema["$defs"]["Layers"]["properties"]["layers"]["items"]
    layers = [sample(layer, schema, rng) for _ in range(rng.randrange(1, 4))]
    for table in layers:
        for key, value in table.items():
            if isinstance(value, int) and rng.random() < 0.3:
                table[key] = rng.choice(SIZES)
            elif isinstance(value, list) and rng.random() < 0.3:
                table[key] = [rng.choice(SIZES) for _ in range(rng.randrange(4))]
            elif isinstance(value, float) and rng.random() < 0.3:
                table[key] = rng.choice(NUMBERS)
    head: Any = [{"type": "flatten"}, {"type": "dense", "features": 10}]
    config["model"] = {"layers": layers + (head if rng.random() < 0.8 else [])}
    return [("model", "layers")]


SIZES = [-(2**31), -3, -1, 0, 1, 2, 3, 4, 5, 7, 8, 9, 16, 100, 10_000, 10**6, 2**31 - 1, 2**40]


def syntax(content: bytes, rng: random.Random) -> bytes:
    """TOML that is broken, or nearly."""
    place, lines = rng.randrange(len(content)), content.splitlines(keepends=True)
    i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
    stray = [
        b"\0",
        b"\xff",
        b"\xc3",
        b"\xed\xa0\x80",
        b'"',
        b"'",
        b"[",
        b"]",
        b"=",
        b"#",
        b"\n",
        b"\r",
    ]
    stray += [
        b"\\",
        b"{",
        b",",
        b".",
        b'"""',
        b"'''",
        b"\xef\xbb\xbf",
        bytes([rng.randrange(256)]),
        b"e9",
    ]
    ways = [
        content[:place],
        content[:place] + rng.choice(stray) + content[place:],
        content[:place] + content[place + 1 :],
        content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :],
        b"".join([*lines[:i], lines[j], *lines[i:]]),
        b"".join([*lines[:i], *lines[i + 1 :]]),
        content + content,
        content + b"\n[model]\nname = 'mlp'\n",
        content + b"\n" + rng.choice(DEEP),
        rng.choice([b"\xef\xbb\xbf", b"\xff\xfe", b"\x1f\x8b"]) + content,
        content.decode().encode("utf-16"),
        content.replace(b"\n", rng.choice([b"\r\n", b"\r", b" "])),
        content[: place // 4] * 3,
        rng.randbytes(rng.randrange(200)),
        b"",
    ]
    return rng.choice(ways)


DEEP = [
    b"x = " + b"[" * 5000,
    b"x = " + b"[" * 300 + b"]" * 300,
    b"x = " + b"{a=" * 3000 + b"1" + b"}" * 3000,
    b".".join([b"a"] * 3000) + b" = 1",
    b"[" + b".".join([b"a"] * 200) + b"]",
    b"seed_ = " + b"9" * 5000,
    b"seed_ = 0x" + b"f" * 5000,
    b"seed_ = 2021-02-30",
    b"seed_ = 1979-05-27T07:32:00Z",
    b"seed_ = 1e999",
    b"k" * 5000 + b" = 1",
]


def override(config: Config, rng: random.Random) -> list[str]:
    """One ``--set``, more often wrong than not."""
    dotted = ".".join(map(str, rng.choice(list(places(config)))))
    values = [*map(str, NUMBERS), *TEXTS, "[", "{", "[1,", "1\nseed=2", "[" * 5000, "9" * 5000]
    values += [
        "1979-05-27",
        "0x" + "f" * 5000,
        "1 # note",
        "{a=1",
        "{a={a=[{}]}}",
        '"x',
        "[[1,2],[3]]",
    ]
    keys = [dotted, dotted + ".x", dotted + ".0", dotted + ".-1", dotted + ".99", dotted + "."]
    keys += [
        "",
        ".",
        "..",
        "=",
        "a" * 5000,
        ".".join(["a"] * 3000),
        "model.layers.0",
        dotted.upper(),
    ]
    keys += ["data.\0", " seed ", "'seed'", "seed[0]", "model.layers." + "9" * 5000, "x.y.z"]
    return [rng.choice([f"{rng.choice(keys)}={rng.choice(values)}", rng.choice([*keys, *values])])]


def mutant(
    name: str, config: Config, rng: random.Random, others: list[Config], schema: dict[str, Any]
) -> Mutant:
    """`config` spoiled in one of the `KINDS`."""
    config = copy.deepcopy(config)
    if name == "syntax":
        return Mutant(syntax(tomli_w.dumps(config).encode(), rng), [], [])
    if name == "override":
        overrides = override(config, rng)
        return Mutant(tomli_w.dumps(config).encode(), overrides, [])
    if name == "several":
        ways, touched = [drop, typo, retype, out_of_range, text, lists, swap], []
        for _ in range(rng.randrange(2, 5)):
            with suppress(IndexError):  # nothing is left that could be spoiled in this way
                touched += rng.choice(ways)(config, rng)
    elif name == "graft":
        touched = graft(config, rng, others)
    elif name in ("extra", "tables", "network"):
        touched = KINDS[name](config, rng, schema)
    else:
        touched = KINDS[name](config, rng)
    return Mutant(tomli_w.dumps(config).encode(), [], touched)


KINDS: dict[str, Callable[..., Any]] = {
    "drop": drop,
    "typo": typo,
    "retype": retype,
    "out_of_range": out_of_range,
    "text": text,
    "lists": lists,
    "swap": swap,
    "graft": graft,
    "extra": extra,
    "tables": tables,
    "network": network,
    "several": mutant,
    "syntax": syntax,
    "override": override,
}
