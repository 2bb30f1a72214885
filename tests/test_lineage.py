"""What a model and its images tell of their training data: no names, one protocol, and digests that are checked."""

from __future__ import annotations

import hmac
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from synthkit.data.dataset import Dataset
from synthkit.data.lineage import (
    datasets_behind,
    every_entry,
    has_unknown_origin,
    is_phantom,
    original_digests,
    public_entries,
    subject_key,
    training_entry,
    training_keys,
    was_trained_on,
)
from synthkit.data.phantom import subject_name
from synthkit.data.slices import SliceProtocol
from synthkit.data.writer import DatasetWriter
from synthkit.errors import DataError, ExitCode
from synthkit.registry.registry import Registry
from synthkit.running.run import Input, Job, Run, Verb, create_run, folder_digest
from synthkit.running.verbs.execute import execute
from synthkit.schemes import BRATS
from synthkit.testing import data
from synthkit.testing.toys import GENERATOR, SEGMENTER

REGISTRY = Registry({toy.name: toy for toy in (GENERATOR, SEGMENTER)})
PATIENTS = ("BraTS-GLI-00001", "BraTS-GLI-00002")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # execute sets it; this sets it back


def make_dataset(path: Path, subjects: Sequence[str] = ("p0", "p1"), size: int = 32, **options: Any) -> Dataset:
    """Four slices a subject; the last subject is held out."""
    images, labels = data.slices(4 * len(subjects), 4, size, seed=5)
    rows = [
        {"id": f"{name}_{z}", "split": "holdout" if name == subjects[-1] else "train", "subject": name, "slice": z}
        for name in subjects
        for z in range(4)
    ]
    with DatasetWriter(path, contrasts=BRATS.contrast_names, scheme=BRATS, size=(size, size), **options) as writer:
        writer.append(images, labels, rows)
    return Dataset(path)


def run_of(path: Path, verb: Verb, plugin: str, inputs: dict[str, Input], **options: Any) -> Run:
    run = create_run(path, Job(verb=verb, plugins=(plugin,), inputs=inputs, options=options))
    execute(path, REGISTRY)
    return run


def train(path: Path, plugin: str, *datasets: Dataset) -> Run:
    inputs = {f"data{i}": Input("dataset", source=d.path, digest=d.digest) for i, d in enumerate(datasets)}
    return run_of(path, "train", plugin, inputs)


def checkpoint_of(run: Run) -> Input:
    return Input("checkpoint", source=run.checkpoint, digest=folder_digest(run.checkpoint))


def metadata_of(run: Run) -> dict[str, Any]:
    result = run.result()
    assert result is not None and result["status"] == "succeeded", result
    described = json.loads((run.checkpoint / "synthkit.json").read_text())
    assert isinstance(described, dict)
    return described


def error_of(run: Run) -> dict[str, Any]:
    result = run.result()
    assert result is not None and result["status"] == "failed"
    assert result["exit_code"] == ExitCode.INVALID_DATA
    return dict(result["error"])


def protocol(**changes: Any) -> dict[str, Any]:
    return {**SliceProtocol(size=32, **changes).to_dict(), "holdout": "secretHeldOut", "seed": 7}


# ------------------------------------------------------------------------------------------------------- names


def test_no_name_of_a_real_subject_travels_with_model_or_images(tmp_path: Path) -> None:
    names = ("secretA", "secretB", "secretHeldOut")
    real = make_dataset(tmp_path / "real", names, protocol=protocol())
    trained = train(tmp_path / "run", "toy-generator", real)
    made = run_of(tmp_path / "made", "generate", "toy-generator", {"checkpoint": checkpoint_of(trained)}, seeds="0-2")
    model = train(tmp_path / "model", "toy-segmenter", Dataset(made.path))
    for run in (trained, made, model):
        assert (run.result() or {})["status"] == "succeeded"
        for file in run.outputs.rglob("*"):
            assert not file.is_file() or b"secret" not in file.read_bytes(), file
    assert "seed" not in metadata_of(trained)["protocol"]
    # Yet through both steps it is known who was trained on.
    entry = metadata_of(model)["training_datasets"][0]
    assert entry["kind"] == "synthetic" and entry["subject_keys"] == []
    assert entry["training_datasets"] == [real.training_entry()]


# --------------------------------------------------------------------------------------------------------- keys


def test_key_of_a_subject_is_the_hmac_of_its_patient() -> None:
    # echo -n BraTS-GLI-00005 | openssl dgst -sha256 -hmac sha256:abc
    expected = hmac.digest(b"sha256:abc", b"BraTS-GLI-00005", "sha256").hex()[:32]
    assert (
        subject_key("BraTS-GLI-00005-100", "sha256:abc") == subject_key("BraTS-GLI-00005-101", "sha256:abc") == expected
    )
    assert subject_key("BraTS-GLI-00005-100", "sha256:abd") != expected
    assert subject_key("BraTS-GLI-00006-100", "sha256:abc") != expected


def test_second_scan_of_a_patient_was_trained_on() -> None:
    entry = {"digest": "sha256:abc", "subject_keys": [subject_key("BraTS-GLI-00005-100", "sha256:abc")]}
    assert was_trained_on("BraTS-GLI-00005-101", [entry])
    assert not was_trained_on("BraTS-GLI-00006-100", [entry])
    assert was_trained_on("BraTS-GLI-00005-101", [{"digest": "d", "subject_keys": [], "training_datasets": [entry]}])


@pytest.mark.parametrize(
    "entry", [{"digest": "sha256:abc"}, {"subject_keys": []}, {"digest": "d", "subject_keys": None}]
)
def test_lineage_that_does_not_say_whom_it_is_of_is_refused(entry: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="lineage"):
        was_trained_on("p0", [entry])
    with pytest.raises(DataError, match="lineage"):
        training_keys([{"digest": "d", "subject_keys": [], "training_datasets": [entry]}])


def test_behind_a_generator_stands_what_it_was_trained_on() -> None:
    """The five questions agree on a chain: a generator of real subjects, one of its images, a segmenter of those."""
    real = training_entry(digest="sha256:r", kind="real", n_samples=5, subjects=("p1", "p2"))
    phantom = training_entry(digest="sha256:p", kind="real", n_samples=3, subjects=("Phantom_0001",))
    made = training_entry(digest="sha256:s", kind="synthetic", n_samples=9, subjects=(), behind=[real, phantom])
    again = training_entry(digest="sha256:t", kind="synthetic", n_samples=9, subjects=(), behind=[made])
    assert [entry["digest"] for entry in every_entry([again])] == ["sha256:t", "sha256:s", "sha256:r", "sha256:p"]
    assert original_digests([again, real]) == ["sha256:r", "sha256:p"]
    assert training_keys([again]) == {*real["subject_keys"], *phantom["subject_keys"]}
    assert training_keys([again], phantoms_only=True) == {subject_key("Phantom_0001", "sha256:p")}
    assert was_trained_on("p1", [again]) and not was_trained_on("p3", [again])
    assert not has_unknown_origin([again])
    assert has_unknown_origin([again, training_entry(digest="d", kind="synthetic", n_samples=1, subjects=())])
    assert [entry["n_subjects"] for entry in public_entries([made])[0]["trained_on"]] == [2, 1]
    assert "subject_keys" not in json.dumps(public_entries([again]))


def test_what_chose_the_weights_is_learned_from() -> None:
    trained, validated = ({"digest": digest, "subject_keys": []} for digest in ("a", "b"))
    assert datasets_behind({"training_datasets": [trained]}) == [trained]
    both = {"training_datasets": [trained], "validation_datasets": [validated]}
    assert datasets_behind(both) == [trained, validated]


def test_a_phantom_is_told_by_its_name() -> None:
    assert is_phantom(subject_name(3)) and not is_phantom("BraTS20_Training_003")
    mixed = training_entry(digest="d", kind="real", n_samples=2, subjects=("Phantom_0001", "p1"))
    assert not mixed["phantom"] and not training_entry(digest="d", kind="real", n_samples=0, subjects=())["phantom"]


# ---------------------------------------------------------------------------------------------------- protocol


def test_protocol_is_that_of_the_dataset_that_has_one(tmp_path: Path) -> None:
    imported = make_dataset(tmp_path / "a")
    prepared = make_dataset(tmp_path / "b", protocol=protocol(intensity="p99.9"))
    for number, order in enumerate([(imported, prepared), (prepared, imported)]):
        found = metadata_of(train(tmp_path / f"run{number}", "toy-segmenter", *order))["protocol"]
        assert found == SliceProtocol(size=32, intensity="p99.9").to_dict()


def test_datasets_of_other_intensities_are_not_joined(tmp_path: Path) -> None:
    first = make_dataset(tmp_path / "a", protocol=protocol())
    second = make_dataset(tmp_path / "b", protocol=protocol(intensity="p99.9"))
    assert "different protocols" in error_of(train(tmp_path / "run", "toy-segmenter", first, second))["what"]
    # Which slices were kept may differ: it does not change what a slice looks like.
    third = make_dataset(tmp_path / "c", protocol=protocol(brain_fraction=0.3))
    metadata_of(train(tmp_path / "run2", "toy-segmenter", first, third))


def test_without_any_protocol_size_and_contrasts_are_those_of_the_data(tmp_path: Path) -> None:
    run = train(tmp_path / "run", "toy-segmenter", make_dataset(tmp_path / "a"))
    assert metadata_of(run)["protocol"] == SliceProtocol(size=32).to_dict()
    events = [json.loads(line) for line in (run.path / "events.jsonl").read_text().splitlines()]
    assert any(e.get("level") == "warning" and "no protocol" in e["text"] for e in events)


def test_model_of_a_size_that_is_not_sliced_to_segments_nobody(
    tmp_path: Path, make_subject: Callable[..., Path]
) -> None:
    run = train(tmp_path / "run", "toy-segmenter", make_dataset(tmp_path / "a", size=48))
    assert metadata_of(run)["protocol"] == {}
    make_subject(tmp_path / "subjects", "s", shape=(48, 40, 3))
    inputs = {"checkpoint": checkpoint_of(run), "subjects": Input("subjects", source=tmp_path / "subjects")}
    segmented = run_of(tmp_path / "out", "segment", "toy-segmenter", inputs, subjects=["s"])
    assert "cannot segment" in error_of(segmented)["what"]


# ----------------------------------------------------------------------------------------------------- digests


def test_table_that_was_edited_is_found(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "a", ("p0", "p1", "p2"))
    table = dataset.path / "samples.csv"
    table.write_text(table.read_text().replace("holdout", "train"))  # the digest in dataset.json stays as it was
    assert "is damaged" in error_of(train(tmp_path / "run", "toy-segmenter", dataset))["what"]


def test_checkpoint_that_was_changed_is_found(tmp_path: Path) -> None:
    trained = train(tmp_path / "run", "toy-generator", make_dataset(tmp_path / "a"))
    given = checkpoint_of(trained)
    (trained.checkpoint / "more.json").write_text("{}")
    made = run_of(tmp_path / "made", "generate", "toy-generator", {"checkpoint": given}, seeds="0")
    assert "checkpoint has changed" in error_of(made)["what"]


# ----------------------------------------------------------------------------------------------------- segment


@pytest.fixture
def scans(tmp_path: Path, make_subject: Callable[..., Path]) -> Path:
    """Two scans of a patient that is trained on, one of another; and a subject that lacks a file."""
    for name in (f"{PATIENTS[0]}-100", f"{PATIENTS[0]}-101", f"{PATIENTS[1]}-100"):
        make_subject(tmp_path / "scans", name, shape=(48, 40, 3), new_names=True)
    make_subject(tmp_path / "scans", "broken", shape=(48, 40, 3), new_names=True, t1=None)
    return tmp_path / "scans"


@pytest.fixture
def model(tmp_path: Path) -> Run:
    names = (f"{PATIENTS[0]}-100", "somebody-else")
    return train(tmp_path / "model", "toy-segmenter", make_dataset(tmp_path / "real", names, protocol=protocol()))


def test_second_scan_of_a_patient_counts_as_seen(tmp_path: Path, scans: Path, model: Run) -> None:
    inputs = {"checkpoint": checkpoint_of(model), "subjects": Input("subjects", source=scans)}
    wanted = [f"{PATIENTS[0]}-101", f"{PATIENTS[1]}-100"]
    run = run_of(tmp_path / "out", "segment", "toy-segmenter", inputs, subjects=wanted)
    assert (run.result() or {})["status"] == "succeeded", run.result()
    notes = json.loads((run.predictions / "predictions.json").read_text())
    assert notes["seen_in_training"] == [f"{PATIENTS[0]}-101"]


def test_job_of_a_subject_that_cannot_be_used_or_is_gone(tmp_path: Path, scans: Path, model: Run) -> None:
    inputs = {"checkpoint": checkpoint_of(model), "subjects": Input("subjects", source=scans)}
    run = run_of(tmp_path / "a", "segment", "toy-segmenter", inputs, subjects=["broken"])
    assert any("missing t1" in line for line in error_of(run)["details"])
    run = run_of(tmp_path / "b", "segment", "toy-segmenter", inputs, subjects=["gone"])
    assert "gone" in error_of(run)["why"]


def test_segment_leaves_out_patients_and_is_not_stopped_by_who_is_not_asked_for(
    tmp_path: Path, scans: Path, model: Run, install_plugins: Callable[..., Registry]
) -> None:
    install_plugins(SEGMENTER)

    def segment(out: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "synthkit", "segment", model.path, scans, "-o", tmp_path / out, *arguments],
            capture_output=True,
            text=True,
            env={**os.environ, "SYNTHKIT_BACKEND": "local"},
            timeout=120,
        )

    everybody = segment("a")
    assert everybody.returncode == ExitCode.INVALID_DATA and "broken: missing t1" in everybody.stderr
    only = segment("b", "--only", f"{PATIENTS[0]}-101,{PATIENTS[1]}-100")
    assert only.returncode == 0, only.stderr
    made = {path.name for path in (tmp_path / "b" / "outputs" / "predictions").glob("*.nii.gz")}
    assert made == {f"{PATIENTS[1]}-100.nii.gz"}
    assert "1 of 2 subjects are left out" in only.stderr
    assert "1 subject cannot be used" in only.stderr
