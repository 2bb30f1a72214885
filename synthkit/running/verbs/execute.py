"""``synthkit-run FOLDER``: the one way in. Executes the job of a run folder in this process.

Every backend only makes the folder appear somewhere (this process, a fresh one, a container) and comes here. The
plugin gets arrays and gives arrays; reading the inputs, writing the outputs and the result is done here.
"""

from __future__ import annotations

import datetime
import importlib
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from synthkit import events
from synthkit.contract import CONTRACT_VERSION, Declaration
from synthkit.errors import ExitCode, GpuUnavailableError, PluginError, explain
from synthkit.registry import provenance
from synthkit.registry.registry import Registry, discover
from synthkit.running.exclusive import alive
from synthkit.running.proof import signed, take_secret
from synthkit.running.run import EVENTS, Job, Run
from synthkit.running.seal import bound
from synthkit.running.verbs.admission import module_of
from synthkit.running.verbs.closed_calls import close_calls


def execute(folder: Path, registry: Registry | None = None) -> dict[str, Any]:
    """Do the job in ``folder`` and write ``result.json`` whatever happens. Returns the result; raises nothing."""
    with alive(folder):
        return _execute(folder, registry)


def _execute(folder: Path, registry: Registry | None) -> dict[str, Any]:
    secret = take_secret(folder)  # before anything of a plugin is imported
    run = Run(folder)
    started = datetime.datetime.now(datetime.UTC)
    clock = time.monotonic()
    result: dict[str, Any] = {"contract": CONTRACT_VERSION, "status": "failed"}
    declarations: tuple[Declaration, ...] = ()
    handlers: dict[int, Any] = {}
    try:
        try:
            job = run.job()
            run.outputs.mkdir(exist_ok=True)
            with events.logging_to(folder / EVENTS):
                if job.resources.gpus == "none":
                    # Before any plugin imports torch, which looks once.
                    os.environ["CUDA_VISIBLE_DEVICES"] = ""
                found = registry or discover()
                declarations = tuple(found.get(name) for name in job.plugins)
                _check_gpu(job, declarations)
                result.update(module_of(job.verb).do(run, job, declarations))
        finally:
            handlers = _ignore_signals()  # the work is done or lost; what is left is to say so
        result.update(status="succeeded", error=None)
        result.setdefault("exit_code", int(ExitCode.OK))  # a gate may have set its own
    except BaseException as error:  # everything becomes a result
        traceback.print_exc()
        known = explain(error)
        result.update(status="failed", exit_code=int(known.exit_code), error=known.to_dict())
    result.update(
        started=started.isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - clock, 3),
        versions=_or_nothing(lambda: provenance.versions(declarations)),
        code=_or_nothing(lambda: provenance.code(declarations)),
        machine=_or_nothing(provenance.machine),
    )
    try:
        result = bound(result)
        run.write_result(signed(result, secret))
    except (TypeError, ValueError) as error:  # something that JSON cannot hold
        traceback.print_exc()
        known = explain(error)
        result = {key: result[key] for key in ("contract", "started", "seconds", "versions", "machine")}
        result.update(status="failed", exit_code=int(known.exit_code), error=known.to_dict())
        run.write_result(signed(result, secret))
    except OSError:
        traceback.print_exc()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return result


def _ignore_signals() -> dict[int, Any]:
    """Be deaf to SIGTERM and Ctrl-C; returns the handlers to put back, none outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGTERM, signal.SIGINT)}


def _or_nothing(look: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    # A damaged installation or driver must not cost a finished run its result.
    try:
        return look()
    except Exception:
        traceback.print_exc()
        return {}


def _check_gpu(job: Job, declarations: Sequence[Declaration]) -> None:
    """A GPU that was asked for must be here: some engines ignore the request without a word."""
    if job.resources.gpus == "none" or all(d.gpu == "none" for d in declarations):
        return
    try:
        n = int(importlib.import_module("torch").cuda.device_count())
    except ImportError as error:
        raise PluginError(
            "torch is not installed here.", str(error), "Use --backend docker, or install the extra [local]."
        ) from error
    if n == 0:
        raise GpuUnavailableError(
            f"The run asked for GPUs ({job.resources.gpus}) and sees none.",
            "The driver, the container runtime or this build of torch lacks CUDA.",
            "Check with `synthkit doctor`; --gpus none runs on the CPU.",
        )


def main() -> None:
    """Entry point of ``synthkit-run``."""
    if len(sys.argv) != 2 or sys.argv[1] in ("-h", "--help"):
        print("usage: synthkit-run FOLDER\n\nExecutes the job in FOLDER/job.json and writes FOLDER/result.json.")
        sys.exit(0 if "--help" in sys.argv or "-h" in sys.argv else int(ExitCode.USAGE))

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    # Engines and schedulers stop a run by SIGTERM; it gets the chance to leave a result.
    signal.signal(signal.SIGTERM, interrupt)
    close_calls()
    result = execute(Path(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: threads of a broken plugin must not keep a finished run from ending.
    os._exit(int(result["exit_code"]))


if __name__ == "__main__":
    main()
