"""The room training/loop."""
