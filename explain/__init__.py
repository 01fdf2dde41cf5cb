"""What a trained network has learned, and why it answers as it does: functions, and pictures."""
