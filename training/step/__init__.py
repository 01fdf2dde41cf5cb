"""The room training/step."""
