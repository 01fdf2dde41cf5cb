"""Training on several devices and in several processes.

processes   several processes as one program: who writes, who waits, who notices a loss
sharding    one mesh of devices, and where on it each array lies

Imports `training.experiment` and all below it; convolutions on a mesh are `ops.conv.spmd`'s.
"""
