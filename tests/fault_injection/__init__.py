"""Runs that are killed, starved and damaged; see `tests.fault_injection.__main__`."""
