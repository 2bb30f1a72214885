"""Snakemake, ended when the command that began it is gone: ``python -m synthkit.study.scheduler ARGUMENTS``.

Nobody would follow it any more, and a second one must not be at work on the same steps.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    parent = int(sys.argv[1])
    if sys.platform == "linux":
        # As by Ctrl-C: steps end with grace, jobs of a cluster are cancelled; all of them go on next time.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
    if os.getppid() != parent:
        sys.exit(1)
    from snakemake.cli import main as snakemake

    snakemake(sys.argv[2:])


if __name__ == "__main__":
    main()
