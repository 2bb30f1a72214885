"""The last word on a run: what it left is checked, and completed by what only the host knows."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

from synthkit.contract import CONTRACT_VERSION, Declaration
from synthkit.errors import ContainerFailedError, DataError, ExitCode, SynthkitError
from synthkit.files import discard, open_untrusted, read_untrusted, write_atomically
from synthkit.registry.registry import discover
from synthkit.running.outputs import settle_outputs
from synthkit.running.proof import SECRET_NAME, is_signed, lay_secret, unsigned
from synthkit.running.run import EVENTS, JOB, LOG, MAX_JSON_BYTES, RESULT, Run
from synthkit.running.seal import bound
from synthkit.running.timing import seconds_since
from synthkit.running.verbs.admission import admitted, withdraw

_MOST_LISTED = 12
_NONSENSE = "The run left a result that makes no sense."
#: What a run that failed may tell of itself.
_OF_A_FAILURE = ("exit_code", "error", "started", "seconds", "versions", "code", "machine")

#: Exit codes of runs that did their work: an audit has a verdict, whichever it is.
_SUCCEEDED = (ExitCode.OK, ExitCode.GATE_FAILED, ExitCode.INSUFFICIENT_EVIDENCE)


class Attempt:
    """One attempt at a run, from the host's side: what was asked, and what of its result may be believed.

    Made right before the run starts; forgets the result, events and log of an earlier attempt.

    Attributes
    ----------
    job : as it was before the method could reach its file.
    """

    def __init__(self, run: Run, declaration: Declaration) -> None:
        self.run, self.job, self._declaration = run, run.job(), declaration
        self._job_file = read_untrusted(run.path / JOB, MAX_JSON_BYTES)
        self._links = {role: run.input(role).readlink() for role in self.job.inputs if run.input(role).is_symlink()}
        for name in (EVENTS, LOG, RESULT):
            discard(run.path / name)
        self._secret = lay_secret(run.path)

    def result(self) -> dict[str, Any] | None:
        """The result that the runner has left so far, None if it has left none. Any other becomes a failed one."""
        result = result_left_by(self.run)
        if result is None or is_signed(result, self._secret):
            return None if result is None else unsigned(result)
        if (result.get("error") or {}).get("what") == _NONSENSE:
            return result
        return _failed(
            ContainerFailedError(
                "The run left a result that synthkit's runner did not write.",
                "It is not signed, or was changed after it was.",
                "Where the container image is older than this synthkit, build it again (`synthkit containers build`); "
                "else report it to the authors of the plugin.",
            )
        )

    def finish(
        self,
        backend: str,
        isolation: dict[str, Any],
        warnings: list[str],
        *,
        error: SynthkitError | None = None,
        container: dict[str, Any] | None = None,
        code: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Complete ``result.json``: what the run has made as the host finds it, or why there is nothing.

        ``error`` is what the host knows better than the run (time limit, out of memory, a killed container) and wins
        over whatever the run wrote. ``code`` are the digests of the code that it ran, as far as the host knows them. A
        run that left no result took the time since its job was made.
        """
        told, warnings = self.result(), list(warnings)
        found = (self._not_files(), self._tampered())
        error = error or next(filter(None, found), None)
        result: dict[str, Any] = {"status": "failed"}
        if told is None:
            result.update(started=self.job.created, seconds=round(seconds_since(self.job.created), 3))
        else:
            result.update({key: told[key] for key in _OF_A_FAILURE if key in told})
        if told is not None and told["status"] == "succeeded" and error is None:
            try:
                made = admitted(self.run, self.job, self._declarations(), told)
            except SynthkitError as refused:
                error = refused
            else:
                warnings += [f"The run had written {what} otherwise; put right." for what in made.pop("corrected", ())]
                result = {"status": "succeeded", "exit_code": int(ExitCode.OK), "error": None, **made}
        if error is not None:
            result.update(exit_code=int(error.exit_code), error=error.to_dict())
        if result["status"] != "succeeded":
            withdraw(self.run)
        result.update(contract=CONTRACT_VERSION, backend=backend, isolation=isolation, warnings=warnings)
        if code:
            result["code"] = dict(code)
        if container is not None:
            result["container"] = container
        discard(self.run.path / RESULT)
        result = bound(result)
        self.run.write_result(result)
        return result

    def _declarations(self) -> tuple[Declaration, ...]:
        others = self.job.plugins[1:]
        return (self._declaration, *map(discover().get, others)) if others else (self._declaration,)

    def _not_files(self) -> SynthkitError | None:
        """Removes outputs that are not files, before anybody opens them."""
        removed = settle_outputs(self.run.outputs)
        if not removed:
            return None
        return ContainerFailedError(
            "The run left outputs that are not files.",
            f"Methods leave folders and ordinary files; {len(removed)} of its outputs are neither, and were removed.",
            "Report it to the authors of the plugin.",
            [*removed[:_MOST_LISTED], *(["..."] if len(removed) > _MOST_LISTED else [])],
        )

    def _tampered(self) -> SynthkitError | None:
        """Puts back what the method changed of its job and its inputs."""
        discard(self.run.path / SECRET_NAME)
        changed = []
        try:
            same = read_untrusted(self.run.path / JOB, MAX_JSON_BYTES) == self._job_file
        except OSError:
            same = False
        if not same:
            discard(self.run.path / JOB)
            write_atomically(self.run.path / JOB, self._job_file)
            changed.append(JOB)
        inputs = self.run.path / "inputs"
        if inputs.is_symlink() or not inputs.is_dir():
            discard(inputs)
            inputs.mkdir()
        for role, target in self._links.items():
            link = self.run.input(role)
            if not link.is_symlink() or link.readlink() != target:
                discard(link)
                link.symlink_to(target)
                changed.append(f"inputs/{role}")
        if not changed:
            return None
        return ContainerFailedError(
            "The run changed what it was to do.",
            f"It replaced {', '.join(changed)}; put back as they were.",
            "Report it to the authors of the plugin.",
        )


def result_left_by(run: Run) -> dict[str, Any] | None:
    """The result in a run folder, None if there is none. One that makes no sense becomes a failed one."""
    try:
        result = run.result()
        flaw = None if result is None else _flaw(result)
    except DataError as error:
        result, flaw = {}, error.why
    if flaw is None:
        return result
    return _failed(
        ContainerFailedError(
            _NONSENSE,
            f"{RESULT}: {flaw}",
            "Something else than synthkit wrote it: report it to the authors of the plugin.",
        )
    )


def _failed(error: SynthkitError) -> dict[str, Any]:
    return {
        "contract": CONTRACT_VERSION,
        "status": "failed",
        "exit_code": int(error.exit_code),
        "error": error.to_dict(),
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


def log_tail(run: Run, lines: int = 8) -> list[str]:
    """The last lines of the run's log, for an error message."""
    try:
        with open_untrusted(run.path / LOG) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 8192))
            return file.read().decode(errors="replace").splitlines()[-lines:]
    except OSError:
        return []
