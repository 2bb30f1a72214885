"""Execute one step of a study: what Snakemake calls, here or on a node of a cluster.

    python -m synthkit.study.step NAME        (in the folder of the study)

A run that is unfinished is resumed; one that another command made, or with other inputs, is made anew. A note of what
came out (``.study/done/NAME.json``) is the step's product for Snakemake.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from synthkit import api
from synthkit.errors import ExitCode, explain_end
from synthkit.files import discard
from synthkit.running import backends
from synthkit.running.commands import command_of
from synthkit.running.listening import WarningsOnly
from synthkit.running.run import RESULT, file_digest, folder_digest, write_json
from synthkit.study import layout
from synthkit.study.plan import Step

PLAN = layout.STATE / "plan.json"
#: A lock is free when nobody holds it, whatever host it was made on: seconds between two looks at it.
_PATIENCE_SECONDS = 2.0


def mark_of(name: str) -> Path:
    """What Snakemake waits for: digests of what the step made."""
    return layout.STATE / "done" / f"{name}.json"


def record_of(name: str) -> Path:
    """How the step went last: its command, exit code, seconds, host."""
    return layout.STATE / "records" / f"{name}.json"


def log_of(name: str) -> Path:
    return layout.STATE / "logs" / f"{name}.txt"


def lock_of(name: str) -> Path:
    """Locked while the step runs."""
    return layout.STATE / "locks" / name


def digest_of_mark(folder: Path, name: str) -> str:
    """What a step has made, in a word; empty if it is not done."""
    mark = folder / mark_of(name)
    return file_digest(mark) if mark.is_file() else ""


def execute(name: str) -> int:
    """Run the step of the plan in the working directory; returns its exit code.

    That is 0 for an audit, whatever its verdict: that is a result of the study, not a failure of its run.
    """
    plan = json.loads(PLAN.read_text(encoding="utf-8"))
    step = Step.from_dict(next(item for item in plan["steps"] if item["name"] == name))
    for path in (mark_of(name), record_of(name), log_of(name), lock_of(name)):
        path.parent.mkdir(parents=True, exist_ok=True)
    with _held(lock_of(name)), log_of(name).open("a", buffering=1, encoding="utf-8") as log:
        if record_of(name).is_file():
            made_by = json.loads(record_of(name).read_text(encoding="utf-8"))["command"]
            if made_by != list(step.command):
                _clear(step)
        inputs = {other: digest_of_mark(Path(), other) for other in step.after}
        known: dict[str, Any] = {
            "command": list(step.command),
            "inputs": inputs,
            "host": os.environ.get("SLURMD_NODENAME") or socket.gethostname(),
            "started": time.time(),
        }
        write_json(record_of(name), {**known, "status": "running"})
        code, made = int(ExitCode.BUG), dict[str, str]()
        try:
            with _gpus(step, plan["machine"]) as gpus:
                code = _run(step, {**gpus, **_limits(step, plan["machine"])}, log)
            if code == ExitCode.OK:
                made = _outputs(step)
        except Exception:  # of ours: what the run raises, `_call` explains
            code = int(ExitCode.BUG)
            traceback.print_exc(file=log)
        finally:
            status = "done" if code == ExitCode.OK else "interrupted" if code == ExitCode.INTERRUPTED else "failed"
            seconds = time.time() - known["started"]
            write_json(record_of(name), {**known, "status": status, "seconds": seconds, "exit_code": code})
        if code == ExitCode.OK:
            write_json(mark_of(name), {"step": name, "outputs": made})
    return code


def _clear(step: Step) -> None:
    """Remove what another command has made; the folder itself may be a link to another disk."""
    # The folder of the phantom has a common name, and may hold somebody's own subjects too.
    for path in step.out.glob("Phantom_*" if step.kind == "phantom" else "*"):
        discard(path)


def _run(step: Step, options: Mapping[str, Any], log: TextIO) -> int:
    """Go on with the run that is there; make it anew if it was made of other inputs."""
    there = step.out.exists() and any(step.out.iterdir())
    # The phantom keeps the subjects that are there, unasked.
    ways = [{"resume": True}, {"overwrite": True}] if there and step.kind != "phantom" else [{}]
    code = int(ExitCode.BUG)
    for way in ways:
        arguments = {**step.arguments, **options, **way}
        print(f"$ {' '.join(command_of(step.function, arguments))}", file=log, flush=True)
        code = _call(step.function, arguments, log)
        if code != ExitCode.USAGE:
            break
    return code


def _call(function: str, arguments: Mapping[str, Any], log: TextIO) -> int:
    """Call a function of the library; what it says, and the error that it ends with, go into the log."""
    with _interrupted_once(), _written_to(log), contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        try:
            getattr(api, function)(**arguments, listener=_Log(log))
        except (Exception, KeyboardInterrupt) as error:
            known = explain_end(error)
            if known.exit_code == ExitCode.BUG:
                traceback.print_exc(file=log)
            lines = [f"error: {known.what}", *(f"  {line}" for line in known.details)]
            lines += [f"  {label}: {text}" for label, text in (("why", known.why), ("try", known.fix)) if text]
            print("\n".join(lines), file=log, flush=True)
            return int(known.exit_code)
    return int(ExitCode.OK)


@contextlib.contextmanager
def _written_to(log: TextIO) -> Iterator[None]:
    """Have the log take what the interpreter, libraries in C and workers write to the descriptors of the process."""
    kept = [(number, os.dup(number)) for number in (1, 2)]
    try:
        for number, _ in kept:
            os.dup2(log.fileno(), number)
        yield
    finally:
        for number, before in kept:
            os.dup2(before, number)
            os.close(before)


class _Log:
    """A listener that writes notes and warnings into the log of a step."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def note(self, text: str) -> None:
        print(text, file=self._file, flush=True)

    def warning(self, text: str) -> None:
        self.note(f"warning: {text}")

    @contextlib.contextmanager
    def progress(self, title: str) -> Iterator[WarningsOnly]:
        yield WarningsOnly(self)


@contextlib.contextmanager
def _interrupted_once() -> Iterator[None]:
    """The first signal to end interrupts; what follows is passed over, while the run ends with grace.

    Snakemake and the terminal may each send their own, and a second interrupt would kill the run.
    """

    def interrupt(number: int, frame: object) -> None:
        for ending in before:
            signal.signal(ending, lambda number, frame: None)  # not SIG_IGN, which children would inherit
        raise KeyboardInterrupt

    endings = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, interrupt) for number in endings}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _limits(step: Step, machine: Mapping[str, Any]) -> dict[str, Any]:
    if not step.in_container:
        return {}
    options: dict[str, Any] = {"cpus": machine["cpus"]}
    if machine["backend"]:
        options["backend"] = machine["backend"]
    if machine["memory_gb"] and _limits_memory(machine["backend"]):
        options["memory"] = f"{machine['memory_gb']}g"
    if machine["hours"]:
        options["timeout"] = machine["hours"] * 3600
    return options


def _limits_memory(backend: str) -> bool:
    """Whether the backend can; a scheduler limits its jobs itself."""
    return backends.get(backends.asked(backend) or backends.DEFAULT).limits_memory()


# ------------------------------------------------------------------------------------------------------------- GPUs


@contextlib.contextmanager
def _gpus(step: Step, machine: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """``gpus`` for this step: how many of a cluster's job, or devices of this machine that no other step holds."""
    if not step.in_container:
        yield {}
    elif not step.gpus:
        yield {"gpus": "none"}
    elif not machine["local_gpus"]:
        # In a cluster's job every backend keeps to the devices that the job was given.
        yield {"gpus": str(step.gpus)}
    else:
        with contextlib.ExitStack() as stack:
            yield {"gpus": f"device={','.join(_free_devices(step.gpus, machine['local_gpus'], stack))}"}


def _free_devices(wanted: int, devices: Sequence[str], stack: contextlib.ExitStack) -> list[str]:
    """Lock as many devices as are wanted. Snakemake starts no more steps than there are devices, so some are free."""
    folder = layout.STATE / "gpus"
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        with contextlib.ExitStack() as attempt:
            found: list[str] = []
            for device in devices:
                if len(found) < wanted and attempt.enter_context(_try_lock(folder / device)):
                    found.append(device)
            if len(found) == wanted:
                stack.push(attempt.pop_all())
                return found
        time.sleep(_PATIENCE_SECONDS)


@contextlib.contextmanager
def _try_lock(path: Path) -> Iterator[bool]:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        except OSError:  # a file system without locks: Snakemake's count of devices must do
            pass
        yield True


@contextlib.contextmanager
def _held(path: Path) -> Iterator[None]:
    """Wait for the lock: a step whose Snakemake was killed may still be at work, and is left to finish."""
    with path.open("w") as file:
        with contextlib.suppress(OSError):  # a file system without locks: the run folder's own care must do
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


# --------------------------------------------------------------------------------------------------------- its notes


def _outputs(step: Step) -> dict[str, str]:
    """Digests of what the step made: of outputs and scores of its runs, of a dataset, or of nothing but its files."""
    found: dict[str, str] = {}
    for result in sorted(step.out.rglob(RESULT)):
        data = json.loads(result.read_text(encoding="utf-8"))
        run = result.parent.relative_to(step.out).as_posix()
        for name, output in data.get("outputs", {}).items():
            found[f"{run}/{name}"] = output["digest"]
        if scores := data.get("scores"):
            found[f"{run}/scores"] = hashlib.sha256(json.dumps(scores, sort_keys=True).encode()).hexdigest()
    if (step.out / "dataset.json").is_file():
        from synthkit.data.dataset import Dataset

        found["dataset"] = Dataset(step.out).digest
    return found or {"files": folder_digest(step.out)}


def main() -> None:
    """Entry point of a step."""
    code = execute(sys.argv[1])
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: a thread of a plugin that hangs on import must not hold the step.
    os._exit(code)


if __name__ == "__main__":
    main()
