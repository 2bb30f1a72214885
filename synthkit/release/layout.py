"""The names of a release's files, and how its list of checksums is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from synthkit.data.png_folders import LABELS, folder_of

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


def pictures(format: str, contrasts: Sequence[str], name: str) -> list[tuple[str, ...]]:
    """Parts of the paths of one sample's images, in the order of contrasts, and of its label map; none in a dataset."""
    if format == "png":
        folders = [*map(folder_of, contrasts), LABELS]
        return [("images", folder, f"{name}_{folder}.png") for folder in folders]
    if format == "nifti":
        return [("images", name, f"{name}_{what}.nii.gz") for what in (*contrasts, "seg")]
    if format == "nnunet":
        channels = [("images", "imagesTr", f"{name}_{i:04d}.nii.gz") for i in range(len(contrasts))]
        return [*channels, ("images", "labelsTr", f"{name}.nii.gz")]
    return []
