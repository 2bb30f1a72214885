"""``release``: synthetic images with an audit, as a folder that may be shared."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from synthkit.cli.options import OUTPUT_OPTIONS, PLACE_OPTIONS, Given, Out, shares

if TYPE_CHECKING:
    from synthkit.release.gate import Removal

MaxQuantile = Annotated[
    float | None,
    typer.Option(
        "--max-quantile",
        metavar="Q",
        help="Also leave out images whose best match is at or above this quantile of the matches of unrelated real "
        "images.",
        show_default=False,
    ),
]


@shares(*PLACE_OPTIONS, "dry_run", *OUTPUT_OPTIONS)
def release(
    given: Given,
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Synthetic samples, or a `generate` run.")],
    out: Out,
    audit: Annotated[Path, typer.Option("--audit", metavar="RUN", help="The audit of exactly these samples.")],
    format: Annotated[str, typer.Option("--format", metavar="FORMAT", help="png, nifti, nnunet or dataset.")] = "png",
    max_quantile: MaxQuantile = None,
    title: Annotated[str, typer.Option("--title", metavar="TEXT", help="Name of the data.", show_default=False)] = "",
    creator: Annotated[
        list[str] | None,
        typer.Option("--creator", metavar="NAME", help='"Family, Given" or a group; repeatable.', show_default=False),
    ] = None,
    licence: Annotated[
        str, typer.Option("--licence", metavar="SPDX", help="Such as CC-BY-4.0.", show_default=False)
    ] = "",
    contact: Annotated[
        str, typer.Option("--contact", metavar="TEXT", help="Whom to ask or to tell.", show_default=False)
    ] = "",
) -> None:
    """Make a folder of audited images that may be shared.

    Leaves out the copies that the audit found, audits the rest again, and writes images, datasheet and audit without
    anything that names a training subject. Exits with 10 if the images may not be released, and with 12 if the audit
    has too little evidence.
    """
    from synthkit.release import make
    from synthkit.release.folder import CHECKSUMS, Description

    console = given.console
    about = Description(title=title, creators=tuple(creator or ()), licence=licence, contact=contact)
    candidate = make.consider(dataset, audit, out, format=format, max_quantile=max_quantile, listener=console)
    removal = candidate.removal
    document: dict[str, Any] = {
        "out": str(out),
        "n_samples": len(removal.kept),
        "n_copies": len(removal.copies),
        "n_near": len(removal.near),
        "audited_again": candidate.audited_again,
    }
    if given.dry_run:
        console.document({**document, "dry_run": True})
        console.print(_removed(removal) + (" The rest would be audited again." if candidate.audited_again else ""))
        return
    made = make.make(candidate, about, format=format, options=given.options, listener=console)
    verdict, path = made.audit.verdict, made.audit.run.path
    console.print(_removed(removal))
    if candidate.audited_again:
        console.print(
            f"The second audit and its samples are in {candidate.work}; it names training subjects: do not share it."
        )
    for line in verdict["weaker"]:
        console.print(line, style="bold red")
    console.print(f"Verdict: {verdict['outcome']}", style="bold green")
    console.print(f"Released {len(removal.kept):,} samples as {format}: {out}")
    console.ending(f"cd {out} && sha256sum -c {CHECKSUMS}", made.citations)
    console.document({**document, "verdict": verdict, "audit": str(path), "files": made.files})


def _removed(removal: Removal) -> str:
    if not removal.n_removed:
        return f"Left out: none of {removal.n_before:,} images."
    near = f" and {len(removal.near):,} near ones" if removal.near else ""
    return f"Left out: {removal.n_removed:,} of {removal.n_before:,} images ({len(removal.copies):,} copies{near})."


COMMANDS = {"release": release}
