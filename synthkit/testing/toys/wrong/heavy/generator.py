"""The method of a package that is heavy to import: itself right."""

from synthkit.testing.toys.generator import generate, import_checkpoint, train

__all__ = ["generate", "import_checkpoint", "train"]
