"""Whether a command goes on with the run that a folder holds, or is another one."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synthkit.contract import STATE
from synthkit.errors import UsageError
from synthkit.registry.registry import discover
from synthkit.running.commands import option_words
from synthkit.schemes import enumerated


def check_goes_on(
    path: Path, before: Mapping[str, Any], job: Mapping[str, Any], may_change: Mapping[str, str], *, has_ended: bool
) -> None:
    """:class:`UsageError` unless ``job`` is the one that the run at ``path`` was begun with; both as in ``job.json``.

    Parameters in ``may_change`` may differ, those that are "more" there by a higher value only; if ``has_ended``, where
    the state is there that the run ended in.
    """
    _check_length(path, before, job, may_change, has_ended)
    for what in ("verb", "plugins", "params", "options"):
        old, new = json.loads(json.dumps([before[what], job[what]]))
        if what == "params":
            old, new = ({key: value for key, value in params.items() if key not in may_change} for params in (old, new))
        if old != new:
            anew = _begin_anew(path, before, job, has_ended=has_ended) if what == "params" else ""
            fixed = ""
            if what == "params" and job["verb"] == "train":
                others = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
                fixed = (
                    f" {enumerated(others)} {'are' if len(others) > 1 else 'is'} fixed from the start of a training."
                )
            raise UsageError(
                f"The run {path} cannot be resumed with this command.",
                f"Its {what}: {_without_common(old, new)}; this command's: {_without_common(new, old)}.{fixed}",
                f"Give the command it was begun with, or another folder.{f' {anew}' if anew else ''}",
            )
    for role in sorted({*before["inputs"], *job["inputs"]}):
        if before["inputs"].get(role) != job["inputs"].get(role):
            raise UsageError(
                f"The run {path} cannot be resumed with this command.",
                f"Its input {role} was another one.",
                "Give the command it was begun with, or another folder.",
            )


def _check_length(
    path: Path, before: Mapping[str, Any], job: Mapping[str, Any], may_change: Mapping[str, str], has_ended: bool
) -> None:
    old, new = before["params"], job["params"]
    for name in (name for name, how in may_change.items() if how == "more" and name in old):
        if name in new and new[name] < old[name]:
            raise UsageError(
                f"The run {path} cannot be made shorter.",
                f"It was begun with {name}={old[name]:g}, this command has {new[name]:g}.",
                f"Give {name}={old[name]:g} or more, or another folder.",
            )
        if name in new and new[name] > old[name] and has_ended and not (path / "outputs" / STATE).is_dir():
            raise UsageError(
                f"The run {path} cannot be made longer.",
                f"It has finished with {name}={old[name]:g}, and the state that it ended in is not in its outputs.",
                _begin_anew(path, before, job, has_ended=True) or "Give another folder.",
            )


def _begin_anew(path: Path, before: Mapping[str, Any], job: Mapping[str, Any], *, has_ended: bool) -> str:
    """How another training begins with the weights of the one at ``path``, with the parameters that were asked for.

    Empty where it is no training, or of a method that begins with no weights.
    """
    declaration = discover().declarations.get(job["plugins"][0])
    if job["verb"] != "train" or "initial" not in getattr(declaration, "optional_roles", ()):
        return ""
    if not has_ended:
        return "Once it has finished, a new training can begin with its weights: --from."
    changed = {name: value for name, value in job["params"].items() if before["params"].get(name) != value}
    return (
        "A new training of the same network can begin with its weights: "
        f"synthkit train {job['plugins'][0]} DATASET --from {shlex.quote(str(path))} "
        f"{option_words(changed)} -o FOLDER"
    )


def _without_common(value: Any, other: Any) -> Any:
    """Of a table what the other one does not have."""
    if not (isinstance(value, dict) and isinstance(other, dict)):
        return value
    return {key: item for key, item in value.items() if key not in other or other[key] != item}
