"""The operations with primitives of ours, in the table."""

from .catalog import PRIMITIVES
from .cells import cells_of

test_cell, test_drawn, test_many_drawn = cells_of(PRIMITIVES)
