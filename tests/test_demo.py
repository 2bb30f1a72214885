"""The demo calls the library, and shows each call as the command that a user would type."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthkit import api
from synthkit.cli import demo
from synthkit.cli.console import Console
from synthkit.contract import NOTES
from synthkit.data.dataset import Dataset
from synthkit.data.lineage import was_trained_on
from synthkit.data.phantom import affine
from synthkit.data.writer import DatasetWriter
from synthkit.errors import DataError, ExitCode, InterruptedRunError, SynthkitError, UsageError
from synthkit.running.checkpoints import read_checkpoint_metadata
from synthkit.running.launch import Done
from synthkit.running.run import Run, write_json
from synthkit.running.verbs.train import common_protocol
from synthkit.schemes import BRATS

FUNCTIONS = (
    "phantom", "prepare", "generate", "train", "segment", "evaluate", "audit_memorization", "report",
)  # fmt: skip
UNET = "-p samples=6000 -p filters=8 -p depth=4 -p batch_size=4 -p learning_rate=0.02"
ROW = {
    "region": "WT", "real": 0.9, "synthetic": 0.6, "ratio": 0.667, "ratio_low": 0.6, "ratio_high": 0.7,
    "n_subjects": 6, "n_false": 0.0, "n_without": 0,
}  # fmt: skip
#: What the audits end with, by the names of their folders.
RESULTS = {
    "audit-faithful": {
        "verdict": {"outcome": "insufficient evidence", "reasons": ["Too few.", "And more."]},
        "scores": [{"name": "n_copies", "value": 0, "of": {}}, {"name": "n_synthetic", "value": 1600, "of": {}}],
    },
    "audit-memorized": {
        "verdict": {"outcome": "fail", "reasons": ["A copy."]},
        "scores": [{"name": "n_copies", "value": 71, "of": {}}, {"name": "n_synthetic", "value": 99, "of": {}}],
    },
}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any], str | None]]:
    """What is called, with which arguments and by which backend of the environment. Nothing is done."""
    monkeypatch.delenv("SYNTHKIT_BACKEND", raising=False)
    found: list[tuple[str, dict[str, Any], str | None]] = []

    def stub(name: str) -> Callable[..., Any]:
        def call(**arguments: Any) -> Any:
            assert isinstance(arguments.pop("listener"), Console)
            found.append((name, arguments, os.environ.get("SYNTHKIT_BACKEND")))
            return Done(Run(Path(arguments["out"])), RESULTS.get(Path(arguments["out"]).name, {}))

        return call

    for name in FUNCTIONS:
        monkeypatch.setattr(api, name, stub(name))
    monkeypatch.setattr(demo, "_check_installed", lambda: None)
    monkeypatch.setattr(demo, "_trained_on_another", lambda checkpoint, real: checkpoint == demo.MEMORIZED)
    monkeypatch.setattr(demo, "write_story", lambda out, **told: found.append(("story", {"out": out, **told}, None)))
    monkeypatch.setattr(demo, "compared_dice", lambda real, synthetic: ([ROW], ["beware"]))
    return found


def test_every_step_is_a_call_and_shown_as_a_command(
    tmp_path: Path, calls: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    summary = demo.run_demo(Path("demo"), Console())
    said = capsys.readouterr()
    assert [line[2:] for line in said.err.splitlines() if line.startswith("$ ")] == [
        "synthkit phantom -o demo/subjects -n 30 --seed 0",
        "synthkit prepare demo/subjects -o demo/data/real --size 64 --holdout 6",
        f"synthkit generate {demo.FAITHFUL} --seeds 0-599 -o demo/data/faithful",
        *(
            line
            for arm, data in (("real", "real"), ("synthetic", "faithful"))
            for line in (
                f"synthkit train unet demo/data/{data} {UNET} -o demo/runs/unet-{arm}",
                f"synthkit segment demo/runs/unet-{arm} demo/subjects -o demo/runs/segment-{arm}",
                "synthkit evaluate dice hausdorff surface-dice --reference demo/subjects "
                f"--prediction demo/runs/segment-{arm} -o demo/runs/evaluate-{arm}",
            )
        ),
        "synthkit audit-memorization demo/data/real demo/data/faithful -o demo/runs/audit-faithful",
        f"synthkit generate {demo.MEMORIZED} --seeds 0-59 -p sigma_min=0.6 -o demo/data/memorized",
        "synthkit audit-memorization demo/data/real demo/data/memorized --accept-other-training-set "
        "-o demo/runs/audit-memorized",
        "synthkit report demo -o demo/details.html --title 'synthkit demo: a phantom'",
    ]
    assert {backend for name, _, backend in calls if name not in ("report", "story")} == {"local"}
    assert "SYNTHKIT_BACKEND" not in os.environ
    assert json.loads((tmp_path / "demo" / "demo.json").read_text()) == summary
    assert set(summary) == {"phantom", "seconds", "dice", "warnings", "audits", "report", "details"}
    assert (summary["report"], summary["details"], summary["dice"]) == (
        "demo/report.html",
        "demo/details.html",
        [ROW],
    )
    assert summary["audits"] == {
        "faithful": {
            "verdict": "insufficient evidence", "reasons": ["Too few.", "And more."], "n_copies": 0, "n_samples": 1600,
        },
        "memorized": {"verdict": "fail", "reasons": ["A copy."], "n_copies": 71, "n_samples": 99},
    }  # fmt: skip
    ending = " ".join(said.out.split())
    assert "0.600 to 0.700" in ending and "beware" in ending
    assert "faithful generator: insufficient evidence, copies: 0 of 1,600 samples. Too few." in ending
    assert "memorized generator: fail, copies: 71 of 99 samples. A copy." in ending and "And more" not in ending


def test_the_page_is_told_which_runs_are_which(tmp_path: Path, calls: list[Any]) -> None:
    demo.run_demo(tmp_path, Console(quiet=True))
    (told,) = [arguments for name, arguments, _ in calls if name == "story"]
    assert told["out"] == tmp_path / "report.html" and told["details"] == tmp_path / "details.html"
    for arm in ("real", "synthetic"):
        assert told["predictions"][arm] == tmp_path / "runs" / f"segment-{arm}"
        assert told["scores"][arm] == tmp_path / "runs" / f"evaluate-{arm}"
    assert [(each.name, each.samples.name, each.audit.name) for each in told["exhibits"]] == [
        ("faithful", "faithful", "audit-faithful"),
        ("memorized", "memorized", "audit-memorized"),
    ]


def test_a_checkpoint_of_other_people_is_told_from_one_of_these(tmp_path: Path) -> None:
    path = tmp_path / "real"
    with DatasetWriter(path, contrasts=["t1"], scheme=BRATS, size=(32, 32), kind="real") as writer:
        rows = [{"id": "a", "split": "train", "subject": "P1", "slice": 0}]
        writer.append(np.ones((1, 1, 32, 32), np.uint8), np.zeros((1, 32, 32), np.uint8), rows)
    data = Dataset(path)
    for name, digest in (("same", data.digest), ("other", "sha256:0")):
        (tmp_path / name).mkdir()
        entry = {**data.training_entry(), "digest": digest}
        notes = {
            "plugin": "edm", "contrasts": ["t1"], "labels": data.labels, "size": [32, 32], "params": {},
            "training_datasets": [entry],
        }  # fmt: skip
        write_json(tmp_path / name / NOTES, notes)
    assert not demo._trained_on_another(tmp_path / "same", str(data.path))
    assert demo._trained_on_another(tmp_path / "other", str(data.path))


@pytest.mark.parametrize("checkpoint", [demo.FAITHFUL, demo.MEMORIZED], ids=lambda path: path.name)
def test_the_shipped_generators_say_how_their_images_lie(
    checkpoint: Path, tmp_path: Path, make_subject: Callable[..., Path]
) -> None:
    """What is noted beside them is what `prepare` records of a subject that lies as the phantom's do."""
    files = ("t1", "t1ce", "t2", "flair", "seg")
    make_subject(tmp_path / "subjects", "Phantom_0001", affines=dict.fromkeys(files, affine((24, 20, 4))))
    api.prepare(tmp_path / "subjects", tmp_path / "real", size=demo.SIZE, holdout="0", brain_fraction=0.001)
    data, notes = Dataset(tmp_path / "real"), read_checkpoint_metadata(checkpoint)
    expected = {**common_protocol({"data": data}), "brain_fraction": notes["protocol"]["brain_fraction"]}
    assert notes["protocol"] == {**expected, "name": notes["protocol"]["name"]}
    assert notes["protocol"]["geometry"] == {"axes": "LPS", "spacing_mm": [1.0, 1.0, 1.0]}
    assert notes["scheme"] == data.scheme.to_dict()


def test_the_shipped_generators_were_trained_on_whom_the_page_says() -> None:
    everybody = [f"Phantom_{number:04d}" for number in range(1, demo.N_SUBJECTS + 1)]
    everything = [read_checkpoint_metadata(path)["training_datasets"] for path in (demo.FAITHFUL, demo.MEMORIZED)]
    people = [{name for name in everybody if was_trained_on(name, behind)} for behind in everything]
    assert [len(each) for each in people] == [demo.N_SUBJECTS - demo.N_HOLDOUT, demo.N_MEMORIZED]
    assert people[1] < people[0]


def test_the_shipped_generators_are_small() -> None:
    folder = demo.FAITHFUL.parent
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) <= 5_000_000


def test_a_step_that_fails_ends_the_demo_with_its_exit_code(
    tmp_path: Path, calls: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**_: object) -> None:
        raise DataError("It is broken.", "For a reason.", "Repair it.")

    monkeypatch.setattr(api, "generate", fail)
    with pytest.raises(SynthkitError, match="stopped at `synthkit generate`") as caught:
        demo.run_demo(tmp_path / "demo", Console(json_output=True))
    assert caught.value.exit_code == ExitCode.INVALID_DATA
    said = capsys.readouterr()
    assert "error: It is broken." in said.err and "why: For a reason." in said.err and said.out == ""
    assert [name for name, _, _ in calls] == ["phantom", "prepare"]
    with pytest.raises(UsageError, match="is not empty"):
        demo.run_demo(tmp_path / "demo", Console())


def test_an_interrupted_run_interrupts_the_demo(
    tmp_path: Path, calls: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(**_: object) -> None:
        raise InterruptedRunError("Interrupted.")

    monkeypatch.setattr(api, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        demo.run_demo(tmp_path / "demo", Console())
    assert "SYNTHKIT_BACKEND" not in os.environ
