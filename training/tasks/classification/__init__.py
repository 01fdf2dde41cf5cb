"""The room training/tasks/classification."""
