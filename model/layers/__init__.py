"""The room model/layers."""
