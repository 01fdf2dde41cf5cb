"""The room ops/loss."""
