"""synthkit from Python: what the commands do, as functions.

::

    from synthkit import api

    api.prepare("BraTS2020", "data/real", holdout="0.2")
    api.train("stylegan2", ["data/real"], out="runs/sg2", params={"kimg": 12})
    api.generate("runs/sg2", range(1000), out="data/synthetic")
    audit = api.audit_memorization("data/real", "data/synthetic", out="runs/audit")
    print(audit.result["verdict"]["outcome"])

Functions that make a run take :class:`RunKeywords` besides their own arguments, and return it as :class:`Done` or raise
the :class:`synthkit.errors.SynthkitError` that it failed with. Importing this module costs nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

if TYPE_CHECKING:
    from synthkit.data.importing import ImportSummary
    from synthkit.data.prepared import PreparedSummary
    from synthkit.running.launch import Done
    from synthkit.running.listening import Listener
    from synthkit.running.request import Request

__all__ = [
    "AUDIT_PAGE",
    "RunKeywords",
    "audit_memorization",
    "audit_page",
    "evaluate",
    "generate",
    "import_checkpoint",
    "import_images",
    "phantom",
    "prepare",
    "report",
    "segment",
    "train",
]

AnyPath = str | os.PathLike[str]

#: The page that an audit leaves in its run folder.
AUDIT_PAGE = "audit.html"


class RunKeywords(TypedDict, total=False):
    """Where and with what a run is made: the fields of :class:`synthkit.running.launch.RunOptions`, and who is told.

    ``listener`` takes notes, warnings and progress; without one, notes go to the logger ``synthkit`` and warnings are
    Python's (:class:`synthkit.running.listening.LoggingListener`).
    """

    backend: str | None
    gpus: str | None
    cpus: float | None
    memory: str | None
    disk: str | None
    timeout: float | None
    resume: bool
    overwrite: bool
    listener: Listener


# ------------------------------------------------------------------------------------------------------------ data


def phantom(
    out: AnyPath, number: int = 40, seed: int = 0, *, workers: int | None = None, listener: Listener | None = None
) -> list[Path]:
    """Make phantom subjects with exact labels (:func:`synthkit.data.phantom.write_phantom`); returns their folders."""
    from synthkit.data.phantom import write_phantom

    with _heard(listener).progress("phantom") as view:
        return write_phantom(
            Path(out), number, seed, workers=workers, progress=lambda done, total: view.step(done, total, "subject")
        )


def prepare(
    subjects: AnyPath,
    out: AnyPath,
    *,
    holdout: str = "0.2",
    size: int = 256,
    contrasts: Sequence[str] | None = None,
    intensity: str = "max",
    spacing: str | float | None = None,
    listener: Listener | None = None,
    **options: Any,
) -> PreparedSummary:
    """Turn subjects into a dataset, split by patient.

    Parameters
    ----------
    subjects, out : folder of subjects (NIfTI), folder of the dataset.
    holdout : subjects that are never trained on: names, a number, a fraction, or "akbar2024".
    size, contrasts, intensity : see :class:`synthkit.data.slices.SliceProtocol`; the contrasts are those of the label
        scheme by default.
    spacing : resample to voxels of this size in mm, ``1`` or ``"1,1,5"``; by default nothing is resampled.
    options : ``brain_threshold``, ``brain_fraction``, ``orientation`` and ``stored_axes`` of the protocol; ``labels``,
        ``seed``, ``patients``, ``training_patients``, ``names``, ``skip_bad``, ``workers``, ``resume``, ``overwrite``
        and ``dry_run`` of :func:`synthkit.data.prepare.prepare`.
    """
    from synthkit.data.geometry import parsed_spacing
    from synthkit.data.known_labels import default_contrasts
    from synthkit.data.prepare import PASSED
    from synthkit.data.prepare import prepare as prepare_dataset
    from synthkit.data.slices import SliceProtocol

    others = ("brain_threshold", "brain_fraction", "orientation", "stored_axes")
    slicing: dict[str, Any] = {name: options.pop(name) for name in others if name in options}
    slicing["spacing_mm"] = parsed_spacing(spacing)
    contrasts = contrasts or default_contrasts(options.get("labels"), Path(subjects))
    protocol = SliceProtocol(contrasts=tuple(contrasts), size=size, intensity=intensity, **slicing)
    with _heard(listener).progress("prepare") as view:
        return prepare_dataset(
            Path(subjects),
            Path(out),
            protocol=protocol,
            holdout=holdout,
            on_progress=lambda stage, done, total: view.step(done, total, f"subject {PASSED[stage]}"),
            **options,
        )


def import_images(
    pictures: AnyPath,
    out: AnyPath,
    *,
    channels: str | None = None,
    mosaic: str | None = None,
    channels_last: bool | None = None,
    without_labels: bool = False,
    listener: Listener | None = None,
    **options: Any,
) -> ImportSummary:
    """Bring in pictures or arrays that were made elsewhere.

    ``channels`` (``"t1,flair,labels"``), ``mosaic`` (``"1x5"``) and ``channels_last`` are as the command's;
    ``options`` are ``kind``, ``value_range``, ``labels`` (a scheme's name or TOML file), ``label_levels``, ``resume``,
    ``overwrite`` and ``dry_run`` of :func:`synthkit.data.importing.import_images`.
    """
    from synthkit.data import importing
    from synthkit.data.channel_options import Channels

    with _heard(listener).progress("import") as view:
        return importing.import_images(
            Path(pictures),
            Path(out),
            channels=Channels.parsed(channels, mosaic, channels_last, without_labels),
            on_progress=lambda stage, done, total: view.step(done, total, importing.PROGRESS[stage]),
            **options,
        )


# ---------------------------------------------------------------------------------------------------------- models


def train(
    plugin: str,
    datasets: Sequence[AnyPath],
    out: AnyPath,
    *,
    validate_on: AnyPath | None = None,
    pretrained: AnyPath | None = None,
    initial: AnyPath | None = None,
    preset: str | None = None,
    params: Mapping[str, Any] | None = None,
    **options: Unpack[RunKeywords],
) -> Done:
    """Train a generator or a segmenter; see :func:`synthkit.running.verbs.train.ask`."""
    from synthkit.running.verbs import train as verb

    request = verb.ask(
        plugin,
        [Path(path) for path in datasets],
        validate_on=_path(validate_on),
        pretrained=_path(pretrained),
        initial=_path(initial),
        preset=preset,
        params=params,
        listener=_heard(options.get("listener")),
    )
    arguments: dict[str, Any] = {"plugin": plugin, "datasets": list(datasets), "validate_on": validate_on}
    arguments |= {"pretrained": pretrained, "from": initial, "preset": preset, "params": params, "out": out}
    return _run(request, "train", arguments, options)


def import_checkpoint(
    plugin: str,
    file: AnyPath,
    out: AnyPath,
    *,
    contrasts: Sequence[str],
    labels: str | Sequence[int] = "brats2018",
    params: Mapping[str, Any] | None = None,
    **options: Unpack[RunKeywords],
) -> Done:
    """Import a generator that was trained elsewhere; see :func:`synthkit.running.verbs.import_checkpoint.ask`."""
    from synthkit.running.verbs import import_checkpoint as verb

    text = labels if isinstance(labels, str) else ",".join(map(str, labels))
    request = verb.ask(plugin, Path(file), contrasts=contrasts, labels=text, params=params)
    arguments = {"plugin": plugin, "file": file, "contrasts": list(contrasts), "labels": text, "params": params}
    return _run(request, "import_checkpoint", {**arguments, "out": out}, options)


def generate(
    model: AnyPath,
    seeds: str | Iterable[int],
    out: AnyPath,
    *,
    shard: str | None = None,
    snapshot: str | None = None,
    labels: AnyPath | None = None,
    conditions: Mapping[str, Any] | None = None,
    params: Mapping[str, Any] | None = None,
    **options: Unpack[RunKeywords],
) -> Done:
    """Draw synthetic samples, one per seed; see :func:`synthkit.running.verbs.generate.ask`."""
    from synthkit.running.verbs import generate as verb
    from synthkit.running.verbs.seeds import seeds_as_text

    arguments: dict[str, Any] = {"seeds": seeds_as_text(seeds), "shard": shard, "snapshot": snapshot}
    arguments |= {"labels": _path(labels), "conditions": conditions, "params": params}
    request = verb.ask(Path(model), **arguments, listener=_heard(options.get("listener")))
    return _run(request, "generate", {"model": model, **arguments, "out": out}, options)


def segment(
    model: AnyPath,
    subjects: AnyPath,
    out: AnyPath,
    *,
    only: Sequence[str] | None = None,
    include_training_subjects: bool = False,
    keep_probabilities: bool = False,
    resample: bool = False,
    names: Sequence[str] = (),
    params: Mapping[str, Any] | None = None,
    **options: Unpack[RunKeywords],
) -> Done:
    """Segment subjects into NIfTI labels; see :func:`synthkit.running.verbs.segment.ask`."""
    from synthkit.running.verbs import segment as verb

    flags = {"include_training_subjects": include_training_subjects, "keep_probabilities": keep_probabilities}
    flags["resample"] = resample
    request = verb.ask(
        Path(model),
        Path(subjects),
        only=only,
        names=names,
        params=params,
        listener=_heard(options.get("listener")),
        **flags,
    )
    arguments = {"model": model, "subjects": subjects, "only": None if only is None else list(only), **flags}
    return _run(request, "segment", {**arguments, "names": list(names), "params": params, "out": out}, options)


# ------------------------------------------------------------------------------------------------------ evaluation


def evaluate(
    metrics: Sequence[str],
    out: AnyPath,
    *,
    reference: AnyPath | None = None,
    prediction: AnyPath | None = None,
    real: AnyPath | None = None,
    synthetic: AnyPath | None = None,
    features: AnyPath | None = None,
    kept: AnyPath | None = None,
    keep: bool = False,
    protocol: str | None = None,
    include_training_subjects: bool = False,
    prediction_grid: str = "own",
    names: Sequence[str] = (),
    labels: str | None = None,
    prediction_labels: str | None = None,
    params: Mapping[str, Any] | None = None,
    **options: Unpack[RunKeywords],
) -> list[Done]:
    """Score predictions or synthetic samples; see :func:`synthkit.running.verbs.evaluate.ask`.

    One run for all metrics of a package, in ``out``; those of several in folders below it."""
    from synthkit.running.verbs import evaluate as verb

    paths = {"reference": reference, "prediction": prediction, "real": real, "synthetic": synthetic}
    paths |= {"features": features, "kept": kept}
    requests = verb.ask(
        metrics,
        {role: _path(path) for role, path in paths.items()},
        protocol=protocol,
        keep=keep,
        include_training_subjects=include_training_subjects,
        prediction_grid=prediction_grid,
        names=names,
        labels=labels,
        prediction_labels=prediction_labels,
        params=params,
        listener=_heard(options.get("listener")),
    )
    arguments: dict[str, Any] = {"metrics": list(metrics), **paths, "protocol": protocol, "keep": keep}
    arguments |= {"include_training_subjects": include_training_subjects, "names": list(names)}
    arguments |= {"prediction_grid": None if prediction_grid == "own" else prediction_grid, "labels": labels}
    arguments |= {"prediction_labels": prediction_labels, "params": params, "out": out}
    return [_run(request, "evaluate", arguments, options) for request in requests]


def audit_memorization(
    real: AnyPath,
    synthetic: AnyPath,
    out: AnyPath,
    *,
    holdout: AnyPath | None = None,
    control: AnyPath | None = None,
    policy: AnyPath | None = None,
    features: AnyPath | None = None,
    metric: str = "memorization",
    also_train: Sequence[AnyPath] = (),
    accept_other_training_set: bool = False,
    params: Mapping[str, Any] | None = None,
    **options: Unpack[RunKeywords],
) -> Done:
    """Find copies of training images; see :func:`synthkit.running.verbs.audit_memorization.ask`.

    The verdict is ``result["verdict"]``, whatever it is; the run's page is :data:`AUDIT_PAGE`.
    """
    from synthkit.running.verbs import audit_memorization as verb

    request = verb.ask(
        Path(real), Path(synthetic), holdout=_path(holdout), control=_path(control), policy=_path(policy),
        features=_path(features), metric=metric, also_train=[Path(path) for path in also_train],
        accept_other_training_set=accept_other_training_set, params=params, listener=_heard(options.get("listener")),
    )  # fmt: skip
    arguments: dict[str, Any] = {"real": real, "synthetic": synthetic, "holdout": holdout, "policy": policy}
    arguments |= {"control": control, "features": features, "metric": None if metric == verb.DEFAULT_METRIC else metric}
    arguments |= {"also_train": list(also_train), "accept_other_training_set": accept_other_training_set}
    done = _run(request, "audit_memorization", {**arguments, "params": params, "out": out}, options)
    audit_page(done)
    return done


def audit_page(done: Done) -> Path:
    """Write the page of an audit into its run folder, and return its path. It shows real images: for internal use."""
    from synthkit.report.report import write_audit_page

    page = done.run.path / AUDIT_PAGE
    write_audit_page(done.run.path, page)
    return page


def report(
    runs: Sequence[AnyPath],
    out: AnyPath = "report.html",
    *,
    title: str = "synthkit report",
    listener: Listener | None = None,
) -> dict[str, Any]:
    """One self-contained HTML file from runs (:func:`synthkit.report.report.write_report`); returns what is in it."""
    from synthkit.report.report import write_report

    with _heard(listener).progress("report"):
        return write_report([Path(path) for path in runs], Path(out), title=title)


def _run(request: Request, function: str, arguments: Mapping[str, Any], options: RunKeywords) -> Done:
    """Carry a request out; with the options, ``arguments`` are those of the command that a user would type."""
    from synthkit.running.commands import command_of
    from synthkit.running.launch import RunOptions, carry_out

    shared: dict[str, Any] = {name: value for name, value in options.items() if name != "listener"}
    if not request.uses_gpu:  # its command has no such option
        shared.pop("gpus", None)
    request.job.command = command_of(function, {**arguments, **shared})
    return carry_out(request, Path(arguments["out"]), RunOptions(**shared), _heard(options.get("listener")))


def _path(path: AnyPath | None) -> Path | None:
    return None if path is None else Path(path)


def _heard(listener: Listener | None) -> Listener:
    from synthkit.running.listening import LoggingListener

    return listener or LoggingListener()
