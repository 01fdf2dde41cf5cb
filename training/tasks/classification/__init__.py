"""Which class an image is of: logits ``(N, K)``, accuracy, the confusion matrix.

spec      what a config must know of it
losses    the losses that a config may name
calibration   reliability, calibration error, the temperature
conformal  sets of classes that hold the true one as often as is asked for
task      loss, metrics, what `predict` and `explain` say
figures   the figures of an evaluation
page      its part of the HTML report
"""
