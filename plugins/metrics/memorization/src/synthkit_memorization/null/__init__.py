"""What innocent images look like: thresholds from real images that cannot have been copied, and their control."""
