"""The documents of a release, each written from ``audit.json`` alone: who has that can write them again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synthkit.data.lineage import whose_labels
from synthkit.release.assessment import assessment
from synthkit.release.croissant import croissant
from synthkit.release.given_labels import origin_of_labels
from synthkit.release.layout import ASSESSMENT, CARD, CITATION, CROISSANT, DATASHEET
from synthkit.release.reading import Reading, StoredLabel
from synthkit.report.audit.protection import data_protection

#: Upper bounds of the sizes that Hugging Face's cards know.
_SIZES = ((1e3, "n<1K"), (1e4, "1K<n<10K"), (1e5, "10K<n<100K"), (1e6, "100K<n<1M"))


def documents(folder: Path, told: Mapping[str, Any]) -> dict[str, str]:
    """Name -> text of every document of the release in ``folder``, by what its ``audit.json`` has ``told``."""
    stored = told["reading"]
    reading = Reading(stored["stored_as"], tuple(StoredLabel(**label) for label in stored["labels"]), stored["lines"])
    about = told["about"]
    creators, year = about["creators"], told["released"][:4]
    cite = f"{'; '.join(creators)}: {told['title']}, {year}." if creators else ""
    catalogue = croissant(folder, told, reading, creators=creators, licence=about["licence"], cite=cite)
    return {
        DATASHEET: _datasheet(told),
        CARD: _card(told, reading),
        ASSESSMENT: assessment_page(told),
        CROISSANT: json.dumps(catalogue, indent=1, allow_nan=False) + "\n",
        **({CITATION: _citation(told)} if creators else {}),
    }


def _datasheet(told: Mapping[str, Any]) -> str:
    """After Gebru et al.; the audit by numbers, its policy and every departure from the defaults first."""
    return _rendered("datasheet.md.j2", told, origin_of_labels=origin_of_labels(told))


def _card(told: Mapping[str, Any], reading: Reading) -> str:
    """README.md: what this is, how to read it, how to check it; its head is YAML, as Hugging Face reads it."""
    licence = told["about"]["licence"]
    head = {
        "pretty_name": told["title"],
        **({"license": licence.lower()} if licence else {}),
        "task_categories": ["image-segmentation"],
        "tags": ["synthetic", "medical", "MRI", "brain"],
        "size_categories": [next((name for bound, name in _SIZES if told["n_samples"] < bound), "n>1M")],
    }
    # JSON is YAML.
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in head.items()]
    return _rendered("README.md.j2", {**told, "reading": reading}, head=lines)


def assessment_page(told: Mapping[str, Any]) -> str:
    """The findings for who must decide, and what is left to answer."""
    parts = assessment(told, data_protection(told["scores"], told["verdict"], whose_labels(told["lineage"])))
    return _rendered("assessment.md.j2", told, parts=parts)


def _rendered(template: str, told: Mapping[str, Any], **values: Any) -> str:
    import jinja2

    loader = jinja2.PackageLoader("synthkit.release")
    environment = jinja2.Environment(
        loader=loader,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render({**told, **values})


def _citation(told: Mapping[str, Any]) -> str:
    """CITATION.cff, version 1.2.0 of the format. A JSON string is a YAML string."""
    about = told["about"]
    lines = [
        "cff-version: 1.2.0",
        'message: "If you use these data, please cite them, and the methods that datasheet.md names."',
        "type: dataset",
        f"title: {json.dumps(told['title'])}",
        "authors:",
    ]
    for creator in about["creators"]:
        family, comma, given = (part.strip() for part in creator.partition(","))
        lines.append(f"  - family-names: {json.dumps(family)}" if comma else f"  - name: {json.dumps(creator)}")
        lines += [f"    given-names: {json.dumps(given)}"] if comma else []
    if about["contact"]:
        lines += ["contact:", f"  - name: {json.dumps(about['contact'])}"]
    if about["licence"]:
        lines.append(f"license: {about['licence']}")
    return "\n".join([*lines, f'date-released: "{told["released"]}"']) + "\n"
