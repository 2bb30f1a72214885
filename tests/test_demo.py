"""The demo calls the library, and shows each call as the command that a user would type."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from synthkit import api
from synthkit.cli import demo
from synthkit.cli.console import Console
from synthkit.data.dataset import Dataset
from synthkit.data.phantom import affine
from synthkit.errors import DataError, ExitCode, InterruptedRunError, SynthkitError, UsageError
from synthkit.running.checkpoints import read_checkpoint_metadata
from synthkit.running.launch import Done
from synthkit.running.run import Run
from synthkit.running.verbs.train import common_protocol

FUNCTIONS = (
    "phantom", "prepare", "generate", "train", "segment", "evaluate", "audit_memorization", "report",
)  # fmt: skip
ROW = {
    "region": "WT", "real": 0.9, "synthetic": 0.6, "ratio": 0.667, "ratio_low": 0.6, "ratio_high": 0.7,
    "n_subjects": 6, "n_false": 0.0, "n_without": 0,
}  # fmt: skip


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any], str | None]]:
    """What is called, with which arguments and by which backend of the environment. Nothing is done."""
    monkeypatch.delenv("SYNTHKIT_BACKEND", raising=False)
    found: list[tuple[str, dict[str, Any], str | None]] = []

    def stub(name: str) -> Callable[..., Any]:
        def call(**arguments: Any) -> Any:
            assert isinstance(arguments.pop("listener"), Console)
            found.append((name, arguments, os.environ.get("SYNTHKIT_BACKEND")))
            return Done(Run(Path(arguments["out"])), {"verdict": {"outcome": "fail", "reasons": ["A copy."]}})

        return call

    for name in FUNCTIONS:
        monkeypatch.setattr(api, name, stub(name))
    monkeypatch.setattr(demo, "_check_installed", lambda: None)
    monkeypatch.setattr(demo, "_is_another_phantom", lambda real: True)
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
        f"synthkit generate {demo.CHECKPOINT} --seeds 0-599 -o demo/data/synthetic",
        *(
            line
            for arm in ("real", "synthetic")
            for line in (
                f"synthkit train unet demo/data/{arm} -p samples=6000 -p filters=8 -p depth=4 -p batch_size=4 "
                f"-p learning_rate=0.02 -o demo/runs/unet-{arm}",
                f"synthkit segment demo/runs/unet-{arm} demo/subjects -o demo/runs/segment-{arm}",
                "synthkit evaluate dice hausdorff surface-dice --reference demo/subjects "
                f"--prediction demo/runs/segment-{arm} -o demo/runs/evaluate-{arm}",
            )
        ),
        "synthkit audit-memorization demo/data/real demo/data/synthetic --accept-other-training-set -o demo/runs/audit",
        "synthkit report demo -o demo/report.html --title 'synthkit demo: a phantom'",
    ]
    assert {backend for name, _, backend in calls if name != "report"} == {"local"}
    assert "SYNTHKIT_BACKEND" not in os.environ
    assert (summary["verdict"], summary["dice"]) == ("fail", [ROW])
    assert json.loads((tmp_path / "demo" / "demo.json").read_text()) == summary
    assert "0.600 to 0.700" in said.out and "Memorization audit: fail. A copy." in said.out and "beware" in said.out


def test_the_shipped_generator_says_how_its_images_lie(tmp_path: Path, make_subject: Callable[..., Path]) -> None:
    """What is noted beside it is what `prepare` records of a subject that lies as the phantom's do."""
    files = ("t1", "t1ce", "t2", "flair", "seg")
    make_subject(tmp_path / "subjects", "Phantom_0001", affines=dict.fromkeys(files, affine((24, 20, 4))))
    api.prepare(tmp_path / "subjects", tmp_path / "real", size=demo.SIZE, holdout="0", brain_fraction=0.001)
    data, notes = Dataset(tmp_path / "real"), read_checkpoint_metadata(demo.CHECKPOINT)
    expected = {**common_protocol({"data": data}), "brain_fraction": notes["protocol"]["brain_fraction"]}
    assert notes["protocol"] == {**expected, "name": notes["protocol"]["name"]}
    assert notes["protocol"]["geometry"] == {"axes": "LPS", "spacing_mm": [1.0, 1.0, 1.0]}
    assert notes["scheme"] == data.scheme.to_dict()


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
