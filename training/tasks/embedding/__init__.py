"""The room training/tasks/embedding."""
