"""Runs a run folder with a backend (docker if none is named) in a process of its own, for a test to send it signals.

Prints a line at each event. Exits with the run's exit code. Usage: python drive.py FOLDER [BACKEND]
"""

from __future__ import annotations

import sys
from pathlib import Path

from synthkit.registry.registry import discover
from synthkit.running import backends
from synthkit.running.run import Run

backend = backends.get(sys.argv[2] if len(sys.argv) > 2 else "docker")
result = backend.run(Run(Path(sys.argv[1])), discover().get("probe"), lambda event: print(event["event"], flush=True))
sys.exit(result["exit_code"])
