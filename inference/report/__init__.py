"""The room inference/report."""
