"""The room training/experiments."""
