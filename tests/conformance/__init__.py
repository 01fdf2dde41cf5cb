"""Every operation against every oracle, under every transformation.

    python -m tests.conformance              print the table: operation x oracle and transformation
    python -m tests.conformance --accuracy   write docs/accuracy.md: float32 against float64

`entry.py` says what is known of an operation, one file for each family holds the entries and the
problems drawn at random, `checks.py` has the checks, and `test_conformance.py` runs all of it under pytest. `rules.py` has layers that
take each form a convolution has on CPU, and `networks.py` whole networks, for `accuracy.py` to measure.
"""
