"""Where each run of a study lies. All paths are relative to the folder of the study."""

from __future__ import annotations

from pathlib import Path

STUDY_FILE = "study.toml"
REPORT = Path("report.html")
TABLES, FIGURES = Path("tables"), Path("figures")
#: Plan, marks of finished steps, logs; Snakemake keeps its own notes in ``.snakemake``.
STATE = Path(".study")

PHANTOM = Path("subjects")

#: The arm of the segmenters that are trained on real images alone.
REAL = "real"
AUGMENTED, PLAIN = "augmented", "plain"


def real_dataset(training_patients: int | None = None) -> Path:
    """The prepared real slices; with a number, those of so few patients to train on (the holdout is the same)."""
    return Path("data") / ("real" if training_patients is None else f"real-{training_patients}")


#: What the fidelity of all generators needs of the real slices.
KEPT = Path("data") / "kept"


def generator_run(generator: str, what: str, training_patients: int | None = None) -> Path:
    """``what`` is "train", "samples", "fidelity" or "audit"."""
    folder = Path("generators") / generator
    return (folder if training_patients is None else folder / "sizes" / str(training_patients)) / what


def segmenter_run(segmenter: str, arm: str, augmentation: str, seed: int, what: str) -> Path:
    """``what`` is "train", "segment" or "evaluate"."""
    return Path("segmenters") / segmenter / arm / augmentation / f"seed-{seed}" / what


def arm_of(generator: str, *, with_real: bool) -> str:
    """Name of the arm that is trained on samples of ``generator``, alone or beside real images."""
    return f"{REAL}+{generator}" if with_real else generator


def has_real(arm: str) -> bool:
    """Whether real images are among what an arm is trained on."""
    return arm == REAL or arm.startswith(f"{REAL}+")


def generator_of(arm: str) -> str | None:
    """The generator whose samples an arm is trained on; None for the real arm."""
    return None if arm == REAL else arm.removeprefix(f"{REAL}+")
