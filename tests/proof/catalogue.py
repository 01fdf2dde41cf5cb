"""All entries, and the problems drawn at random, by family."""

from collections.abc import Callable

from . import dense
from .entry import Entry

FAMILIES = {"dense": dense}

ENTRIES: list[Entry] = [entry for family in FAMILIES.values() for entry in family.ENTRIES]
PROBLEMS: dict[str, Callable] = {name: family.problems for name, family in FAMILIES.items()}

# Public functions without an entry, and why.
WITHOUT: dict[str, str] = {
    "conv_output_shape": "arithmetic on shapes",
    "pool_output_shape": "arithmetic on shapes",
    "INITIALIZERS": "a table of functions",
    **dict.fromkeys(
        (
            *("xavier_uniform", "xavier_normal", "he_uniform", "he_normal", "lecun_normal"),
            *("zeros", "ones"),
        ),
        "draws a constant: moments and shapes are tested in tests/ops/test_init.py",
    ),
}
