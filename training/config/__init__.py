"""The room training/config."""
