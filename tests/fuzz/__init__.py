"""Bad input on purpose: configs and files that are mutated at random, the same for a seed everywhere.

    python -m tests.fuzz configs --count 10000 --seed 0
    python -m tests.fuzz files --count 2000 --seed 0
    python -m tests.fuzz annotations --count 1000 --seed 0

Whatever it is given, convax either takes it, and then it is right, or refuses it with an error of its
own that names the culprit in a line or few. `mutations.py` spoils configs, `damage.py` bytes and
`texts.py` what annotations say, `sources.py` makes the good files, `configs.py`, `files.py` and
`annotations.py` try one case each and judge what came of it, `schema.py` is a judge that knows nothing
of how configs are checked, and `verdict.py` has what all share. `test_fuzz.py` tries a few of each.
"""
