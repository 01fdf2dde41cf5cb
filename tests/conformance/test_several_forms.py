"""The operations that `ops.implementation` chooses the implementation of, in the table."""

from .catalog import SWITCHED
from .cells import tests_of

test_cell, test_drawn, test_many_drawn = tests_of(SWITCHED)
