"""Runs repeated from their ``job.json``, in the container images that they ran in, and what comes out compared.

``compare`` says what counts as the same, ``images`` finds the image that a run ran in, ``repeat`` does one run again,
``sample`` draws some of a study's.
"""

from __future__ import annotations

from synthkit.reproduce.compare import Comparison, Difference
from synthkit.reproduce.repeat import How, find_inputs, verify_run
from synthkit.reproduce.sample import Drawn, Found, Outcome, draw_runs, verify_runs

__all__ = [
    "Comparison",
    "Difference",
    "Drawn",
    "Found",
    "How",
    "Outcome",
    "draw_runs",
    "find_inputs",
    "verify_run",
    "verify_runs",
]
