"""The room ops/common."""
