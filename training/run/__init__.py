"""A run is a directory: everything about one training, readable without convax.

directory         its files, and how they are made and opened
provenance        what decides the bytes of a run: config, data, code, versions, device
given_programs    what was given in Python, known again by its traced program
checkpoint        checkpoints that exist whole or not at all
json_types        what its JSON files may hold
git_revision      the revision of a folder, without running git
metrics_log       how far the metrics belong to a checkpoint
lock              one process a run
load_model        the network of a run with what it has learned
study_directory   the directory of several runs

Formats that are read back stay readable: a change of one is a new format number. Imports
`training.config`, `data.preprocess`, `common`, and `model`; never the step or the loop.
"""
