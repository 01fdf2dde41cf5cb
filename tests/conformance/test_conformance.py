"""The conformance table, cell by cell, and the drawn problems.

`CONVAX_CONFORMANCE=core` leaves those columns that the rest follows from, for a second look elsewhere.
"""

import os
import zlib

import numpy as np
import pytest
from hypothesis import given, seed, settings

from convax import ops
from convax.ops.common.implementation import uses_xla

from .catalogue import ENTRIES, FAMILIES, PROBLEMS, SWITCHED, WITHOUT
from .checks import CHECKS, check_problem

EACH = 50  # of each family are drawn; 300 more among the slow tests

# The dearest columns, and those that others have in them: second derivatives are in the Hessian.
SLOW = {
    *("finite differences", "low precision", "jit", "linearize", "vmap", "remat", "scan"),
    *("grad of grad", "jvp of grad", "vmap of hessian"),
}
CELLS = [pytest.param(c, marks=pytest.mark.slow) if c in SLOW else c for c in CHECKS]
TESTED = tuple(FAMILIES)

CORE = ["loops", "torch", "hessian", "vmap of grad"]
if os.environ.get("CONVAX_CONFORMANCE") == "core":
    CELLS = [*CORE, "scan", "low precision"]

# The other families are the same on both lowerings, and the plain one is of JAX's own making;
# `CONVAX_LOWERING=xla make conformance` has all of its columns.
if uses_xla():
    CELLS, TESTED = CORE, SWITCHED


@pytest.mark.parametrize("check", CELLS)
@pytest.mark.parametrize(
    "entry", [e for f in TESTED for e in FAMILIES[f].ENTRIES], ids=lambda entry: entry.name
)
def test_cell(entry, check, rng, request):
    if check == "torch":
        request.getfixturevalue("torch")
    if (why := entry.why_not(check)) is not None:
        pytest.skip(why)
    CHECKS[check](entry, rng)


def draw_problems(family, number, count):
    @seed(number)
    @settings(max_examples=count)
    @given(PROBLEMS[family]())
    def against_torch(problem):
        check_problem(problem, np.random.default_rng(zlib.crc32(problem.text.encode())))

    against_torch()


@pytest.mark.parametrize("family", TESTED)
def test_drawn(family, torch):
    draw_problems(family, 0, EACH)


@pytest.mark.slow
@pytest.mark.parametrize("family", TESTED)
def test_many_drawn(family, torch):
    draw_problems(family, 1, 300)


def test_every_function_has_an_entry():
    proved = {entry.op for entry in ENTRIES}
    assert proved | set(WITHOUT) == set(ops.__all__)
    assert not proved & set(WITHOUT)


def test_names_are_unique():
    names = [entry.name for entry in ENTRIES]
    assert len(names) == len(set(names))
    unknown = {check for entry in ENTRIES for check in entry.explained} - set(CHECKS)
    assert not unknown
