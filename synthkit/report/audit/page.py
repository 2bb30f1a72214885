"""The page of one memorization audit, for whoever has to decide on a release.

With pictures it shows patients and must stay where their data are. Without, it may travel with the synthetic images:
it holds numbers alone, and writing it fails if the id of a subject or of a real image, or a path, is found in it.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from synthkit.data.dataset import Dataset
from synthkit.errors import DataError
from synthkit.report import sources
from synthkit.report.audit.section import section
from synthkit.report.audit.tables import named_in
from synthkit.report.gather import DAMAGE, Material, RunRecord, gather, phantoms_among, sentence
from synthkit.report.pages import check_replaceable, render, write_page


def write_audit_page(run: Path, out: Path, *, pictures: bool = True) -> dict[str, Any]:
    """Write one self-contained HTML file about the audit run ``run``; an earlier page at ``out`` is replaced.

    Parameters
    ----------
    pictures : False leaves out every image, every id of a subject or sample, commands and paths.

    Returns
    -------
    JSON-ready summary: ``outcome``, ``n_pairs`` (with pictures), ``contains_real_images``, ``notes``, ``bytes``.

    Raises
    ------
    DataError : ``run`` is not an audit that came to an end, or (without pictures) a text in it names a subject or a
        path.
    UsageError : ``out`` is there and is not a page of ours.
    NotWritableError : ``out`` cannot be written.
    """
    run, out = Path(run), Path(out)
    check_replaceable(out)
    material = gather([run])
    record = _audit_run(material, run)
    try:
        audit = section(record, anchor="audit", pictures=pictures)
    except DAMAGE as error:
        raise DataError(
            f"The audit {run} cannot be shown.", sentence(error), "Run the audit again: its result is damaged."
        ) from error
    phantom = phantoms_among(material)
    n_pictured = audit["gallery"]["n_pictured"] if audit["gallery"] else 0
    page = {
        "title": "Memorization audit",
        "audit": audit,
        "phantom": phantom,
        "contains_real_images": bool(n_pictured) and phantom != "all",
        "contents": _contents(audit),
        "facts": sources.audit_facts(record, material, public=not pictures),
        "citations": sources.citations(material),
    }
    rendered = render("audit_page.html.j2", page)
    if not pictures:
        _check_anonymous(rendered.decode(), record)
    write_page(out, rendered)
    return {
        "outcome": audit["outcome"],
        "n_pairs": n_pictured,
        "contains_real_images": page["contains_real_images"],
        "notes": audit["notes"],
        "bytes": len(rendered),
    }


def _audit_run(material: Material, run: Path) -> RunRecord:
    records = material.of_verb("audit-memorization")
    if len(records) != 1 or len(material.runs) != 1:
        raise DataError(
            f"{run} is not one finished memorization audit.",
            f"Found: {', '.join(f'{r.verb} ({r.status})' for r in material.runs) or 'no run'}.",
            "Give the folder of a run of `synthkit audit-memorization`.",
        )
    return records[0]


def _contents(audit: dict[str, Any]) -> list[dict[str, str]]:
    """Sections of the page, in the order of the template."""
    titles = [
        ("searched", "What was searched", True),
        ("numbers", "Numbers", audit["groups"]),
        ("power", "What it would have found", audit["power"]),
        ("histograms", "Best match of every image", audit["histograms"]),
        ("views", "By view", audit["tables"]),
        ("subjects", "Who is copied", audit["subjects"]),
        ("pairs", "Most similar pairs", audit["gallery"] or audit["worst"]),
        ("protection", "Data protection", audit["protection"]),
        ("open", "What this does not prove", audit["not_proven"]),
        ("policy", "Policy", audit["policy"]),
        ("provenance", "Provenance", True),
    ]
    return [{"id": f"{audit['anchor']}-{name}", "title": title} for name, title, there in titles if there]


# ------------------------------------------------------------------------------------------------- nobody is named


def _check_anonymous(page: str, record: RunRecord) -> None:
    """Refuse a page for release that names a real subject or sample, or a place on this machine.

    The template shows none; but the reasons and notes are texts of the audit's method, which may be anybody's.
    """
    text = html.unescape(re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL))
    named = sorted(
        name for name in _real_names(record) if name in text and re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text)
    )
    places = [place for place in _places(record) if place in text]
    if named or places:
        raise DataError(
            f"The page of {record.name} for release would name what it must not.",
            f"{len(named)} ids of real subjects or images and {len(places)} paths are in its texts.",
            "Correct the method that wrote them into its scores or notes.",
            [*named, *places][:20],
        )


def _real_names(record: RunRecord) -> set[str]:
    """Ids of real subjects and samples, of the tables and of the datasets as far as they can be read.

    Bare numbers are left out: on a page of numbers they cannot be told from counts.
    """
    names = set(named_in(record.run.outputs))
    for role, item in (record.job.inputs if record.job else {}).items():
        if item.kind != "dataset" or role == "synthetic":
            continue
        try:
            samples = Dataset(record.run.input(role)).samples
        except DAMAGE:
            continue
        names |= {name for sample in samples for name in (sample.id, sample.subject) if name}
    return {name for name in names if len(name) > 1 and not name.isdecimal()}


def _places(record: RunRecord) -> Iterator[str]:
    yield str(record.run.path.resolve())
    for role in record.job.inputs if record.job else ():
        yield str(record.run.input(role).resolve())
    if Path.home() != Path("/"):
        yield str(Path.home())
