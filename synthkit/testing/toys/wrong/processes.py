"""Methods that are right within one process and give something else in the next, which only whole jobs show.

All seed a generator with Python's ``hash`` of a text, which is salted anew in every process.
"""

from __future__ import annotations

from synthkit.testing.toys import GENERATOR, SEGMENTER, SLICE_METRIC
from synthkit.testing.toys.wrong.wrong import Wrong, declared

_HERE = "synthkit.testing.toys.wrong"

WRONG: tuple[Wrong, ...] = (
    declared(
        "generator_jobs_agree",
        "samples of its process",
        GENERATOR,
        name="g-process",
        module=f"{_HERE}.process_generator",
    ),
    declared(
        "segmenter_jobs_agree",
        "labels of its process",
        SEGMENTER,
        name="s-process",
        module=f"{_HERE}.process_segmenter",
    ),
    declared(
        "metric_jobs_agree", "scores of its process", SLICE_METRIC, name="m-process", module=f"{_HERE}.process_metric"
    ),
)
