"""Runs a run folder with the docker backend in a process of its own, so that a test can send it signals.

Prints a line at each event. Exits with the run's exit code. Usage: python drive.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

from synthkit.backends.docker import DockerBackend
from synthkit.plugins import discover
from synthkit.runs import Run

result = DockerBackend().run(
    Run(Path(sys.argv[1])), discover().get("probe"), lambda event: print(event["event"], flush=True)
)
sys.exit(result["exit_code"])
