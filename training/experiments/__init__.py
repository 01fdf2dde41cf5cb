"""Several networks at once: seeds, sweeps, and what they have come to together.

study            a study: its directory, its runs, its results; `run.study_directory` reads one
seeds            a list of seeds as it is typed
sweep            the points of a grid or of a random search
traced_hparams   hyper-parameters that one program takes as arguments
batched_program  the compiled steps of many networks, over a leading axis
batched_loop     many networks through `training.loop.chunk_loop`, each with a run of its own
results          figures of several runs: means, spreads, tables
compare          runs side by side
sweep_plot       the metric against each key

Imports `training.loop` and all below it.
"""
