"""``release``: synthetic images with an audit, as a folder that may be shared, signed and checked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from synthkit.cli.options import OUTPUT_OPTIONS, PLACE_OPTIONS, Given, Out, shares

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner

    from synthkit.cli.console import Console
    from synthkit.release.gate import Removal

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="A release.")]

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

Creators = Annotated[
    list[str] | None,
    typer.Option("--creator", metavar="NAME", help='"Family, Given" or a group; repeatable.', show_default=False),
]
SignKey = Annotated[
    Path | None, typer.Option("--sign", metavar="KEY", help="Sign it at once with this key.", show_default=False)
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
    creator: Creators = None,
    licence: Annotated[
        str, typer.Option("--licence", metavar="SPDX", help="Such as CC-BY-4.0.", show_default=False)
    ] = "",
    contact: Annotated[
        str, typer.Option("--contact", metavar="TEXT", help="Whom to ask or to tell.", show_default=False)
    ] = "",
    sign: SignKey = None,
) -> None:
    """Make a folder of audited images that may be shared.

    Leaves out the copies that the audit found, audits the rest again, and writes images, datasheet and audit without
    anything that names a training subject. Exits with 10 if the images may not be released, and with 12 if the audit
    has too little evidence.

    `synthkit release sign FOLDER --key KEY` signs a release, `synthkit release verify FOLDER --key PUB` checks one
    (a DATASET of these names is ./sign, ./verify).
    """
    from synthkit.release import make
    from synthkit.release.content import Description

    console = given.console
    signer = _signer(sign) if sign else None  # before hours of work
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
    made = make.make(candidate, about, format=format, options=given.options, listener=console, signer=signer)
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
    signed = _tell_signed(console, out, signer, made.unanswered) if signer else {}
    todo = f"answer what {out}/assessment.md asks, then: synthkit release sign {out} --key KEY"
    console.ending(f"synthkit release verify {out} --key PUB" if sign else todo, made.citations)
    console.document({**document, "verdict": verdict, "audit": str(path), "files": made.files, **signed})


def _removed(removal: Removal) -> str:
    if not removal.n_removed:
        return f"Left out: none of {removal.n_before:,} images."
    near = f" and {len(removal.near):,} near ones" if removal.near else ""
    return f"Left out: {removal.n_removed:,} of {removal.n_before:,} images ({len(removal.copies):,} copies{near})."


@shares(*OUTPUT_OPTIONS)
def sign(
    given: Given,
    folder: Folder,
    key: Annotated[Path, typer.Option("--key", metavar="KEY", help="The steward's private key, PEM.")],
) -> None:
    """Sign a release as it lies there, with the steward's key.

    Its assessment.md may have been edited since it was made, and nothing else. Keys are Ed25519, made with
    `openssl genpkey -algorithm ed25519 -out steward.key` and
    `openssl pkey -in steward.key -pubout -out steward.pub`. Nothing is sent anywhere.
    """
    from synthkit.release.statement import sign_release

    console = given.console
    signer = _signer(key)
    with console.progress("sign") as view:
        left = sign_release(folder, signer, lambda done, total: view.step(done, total, "file"))
    console.document({"folder": str(folder), **_tell_signed(console, folder, signer, left)})
    console.ending(f"synthkit release verify {folder} --key PUB")


@shares(*OUTPUT_OPTIONS)
def verify(
    given: Given,
    folder: Folder,
    key: Annotated[Path, typer.Option("--key", metavar="PUB", help="The steward's public key, PEM.")],
) -> None:
    """Check that a release is what its steward signed.

    Needs nothing but the folder and the key. Names each file that is changed, missing or too much, and exits with 10 if
    there is one, if it was signed with another key, or not at all.
    """
    from synthkit.release.signing import load_public
    from synthkit.release.statement import check_release

    console = given.console
    public = load_public(key)
    with console.progress("verify") as view:
        checked = check_release(folder, public, lambda done, total: view.step(done, total, "file"))
    told = checked.predicate
    console.document({"folder": str(folder), "key": checked.key, "n_files": checked.n_files, "predicate": told})
    for line in told["verdict"].get("weaker", ()):
        console.print(str(line), style="bold red")
    console.print(f"All {checked.n_files:,} files are as they were signed with the key {checked.key}.")
    outcome = told["verdict"]["outcome"]
    console.print(f"{told.get('title')}: {told.get('n_samples')} samples, released {told.get('released')}.")
    console.print(f"Verdict of their audit: {outcome}.")


def _tell_signed(console: Console, folder: Path, signer: CryptoSigner, left: list[str]) -> dict[str, Any]:
    """Say that a release was signed, and how many questions without an answer; the same for JSON."""
    from synthkit.release.signing import key_name

    name = key_name(signer.public_key)
    if left:
        console.warning(f"{len(left)} questions of assessment.md are not answered.")
    console.print(f"Signed {folder} with the key {name}.")
    return {"key": name, "unanswered": left}


def _signer(path: Path) -> CryptoSigner:
    """The steward's key; its passphrase is asked for where there is a terminal."""
    import sys
    from getpass import getpass

    from synthkit.release.signing import load_private

    return load_private(path, getpass if sys.stdin.isatty() else None)


COMMANDS = {"release": release}
#: Command -> further commands below its name.
BELOW = {"release": {"sign": sign, "verify": verify}}
