"""The trainer: reads the dataset while it grows (room laid, not yet built)."""
