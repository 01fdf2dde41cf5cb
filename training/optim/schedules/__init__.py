"""The room training/optim/schedules."""
