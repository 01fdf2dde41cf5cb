"""Which objects are where in an image: boxes, classes and scores, average precision.

losses              the loss of the R-CNN family, in its parts
metrics             the parts of the loss of a batch and of a split
objects             objects on the host, in pixels of their image, true and found
masks               masks on the host: pasted into an image, run-length encoded
average_precision   COCO's figures, by its own program
mistakes            kinds of mistakes, and which classes are taken for which
"""
