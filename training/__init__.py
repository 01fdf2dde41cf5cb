"""From a config to a trained network: a room for each idea, from the ground up.

common        errors, atomic writes, paths in pytrees, the train state: what several rooms share
weights       arrays in files: safetensors, PyTorch's state dicts
plots         how figures are drawn
optim         optimizers and learning-rate schedules, from their equations
plugins       code of one's own: what it registers, and the modules a config names
config        the TOML file as a schema, and its errors
data          data sets as arrays, preprocessing, augmentation
tasks         what a network is to learn: one folder a task
run           the run directory: provenance, checkpoints, metrics
step          the training step: pure functions, each jitted once
distributed   several devices and processes
report        the figures of a run
loop          the training loop, and how it survives
experiments   several networks at once: seeds and sweeps

`config_data` loads the data of a config, `experiment` makes it ready to run, `evaluation` evaluates
a split, `other_data` another folder, `initialize` takes the first weights from elsewhere,
`pretrained` fetches published ones, `hub` those of Hugging Face, `gallery` gives training images to
compare with, `param_groups` reads ``[[optimizer.groups]]``, `lr_finder` looks for a learning rate.

A room imports those above it in this list, `model` and `ops`; `tests/test_architecture.py` holds
the order, floor by floor.
"""
