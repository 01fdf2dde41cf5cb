"""The room training/report."""
