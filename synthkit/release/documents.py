"""The documents of a release, written from its facts: datasheet, card, assessment and citation."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from typing import Any

from synthkit.release.assessment import assessment
from synthkit.release.content import Release
from synthkit.release.reading import Reading
from synthkit.report.audit.protection import data_protection

#: Upper bounds of the sizes that Hugging Face's cards know.
_SIZES = ((1e3, "n<1K"), (1e4, "1K<n<10K"), (1e5, "10K<n<100K"), (1e6, "100K<n<1M"))


def datasheet(release: Release, facts: Mapping[str, Any]) -> str:
    """After Gebru et al.; the audit by numbers, its policy and every departure from the defaults first."""
    audit = release.audit
    return _rendered(
        "datasheet.md.j2",
        **facts,
        about=release.description,
        citations=release.citations,
        first=release.first,
        verdict=audit.verdict,
        seal=audit.result["seal"]["digest"],
        lineage_known=audit.job.options.get("lineage") != "unknown",
        scores=[score for score in audit.scores if not score.get("of")],
    )


def card(release: Release, facts: Mapping[str, Any], reading: Reading) -> str:
    """README.md: what this is, how to read it, how to check it; its head is YAML, as Hugging Face reads it."""
    head = {
        "pretty_name": facts["title"],
        **({"license": release.description.licence.lower()} if release.description.licence else {}),
        "task_categories": ["image-segmentation"],
        "tags": ["synthetic", "medical", "MRI", "brain"],
        "size_categories": [next((name for bound, name in _SIZES if facts["n_samples"] < bound), "n>1M")],
    }
    # JSON is YAML.
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in head.items()]
    return _rendered("README.md.j2", **facts, head=lines, about=release.description, reading=reading)


def assessment_page(release: Release, facts: Mapping[str, Any]) -> str:
    """The findings for who must decide, and what is left to answer."""
    audit = release.audit
    protection = data_protection(audit.scores, audit.verdict)
    parts = assessment(facts, audit.scores, protection)
    return _rendered("assessment.md.j2", **facts, parts=parts, weaker=audit.verdict["weaker"])


def _rendered(template: str, **values: Any) -> str:
    import jinja2

    loader = jinja2.PackageLoader("synthkit.release")
    environment = jinja2.Environment(
        loader=loader,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(**values)


def citation(title: str, release: Release) -> str:
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
