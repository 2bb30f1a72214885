"""Checkpoints of other projects, read without running what is stored in them."""
