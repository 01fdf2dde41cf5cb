"""The room training/run."""
