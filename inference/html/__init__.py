"""The room inference/html."""
