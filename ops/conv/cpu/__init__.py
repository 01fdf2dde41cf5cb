"""The room ops/conv/cpu."""
