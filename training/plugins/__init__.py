"""Code of one's own in a config: what it registers, and the modules that a config names.

register   `register`, which puts a function beside those of convax
tables     what was registered
modules    the modules of ``[plugins]``: found, run, copied into a run, and identified

What is registered is named in a config as convax's own functions are, and `training.config` derives
its table from its signature. Imports `model`, `training.common`, `training.optim` and
`training.tasks`.
"""
