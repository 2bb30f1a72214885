"""The names of a release's files, and how its list of checksums is written."""

from __future__ import annotations

from collections.abc import Mapping

#: The public form of the audit, which is also what a steward signs for.
AUDIT = "audit.json"
PAGE = "audit.html"
DATASHEET = "datasheet.md"
CARD = "README.md"
#: Findings for who must decide, and their questions; the one file that may be edited until the release is signed.
ASSESSMENT = "assessment.md"
CROISSANT = "croissant.json"
CITATION = "CITATION.cff"
SAMPLES = "samples.csv"
#: For `sha256sum -c`.
CHECKSUMS = "SHA256SUMS"
#: The signed statement, a DSSE envelope; neither part of the statement nor of the checksums.
SIGNATURE = "release.intoto.json"


def sums(digests: Mapping[str, str]) -> str:
    """The lines of :data:`CHECKSUMS` for name -> SHA-256 (hex)."""
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
