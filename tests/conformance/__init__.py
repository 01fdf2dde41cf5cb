"""Every operation against every oracle, under every transformation.

    python -m tests.conformance              print the table: operation x oracle and transformation
    python -m tests.conformance --accuracy   write docs/accuracy.md: float32 against float64

`entry.py` says what is known of an operation, one file for each family holds the entries and the
problems drawn at random, and `checks.py` has the checks. `cells.py` makes tests of all of it for pytest:
`test_primitives.py` has those of the operations with primitives of ours, `test_several_forms.py` those of the others with
several implementations, `test_single_form.py` the rest.
`rules.py` has layers that take each form a convolution has on CPU, and `networks.py` whole networks, for `accuracy.py` to measure.
"""
