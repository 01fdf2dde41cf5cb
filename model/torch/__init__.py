"""The room model/torch."""
