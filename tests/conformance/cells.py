"""The tests of some families: the cells of the table, and problems drawn at random."""

import zlib
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, seed, settings

from convax.ops.common.implementation import uses_xla

from .catalog import FAMILIES, PRIMITIVES, PROBLEMS, UNSWITCHED
from .checks import CHECKS, check_problems

EACH, MANY = 50, 100  # of each family are drawn; the many among the slow tests


def cells_of(families: Sequence[str]) -> tuple[Callable, Callable, Callable]:
    """Return the tests of some families, for a module of tests to have under their names.

    A file for all of them would be one process's work, and nobody could choose among them.
    """
    cells = [
        pytest.param(
            entry,
            check,
            id=f"{entry.name}-{check}",
            marks=[pytest.mark.slow] * _is_slow(entry, family, check),
        )
        for family in families
        for entry in FAMILIES[family].ENTRIES
        if not (uses_xla() and entry.name in UNSWITCHED)  # the other run proves it
        for check in CHECKS
    ]

    @pytest.mark.parametrize("entry, check", cells)
    def test_cell(entry, check, rng, request):
        if check == "torch":
            request.getfixturevalue("torch")
        if (why := entry.why_not(check)) is not None:
            pytest.skip(why)
        CHECKS[check](entry, rng)

    @pytest.mark.parametrize("family", [_drawn_quickly(family) for family in families])
    def test_drawn(family, torch):
        check_drawn(family, 0, EACH)

    @pytest.mark.slow
    @pytest.mark.parametrize("family", families)
    def test_many_drawn(family, torch):
        check_drawn(family, 1, MANY)

    return test_cell, test_drawn, test_many_drawn


def _is_slow(entry, family, check):
    """Tell if a cell is for the slow tests: compiling takes seconds an entry, most for transformations.

    Quick are of each operation the first entry's values and gradients in each dtype; of those with
    primitives of ours these of all entries, and all that is shown of the first.
    """
    first = entry is next(e for e in FAMILIES[family].ENTRIES if e.op == entry.op)
    core = check in ("loops", "torch", "low precision")
    return not (first or core) if family in PRIMITIVES else not (first and core)


def _drawn_quickly(family):
    return pytest.param(family, marks=[pytest.mark.slow] * (family not in PRIMITIVES))


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
