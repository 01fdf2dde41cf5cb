"""The room ops/pool."""
