"""Which objects are where in an image: boxes, classes and scores, average precision.

losses    the loss of the R-CNN family, in its parts
metrics   the parts of the loss of a batch and of a split
"""
