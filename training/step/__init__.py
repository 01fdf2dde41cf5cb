"""The training step: pure functions of arrays, each jitted once.

train_step              the step, several of them in one call, the evaluation step
gradient                the gradient of a batch
gradient_accumulation   that of a large batch, out of smaller ones
loss_params             a loss that has parameters of its own
class_weights           by how much an example counts, by its class
freeze                  parameters that are constants of the loss
ema                     averages of the weights
mixed_precision         computing in 16 bits
loss_scaling            gradients that float16 can hold
metrics                 norms of trees

Imports jax, `ops`, `model` and `training.common` alone: it takes plain arguments, no config, and
serves in a loop of one's own.
"""
