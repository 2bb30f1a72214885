"""Builds the wheel of the example distribution and installs it, as a user would: ``python install.py SITE``.

From the wheel and not editable, into the folder SITE; needs no network.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).parent / "random-phase"


def install(site: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--quiet"]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, SOURCE], check=True)
        (wheel,) = Path(folder).iterdir()
        subprocess.run([*pip, "install", "--no-deps", "--no-index", "--target", site, wheel], check=True)


if __name__ == "__main__":
    install(Path(sys.argv[1]))
