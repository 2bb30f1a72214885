"""The wrong plugin of ``presets_are_parameters``: its method is right, the preset of its package is not."""

from synthkit.testing.toys.generator import generate, import_checkpoint, train

__all__ = ["generate", "import_checkpoint", "train"]
