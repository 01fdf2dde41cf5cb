"""The room training/optim."""
