"""What a release says of itself, as ``audit.json`` holds it: data, audit as the public may see it, what made them.

Every document of a release is written from it alone, so that who signs can compare them with it.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from synthkit.data.dataset import Dataset
from synthkit.data.lineage import public_lineage, whose_labels
from synthkit.errors import DataError
from synthkit.release.content import Release
from synthkit.release.reading import how_to_read
from synthkit.release.samples import maps_used
from synthkit.report.audit.protection import data_protection
from synthkit.running.request import departures
from synthkit.running.run import JOB, Run
from synthkit.running.seal import public_scores

_NOT_COMPARED = "not compared: the plugin is not installed here"


def published(
    release: Release, public: Dataset, present: Sequence[tuple[str, ...]], format: str, files: Mapping[str, str]
) -> dict[str, Any]:
    """What ``audit.json`` holds, as it comes back from JSON.

    Parameters
    ----------
    public : the samples as they are released.
    present : the labels of each sample.
    files : name -> SHA-256 (hex) of what is neither an image of one sample nor a document.
    """
    told = {**_facts(release, public, present, format), **_audit(release), "files": dict(files)}
    plain: dict[str, Any] = json.loads(json.dumps(told, allow_nan=False))
    return plain


def _facts(release: Release, public: Dataset, present: Sequence[tuple[str, ...]], format: str) -> dict[str, Any]:
    from synthkit import __version__

    about, removal, lineage = release.description, release.removal, release.dataset.lineage
    generator = str(lineage.get("generator", "")) if lineage else ""
    return {
        "title": about.title or f"Synthetic MR images made by {generator or 'a generator of unknown origin'}",
        "released": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "synthkit": __version__,
        "format": format,
        "n_samples": len(public),
        "digest": public.digest,
        "contrasts": list(public.contrasts),
        "scheme": public.scheme.to_dict(),
        "reading": asdict(how_to_read(public, format)),
        "about": {"creators": about.creators, "licence": about.licence, "contact": about.contact},
        "citations": [asdict(citation) for citation in release.citations],
        "size": list(public.size),
        "labels": {name: sum(name in labels for labels in present) for name, value in public.labels.items() if value},
        "lineage": public_lineage(lineage),
        "label_maps": maps_used(lineage, public.samples, [" ".join(labels) for labels in present]),
        "generation": dict(public.description.get("provenance") or {}),
        "policy": dict(release.audit.job.options.get("policy", {})),
        "departures": _departures(release, public),
        "removal": {
            "n_before": removal.n_before,
            "n_copies": len(removal.copies),
            "n_near": len(removal.near),
            "max_quantile": removal.max_quantile,
            "max_removed_rate": release.audit.policy.max_removed_rate,
        },
    }


def _departures(release: Release, public: Dataset) -> dict[str, list[str]]:
    """All that is not at its default: rules of the policy, parameters of the audit and of the generator."""
    audit, provenance = release.audit, public.description.get("provenance") or {}
    found = {
        "policy": audit.policy.departures(),
        "audit": _or_said(departures(audit.job.plugins[0], audit.job.params)),
    }
    if "plugin" in provenance:
        found["generator"] = _or_said(departures(str(provenance["plugin"]), provenance.get("params") or {}))
    return found


def _or_said(lines: list[str] | None) -> list[str]:
    return [_NOT_COMPARED] if lines is None else lines


def _audit(release: Release) -> dict[str, Any]:
    """The audit as the public may see it: no subject, no folder, no name of a machine."""
    audit = release.audit
    return {
        "audited_digest": audit.job.inputs["synthetic"].digest,
        "conditional_on_removal": release.first is not None,
        "before_removal": None if release.first is None else release.first.verdict,
        "verdict": audit.verdict,
        "seal": audit.result["seal"],
        "metric": list(audit.job.plugins),
        "params": audit.job.params,
        "lineage_known": audit.job.options.get("lineage") != "unknown",
        "inputs": {
            role: {"digest": item.digest, "splits": list(item.splits)} for role, item in audit.job.inputs.items()
        },
        "scores": public_scores(audit.scores),
        "data_protection": data_protection(audit.scores, audit.verdict, whose_labels(release.dataset.lineage)),
        "runs": [_public_run(run) for run in (audit.run, *_runs_behind(release.dataset))],
    }


def _runs_behind(dataset: Dataset) -> Iterator[Run]:
    """The run that generated the samples and the training behind it, as far as they are still where they were."""
    made = _run_around(dataset.path)
    if made is not None and _output(made, "dataset") == dataset.digest:
        yield made
        trained = _run_around(made.input("checkpoint").resolve())
        if trained is not None and _output(trained, "checkpoint") == dataset.lineage.get("checkpoint_digest"):
            yield trained


def _run_around(output: Path) -> Run | None:
    """The run folder that an output lies in; None where it lies elsewhere."""
    run = Run(output.parent.parent)
    return run if output.parent.name == "outputs" and (run.path / JOB).is_file() else None


def _output(run: Run, name: str) -> Any:
    """The digest of an output, None where there is none."""
    try:
        return ((run.result() or {}).get("outputs") or {}).get(name, {}).get("digest")
    except (DataError, AttributeError):  # damaged
        return None


def _public_run(run: Run) -> dict[str, Any]:
    """What computed: plugin, backend, versions, digests of code and of the container image; no name of a registry."""
    job, result = run.job(), run.result() or {}
    container = result.get("container")
    public = {"verb": job.verb, "plugins": list(job.plugins), "backend": result.get("backend")}
    public.update({key: result[key] for key in ("versions", "code") if key in result})
    if isinstance(container, Mapping):
        digests = sorted({str(text).rpartition("@")[2] for text in container.get("repo_digests") or ()})
        image = str(container.get("image", "")).rpartition("/")[2]
        public["container"] = {"image": image, "id": container.get("image_id"), "digests": digests}
    return public
