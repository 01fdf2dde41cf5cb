"""The room training/tasks/segmentation."""
