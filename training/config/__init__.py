"""An experiment as one TOML file: its schema, and errors that a person can act on.

schema           all tables of a config, loading, `--set`, writing
from_python      a config as a Python object, of a name, a file or a dict
files            where configs are read from
from_signature   tables derived from the signatures of functions
limits           how large a config may be
renamed          keys and values under the names of earlier versions
errors           what is wrong, in lines with key, complaint and remedy
sources          ``[data]``, a table for each source
table            what every table is made of: strictness, numbers, durations
given            what a Python program gives in place of what a config names
groups           ``[[optimizer.groups]]``
loss             ``[loss]``
augment          ``[augment]``
init_from        ``[init_from]``
proposals        ``[proposals]``
plugins          ``[plugins]``
precision        ``[precision]`` and ``[ema]``
choices          the tables of all that a config names
usual_values     what errors suggest for keys that are missing
sweep            ``[sweep]`` and what is recorded

A keyword is written down once: in the function that it is for. Imports `training.common`,
`weights`, `optim` and the registries of `model`; what a table means is done by the rooms above.
"""
