"""Subjects to datasets: volumes, slices, splits, shards, and the label schemes."""
