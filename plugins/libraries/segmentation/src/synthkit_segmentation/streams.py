"""Separate random streams of one seed."""

from __future__ import annotations

SPLIT, ORDER, AUGMENTATION, VALIDATION, NETWORK = range(5)
