"""What a network is to learn: one folder for each kind of task.

task             the contract: a tuple of data and pure functions
metric_names     what figures are called
classification   which class an image is of
segmentation     which class each pixel is of
embedding        vectors that lie close together within a class

Nothing outside a task's folder compares a task's name. Imports `training.data` and all below it.
"""
