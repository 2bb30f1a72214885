"""Whether the files of a release agree with one another: samples, images and documents with ``audit.json``.

Checksums say only that files are those which were listed, and who edits a file can list it anew. Here ``samples.csv``
has to give the digest of the data and, by the seal of the audit, the samples that were searched; images have to give
``samples.csv``; and documents have to say what ``audit.json`` says. That finds mistakes, and edits that contradict the
seal, but not every intent: who reckons the seal anew, too, has written another audit.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthkit.contract import Sample
from synthkit.data.dataset import Dataset
from synthkit.data.format import content_digest, is_safe_name, sample_digest
from synthkit.data.lineage import whose_labels
from synthkit.data.shards import map_threads
from synthkit.errors import DataError
from synthkit.files import read_inside
from synthkit.judging.policy import policy_of
from synthkit.release import layout
from synthkit.release.assessment import LEFT
from synthkit.release.documents import documents
from synthkit.release.reading import StoredLabel, stored_labels, stored_values
from synthkit.release.samples import maps_used
from synthkit.report.audit.protection import data_protection
from synthkit.running.seal import shows_samples
from synthkit.schemes import Scheme

if TYPE_CHECKING:
    from synthkit.contract import UInt8Array

_MOST_BYTES = 2**30
_BATCH = 64
_SHOWN = 3
#: What reading a damaged image raises, by Pillow, nibabel and gzip.
_DAMAGED = (OSError, ValueError, EOFError, SyntaxError, KeyError, zlib.error, DataError)
_HEADING = re.compile(r"#{1,6} ")


# --------------------------------------------------------------------------------------------------------- samples


def flaws_of_samples(folder: Path, told: Mapping[str, Any], found: Mapping[str, str]) -> list[str]:
    """What of the samples in a folder contradicts its ``audit.json``, in sentences; every image is read.

    Parameters
    ----------
    told : what ``audit.json`` holds; what it lacks raises KeyError, TypeError or ValueError.
    found : name -> SHA-256 of all files.
    """
    rows, present = _table(folder)
    scheme, contrasts, format = Scheme.from_dict(told["scheme"]), told["contrasts"], told["format"]
    flaws = []
    if told["n_samples"] != len(rows):
        flaws.append(f"{layout.AUDIT} counts {told['n_samples']} samples, {layout.SAMPLES} holds {len(rows)}.")
    if told["digest"] != content_digest(contrasts, scheme, told["size"], rows):
        flaws.append(f"{layout.SAMPLES} does not give the digest of the data in {layout.AUDIT}.")
    if not shows_samples(told, [row.digest for row in rows]):
        flaws.append(f"The samples of {layout.SAMPLES} are not those that the sealed audit searched.")
    audited = told["inputs"]["synthetic"]["digest"]
    # Names of imported files, and what samples were asked for, stay behind, so that the digest is another.
    as_audited = "asked" not in told["lineage"] and not any(row.id.startswith("sample") for row in rows)
    if told["audited_digest"] != audited or (as_audited and told["digest"] != audited):
        flaws.append(f"The digest of the data in {layout.AUDIT} is not that of the sealed audit.")
    removal = told["removal"]
    if removal["n_before"] - removal["n_copies"] - removal["n_near"] != told["n_samples"]:
        flaws.append(f"The numbers of images before and after the removal in {layout.AUDIT} contradict one another.")
    if told["label_maps"] != maps_used(told["lineage"], rows, present):
        flaws.append(f"{layout.AUDIT} counts other label maps that were given than {layout.SAMPLES} shows.")
    counts = {label.name: sum(label.name in labels.split() for labels in present) for label in scheme.labels}
    if told["labels"] != counts:
        flaws.append(f"{layout.AUDIT} counts other labels than {layout.SAMPLES}.")
    if [StoredLabel(**label) for label in told["reading"]["labels"]] != [*stored_labels(scheme, format)]:
        flaws.append(f"The numbers or meanings of labels in {layout.AUDIT} (reading) are not those of its scheme.")
    flaws += _flaws_of_files(rows, told, found)
    return flaws + _flaws_of_images(folder, rows, present, told, scheme)


def _table(folder: Path) -> tuple[list[Sample], list[str]]:
    """The samples, and what the table says of the labels of each."""
    text = read_inside(folder, layout.SAMPLES, max_bytes=_MOST_BYTES).decode()
    lines = list(csv.DictReader(io.StringIO(text)))
    rows = [
        Sample(line["id"], "synthetic", None, None, int(line["seed"]) if line["seed"] else None, line["digest"])
        for line in lines
    ]
    if unsafe := [row.id for row in rows if not is_safe_name(row.id)]:
        raise ValueError(f"{layout.SAMPLES} has the id {unsafe[0]!r}")
    return rows, [line["labels"] for line in lines]


def _flaws_of_files(rows: Sequence[Sample], told: Mapping[str, Any], found: Mapping[str, str]) -> list[str]:
    """A sentence for each file that belongs to no sample and is not, or not as, ``audit.json`` lists it."""
    listed = dict(told["files"])
    pictures = {"/".join(p) for row in rows for p in layout.pictures(told["format"], told["contrasts"], row.id)}
    own = {layout.AUDIT, layout.SAMPLES, layout.CHECKSUMS, layout.DATASHEET, layout.CARD, layout.ASSESSMENT}
    own |= {layout.CROISSANT, *([layout.CITATION] if told["about"]["creators"] else [])}
    changed = [name for name in listed if found.get(name) != listed[name]]
    foreign = [name for name in found if name not in {*listed, *pictures, *own}]
    flaws = [f"Not as {layout.AUDIT} lists them: {_some(changed)}."] if changed else []
    return flaws + ([f"Of no sample, and no document: {_some(foreign)}."] if foreign else [])


def _flaws_of_images(
    folder: Path, rows: Sequence[Sample], present: Sequence[str], told: Mapping[str, Any], scheme: Scheme
) -> list[str]:
    read = _reader(folder, told, scheme)
    names = sorted((value, name) for name, value in scheme.label_values.items() if value)

    def agrees(number: int) -> bool:
        try:
            image, labels = read(number, rows[number])
        except _DAMAGED:
            return False
        shown = " ".join(name for value, name in names if (labels == value).any())
        return sample_digest(image, labels) == rows[number].digest and shown == present[number]

    wrong = []
    for start in range(0, len(rows), _BATCH):
        batch = range(start, min(start + _BATCH, len(rows)))
        wrong += [rows[i].id for i, good in zip(batch, map_threads(agrees, batch), strict=True) if not good]
    return [f"Images are not those of {layout.SAMPLES}: {_some(wrong)}."] if wrong else []


def _reader(folder: Path, told: Mapping[str, Any], scheme: Scheme) -> Any:
    """A function of the number and the row of a sample: its image uint8 (contrast, y, x) and label map uint8 (y, x)."""
    import numpy as np

    format, size = told["format"], tuple(told["size"])
    if format == "dataset":
        dataset = Dataset(folder / "dataset")

        def of_dataset(number: int, row: Sample) -> tuple[UInt8Array, UInt8Array]:
            image, labels = dataset.read([number])
            return image[0], labels[0]

        return of_dataset
    values = np.full(256, -1, np.int16)
    for stored, value in stored_values(scheme, format).items():
        values[stored] = value

    def of_files(number: int, row: Sample) -> tuple[UInt8Array, UInt8Array]:
        paths = layout.pictures(format, told["contrasts"], row.id)
        planes = np.stack([_plane(folder, path, size) for path in paths])
        labels = values[planes[-1]]
        if (labels < 0).any():
            raise ValueError("a number that stands for no label")
        return planes[:-1], labels.astype(np.uint8)

    return of_files


def _plane(folder: Path, path: tuple[str, ...], size: tuple[int, ...]) -> UInt8Array:
    """One picture uint8 (y, x), as an export wrote it; ValueError where it is of another kind or size."""
    import numpy as np

    data = read_inside(folder, *path, max_bytes=_MOST_BYTES)
    if path[-1].endswith(".png"):
        from PIL import Image

        with Image.open(io.BytesIO(data)) as picture:
            if picture.mode != "L" or picture.size != size[::-1]:
                raise ValueError("another kind of picture")
            return np.asarray(picture)
    import nibabel

    volume: Any = np.asarray(nibabel.Nifti1Image.from_bytes(gzip.decompress(data)).dataobj)
    if volume.dtype != np.uint8 or volume.shape != (*size[::-1], 1):
        raise ValueError("another kind of volume")
    plane: UInt8Array = volume[:, :, 0].T
    return plane


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(sorted(names)[:_SHOWN]) + more


# ------------------------------------------------------------------------------------------------------- documents


def flaws_of_documents(folder: Path, told: Mapping[str, Any]) -> list[str]:
    """Documents that say otherwise than ``audit.json``, and what of it does not follow from its scores and policy.

    All are written again, by this version of synthkit, which has to be the one that made the release.
    """
    import jinja2

    try:
        written = documents(folder, told)
    except jinja2.TemplateError as error:
        raise ValueError(str(error)) from error
    flaws = [
        f"{name} says otherwise than {layout.AUDIT}."
        for name, text in written.items()
        if name != layout.ASSESSMENT and _text(folder, name) != text
    ]
    if told["data_protection"] != data_protection(told["scores"], told["verdict"], whose_labels(told["lineage"])):
        flaws.append(f"What {layout.AUDIT} says on data protection does not follow from its scores.")
    if told["departures"]["policy"] != policy_of({"policy": told["policy"]}).departures():
        flaws.append(f"The departures from the default policy in {layout.AUDIT} are not those of its policy.")
    return flaws


def _text(folder: Path, name: str) -> str:
    try:
        return read_inside(folder, name, max_bytes=_MOST_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""


def answers(folder: Path, told: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """What the assessment in a folder lacks of what synthkit wrote into it, and the questions without an answer.

    Words count, and not how lines are broken. A question is not answered while its line is there, or nothing is.
    """
    asked = _sections(documents(folder, told)[layout.ASSESSMENT])
    given = _sections(_text(folder, layout.ASSESSMENT), asked)
    gone, unanswered = [], []
    for heading, lines in asked.items():
        if heading not in given:
            gone.append(heading)
            continue
        body = " ".join(" ".join(given[heading]).split())
        known = [" ".join(line.split()) for line in lines if not line.startswith(LEFT)]
        gone += [f"{heading or 'the beginning'}: {line}" for line in known if line not in body]
        for line in known:
            body = body.replace(line, "", 1)
        unanswered += [line for line in lines if line.startswith(LEFT) and (LEFT in body or not body.strip())]
    return gone, unanswered


def _sections(text: str, known: Mapping[str, Any] | None = None) -> dict[str, list[str]]:
    """Heading -> its lines that are not empty; with ``known`` headings, others are lines like any."""
    found: dict[str, list[str]] = {"": []}
    heading = ""
    for line in filter(None, map(str.strip, text.splitlines())):
        if _HEADING.match(line) and (known is None or line in known):
            heading = line
            found.setdefault(heading, [])
        else:
            found[heading].append(line)
    return found
