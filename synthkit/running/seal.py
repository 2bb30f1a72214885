"""What binds an audit to what it was made of: policy, parameters, datasets and their lineage, scores, tables, verdict.

The run writes the seal into ``result.json``; ``release``, ``verify`` and pages compare it with what they read. So an
edit of ``job.json``, of ``result.json`` or of the description of a dataset, by hand or by another program, is found and
named. A hash is no signature: who edits and also reckons the seal anew is not found by it. Against that helps only a
digest that was noted elsewhere, and making the audit again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from synthkit.data.dataset import Dataset
from synthkit.running.run import Job

#: Parts of a seal, and what they are called where one has changed.
_WORDS = {
    "metric": "the metric",
    "policy": "the policy (job.json)",
    "params": "the parameters (job.json)",
    "options": "the options (job.json)",
    "inputs": "the inputs (job.json)",
    "scores": "the scores (result.json)",
    "verdict": "the verdict (result.json)",
    "tables": "the digests of the tables (result.json)",
}


def seal(job: Job, datasets: Mapping[str, Path], result: Mapping[str, Any]) -> dict[str, Any]:
    """The seal of an audit.

    Parameters
    ----------
    datasets : role -> folder, of every input that is a dataset.
    result : its ``scores``, ``outputs`` and ``verdict``.

    Returns
    -------
    A table for JSON: what the job says as it is, digests of the rest, and ``digest`` over all of it.
    """
    parts: dict[str, Any] = {
        **_of_job(job),
        **_of_result(result),
        "descriptions": {role: _described(path) for role, path in sorted(datasets.items())},
    }
    return {**parts, "digest": _digest(parts)}


def changes(job: Job, datasets: Mapping[str, Path], result: Mapping[str, Any]) -> list[str]:
    """What is not as it was when the audit was sealed, in words; a missing seal is one. Datasets are those at hand."""
    kept = result.get("seal")
    if not isinstance(kept, dict) or not isinstance(kept.get("descriptions"), dict):
        return ["the seal is gone, or the audit was made before audits had one (result.json)"]
    found = []
    if kept.get("digest") != _digest({key: value for key, value in kept.items() if key != "digest"}):
        found.append("the seal itself (result.json)")
    now = {**_of_job(job), **_of_result(result)}
    found += [_WORDS[part] + _keys(kept.get(part), now[part]) for part in now if kept.get(part) != now[part]]
    for role, path in sorted(datasets.items()):
        sealed, own = kept["descriptions"].get(role), _described(path)
        was = sealed if isinstance(sealed, dict) else {}
        found += [f"the {part} of the {role} dataset (dataset.json)" for part in own if was.get(part) != own[part]]
    return found


def contradictions(published: Mapping[str, Any]) -> list[str]:
    """What an audit that was published without its run says otherwise than its seal, in words.

    ``published`` has ``seal`` (the whole of it), ``metric``, ``policy``, ``params``, ``inputs`` and ``verdict``. Scores
    of single subjects are not published, so that the digest of all scores cannot be reckoned from them.
    """
    kept = published["seal"]
    now = {part: published[part] for part in ("metric", "policy", "params", "inputs")}
    now["verdict"] = _digest(published["verdict"])
    found = [_WORDS[part].split(" (")[0] for part in now if kept.get(part) != now[part]]
    whole = kept.get("digest") == _digest({key: value for key, value in kept.items() if key != "digest"})
    return found if whole else ["itself", *found]


def datasets_at_hand(job: Job, run: Path) -> dict[str, Path]:
    """The datasets of a run that are still where its links lead."""
    return dict(_datasets(job, run))


def _datasets(job: Job, run: Path) -> Iterator[tuple[str, Path]]:
    for role, item in job.inputs.items():
        path = run / "inputs" / role
        if item.kind == "dataset" and path.exists():
            yield role, path


def _of_job(job: Job) -> dict[str, Any]:
    options = dict(job.options)
    told: dict[str, Any] = {
        "metric": list(job.plugins),
        "policy": options.pop("policy", {}),
        "params": job.params,
        "options": options,
        "inputs": {
            role: {"digest": item.digest, "splits": list(item.splits)} for role, item in sorted(job.inputs.items())
        },
    }
    result: dict[str, Any] = json.loads(json.dumps(told))  # as it comes back from a file: lists for tuples
    return result


def _of_result(result: Mapping[str, Any]) -> dict[str, Any]:
    outputs = result.get("outputs")
    tables = dict(sorted(outputs.items())) if isinstance(outputs, Mapping) else {}
    return {
        "scores": _digest(result.get("scores")),
        "verdict": _digest(result.get("verdict")),
        "tables": _digest(tables),
    }


def _described(path: Path) -> dict[str, str]:
    """Digests of what a dataset says of itself beside its samples, which have a digest of their own."""
    description = dict(Dataset(path).description)
    lineage = description.pop("lineage", None)
    return {"lineage": _digest(lineage or {}), "description": _digest(description)}


def _keys(before: Any, now: Any) -> str:
    """ ": max_copies" where two tables differ in that key alone."""
    if not isinstance(before, dict) or not isinstance(now, dict):
        return ""
    return ": " + ", ".join(sorted(key for key in {*before, *now} if before.get(key) != now.get(key)))


def _digest(value: Any) -> str:
    """``sha256:...`` of canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
