"""The operations with one implementation, in the table; and what belongs into the table."""

from convax import ops

from .catalog import ENTRIES, FAMILIES, SWITCHED, WITHOUT
from .cells import cells_of
from .checks import CHECKS

test_cell, test_drawn, test_many_drawn = cells_of([f for f in FAMILIES if f not in SWITCHED])


def test_every_function_has_an_entry():
    proved = {entry.op for entry in ENTRIES}
    assert proved | set(WITHOUT) == set(ops.__all__)
    assert not proved & set(WITHOUT)


def test_names_are_unique():
    names = [entry.name for entry in ENTRIES]
    assert len(names) == len(set(names))
    unknown = {check for entry in ENTRIES for check in entry.explained} - set(CHECKS)
    assert not unknown
