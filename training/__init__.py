"""From a config to a trained network: data, optimizers, the loop, checkpoints, evaluation."""
