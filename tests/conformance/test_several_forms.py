"""The other operations that `ops.implementation` chooses the implementation of, in the table."""

from .catalog import PRIMITIVES, SWITCHED
from .cells import cells_of

test_cell, test_drawn, test_many_drawn = cells_of([f for f in SWITCHED if f not in PRIMITIVES])
