"""The room ops/conv."""
