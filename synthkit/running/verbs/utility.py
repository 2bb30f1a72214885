"""``utility``: arms of segmenters, scored on the same unseen subjects, and the ratio of each to the real arm."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from synthkit.data.dataset import Dataset
from synthkit.data.known_labels import known_labels
from synthkit.data.label_folders import LabelFolder
from synthkit.data.scheme_questions import labels_in_words
from synthkit.errors import DataError, UsageError
from synthkit.files import discard
from synthkit.judging.arms import SCORES, UTILITY, ArmComparison, compared_arms, interval_warnings, partings, sentence
from synthkit.judging.comparable import Training, check_arms, check_comparable
from synthkit.judging.intervals import RESAMPLES, SEED
from synthkit.judging.learning import still_learning
from synthkit.judging.overlap_tables import OverlapTable, read_overlap
from synthkit.running.checkpoints import find_checkpoint, read_checkpoint_metadata, succeeded
from synthkit.running.listening import Listener
from synthkit.running.run import EVENTS, JOB, Input, Job, Run, find_runs, folder_digest, write_json
from synthkit.running.verbs.inputs import look_at
from synthkit.running.verbs.model_voxels import ModelVoxels
from synthkit.running.verbs.people import datasets_given, tell_apart, unlike_names
from synthkit.schemes import Scheme

if TYPE_CHECKING:
    from synthkit.contract import Declaration
    from synthkit.data.slices import SliceProtocol
    from synthkit.data.subject_files import Subject

#: What every segmentation is scored by; in the order of :data:`synthkit.judging.arms.SCORES`.
METRICS = ("dice", "lesion-dice", "lesion-f1", "surface-dice", "hausdorff")

#: Executes a job in a folder: ``start(folder, job, declarations, title)``; raises the error that the run ends with.
Start = Callable[[Path, Job, Sequence["Declaration"], str], object]


@dataclass(frozen=True)
class UtilityRequest:
    """What is compared with what.

    Attributes
    ----------
    reference : folder of subjects with labels.
    out : folder of the runs; ``utility.json`` is written into it.
    arms : runs of ``train``, or folders of some, by the arm's name; "real" is what the others are compared with.
    allow_different : settings in which the trainings may differ.
    resume : take a run that is there and has succeeded for its job.
    resample : resample subjects to the voxel size of the training images, and labels back.
    labels : the label scheme of the reference, a name, a TOML file or "table"; None where its names and values say it.
    names : what files of the reference are by their endings, ``seg=_segm``.
    patients : who the subjects are, a table or "one-per-subject"; None where the trainings' datasets or names say it.
    """

    reference: Path
    out: Path
    arms: Mapping[str, Sequence[Path]]
    allow_different: Sequence[str] = ()
    resamples: int = RESAMPLES
    seed: int = SEED
    resume: bool = False
    resample: bool = False
    labels: str | None = None
    names: Sequence[str] = ()
    patients: Path | str | None = None


@dataclass(frozen=True)
class UtilityRun:
    """One of the two runs of a training: subjects segmented, or the segmentations scored.

    ``state`` is "finished" for one that ``resume`` takes as it is, "there" for another one at its place, else "new".
    """

    folder: Path
    job: Job
    declarations: tuple[Declaration, ...]
    state: Literal["new", "there", "finished"]


@dataclass(frozen=True)
class UtilityPlan:
    """What would be compared, once everything that can be refused beforehand has been looked at.

    Attributes
    ----------
    request : what was asked for.
    arms : trainings by the arm's name, with their run folders.
    patients : who each unseen subject is, in the order of the subjects.
    regions : of the reference, those that all trainings have.
    runs : those of each training by the arm's name, in the order of ``arms``: ``segment``, ``evaluate``.
    learning : sentences on trainings that have not ended learning.
    doubts : what training images show otherwise than they are called, or than those of the real arm.
    """

    request: UtilityRequest
    arms: Mapping[str, Sequence[tuple[Path, Training]]]
    patients: Mapping[str, str]
    regions: Sequence[str]
    runs: Mapping[str, Sequence[tuple[UtilityRun, UtilityRun]]]
    learning: Sequence[str]
    doubts: Sequence[str]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, as ``--dry-run`` prints it: ``state`` is that of each run, see :class:`UtilityRun`."""
        return {
            "reference": self.request.reference.name,
            "arms": {name: [str(run) for run, _ in trainings] for name, trainings in self.arms.items()},
            "subjects": list(self.patients),
            "n_patients": len(set(self.patients.values())),
            "regions": list(self.regions),
            "scores": [score for _, score, _ in SCORES],
            "runs": [
                {"run": str(run.folder), "verb": run.job.verb, "plugins": list(run.job.plugins), "state": run.state}
                for pairs in self.runs.values()
                for pair in pairs
                for run in pair
            ],
            "learning": list(self.learning),
            "doubts": list(self.doubts),
        }


def plan_utility(request: UtilityRequest, listener: Listener) -> UtilityPlan:
    """Look at trainings, subjects and labels; segments and writes nothing.

    Raises
    ------
    UsageError : one arm alone, a path without trainings of a segmenter, one that is given twice, or as another arm
        than it is, or trainings that cannot be compared.
    DataError : a bad subject, no subject that is unseen, or no region that can be compared.
    """
    if len(request.arms) < 2:
        raise UsageError(
            "There is nothing to compare with training on real images.",
            fix="Give trainings on synthetic images (--synthetic), or on real and synthetic ones (--both).",
        )
    arms = {name: [item for path in paths for item in _trainings(path)] for name, paths in request.arms.items()}
    _check_once(arms)
    everything = [training for trainings in arms.values() for _, training in trainings]
    for text in check_comparable(everything, request.allow_different):
        listener.warning(f"The trainings differ, as allowed: {text}")
    check_arms({name: [training for _, training in trainings] for name, trainings in arms.items()})
    found_subjects, protocol = _unseen_subjects(request, everything, listener)
    runs = [run for trainings in arms.values() for run, _ in trainings]
    doubts = _doubts({name: [run for run, _ in trainings] for name, trainings in arms.items()}, listener)
    learning = still_learning(
        {f"{name} {k}": run / EVENTS for name in arms for k, (run, _) in enumerate(arms[name], start=1)}
    )
    for text in learning:
        listener.warning(text)
    patients = tell_apart(found_subjects, runs, protocol, request.patients, listener)
    subjects = list(patients)
    # What is not known of the labels is asked for before anything is segmented.
    reference = LabelFolder(request.reference, subjects, names=request.names, labels=request.labels)
    scored = {"subjects": subjects, "labels": {"reference": reference.decision()}}
    if said := unlike_names(patients):
        scored["patients"] = said
    regions = _common_regions(reference.scheme, everything, listener)
    planned = {
        name: [
            _runs_of(request.out / f"{name}-{number}", run, training, scored, request)
            for number, (run, training) in enumerate(trainings, start=1)
        ]
        for name, trainings in arms.items()
    }
    return UtilityPlan(request, arms, patients, regions, planned, learning, doubts)


def measure_utility(plan: UtilityPlan, start: Start, listener: Listener) -> dict[str, Any]:
    """Segment and score unseen subjects with every training, compare the arms, write and return ``utility.json``.

    Returns
    -------
    JSON-ready: ``reference``, ``subjects``, ``comparisons`` (a row an arm, region and score), ``sentences`` (first on
    trainings that have not ended learning), ``doubts`` (what training images show otherwise than they are called, or
    than those of the real arm).

    Raises
    ------
    UsageError : another run lies where one of these belongs.
    DataError : no reference has a label that is scored.
    """
    request, arms = plan.request, plan.arms
    tables: dict[str, list[OverlapTable]] = {}
    for name, pairs in plan.runs.items():
        tables[name] = []
        for number, (pair, (_, training)) in enumerate(zip(pairs, arms[name], strict=True), start=1):
            listener.note(f"{name} {number} of {len(pairs)}: {training.name}")
            for run in pair:
                if run.state != "finished":
                    start(run.folder, run.job, run.declarations, f"{run.job.verb} {run.folder.parent.name}")
            tables[name].append(read_overlap(pair[1].folder))
            discard(request.out / UTILITY)  # what it says is no longer of these runs
    found = [
        (name, item)
        for name in arms
        if name != "real"
        for item in compared_arms(tables["real"], tables[name], resamples=request.resamples, seed=request.seed)
    ]
    if not found:
        raise DataError(
            "No region can be compared.", "No reference has a label that is scored.", "Give other subjects."
        )
    for text in interval_warnings(item.comparison for _, item in found):
        listener.warning(text)
    document = {
        "reference": request.reference.name,
        "subjects": list(plan.patients),
        "comparisons": [{"arm": name, **item.to_dict()} for name, item in found],
        "sentences": [*plan.learning, *_sentences(found)],
        "doubts": list(plan.doubts),
    }
    write_json(request.out / UTILITY, document)
    return document


def _sentences(found: Sequence[tuple[str, ArmComparison]]) -> list[str]:
    """A sentence a region on Dice; before them, where the scores by lesion say something else.

    Of synthetic images alone, if they were compared, else of both.
    """
    arm = "synthetic" if any(name == "synthetic" for name, _ in found) else "both"
    images = {"synthetic": "synthetic", "both": "real and synthetic"}[arm]
    own = [item for name, item in found if name == arm]
    return [*partings(own), *(sentence(item, images) for item in own if item.score == "Dice")]


def _doubts(arms: Mapping[str, Sequence[Path]], listener: Listener) -> list[str]:
    """What the images of the trainings show that their descriptions do not say, real ones first; it is said."""
    datasets: dict[str, Dataset] = {}
    for arm, runs in arms.items():
        given = [dataset for run in runs for dataset in datasets_given(run)]
        if not given:
            listener.note(f"Training images of the arm {arm} are not where they were, and are not looked at.")
        for dataset in given:
            datasets.setdefault(dataset.digest, dataset)
    return look_at(datasets.values(), listener)


def _trainings(path: Path) -> list[tuple[Path, Training]]:
    """The trainings of a segmenter at or below a path: run folder and what must be comparable."""
    folders = [run.path for run in find_runs([path]) if run.job().verb == "train"] or [path]
    found = []
    for folder in folders:
        metadata = read_checkpoint_metadata(find_checkpoint(folder))
        if metadata["kind"] == "segmenter":
            found.append((folder, Training(folder.name, metadata)))
    if not found:
        raise UsageError(f"{path} holds no training of a segmenter.", fix="Give `train` runs, or a folder of some.")
    return found


def _check_once(arms: Mapping[str, Sequence[tuple[Path, Training]]]) -> None:
    """Refuse a training that is given twice: it would count as two, or be compared with itself."""
    seen: dict[Path, str] = {}
    for name, trainings in arms.items():
        for run, _ in trainings:
            if run.resolve() in seen:
                before = seen[run.resolve()]
                raise UsageError(
                    f"{run} is given twice, as --{before} and as --{name}.",
                    "It would count as two trainings, or be compared with itself.",
                    "Give each training once.",
                )
            seen[run.resolve()] = name


def _unseen_subjects(
    request: UtilityRequest, trainings: Sequence[Training], listener: Listener
) -> tuple[dict[str, Subject], SliceProtocol]:
    """Subjects with labels whose ids none of the trainings has learned from, be it through synthetic images.

    With them the protocol by which the first training's images were made.
    """
    from synthkit.data.lineage import datasets_behind, has_unknown_origin, was_trained_on
    from synthkit.data.subjects import bad_subjects_error, scan_subjects

    models = list(dict.fromkeys(ModelVoxels.of(training.metadata, request.resample) for training in trainings))
    contrasts = models[0].protocol.contrasts
    scheme = Scheme.of_record(trainings[0].metadata)
    if (given := known_labels(request.labels, request.reference)) is not None:
        scheme = replace(scheme, label_endings=given.label_endings)  # contrasts are found as by `segment`
    good, bad = scan_subjects(request.reference, contrasts, True, request.names, scheme)
    if bad:
        raise bad_subjects_error(bad, len(good) + len(bad), fix="Repair or remove them.")
    lineage = [entry for training in trainings for entry in datasets_behind(training.metadata)]
    unseen = sorted(subject.id for subject in good if not was_trained_on(subject.id, lineage))
    if not unseen:
        raise DataError(
            "There is no subject to compare on.",
            f"The trainings have learned from all {len(good)} of them, directly or through synthetic images.",
            "Prepare with a --holdout, or give other subjects.",
        )
    if len(unseen) < len(good):
        listener.note(
            f"{len(good) - len(unseen)} of {len(good)} subjects are left out: a training has learned from them."
        )
    if has_unknown_origin(lineage):
        listener.warning(
            "A training has learned from synthetic images whose own training data are not known: subjects "
            "behind them cannot be left out."
        )
    by_id = {subject.id: subject for subject in good}
    found = {name: by_id[name] for name in unseen}
    for voxels in models:
        voxels.announce(found, listener)
    return found, models[0].protocol


def _common_regions(reference: Scheme, trainings: Sequence[Training], listener: Listener) -> list[str]:
    """Regions of the reference that all trainings have; says which ones are lacking, DataError if none is left.

    As the metrics do, a region is found by its name, else by the labels that it consists of.
    """
    schemes = {training.name: Scheme.of_record(training.metadata) for training in trainings}
    lacking = {
        region.name: [
            name
            for name, scheme in schemes.items()
            if region.name not in scheme.region_values and not set(region.labels) <= set(scheme.label_values)
        ]
        for region in reference.regions
    }
    if all(lacking.values()):
        have = dict.fromkeys(f"{name}: {labels_in_words(scheme)}" for name, scheme in schemes.items())
        raise DataError(
            "No region of the reference is one of all trainings.",
            f"The reference has {labels_in_words(reference)}.",
            "Say by --labels which labels the reference has, if those are not its; else give trainings of its labels.",
            list(have),
        )
    if lost := [f"{region} ({', '.join(names)})" for region, names in lacking.items() if names]:
        listener.warning(f"Not compared are regions that trainings lack: {'; '.join(lost)}.")
    return [region for region, names in lacking.items() if not names]


def _runs_of(
    folder: Path, run: Path, training: Training, scored: Mapping[str, Any], request: UtilityRequest
) -> tuple[UtilityRun, UtilityRun]:
    """The two runs that segment and score the subjects with one training.

    ``scored`` are options of the second: subjects, the schemes of labels by role, and patients where names do not say
    who is who.
    """
    from synthkit.registry.parameters import make_params, params_to_dict
    from synthkit.registry.registry import discover

    registry = discover()
    segmenter = registry.get(training.metadata["plugin"], "segmenter")
    metrics = [registry.get(name, "metric") for name in METRICS]
    checkpoint = find_checkpoint(run)
    named = {"names": list(request.names)} if request.names else {}
    segment = Job(
        verb="segment",
        plugins=(segmenter.name,),
        params=params_to_dict(make_params(segmenter, training.metadata["params"])),
        inputs={
            "checkpoint": Input("checkpoint", source=checkpoint, digest=folder_digest(checkpoint)),
            "subjects": Input("subjects", source=request.reference),
        },
        options={"subjects": scored["subjects"], **({"resample": True} if request.resample else {}), **named},
    )
    evaluate = Job(
        verb="evaluate",
        plugins=tuple(metric.name for metric in metrics),
        params=params_to_dict(make_params(metrics[0], {})),
        inputs={
            "reference": Input("labels", source=request.reference),
            "prediction": Input("labels", source=Run(folder / "segment").predictions),
        },
        options={**scored, "references_without_prediction": [], **named},
    )
    first = UtilityRun(folder / "segment", segment, (segmenter,), _state(folder / "segment", segment, request.resume))
    state = _state(folder / "evaluate", evaluate, request.resume and first.state == "finished")
    return first, UtilityRun(folder / "evaluate", evaluate, tuple(metrics), state)


def _state(folder: Path, job: Job, resume: bool) -> Literal["new", "there", "finished"]:
    """Whether a run of this job has to be made; the one that is there is taken, with ``resume``, if it has finished."""
    if resume and (folder / JOB).is_file():
        old, new = (json.loads(json.dumps(each.to_dict())) for each in (Run(folder).job(), job))
        same = all(old[key] == new[key] for key in ("verb", "plugins", "params", "inputs", "options"))
        if same and succeeded(folder) is not None:
            return "finished"
    return "there" if folder.exists() else "new"
