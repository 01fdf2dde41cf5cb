"""Detectors: what networks of the R-CNN family are made of.

The networks are in `architectures.rcnn` and `architectures.faster_rcnn`.

    structures.py   inputs and outputs, as pytrees
    options.py      the numbers: thresholds, sizes, counts
    fpn.py          the feature pyramid
    heads.py        layers on maps and on regions: proposals, boxes, masks
    proposals.py    anchors labeled and decoded, for one image
    regions.py      regions sampled in training, and turned into detections
    pools.py        how a region becomes what its head is given
    linear.py       what is fitted in place of the last layer behind the training
    detector.py     the combinator of them all
    features.py     what a detector computes of given boxes, before its last layer

All sizes are static: rows that stand for nothing are marked. The room imports `convax.ops`, the
contract of layers and `model.layers`.
"""
