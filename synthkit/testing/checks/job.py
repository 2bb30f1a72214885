"""What a plugin promises when it runs as a user runs it: a job in a run folder, through a backend."""

from __future__ import annotations

from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from synthkit.contract import SLICE_ROLES, MetricDeclaration
from synthkit.data.dataset import Dataset
from synthkit.running import backends
from synthkit.running.run import LOG, Input, Job, Resources, Run, Verb, create_run, folder_digest
from synthkit.running.verbs.execute import execute
from synthkit.schemes import BRATS
from synthkit.testing import data
from synthkit.testing.bench import CheckSkippedError, PluginUnderTest, require, require_same
from synthkit.testing.checks.registry import check

_SEEDS = "0-5"
_TIMEOUT_SECONDS = 600.0
_SUBJECTS = ("s0", "s1")
_SHAPE = (240, 240, 3)


def _run(plugin: PluginUnderTest, job: Job, backend: str) -> tuple[Run, dict[str, Any]]:
    """Make the run folder and execute it; fails the check unless the run succeeds and its result is complete."""
    run = create_run(plugin.folder() / "run", job)
    if backend == backends.IN_PROCESS:
        with (run.path / LOG).open("w", encoding="utf-8") as log, redirect_stdout(log), redirect_stderr(log):
            result = execute(run.path, plugin.registry)
    else:
        engine = backends.get(backend)
        engine.check(plugin.declaration, job)
        result = engine.run(run, plugin.declaration, lambda event: None)
    require(
        result.get("status") == "succeeded",
        f"{job.verb} ends on {backend} with {result.get('exit_code')}: "
        f"{(result.get('error') or {}).get('what')} {(result.get('error') or {}).get('why')}",
    )
    require(run.result() == result, "result.json is not what the backend returned")
    for key in ("started", "seconds", "versions", "machine", "outputs"):
        require(key in result, f"result.json has no {key}")
    for name, output in result["outputs"].items():
        require(str(output.get("digest", "")).startswith("sha256:"), f"the output {name} has no digest")
    return run, result


def _job(plugin: PluginUnderTest, verb: Verb, inputs: dict[str, Input], **options: Any) -> Job:
    return Job(
        verb=verb,
        plugins=(plugin.declaration.name,),
        params=plugin.quick,
        inputs=inputs,
        options=options,
        resources=Resources(timeout_seconds=_TIMEOUT_SECONDS),
        command=("synthkit", "plugins", "check", plugin.declaration.name),
    )


def _backend(plugin: PluginUnderTest) -> str:
    if plugin.backend is None:
        raise CheckSkippedError("no backend was given")
    return plugin.backend


def _here(plugin: PluginUnderTest, backend: str) -> str:
    """What to compare with: this process, or the backend again if the method cannot be imported here."""
    try:
        return backends.IN_PROCESS if plugin.module else backend
    except CheckSkippedError:
        return backend


def _trained(plugin: PluginUnderTest, backend: str) -> Run:
    dataset = plugin.dataset()
    train = {"data": Input(kind="dataset", source=dataset.path, digest=dataset.digest)}
    run, result = _run(plugin, _job(plugin, "train", train), backend)
    digest = result["outputs"]["checkpoint"]["digest"]
    require(digest == folder_digest(run.checkpoint), "the digest of the checkpoint in result.json is another one")
    return run


def _checkpoint(run: Run) -> Input:
    return Input(kind="checkpoint", source=run.checkpoint, digest=folder_digest(run.checkpoint))


@check("generator", stage="job")
def generator_jobs_agree(plugin: PluginUnderTest) -> None:
    """Jobs of train and generate succeed, and one checkpoint makes the same samples in the backend and in this process.

    Where the method cannot be imported here, in two runs of the backend with seeds of another order. One that takes
    label maps is asked for those of the training data.
    """
    backend = _backend(plugin)
    inputs = {"checkpoint": _checkpoint(_trained(plugin, backend))}
    if getattr(plugin.declaration, "label_maps", False):
        dataset = plugin.dataset()
        inputs["labels"] = Input(kind="dataset", source=dataset.path, digest=dataset.digest)
    run, result = _run(plugin, _job(plugin, "generate", inputs, seeds=_SEEDS), backend)
    made = Dataset(run.dataset)
    require(result["outputs"]["dataset"]["digest"] == made.digest, "the digest of the dataset is another one")
    here = _here(plugin, backend)
    seeds = _SEEDS if here == backends.IN_PROCESS else "5,4,3,2,1,0"
    again = Dataset(_run(plugin, _job(plugin, "generate", inputs, seeds=seeds), here)[0].dataset)
    require_same(_samples(made), _samples(again), f"between {backend} and {here}")


def _samples(dataset: Dataset) -> list[tuple[Any, ...]]:
    order = np.argsort([row.seed or 0 for row in dataset.samples])
    return list(zip(*dataset.read(order), strict=True))


@check("segmenter", stage="job")
def segmenter_jobs_agree(plugin: PluginUnderTest) -> None:
    """Jobs of train and segment succeed, and one checkpoint gives the same labels in both places."""
    backend = _backend(plugin)
    inputs = {
        "checkpoint": _checkpoint(_trained(plugin, backend)),
        "subjects": Input(kind="subjects", source=_subjects()),
    }
    run, result = _run(plugin, _job(plugin, "segment", inputs, subjects=list(_SUBJECTS)), backend)
    digest = result["outputs"]["predictions"]["digest"]
    require(digest == folder_digest(run.predictions), "the digest of the predictions is another one")
    here = _here(plugin, backend)
    again = _run(plugin, _job(plugin, "segment", inputs, subjects=list(_SUBJECTS)), here)[0]
    require_same(_labels(run), _labels(again), f"between {backend} and {here}")


def _labels(run: Run) -> list[tuple[Any, ...]]:
    from synthkit.data.label_folders import LabelFolder

    volumes = LabelFolder(run.predictions)
    return [(volumes.labels(subject)[0],) for subject in _SUBJECTS]


@check("metric", stage="job")
def metric_jobs_agree(plugin: PluginUnderTest) -> None:
    """A job succeeds, and gives the same scores in the backend and in this process."""
    backend = _backend(plugin)
    declared = plugin.declaration
    inputs: dict[str, Input] = {}
    for role in declared.roles if isinstance(declared, MetricDeclaration) else ():
        if role in SLICE_ROLES:
            dataset = data.synthetic_dataset(4, 32) if role == "synthetic" else data.real_dataset(4, 32)
            splits = {"train": ("train",), "holdout": ("holdout",)}.get(role, ())
            inputs[role] = Input(kind="dataset", source=dataset.path, splits=splits, digest=dataset.digest)
        else:
            inputs[role] = Input(kind="labels", source=_label_folder(role))
    _, result = _run(plugin, _job(plugin, "evaluate", inputs), backend)
    require(result["scores"], "the job gives no score")
    here = _here(plugin, backend)
    _, again = _run(plugin, _job(plugin, "evaluate", inputs), here)
    require(len(result["scores"]) == len(again["scores"]), f"{backend} and {here} give other scores")
    for a, b in zip(result["scores"], again["scores"], strict=True):
        same = a == b if plugin.bitwise else _close(a, b)
        require(same, f"{backend} gives {a}, {here} {b}")


def _close(a: dict[str, Any], b: dict[str, Any]) -> bool:
    if (a["name"], a["of"], a["value"] is None) != (b["name"], b["of"], b["value"] is None):
        return False
    return a["value"] is None or bool(np.isclose(a["value"], b["value"], rtol=1e-4, atol=1e-6))


# -------------------------------------------------------------------------------------------------- NIfTI inputs


def _subjects() -> Path:
    """Two subjects in BraTS naming, an elliptic head with a tumour, in a few slices of 1 mm."""
    folder = data.scratch() / "subjects"
    if not folder.exists():
        x, y = (axis / 240 - 0.5 for axis in np.mgrid[:240, :240])
        for number, subject in enumerate(_SUBJECTS):
            head = (x / 0.38) ** 2 + (y / 0.42) ** 2 < 1
            distance = np.hypot(x - 0.05 * number, y + 0.05)
            labels = np.select([distance < 0.05, distance < 0.1, distance < 0.15], [1, 4, 2], 0)
            greys = {
                name: np.where(head, 500 + np.rint(50 * x), 0) + 100 * c * (labels > 0)
                for c, name in enumerate(BRATS.contrast_names)
            }
            for name, plane in {**greys, "seg": labels}.items():
                _write_nifti(folder / subject / f"{subject}_{name}.nii.gz", plane)
    return folder


def _label_folder(role: str) -> Path:
    """Two label volumes side by side; the prediction lies two voxels off."""
    folder = data.scratch() / role
    if not folder.exists():
        for number, subject in enumerate(_SUBJECTS):
            labels = np.zeros(_SHAPE[:2], np.uint8)
            for value, half in ((2, 20), (4, 12), (1, 6)):
                labels[100 - half : 100 + half, 110 - half - number : 110 + half] = value
            _write_nifti(folder / f"{subject}.nii.gz", np.roll(labels, 2 if role == "prediction" else 0, axis=0))
    return folder


def _write_nifti(path: Path, plane: Any) -> None:
    import nibabel

    path.parent.mkdir(parents=True, exist_ok=True)
    volume = np.repeat(np.asarray(plane, dtype=np.int16)[..., None], _SHAPE[2], axis=2)
    image = nibabel.Nifti1Image(volume, np.diag([-1.0, -1.0, 1.0, 1.0]))  # type: ignore[no-untyped-call]
    nibabel.save(image, path)
