"""The numbers of a study, from the steps of its plan that are done; what is missing is counted, never guessed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from synthkit.contract import Citation, Declaration
from synthkit.errors import SynthkitError
from synthkit.judging.arms import ArmComparison, compared_arms, mean_of_arm
from synthkit.judging.overlap_tables import (
    OVERLAP_TABLE,
    Cases,
    OverlapTable,
    cases_of,
    mean_of,
    read_overlap,
    regions_of,
)
from synthkit.registry.registry import discover
from synthkit.running.checkpoints import succeeded
from synthkit.running.run import Job, Run, count_gpus, find_runs
from synthkit.study import layout
from synthkit.study.config import Study
from synthkit.study.fidelity import FidelityNumber, fidelity_of
from synthkit.study.plan import make_plan
from synthkit.study.progress import State, StepState, states_of
from synthkit.study.trainings import unequal, unfinished

#: Scores of the audit that the report shows, with what they are called.
AUDIT_SCORES = ("copied_rate", "n_copies", "n_copied_subjects", "n_holdout_copies")


@dataclass(frozen=True)
class Cell:
    """One region of one arm of one segmenter, over its trainings.

    Attributes
    ----------
    dice, dice_sd : mean over trainings of the mean that ``evaluate`` gives, which is what the ratio is of; standard
        deviation between trainings (n - 1), None for a single one.
    comparisons : with the real arm of the same segmenter and augmentation, a score each; none for that arm itself and
        where one of both is missing.
    cases : missed and false regions.
    n_done, n_planned : trainings that are scored, and that the study asks for.
    """

    segmenter: str
    augmentation: str
    arm: str
    region: str
    dice: float
    dice_sd: float | None
    hd95_mm: float | None
    surface_dice: float | None
    cases: Cases
    n_done: int
    n_planned: int
    comparisons: tuple[ArmComparison, ...] = ()


@dataclass(frozen=True)
class AuditNumbers:
    """What an audit found; rates as ``(value, low, high)``."""

    outcome: str
    reasons: tuple[str, ...]
    scores: dict[str, tuple[float | None, float | None, float | None]]


@dataclass(frozen=True)
class GeneratorNumbers:
    """What is known of one generator; ``sizes`` are the audits with fewer training patients, by their number.

    ``samples``: run folder, relative to the study. ``fidelity`` is by name of the score.
    """

    name: str
    plugin: str
    samples: Path | None
    fidelity: dict[str, FidelityNumber]
    audit: AuditNumbers | None
    sizes: dict[int, AuditNumbers]
    training_seconds: float | None
    seconds_a_sample: float | None


@dataclass(frozen=True)
class Cost:
    """Hours of one kind of run; ``gpu_hours`` counts those whose run had a GPU, times how many."""

    what: str
    n_runs: int
    hours: float
    gpu_hours: float


@dataclass
class StudyResults:
    """All numbers.

    ``missing`` counts cells of the table without a training; ``left`` names steps that are not done, by their state;
    ``problems`` say what could not be read. ``datasets``: digest by path. ``unequal``: settings besides data and seed
    in which arms of one segmenter and augmentation differ; ``unfinished``: trainings that had not ended learning, in
    sentences. ``protocol``: ``name`` and ``policy``, in sentences, of how
    predictions were scored; empty for whole volumes. ``mean_of``: the regions behind the mean.
    """

    n_training_patients: int | None = None
    n_holdout_patients: int | None = None
    n_real_samples: int | None = None
    datasets: dict[str, str] = field(default_factory=dict)
    unequal: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)
    generators: list[GeneratorNumbers] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)
    left: dict[State, list[str]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    protocol: dict[str, Any] = field(default_factory=dict)
    mean_of: list[str] = field(default_factory=list)
    missing: int = 0
    n_runs: int = 0
    versions: dict[str, list[str]] = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=dict)
    citations: list[Citation] = field(default_factory=list)


def gather(folder: Path, study: Study) -> StudyResults:
    """Read what every step of ``study`` that is done has left in ``folder``."""
    results = StudyResults()
    states = states_of(folder, make_plan(study))
    for item in states:
        if item.state != "done":
            results.left.setdefault(item.state, []).append(item.step.name)
    done = DoneSteps.of(folder, states)
    _count_real(done, study, results)
    for generator in study.generators:
        results.generators.append(_generator(done, study, generator))
    for segmenter in study.segmenters:
        for augmentation in study.augmentation:
            _segmenter(done, study, segmenter, augmentation, results)
    _costs_and_provenance(folder, states, results)
    return results


def _count_real(done: DoneSteps, study: Study, results: StudyResults) -> None:
    from synthkit.data.dataset import Dataset

    folder, out = done.folder, Path(study.data.dataset or layout.real_dataset())
    if not study.data.dataset and out not in done.outs:
        return
    path = folder / out
    try:
        data = Dataset(path)
    except SynthkitError:
        return
    train, holdout = (set(data.select(part).patients.values()) for part in ("train", "holdout"))
    results.n_training_patients, results.n_holdout_patients = len(train), len(holdout)
    results.n_real_samples = len(data.select("train"))
    results.datasets[path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name] = data.digest


# ------------------------------------------------------------------------------------------------- runs that are done


@dataclass(frozen=True)
class DoneSteps:
    """The only steps whose runs are read; ``outs`` is what they have written, relative to ``folder``, the study's.

    A step that ran by another ``study.toml``, or before something that it reads was made anew, is not done: what it
    left is not a result of this study. Neither is a folder that the plan does not name.
    """

    folder: Path
    outs: frozenset[Path]

    @classmethod
    def of(cls, folder: Path, states: Iterable[StepState]) -> DoneSteps:
        return cls(folder, frozenset(item.step.out for item in states if item.state == "done"))

    def result(self, out: Path) -> dict[str, Any] | None:
        """The result of the run ``out``, if its step is done."""
        return succeeded(self.folder / out) if out in self.outs else None

    def scores(self, out: Path, table: str) -> Path | None:
        """The run of the step that made ``out`` which has this table: itself or, of several packages, one below it.

        A run without the table if none has it: what reads it then says so.
        """
        if out not in self.outs:
            return None
        here = self.folder / out
        runs = [run for run in (here, *sorted(here.iterdir())) if succeeded(run)]
        return next((run for run in runs if (run / "outputs" / table).is_file()), runs[0] if runs else None)


# ----------------------------------------------------------------------------------------------------------- segmenters


def _segmenter(done: DoneSteps, study: Study, name: str, augmentation: str, results: StudyResults) -> None:
    seeds = study.segmenters[name].seeds
    tables: dict[str, list[OverlapTable]] = {}
    for arm in study.arms:
        found = []
        for seed in seeds:
            out = layout.segmenter_run(name, arm, augmentation, seed, "evaluate")
            run = done.scores(out, OVERLAP_TABLE)
            if run is None:
                continue
            results.protocol = (succeeded(run) or {}).get("protocol", {})
            try:
                found.append(read_overlap(run))
            except (OSError, KeyError, ValueError) as error:
                results.problems.append(f"The scores of {out} cannot be read: {error}.")
        results.missing += not found
        if found:
            tables[arm], results.mean_of = found, results.mean_of or mean_of(found[0])
    trainings = [
        (arm, seed, done.folder / run)
        for arm in study.arms
        for seed in seeds
        if done.result(run := layout.segmenter_run(name, arm, augmentation, seed, "train")) is not None
    ]
    results.unequal += unequal(name, trainings)
    results.unfinished += unfinished(name, trainings)
    real = tables.get(layout.REAL)
    for arm, own in tables.items():
        compared: dict[str, list[ArmComparison]] = {}
        if real is not None and arm != layout.REAL:
            try:
                for item in compared_arms(real, own):
                    compared.setdefault(item.region, []).append(item)
            except SynthkitError as error:
                why = f"{error.what} {error.why}".strip()
                results.problems.append(f"{name} on {arm} ({augmentation}) has no ratio: {why}")
        for region in regions_of(own[0]):
            columns = ("dice", "hd95_pooled_mm", "surface_dice")
            dice, hd95, surface = (mean_of_arm(own, region, column) for column in columns)
            if dice is None:
                continue
            results.cells.append(
                Cell(
                    segmenter=name, augmentation=augmentation, arm=arm, region=region, dice=dice.mean, dice_sd=dice.sd,
                    hd95_mm=hd95.mean if hd95 else None, surface_dice=surface.mean if surface else None,
                    cases=cases_of(own, region), n_done=len(own), n_planned=len(seeds),
                    comparisons=tuple(compared.get(region, ())),
                )
            )  # fmt: skip


# ----------------------------------------------------------------------------------------------------------- generators


def _generator(done: DoneSteps, study: Study, name: str) -> GeneratorNumbers:
    trained = layout.generator_run(name, "train")
    drawn = layout.generator_run(name, "samples")
    samples = done.result(drawn)
    sizes = {}
    for n in study.generators[name].training_patients:
        audit = _audit(done.result(layout.generator_run(name, "audit", n)))
        if audit is not None:
            sizes[n] = audit
    audit = _audit(done.result(layout.generator_run(name, "audit")))
    return GeneratorNumbers(
        name=name,
        plugin=study.generators[name].plugin,
        samples=drawn if samples else None,
        fidelity=fidelity_of(done.folder / out) if (out := layout.generator_run(name, "fidelity")) in done.outs else {},
        audit=audit,
        sizes=sizes,
        training_seconds=Run(done.folder / trained).seconds_spent() if done.result(trained) else None,
        seconds_a_sample=Run(done.folder / drawn).seconds_spent() / study.n_samples if samples else None,
    )


def _audit(result: dict[str, Any] | None) -> AuditNumbers | None:
    if result is None or "verdict" not in result:
        return None
    scores = {
        score["name"]: (score["value"], score.get("low"), score.get("high"))
        for score in result["scores"]
        if not score["of"] and score["name"] in AUDIT_SCORES
    }
    verdict = result["verdict"]
    return AuditNumbers(verdict["outcome"], (*verdict.get("weaker", ()), *verdict["reasons"]), scores)


# ------------------------------------------------------------------------------------------------- cost and provenance

_COSTS = {
    ("train", "generator"): "training generators",
    ("generate", "generator"): "drawing samples",
    ("evaluate", "metric"): "scores",
    ("audit-memorization", "metric"): "audits",
    ("train", "segmenter"): "training segmenters",
    ("segment", "segmenter"): "segmenting",
    ("import-checkpoint", "generator"): "importing generators",
}


def _costs_and_provenance(folder: Path, states: Sequence[StepState], results: StudyResults) -> None:
    registry = discover()
    tried = [item.step for item in states if item.state not in ("changed", "waiting")]
    parts = [folder / step.out for step in tried if step.in_container and (folder / step.out).is_dir()]
    spent: dict[str, list[tuple[float, float]]] = {what: [] for what in _COSTS.values()}
    citations: dict[str, Citation] = {}
    images: dict[str, list[str]] = {}
    for run in find_runs(parts):
        job = run.job()
        declarations = [registry.declarations[name] for name in job.plugins if name in registry.declarations]
        for declaration in declarations:
            for citation in declaration.citations:
                citations.setdefault(citation.text, citation)
        where = run.path.relative_to(folder).as_posix()
        try:
            result = run.result()
        except SynthkitError as error:
            results.problems.append(f"The result of {where} is damaged: {error.why}")
            continue
        # What a run took that failed, or was killed before it could say so, was spent too.
        hours = run.seconds_spent() / 3600
        if declarations and (what := _COSTS.get((job.verb, declarations[0].kind))):
            spent[what].append((hours, hours * _n_gpus(job, result, declarations[0])))
        if result is None:
            continue
        results.n_runs += 1
        if result.get("status") != "succeeded":
            continue
        for package, version in result.get("versions", {}).items():
            known = results.versions.setdefault(package, [])
            if version not in known:
                known.append(version)
        if image := result.get("container"):
            digests = images.setdefault(job.plugins[0], [])
            if (digest := str(image.get("image_id", ""))) not in digests:
                digests.append(digest)
    results.images = {name: ", ".join(digests) for name, digests in images.items()}
    results.costs = [
        Cost(what, len(own), *(sum(column) for column in zip(*own, strict=True))) for what, own in spent.items() if own
    ]
    results.citations = list(citations.values())


def _n_gpus(job: Job, result: dict[str, Any] | None, declaration: Declaration) -> int:
    """GPUs that the run had; of one that was killed before it could say so, those that were asked for."""
    machine = (result or {}).get("machine")
    if machine is not None:
        return len(machine.get("gpus", ()))
    return 0 if declaration.gpu == "none" else count_gpus(job.resources.gpus) or 0
