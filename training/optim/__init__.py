"""Optimizers as pairs of pure functions, each written from its equation and held against optax.

optimizer   `sgd`, `momentum`, `adam`, `adamw`, and chains of them
from_optax  those of optax, by name
clip        clipping of the gradient
partition   other optimizers for other parameters, by their paths
arithmetic  of trees of parameters, gradients and moments
checks      of hyper-parameters, gradients and dtypes
schedules   the learning rate over the steps

A new optimizer is a function in `optimizer` and a line in its table `OPTIMIZERS`; its config table
is derived from its signature. Imports `training.common`.
"""
