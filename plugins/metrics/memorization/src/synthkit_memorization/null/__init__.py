"""What innocent images look like: thresholds from held-out subjects, and their control."""
