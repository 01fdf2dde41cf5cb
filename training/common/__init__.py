"""The room training/common."""
