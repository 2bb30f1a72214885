"""What a release is made of: samples, audits, and what only its publisher knows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from synthkit.contract import Citation
from synthkit.data.dataset import Dataset
from synthkit.errors import UsageError
from synthkit.release.gate import AuditRun, Removal


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
