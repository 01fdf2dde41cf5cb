"""Object detection: boxes, anchors, matching, suppression, and regions of feature maps.

    boxes.py        area, IoU, formats, clipping; offsets between a box and an anchor
    anchors.py      anchors of a cell, and of a grid of cells
    matching.py     which object a box stands for, and balanced samples of boxes
    nms.py          non-maximum suppression, greedy and soft
    bilinear.py     where regions sample a map, and with which weights
    roi_align.py    the features of regions, read between the elements of a map
    levels.py       the same on a pyramid of maps
    roi_pool.py     maxima over bins of regions, in whole elements
    masks.py        masks pasted into an image, and cut out of it

A box is (x1, y1, x2, y2) in pixels, floating point and continuous: pixel i covers [i, i + 1), so an
object of one pixel has width 1. Shapes are static: padding is a row of zeros that a mask, `valid`,
marks, and every function gives it a finite value and gradient. Coordinates are computed in float32
at least. The functions take one image, or leading axes where that costs nothing; `jax.vmap` maps
them over a batch. The room imports `ops.common` and `ops.pool` alone.

The letters of shapes, beside those of `ops`:

    M             objects of an image, padding included
    A             anchors, or boxes to be matched
    R             regions, or boxes of which some are suppressed
"""
