"""``release``: synthetic images with an audit, as a folder that may be shared."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from synthkit.cli import options as common

if TYPE_CHECKING:
    from synthkit.cli.console import Console
    from synthkit.contract import Citation
    from synthkit.data.dataset import Dataset
    from synthkit.release.gate import AuditRun, Removal


def release(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Synthetic samples, or a `generate` run.")],
    out: common.Out,
    audit: Annotated[Path, typer.Option("--audit", metavar="RUN", help="The audit of exactly these samples.")],
    format: Annotated[str, typer.Option("--format", metavar="FORMAT", help="png, nifti, nnunet or dataset.")] = "png",
    max_quantile: Annotated[
        float | None,
        typer.Option(
            "--max-quantile",
            metavar="Q",
            help="Leave out images, too, with a match at or above this quantile of unrelated real ones.",
            show_default=False,
        ),
    ] = None,
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
    backend: common.BackendName = None,
    gpus: common.Gpus = None,
    cpus: common.Cpus = None,
    memory: common.Memory = None,
    timeout: common.Timeout = None,
    dry_run: common.DryRun = False,
    json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """Make a folder of audited images that may be shared.

    Leaves out what the audit flagged, audits the rest again, and writes images, datasheet and audit without anything
    that names a training subject. Exits with 10 if the images may not be released.
    """
    from synthkit.data.dataset import Dataset
    from synthkit.errors import UsageError
    from synthkit.release import gate
    from synthkit.release.folder import CHECKSUMS, FORMATS, Description, Release, check_vacant, write_release

    console = common.console_for(json, quiet)
    if format not in FORMATS:
        raise UsageError(f"There is no format {format!r}.", fix=f"Choose one of {', '.join(FORMATS)}.")
    about = Description(title=title, creators=tuple(creator or ()), licence=licence, contact=contact)
    check_vacant(out)
    work = out.with_name(f"{out.name}-audit")
    samples, first = Dataset(dataset), gate.read_audit(audit)
    with console.progress("check") as view:
        gate.check_samples(samples, first, lambda done, total: view.step(done, total, "sample"))
    removal = gate.choose_removal(samples, first, max_quantile)
    if removal.n_removed:
        check_vacant(work)
    document: dict[str, Any] = {
        "out": str(out),
        "n_samples": len(removal.kept),
        "n_flagged": len(removal.flagged),
        "n_near": len(removal.near),
        "audited_again": bool(removal.n_removed),
    }
    if dry_run:
        console.document({**document, "dry_run": True})
        console.print(_removed(removal) + (" The rest would be audited again." if removal.n_removed else ""))
        return
    final = first
    if removal.n_removed:
        options = common.RunOptions(backend or first.result.get("backend"), gpus, cpus, memory, timeout)
        final = _audit_again(samples, first, removal, work, options, console)
    made = Release(samples, removal, final, first if removal.n_removed else None, about, _citations(samples, final))
    with console.progress("release") as view:
        files = write_release(
            out, made, format=format, on_progress=lambda done, total: view.step(done, total, "sample")
        )
    console.print(_removed(removal))
    if removal.n_removed:
        console.print(f"The second audit and its samples are in {work}; it names training subjects: do not share it.")
    console.print(f"Verdict: {final.verdict['outcome']}", style="bold green")
    console.print(f"Released {len(removal.kept):,} samples as {format}: {out}")
    console.ending(f"cd {out} && sha256sum -c {CHECKSUMS}", made.citations)
    console.document({**document, "verdict": final.verdict, "audit": str(final.run.path), "files": files})


def _audit_again(
    samples: Dataset, first: AuditRun, removal: Removal, work: Path, options: common.RunOptions, console: Console
) -> AuditRun:
    """The audit of what remains, in the folder ``work``; refused unless it passes."""
    from synthkit.registry.registry import discover
    from synthkit.release import gate
    from synthkit.release.samples import write_part

    with console.progress("remaining") as view:
        remaining = write_part(
            samples,
            removal.kept,
            work / "remaining",
            public=False,
            on_progress=lambda done, total: view.step(done, total, "sample"),
        )
    job = gate.audit_again(first, remaining)
    declarations = [discover().get(name, "metric") for name in job.plugins]
    run, _ = common.run_job(work / "run", job, declarations, options, console, f"audit {len(remaining):,} again")
    again = gate.read_audit(run.path)
    gate.check_passed(again)
    return again


def _removed(removal: Removal) -> str:
    if not removal.n_removed:
        return f"Left out: none of {removal.n_before:,} images."
    near = f" and {len(removal.near):,} near it" if removal.near else ""
    return f"Left out: {removal.n_removed:,} of {removal.n_before:,} images ({len(removal.flagged):,} flagged{near})."


def _citations(samples: Dataset, audit: AuditRun) -> list[Citation]:
    """What to cite: the generator, where it is installed here, and the audit's method."""
    from synthkit.registry.registry import discover

    known = discover().declarations
    names = [str(samples.lineage.get("generator", "")), *audit.job.plugins]
    return common.citations_of(known[name] for name in names if name in known)


COMMANDS = {"release": release}
