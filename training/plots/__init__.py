"""How figures are drawn: numbers in, matplotlib figures out.

figures     the style, and the figures that all tasks have in common
lr_finder   the loss over the learning rate

What is drawn, and of which numbers, is found by `training.report` and by each task. Matplotlib is
imported when the first figure is drawn. Imports `training.common`.
"""
