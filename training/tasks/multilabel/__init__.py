"""The room training/tasks/multilabel."""
