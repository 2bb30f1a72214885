"""What has to hold before images are released: a finished audit of exactly these samples, and few enough to remove.

These checks are against mistakes and edits (another dataset, a policy, a verdict, a table or a lineage changed by hand,
an audit that was interrupted), not against somebody who forges a run and its seal (:mod:`synthkit.running.seal`):
``synthkit verify RUN`` makes the audit again.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthkit.data.dataset import Dataset
from synthkit.data.format import content_digest, sample_digest
from synthkit.data.lineage import lent_label_maps, original_digests
from synthkit.data.shards import map_threads
from synthkit.errors import DataError, GateFailedError, SynthkitError, UsageError
from synthkit.files import open_table
from synthkit.judging.audit_scores import AuditScores
from synthkit.judging.audit_tables import MATCHES
from synthkit.judging.policy import Policy, policy_of
from synthkit.judging.verdict import ENDS, verdict
from synthkit.running.run import Input, Job, Run, file_digest
from synthkit.running.seal import changes, datasets_at_hand

OnProgress = Callable[[int, int], None]

_BATCH = 64


@dataclass(frozen=True)
class AuditRun:
    """A finished audit, its files as the run wrote them."""

    run: Run
    job: Job
    result: dict[str, Any]

    @property
    def policy(self) -> Policy:
        return policy_of(self.job.options)

    @property
    def scores(self) -> list[dict[str, Any]]:
        return list(self.result["scores"])

    @property
    def verdict(self) -> dict[str, Any]:
        return dict(self.result["verdict"])

    @property
    def passed(self) -> bool:
        return bool(self.verdict["outcome"] == "pass")

    def rows(self, table: str) -> Iterator[dict[str, str]]:
        """The lines of ``outputs/<table>.csv``."""
        with open_table(self.run.outputs / f"{table}.csv") as file:
            yield from csv.DictReader(file)


@dataclass(frozen=True)
class Removal:
    """Which samples go: ``copies`` by the audit, and ``near``, no copies but beyond the quantile asked for.

    ``kept`` are the rows of the others; ``max_quantile`` is None where none was asked for.
    """

    copies: tuple[str, ...]
    near: tuple[str, ...]
    kept: tuple[int, ...]
    max_quantile: float | None

    @property
    def n_removed(self) -> int:
        return len(self.copies) + len(self.near)

    @property
    def n_before(self) -> int:
        return self.n_removed + len(self.kept)


def read_audit(path: Path) -> AuditRun:
    """The audit at ``path``.

    Raises
    ------
    UsageError : a run of another command.
    DataError : no run, not finished, or its tables, scores and verdict do not belong together (any more).
    """
    run = Run(path)
    job, result = run.job(), run.result()
    if job.verb != "audit-memorization":
        raise UsageError(
            f"{path} is a run of {job.verb}.",
            "Only an audit says what may be released.",
            "Give the folder that `synthkit audit-memorization ... -o` named.",
        )
    if result is None or result.get("status") != "succeeded" or "verdict" not in result:
        raise DataError(
            f"The audit {path} has not finished.",
            "It has no result." if result is None else "It did not succeed.",
            "Run it again with --resume.",
        )
    audit = AuditRun(run, job, result)
    _check_tables(audit)
    _check_seal(audit, datasets_at_hand(job, path))
    judged = verdict(audit.scores, audit.policy, lent=job.options.get("lent_label_maps"))
    if judged.outcome != audit.verdict.get("outcome"):
        raise DataError(
            f"The verdict of {path} does not follow from its scores.",
            f"It says {audit.verdict.get('outcome')}; by its policy the scores give: {judged.outcome}.",
            "The run was edited, or made by another version of synthkit: make the audit again.",
            judged.reasons,
        )
    return audit


def _check_seal(audit: AuditRun, datasets: Mapping[str, Path]) -> None:
    """:class:`DataError` where something that the audit was made of is another now; datasets that are gone are not."""
    if changed := changes(audit.job, datasets, audit.result):
        raise DataError(
            f"{audit.run.path} is not the audit that was made.",
            f"Changed since: {'; '.join(changed)}.",
            "Restore it, or make the audit again.",
        )


def _check_tables(audit: AuditRun) -> None:
    outputs: Mapping[str, Mapping[str, Any]] = audit.result.get("outputs") or {}
    if MATCHES.name not in outputs:
        raise DataError(
            f"The audit {audit.run.path} has no table of {MATCHES.name}.",
            "It does not tell which images to leave out.",
            "Make the audit again; its method has to yield what an audit must (docs/plugins.md).",
        )
    for name, described in outputs.items():
        path = audit.run.outputs / f"{name}.csv"
        found = file_digest(path) if path.is_file() else "nothing"
        if found != described.get("digest"):
            raise DataError(
                f"The audit's table {path} is not the one that the audit wrote.",
                f"Its digest is {found[:23]}, the result says {str(described.get('digest'))[:23]}.",
                "Restore it, or make the audit again.",
            )
    lacking = set(MATCHES.columns) - set(next(audit.rows(MATCHES.name), MATCHES.columns))
    if lacking:
        raise DataError(
            f"The audit's table of {MATCHES.name} lacks {', '.join(sorted(lacking))}.",
            "A release reads from it which images to leave out, and which names to keep back.",
            f"Make the audit again; if it still does, report it to the authors of {', '.join(audit.job.plugins)}.",
        )
    counted = AuditScores(audit.scores).count("n_copies")
    listed = len(_copies(audit))
    if counted is not None and counted != listed:
        raise DataError(
            f"The audit {audit.run.path} contradicts itself.",
            f"Its scores count {counted} copies, its table of matches holds {listed}.",
            "Make the audit again.",
        )


def _copies(audit: AuditRun) -> set[str]:
    return {row["synthetic_id"] for row in audit.rows(MATCHES.name) if row["copy"] == "True"}


def check_samples(dataset: Dataset, audit: AuditRun, on_progress: OnProgress = lambda done, total: None) -> None:
    """Make sure that the audit is of this dataset, and that the dataset holds what it says: every sample is read.

    Raises
    ------
    UsageError : real images.
    DataError : another dataset than the audited one, a damaged one, or one whose description was edited since.
    GateFailedError : a training set that the lineage names was not searched.
    """
    if dataset.kind != "synthetic":
        raise UsageError(
            f"{dataset.path} holds real images.", "Only synthetic images are released.", "Give the audited samples."
        )
    audited = audit.job.inputs["synthetic"].digest
    if dataset.digest != audited:
        raise DataError(
            f"{audit.run.path} is not an audit of {dataset.path}.",
            f"It is of the samples {audited[:23]}; these are {dataset.digest[:23]}.",
            "Audit these samples, or give those that were audited.",
        )
    table = content_digest(dataset.contrasts, dataset.scheme, dataset.size, dataset.samples)
    damaged = "" if table == dataset.digest else "its table of samples"
    for start in range(0, 0 if damaged else len(dataset), _BATCH):
        rows = dataset.samples[start : start + _BATCH]
        images, labels = dataset.read(range(start, start + len(rows)))
        digests = map_threads(lambda pair: sample_digest(*pair), list(zip(images, labels, strict=True)))
        if changed := [row.id for row, found in zip(rows, digests, strict=True) if found != row.digest]:
            damaged = f"the sample {changed[0]}"
            break
        on_progress(start + len(rows), len(dataset))
    if damaged:
        raise DataError(
            f"{dataset.path} does not hold what was audited.",
            f"The digest of {damaged} is another than its description says.",
            "Restore the dataset, or make it and the audit again.",
        )
    searched = {item.digest for role, item in audit.job.inputs.items() if role.rstrip("0123456789") == "train"}
    missing = [d for d in original_digests(dataset.training_datasets) if d not in searched]
    if missing:
        raise GateFailedError(
            f"The audit {audit.run.path} did not search all that the images were made from.",
            f"The lineage names {', '.join(digest[:19] for digest in missing)} besides.",
            "Audit with every training set (--also-train).",
        )
    if lent_label_maps(dataset.lineage) != audit.job.options.get("lent_label_maps"):
        raise DataError(
            f"{audit.run.path} does not say whose label maps the samples have.",
            "They were asked for with label maps of real people, or of nobody knows whom.",
            "Make the audit again.",
        )
    _check_seal(audit, {"synthetic": dataset.path})  # of a copy elsewhere, whose description may be another


def choose_removal(dataset: Dataset, audit: AuditRun, max_quantile: float | None = None) -> Removal:
    """Which samples have to go: all copies, tolerated ones too, and those with an ``r_null_quantile >= max_quantile``.

    Raises
    ------
    UsageError : a quantile outside 0..1, or an audit whose table does not hold the quantile of every image.
    InsufficientEvidenceError : the audit has too little evidence.
    GateFailedError : copies of held-out people, another failure that no removal mends, more to remove than the policy
        allows, or nothing left.
    """
    if max_quantile is not None and not 0 < max_quantile <= 1:
        raise UsageError(
            f"--max-quantile {max_quantile:g} is not a quantile.", fix="Give a number from 0 to 1, say 0.999."
        )
    if audit.verdict["outcome"] == "insufficient evidence":
        raise _refused(audit, "The audit has too little evidence for a release.")
    if of_others := AuditScores(audit.scores).count("n_holdout_copies"):
        raise GateFailedError(
            f"{of_others:,} images are copies of held-out people.",
            "The generator has seen people whom it should not have, and no table names these images: leaving out the "
            "copies of training people does not make the rest safe.",
            "Generate other images, with a generator that was trained without the held-out people, and audit these.",
        )
    copies, near = _copies(audit), set[str]()
    if max_quantile is not None:
        quantiles = [(row["synthetic_id"], row["r_null_quantile"]) for row in audit.rows(MATCHES.name)]
        if not all(value for _, value in quantiles) or {name for name, _ in quantiles} != {
            r.id for r in dataset.samples
        }:
            raise UsageError(
                "--max-quantile cannot be applied.",
                "The audit's table of matches does not hold the quantile of every image.",
                "Audit with real people to compare with, and of all matches rather than of copies alone.",
            )
        near = {name for name, value in quantiles if float(value) >= max_quantile} - copies
    removal = Removal(
        copies=tuple(row.id for row in dataset.samples if row.id in copies),
        near=tuple(row.id for row in dataset.samples if row.id in near),
        kept=tuple(i for i, row in enumerate(dataset.samples) if row.id not in copies | near),
        max_quantile=max_quantile,
    )
    _check_removal(removal, audit)
    return removal


def _check_removal(removal: Removal, audit: AuditRun) -> None:
    if not removal.n_removed:
        if not audit.passed:
            raise _refused(audit, "The audit failed, and there is no copy to leave out.")
        return
    # Blank images would make any share small.
    blank = min(AuditScores(audit.scores).count("n_blank") or 0, removal.n_before - removal.n_removed)
    searched = removal.n_before - blank
    share, allowed = removal.n_removed / searched, audit.policy.max_removed_rate
    if share > allowed or not removal.kept:
        raise GateFailedError(
            f"{removal.n_removed:,} of {searched:,} images{' that are not blank' if blank else ''} would have to be "
            f"left out ({share:.1%}).",
            f"The policy allows {allowed:.0%} (max_removed_rate): a generator that memorizes this much often hides "
            "more just beyond the cut, and leaving out what was found does not make the rest safe.",
            "Train the generator anew (more subjects, fewer steps) and audit its images"
            + (", or ask for a higher --max-quantile." if removal.near else "."),
        )


def _refused(audit: AuditRun, what: str) -> SynthkitError:
    reasons = audit.verdict.get("reasons") or [""]
    return ENDS.get(audit.verdict["outcome"], GateFailedError)(
        what, str(reasons[0]), f"See `synthkit report {audit.run.path}`.", reasons[1:]
    )


def check_passed(audit: AuditRun) -> None:
    """For the audit of what remains: an error with the verdict's reasons unless it passed."""
    if not audit.passed:
        raise _refused(audit, f"Without the copies, the audit's verdict is {audit.verdict['outcome']}.")


def audit_again(audit: AuditRun, remaining: Dataset) -> Job:
    """The same audit of other samples: its parameters, policy and real images, from where they were.

    Raises :class:`DataError` where an input of the first audit is gone; one that has changed is found by the run.
    """
    inputs = {}
    for role, item in audit.job.inputs.items():
        if role == "synthetic":
            inputs[role] = Input("dataset", source=remaining.path, splits=item.splits, digest=remaining.digest)
            continue
        source = audit.run.input(role)
        if not source.exists():
            raise DataError(
                f"The input {role} of {audit.run.path} is gone.",
                "What remains has to be audited against it again.",
                "Put it back.",
            )
        inputs[role] = Input(item.kind, source=source.resolve(), splits=item.splits, digest=item.digest)
    job = audit.job
    return Job(verb=job.verb, plugins=job.plugins, params=dict(job.params), inputs=inputs, options=dict(job.options))
