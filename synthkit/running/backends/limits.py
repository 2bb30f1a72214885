"""What ends a run from outside: its time, the disk it fills, silence, and not ending when it has a result."""

from __future__ import annotations

import math
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

from synthkit.errors import NotWritableError, RunTimeoutError, SynthkitError
from synthkit.running.backends.following import EventFollower
from synthkit.running.backends.kept_log import KeptLog
from synthkit.running.backends.outcome import Attempt

# Left to the machine where no limit is asked for.
_DEFAULT_DISK_SHARE = 0.9
_SECONDS_BETWEEN_LOOKS = 5.0
# A folder of very many files is looked at less often: at most this share of the time.
_MOST_LOOKING = 0.05
# After its result there is nothing left to do; a method may have seen to it that the run does not end.
_LINGERING_SECONDS = 60.0
# Without a time limit: neither an event nor a line nor a changed output for so long means that it hangs.
_SILENT_SECONDS = 24 * 3600.0


class Limits:
    """Watches one attempt while it runs.

    Parameters
    ----------
    log : takes what it prints, a sign of life.

    Attributes
    ----------
    error : what the run is ended for; None where its result stands.
    """

    def __init__(self, attempt: Attempt, follower: EventFollower, log: KeptLog) -> None:
        self.error: SynthkitError | None = None
        self._attempt, self._follower, self._log = attempt, follower, log
        self._limits = attempt.job.resources
        started = time.monotonic()
        seconds = self._limits.timeout_seconds
        self._deadline = started + seconds if seconds else math.inf
        self._at_first = used_bytes(attempt.run.path)
        free = shutil.disk_usage(attempt.run.path).free
        self._disk = self._limits.disk_bytes or int(free * _DEFAULT_DISK_SHARE)
        self._next_look = started
        self._signs: tuple[int, int, int] | None = None
        self._last_sign = started
        self._done_since = math.inf

    def over(self) -> bool:
        """Whether the run has to be ended now. To be asked often."""
        now = time.monotonic()
        if now > self._deadline:
            self.error = RunTimeoutError(
                f"The run took longer than {self._limits.timeout_seconds:g} s.",
                "It was stopped at its time limit.",
                "Raise --timeout and go on with --resume.",
            )
            return True
        if now < self._next_look:
            return False
        used = used_bytes(self._attempt.run.path)
        cost = time.monotonic() - now
        self._next_look = now + max(_SECONDS_BETWEEN_LOOKS, cost / _MOST_LOOKING)
        self.error = self._filled(used) or self._silent(used, now)
        return self.error is not None or self._lingers(now)

    def _filled(self, used: int) -> SynthkitError | None:
        if used - self._at_first <= self._disk:
            return None
        whose = "its limit" if self._limits.disk_bytes else "nine tenths of what was free on the disk"
        return NotWritableError(
            f"The run wrote more than {self._disk / 2**30:.3g} GiB.",
            f"That is {whose}; it was stopped.",
            "Give a larger --disk, or a folder on another disk, and go on with --resume; --overwrite begins anew.",
        )

    def _silent(self, used: int, now: float) -> SynthkitError | None:
        signs = (self._follower.position, self._log.n_bytes, used)
        if signs != self._signs:
            self._signs, self._last_sign = signs, now
        if self._limits.timeout_seconds or now - self._last_sign <= _SILENT_SECONDS:
            return None
        return RunTimeoutError(
            f"The run gave no sign of life for {_SILENT_SECONDS / 3600:g} h.",
            "It wrote no event, no line and no output; it was stopped.",
            "Where the method is merely slow, go on with --resume and a --timeout, which is waited for instead.",
        )

    def _lingers(self, now: float) -> bool:
        if self._done_since == math.inf:
            result = self._attempt.result()
            self._done_since = math.inf if result is None else now
            return False
        if now - self._done_since <= _LINGERING_SECONDS:
            return False
        self._follower.warnings.append("The run had a result and did not end; it was stopped.")
        return True


def used_bytes(folder: Path) -> int:
    """What all files below a folder take on the disk; no link is followed."""
    total = 0
    pending = [str(folder)]
    while pending:
        with suppress(OSError), os.scandir(pending.pop()) as entries:
            for entry in entries:
                with suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_blocks * 512
    return total
