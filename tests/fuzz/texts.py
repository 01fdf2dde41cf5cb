"""Ways in which the text of annotations is spoiled: it can be read, but what it says is odd."""

import json
import random
import re
from typing import Any

NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")
WORD = re.compile(rb"[A-Za-z]{3,}")
ODD_NUMBERS = (
    *(b"-1", b"0", b"1", b"0.5", b"1.5", b"17", b"31", b"33", b"1e9", b"1e308", b"1e999", b"-0.0"),
    *(b"nan", b"inf", b"NaN", b"Infinity", b"2147483648", b"9223372036854775808", b"9" * 5000),
    *(b"", b"x", b"1_0", b"0x10", b"1,5", b"\xd9\xa1", b"1 2"),
)
ODD_WORDS = (
    b"",
    b"\0",
    b"\xff",
    b"\xc3\xa9",
    b"../x",
    b"a b",
    b"x" * 5000,
    b"null",
    b"&amp;",
    b"#",
)
ODD_VALUES: tuple[Any, ...] = (
    *(-1, 0, 1, 2, 0.5, 1.5, 33, 1e9, 1e308, float("nan"), float("inf"), 2**31, 2**63, 10**400),
    *(
        None,
        True,
        "",
        "x",
        "\0",
        "\ud800",
        "9" * 5000,
        [],
        {},
        [1],
        [[]],
        {"size": [1, 1]},
        "a.png",
    ),
)


def spoil(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Spoil the text of a file, and say how."""
    if content.startswith(b"{"):
        return _spoil_json(json.loads(content), rng)
    how = rng.choice(
        ["a number", "a number", "a word", "a line twice", "a line less", "lines mixed"]
    )
    if how == "a number":
        return _replaced(content, NUMBER, ODD_NUMBERS, rng), how
    if how == "a word":
        return _replaced(content, WORD, ODD_WORDS, rng), how
    lines = content.replace(b"><", b">\n<").split(b"\n")
    i = rng.randrange(len(lines))
    if how == "a line twice":
        lines.insert(i, lines[i])
    elif how == "a line less":
        lines.pop(i)
    else:
        rng.shuffle(lines)
    return b"\n".join(lines), how


def _replaced(
    content: bytes, pattern: re.Pattern[bytes], odd: tuple[bytes, ...], rng: random.Random
) -> bytes:
    found = list(pattern.finditer(content))
    if not found:
        return content + rng.choice(odd)
    chosen = rng.choice(found)
    return content[: chosen.start()] + rng.choice(odd) + content[chosen.end() :]


def _spoil_json(root: Any, rng: random.Random) -> tuple[bytes, str]:
    """Replace, lose or double one of the values, or let two change places."""
    places = list(_places(root))
    holder, key = rng.choice(places)
    how = rng.choice(["a value", "a value", "a value less", "a value twice", "values swapped"])
    if how == "a value":
        holder[key] = rng.choice(ODD_VALUES)
    elif how == "a value less":
        del holder[key]
    elif how == "a value twice":
        other, there = rng.choice(places)
        other[there] = json.loads(json.dumps(holder[key]))
        if isinstance(holder, list):
            holder.append(json.loads(json.dumps(holder[key])))
    else:
        values = list(holder.values()) if isinstance(holder, dict) else list(holder)
        rng.shuffle(values)
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        for at, value in zip(keys, values, strict=True):
            holder[at] = value
    return json.dumps(root).encode(), how


def _places(node: Any) -> Any:
    """Yield each value as what holds it, and where there."""
    for key in node if isinstance(node, dict) else range(len(node)):
        yield node, key
        if isinstance(node[key], (dict, list)):
            yield from _places(node[key])
