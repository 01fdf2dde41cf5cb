"""Vectors ``(N, D)`` that lie close together within a class: retrieval and verification.

spec      what a config must know of it
losses    the losses that a config may name
metrics   what lies nearest, and whether two images are of one class
task      loss, metrics, what `predict` and `explain` say
figures   the figures of an evaluation
page      its part of the HTML report
"""
