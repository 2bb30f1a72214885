"""What a run says of itself and what the host finds: the host's word counts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from synthkit.data.dataset import Dataset
from synthkit.errors import DataError, ExitCode
from synthkit.registry.registry import Registry
from synthkit.running import backends
from synthkit.running.backends.outcome import Attempt
from synthkit.running.checkpoints import find_checkpoint, read_checkpoint_metadata
from synthkit.running.run import Input, Job, create_run, folder_digest
from synthkit.running.verbs.execute import execute
from synthkit.testing import data
from synthkit.testing.toys import GENERATOR, SLICE_AUDIT

REGISTRY = Registry({d.name: d for d in (GENERATOR, SLICE_AUDIT)})


def real() -> Input:
    dataset = data.real_dataset(4, 32)
    return Input("dataset", dataset.path, digest=dataset.digest)


def begun(path: Path, job: Job, declaration: Any = GENERATOR) -> Attempt:
    """A run whose runner has ended, and that the host has not taken yet."""
    attempt = Attempt(create_run(path, job), declaration)
    assert execute(attempt.run.path, REGISTRY)["status"] == "succeeded"
    return attempt


def finished(attempt: Attempt) -> dict[str, Any]:
    result = attempt.finish("local", {}, [])
    assert result == attempt.run.result()
    return result


@pytest.fixture
def trained(tmp_path: Path) -> Attempt:
    return begun(tmp_path / "trained", Job("train", (GENERATOR.name,), inputs={"data": real()}))


@pytest.fixture
def generated(trained: Attempt, tmp_path: Path) -> Attempt:
    finished(trained)
    checkpoint = Input("checkpoint", trained.run.checkpoint, digest=folder_digest(trained.run.checkpoint))
    job = Job("generate", (GENERATOR.name,), inputs={"checkpoint": checkpoint}, options={"seeds": "0-4,40"})
    return begun(tmp_path / "generated", job)


def edited(path: Path, **changes: Any) -> dict[str, Any]:
    before: dict[str, Any] = json.loads(path.read_text())
    path.write_text(json.dumps({**before, **changes}))
    return before


def refused(attempt: Attempt, words: str) -> None:
    result = finished(attempt)
    assert (result["status"], result["exit_code"]) == ("failed", ExitCode.CONTAINER_FAILED)
    assert words in " ".join([result["error"]["what"], result["error"]["why"], *result["error"]["details"]])
    assert "outputs" not in result


# -------------------------------------------------------------------------------------------------------- sound runs


def test_a_sound_run_is_taken_as_it_is(generated: Attempt) -> None:
    files = {path: path.read_bytes() for path in generated.run.outputs.rglob("*") if path.is_file()}
    told = generated.result()
    assert told is not None
    result = finished(generated)
    assert result["status"] == "succeeded" and result["outputs"] == told["outputs"] and result["warnings"] == []
    assert {path: path.read_bytes() for path in generated.run.outputs.rglob("*") if path.is_file()} == files


# -------------------------------------------------------------------------------------------------- what the host knows


def test_notes_on_a_checkpoint_are_the_hosts(trained: Attempt) -> None:
    notes = trained.run.checkpoint / "synthkit.json"
    before = edited(notes, plugin="stylegan2", training_datasets=[], params={})
    result = finished(trained)
    assert result["status"] == "succeeded"
    assert result["warnings"] == [
        "The run had written params, plugin, training_datasets in synthkit.json otherwise; put right."
    ]
    assert read_checkpoint_metadata(trained.run.checkpoint) == before
    assert result["outputs"]["checkpoint"]["digest"] == folder_digest(trained.run.checkpoint)


def test_lineage_and_kind_of_a_dataset_are_the_hosts(generated: Attempt) -> None:
    description = generated.run.dataset / "dataset.json"
    before = edited(description, lineage={}, provenance={}, kind="real", digest="sha256:0", protocol={})
    result = finished(generated)
    (warning,) = result["warnings"]
    assert all(key in warning for key in ("lineage", "provenance", "kind", "digest"))
    assert json.loads(description.read_text()) == before
    assert result["outputs"]["dataset"]["digest"] == before["digest"]
    assert Dataset(generated.run.dataset).training_datasets


def test_notes_that_are_gone_or_nonsense(trained: Attempt) -> None:
    (trained.run.checkpoint / "synthkit.json").write_text("[1]")
    refused(trained, "not an object")
    with pytest.raises(DataError, match="no trained model"):
        find_checkpoint(trained.run.path)


def test_a_checkpoint_that_is_gone(trained: Attempt) -> None:
    shutil.rmtree(trained.run.checkpoint)
    refused(trained, "checkpoint")


# ----------------------------------------------------------------------------------------------------- what it finds


def test_real_images_in_the_place_of_generated_ones_are_refused(generated: Attempt) -> None:
    """Copied, not linked: the table no longer belongs to the images."""
    shutil.rmtree(generated.run.dataset / "images")
    shutil.copytree(data.real_dataset(4, 32).path / "images", generated.run.dataset / "images")
    refused(generated, "not the one that its table names")
    with pytest.raises(DataError, match="not complete"):
        Dataset(generated.run.path)


def test_samples_that_nobody_asked_for_are_refused(generated: Attempt) -> None:
    table = generated.run.dataset / "samples.csv"
    table.write_text(table.read_text().replace("seed00000040", "seed00000041").replace(",40,", ",41,"))
    refused(generated, "other samples than were asked for")


def test_other_contrasts_are_refused(generated: Attempt) -> None:
    names = ["t2", "t1", "t1ce", "flair"]
    edited(generated.run.dataset / "dataset.json", channel_names={str(i): name for i, name in enumerate(names)})
    refused(generated, "other contrasts")


@pytest.mark.parametrize("content", ["{}", "[]", "\x00", '{"format": "synthkit-dataset", "complete": true}'])
def test_a_description_that_is_none(content: str, generated: Attempt) -> None:
    (generated.run.dataset / "dataset.json").write_text(content)
    refused(generated, "dataset.json")


def test_a_run_that_failed_leaves_nothing_that_counts(trained: Attempt, generated: Attempt) -> None:
    generated.finish("local", {}, [], error=DataError("the host knows better"))
    with pytest.raises(DataError, match="not complete"):
        Dataset(generated.run.path)


# ------------------------------------------------------------------------------------------------------------- audit


def test_a_verdict_is_the_hosts(generated: Attempt, tmp_path: Path) -> None:
    finished(generated)
    inputs = {
        "train": replace(real(), splits=("train",)),
        "synthetic": Input("dataset", generated.run.dataset, digest=Dataset(generated.run.dataset).digest),
        "holdout": replace(real(), splits=("holdout",)),
    }
    job = Job("audit-memorization", (SLICE_AUDIT.name,), inputs=inputs, options={"policy": {}})
    audit = begun(tmp_path / "audit", job, SLICE_AUDIT)
    told = audit.result()
    assert told is not None
    result = finished(audit)
    for key in ("verdict", "scores", "outputs", "exit_code"):
        assert result[key] == told[key], key
    assert {part for part in result["seal"] if result["seal"][part] != told["seal"][part]} == {"computing", "digest"}
    again = begun(tmp_path / "again", job, SLICE_AUDIT)
    for table in again.run.outputs.glob("*.csv"):
        table.write_text("forged\n")
    assert again.finish("local", {}, [])["outputs"] != told["outputs"]


# ------------------------------------------------------------------------------------------------ a whole hostile run

FORGER = """
import json, os, pathlib

RESULT = {"contract": 1, "status": "succeeded", "exit_code": 0, "error": None, "versions": {"synthkit-core": "9.9.9"},
          "outputs": {"checkpoint": {"kind": "checkpoint", "digest": "sha256:" + 64 * "0"}}, "container": "trusted"}

def train(data, checkpoint, params):
    (checkpoint / "weights").write_text("x")
    (checkpoint / "synthkit.json").write_text(json.dumps({"plugin": "stylegan2", "training_datasets": []}))
    (checkpoint.parent.parent / "result.json").write_text(json.dumps(RESULT))
    os._exit(0)

def generate(checkpoint, seeds, params):
    return iter(())
"""


def test_a_forged_result_is_not_taken(tmp_path: Path, install_plugins: Callable[..., Any]) -> None:
    declaration = replace(GENERATOR, module="synthkit_for_tests", imports=())
    install_plugins(declaration, code=FORGER)
    run = create_run(tmp_path / "run", Job("train", (declaration.name,), inputs={"data": real()}))
    result = backends.get("local").run(run, declaration, lambda event: None)
    assert result["exit_code"] == ExitCode.CONTAINER_FAILED and "runner did not write" in result["error"]["what"]
    assert "9.9.9" not in json.dumps(result) and "trusted" not in json.dumps(result)
    with pytest.raises(DataError, match="no trained model"):
        find_checkpoint(run.path)


def test_the_secret_is_gone_before_a_method_is_imported(tmp_path: Path, install_plugins: Callable[..., Any]) -> None:
    code = """
import os, pathlib
def train(data, checkpoint, params):
    (checkpoint / "seen").write_text(" ".join(os.listdir(checkpoint.parent.parent)))
def generate(checkpoint, seeds, params):
    return iter(())
"""
    declaration = replace(GENERATOR, module="synthkit_for_tests", imports=())
    install_plugins(declaration, code=code)
    run = create_run(tmp_path / "run", Job("train", (declaration.name,), inputs={"data": real()}))
    result = backends.get("local").run(run, declaration, lambda event: None)
    assert result["status"] == "succeeded", result["error"]
    seen = (run.checkpoint / "seen").read_text()
    assert "events.jsonl" in seen and "secret" not in seen
    assert "proof" not in result and not (run.path / ".secret").exists()
