"""One self-contained HTML file from runs: what was done, how it looks, what it scores, where it is from.

Nothing is loaded from elsewhere: pictures are data URIs, plots are inline SVG, there is no script. Parts:
``gather`` finds the material; ``pictures``, ``segmentation``, ``audit`` and ``sources`` make the sections;
``templates/`` holds the pages. ``audit.page`` writes the page of one audit alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from synthkit.report import pictures, segmentation, sources, utility
from synthkit.report.audit import section as audit_section
from synthkit.report.audit.page import write_audit_page
from synthkit.report.distributions import distributions
from synthkit.report.gather import DAMAGE, DatasetRecord, Material, gather, phantoms_among, sentence, training_of
from synthkit.report.pages import check_replaceable, render, write_page
from synthkit.report.wording import count, interval, words
from synthkit.schemes import MEAN

__all__ = ["write_audit_page", "write_report"]

#: Samples of each dataset in the grid.
N_SAMPLES = 6


def write_report(paths: Sequence[Path], out: Path, *, title: str = "synthkit report") -> dict[str, Any]:
    """Write the report of all runs and datasets at or below ``paths``; an earlier report at ``out`` is replaced.

    Returns
    -------
    JSON-ready summary: ``n_runs``, ``n_failed``, ``n_datasets``, ``sections``, ``verdicts``, ``phantom``,
    ``contains_real_images``, ``notes``, ``bytes``.

    Raises
    ------
    DataError : a path does not exist, or there is neither a run nor a dataset.
    UsageError : ``out`` is there and is not a report.
    NotWritableError : ``out`` cannot be written.
    """
    paths, out = [Path(path) for path in paths], Path(out)
    check_replaceable(out)
    material = gather(paths)
    page = _page(material, title)
    html = render("report.html.j2", page)
    write_page(out, html)
    return {
        "n_runs": len(material.runs),
        "n_failed": sum(record.status != "succeeded" for record in material.runs),
        "n_datasets": len(material.datasets),
        "sections": [item["id"] for item in page["contents"]],
        "verdicts": {audit["record"].name: audit["outcome"] for audit in page["audits"]},
        "phantom": page["phantom"] == "all",
        "contains_real_images": page["contains_real_images"],
        "notes": page["notes"],
        "bytes": len(html),
    }


# ------------------------------------------------------------------------------------------------- the page


def _page(material: Material, title: str) -> dict[str, Any]:
    phantom = phantoms_among(material)
    notes = list(material.notes)
    grids = _grids(material, notes, phantom == "all")
    worth = utility.sections(material, notes)
    scored = _segmentation(material, notes)
    audits = audit_section.sections(material, notes)
    for audit in audits:
        notes += [f"{audit['record'].name}: {note}" for note in audit["notes"]]
    real_pictures = any(grid["kind"] == "real" for grid in grids) or any(
        audit["gallery"] and audit["gallery"]["n_pictured"] for audit in audits
    )
    others = [r for r in material.of_verb("evaluate") if not segmentation.is_overlap(r)]
    drawn = {record.name: found for record in others if (found := distributions(record, notes))}
    contents = [("utility", "What the images are worth", worth), ("runs", "What was run", material.runs)]
    contents += [("samples", "Samples", grids)]
    contents += [("segmentation", "Segmentation", scored), ("scores", "Other scores", others)]
    contents += [("audit", "Memorization audit", audits), ("notes", "What could not be shown", notes)]
    contents += [("provenance", "Provenance", True)]
    return {
        "title": title,
        "contents": [{"id": name, "title": text} for name, text, there in contents if there],
        "summary": [
            *utility.summary(worth),
            *_summary(material, scored, audits, "phantom" if phantom == "all" else "real"),
        ],
        "figures": [*utility.figures(worth), *_figures(scored, audits)],
        "utilities": worth,
        "phantom": phantom,
        "contains_real_images": real_pictures and phantom != "all",
        "runs": material.runs,
        "isolation_summary": sources.isolation_summary,
        "grids": grids,
        "legend": _legend(material),
        "segmentation": scored,
        "others": others,
        "distributions": drawn,
        "floors": _floors,
        "networks": sorted({s["of"]["features"] for record in others for s in record.scores if "features" in s["of"]}),
        "audits": audits,
        "notes": notes,
        "provenance": sources.section(material),
    }


def _floors(scores: Sequence[Mapping[str, Any]]) -> list[dict[str, Any] | None]:
    """Of each score the floor that it is held against; None where there is none, and for a floor itself.

    A score that has a matched one beside it depends on the number of images, and is not compared with the floor.
    """
    by_name = {(s["name"], tuple((s.get("of") or {}).items())): s for s in scores}
    found: list[dict[str, Any] | None] = []
    for score in scores:
        name, of = str(score["name"]), tuple((score.get("of") or {}).items())
        beside = (
            () if (f"{name}_matched", of) in by_name else (f"{name.removesuffix('_matched')}_floor", f"floor_{name}")
        )
        floor = next((by_name[each, of] for each in beside if (each, of) in by_name), None)
        has_value = floor is not None and floor.get("value") is not None
        found.append({key: floor.get(key) for key in ("value", "low", "high")} if floor and has_value else None)
    return found


def _segmentation(material: Material, notes: list[str]) -> dict[str, Any] | None:
    try:
        return segmentation.section(material, notes)
    except DAMAGE as error:
        notes.append(f"The segmentation scores cannot be shown: {sentence(error)}")
        return None


def _grids(material: Material, notes: list[str], phantom: bool) -> list[dict[str, Any]]:
    """Samples of each dataset; a real one by its training split, and not twice if only its role differs."""
    grids = []
    for record in material.datasets:
        dataset = record.dataset
        rows = [i for i, sample in enumerate(dataset.samples) if sample.split != "holdout"]
        rows = rows or list(range(len(dataset)))
        if not rows:
            notes.append(f"The dataset {record.name} is empty.")
            continue
        try:
            chosen, examined, with_tumour = pictures.representative(dataset, rows, N_SAMPLES)
            samples = [pictures.sample_row(dataset, row) for row in chosen]
        except DAMAGE as error:
            notes.append(f"Samples of {record.name} cannot be shown: {sentence(error)}")
            continue
        grids.append(
            {
                "name": record.name,
                "kind": dataset.kind,
                "title": "phantom" if dataset.kind == "real" and phantom else dataset.kind,
                "origin": _origin(record),
                "n": len(dataset),
                "samples": samples,
                "examined": examined,
                "with_tumour": with_tumour,
                "size": dataset.size,
            }
        )
    return grids


def _origin(record: DatasetRecord) -> str:
    dataset = record.dataset
    if dataset.kind == "real":
        return f"{count(record.n_subjects, 'subject')}"
    if dataset.lineage:
        return f"made by {dataset.lineage.get('generator', 'a generator')}"
    return "of unknown origin"


def _legend(material: Material) -> list[dict[str, str]]:
    """The labels of all datasets with their colours, each once."""
    found: dict[str, dict[str, str]] = {}
    for record in material.datasets:
        for label in record.dataset.scheme.labels:
            found[label.name] = {"name": label.name, "colour": label.colour, "meaning": label.meaning}
    return list(found.values())


# ---------------------------------------------------------------------------------------- the summary in words


def _summary(material: Material, scored: dict[str, Any] | None, audits: list[dict[str, Any]], kind: str) -> list[str]:
    """Sentences: what was run on what, the key Dice, the verdicts, what failed. ``kind``: "real" or "phantom"."""
    sentences = []
    parts = []
    # Two datasets may hold the same slices, split differently.
    real = {s.digest: s.subject for record in material.of_kind("real") for s in record.dataset.samples}
    if real:
        n_subjects = len({name for name in real.values() if name is not None})
        parts.append(f"{count(len(real), f'{kind} slice')} of {count(n_subjects, 'subject')}")
    origins: dict[str, int] = {}
    for record in material.of_kind("synthetic"):
        origins[_origin(record)] = origins.get(_origin(record), 0) + len(record.dataset)
    parts += [f"{count(n, 'synthetic slice')} {origin}" for origin, n in origins.items()]
    runs = count(len(material.runs), "run")
    sentences.append(f"{runs}, on {words(parts)}." if parts else f"{runs}.")
    sentences += _training_sentences(material)
    if scored:
        sentences += _scored_sentences(scored)
    if audits:
        verdicts = [_verdict_words(audit, f"{audit['record'].name}, " if len(audits) > 1 else "") for audit in audits]
        which = "audits end with the verdicts" if len(audits) > 1 else "audit ends with the verdict"
        sentences.append(f"The memorization {which} {words(verdicts)}.")
    failed = [record.name for record in material.runs if record.status != "succeeded"]
    if failed:
        sentences.append(f"{len(failed)} of {runs} did not succeed: {words(failed)}.")
    return sentences


def _verdict_words(audit: dict[str, Any], name: str) -> str:
    n = audit["whole"].get("n_synthetic", {}).get("value")
    searched = name + (count(int(n), "synthetic image") if n is not None else "")
    return f"{audit['outcome']} ({searched.removesuffix(', ')})" if searched else str(audit["outcome"])


def _training_sentences(material: Material) -> list[str]:
    """On what kinds of data each method was trained."""
    trained: dict[str, list[str]] = {}
    for record in material.of_verb("train"):
        training = training_of(record)
        kinds = " and ".join(sorted(training.kinds)) + " data" if training else "data that are not recorded"
        for name in record.plugins:
            trained.setdefault(name, []).append(f"on {kinds}")
    return [f"{name} was trained {words(list(dict.fromkeys(kinds)))}." for name, kinds in trained.items()]


def _scored_sentences(scored: dict[str, Any]) -> list[str]:
    sentences = []
    first = next(iter(scored["tables"]), None)
    mean = next((g for g in first["groups"] if g["region"] == MEAN), None) if first else None
    title = first["title"] if first else ""
    for row in mean["rows"] if mean else ():
        if row["value"] is None:
            continue
        several = f" and {row['arm'].n_trainings} trainings" if row["arm"].n_trainings > 1 else ""
        against = f", a ratio of {_with_interval(row['ratio'])} to training on real data" if row["ratio"] else ""
        false = f"; it also found {segmentation.false_of(row)} regions that the reference lacks" if row["false"] else ""
        sentences.append(
            f"Trained on {row['arm'].label}, the segmenter reaches a mean {title} of {_with_interval(row)} "
            f"over {count(row['n'] or 0, 'subject')}{several}{against}{false}."
        )
    return [*sentences, *scored["partings"]]


def _with_interval(number: dict[str, Any]) -> str:
    between = interval(number)
    return f"{number['value']:.3f} ({between})" if between else f"{number['value']:.3f}"


def _figures(scored: dict[str, Any] | None, audits: list[dict[str, Any]]) -> list[dict[str, str]]:
    """The few numbers that a reader looks for first."""
    figures = []
    first = next(iter(scored["tables"]), None) if scored else None
    mean = next((g for g in first["groups"] if g["region"] == MEAN), None) if first else None
    title = first["title"] if first else ""
    for row in mean["rows"][:4] if mean else ():
        detail = [count(row["n"], "subject")] if row["n"] is not None else []
        detail += [interval(row)] if row["low"] is not None and row["high"] is not None else []
        detail += [f"ratio to real {row['ratio']['value']:.3f}"] if row["ratio"] else []
        detail += [f"false {segmentation.false_of(row)}"] if row["false"] else []
        value = "–" if row["value"] is None else f"{row['value']:.3f}"
        figures.append(
            {"what": f"Mean {title}, trained on {row['arm'].label}", "value": value, "detail": ", ".join(detail)}
        )
    for audit in audits[:4]:
        name = audit["record"].name
        copies: dict[str, Any] = audit["whole"].get("n_copies", {})
        detail_text = (
            f"{int(copies['value']):,} of {int(copies['n']):,} images are copies"
            if copies.get("value") is not None and copies.get("n") is not None
            else ""
        )
        what = f"Memorization audit, {name}" if len(audits) > 1 else "Memorization audit"
        figures.append({"what": what, "value": audit["outcome"], "detail": detail_text, "outcome": audit["outcome"]})
    return figures
