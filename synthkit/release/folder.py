"""The folder that may be shared: images, datasheet, audit, citation and checksums; whole, or not there at all.

::

    images/             the samples in the format asked for (a dataset of synthkit: dataset/)
    README.md           the card: what this is, how to read it, how to check it
    samples.csv         id, seed, digest and labels of each sample
    datasheet.md        what the data are, what was measured, what they may be used for
    assessment.md       the findings for who must decide, and what is left to answer; the steward's, until it is signed
    audit.html          the audit without any real image
    audit.json          its scores, verdict, policy, versions and digests
    croissant.json      for catalogues and loaders
    CITATION.cff        how to cite it, where creators were named
    SHA256SUMS          for `sha256sum -c`
    release.intoto.json the steward's signature over all of it, where it was signed

Nothing in it names a training subject: what the public may not see is left out where it is written, and the names that
the audit knows are searched for in the end.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from synthkit.data.dataset import Dataset
from synthkit.data.exporting import FORMATS as EXPORTED
from synthkit.data.exporting import export_dataset, whole_folder
from synthkit.data.lineage import alias_keys, training_keys
from synthkit.data.patients import patient_of
from synthkit.errors import DataError, UsageError
from synthkit.judging.audit_tables import MATCHES
from synthkit.release import layout
from synthkit.release.content import Release
from synthkit.release.documents import documents
from synthkit.release.facts import published
from synthkit.release.gate import AuditRun, OnProgress
from synthkit.release.samples import labels_present, write_part
from synthkit.release.statement import digests, sign_release
from synthkit.running.run import write_json

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner

#: Those of `synthkit export`, and a dataset.
FORMATS = (*EXPORTED, "dataset")

#: Shorter names occur by chance, in checksums and in pictures that are written as text.
_SHORTEST_NAME = 6
_TEXT = frozenset((".md", ".json", ".html", ".csv", ".cff"))


def write_release(
    out: Path,
    release: Release,
    *,
    format: str,
    signer: CryptoSigner | None = None,
    on_progress: OnProgress = lambda done, total: None,
) -> tuple[list[str], list[str]]:
    """Write the folder ``out``, which must be absent or empty.

    Returns the names of the files beside the images, and the questions that it was signed without an answer to.

    Parameters
    ----------
    signer : the steward's key, where the release is signed at once.

    Raises
    ------
    UsageError : ``out`` is not empty, or there is no such format.
    DataError : something written names a training subject. Nothing is left at ``out``, as after any other error.
    """
    if format not in FORMATS:
        raise UsageError(f"There is no format {format!r}.", fix=f"Choose one of {', '.join(FORMATS)}.")
    with whole_folder(out) as folder:
        public = write_part(
            release.dataset, release.removal.kept, folder / "dataset", public=True, on_progress=on_progress
        )
        present = labels_present(public)
        _write_samples(folder / layout.SAMPLES, public, present)
        if format != "dataset":
            export_dataset(public.path, folder / "images", format=format, on_progress=on_progress)
            public.close()
            shutil.rmtree(public.path)
        _write_page(release.audit, folder / layout.PAGE)
        told = published(release, public, present, format, _other_files(folder, public, format))
        write_json(folder / layout.AUDIT, told)
        for name, text in documents(folder, told).items():
            (folder / name).write_text(text, encoding="utf-8")
        _refuse_names(folder, _names(release))
        (folder / layout.CHECKSUMS).write_text(layout.sums(digests(folder)), encoding="utf-8")
        unanswered = [] if signer is None else sign_release(folder, signer)
        return sorted(path.name for path in folder.iterdir() if path.is_file()), unanswered


def check_vacant(out: Path) -> None:
    """:class:`UsageError` unless ``out`` is absent or an empty folder; known before hours of work."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(
            f"The output folder {out} is not empty.", "Nothing is overwritten unasked.", "Choose another one."
        )


# ------------------------------------------------------------------------------------------------------- files


def _write_samples(path: Path, dataset: Dataset, present: Sequence[tuple[str, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("id", "seed", "digest", "labels"))
        for row, labels in zip(dataset.samples, present, strict=True):
            writer.writerow((row.id, row.seed, row.digest, " ".join(labels)))


def _write_page(audit: AuditRun, path: Path) -> None:
    from synthkit.report.report import write_audit_page

    write_audit_page(audit.run.path, path, pictures=False)


def _other_files(folder: Path, public: Dataset, format: str) -> dict[str, str]:
    """Name -> SHA-256 of what is no image of one sample: the page of the audit, and the tables of an export."""
    own = {"/".join(parts) for row in public.samples for parts in layout.pictures(format, public.contrasts, row.id)}
    return {name: digest for name, digest in digests(folder).items() if name not in {*own, layout.SAMPLES}}


# ------------------------------------------------------------------------------------------------------- names


def _names(release: Release) -> set[str]:
    """What must not be in the folder: subjects and their keys, and the folders that the data came from."""
    names = training_keys(release.dataset.training_datasets) | alias_keys(release.dataset.training_datasets)
    for audit in filter(None, (release.audit, release.first)):
        names |= {row["train_subject"] for row in audit.rows(MATCHES.name)}
        for role in audit.job.inputs:
            try:
                patients = Dataset(audit.run.input(role)).patients
                names |= {*patients, *patients.values()}
            except DataError:  # gone, or no dataset: a file of weights
                continue
        names.add(str(audit.run.path.resolve()))
    names |= {patient_of(name) for name in names} | {str(release.dataset.path.resolve()), str(Path.home())}
    return {name for name in names if len(name) >= _SHORTEST_NAME}


def _refuse_names(folder: Path, names: set[str]) -> None:
    """A last look through the names and the texts of the folder; images are written from pixels alone."""
    wanted = [(name, name.encode()) for name in sorted(names)]
    for path in sorted(folder.rglob("*")):
        text = path.relative_to(folder).as_posix().encode()
        if path.is_file() and path.suffix in _TEXT:
            text += b"\n" + path.read_bytes()
        if found := [name for name, data in wanted if data in text]:
            raise DataError(
                f"{path.relative_to(folder)} would name what must not be shared: {found[0]}.",
                "A training subject, its key, or a folder of this machine. Nothing was written.",
                "If it stands in the title or in another option, change that; else report it as a bug of synthkit.",
            )
