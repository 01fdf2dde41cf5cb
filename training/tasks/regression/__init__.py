"""The room training/tasks/regression."""
