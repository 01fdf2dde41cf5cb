"""Numbers of an image: outputs ``(N, V)``, R², mean absolute and mean squared error.

spec      what a config must know of it
losses    the losses that a config may name
metrics   the errors of each value
task      loss, metrics, what `predict` and `explain` say
figures   the figures of an evaluation
page      its part of the HTML report
"""
