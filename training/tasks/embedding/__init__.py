"""Vectors ``(N, D)`` that lie close together within a class: retrieval and verification."""
