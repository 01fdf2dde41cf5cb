"""The room inference/export."""
