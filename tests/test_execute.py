"""Every verb through ``execute``, with toys; and every way in which a run can fail ends in a result with its code."""

from __future__ import annotations

import csv
import errno
import itertools
import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from synthkit.contract import Declaration, Row, Score
from synthkit.data.dataset import Dataset
from synthkit.data.label_folders import LabelFolder
from synthkit.data.lineage import datasets_behind, was_trained_on
from synthkit.data.writer import DatasetWriter
from synthkit.errors import ExitCode
from synthkit.registry import provenance
from synthkit.registry.registry import Registry
from synthkit.running.run import Input, Job, Resources, Run, Verb, create_run, file_digest, folder_digest
from synthkit.running.verbs.execute import execute
from synthkit.schemes import BRATS
from synthkit.testing import data
from synthkit.testing.toys import GENERATOR, SEGMENTER, SLICE_METRIC, VOLUME_METRIC, generator, segmenter, volume_metric

TOYS = {"generator": GENERATOR, "segmenter": SEGMENTER, "metric": SLICE_METRIC}
REGISTRY = Registry({toy.name: toy for toy in (GENERATOR, SEGMENTER, SLICE_METRIC, VOLUME_METRIC)})


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # execute sets it; this sets it back


@pytest.fixture
def method(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Registry]:
    """A registry in which one toy has some functions replaced."""

    def make(toy: Declaration, **functions: Callable[..., Any]) -> Registry:
        right = {"toy-generator": generator, "toy-segmenter": segmenter, "toy-overlap": volume_metric}.get(toy.name)
        module = SimpleNamespace(**{**(vars(right) if right else {}), **functions})
        monkeypatch.setitem(__import__("sys").modules, "method_for_test", module)
        changed = replace(toy, module="method_for_test")
        return Registry({**REGISTRY.declarations, toy.name: changed})

    return make


def job(verb: Verb, plugin: str, inputs: dict[str, Input], **changes: Any) -> Job:
    return Job(verb=verb, plugins=(plugin,), inputs=inputs, **changes)


def real(**changes: Any) -> Input:
    dataset = data.real_dataset(4, 32)
    return Input(**{"kind": "dataset", "source": dataset.path, "digest": dataset.digest, **changes})


def train(path: Path, plugin: str = "toy-generator", registry: Registry = REGISTRY, **changes: Any) -> Run:
    run = create_run(path, job("train", plugin, {"data": real()}, **changes))
    execute(run.path, registry)
    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Input]:
    """A checkpoint of a toy as an input."""
    made: dict[str, Input] = {}

    def make(plugin: str) -> Input:
        if plugin not in made:
            run = train(tmp_path_factory.mktemp(plugin) / "run", plugin, params={"passes": 2})
            assert (run.result() or {})["status"] == "succeeded", run.result()
            made[plugin] = Input(kind="checkpoint", source=run.checkpoint, digest=folder_digest(run.checkpoint))
        return made[plugin]

    return make


def failed(run: Run, code: ExitCode, *words: str) -> dict[str, Any]:
    """The result of a failed run, checked to be whole and to say what it should."""
    result = run.result()
    assert result is not None
    assert (result["status"], result["exit_code"]) == ("failed", code), result["error"]
    assert result["error"]["exit_code"] == code
    text = " ".join(str(result["error"][key]) for key in ("what", "why", "fix"))
    for word in words:
        assert word in text, text
    assert result["seconds"] >= 0 and result["versions"]["python"] and result["machine"]["cores"]
    return result


# ------------------------------------------------------------------------------------------------------- train


def test_train_leaves_a_described_checkpoint(tmp_path: Path) -> None:
    run = train(tmp_path / "run", params={"passes": 2})
    result = run.result()
    assert result is not None
    assert (result["status"], result["exit_code"], result["error"]) == ("succeeded", 0, None)
    assert result["outputs"] == {"checkpoint": {"kind": "checkpoint", "digest": folder_digest(run.checkpoint)}}
    described = json.loads((run.checkpoint / "synthkit.json").read_text())
    dataset = data.real_dataset(4, 32)
    assert described["plugin"] == "toy-generator" and described["kind"] == "generator"
    assert described["params"] == {"passes": 2, "seed": 0}
    assert described["contrasts"] == list(BRATS.contrast_names) and described["size"] == [32, 32]
    assert described["labels"] == BRATS.label_values
    assert described["training_datasets"] == [dataset.training_entry()]
    events = [json.loads(line) for line in (run.path / "events.jsonl").read_text().splitlines()]
    assert [e["step"] for e in events if e["event"] == "progress"][-1] == 2


def test_holdout_is_never_trained_on(tmp_path: Path, method: Callable[..., Registry]) -> None:
    seen: list[Any] = []

    def spy(samples: Any, checkpoint: Path, params: Any) -> None:
        seen.extend(samples.samples)
        generator.train(samples, checkpoint, params)

    train(tmp_path / "run", registry=method(GENERATOR, train=spy))
    assert len(seen) == 24
    assert {row.split for row in seen} == {"train"}


def test_several_datasets_are_joined(tmp_path: Path) -> None:
    synthetic = data.synthetic_dataset(4, 32)
    more = Input(kind="dataset", source=synthetic.path, digest=synthetic.digest)
    run = create_run(tmp_path / "run", job("train", "toy-segmenter", {"a": real(), "b": more}))
    assert execute(run.path, REGISTRY)["status"] == "succeeded"
    described = json.loads((run.checkpoint / "synthkit.json").read_text())
    assert [d["n_samples"] for d in described["training_datasets"]] == [24, 16]


def test_a_training_is_given_what_it_declares_to_take(tmp_path: Path, method: Callable[..., Registry]) -> None:
    given: dict[str, Any] = {}

    def spy(samples: Any, checkpoint: Path, params: Any, **optional: Any) -> None:
        given.update(optional, data=samples)
        segmenter.train(samples, checkpoint, params)

    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"weights")
    synthetic = data.synthetic_dataset(4, 32)
    inputs = {
        "data": Input("dataset", synthetic.path, digest=synthetic.digest),
        "validation": real(),
        "pretrained": Input("file", weights, digest=file_digest(weights)),
    }
    run = create_run(tmp_path / "run", job("train", "toy-segmenter", inputs))
    assert execute(run.path, method(SEGMENTER, train=spy))["status"] == "succeeded"
    assert {row.split for row in given["data"].samples} == {"synthetic"}
    assert {row.split for row in given["validation"].samples} == {"train"}  # its holdout stays unseen
    assert given["pretrained"].read_bytes() == b"weights"
    described = json.loads((run.checkpoint / "synthkit.json").read_text())
    assert [entry["kind"] for entry in described["training_datasets"]] == ["synthetic"]
    assert [entry["kind"] for entry in described["validation_datasets"]] == ["real"]
    seen = given["validation"].samples[0].subject
    assert was_trained_on(seen, datasets_behind(described))
    weights.write_bytes(b"others")
    execute(run.path, method(SEGMENTER, train=spy))
    failed(run, ExitCode.INVALID_DATA, "given as pretrained has changed")


def test_nothing_to_train_on(tmp_path: Path) -> None:
    empty = data.constant_dataset(2, 4, 32, "holdout")
    run = create_run(tmp_path / "run", job("train", "toy-generator", {"data": Input("dataset", empty.path)}))
    execute(run.path, REGISTRY)
    failed(run, ExitCode.INVALID_DATA, "Every sample is held out")


def test_size_that_a_plugin_does_not_take(tmp_path: Path) -> None:
    small = Registry({"toy-generator": replace(GENERATOR, minimum_size=64)})
    failed(train(tmp_path / "a", registry=small), ExitCode.INVALID_DATA, "32 x 32", "from 64 to 256")
    odd = Registry({"toy-segmenter": replace(SEGMENTER, size_multiple=24)})
    failed(train(tmp_path / "b", "toy-segmenter", odd), ExitCode.INVALID_DATA, "multiples of 24")


def test_checkpoint_that_is_missing_is_the_plugins_fault(tmp_path: Path, method: Callable[..., Registry]) -> None:
    registry = method(GENERATOR, train=lambda samples, checkpoint, params: None)
    failed(train(tmp_path / "run", registry=registry), ExitCode.PLUGIN, "left no checkpoint")


# ----------------------------------------------------------------------------------------------------- generate


def generate(path: Path, checkpoint: Input, registry: Registry = REGISTRY, seeds: str = "0-4,40", **how: bool) -> Run:
    run = create_run(
        path, job("generate", "toy-generator", {"checkpoint": checkpoint}, options={"seeds": seeds}), **how
    )
    execute(run.path, registry)
    return run


def test_generate_makes_one_sample_a_seed(tmp_path: Path, trained: Callable[[str], Input]) -> None:
    checkpoint = trained("toy-generator")
    run = generate(tmp_path / "run", checkpoint)
    made = Dataset(run.path)
    assert [row.seed for row in made.samples] == [0, 1, 2, 3, 4, 40]
    assert {row.split for row in made.samples} == {"synthetic"}
    assert checkpoint.source is not None
    image, labels = next(generator.generate(checkpoint.source, [40], None))
    images, label_maps = made.read([5])
    assert np.array_equal(images[0], image) and np.array_equal(label_maps[0], labels)
    result = run.result()
    assert result is not None
    assert result["outputs"]["dataset"] == {"kind": "dataset", "digest": made.digest, "n_samples": 6}
    assert made.kind == "synthetic"
    assert made.lineage["generator"] == "toy-generator"
    assert made.lineage["checkpoint_digest"] == checkpoint.digest
    trained_on = made.lineage["training_datasets"]
    everybody = data.real_dataset(4, 32).subjects
    assert [name for name in everybody if was_trained_on(name, trained_on)] == [f"s{i}" for i in range(6)]


def test_generate_that_dies_half_way_goes_on_to_the_same_dataset(
    tmp_path: Path, trained: Callable[[str], Input], method: Callable[..., Registry]
) -> None:
    asked: list[list[int]] = []

    def dying(checkpoint: Path, seeds: Any, params: Any) -> Iterator[Any]:
        seeds = list(seeds)
        asked.append(seeds)
        for number, sample in enumerate(generator.generate(checkpoint, seeds, params)):
            if number == 37:
                raise RuntimeError("the power went")
            yield sample

    checkpoint, seeds = trained("toy-generator"), "0-59"
    whole = generate(tmp_path / "whole", checkpoint, seeds=seeds)
    registry = method(GENERATOR, generate=dying)
    run = generate(tmp_path / "run", checkpoint, registry, seeds)
    failed(run, ExitCode.PLUGIN, "RuntimeError", "the power went", "test_execute.py")
    n_kept = json.loads((run.dataset / "dataset.json").read_text())["n_samples"]
    assert 16 <= n_kept <= 37
    again = generate(tmp_path / "run", checkpoint, registry, seeds, resume=True)
    assert (again.result() or {})["status"] == "succeeded", again.result()
    assert asked == [list(range(60)), list(range(n_kept, 60))]
    assert Dataset(again.path).digest == Dataset(whole.path).digest
    assert folder_digest(again.dataset) == folder_digest(whole.dataset)
    # Once more, with nothing left to do.
    assert (generate(tmp_path / "run", checkpoint, registry, seeds, resume=True).result() or {})[
        "status"
    ] == "succeeded"
    assert len(asked) == 2


def test_method_may_yield_lists_and_read_only_arrays(
    tmp_path: Path, trained: Callable[[str], Input], method: Callable[..., Registry]
) -> None:
    def lists(checkpoint: Path, seeds: Any, params: Any) -> Any:
        return list(generator.generate(checkpoint, seeds, params))

    run = generate(tmp_path / "run", trained("toy-generator"), method(GENERATOR, generate=lists))
    assert (run.result() or {})["status"] == "succeeded"


def _with(change: Callable[[Any, Any], Any]) -> Callable[..., Iterator[Any]]:
    return lambda checkpoint, seeds, params: (change(*s) for s in generator.generate(checkpoint, seeds, params))


WRONG_SAMPLES: dict[str, tuple[Callable[..., Any], str]] = {
    "floats": (_with(lambda i, lab: (i / 255, lab)), "does not fit"),
    "no labels": (_with(lambda i, lab: i), "made a ndarray where a sample belongs"),
    "other size": (_with(lambda i, lab: (i[:, :16], lab[:16])), "does not fit"),
    "other contrasts": (_with(lambda i, lab: (i[:3], lab)), "does not fit"),
    "unknown label": (_with(lambda i, lab: (i, lab * 3)), "does not fit"),
    "too few": (lambda c, s, p: itertools.islice(generator.generate(c, s, p), 5), "5 samples for 6 seeds"),
    "one too many": (lambda c, s, p: generator.generate(c, [*s, 99], p), "more samples than 6"),
    "for ever": (lambda c, s, p: generator.generate(c, itertools.count(), p), "more samples than 6"),
    "nothing": (lambda c, s, p: None, "toy-generator"),
    "no pairs": (lambda c, s, p: iter([None] * 6), "made a NoneType where a sample belongs"),
}


@pytest.mark.parametrize("name", WRONG_SAMPLES)
def test_wrong_samples_are_the_plugins_fault(
    name: str, tmp_path: Path, trained: Callable[[str], Input], method: Callable[..., Registry]
) -> None:
    wrong, words = WRONG_SAMPLES[name]
    run = generate(tmp_path / "run", trained("toy-generator"), method(GENERATOR, generate=wrong))
    failed(run, ExitCode.PLUGIN, words)
    with pytest.raises(Exception, match="not complete"):
        Dataset(run.path)


def test_seeds_are_checked(tmp_path: Path, trained: Callable[[str], Input]) -> None:
    failed(generate(tmp_path / "run", trained("toy-generator"), seeds="5-1"), ExitCode.USAGE, "5-1")


# ------------------------------------------------------------------------------------------------------ segment


def segment(
    path: Path, subjects: Path, wanted: list[str], checkpoint: Input, registry: Registry = REGISTRY, **options: Any
) -> Run:
    inputs = {"checkpoint": checkpoint, "subjects": Input("subjects", subjects)}
    run = create_run(
        path, job("segment", "toy-segmenter", inputs, options={"subjects": wanted, **options}), resume=True
    )
    execute(run.path, registry)
    return run


@pytest.fixture
def subjects(tmp_path: Path, make_subject: Callable[..., Path]) -> Path:
    for name in ("s0", "p1", "p2"):
        make_subject(tmp_path / "subjects", name, shape=(48, 40, 5))
    return tmp_path / "subjects"


def test_segment_writes_labels_on_the_subjects_own_grid(
    tmp_path: Path, subjects: Path, trained: Callable[[str], Input]
) -> None:
    run = segment(tmp_path / "run", subjects, ["s0", "p1"], trained("toy-segmenter"))
    result = run.result()
    assert result is not None and result["status"] == "succeeded", result
    made = LabelFolder(run.predictions)
    assert made.subjects == ("p1", "s0")
    labels, spacing = made.labels("p1")
    assert labels.shape == (48, 40, 5) and spacing == (1.0, 1.0, 1.0)
    assert labels.any() and not labels[0].any()
    described = json.loads((run.predictions / "predictions.json").read_text())
    assert described["seen_in_training"] == ["s0"]
    assert result["outputs"]["predictions"]["digest"] == folder_digest(run.predictions)


def test_segment_refuses_intensities_that_its_models_rule_does_not_read(
    tmp_path: Path, subjects: Path, make_subject: Callable[..., Path], trained: Callable[[str], Input]
) -> None:
    scores = np.zeros((48, 40, 5), np.float32)
    scores[4:-4, 4:-4] = np.random.default_rng(0).normal(size=(40, 32, 5))
    make_subject(subjects, "z", shape=scores.shape, **dict.fromkeys(BRATS.contrast_names, scores))
    run = segment(tmp_path / "run", subjects, ["p1", "z"], trained("toy-segmenter"))
    failed(run, ExitCode.INVALID_DATA, "Subject z", "z-scores", "made by --intensity max", "--only")
    assert not (run.predictions / "z.nii.gz").exists()
    only = segment(tmp_path / "only", subjects, ["p1"], trained("toy-segmenter"))  # what --only p1 asks for
    assert only.result()["status"] == "succeeded", only.result()  # type: ignore[index]

    make_subject(subjects, "m", shape=scores.shape, **dict.fromkeys(BRATS.contrast_names, np.where(scores, scores, -9)))
    moved = segment(tmp_path / "moved", subjects, ["m"], trained("toy-segmenter"))
    assert moved.result()["status"] == "succeeded"  # type: ignore[index]
    assert (
        "m: t1, t1ce, t2, flair: z-scores, background moved to 0 from -9" in (moved.path / "events.jsonl").read_text()
    )


def test_segment_finds_files_by_the_names_that_the_job_gives(
    tmp_path: Path, subjects: Path, trained: Callable[[str], Input]
) -> None:
    for path in (subjects / "p1").glob("*_t1ce.nii.gz"):
        path.rename(path.with_name("p1_gado.nii.gz"))
    names = ["t1ce=_gado"]
    run = segment(tmp_path / "run", subjects, ["p1"], trained("toy-segmenter"), names=names)
    assert run.result()["status"] == "succeeded", run.result()  # type: ignore[index]
    without = segment(tmp_path / "without", subjects, ["p1"], trained("toy-segmenter"))
    failed(without, ExitCode.INVALID_DATA, "1 of 1 subjects cannot be used")


def half_sure(checkpoint: Path, images: Any, params: Any) -> Iterator[tuple[Any, Any]]:
    """Labels of the toy; the label that is chosen has 200 of 255, background the rest."""
    for label_map in segmenter.segment(checkpoint, images, params):
        probabilities = np.zeros((4, *label_map.shape), np.uint8)
        for number, value in enumerate((0, 1, 2, 4)):
            probabilities[number][label_map == value] = 200
        probabilities[0] = 255 - probabilities[1:].sum(0)
        yield label_map, probabilities


def test_probabilities_are_kept_in_the_subjects_grid(
    tmp_path: Path, subjects: Path, trained: Callable[[str], Input], method: Callable[..., Registry]
) -> None:
    registry = method(SEGMENTER, segment_with_probabilities=half_sure)
    plain = segment(tmp_path / "plain", subjects, ["s0"], trained("toy-segmenter"))
    run = segment(tmp_path / "run", subjects, ["s0"], trained("toy-segmenter"), registry, keep_probabilities=True)
    result = run.result()
    assert result is not None and result["status"] == "succeeded", result
    assert folder_digest(run.predictions) == folder_digest(plain.predictions)
    assert result["outputs"]["probabilities"]["digest"] == folder_digest(run.probabilities)
    labels = nib.load(run.predictions / "s0.nii.gz")
    assert {path.name for path in run.probabilities.iterdir()} == {"s0_NCR.nii.gz", "s0_ED.nii.gz", "s0_ET.nii.gz"}
    for name, value in (("NCR", 1), ("ED", 2), ("ET", 4)):
        image = nib.load(run.probabilities / f"s0_{name}.nii.gz")
        np.testing.assert_array_equal(image.affine, labels.affine)
        np.testing.assert_allclose(image.get_fdata(), (labels.get_fdata() == value) * 200 / 255, atol=1e-6)
    assert (labels.get_fdata() > 0).any()


def test_probabilities_that_do_not_fit_are_the_plugins_fault(
    tmp_path: Path, subjects: Path, trained: Callable[[str], Input], method: Callable[..., Registry]
) -> None:
    registry = method(SEGMENTER, segment_with_probabilities=segmenter.segment)
    run = segment(tmp_path / "run", subjects, ["s0"], trained("toy-segmenter"), registry, keep_probabilities=True)
    failed(run, ExitCode.PLUGIN, "probabilities that do not fit")


def test_segment_that_dies_half_way_goes_on(
    tmp_path: Path, subjects: Path, trained: Callable[[str], Input], method: Callable[..., Registry]
) -> None:
    def dying(checkpoint: Path, images: Any, params: Any) -> Iterator[Any]:
        yield from itertools.islice(segmenter.segment(checkpoint, images, params), 7)
        raise RuntimeError("the power went")

    names = ["s0", "p1", "p2"]
    run = segment(tmp_path / "run", subjects, names, trained("toy-segmenter"), method(SEGMENTER, segment=dying))
    failed(run, ExitCode.PLUGIN, "the power went")
    assert [p.name for p in run.predictions.glob("*.nii.gz")] == ["s0.nii.gz"]
    kept = file_digest(run.predictions / "s0.nii.gz")
    again = segment(tmp_path / "run", subjects, names, trained("toy-segmenter"))
    whole = segment(tmp_path / "whole", subjects, names, trained("toy-segmenter"))
    assert file_digest(again.predictions / "s0.nii.gz") == kept
    assert folder_digest(again.predictions) == folder_digest(whole.predictions)


WRONG_LABELS: dict[str, tuple[Callable[..., Any], str]] = {
    "too few": (lambda c, i, p: itertools.islice(segmenter.segment(c, i, p), 8), "fewer"),
    "too many": (lambda c, i, p: itertools.chain(segmenter.segment(c, i, p), [np.zeros((32, 32), np.uint8)]), "more"),
    "other size": (lambda c, i, p: (lab[:16] for lab in segmenter.segment(c, i, p)), "do not fit"),
    "floats": (lambda c, i, p: (lab / 1 for lab in segmenter.segment(c, i, p)), "do not fit"),
    "unknown label": (lambda c, i, p: (lab // 4 * 3 for lab in segmenter.segment(c, i, p)), "gave the label [3]"),
}


@pytest.mark.parametrize("name", WRONG_LABELS)
def test_wrong_labels_are_the_plugins_fault(
    name: str, tmp_path: Path, subjects: Path, trained: Callable[[str], Input], method: Callable[..., Registry]
) -> None:
    wrong, words = WRONG_LABELS[name]
    checkpoint = trained("toy-segmenter")
    run = segment(tmp_path / "run", subjects, ["s0", "p1"], checkpoint, method(SEGMENTER, segment=wrong))
    failed(run, ExitCode.PLUGIN, words, "toy-segmenter")


# ----------------------------------------------------------------------------------------------------- evaluate


def label_folder(path: Path, shift: int) -> Input:
    import nibabel

    path.mkdir()
    for name in ("a", "b"):
        labels = np.zeros((10, 10, 4), np.uint8)
        if name == "a":
            labels[2 + shift : 6 + shift, 2:6, :2] = 2
        nibabel.save(nibabel.Nifti1Image(labels, np.eye(4)), path / f"{name}_seg.nii.gz")
    return Input("labels", path)


def evaluate(tmp_path: Path, registry: Registry = REGISTRY, **changes: Any) -> Run:
    inputs = {"reference": label_folder(tmp_path / "r", 0), "prediction": label_folder(tmp_path / "p", 1)}
    run = create_run(tmp_path / "run", job("evaluate", "toy-overlap", inputs, **changes))
    execute(run.path, registry)
    return run


def test_evaluate_gives_scores_and_tables(tmp_path: Path) -> None:
    run = evaluate(tmp_path)
    result = run.result()
    assert result is not None and result["status"] == "succeeded", result
    # 4 x 4 x 2 voxels moved by one: 3/4 in common.
    assert result["scores"] == [
        {"name": "overlap", "value": 0.75, "of": {"subject": "a"}},
        {"name": "overlap", "value": None, "of": {"subject": "b"}, "note": "both are empty"},
        {"name": "overlap_mean", "value": 0.75, "of": {}, "low": 0.75, "high": 0.75, "n": 1},
    ]
    table = run.outputs / "overlap.csv"
    assert result["outputs"] == {"overlap": {"kind": "table", "digest": file_digest(table)}}
    with table.open(newline="") as file:
        assert list(csv.DictReader(file)) == [{"subject": "a", "voxels": "64"}, {"subject": "b", "voxels": "0"}]
    assert [p.name for p in run.outputs.iterdir()] == ["overlap.csv"]


def test_evaluate_may_be_told_the_subjects(tmp_path: Path) -> None:
    result = evaluate(tmp_path, options={"subjects": ["b"]}).result()
    assert result is not None
    assert [score["of"] for score in result["scores"]] == [{"subject": "b"}, {}]


def test_references_without_prediction_reach_the_metric(tmp_path: Path, method: Callable[..., Registry]) -> None:
    seen: dict[str, tuple[str, ...]] = {}

    def spy(*, metrics: Any, params: Any, reference: LabelFolder, prediction: LabelFolder) -> Iterator[Score]:
        seen.update(reference=reference.subjects, prediction=prediction.subjects)
        yield Score(name="overlap_mean", value=0.0)

    options = {"subjects": ["b"], "references_without_prediction": ["a"]}
    result = evaluate(tmp_path, method(VOLUME_METRIC, score=spy), options=options).result()
    assert result is not None and result["status"] == "succeeded", result
    assert seen == {"reference": ("a", "b"), "prediction": ("b",)}


@pytest.mark.parametrize(("moved_mm", "code"), [(0.05, ExitCode.OK), (1.0, ExitCode.INVALID_DATA)])
def test_reference_and_prediction_lie_on_one_grid(tmp_path: Path, moved_mm: float, code: ExitCode) -> None:
    import nibabel

    inputs = {"reference": label_folder(tmp_path / "r", 0), "prediction": label_folder(tmp_path / "p", 1)}
    affine = np.eye(4)
    affine[0, 3] = moved_mm
    nibabel.save(nibabel.Nifti1Image(np.zeros((10, 10, 4), np.uint8), affine), tmp_path / "p" / "b_seg.nii.gz")
    run = create_run(tmp_path / "run", job("evaluate", "toy-overlap", inputs))
    assert execute(run.path, REGISTRY)["exit_code"] == code
    if code:
        failed(run, code, "of b are not on one grid", "1 mm apart")


def test_a_prediction_may_be_on_the_grid_of_the_reference_by_request(tmp_path: Path) -> None:
    import nibabel

    inputs = {"reference": label_folder(tmp_path / "r", 0), "prediction": label_folder(tmp_path / "p", 1)}
    for name in ("a", "b"):
        path = tmp_path / "r" / f"{name}_seg.nii.gz"
        affine = np.diag([-1.0, -1.0, 1.0, 1.0])
        affine[:2, 3] = 9
        nibabel.save(nibabel.Nifti1Image(np.asarray(nibabel.load(path).dataobj), affine), path)
    run = create_run(tmp_path / "own", job("evaluate", "toy-overlap", inputs))
    execute(run.path, REGISTRY)
    failed(run, ExitCode.INVALID_DATA, "not on one grid", "--prediction-grid reference")
    options = {"prediction_grid": "reference"}
    run = create_run(tmp_path / "run", job("evaluate", "toy-overlap", inputs, options=options))
    assert execute(run.path, REGISTRY)["status"] == "succeeded"
    result = run.result()
    assert result is not None and result["scores"][0]["value"] == 0.75


def test_training_sets_of_an_audit_are_joined(tmp_path: Path, method: Callable[..., Registry]) -> None:
    seen: dict[str, Any] = {}

    def spy(*, metrics: Any, params: Any, **datasets: Any) -> Iterator[Score]:
        seen.update({role: source.read(range(len(source)))[0] for role, source in datasets.items()})
        yield Score(name="shift", value=0.0)

    first, second = real(splits=("train",)), real(splits=("holdout",))
    run = create_run(tmp_path / "run", job("evaluate", "toy-shift", {"real": first, "real2": second}))
    assert execute(run.path, method(SLICE_METRIC, score=spy))["status"] == "succeeded"
    dataset = data.real_dataset(4, 32)
    rows = [[i for i, row in enumerate(dataset.samples) if row.split == split] for split in ("train", "holdout")]
    assert list(seen) == ["real"]
    assert np.array_equal(seen["real"], dataset.read(rows[0] + rows[1])[0])


def test_metric_sees_the_splits_of_its_role(tmp_path: Path, method: Callable[..., Registry]) -> None:
    seen: dict[str, set[str]] = {}

    def spy(*, metrics: Any, params: Any, **datasets: Any) -> Iterator[Score]:
        seen.update({role: {row.split for row in source.samples} for role, source in datasets.items()})
        yield Score(name="shift", value=0.0)

    inputs = {"real": real(), "holdout": real(splits=("holdout",)), "synthetic": real(splits=("train", "holdout"))}
    run = create_run(tmp_path / "run", job("evaluate", "toy-shift", inputs))
    assert execute(run.path, method(SLICE_METRIC, score=spy))["status"] == "succeeded"
    assert seen == {"real": {"train"}, "holdout": {"holdout"}, "synthetic": {"train", "holdout"}}


WRONG_ANSWERS: dict[str, tuple[list[Any], str]] = {
    "undeclared": ([Score(name="jaccard", value=0.5)], "which it does not declare"),
    "a number": ([0.5], "'float', which it does not declare"),
    "NaN": ([Score(name="overlap", value=float("nan"))], "never NaN"),
    "infinite bound": ([Score(name="overlap", value=0.5, low=0.0, high=float("inf"))], "never NaN"),
    "a table with a bad name": ([Row(table="../../etc", values={"a": 1})], "is not a name for a table"),
    "rows that differ": ([Row(table="t", values={"a": 1}), Row(table="t", values={"b": 1})], "differ in their columns"),
    "no text": ([Score(name="overlap", value="high")], "toy-overlap"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", WRONG_ANSWERS)
def test_wrong_scores_are_the_plugins_fault(name: str, tmp_path: Path, method: Callable[..., Registry]) -> None:
    answers, words = WRONG_ANSWERS[name]
    run = evaluate(tmp_path, method(VOLUME_METRIC, score=lambda **given: iter(answers)))
    failed(run, ExitCode.PLUGIN, words)
    assert not list(run.outputs.iterdir()), "half a table was left"


def test_numpy_numbers_are_numbers(tmp_path: Path, method: Callable[..., Registry]) -> None:
    answers = [Score(name="overlap", value=np.float32(0.5), low=0, n=np.int64(3), of={"subject": 3})]  # type: ignore
    result = evaluate(tmp_path, method(VOLUME_METRIC, score=lambda **given: iter(answers))).result()
    assert result is not None
    assert result["scores"] == [{"name": "overlap", "value": 0.5, "of": {"subject": "3"}, "low": 0, "n": 3}]


# ----------------------------------------------------------------------------------------------------- failures


class OutOfMemoryError(RuntimeError):
    """Called as torch's is."""


FAILURES: dict[str, tuple[BaseException, ExitCode, str]] = {
    "the method's own": (ValueError("no luck"), ExitCode.PLUGIN, "no luck"),
    "without a word": (KeyError(), ExitCode.PLUGIN, "It gave no reason"),
    "exit": (SystemExit(0), ExitCode.PLUGIN, "SystemExit"),
    "out of memory": (MemoryError("8 GB"), ExitCode.OUT_OF_MEMORY, "8 GB"),
    "torch is out of memory": (OutOfMemoryError("CUDA out of memory"), ExitCode.OUT_OF_MEMORY, "memory"),
    "torch's allocator": (
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
            "allocate 4503599627370496 bytes. Error code 12 (Cannot allocate memory)"
        ),
        ExitCode.OUT_OF_MEMORY,
        "memory",
    ),
    "full disk": (OSError(errno.ENOSPC, "No space left on device", "x"), ExitCode.NOT_WRITABLE, "No space left"),
    "quota": (OSError(errno.EDQUOT, "Disk quota exceeded"), ExitCode.NOT_WRITABLE, "--resume"),
    "read-only": (OSError(errno.EROFS, "Read-only file system"), ExitCode.NOT_WRITABLE, "Read-only"),
    "another file": (FileNotFoundError(errno.ENOENT, "No such file", "weights"), ExitCode.PLUGIN, "weights"),
    "interrupt": (KeyboardInterrupt(), ExitCode.INTERRUPTED, "--resume"),
}


@pytest.mark.parametrize("name", FAILURES)
@pytest.mark.parametrize("when", ["train", "generate"])
def test_failure_has_its_code(
    name: str, when: str, tmp_path: Path, trained: Callable[[str], Input], method: Callable[..., Registry]
) -> None:
    error, code, words = FAILURES[name]

    def fail(*given: Any) -> Iterator[Any]:
        raise error

    def fail_later(checkpoint: Path, seeds: Any, params: Any) -> Iterator[Any]:
        yield from itertools.islice(generator.generate(checkpoint, seeds, params), 3)
        raise error

    if when == "train":
        run = train(tmp_path / "run", registry=method(GENERATOR, train=fail))
    else:
        run = generate(tmp_path / "run", trained("toy-generator"), method(GENERATOR, generate=fail_later))
    failed(run, code, words)


def test_dataset_that_has_changed_is_refused(tmp_path: Path) -> None:
    run = create_run(tmp_path / "run", job("train", "toy-generator", {"data": real(digest="sha256:other")}))
    execute(run.path, REGISTRY)
    failed(run, ExitCode.INVALID_DATA, "has changed since the run was made")


def test_dataset_that_is_not_complete_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        DatasetWriter(tmp_path / "d", contrasts=("t1",), scheme=BRATS, size=(32, 32)),
    ):
        raise KeyboardInterrupt
    run = create_run(tmp_path / "run", job("train", "toy-generator", {"data": Input("dataset", tmp_path / "d")}))
    execute(run.path, REGISTRY)
    failed(run, ExitCode.INVALID_DATA, "not complete")


def test_input_that_is_gone_is_named(tmp_path: Path) -> None:
    run = create_run(tmp_path / "run", job("train", "toy-generator", {"data": Input("dataset", tmp_path / "none")}))
    execute(run.path, REGISTRY)
    failed(run, ExitCode.INVALID_DATA, "There is no dataset")


def test_checkpoint_of_another_plugin_is_refused(tmp_path: Path, trained: Callable[[str], Input]) -> None:
    run = generate(tmp_path / "run", trained("toy-segmenter"))
    failed(run, ExitCode.INVALID_DATA, "is of toy-segmenter, not of toy-generator")


def test_unknown_plugin_and_wrong_parameter(tmp_path: Path) -> None:
    failed(train(tmp_path / "a", "toy-generatr"), ExitCode.PLUGIN, "Did you mean toy-generator?")
    failed(train(tmp_path / "b", params={"pases": 2}), ExitCode.USAGE, "Did you mean 'passes'?")
    failed(train(tmp_path / "c", params={"passes": 0}), ExitCode.USAGE, "at least 1")


def test_method_that_cannot_be_imported(tmp_path: Path) -> None:
    registry = Registry({"toy-generator": replace(GENERATOR, module="no_such_module")})
    failed(train(tmp_path / "run", registry=registry), ExitCode.PLUGIN, "no_such_module", "--backend docker")


@pytest.mark.parametrize("text", [None, "{", '{"contract": 99}', '{"contract": 1, "verb": "dance", "plugins": []}'])
def test_damaged_job_leaves_a_result_all_the_same(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "job.json").write_text(text)
    execute(tmp_path, REGISTRY)
    failed(Run(tmp_path), ExitCode.INVALID_DATA)


def test_plugin_without_gpu_needs_none_of_those_asked_for(tmp_path: Path) -> None:
    assert (train(tmp_path / "run", resources=Resources(gpus="all")).result() or {})["status"] == "succeeded"


def test_gpu_that_is_not_there_is_no_silent_cpu(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    registry = Registry({"toy-generator": replace(GENERATOR, gpu="optional")})
    run = train(tmp_path / "run", registry=registry, resources=Resources(gpus="all"))
    failed(run, ExitCode.GPU_UNAVAILABLE, "sees none")


def test_result_that_json_cannot_hold_is_a_failed_one(tmp_path: Path, method: Callable[..., Registry]) -> None:
    answers = [Score(name="overlap", value=0.5, note=object())]  # type: ignore[arg-type]
    failed(evaluate(tmp_path, method(VOLUME_METRIC, score=lambda **given: iter(answers))), ExitCode.PLUGIN, "object")


def test_result_is_returned_as_written(tmp_path: Path) -> None:
    run = create_run(tmp_path / "run", job("train", "toy-generator", {"data": real()}))
    assert execute(run.path, REGISTRY) == run.result()


# ------------------------------------------------------------------------------- between the verb and its result


def test_what_cannot_be_told_of_the_machine_costs_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> dict[str, Any]:
        raise RuntimeError("the driver is broken")

    for name in ("versions", "code", "machine"):
        monkeypatch.setattr(provenance, name, fail)
    result = train(tmp_path / "run").result()
    assert result is not None
    assert (result["status"], result["versions"], result["code"], result["machine"]) == ("succeeded", {}, {}, {})


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_after_the_work_does_not_undo_it(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    def machine() -> dict[str, Any]:
        os.kill(os.getpid(), number)
        return {"cores": 1}

    before = signal.signal(number, interrupt)
    try:
        monkeypatch.setattr(provenance, "machine", machine)
        result = train(tmp_path / "run").result()
        assert signal.getsignal(number) is interrupt
    finally:
        signal.signal(number, before)
    assert result is not None
    assert (result["status"], result["machine"]) == ("succeeded", {"cores": 1})
