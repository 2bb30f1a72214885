"""The power of an audit: which planted copies it found, and which it would miss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from synthkit.report.wording import words

#: Recall from which copies count as found, and below which as missed.
FOUND, MISSED = 0.9, 0.5


def power(scores: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Recall of each kind of planted copy, strengths as the run gives them (mild to hard); None without a power test.

    Returns
    -------
    ``kinds``: ``{"kind", "cells"}``, a cell ``{"strength", "recall", "low", "high", "n", "class"}``; ``sentences``.
    """
    kinds: dict[str, list[dict[str, Any]]] = {}
    for score in scores:
        of = score.get("of") or {}
        if score["name"] != "power" or "planted" not in of or score.get("value") is None:
            continue
        recall = float(score["value"])
        cell = {
            "strength": str(of.get("strength", "")),
            "recall": recall,
            "low": score.get("low"),
            "high": score.get("high"),
            "n": score.get("n"),
            "note": score.get("note") or "",
            "class": "found" if recall >= FOUND else "missed" if recall < MISSED else "partly",
        }
        kinds.setdefault(str(of["planted"]).replace("_", " "), []).append(cell)
    if not kinds:
        return None
    return {"kinds": [{"kind": kind, "cells": cells} for kind, cells in kinds.items()], "sentences": _sentences(kinds)}


def _sentences(kinds: Mapping[str, list[dict[str, Any]]]) -> list[str]:
    """What would have been found and what not, in words."""
    found, partly, missed = (_named(kinds, kind) for kind in ("found", "partly", "missed"))
    sentences = []
    if found:
        sentences.append(f"Of copies planted among the images it found at least {FOUND:.0%}: {found}.")
    if partly:
        sentences.append(f"It found some: {partly}.")
    if missed:
        sentences.append(
            f"It missed more than half: {missed}. Copies that were changed so much can be among the images unseen."
        )
    else:
        sentences.append("Copies that were changed in other ways, or more strongly, were not tried.")
    return sentences


def _named(kinds: Mapping[str, list[dict[str, Any]]], wanted: str) -> str:
    parts = []
    for kind, cells in kinds.items():
        strengths = [cell["strength"] for cell in cells if cell["class"] == wanted]
        if strengths:
            parts.append(f"{kind} ({', '.join(filter(None, strengths))})" if any(strengths) else kind)
    return words(parts)
