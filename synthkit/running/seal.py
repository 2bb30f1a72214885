"""What binds an audit to what it was made of: policy, parameters, datasets and their lineage, scores, tables, verdict,
and to what computed it: versions, digests of code, backend, container image.

The run writes the seal into ``result.json``; ``release``, ``verify`` and pages compare it with what they read. So an
edit of ``job.json``, of ``result.json`` or of the description of a dataset, by hand or by another program, is found and
named. A hash is no signature: who edits and also reckons the seal anew is not found by it. Against that helps only a
digest that was noted elsewhere, and making the audit again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from synthkit.data.dataset import Dataset
from synthkit.data.lineage import public_lineage
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
    "computing": "what it was computed with (result.json)",
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
        "published": {
            "scores": _digest(public_scores(result["scores"])),
            **(_shown(datasets["synthetic"]) if "synthetic" in datasets else {}),
        },
    }
    return _closed(parts)


def bound(result: Mapping[str, Any]) -> dict[str, Any]:
    """A result whose seal, where it has one, also holds for what computed it: that is known last."""
    kept = result.get("seal")
    if not isinstance(kept, dict):
        return dict(result)
    return {**result, "seal": _closed({**kept, "computing": _computing(result)})}


def changes(job: Job, datasets: Mapping[str, Path], result: Mapping[str, Any]) -> list[str]:
    """What is not as it was when the audit was sealed, in words; a missing seal is one. Datasets are those at hand."""
    kept = result.get("seal")
    if not isinstance(kept, dict) or not isinstance(kept.get("descriptions"), dict):
        return ["the seal is gone, or the audit was made before audits had one (result.json)"]
    found = []
    if kept != _closed(kept):
        found.append("the seal itself (result.json)")
    elif "computing" not in kept or "published" not in kept:
        return ["the seal is of another version of synthkit (result.json)"]
    now = {**_of_job(job), **_of_result(result)}
    found += [_WORDS[part] + _keys(kept.get(part), now[part]) for part in now if kept.get(part) != now[part]]
    for role, path in sorted(datasets.items()):
        sealed, own = kept["descriptions"].get(role), _described(path)
        was = sealed if isinstance(sealed, dict) else {}
        found += [f"the {part} of the {role} dataset (dataset.json)" for part in own if was.get(part) != own[part]]
    return found


def contradictions(published: Mapping[str, Any]) -> list[str]:
    """What an audit that was published without its run says otherwise than its seal, in words.

    ``published`` has ``seal`` (the whole of it), ``metric``, ``policy``, ``params``, ``inputs``, ``verdict``,
    ``scores`` without those of single subjects, ``lineage`` without names, and ``runs``, whose first is the audit.
    """
    kept = published["seal"]
    now = {part: published[part] for part in ("metric", "policy", "params", "inputs")}
    now["verdict"] = _digest(published["verdict"])
    found = [_WORDS[part].split(" (")[0] for part in now if kept.get(part) != now[part]]
    shown = kept["published"]
    found += ["the scores"] if shown["scores"] != _digest(published["scores"]) else []
    found += ["the lineage of the samples"] if shown["lineage"] != _digest(published["lineage"]) else []
    for part in ("versions", "code"):
        if kept["computing"][part] != _digest(published["runs"][0].get(part)):
            found.append(f"the {part} that it ran with")
    return found if kept == _closed(kept) else ["itself", *found]


def shows_samples(published: Mapping[str, Any], digests: Iterable[str]) -> bool:
    """Whether these digests, one a sample and in order, are those of the samples that a published audit searched."""
    return bool(published["seal"]["published"]["samples"] == _digest(list(digests)))


def public_scores(scores: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The scores that may be published: without those of single subjects."""
    return [dict(score) for score in scores if "subject" not in (score.get("of") or {})]


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
        "computing": _computing(result),
    }


def _computing(result: Mapping[str, Any]) -> dict[str, str]:
    return {part: _digest(result.get(part)) for part in ("versions", "code", "backend", "container")}


def _described(path: Path) -> dict[str, str]:
    """Digests of what a dataset says of itself beside its samples, which have a digest of their own."""
    description = dict(Dataset(path).description)
    lineage = description.pop("lineage", None)
    return {"lineage": _digest(lineage or {}), "description": _digest(description)}


def _shown(path: Path) -> dict[str, str]:
    """Digests of what a release shows of the samples: in order those of their pixels, and the lineage without names."""
    dataset = Dataset(path)
    return {
        "samples": _digest([row.digest for row in dataset.samples]),
        "lineage": _digest(public_lineage(dataset.lineage)),
    }


def _keys(before: Any, now: Any) -> str:
    """ ": max_copies" where two tables differ in that key alone."""
    if not isinstance(before, dict) or not isinstance(now, dict):
        return ""
    return ": " + ", ".join(sorted(key for key in {*before, *now} if before.get(key) != now.get(key)))


def _closed(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Parts of a seal with the digest over all of them, reckoned anew."""
    rest = {key: value for key, value in parts.items() if key != "digest"}
    return {**rest, "digest": _digest(rest)}


def _digest(value: Any) -> str:
    """``sha256:...`` of canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
