"""Which objects are where in an image: boxes, classes and scores, average precision.

spec                what a config must know of the two tasks, detection and instance segmentation
task                the contract of both
losses              the loss of the R-CNN family, in its parts
metrics             the parts of the loss of a batch and of a split
svm                 linear classifiers and box regressors of R-CNN, from features to arrays
final               these, fitted to a trained network behind its last step
objects             objects on the host, in pixels of their image, true and found
masks               masks on the host: pasted into an image, run-length encoded
average_precision   COCO's figures, by its own program
mistakes            kinds of mistakes, and which classes are taken for which
assessment          all of these of a split; its worst images
comparison          whether a network finds elsewhere what it finds here
drawing             objects drawn on their image
answers             what `predict` and the service say of an image; COCO's results
figures             the figures of an evaluation
page                its part of the HTML report
"""
