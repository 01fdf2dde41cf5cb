"""The tests of some families: the cells of the table, and problems drawn at random."""

import zlib
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, seed, settings

from convax.ops.common.implementation import uses_xla

from .catalog import FAMILIES, PRIMITIVES, PROBLEMS, UNSWITCHED
from .checks import CHECKS, check_problems

EACH, MANY = 50, 300  # of each family are drawn; the many among the slow tests


def cells_of(families: Sequence[str]) -> tuple[Callable, Callable, Callable]:
    """Return the tests of some families, for a module of tests to have under their names.

    A file for all of them would be one process's work, and nobody could choose among them.
    """
    entries = [
        # Compiling takes seconds an entry, so the slow tests have further cases of an operation.
        pytest.param(entry, id=entry.name, marks=[pytest.mark.slow] * _is_further(entry, family))
        for family in families
        for entry in FAMILIES[family].ENTRIES
        if not (uses_xla() and entry.name in UNSWITCHED)  # the other run proves it
    ]

    @pytest.mark.parametrize("check", CHECKS)
    @pytest.mark.parametrize("entry", entries)
    def test_cell(entry, check, rng, request):
        if check == "torch":
            request.getfixturevalue("torch")
        if (why := entry.why_not(check)) is not None:
            pytest.skip(why)
        CHECKS[check](entry, rng)

    @pytest.mark.parametrize("family", families)
    def test_drawn(family, torch):
        check_drawn(family, 0, EACH)

    @pytest.mark.slow
    @pytest.mark.parametrize("family", families)
    def test_many_drawn(family, torch):
        check_drawn(family, 1, MANY)

    return test_cell, test_drawn, test_many_drawn


def _is_further(entry, family):
    """Tell if an entry of its operation is before it; of primitives of ours every one counts as first."""
    first = next(e for e in FAMILIES[family].ENTRIES if e.op == entry.op)
    return family not in PRIMITIVES and entry is not first


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
