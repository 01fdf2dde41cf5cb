"""What a network is to learn: one folder for each kind of task.

spec             what a config must know of a task: plain data, on the ground floor
registry         every task by its name: a line for each
task             the contract: a tuple of data and pure functions
metric_names     what metrics are called
own_metrics      figures of one's own, as registered
per_class        figures of each class, and which are undefined
confusion        a confusion matrix on a page, as cells or SVG; `plots.figures` draws the PNG
classification   which class an image is of
segmentation     which class each pixel is of
detection        which objects are where
embedding        vectors that lie close together within a class
multilabel       several classes an image, or none
regression       numbers of an image

The files of a task's folder: `spec` (losses, metrics, labels), `losses`, `metrics` (of a whole
split, on the host), `task` (the contract), `figures` (PNG files), `page` (its part of the HTML
report).

Nothing outside a task's folder compares a task's name. Imports `training.data` and all below it.
"""
