"""What a run does: one verb, one file, in two halves: what is asked on the host, and what is done in the run."""
