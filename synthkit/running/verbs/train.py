"""``train``: a generator or a segmenter, on one dataset or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthkit import events
from synthkit.contract import NOTES, STATE, Declaration, GeneratorDeclaration, SegmenterDeclaration
from synthkit.data.dataset import Dataset
from synthkit.data.geometry import Geometry, common_axes, common_geometry
from synthkit.data.slices import SIZES, SliceProtocol
from synthkit.data.views import Joined, with_scheme
from synthkit.errors import DataError, PluginError, UsageError
from synthkit.files import discard
from synthkit.registry.parameters import make_params, params_to_dict
from synthkit.registry.presets import read_preset
from synthkit.registry.registry import discover, load_module
from synthkit.running.listening import Listener, counted
from synthkit.running.request import Request
from synthkit.running.run import Input, Job, Run, folder_digest, write_json
from synthkit.running.verbs.boundary import (
    admitted_checkpoint,
    call,
    check_generator_size,
    opened_checkpoint,
    opened_dataset,
    opened_file,
    opened_folder,
)
from synthkit.running.verbs.inputs import checkpoint_input, dataset_input, file_input, look_at
from synthkit.schemes import Scheme

if TYPE_CHECKING:
    from synthkit.contract import Samples


# ------------------------------------------------------------------------------------------------ asked on the host


def ask(
    plugin: str,
    datasets: Sequence[Path],
    *,
    validate_on: Path | None = None,
    pretrained: Path | None = None,
    initial: Path | None = None,
    preset: str | None = None,
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
    initial : run, or checkpoint, of the same plugin whose weights the training begins with.
    preset : name of a file of parameters that the plugin brings (:mod:`synthkit.registry.presets`).
    params : parameters of the plugin, over those of ``preset``, of ``initial``, and its defaults, in this order.

    Raises :class:`UsageError` for what the plugin does not do, :class:`DataError` for datasets that cannot be read.
    """
    declaration = discover().get(plugin)
    if declaration.kind == "metric":
        raise UsageError(f"{plugin} is a metric, it is not trained.", fix="Use `synthkit evaluate`.")
    if not datasets:
        raise UsageError("There is nothing to train on.", fix="Give a dataset.")
    _refuse_not_taken(declaration, {"--validate-on": validate_on, "--pretrained": pretrained, "--from": initial})
    begun, inputs = _initial(declaration, initial)
    brought = read_preset(declaration, preset) if preset is not None else {}
    chosen = make_params(declaration, {**begun.get("params", {}), **brought, **(params or {})})
    opened: dict[str, Dataset] = {}
    n_train = 0
    for number, path in enumerate(datasets, start=1):
        role = "data" if number == 1 else f"data{number}"
        dataset, inputs[role] = dataset_input(path)
        opened[role] = dataset
        n_train += len(dataset.training_part())
        if declaration.kind == "generator" and dataset.kind == "synthetic":
            listener.warning(f"{path} is synthetic: a generator trained on generated images drifts.")
    if validate_on is not None:
        opened["validation"], inputs["validation"] = dataset_input(validate_on)
        if opened["validation"].kind != "real":
            raise UsageError(
                f"{validate_on} is synthetic.", fix="Validate on real samples, or leave --validate-on out."
            )
    if pretrained is not None:
        inputs["pretrained"] = file_input(pretrained)
    _check_together(opened, listener)
    _check_not_empty(n_train)
    _check_size(declaration, opened["data"].size)
    if initial is not None:
        _check_continues(begun, opened["data"], initial)
        listener.note(f"It begins with the weights of {initial}, and with its parameters but for those given.")
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


def _check_not_empty(n_samples: int) -> None:
    if not n_samples:
        raise DataError(
            "There is nothing to train on.", "Every sample is held out.", "Prepare with a smaller --holdout."
        )


def _check_size(declaration: Declaration, size: tuple[int, int]) -> None:
    """:class:`DataError` for images that a method cannot make, or take."""
    if isinstance(declaration, GeneratorDeclaration):
        check_generator_size(declaration, size)
    if isinstance(declaration, SegmenterDeclaration) and any(s % declaration.size_multiple for s in size):
        raise DataError(
            f"{declaration.name} cannot take images of {size[1]} x {size[0]} pixels.",
            f"Their sides must be multiples of {declaration.size_multiple}.",
            "Prepare the dataset with another --size.",
        )


def _joined(datasets: Mapping[str, Dataset]) -> Samples:
    parts = [dataset.training_part() for dataset in datasets.values()]
    return parts[0] if len(parts) == 1 else Joined(parts)


_ROLE_OF = {"--validate-on": "validation", "--pretrained": "pretrained", "--from": "initial"}


def _refuse_not_taken(declaration: Declaration, given: Mapping[str, Path | None]) -> None:
    """UsageError for what not every plugin takes: samples to validate on, weights to begin with."""
    for option, path in given.items():
        if path is not None and _ROLE_OF[option] not in declaration.optional_roles:
            raise UsageError(f"{declaration.name} takes no {option}.", fix="Leave it out.")
    if given["--pretrained"] is not None and given["--from"] is not None:
        raise UsageError("--pretrained and --from both say what to begin with.", fix="Give one of them.")


def _initial(declaration: Declaration, path: Path | None) -> tuple[dict[str, Any], dict[str, Input]]:
    """The notes on what a training begins with, and its inputs: the checkpoint, and its state where it was kept."""
    if path is None:
        return {}, {}
    metadata, checkpoint = checkpoint_input(path)
    if metadata["plugin"] != declaration.name:
        raise UsageError(
            f"{path} is of {metadata['plugin']}, which cannot become a {declaration.name}.",
            fix=f"Train {metadata['plugin']}, or begin with a run of {declaration.name}.",
        )
    inputs = {"initial": checkpoint}
    state = checkpoint.source.parent / STATE if checkpoint.source else Path(STATE)
    if state.is_dir():
        inputs["initial_state"] = Input("checkpoint", source=state, digest=folder_digest(state))
    return metadata, inputs


def _check_continues(begun: Mapping[str, Any], dataset: Dataset, path: Path) -> None:
    """:class:`DataError` unless a model, by the notes on it, can go on learning from a dataset."""
    scheme = Scheme.of_record(begun)
    for what, old, new in (
        ("contrasts", tuple(begun["contrasts"]), dataset.contrasts),
        ("sides of images (y, x)", tuple(begun["size"]), dataset.size),
        ("label values", scheme.values, dataset.scheme.values),
        ("names of labels", tuple(label.name for label in scheme.labels), tuple(x.name for x in dataset.scheme.labels)),
    ):
        if old != new:
            raise DataError(
                f"{path} cannot go on learning from {dataset.path}.",
                f"Its {what} are {', '.join(map(str, old))}; those of the data are {', '.join(map(str, new))}.",
                "Prepare the data as those that it was trained on, with --contrasts, --size and --labels.",
            )


# -------------------------------------------------------------------------------------------------- done in the run


def do(run: Run, job: Job, declarations: tuple[Declaration, ...]) -> dict[str, Any]:
    """Train; what ``result.json`` gets of it."""
    declaration = declarations[0]
    datasets, validation = _opened(run, job)
    optional: dict[str, Any] = {
        role: opened_file(run, job, role) for role, item in job.inputs.items() if item.kind == "file"
    }
    optional |= {role: opened_folder(run, job, role) for role in ("initial", "initial_state") if role in job.inputs}
    data = _joined(datasets)
    optional |= {role: with_scheme(dataset.training_part(), data.scheme) for role, dataset in validation.items()}
    _check_not_empty(len(data))
    _check_size(declaration, data.size)
    module = load_module(declaration)
    notes = notes_of(run, job, declaration)  # before the training: datasets may not go together
    run.checkpoint.mkdir(parents=True, exist_ok=True)
    write_json(run.checkpoint / NOTES, {**notes, "unfinished": True})
    _move_state(run.outputs, run.checkpoint)
    call(declaration, module.train, data, run.checkpoint, make_params(declaration, job.params), **optional)
    if not any(path.name != NOTES for path in run.checkpoint.iterdir()):
        raise PluginError(
            f"{declaration.name} trained but left no checkpoint.", fix=f"Report it to {declaration.distribution}."
        )
    _move_state(run.checkpoint, run.outputs)
    write_json(run.checkpoint / NOTES, notes)
    return {"outputs": {"checkpoint": {"kind": "checkpoint", "digest": folder_digest(run.checkpoint)}}}


def _opened(run: Run, job: Job) -> tuple[dict[str, Dataset], dict[str, Dataset]]:
    """The datasets of a run by role: those to train on, and the one to validate on."""
    datasets = {role: opened_dataset(run, job, role) for role, item in job.inputs.items() if item.kind == "dataset"}
    validation = {role: datasets.pop(role) for role in ("validation",) if role in datasets}
    return datasets, validation


def notes_of(run: Run, job: Job, declaration: Declaration) -> dict[str, Any]:
    """What is noted beside the checkpoint of a training, by its job: what it is, and what it has learned from."""
    datasets, validation = _opened(run, job)
    params = params_to_dict(make_params(declaration, job.params))
    protocol = common_protocol(datasets | validation)
    notes = checkpoint_notes(declaration, params, _joined(datasets), protocol, datasets, validation)
    if "initial" not in job.inputs:
        return notes
    return _notes_of_both(notes, opened_checkpoint(run, job, declaration, "initial")[1], job.inputs["initial"].digest)


def _move_state(source: Path, target: Path) -> None:
    """Bring what only going on needs to where it belongs: a checkpoint is made to be shared, a state may know patients.

    Of a generator the discriminator is in it, which has seen the real images.
    """
    if (source / STATE).is_dir():
        discard(target / STATE)
        (source / STATE).rename(target / STATE)


def _notes_of_both(notes: Mapping[str, Any], begun: Mapping[str, Any], digest: str) -> dict[str, Any]:
    """The notes on a training that began with another's weights: it has learned from the data of both.

    ``n_datasets`` of the training datasets are its own; these come first.
    """
    both = dict(notes)
    for role in ("training_datasets", "validation_datasets"):
        own = list(notes.get(role, ()))
        if entries := [*own, *(entry for entry in begun.get(role, ()) if entry not in own)]:
            both[role] = entries
    imported = {"imported": begun["imported"]} if "imported" in begun else {}
    return {**both, **imported, "initial": digest, "n_datasets": len(notes["training_datasets"])}


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
    return admitted_checkpoint(run, notes_of(run, job, declarations[0]))
