"""Subjects to datasets: volumes, slices, splits, shards, and the conventions of contrasts and labels."""
