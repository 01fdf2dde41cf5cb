"""The figures of a run: what it learned, and where it errs.

figures        evaluates a run and draws its figures, those of its task among them
data_summary   says what data a config has, before a training
augmentation   draws what ``[augment]`` does to images

How a figure looks is `training.plots`'; what a task draws is in its folder. Imports
`training.evaluation` and all below it.
"""
