"""The room model/architectures."""
