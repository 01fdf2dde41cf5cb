"""The room training/weights."""
