"""The last word on a run: what it left is checked, and completed by what only the host knows."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from synthkit.contract import CONTRACT_VERSION
from synthkit.errors import ContainerFailedError, DataError, ExitCode, SynthkitError
from synthkit.files import discard, open_untrusted
from synthkit.running.outputs import settle_outputs
from synthkit.running.run import EVENTS, LOG, RESULT, Run
from synthkit.running.timing import seconds_since

_MOST_LISTED = 12

#: Exit codes of runs that did their work: an audit has a verdict, whichever it is.
_SUCCEEDED = (ExitCode.OK, ExitCode.GATE_FAILED, ExitCode.INSUFFICIENT_EVIDENCE)


def prepare_attempt(run: Run) -> None:
    """Forget the result, events and log of an earlier attempt."""
    for name in (EVENTS, LOG, RESULT):
        discard(run.path / name)


def result_left_by(run: Run) -> dict[str, Any] | None:
    """The result that the run wrote, None if it wrote none. One that makes no sense becomes a failed one."""
    try:
        result = run.result()
        flaw = None if result is None else _flaw(result)
    except DataError as error:
        result, flaw = {}, error.why
    if flaw is None:
        return result
    failure = ContainerFailedError(
        "The run left a result that makes no sense.",
        f"{RESULT}: {flaw}",
        "Something else than synthkit wrote it: report it to the authors of the plugin.",
    )
    return {
        "contract": CONTRACT_VERSION,
        "status": "failed",
        "exit_code": int(failure.exit_code),
        "error": failure.to_dict(),
    }


def _flaw(result: Mapping[str, Any]) -> str | None:
    """What is wrong with the keys of a result that commands build on; None if they are sound."""
    status, code, error = result.get("status"), result.get("exit_code"), result.get("error")
    if status not in ("succeeded", "failed"):
        return f"the status is {status!r}."
    if type(code) is not int or code not in set(ExitCode):
        return f"the exit code is {code!r}."
    if status == "succeeded":
        if error is not None or code not in _SUCCEEDED:
            return f"it succeeded, with exit code {code}."
    elif code == ExitCode.OK or not isinstance(error, dict):
        return "it failed and does not say why."
    elif not all(isinstance(error.get(key), str) for key in ("type", "what", "why", "fix")):
        return "its error is not in sentences."
    outputs, scores = result.get("outputs", {}), result.get("scores", [])
    if not isinstance(outputs, dict) or not all(isinstance(output, dict) for output in outputs.values()):
        return "its outputs are not a table."
    if not isinstance(scores, list) or not all(_is_score(score) for score in scores):
        return "its scores are not a list of scores."
    if not isinstance(result.get("verdict", {}), dict):
        return "its verdict is none."
    return None


def _is_score(score: Any) -> bool:
    if not isinstance(score, dict) or not isinstance(score.get("name"), str):
        return False
    numbers = (score.get(key) for key in ("value", "low", "high", "n"))
    return isinstance(score.get("of", {}), dict) and all(
        number is None or (isinstance(number, int | float) and math.isfinite(number)) for number in numbers
    )


def finish(
    run: Run,
    backend: str,
    isolation: dict[str, Any],
    warnings: list[str],
    *,
    error: SynthkitError | None = None,
    container: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Complete ``result.json``: the one that the run left, or one that says why there is none.

    ``error`` is what the host knows better than the run (time limit, out of memory, a killed container) and wins
    over whatever the run wrote. So do outputs that are not files, which are removed before anybody opens them. A run
    that left no result took the time since its job was made.
    """
    result = result_left_by(run)
    if (removed := settle_outputs(run.outputs)) and error is None:
        error = ContainerFailedError(
            "The run left outputs that are not files.",
            f"Methods leave folders and ordinary files; {len(removed)} of its outputs are neither, and were removed.",
            "Report it to the authors of the plugin.",
            [*removed[:_MOST_LISTED], *(["..."] if len(removed) > _MOST_LISTED else [])],
        )
    if result is None:
        result = {"contract": CONTRACT_VERSION, "status": "failed"}
        with suppress(DataError):  # the method may have spoilt its job
            created = run.job().created
            result.update(started=created, seconds=round(seconds_since(created), 3))
    if error is not None:
        result.update(status="failed", exit_code=int(error.exit_code), error=error.to_dict())
    result.update(backend=backend, isolation=isolation, warnings=warnings)
    if container is not None:
        result["container"] = container
    discard(run.path / RESULT)
    run.write_result(result)
    return result


def log_tail(run: Run, lines: int = 8) -> list[str]:
    """The last lines of the run's log, for an error message."""
    try:
        with open_untrusted(run.path / LOG) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 8192))
            return file.read().decode(errors="replace").splitlines()[-lines:]
    except OSError:
        return []
