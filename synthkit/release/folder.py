"""The folder that may be shared: images, datasheet, audit, citation and checksums; whole, or not there at all.

::

    images/         the samples in the format asked for (a dataset of synthkit: dataset/)
    samples.csv     id, seed, digest and labels of each sample
    datasheet.md    what the data are, what was measured, what they may be used for
    audit.html      the audit without any real image
    audit.json      its scores, verdict, policy, versions and digests
    CITATION.cff    how to cite it, where creators were named
    SHA256SUMS      for `sha256sum -c`

Nothing in it names a training subject: what the public may not see is left out where it is written, and the names that
the audit knows are searched for in the end.
"""

from __future__ import annotations

import csv
import datetime
import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthkit.contract import Citation
from synthkit.data.dataset import Dataset
from synthkit.data.exporting import FORMATS as EXPORTED
from synthkit.data.exporting import export_dataset, whole_folder
from synthkit.data.lineage import alias_keys, training_keys
from synthkit.data.patients import patient_of
from synthkit.errors import DataError, UsageError
from synthkit.judging.audit_tables import MATCHES
from synthkit.release.gate import AuditRun, OnProgress, Removal
from synthkit.release.samples import labels_present, public_lineage, write_part
from synthkit.report.audit.protection import data_protection
from synthkit.running.run import write_json

#: Those of `synthkit export`, and a dataset.
FORMATS = (*EXPORTED, "dataset")
CHECKSUMS = "SHA256SUMS"

#: Shorter names occur by chance, in checksums and in pictures that are written as text.
_SHORTEST_NAME = 6
_TEXT = frozenset((".md", ".json", ".html", ".csv", ".cff"))


@dataclass(frozen=True, kw_only=True)
class Description:
    """What only the publisher knows. ``licence`` is an SPDX identifier; what is not given is "".

    Raises :class:`UsageError` for a line break or for a licence that cannot be an identifier.
    """

    title: str = ""
    creators: tuple[str, ...] = ()
    licence: str = ""
    contact: str = ""

    def __post_init__(self) -> None:
        for text in (self.title, *self.creators, self.licence, self.contact):
            if not text.isprintable():
                raise UsageError(f"{text!r} has a line break or a control character.", fix="Write it in one line.")
        if self.licence and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]*", self.licence):
            raise UsageError(
                f"{self.licence!r} is not an SPDX identifier of a licence.",
                "Datasets are found, and citation files are valid, by that identifier.",
                "Give one of https://spdx.org/licenses, CC-BY-4.0 for instance.",
            )


@dataclass(frozen=True)
class Release:
    """All that goes into the folder. ``first`` is the audit that images were removed by, None if none were."""

    dataset: Dataset
    removal: Removal
    audit: AuditRun
    first: AuditRun | None
    description: Description
    citations: Sequence[Citation] = ()


def write_release(
    out: Path, release: Release, *, format: str, on_progress: OnProgress = lambda done, total: None
) -> list[str]:
    """Write the folder ``out``, which must be absent or empty; returns the names of the files beside the images.

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
        _write_samples(folder / "samples.csv", public, present)
        if format != "dataset":
            export_dataset(public.path, folder / "images", format=format, on_progress=on_progress)
            public.close()
            shutil.rmtree(public.path)
        facts = _facts(release, public, present, format)
        write_json(folder / "audit.json", _audit(release, facts))
        _write_page(release.audit, folder / "audit.html")
        (folder / "datasheet.md").write_text(_datasheet(release, facts), encoding="utf-8")
        if release.description.creators:
            (folder / "CITATION.cff").write_text(_citation(facts["title"], release), encoding="utf-8")
        _refuse_names(folder, _names(release))
        _write_checksums(folder)
        return sorted(path.name for path in folder.iterdir() if path.is_file())


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


def _facts(release: Release, public: Dataset, present: Sequence[tuple[str, ...]], format: str) -> dict[str, Any]:
    """What datasheet and audit.json say of the data."""
    from synthkit import __version__

    removal, lineage = release.removal, release.dataset.lineage
    generator = str(lineage.get("generator", "")) if lineage else ""
    return {
        "title": release.description.title
        or f"Synthetic MR images made by {generator or 'a generator of unknown origin'}",
        "released": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "synthkit": __version__,
        "format": format,
        "n_samples": len(public),
        "digest": public.digest,
        "contrasts": list(public.contrasts),
        "size": list(public.size),
        "labels": {name: sum(name in labels for labels in present) for name, value in public.labels.items() if value},
        "lineage": public_lineage(lineage),
        "removal": {
            "n_before": removal.n_before,
            "n_copies": len(removal.copies),
            "n_near": len(removal.near),
            "max_quantile": removal.max_quantile,
            "max_removed_rate": release.audit.policy.max_removed_rate,
        },
    }


def _audit(release: Release, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The audit as the public may see it: no subject, no folder, no name of a machine."""
    audit = release.audit
    result = audit.result
    return {
        **{key: facts[key] for key in ("title", "released", "synthkit", "n_samples", "digest", "lineage", "removal")},
        "audited_digest": audit.job.inputs["synthetic"].digest,
        "conditional_on_removal": release.first is not None,
        "before_removal": None if release.first is None else release.first.verdict,
        "verdict": audit.verdict,
        "seal": result["seal"]["digest"],
        "policy": audit.job.options.get("policy", {}),
        "metric": list(audit.job.plugins),
        "params": audit.job.params,
        "lineage_known": audit.job.options.get("lineage") != "unknown",
        "inputs": {
            role: {"digest": item.digest, "splits": list(item.splits)} for role, item in audit.job.inputs.items()
        },
        "scores": public_scores(audit.scores),
        "data_protection": data_protection(audit.scores, audit.verdict),
        **{key: result[key] for key in ("versions", "code") if key in result},
    }


def public_scores(scores: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Without the scores of single subjects."""
    return [dict(score) for score in scores if "subject" not in (score.get("of") or {})]


def _write_page(audit: AuditRun, path: Path) -> None:
    from synthkit.report.report import write_audit_page

    write_audit_page(audit.run.path, path, pictures=False)


def _datasheet(release: Release, facts: Mapping[str, Any]) -> str:
    import jinja2

    loader = jinja2.PackageLoader("synthkit.release")
    environment = jinja2.Environment(
        loader=loader,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    audit = release.audit
    return environment.get_template("datasheet.md.j2").render(
        **facts,
        about=release.description,
        citations=release.citations,
        first=release.first,
        verdict=audit.verdict,
        seal=audit.result["seal"]["digest"],
        lineage_known=audit.job.options.get("lineage") != "unknown",
        scores=[score for score in audit.scores if not score.get("of")],
        sections=data_protection(audit.scores, audit.verdict),
    )


def _citation(title: str, release: Release) -> str:
    """CITATION.cff, version 1.2.0 of the format. A JSON string is a YAML string."""
    about = release.description
    lines = [
        "cff-version: 1.2.0",
        'message: "If you use these data, please cite them, and the methods that datasheet.md names."',
        "type: dataset",
        f"title: {json.dumps(title)}",
        "authors:",
    ]
    for creator in about.creators:
        family, comma, given = (part.strip() for part in creator.partition(","))
        lines.append(f"  - family-names: {json.dumps(family)}" if comma else f"  - name: {json.dumps(creator)}")
        lines += [f"    given-names: {json.dumps(given)}"] if comma else []
    if about.contact:
        lines += ["contact:", f"  - name: {json.dumps(about.contact)}"]
    if about.licence:
        lines.append(f"license: {about.licence}")
    return "\n".join([*lines, f'date-released: "{datetime.datetime.now(datetime.UTC).date()}"']) + "\n"


def _write_checksums(folder: Path) -> None:
    lines = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        lines.append(f"{digest}  {path.relative_to(folder).as_posix()}\n")
    (folder / CHECKSUMS).write_text("".join(lines), encoding="utf-8")


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
