"""Which class each pixel is of: logits ``(N, H, W, K)``, mean intersection over union.

spec      what a config must know of it
losses    the losses that a config may name
metrics   intersection over union, of a confusion matrix and of images
task      loss, metrics, what `predict` and `explain` say
overlay   masks drawn over photographs
figures   the figures of an evaluation
page      its part of the HTML report
"""
