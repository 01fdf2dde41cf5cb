"""The room training/plots."""
