"""The learning rate as a function of the step, jitted with it.

schedules   the common ones, and the table `SCHEDULES` by which a config names them
shapes      polynomial, restarts, piecewise and others
join        several one after the other, and a warm-up in front
common      the warm-up itself, checks, and what a part of a run is

A new schedule is a function and a line in `SCHEDULES`; its config table is derived from its
signature. Imports `training.common`.
"""
