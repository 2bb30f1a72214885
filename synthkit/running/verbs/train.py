"""``train``: a generator or a segmenter, on one dataset or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthkit import events
from synthkit.contract import Declaration, GeneratorDeclaration, SegmenterDeclaration
from synthkit.data.dataset import Dataset
from synthkit.data.geometry import Geometry, common_axes, common_geometry
from synthkit.data.slices import SIZES, SliceProtocol
from synthkit.data.views import Joined, with_scheme
from synthkit.errors import DataError, PluginError, UsageError
from synthkit.registry.parameters import make_params, params_to_dict
from synthkit.registry.registry import discover, load_module
from synthkit.running.checkpoints import CHECKPOINT_METADATA
from synthkit.running.listening import Listener, counted
from synthkit.running.request import Request
from synthkit.running.run import Input, Job, Run, folder_digest, write_json
from synthkit.running.verbs.boundary import admitted_checkpoint, call, check_generator_size, opened_dataset, opened_file
from synthkit.running.verbs.inputs import dataset_input, file_input, look_at

if TYPE_CHECKING:
    from synthkit.contract import Samples


# ------------------------------------------------------------------------------------------------ asked on the host


def ask(
    plugin: str,
    datasets: Sequence[Path],
    *,
    validate_on: Path | None = None,
    pretrained: Path | None = None,
    params: Mapping[str, Any] | None = None,
    listener: Listener,
) -> Request:
    """The run that trains ``plugin`` on the training part of ``datasets``.

    Parameters
    ----------
    plugin : name of a generator or a segmenter.
    datasets : at least one; their holdout is never used.
    validate_on : real samples that a segmenter validates on, instead of on a part of its data.
    pretrained : file of weights to begin with.
    params : parameters of the plugin, over its defaults.

    Raises :class:`UsageError` for what the plugin does not do, :class:`DataError` for datasets that cannot be read.
    """
    declaration = discover().get(plugin)
    if declaration.kind == "metric":
        raise UsageError(f"{plugin} is a metric, it is not trained.", fix="Use `synthkit evaluate`.")
    if not datasets:
        raise UsageError("There is nothing to train on.", fix="Give a dataset.")
    chosen = make_params(declaration, params or {})
    inputs: dict[str, Input] = {}
    opened: dict[str, Dataset] = {}
    n_train = 0
    for number, path in enumerate(datasets, start=1):
        role = "data" if number == 1 else f"data{number}"
        dataset, inputs[role] = dataset_input(path)
        opened[role] = dataset
        n_train += len(dataset.training_part())
        if declaration.kind == "generator" and dataset.kind == "synthetic":
            listener.warning(f"{path} is synthetic: a generator trained on generated images drifts.")
    _refuse_not_taken(declaration, validate_on, pretrained)
    if validate_on is not None:
        opened["validation"], inputs["validation"] = dataset_input(validate_on)
        if opened["validation"].kind != "real":
            raise UsageError(
                f"{validate_on} is synthetic.", fix="Validate on real samples, or leave --validate-on out."
            )
    if pretrained is not None:
        inputs["pretrained"] = file_input(pretrained)
    _check_together(opened, listener)
    job = Job(verb="train", plugins=(declaration.name,), params=params_to_dict(chosen), inputs=inputs)
    listener.note(f"Training {declaration.name} on {counted(n_train, 'sample')}.")
    return Request(job, (declaration,), f"train {declaration.name}")


def _check_together(datasets: Mapping[str, Dataset], listener: Listener) -> None:
    """DataError for datasets that do not go together, before a run is made; what their images show is said."""
    _joined({role: dataset for role, dataset in datasets.items() if role != "validation"})
    for dataset in datasets.values():
        with_scheme(dataset, datasets["data"].scheme)
    common_protocol(datasets)
    if len(datasets) > 1:
        look_at(datasets.values(), listener)


def _joined(datasets: Mapping[str, Dataset]) -> Samples:
    parts = [dataset.training_part() for dataset in datasets.values()]
    return parts[0] if len(parts) == 1 else Joined(parts)


def _refuse_not_taken(declaration: Declaration, validate_on: Path | None, pretrained: Path | None) -> None:
    """UsageError for what not every plugin takes: samples to validate on, weights to begin with."""
    takes = getattr(declaration, "optional_roles", ())
    for role, option, given in (
        ("validation", "--validate-on", validate_on),
        ("pretrained", "--pretrained", pretrained),
    ):
        if given is not None and role not in takes:
            raise UsageError(f"{declaration.name} takes no {option}.", fix="Leave it out.")


# -------------------------------------------------------------------------------------------------- done in the run


def do(run: Run, job: Job, declarations: tuple[Declaration, ...]) -> dict[str, Any]:
    """Train; what ``result.json`` gets of it."""
    declaration = declarations[0]
    datasets, validation = _opened(run, job)
    optional: dict[str, Any] = {
        role: opened_file(run, job, role) for role, item in job.inputs.items() if item.kind == "file"
    }
    data = _joined(datasets)
    optional |= {role: with_scheme(dataset.training_part(), data.scheme) for role, dataset in validation.items()}
    if not len(data):
        raise DataError(
            "There is nothing to train on.", "Every sample is held out.", "Prepare with a smaller --holdout."
        )
    if isinstance(declaration, GeneratorDeclaration):
        check_generator_size(declaration, data.size)
    if isinstance(declaration, SegmenterDeclaration) and any(s % declaration.size_multiple for s in data.size):
        raise DataError(
            f"{declaration.name} cannot take images of {data.size[1]} x {data.size[0]} pixels.",
            f"Their sides must be multiples of {declaration.size_multiple}.",
            "Prepare the dataset with another --size.",
        )
    params = make_params(declaration, job.params)
    module = load_module(declaration)
    protocol = common_protocol(datasets | validation)  # before the training: datasets may not go together
    run.checkpoint.mkdir(parents=True, exist_ok=True)
    call(declaration, module.train, data, run.checkpoint, params, **optional)
    if not any(run.checkpoint.iterdir()):
        raise PluginError(
            f"{declaration.name} trained but left no checkpoint.", fix=f"Report it to {declaration.distribution}."
        )
    notes = checkpoint_notes(declaration, params_to_dict(params), data, protocol, datasets, validation)
    write_json(run.checkpoint / CHECKPOINT_METADATA, notes)
    return {"outputs": {"checkpoint": {"kind": "checkpoint", "digest": folder_digest(run.checkpoint)}}}


def _opened(run: Run, job: Job) -> tuple[dict[str, Dataset], dict[str, Dataset]]:
    """The datasets of a run by role: those to train on, and the one to validate on."""
    datasets = {role: opened_dataset(run, job, role) for role, item in job.inputs.items() if item.kind == "dataset"}
    validation = {role: datasets.pop(role) for role in ("validation",) if role in datasets}
    return datasets, validation


def checkpoint_notes(
    declaration: Declaration,
    params: Mapping[str, Any],
    data: Samples,
    protocol: Mapping[str, Any],
    datasets: Mapping[str, Dataset],
    validation: Mapping[str, Dataset],
) -> dict[str, Any]:
    """What is noted beside a checkpoint: the method, what its images are, and what it was trained on.

    ``data`` are the training samples of all ``datasets``, ``protocol`` is :func:`common_protocol` of these.
    """
    return {
        "plugin": declaration.name,
        "kind": declaration.kind,
        "distribution": declaration.distribution,
        "params": dict(params),
        "contrasts": list(data.contrasts),
        "labels": data.scheme.label_values,
        "scheme": data.scheme.to_dict(),
        "size": list(data.size),
        "protocol": dict(protocol),
        "training_datasets": [dataset.training_entry() for dataset in datasets.values()],
        **({"validation_datasets": [v.training_entry() for v in validation.values()]} if validation else {}),
    }


#: In what the protocols of datasets for one training agree.
_MADE_BY = ("intensity", "size", "contrasts", "spacing_mm")

_OTHER_VOXELS = ("datasets", "Prepare them with the same --spacing, or train on one of them.")


def common_protocol(datasets: Mapping[str, Dataset]) -> dict[str, Any]:
    """How slices are made for a model trained on these datasets: the protocol of all that have one.

    Without the holdout and its seed, which name subjects and are not part of how a slice is made. Datasets without a
    protocol (imported ones) are taken to follow the others'; if none has one, size and contrasts are those of the
    data and the rest is the default, with a warning.

    Raises :class:`DataError` for protocols, orientations or voxel sizes that differ.
    """
    recorded = {role: dict(dataset.description.get("protocol") or {}) for role, dataset in datasets.items()}
    return _agreed_protocol(recorded) if any(recorded.values()) else _assumed_protocol(next(iter(datasets.values())))


def _agreed_protocol(recorded: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The protocol in which the recorded ones (by role, empty where there is none) agree, with a common geometry."""
    protocols = {role: SliceProtocol.from_dict(data) for role, data in recorded.items() if data}
    geometries = {role: Geometry.of(data) for role, data in recorded.items()}
    axes, doubts = common_axes(recorded)
    first, protocol = next(iter(protocols.items()))
    for role, other in protocols.items():
        # Slices that are known to lie alike may have come to it by different orders.
        lie_alike = other.orientation == protocol.orientation or (geometries[first].axes and geometries[role].axes)
        if not lie_alike or any(getattr(other, key) != getattr(protocol, key) for key in _MADE_BY):
            raise DataError(
                "The datasets were made by different protocols.",
                f"{first}: {protocol.name}; {role}: {other.name}.",
                "Prepare them with the same options, or train on one of them.",
            )
    geometry = replace(common_geometry(geometries, *_OTHER_VOXELS), axes=axes)
    stored = sorted({other.stored_axes for other in protocols.values()} - {""})
    if len(stored) > 1:
        doubts.append(
            f"Arrays whose affine says nothing were {' and '.join(stored)} in different datasets: the model takes "
            "subjects with such arrays in their stored order."
        )
    for doubt in doubts:
        events.message(doubt, level="warning")
    known = {} if geometry == Geometry() else {"geometry": geometry.to_dict()}
    return {**replace(protocol, stored_axes=stored[0] if len(stored) == 1 else "").to_dict(), **known}


def _assumed_protocol(dataset: Dataset) -> dict[str, Any]:
    """The default protocol for a dataset that records none; none at all for slices of a size that no protocol makes."""
    height, width = dataset.size
    if height != width or height not in SIZES:
        events.message(
            f"The data record no protocol, and slices cannot be of {width} x {height} pixels: no subject can be "
            "segmented by what is trained on them.",
            level="warning",
        )
        return {}
    events.message(
        "The data record no protocol: it is assumed that the maximum of each volume became 255 and that slices appear "
        "as radiologists look at them (LPS), as by `synthkit prepare` without options.",
        level="warning",
    )
    return SliceProtocol(contrasts=dataset.contrasts, size=height).to_dict()


# ----------------------------------------------------------------------------------------------- taken on the host


def admit(run: Run, job: Job, declarations: tuple[Declaration, ...], told: Mapping[str, Any]) -> dict[str, Any]:
    """The checkpoint with its digest; what it was trained on is what the job says."""
    declaration = declarations[0]
    datasets, validation = _opened(run, job)
    params = params_to_dict(make_params(declaration, job.params))
    protocol = common_protocol(datasets | validation)
    return admitted_checkpoint(
        run, checkpoint_notes(declaration, params, _joined(datasets), protocol, datasets, validation)
    )
