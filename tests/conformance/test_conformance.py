"""The conformance table, cell by cell, and the drawn problems."""

import zlib

import numpy as np
import pytest
from hypothesis import given, seed, settings

from convax import ops
from convax.ops.common.implementation import uses_xla

from .catalog import ENTRIES, FAMILIES, PROBLEMS, SWITCHED, WITHOUT
from .checks import CHECKS, check_problems

EACH = 50  # of each family are drawn; 300 more among the slow tests

# The other families are the same in either implementation, and XLA's is of JAX's own making.
TESTED = SWITCHED if uses_xla() else tuple(FAMILIES)


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(
    "entry", [e for f in TESTED for e in FAMILIES[f].ENTRIES], ids=lambda entry: entry.name
)
def test_cell(entry, check, rng, request):
    if check == "torch":
        request.getfixturevalue("torch")
    if (why := entry.why_not(check)) is not None:
        pytest.skip(why)
    CHECKS[check](entry, rng)


def drawn(family, number, count, check):
    """Check problems as they are drawn."""

    @seed(number)
    @settings(max_examples=count)
    @given(PROBLEMS[family]())
    def each(problem):
        check(problem)

    each()


def with_numbers(problem):
    return problem, np.random.default_rng(zlib.crc32(problem.text.encode()))


def check_drawn(family, number, count):
    """Ten of them in one program; where those fail, one by one, and the simplest that fails is shown."""
    problems = []
    drawn(family, number, count, problems.append)
    assert len(problems) >= count
    try:
        check_problems([with_numbers(problem) for problem in problems])
    except Exception:
        drawn(family, number, count, lambda problem: check_problems([with_numbers(problem)]))
        raise


@pytest.mark.parametrize("family", TESTED)
def test_drawn(family, torch):
    check_drawn(family, 0, EACH)


@pytest.mark.slow
@pytest.mark.parametrize("family", TESTED)
def test_many_drawn(family, torch):
    check_drawn(family, 1, 300)


def test_every_function_has_an_entry():
    proved = {entry.op for entry in ENTRIES}
    assert proved | set(WITHOUT) == set(ops.__all__)
    assert not proved & set(WITHOUT)


def test_names_are_unique():
    names = [entry.name for entry in ENTRIES]
    assert len(names) == len(set(names))
    unknown = {check for entry in ENTRIES for check in entry.explained} - set(CHECKS)
    assert not unknown
