"""One page about two generators for someone who has never heard of any of this: do their images teach, do they copy?

Everything on it is read from runs: samples of the datasets, Dice of two segmenters, two memorization audits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthkit.data.dataset import Dataset
from synthkit.errors import DataError
from synthkit.report import pictures
from synthkit.report.audit.section import section
from synthkit.report.gather import Material, gather, phantoms_among
from synthkit.report.pages import check_replaceable, render, write_page

#: Slices of each kind, pairs of each audit, and people of whom copies are listed.
N_SAMPLES, N_PAIRS, N_PEOPLE = 6, 4, 5


@dataclass(frozen=True)
class Exhibit:
    """One generator of the story.

    Attributes
    ----------
    name : what the page calls it.
    what : what it was trained on, a sentence.
    synthetic : the dataset that it made.
    audit : the run of its audit.
    """

    name: str
    what: str
    synthetic: Path
    audit: Path


def write_story(
    out: Path,
    *,
    real: Path,
    generators: Sequence[Exhibit],
    dice: Sequence[Mapping[str, Any]],
    cautions: Sequence[str],
    details: str,
) -> None:
    """Write the page; an earlier one at ``out`` is replaced.

    Parameters
    ----------
    real : the real dataset that the first of the ``generators`` was trained on.
    dice : rows by region, the mean last, of a segmenter trained on ``real`` and one trained on the first generator's
        samples (:func:`synthkit.cli.demo.compared_dice`).
    cautions : sentences to beware of beside these.
    details : address of the report that holds everything, relative to ``out``.

    Raises
    ------
    DataError : an audit did not come to an end.
    UsageError : ``out`` is there and is not a page of ours.
    NotWritableError : ``out`` cannot be written.
    """
    check_replaceable(out)
    data = Dataset(real)
    materials = [gather([generator.audit]) for generator in generators]
    told = [_told(*item) for item in zip(generators, materials, strict=True)]
    phantoms = {phantoms_among(material) for material in materials}
    page = {
        "title": "Synthetic images: do they teach, and do they copy?",
        "phantom": phantoms.pop() if len(phantoms) == 1 else "some",
        "contents": [
            {"id": "images", "title": "The images"},
            {"id": "teach", "title": "Do they teach?"},
            {"id": "copy", "title": "Do they copy?"},
            {"id": "next", "title": "What this does not prove"},
        ],
        "real": {"samples": _samples(data), "n_subjects": len(data.training_part().subjects)},
        "legend": [{"name": each.name, "colour": each.colour, "meaning": each.meaning} for each in data.scheme.labels],
        "generators": told,
        "dice": list(dice),
        "mean": dice[-1],
        "cautions": list(cautions),
        "details": details,
    }
    write_page(out, render("story.html.j2", page))


def _samples(dataset: Dataset) -> list[dict[str, Any]]:
    """Slices for the grid, chosen by their position alone among those with a label; never held-out ones."""
    rows = [row for row, sample in enumerate(dataset.samples) if sample.split != "holdout"]
    chosen, _, _ = pictures.representative(dataset, rows, N_SAMPLES)
    return [pictures.sample_row(dataset, row) for row in chosen]


def _told(generator: Exhibit, material: Material) -> dict[str, Any]:
    """What the page says of a generator; its audit as the audit's own page has it."""
    records = material.of_verb("audit-memorization")
    if len(records) != 1:
        raise DataError(f"{generator.audit} is not one finished memorization audit.")
    audit = section(records[0], anchor=generator.name.lower().replace(" ", "-"))
    synthetic = Dataset(generator.synthetic)
    copies = audit["whole"].get("n_copies", {})
    cards = audit["gallery"]["views"][0]["cards"] if audit["gallery"] else []
    people = [row for side in audit["subjects"] if side["side"] == "train" for row in side["rows"]]
    return {
        "name": generator.name,
        "what": generator.what,
        "n": len(synthetic),
        "samples": _samples(synthetic),
        "audit": audit,
        "n_copies": int(copies.get("value") or 0),
        "n_images": int(copies.get("n") or 0),
        "n_people": audit["whole"].get("n_train", {}).get("n"),
        "n_held_out": audit["whole"].get("n_holdout", {}).get("n"),
        "pairs": [{**card, "tiles": card["tiles"][:3]} for card in cards if card["tiles"]][:N_PAIRS],
        "people": people[:N_PEOPLE],
    }
