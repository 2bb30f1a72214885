"""``segment``: label volumes of subjects, in each subject's own grid."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synthkit import events
from synthkit.contract import Declaration
from synthkit.data.intensity_notes import background_notes
from synthkit.data.lineage import datasets_behind, has_unknown_origin, was_trained_on
from synthkit.data.native_grid import to_native
from synthkit.data.nifti import write_labels, write_probabilities
from synthkit.data.slice_rule import check_fits_model
from synthkit.data.slices import SliceProtocol, slices_for_segmentation
from synthkit.data.subjects import SubjectVolumes, bad_subjects_error, load_subject, scan_subjects, survey_folder
from synthkit.errors import DataError, PluginError, UsageError
from synthkit.files import read_untrusted
from synthkit.registry.parameters import make_params
from synthkit.registry.registry import discover, load_module
from synthkit.running.listening import Listener, counted
from synthkit.running.request import Request
from synthkit.running.run import Job, Run, folder_digest, write_json
from synthkit.running.verbs.boundary import call, differing, opened_checkpoint, outputs_of, yielded
from synthkit.running.verbs.inputs import checkpoint_input, folder_input, resolved_params
from synthkit.running.verbs.model_voxels import ModelVoxels
from synthkit.schemes import Scheme

if TYPE_CHECKING:
    from synthkit.contract import UInt8Array

_NOTES = "predictions.json"
_MAX_NOTES = 2**26  # bytes

# ------------------------------------------------------------------------------------------------ asked on the host


def ask(
    model: Path,
    subjects: Path,
    *,
    only: Sequence[str] | None = None,
    include_training_subjects: bool = False,
    keep_probabilities: bool = False,
    resample: bool = False,
    names: Sequence[str] = (),
    params: Mapping[str, Any] | None = None,
    listener: Listener,
) -> Request:
    """The run that segments subjects.

    Parameters
    ----------
    model : a `train` run of a segmenter, or its checkpoint.
    subjects : folder of subjects with the contrasts that the model was trained on.
    only : names of those to segment; None for all.
    include_training_subjects : also those of patients that the model has learned from, be it through synthetic images.
    names : what files are by their endings, ``t1ce=_T1GD``; see :class:`synthkit.data.file_names.Names`.
    resample : resample subjects to the voxel size that the model was trained on, and labels back.
    keep_probabilities : also write the probability of each label.
    params : parameters of the plugin, over those of the training.

    Raises :class:`UsageError` for subjects that are not there, :class:`DataError` where none is left, one is broken, or
    voxels are not of the model's size.
    """
    metadata, item = checkpoint_input(model)
    declaration = discover().get(metadata["plugin"], "segmenter")
    if keep_probabilities and not getattr(declaration, "probabilities", False):
        raise UsageError(f"{declaration.name} gives no probabilities.", fix="Leave --keep-probabilities out.")
    resolved = resolved_params(declaration, metadata, params)
    folder = folder_input("subjects", subjects)
    wanted = _subjects_to_segment(subjects, metadata, only, include_training_subjects, names, resample, listener)
    job = Job(
        verb="segment",
        plugins=(declaration.name,),
        params=resolved,
        inputs={"checkpoint": item, "subjects": folder},
        options={
            "subjects": wanted,
            **({"keep_probabilities": True} if keep_probabilities else {}),
            **({"resample": True} if resample else {}),
            **({"names": list(names)} if names else {}),
        },
    )
    return Request(job, (declaration,), f"segment {len(wanted)}")


def _subjects_to_segment(
    folder: Path,
    metadata: Mapping[str, Any],
    only: Sequence[str] | None,
    include_seen: bool,
    names: Sequence[str],
    resample: bool,
    listener: Listener,
) -> list[str]:
    """Those asked for that the model has not learned from, unless it is asked for these too; all of them readable."""
    voxels = ModelVoxels.of(metadata, resample)
    scheme = Scheme.of_record(metadata)
    found = survey_folder(folder, voxels.protocol.contrasts, need_labels=False, names=names, scheme=scheme)
    good, bad = found.good, found.bad
    for note in found.notes:
        listener.warning(note)
    everybody = sorted([*(s.id for s in good), *(s.id for s in bad)])
    wanted = everybody if only is None else [name for name in dict.fromkeys(only) if name]
    if missing := sorted(set(wanted) - set(everybody)):
        raise UsageError(f"No subject {', '.join(missing)} in {folder}.", fix="Check the names.")
    # The patient counts: a second scan of somebody who was trained on is not a new patient.
    seen = [name for name in wanted if was_trained_on(name, datasets_behind(metadata))]
    if seen and not include_seen:
        n_asked = len(wanted)
        wanted = [name for name in wanted if name not in set(seen)]
        listener.note(
            f"{len(seen)} of {n_asked} subjects are left out: the model has learned from these patients "
            "(--include-training-subjects segments them too)."
        )
    if has_unknown_origin(datasets_behind(metadata)):
        listener.warning(
            "The model has learned from synthetic images whose own training data are not known: subjects "
            "behind them cannot be left out."
        )
    if unusable := [subject for subject in bad if subject.id in set(wanted)]:
        raise bad_subjects_error(unusable, len(wanted), fix="Repair or remove them, or name the others by --only.")
    if bad:
        listener.note(f"{counted(len(bad), 'subject')} cannot be used, and none of them was asked for.")
    if not wanted:
        raise DataError(
            "There is no subject left to segment.",
            f"The model was trained on all {len(seen)} of them, directly or through synthetic images.",
            "Prepare with a --holdout, or give --include-training-subjects.",
        )
    asked = {subject.id: subject for subject in good if subject.id in set(wanted)}
    voxels.announce(asked, listener)
    return wanted


# -------------------------------------------------------------------------------------------------- done in the run


def do(run: Run, job: Job, declarations: tuple[Declaration, ...]) -> dict[str, Any]:
    """Segment the subjects that are not done yet; what ``result.json`` gets of it."""

    declaration = declarations[0]
    checkpoint, metadata = opened_checkpoint(run, job, declaration)
    params = make_params(declaration, {**metadata["params"], **job.params})
    voxels = ModelVoxels.of(metadata, job.options.get("resample", False))
    protocol = voxels.protocol
    wanted = list(job.options["subjects"])
    names, scheme = job.options.get("names", ()), Scheme.of_record(metadata)
    good, bad = scan_subjects(run.input("subjects"), protocol.contrasts, need_labels=False, names=names, scheme=scheme)
    if unusable := [subject for subject in bad if subject.id in set(wanted)]:
        raise bad_subjects_error(unusable, len(wanted), fix="Repair them, or make the run again without them.")
    by_id = {subject.id: subject for subject in good}
    if missing := [name for name in wanted if name not in by_id]:
        raise DataError(
            f"{len(missing)} subjects of the job are not in the folder any more.",
            f"Missing: {', '.join(missing[:5])}.",
            "Make the run again.",
        )
    module = load_module(declaration)
    run.predictions.mkdir(parents=True, exist_ok=True)
    keeper = ProbabilityKeeper(run.probabilities, metadata, protocol) if job.options.get("keep_probabilities") else None
    todo = [name for name in wanted if not (run.predictions / f"{name}.nii.gz").is_file()]
    # What has been sliced and not yet segmented; a segmenter reads ahead by a batch, so this stays short.
    waiting: deque[tuple[str, Any, Any]] = deque()
    said: list[str] = []

    def images() -> Iterator[UInt8Array]:
        for name in todo:
            volumes = load_subject(by_id[name], labels=False)
            check_fits_model(volumes, protocol)
            if (unknown := voxels.check(volumes)) and not said:
                events.message(unknown, level="warning")
                said.append(name)
            slices = slices_for_segmentation(volumes, protocol)
            for note in (*volumes.affine_notes, *background_notes(volumes.backgrounds, volumes.images)):
                events.message(f"{name}: {note}", level="warning")
            waiting.append((name, volumes, slices.slice_indices))
            yield from slices.images

    done = len(wanted) - len(todo)
    collected: list[np.ndarray[Any, Any]] = []

    def finish_subjects() -> None:
        nonlocal done, collected
        while waiting and len(collected) >= len(waiting[0][2]):
            name, volumes, indices = waiting.popleft()
            label_slices = (
                np.stack(collected[: len(indices)]) if len(indices) else np.zeros((0, *metadata["size"]), np.uint8)
            )
            collected = collected[len(indices) :]
            native = to_native(label_slices, indices, volumes, protocol)
            if keeper is not None:  # before the labels, which say that a subject is finished
                keeper.write(name, volumes, indices)
            write_labels(run.predictions / f"{name}.nii.gz", native, like=volumes)
            done += 1
            events.progress(done, len(wanted), unit="subject")

    method = module.segment if keeper is None else module.segment_with_probabilities
    for answer in yielded(declaration, call(declaration, method, checkpoint, images(), params)):
        label_map = np.asarray(answer if keeper is None else keeper.take(answer, declaration))
        if label_map.shape != tuple(metadata["size"]) or label_map.dtype != np.uint8:
            raise PluginError(
                f"{declaration.name} gave labels that do not fit.",
                f"Expected uint8 {tuple(metadata['size'])}, got {label_map.dtype} {label_map.shape}.",
                f"Report it to the authors of {declaration.distribution}.",
            )
        unknown = set(np.flatnonzero(np.bincount(label_map.ravel())).tolist()) - set(metadata["labels"].values())
        if unknown:
            raise PluginError(
                f"{declaration.name} gave the label{'s' if len(unknown) > 1 else ''} {sorted(unknown)}.",
                f"It was trained on the labels {metadata['labels']}.",
                f"Report it to the authors of {declaration.distribution}.",
            )
        collected.append(label_map)
        finish_subjects()
    finish_subjects()
    if done != len(wanted) or collected:
        raise PluginError(
            f"{declaration.name} segmented {'fewer' if done != len(wanted) else 'more'} slices than it was given.",
            f"{done} of {len(wanted)} subjects are complete.",
            f"Report it to the authors of {declaration.distribution}.",
        )
    write_json(run.predictions / _NOTES, _notes(declaration, job, metadata))
    return _outputs(run, job)


def _notes(declaration: Declaration, job: Job, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What is noted beside the predictions."""
    wanted = sorted(job.options["subjects"])
    return {
        "segmenter": declaration.name,
        "checkpoint_digest": job.inputs["checkpoint"].digest,
        "seen_in_training": [name for name in wanted if was_trained_on(name, datasets_behind(metadata))],
        "scheme": Scheme.of_record(metadata).to_dict(),
    }


def _outputs(run: Run, job: Job) -> dict[str, Any]:
    """What ``result.json`` gets of the predictions."""
    folders = {"predictions": ("labels", run.predictions)}
    if job.options.get("keep_probabilities"):
        folders["probabilities"] = ("probabilities", run.probabilities)
    n_subjects = len(job.options["subjects"])
    return {
        "outputs": {
            name: {"kind": kind, "digest": folder_digest(folder), "n_subjects": n_subjects}
            for name, (kind, folder) in folders.items()
        }
    }


# ----------------------------------------------------------------------------------------------- taken on the host


def admit(run: Run, job: Job, declarations: tuple[Declaration, ...], told: Mapping[str, Any]) -> dict[str, Any]:
    """The predictions, one a subject that was asked for; who of them was trained on is what the checkpoint says."""
    _, metadata = opened_checkpoint(run, job, declarations[0])
    notes = _notes(declarations[0], job, metadata)
    with outputs_of(run):
        found = {path.name for path in run.predictions.iterdir() if not path.name.startswith(".")} - {_NOTES}
        wanted = {f"{name}.nii.gz" for name in job.options["subjects"]}
        if found != wanted:
            raise DataError("The predictions are not those of the subjects asked for.", details=sorted(found ^ wanted))
        before = json.loads(read_untrusted(run.predictions / _NOTES, _MAX_NOTES))
        write_json(run.predictions / _NOTES, notes)
        return {**_outputs(run, job), "corrected": differing(before, json.loads(json.dumps(notes)), _NOTES)}


class ProbabilityKeeper:
    """Collects the probabilities of slices, and writes those of a subject when it is complete.

    Parameters
    ----------
    folder : gets ``SUBJECT_LABEL.nii.gz`` for each label but background: uint8, which readers scale to 0..1.
    metadata : of the checkpoint; its labels and size are those expected.
    protocol : how the volumes were sliced.
    """

    def __init__(self, folder: Path, metadata: Mapping[str, Any], protocol: SliceProtocol) -> None:
        self._folder, self._protocol = folder, protocol
        self._names = [name for name, _ in sorted(metadata["labels"].items(), key=lambda item: int(item[1]))]
        self._shape = (len(self._names), *metadata["size"])
        self._slices: list[UInt8Array] = []
        folder.mkdir(parents=True, exist_ok=True)

    def take(self, answer: Any, declaration: Declaration) -> Any:
        """Keep the probabilities of a pair of labels and probabilities; returns the labels."""
        probabilities = np.asarray(answer[1]) if isinstance(answer, tuple) and len(answer) == 2 else None
        if probabilities is None or probabilities.shape != self._shape or probabilities.dtype != np.uint8:
            what = "something else" if probabilities is None else f"{probabilities.dtype} {probabilities.shape}"
            raise PluginError(
                f"{declaration.name} gave probabilities that do not fit.",
                f"Expected are labels and uint8 {self._shape}, got {what}.",
                f"Report it to the authors of {declaration.distribution}.",
            )
        self._slices.append(probabilities)
        return answer[0]

    def write(self, subject: str, volumes: SubjectVolumes, indices: Sequence[int]) -> None:
        """Write the volumes of a subject from its slices, the first that are kept, and forget these."""
        mine, self._slices = self._slices[: len(indices)], self._slices[len(indices) :]
        for number, name in enumerate(self._names[1:], start=1):
            native = to_native([pixels[number] for pixels in mine], indices, volumes, self._protocol)
            write_probabilities(self._folder / f"{subject}_{name}.nii.gz", native, like=volumes)
