"""The provenance section: commands, seeds, lineage, versions, machines, isolation, container images, citations."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from synthkit.contract import Citation
from synthkit.data.lineage import entries_of, training_keys
from synthkit.report.gather import DatasetRecord, Material, RunRecord, grouped, training_behind, training_of

_PROTOCOL = Citation(
    text="Akbar, Larsson, Blystad, Eklund. Brain tumor segmentation using synthetic MR images: a comparison of GANs "
    "and diffusion models. Scientific Data 11:259 (2024)",
    doi="10.1038/s41597-024-03073-x",
)


def section(material: Material) -> dict[str, Any]:
    """All that is needed to trace a number or a picture to its origin, or to make it again."""
    done = [record for record in material.runs if record.result is not None]
    return {
        "commands": [(r.name, shlex.join(r.job.command)) for r in material.runs if r.job and r.job.command],
        "seeds": _seeds(material),
        "lineage": [_lineage(record, material) for record in material.of_kind("synthetic")],
        "models": [model for record in material.of_verb("train") if (model := _model(record))],
        "scored": [scored for record in material.of_verb("evaluate") if (scored := _scored(record, material))],
        "versions": _group(done, "versions"),
        "machines": _group(done, "machine"),
        "isolation": [
            ({"backend": value.pop("backend"), **value}, names)
            for value, names in grouped(
                (r.name, {"backend": (r.result or {}).get("backend", "not known"), **_mapping(r, "isolation")})
                for r in done
            )
        ],
        "containers": [(value, names) for value, names in _group(done, "container") if value],
        "params": [(r.name, r.job.params) for r in material.runs if r.job and r.job.params],
        "citations": citations(material),
    }


def audit_facts(record: RunRecord, material: Material, *, public: bool) -> dict[str, dict[str, Any]]:
    """Where one audit comes from, in named groups; ``public`` leaves out all that may name a path or a sample."""
    job, result = record.job, record.result or {}
    params = dict(job.params) if job else {}
    if public:
        params = {key: value for key, value in params.items() if not _may_be_path(value)}
    synthetic = next(iter(material.of_kind("synthetic")), None)
    lineage = synthetic.dataset.lineage if synthetic else {}
    facts: dict[str, Any] = {
        "The audit": {
            "made": job.created if job else "",
            "synthkit": job.synthkit if job else "",
            "method": list(record.plugins),
            "backend": result.get("backend"),
            "isolation": isolation_summary(result),
            **({} if public or not job else {"command": shlex.join(job.command)}),
        },
        "Datasets compared": {
            role: f"{', '.join(item.splits) or item.kind} {item.digest}"
            for role, item in (job.inputs if job else {}).items()
        },
        "Generator of the synthetic images": {
            "generator": lineage.get("generator"),
            "checkpoint": lineage.get("checkpoint_digest"),
            "unfinished": _unfinished(lineage),
            "training datasets": [str(item.get("digest")) for item in entries_of(lineage)],
        },
        "Parameters": params,
        "Versions": _mapping(record, "versions"),
        "Container image": {key: value for key, value in _mapping(record, "container").items() if value},
    }
    known = {
        title: {key: value for key, value in values.items() if value not in (None, "", [])}
        for title, values in facts.items()
    }
    return {title: values for title, values in known.items() if values}


def _may_be_path(value: Any) -> bool:
    return isinstance(value, str) and any(mark in value for mark in "/\\")


def isolation_summary(result: Mapping[str, Any] | None) -> str:
    """The guarantees of a run in a few words; "none" for a plain process."""
    isolation = (result or {}).get("isolation")
    if not isinstance(isolation, dict) or not isolation:
        return "not recorded"
    if isolation.get("network") == "host" and isolation.get("root_filesystem") == "writable":
        return "none (plain process)"
    parts = []
    for key, text in (("network", "network"), ("root_filesystem", "root"), ("inputs", "inputs")):
        if key in isolation:
            parts.append(f"{text} {isolation[key]}")
    if isolation.get("capabilities") not in (None, "those of the caller"):
        parts.append(f"capabilities {isolation['capabilities']}")
    return ", ".join(parts) or "see provenance"


def _mapping(record: RunRecord, key: str) -> dict[str, Any]:
    value = (record.result or {}).get(key)
    return dict(value) if isinstance(value, dict) else {}


def _group(records: list[RunRecord], key: str) -> list[tuple[dict[str, Any], list[str]]]:
    return [(value, names) for value, names in grouped((r.name, _mapping(r, key)) for r in records) if value]


def _seeds(material: Material) -> list[tuple[str, str]]:
    seeds = []
    for record in material.runs:
        if record.job is None:
            continue
        own = []
        if record.job.options.get("seeds"):
            own.append(f"samples {record.job.options['seeds']}")
        if "seed" in record.job.params:
            own.append(f"method {record.job.params['seed']}")
        if own:
            seeds.append((record.name, ", ".join(own)))
    return seeds


def _unfinished(lineage: Mapping[str, Any]) -> str:
    """Says of images that were drawn before the end of a training how far it was; empty for others."""
    if "unfinished" not in lineage:
        return ""
    return f"drawn before the end of the training, after {lineage['unfinished']['images']:,} training images"


def _lineage(record: DatasetRecord, material: Material) -> dict[str, Any]:
    """Sample, seed, checkpoint, training dataset: the steps from one synthetic image back to real subjects."""
    dataset = record.dataset
    lineage, provenance = dataset.lineage, dict(dataset.description.get("provenance") or {})
    first = dataset.samples[0] if len(dataset) else None
    training = []
    for item in entries_of(lineage):
        known = material.by_digest(str(item.get("digest")))
        training.append({**item, "name": known.name if known else ""})
    return {
        "record": record,
        "known": bool(lineage),
        "imported_from": provenance.get("imported_from"),
        "example": first,
        "seeds": provenance.get("seeds"),
        "generator": lineage.get("generator"),
        "checkpoint_digest": lineage.get("checkpoint_digest"),
        "training": [item for item in training if item.get("used") != "labels"],
        "n_subjects": len(training_keys(item for item in entries_of(lineage) if item.get("used") != "labels")),
        "asked": _asked(lineage, material),
    }


def _asked(lineage: Mapping[str, Any], material: Material) -> list[str]:
    """What the generator was asked for besides seeds, in words; empty where nothing was."""
    asked = dict(lineage.get("asked") or {})
    parts = []
    if labels := asked.pop("labels", None):
        known = material.by_digest(str(labels.get("digest")))
        of = "masks of nobody knows whom" if labels.get("kind") == "masks" else f"{labels.get('kind')} images"
        n = labels.get("n_used", labels.get("n_maps"))
        parts.append(f"{n} label maps of {of}, {known.name if known else labels.get('digest')}")
    named = ((name, ", ".join(map(str, value)) if isinstance(value, list) else value) for name, value in asked.items())
    return [*parts, *(f"{name} {value}" for name, value in named)]


def _model(record: RunRecord) -> dict[str, Any] | None:
    training = training_of(record)
    return {"name": record.name, "training": training} if training else None


def _scored(record: RunRecord, material: Material) -> dict[str, Any] | None:
    if record.job is None or "prediction" not in record.job.inputs:
        return None
    training = training_behind(record, material)
    return {"name": record.name, "training": training} if training else None


def citations(material: Material) -> list[Citation]:
    """Of the plugins in use, as far as they are installed here, and of the protocol; once each."""
    from synthkit.registry.registry import discover

    registry = discover()
    found: dict[str, Citation] = {}
    if any("akbar2024" in str(_protocol(record)) for record in material.datasets):
        found[_PROTOCOL.doi] = _PROTOCOL
    for name in dict.fromkeys(name for record in material.runs for name in record.plugins):
        declaration = registry.declarations.get(name)
        for citation in declaration.citations if declaration else ():
            found.setdefault(citation.doi or citation.url or citation.text, citation)
    return list(found.values())


def _protocol(record: DatasetRecord) -> Any:
    return (record.dataset.description.get("protocol") or {}).get("name")
