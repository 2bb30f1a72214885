"""A job, somewhere: run folders, locks, verbs, backends, containers."""
