"""What documents say of where images and label maps are from: trainings, and those who lent label maps.

A generator can be asked for given label maps. Its samples then have them byte for byte, and whoever lent them is in the
release, whatever an audit of the images says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from synthkit.data.lineage import whose_labels


def origin_of_labels(facts: Mapping[str, Any]) -> str:
    """Where the label maps are from: drawn with the images, or given to the generator, be it those of patients."""
    whose = whose_labels(facts["lineage"])
    if not whose:
        return (
            "The labels were generated together with the images: nobody has drawn or checked them."
            if facts["lineage"]
            else "Where the labels are from is not recorded."
        )
    of = {
        "patients": "of real people, whose tumours, in their form and place, are what these samples show",
        "phantoms": "of phantoms",
        "synthetic": "of synthetic samples",
    }.get(whose, "of which nobody knows whose they are")
    maps = facts["label_maps"]
    n_given = facts["lineage"]["asked"]["labels"]["n_maps"]
    counted = (
        f"{maps['n_used']:,} of {n_given:,} maps, {maps['n_not_empty']:,} of them not empty"
        if maps
        else f"some of {n_given:,} maps, which of them is not recorded"
    )
    return f"The labels were given to the generator, and stand here byte for byte: {counted}. They are {of}."


def trained_on(facts: Mapping[str, Any]) -> tuple[str, ...]:
    """A sentence for each training dataset, and one for whoever lent label maps."""
    lineage = facts["lineage"] or {}
    entries = lineage.get("trained_on") or []
    images = [entry for entry in entries if entry.get("used") != "labels"]
    lines = [f"Trained on {_counted(entry)}." for entry in images] or ["What was trained on is not recorded."]
    lines += [f"Lent label maps alone: those of {_counted(entry)}." for entry in entries if entry not in images]
    given = (lineage.get("asked") or {}).get("labels") or {}
    if whose_labels(lineage) == "masks":
        lines.append(f"Lent label maps: a folder of {given['n_maps']:,} masks; whose they are is not recorded.")
    elif any(entry["digest"] == given.get("digest") for entry in images):
        lines.append("The label maps that were given are of what was trained on.")
    if any(not entry.get("phantom") for entry in entries):
        lines.append("Who they are is not part of the release.")
    return tuple(lines)


def question_of_masks(facts: Mapping[str, Any]) -> str:
    """What there is to ask besides, where label maps of people, or of nobody knows whom, were given."""
    return {
        "masks": " Whose are the masks that were given, and with what right are they used?",
        "patients": " With what right are label maps of patients given out?",
    }.get(whose_labels(facts["lineage"]), "")


def made_again(facts: Mapping[str, Any]) -> str:
    """Whether samples can be made again by their seeds."""
    if not facts["lineage"]:
        return "How the samples were made is not recorded: they cannot be made again."
    if whose_labels(facts["lineage"]):
        return "A seed and the label map that was given make a sample: without those maps it cannot be made again."
    return "One seed makes one sample: samples can be made again with the generator."


def _counted(entry: Mapping[str, Any]) -> str:
    phantom = entry.get("phantom")
    kind, whom = ("phantom", "phantoms") if phantom else (entry.get("kind", ""), "patients")
    return f"{entry.get('n_samples', 0):,} {kind} images of {entry['n_subjects']:,} {whom}"
