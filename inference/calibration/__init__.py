"""The room inference/calibration."""
