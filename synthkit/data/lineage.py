"""Who was trained on what: the entries that models and synthetic images keep of their training datasets.

An entry names one dataset: its digest, kind and number of samples, and ``subject_keys``, hashes of its patients, since
names must not travel. Behind a synthetic dataset stand, as ``training_datasets``, the entries of what its generator was
trained on, and so on down to real patients. Checkpoints keep such entries, and the ``lineage`` of a synthetic dataset.
Everything that asks whether somebody was trained on asks here.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from synthkit.data.splits import patient_of
from synthkit.errors import DataError

#: An entry, as it is kept in JSON.
Entry = Mapping[str, Any]

#: What the names of phantom subjects begin with.
PHANTOM_PREFIX = "Phantom_"


# ----------------------------------------------------------------------------------------------------- writing


def subject_key(subject: str, digest: str) -> str:
    """Keyed hash of a subject's patient: HMAC-SHA256 (RFC 2104), first 32 hex characters.

    It goes where ids must not: into checkpoints and synthetic datasets. Scans of one patient have one key. Who holds
    an id and the file can ask whether that patient was trained on, which is its purpose; the ids are not in the file.

    Parameters
    ----------
    digest : of the dataset that the subject belongs to, the key: keys of two datasets cannot be compared.
    """
    return hmac.new(digest.encode(), patient_of(subject).encode(), hashlib.sha256).hexdigest()[:32]


def is_phantom(subject: str) -> bool:
    """Whether a subject is of the phantom, which has no patients; told by its name."""
    return subject.startswith(PHANTOM_PREFIX)


def training_entry(
    *,
    digest: str,
    kind: Literal["real", "synthetic"],
    n_samples: int,
    subjects: Sequence[str],
    behind: Sequence[Entry] = (),
) -> dict[str, Any]:
    """The entry of one dataset, see :meth:`synthkit.data.dataset.Dataset.training_entry`.

    Parameters
    ----------
    n_samples, subjects : of what may be trained on.
    behind : entries of what its images were made from.
    """
    entry = {
        "digest": digest,
        "kind": kind,
        "n_samples": n_samples,
        "phantom": bool(subjects) and all(map(is_phantom, subjects)),
        "subject_keys": sorted({subject_key(subject, digest) for subject in subjects}),
    }
    return {**entry, "training_datasets": list(behind)} if behind else entry


# ----------------------------------------------------------------------------------------------------- reading


def entries_of(holder: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The ``training_datasets`` of an entry, of a dataset's ``lineage`` or of a checkpoint; none where it has none."""
    return list(holder.get("training_datasets") or ())


def datasets_behind(metadata: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Entries of the datasets that a model has learned from: trained on, or validated on, which chose its weights.

    Parameters
    ----------
    metadata : of a checkpoint; a :class:`KeyError` if it does not say what was trained on.
    """
    return [*metadata["training_datasets"], *metadata.get("validation_datasets", ())]


def every_entry(entries: Iterable[Entry]) -> Iterator[Entry]:
    """These entries, each followed by those of what its images were made from."""
    for entry in entries:
        yield entry
        yield from every_entry(entries_of(entry))


def training_keys(entries: Iterable[Entry], *, phantoms_only: bool = False) -> set[str]:
    """Keys of all patients behind these entries, directly or through a generator; or of the phantoms among them."""
    keys: set[str] = set()
    for entry in every_entry(entries):
        own = _keys_of(entry)
        keys.update(own if entry.get("phantom") or not phantoms_only else ())
    return keys


def was_trained_on(subject: str, entries: Iterable[Entry]) -> bool:
    """Whether any scan of the subject's patient is in these datasets, directly or through a generator."""
    for entry in every_entry(entries):
        keys = _keys_of(entry)
        if subject_key(subject, entry["digest"]) in keys:
            return True
    return False


def has_unknown_origin(entries: Iterable[Entry]) -> bool:
    """Whether there are synthetic images among these datasets of which nobody knows whom they were made from.

    Those are imported ones, and those of an imported generator.
    """
    return any(entry.get("kind") == "synthetic" and not entries_of(entry) for entry in every_entry(entries))


def original_digests(entries: Iterable[Entry]) -> list[str]:
    """Digests of the datasets that may have been copied: behind a synthetic one, those that it was made from itself."""
    digests = [str(entry["digest"]) for entry in every_entry(entries) if not entries_of(entry)]
    return list(dict.fromkeys(digests))


def public_entries(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """What the public may see of entries: digest, kind, numbers of samples and subjects; ``trained_on`` likewise."""
    found = []
    for entry in entries:
        public = {key: entry[key] for key in ("digest", "kind", "n_samples", "phantom") if key in entry}
        public["n_subjects"] = len(entry.get("subject_keys", []))
        behind = public_entries(entries_of(entry))
        found.append({**public, "trained_on": behind} if behind else public)
    return found


def _keys_of(entry: Entry) -> Sequence[str]:
    """Its own keys; an entry without any list is refused, since "nobody" would be the dangerous reading of it."""
    keys = entry.get("subject_keys")
    if not isinstance(keys, list) or not isinstance(entry.get("digest"), str):
        raise DataError(
            "The lineage of a model or of synthetic images is damaged.",
            "A training dataset in it has no digest or no subject_keys, so whom it was trained on is not known.",
            "Train the model, or generate the images, again.",
        )
    return keys
