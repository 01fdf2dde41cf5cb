"""The room training/distributed."""
