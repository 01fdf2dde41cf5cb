"""The calibration of a run, as a file in it.

file   ``calibration.json``: read, and refused for other weights than it was fitted for

The file has a format number, which a change of its keys has to raise. What calibration means is
`training.tasks.classification.calibration`; fitting is `inference.calibrate`. Imports
`training.run` and `training.common`.
"""
