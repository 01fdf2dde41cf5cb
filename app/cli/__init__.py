"""The room app/cli."""
