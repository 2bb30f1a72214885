"""``import-checkpoint``: a foreign file becomes a run that ``generate`` takes, and whose origin stays said."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer

from synthkit.cli.console import Console
from synthkit.cli.models import import_checkpoint
from synthkit.data.dataset import Dataset
from synthkit.data.lineage import has_unknown_origin, public_lineage
from synthkit.data.named_schemes import SCHEMES
from synthkit.errors import DataError, ExitCode, PluginError, UsageError
from synthkit.registry.registry import Registry, load_module
from synthkit.running.run import Input, Job, Run, create_run, file_digest, folder_digest
from synthkit.running.verbs.execute import execute
from synthkit.schemes import Scheme
from synthkit.testing.toys import GENERATOR

REGISTRY = Registry({GENERATOR.name: GENERATOR})


def label_values(options: dict[str, Any]) -> dict[str, int]:
    return Scheme.from_dict(options["scheme"]).label_values


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # execute sets it; this sets it back


def _file(folder: Path, side: int = 32) -> Path:
    file = folder / "means.json"
    state = {"passes": 1, "size": [side, side], "sums": [[90, 80], [200, 40]], "counts": [1, 1]}
    file.write_text(json.dumps(state))
    return file


def _import(folder: Path, file: Path, contrasts: Sequence[str] = ("t1", "flair")) -> Run:
    options = {"contrasts": list(contrasts), "scheme": Scheme.of_values((0, 4)).to_dict(), "name": file.name}
    inputs = {"file": Input("file", source=file, digest=file_digest(file))}
    run = create_run(folder, Job("import-checkpoint", ("toy-generator",), inputs=inputs, options=options))
    execute(run.path, REGISTRY)
    return run


def _result(run: Run) -> dict[str, Any]:
    result = run.result()
    assert result is not None
    return result


def test_an_imported_run_generates_and_its_samples_say_so(tmp_path: Path) -> None:
    file = _file(tmp_path)
    run = _import(tmp_path / "run", file)
    assert _result(run)["status"] == "succeeded", _result(run)["error"]
    assert _result(run)["outputs"]["checkpoint"]["digest"] == folder_digest(run.checkpoint)
    described = json.loads((run.checkpoint / "synthkit.json").read_text())
    assert described["contrasts"] == ["t1", "flair"] and described["labels"] == {"background": 0, "ET": 4}
    assert described["size"] == [32, 32] and described["training_datasets"] == []
    assert described["imported"] == {"file": "means.json", "digest": file_digest(file)}

    checkpoint = Input("checkpoint", source=run.checkpoint, digest=folder_digest(run.checkpoint))
    job = Job("generate", ("toy-generator",), inputs={"checkpoint": checkpoint}, options={"seeds": "0-2"})
    execute(create_run(tmp_path / "samples", job).path, REGISTRY)
    made = Dataset(tmp_path / "samples")
    assert len(made) == 3 and made.contrasts == ("t1", "flair") and made.label_values == (0, 4)
    # Audits take training datasets that are not known for an unknown lineage.
    assert made.lineage["training_datasets"] == [] and made.lineage["imported"]["file"] == "means.json"
    assert public_lineage(made.lineage)["imported"] == made.lineage["imported"]


def test_what_learns_from_such_samples_has_an_unknown_origin() -> None:
    real = {"digest": "d", "kind": "real", "subject_keys": ["k"]}
    known = {"digest": "e", "kind": "synthetic", "subject_keys": [], "training_datasets": [real]}
    imported = {"digest": "f", "kind": "synthetic", "subject_keys": []}
    assert not has_unknown_origin([]) and not has_unknown_origin([real, known])
    assert has_unknown_origin([real, imported])
    assert has_unknown_origin([{**known, "training_datasets": [real, imported]}])  # a generator trained on such


@pytest.mark.parametrize(
    ("side", "contrasts", "words"),
    [(32, ("t1",), "has 2 contrasts"), (48, ("t1", "flair"), "a power of two")],
)
def test_what_does_not_fit_is_invalid_data(side: int, contrasts: tuple[str, ...], words: str, tmp_path: Path) -> None:
    run = _import(tmp_path / "run", _file(tmp_path, side), contrasts)
    assert _result(run)["exit_code"] == ExitCode.INVALID_DATA
    assert words in json.dumps(_result(run)["error"])
    assert not (run.checkpoint / "synthkit.json").exists()


def test_a_file_that_changed_after_the_job_was_made_is_refused(tmp_path: Path) -> None:
    file = _file(tmp_path)
    run = _import(tmp_path / "run", file)
    file.write_text(file.read_text() + " ")
    execute(run.path, REGISTRY)
    assert "has changed since the run was made" in json.dumps(_result(run)["error"])


def test_a_plugin_that_declares_imports_must_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "no_import_for_test.py").write_text("from synthkit.testing.toys.generator import generate, train")
    with pytest.raises(PluginError, match="no function import_checkpoint"):
        load_module(replace(GENERATOR, module="no_import_for_test"))
    load_module(replace(GENERATOR, module="no_import_for_test", imports=()))


def test_contrasts_and_labels_of_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("synthkit.running.verbs.import_checkpoint.discover", lambda: REGISTRY)
    file = _file(tmp_path)

    monkeypatch.setattr("synthkit.registry.provenance.gpu_visible", lambda: True)

    def ask(contrasts: str, labels: str) -> dict[str, Any]:
        command = {"contrasts": contrasts, "labels": labels, "dry_run": True, "json": True}
        monkeypatch.setattr(Console, "_document_printed", False)
        with pytest.raises(typer.Exit):
            import_checkpoint(GENERATOR.name, file, tmp_path / "run", **command)
        printed = capsys.readouterr()
        job = json.loads(printed.out)["job"]
        assert job["resources"]["gpus"] == "none" and "--gpus" not in printed.err  # it computes on none, and asks not
        options: dict[str, Any] = job["options"]
        return options

    asked = ask("t1, t2,flair", "0,1,2,4")
    assert asked["contrasts"] == ["t1", "t2", "flair"]
    assert label_values(asked) == {"background": 0, "NCR": 1, "ED": 2, "ET": 4}
    assert label_values(ask("t1", "0,3")) == {"background": 0, "label3": 3}
    assert Scheme.from_dict(ask("t1", "gli2024")["scheme"]) == SCHEMES["gli2024"]
    for names in ("", "t1,,t2", "t1,t1"):
        with pytest.raises(UsageError, match="not a list of contrasts"):
            ask(names, "0,1")
    for values in ("", "1,2", "0,a", "0,2,1", "0,1,1", "0,255"):
        with pytest.raises(UsageError, match="not a list of label values"):
            ask("t1", values)


def test_a_missing_file_is_told_before_a_run_is_made(tmp_path: Path) -> None:
    from synthkit.running.verbs.inputs import file_input

    with pytest.raises(DataError, match="There is no file"):
        file_input(tmp_path / "none.pkl")
