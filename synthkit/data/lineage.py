"""Who was trained on what: the entries that models and synthetic images keep of their training datasets.

An entry names one dataset: its digest, kind and number of samples, and ``subject_keys``, hashes of its patients, since
names must not travel. Where a table says who the patients are, ``alias_keys`` are hashes of whatever else they may be
asked by. Behind a synthetic dataset stand, as ``training_datasets``, the entries of what its generator was
trained on and of the dataset whose label maps it was asked for (``"used": "labels"`` where its images were not), and so
on down to real patients. Checkpoints keep such entries, and the ``lineage`` of a synthetic dataset. Everything that
asks whether somebody was trained on asks here.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from synthkit.data.patients import by_names, patient_of, scans_of
from synthkit.errors import DataError

#: An entry, as it is kept in JSON.
Entry = Mapping[str, Any]

#: What the names of phantom subjects begin with.
PHANTOM_PREFIX = "Phantom_"


# ----------------------------------------------------------------------------------------------------- writing


def subject_key(subject: str, digest: str) -> str:
    """Keyed hash of a subject's patient by name: HMAC-SHA256 (RFC 2104), first 32 hex characters.

    It goes where ids must not: into checkpoints and synthetic datasets. Scans of one patient have one key. Who holds
    an id and the file can ask whether that patient was trained on, which is its purpose; the ids are not in the file.

    Parameters
    ----------
    digest : of the dataset that the subject belongs to, the key: keys of two datasets cannot be compared.
    """
    return _key(patient_of(subject), digest)


def _key(name: str, digest: str) -> str:
    return hmac.new(digest.encode(), name.encode(), hashlib.sha256).hexdigest()[:32]


def is_phantom(subject: str) -> bool:
    """Whether a subject is of the phantom, which has no patients; told by its name."""
    return subject.startswith(PHANTOM_PREFIX)


def training_entry(
    *,
    digest: str,
    kind: Literal["real", "synthetic"],
    n_samples: int,
    subjects: Sequence[str],
    patients: Mapping[str, str] | None = None,
    behind: Sequence[Entry] = (),
    imported: bool = False,
) -> dict[str, Any]:
    """The entry of one dataset, see :meth:`synthkit.data.dataset.Dataset.training_entry`.

    Parameters
    ----------
    n_samples, subjects : of what may be trained on.
    patients : subject -> patient of the whole dataset, its holdout too; by default what the names say.
    behind : entries of what its images were made from.
    imported : whether they were made from more than is known, by an imported generator or by masks from anywhere.
    """
    entry = {
        "digest": digest,
        "kind": kind,
        "n_samples": n_samples,
        "phantom": bool(subjects) and all(map(is_phantom, subjects)),
    }
    patients = by_names(subjects) if patients is None else patients
    names, aliases = _names_of(subjects, patients)
    entry["subject_keys"] = sorted({_key(name, digest) for name in names})
    if aliases:
        entry["alias_keys"] = sorted({_key(name, digest) for name in aliases})
    if behind:
        entry["training_datasets"] = list(behind)
    return {**entry, "imported": True} if imported else entry


def _names_of(subjects: Sequence[str], patients: Mapping[str, str]) -> tuple[set[str], set[str]]:
    """One name for each patient of these subjects, and all others that they may be asked by later.

    Later, nobody has the table: a subject comes by its id, which stands for a patient by the known namings. So those
    names are kept, and not the table's own. A naming that the dataset contradicts does not count: where two scans were
    said to be of two patients, one must not stand for the other.
    """
    owners: dict[str, set[str]] = {}
    for subject, patient in patients.items():
        owners.setdefault(patient_of(subject), set()).add(patient)
    names, aliases = set(), set()
    for patient, scans in scans_of({subject: patients[subject] for subject in subjects}).items():
        by_name = [patient_of(scan) for scan in scans if owners[patient_of(scan)] == {patient}]
        names.add((by_name or scans)[0])
        aliases |= set(by_name)
        aliases |= {scan for scan in scans if patient_of(scan) not in by_name}
    return names, aliases - names


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
    """Keys of all patients behind these entries, directly or through a generator; or of the phantoms among them.

    One key a patient: those that a patient may be asked by besides are in :func:`alias_keys`.
    """
    keys: set[str] = set()
    for entry in every_entry(entries):
        own = _keys_of(entry)
        keys.update(own if entry.get("phantom") or not phantoms_only else ())
    return keys


def alias_keys(entries: Iterable[Entry]) -> set[str]:
    """Further keys of patients behind these entries, where a table said which subjects are scans of one patient."""
    return {key for entry in every_entry(entries) for key in entry.get("alias_keys", ())}


def was_trained_on(subject: str, entries: Iterable[Entry]) -> bool:
    """Whether any scan of the subject's patient is in these datasets, directly or through a generator.

    The patient is the one that the dataset said where the subject was in it, else the one that its id stands for by the
    known namings: another scan of a patient under an unrelated id is not recognized.
    """
    for entry in every_entry(entries):
        keys = {*_keys_of(entry), *entry.get("alias_keys", ())}
        if not keys.isdisjoint(_key(name, entry["digest"]) for name in (subject, patient_of(subject))):
            return True
    return False


def has_unknown_origin(entries: Iterable[Entry]) -> bool:
    """Whether there are synthetic images among these datasets of which nobody knows whom they were made from.

    Those are imported ones, those of an imported generator, be it trained further, and those asked for by masks alone.
    """
    return any(
        entry.get("kind") == "synthetic" and (entry.get("imported", False) or not entries_of(entry))
        for entry in every_entry(entries)
    )


def has_unknown_masks(lineage: Mapping[str, Any]) -> bool:
    """Whether the lineage of a dataset says that its samples were asked to have masks of nobody knows whom."""
    return ((lineage.get("asked") or {}).get("labels") or {}).get("kind") == "masks"


def lent_label_maps(lineage: Mapping[str, Any]) -> dict[str, Any] | None:
    """Whose label maps the samples of a dataset were asked to have, where these may be patients.

    Samples that were asked for with those of other samples have the label maps that these were asked for.

    Parameters
    ----------
    lineage : of a dataset, or its :func:`public_lineage`.

    Returns
    -------
    ``{"whose": "people", "n_people": 3}``, ``{"whose": "unknown"}`` for masks of nobody knows whom, or None where
    nothing was asked, or label maps of phantoms, or such as a generator drew.
    """
    asked = (lineage.get("asked") or {}).get("labels")
    while asked and asked.get("kind") == "synthetic":
        asked = asked.get("asked")
    if not asked:
        return None
    if asked.get("kind") != "real":
        return {"whose": "unknown"}
    known = [*every_entry(entries_of(lineage)), *(lineage.get("trained_on") or ())]
    entry = next((entry for entry in known if entry.get("digest") == asked.get("digest")), None)
    if entry and entry.get("phantom"):
        return None
    lenders = entry.get("n_subjects") or len(_keys_of(entry)) if entry else None
    return {"whose": "people", "n_people": asked.get("n_people") or lenders}


def whose_labels(lineage: Mapping[str, Any]) -> str:
    """Whose label maps samples were asked to have: "patients", "phantoms", "synthetic" ones or "masks" of nobody knows
    whom; "" where none were given.

    Parameters
    ----------
    lineage : of a dataset, or its :func:`public_lineage`.
    """
    given = (lineage.get("asked") or {}).get("labels")
    if not given:
        return ""
    lent = lent_label_maps(lineage)
    if lent is None:
        return "phantoms" if given.get("kind") == "real" else "synthetic"
    return "patients" if lent["whose"] == "people" else "masks"


def original_digests(entries: Iterable[Entry]) -> list[str]:
    """Digests of the datasets that may have been copied: behind a synthetic one, those that it was made from itself."""
    digests = [str(entry["digest"]) for entry in every_entry(entries) if not entries_of(entry)]
    return list(dict.fromkeys(digests))


def public_entries(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """What the public may see: digest, kind, use, numbers of samples and subjects; ``trained_on`` likewise."""
    found = []
    for entry in entries:
        public = {key: entry[key] for key in ("digest", "kind", "n_samples", "phantom", "used") if key in entry}
        public["n_subjects"] = len(entry.get("subject_keys", []))
        behind = public_entries(entries_of(entry))
        found.append({**public, "trained_on": behind} if behind else public)
    return found


def public_lineage(lineage: Mapping[str, Any]) -> dict[str, Any]:
    """A lineage that names nobody: ``generator``, ``checkpoint_digest``, of an imported one ``imported``, what was
    ``asked``, and ``trained_on``, see :func:`public_entries`.

    It is empty for data of unknown origin. Commands that ask for training subjects take it for that, too.
    """
    if not lineage:
        return {}
    kept = {
        key: lineage[key]
        for key in ("generator", "checkpoint_digest", "imported", "unfinished", "asked")
        if key in lineage
    }
    return {**kept, "trained_on": public_entries(entries_of(lineage))}


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
