"""A release from beginning to end: what may go out is decided, what remains is audited again, and written."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from synthkit.data.dataset import Dataset
from synthkit.errors import UsageError
from synthkit.release import gate
from synthkit.release.content import Description, Release
from synthkit.release.folder import FORMATS, check_vacant, write_release
from synthkit.release.gate import AuditRun, Removal
from synthkit.release.samples import write_part
from synthkit.running.launch import RunOptions, carry_out
from synthkit.running.request import Request, citations_of

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner

    from synthkit.contract import Citation
    from synthkit.running.listening import Listener


@dataclass(frozen=True)
class Candidate:
    """Samples that may be released as far as their audit tells, without those of ``removal``.

    Attributes
    ----------
    out : folder of the release.
    work : folder of the second audit and its samples, which name training subjects; made if any sample is left out.
    """

    samples: Dataset
    audit: AuditRun
    removal: Removal
    out: Path
    work: Path

    @property
    def audited_again(self) -> bool:
        """Whether something is left out, so that the rest has to be audited again."""
        return bool(self.removal.n_removed)


@dataclass(frozen=True)
class Released:
    """What was written: its files, the audit that holds for it, what to cite.

    ``unanswered`` are the questions of the assessment that a release was signed without an answer to.
    """

    files: list[str]
    unanswered: list[str]
    audit: AuditRun
    citations: tuple[Citation, ...]


def consider(
    dataset: Path, audit: Path, out: Path, *, format: str, max_quantile: float | None, listener: Listener
) -> Candidate:
    """What of a dataset may be released by its audit. Writes nothing.

    Raises :class:`UsageError` for a format or a folder that cannot be, and what :mod:`synthkit.release.gate` raises.
    """
    if format not in FORMATS:
        raise UsageError(f"There is no format {format!r}.", fix=f"Choose one of {', '.join(FORMATS)}.")
    check_vacant(out)
    work = out.with_name(f"{out.name}-audit")
    samples, first = Dataset(dataset), gate.read_audit(audit)
    with listener.progress("check") as view:
        gate.check_samples(samples, first, lambda done, total: view.step(done, total, "sample"))
    removal = gate.choose_removal(samples, first, max_quantile)
    if removal.n_removed:
        check_vacant(work)
    return Candidate(samples, first, removal, out, work)


def make(
    candidate: Candidate,
    about: Description,
    *,
    format: str,
    options: RunOptions,
    listener: Listener,
    signer: CryptoSigner | None = None,
) -> Released:
    """Audit again what is left, where anything is left out, and write the release; signed, with a ``signer``.

    The second audit runs on the backend of the first one, unless ``options`` name another.

    Raises :class:`synthkit.errors.GateFailedError`, or :class:`synthkit.errors.InsufficientEvidenceError`, unless the
    second audit passes.
    """
    samples, first, removal = candidate.samples, candidate.audit, candidate.removal
    options = replace(options, backend=options.backend or first.result.get("backend"))
    final = _audit_again(candidate, options, listener) if candidate.audited_again else first
    citations = citations_of([str(samples.lineage.get("generator", "")), *final.job.plugins])
    made = Release(samples, removal, final, first if removal.n_removed else None, about, citations)
    with listener.progress("release") as view:
        files, unanswered = write_release(
            candidate.out,
            made,
            format=format,
            signer=signer,
            on_progress=lambda done, total: view.step(done, total, "sample"),
        )
    return Released(files, unanswered, final, tuple(made.citations))


def _audit_again(candidate: Candidate, options: RunOptions, listener: Listener) -> AuditRun:
    """The audit of what remains, in the folder ``work``; refused unless it passes."""
    with listener.progress("remaining") as view:
        remaining = write_part(
            candidate.samples,
            candidate.removal.kept,
            candidate.work / "remaining",
            public=False,
            on_progress=lambda done, total: view.step(done, total, "sample"),
        )
    job = gate.audit_again(candidate.audit, remaining)
    request = Request.of(job, f"audit {len(remaining):,} again")
    again = gate.read_audit(carry_out(request, candidate.work / "run", options, listener).run.path)
    gate.check_passed(again)
    return again
