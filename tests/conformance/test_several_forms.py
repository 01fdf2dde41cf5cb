"""The other operations that `ops.implementation` chooses the implementation of, in the table."""

import jax
import pytest

from convax import ops

from .catalog import ENTRIES, PRIMITIVES, SWITCHED, UNSWITCHED
from .cells import cells_of
from .checks import scalar

test_cell, test_drawn, test_many_drawn = cells_of([f for f in SWITCHED if f not in PRIMITIVES])


@pytest.mark.parametrize("name", sorted(UNSWITCHED))
def test_what_is_one_program_is_proved_once(name, rng):
    (entry,) = (e for e in ENTRIES if e.name == name)
    arrays, programs = entry.draw(rng), set()
    for implementation in ("cpu", "xla"):
        gradient = jax.value_and_grad(scalar(entry.function), tuple(range(len(arrays))))
        with ops.implementation(implementation), jax.enable_x64(True):
            programs.add(jax.jit(gradient).lower(*arrays).as_text())
    assert len(programs) == 1
