"""Several classes an image, or none: logits ``(N, K)``, average precision and F1.

spec      what a config must know of it
losses    the losses that a config may name
metrics   average precision, precision, recall and F1 of each class
task      loss, metrics, what `predict` and `explain` say
figures   the figures of an evaluation
page      its part of the HTML report
"""
