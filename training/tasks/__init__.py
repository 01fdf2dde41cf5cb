"""The room training/tasks."""
