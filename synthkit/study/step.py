"""Execute one step of a study: what Snakemake calls, here or on a node of a cluster.

    python -m synthkit.study.step NAME        (in the folder of the study)

A run that is unfinished is resumed; one that another command made, or with other inputs, is made anew. A note of what
came out (``.study/done/NAME.json``) is the step's product for Snakemake.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from synthkit.errors import ExitCode
from synthkit.files import discard
from synthkit.running import backends
from synthkit.running.run import RESULT, Resources, file_digest, folder_digest, write_json
from synthkit.running.signals import termination_as_interrupt
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
    """Run the step of the plan in the working directory; returns its exit code, 0 for an audit that failed its gate."""
    plan = json.loads(PLAN.read_text(encoding="utf-8"))
    step = Step.from_dict(next(item for item in plan["steps"] if item["name"] == name))
    for path in (mark_of(name), record_of(name), log_of(name), lock_of(name)):
        path.parent.mkdir(parents=True, exist_ok=True)
    with _held(lock_of(name)) as lock, log_of(name).open("a", encoding="utf-8") as log:
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
        code = int(ExitCode.BUG)
        try:
            with _gpus(step, plan["machine"]) as options:
                code = _run(step, [*options, *_limits(step, plan["machine"])], plan["machine"], log, lock)
        finally:
            status = "done" if code == ExitCode.OK else "interrupted" if code == ExitCode.INTERRUPTED else "failed"
            seconds = time.time() - known["started"]
            write_json(record_of(name), {**known, "status": status, "seconds": seconds, "exit_code": code})
        if code == ExitCode.OK:
            write_json(mark_of(name), {"step": name, "outputs": _outputs(step)})
    return code


def _clear(step: Step) -> None:
    """Remove what another command has made; the folder itself may be a link to another disk."""
    # The folder of the phantom has a common name, and may hold somebody's own subjects too.
    for path in step.out.glob("Phantom_*" if step.kind == "phantom" else "*"):
        discard(path)


def _run(step: Step, options: Sequence[str], machine: dict[str, Any], log: TextIO, lock: int) -> int:
    """Go on with the run that is there; make it anew if it was made of other inputs."""
    there = step.out.exists() and any(step.out.iterdir())
    # The phantom keeps the subjects that are there, unasked.
    ways = [["--resume"], ["--overwrite"]] if there and step.kind != "phantom" else [[]]
    code = int(ExitCode.BUG)
    for way in ways:
        command = [*step.command, *options, *way]
        print(f"$ synthkit {' '.join(command)}", file=log, flush=True)
        code = _call(command, machine, log, lock)
        if code != ExitCode.USAGE:
            break
    # A verdict is a result of the study, not a failure of its run.
    return 0 if code == ExitCode.GATE_FAILED and step.kind == "audit" else code


def _call(command: Sequence[str], machine: dict[str, Any], log: TextIO, lock: int) -> int:
    with termination_as_interrupt():
        process = subprocess.Popen(
            [sys.executable, "-m", "synthkit", *command, "--quiet"],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            # Several steps share the machine: each keeps to its own cores.
            env={**os.environ, **Resources(cpus=machine["cpus"]).threads},
            # The command outlives this process if that is killed, and holds the lock as long as it lives.
            pass_fds=(lock,),
            # Interrupts come by way of this process alone, once.
            start_new_session=True,
        )
        try:
            return process.wait()
        except KeyboardInterrupt:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)
            process.wait()
            return int(ExitCode.INTERRUPTED)


def _limits(step: Step, machine: dict[str, Any]) -> list[str]:
    if not step.in_container:
        return []
    options = ["--cpus", str(machine["cpus"])]
    options += ["--backend", machine["backend"]] if machine["backend"] else []
    if machine["memory_gb"] and _limits_memory(machine["backend"]):
        options += ["--memory", f"{machine['memory_gb']}g"]
    if machine["hours"]:
        options += ["--timeout", str(machine["hours"] * 3600)]
    return options


def _limits_memory(backend: str) -> bool:
    """Whether the backend can; a scheduler limits its jobs itself."""
    return backends.get(backends.asked(backend) or backends.DEFAULT).limits_memory()


# ------------------------------------------------------------------------------------------------------------- GPUs


@contextlib.contextmanager
def _gpus(step: Step, machine: dict[str, Any]) -> Iterator[list[str]]:
    """``--gpus`` for this step: how many of a cluster's job, or devices of this machine that no other step holds."""
    if not step.in_container:
        yield []
    elif not step.gpus:
        yield ["--gpus", "none"]
    elif not machine["local_gpus"]:
        # In a cluster's job every backend keeps to the devices that the job was given.
        yield ["--gpus", str(step.gpus)]
    else:
        with contextlib.ExitStack() as stack:
            yield ["--gpus", f"device={','.join(_free_devices(step.gpus, machine['local_gpus'], stack))}"]


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
def _held(path: Path) -> Iterator[int]:
    """Wait for the lock: a step whose Snakemake was killed may still be at work, and is left to finish."""
    with path.open("w") as file:
        with contextlib.suppress(OSError):  # a file system without locks: the run folder's own care must do
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


# --------------------------------------------------------------------------------------------------------- its notes


def _outputs(step: Step) -> dict[str, str]:
    """Digests of what the step made: of the outputs of its runs, of a dataset, or of nothing but its being there."""
    found: dict[str, str] = {}
    for result in sorted(step.out.rglob(RESULT)):
        data = json.loads(result.read_text(encoding="utf-8"))
        for name, output in data.get("outputs", {}).items():
            found[f"{result.parent.relative_to(step.out).as_posix()}/{name}"] = output["digest"]
    if (step.out / "dataset.json").is_file():
        from synthkit.data.dataset import Dataset

        found["dataset"] = Dataset(step.out).digest
    return found or {"files": folder_digest(step.out)}


if __name__ == "__main__":
    sys.exit(execute(sys.argv[1]))
