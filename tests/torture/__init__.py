"""Runs that are killed, starved and damaged; see `tests.torture.__main__`."""
