"""The method of a package that is heavy to import: itself right."""

from synthkit.testing.toys.generator import generate, train

__all__ = ["generate", "train"]
