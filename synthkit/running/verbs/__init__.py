"""What a run does: one verb, one file."""
