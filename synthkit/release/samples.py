"""Samples of a dataset written anew: the part that remains after a removal, and what the public may see of it.

The public form keeps images, labels and seeds, and of the lineage the generator, the checkpoint's digest and for each
training dataset its digest and numbers. The keyed hashes of training subjects stay behind: who holds an id could ask
them whether that patient was trained on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from synthkit.contract import Sample
from synthkit.data.dataset import Dataset
from synthkit.data.geometry import Geometry
from synthkit.data.lineage import public_lineage
from synthkit.data.slices import SliceProtocol
from synthkit.data.writer import DatasetWriter

OnProgress = Callable[[int, int], None]

_BATCH = 64
#: Ids that `synthkit generate` gives. Others are names of imported files, which may hold anything.
_SEED_ID = re.compile(r"seed\d+")


def write_part(
    dataset: Dataset,
    rows: Sequence[int],
    path: Path,
    *,
    public: bool,
    on_progress: OnProgress = lambda done, total: None,
) -> Dataset:
    """Write these rows of a synthetic dataset as one of its own.

    Parameters
    ----------
    public : without anything that tells of training subjects, see :func:`synthkit.data.lineage.public_lineage`; ids
        other than those of `synthkit generate` become numbers. Else ids, lineage and provenance stay as they are.
    """
    keep_ids = not public or all(_SEED_ID.fullmatch(dataset.samples[i].id) for i in rows)
    description = dataset.description
    provenance = dict(description.get("provenance") or {})
    protocol = dict(description.get("protocol") or {})
    if public:
        provenance = {key: provenance[key] for key in ("plugin", "params") if key in provenance}
        geometry = {"geometry": Geometry.of(protocol).to_dict()} if "geometry" in protocol else {}
        protocol = {**SliceProtocol.from_dict(protocol).to_dict(), **geometry} if protocol else {}
    with DatasetWriter(
        path,
        contrasts=dataset.contrasts,
        scheme=dataset.scheme,
        size=dataset.size,
        kind="synthetic",
        protocol=protocol,
        provenance=provenance,
        lineage=public_lineage(dataset.lineage) if public else dataset.lineage,
    ) as writer:
        for start in range(0, len(rows), _BATCH):
            batch = rows[start : start + _BATCH]
            samples = [dataset.samples[i] for i in batch]
            names = [row.id if keep_ids else f"sample{start + k:08d}" for k, row in enumerate(samples)]
            writer.append(
                *dataset.read(batch), [_row(row, name, public) for row, name in zip(samples, names, strict=True)]
            )
            on_progress(start + len(batch), len(rows))
    return Dataset(path)


def _row(sample: Sample, name: str, public: bool) -> dict[str, Any]:
    row = {"id": name, "split": sample.split, "seed": sample.seed}
    return row if public else {**row, "subject": sample.subject, "slice": sample.slice, "asked": sample.asked}


def maps_used(lineage: Mapping[str, Any], samples: Sequence[Sample], present: Sequence[str]) -> dict[str, int] | None:
    """How many of the label maps that were given these samples have, and how many of them are not empty.

    Seeds that differ modulo the number of maps have different ones. None without maps, or where a seed is not known.

    Parameters
    ----------
    present : the names of the labels of each sample, "" where there are none.
    """
    given = (lineage.get("asked") or {}).get("labels")
    if not given or any(row.seed is None for row in samples):
        return None
    n_maps = int(given["n_maps"])
    shown = {(row.seed or 0) % n_maps: bool(labels) for row, labels in zip(samples, present, strict=True)}
    return {"n_given": n_maps, "n_used": len(shown), "n_not_empty": sum(shown.values())}


def labels_present(dataset: Dataset) -> list[tuple[str, ...]]:
    """For each sample the names of the labels that it holds, background left out, in the order of their values."""
    names = sorted(((value, name) for name, value in dataset.labels.items() if value), key=lambda item: item[0])
    present: list[tuple[str, ...]] = []
    for _, labels in dataset.batches(_BATCH):
        for label_map in labels:
            counts = np.bincount(label_map.ravel(), minlength=256)
            present.append(tuple(name for value, name in names if counts[value]))
    return present
