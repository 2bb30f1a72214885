"""``synthkit.api``: the commands as functions. A run records the command that makes the same one."""

from __future__ import annotations

import ast
import json
import logging
import os
import re
import shlex
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from synthkit import api
from synthkit.data.dataset import Dataset
from synthkit.errors import DataError, ExitCode, UsageError
from synthkit.running.commands import command_of
from synthkit.running.launch import Done
from synthkit.running.listening import Listener, LoggingListener
from synthkit.running.verbs.seeds import parse_seeds, seeds_as_text
from synthkit.testing import data
from synthkit.testing.toys import TOYS

ROOT = Path(__file__).parents[1]


@pytest.fixture
def toys(install_plugins: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    install_plugins(*TOYS)
    monkeypatch.setenv("SYNTHKIT_BACKEND", "inline")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # a run sets it; this sets it back


class Heard:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self.events: list[dict[str, Any]] = []
        self.warned: set[str] = set()

    def note(self, text: str) -> None:
        self.notes.append(text)

    def warning(self, text: str) -> None:
        self.warnings.append(text)

    @contextmanager
    def progress(self, title: str) -> Iterator[Heard]:
        self.notes.append(f"begin {title}")
        yield self

    def event(self, event: dict[str, Any]) -> None:
        self.events.append(event)

    def step(self, step: int, total: int | None, unit: str = "step") -> None:
        self.events.append({"step": step, "total": total})


def test_importing_it_costs_nothing() -> None:
    code = "import sys, synthkit.api; print([m for m in ('numpy', 'torch', 'nibabel', 'typer') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --------------------------------------------------------------------------------------------------------- commands


def asked_by_command(done: Done) -> dict[str, Any]:
    """What the recorded command would do, as a dry run of the command line says."""
    command = done.run.job().command
    assert command[0] == "synthkit"
    words = [sys.executable, "-m", "synthkit", *command[1:], "--dry-run", "--json"]
    said = subprocess.run(words, capture_output=True, text=True, env=dict(os.environ), timeout=60)
    assert said.returncode == 0, said.stderr
    job: dict[str, Any] = json.loads(said.stdout)["job"]
    return job


def assert_same_job(done: Done) -> None:
    by_command, by_function = asked_by_command(done), done.run.job().to_dict()
    for key in ("verb", "plugins", "params", "inputs", "options", "resources"):
        assert by_command[key] == json.loads(json.dumps(by_function[key])), key


@pytest.mark.usefixtures("toys")
def test_every_run_records_a_command_that_makes_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_subject: Callable[..., Path]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(data.real_dataset(4, 32).path, "real")
    heard = Heard()
    generator = api.train("toy-generator", ["real"], "runs/g", params={"passes": 3}, gpus="none", listener=heard)
    assert generator.run.job().params["passes"] == 3 and generator.result["status"] == "succeeded"
    assert generator.run.job().command == (
        "synthkit", "train", "toy-generator", "real", "-p", "passes=3", "-o", "runs/g", "--gpus", "none"
    )  # fmt: skip
    assert heard.notes == ["Training toy-generator on 24 samples.", "begin train toy-generator"] and heard.events
    samples = api.generate("runs/g", [0, 1, 2, 7], "synthetic", shard="1/1", timeout=100.0)
    assert [row.seed for row in Dataset(Path("synthetic")).samples] == [0, 1, 2, 7]
    scored = api.evaluate(["toy-shift"], "runs/e", real="real", synthetic="synthetic")
    assert {score["name"] for score in scored[0].result["scores"]} == {"shift", "floor"}
    shutil.copy(Path("runs/g/outputs/checkpoint/model.json"), "model.json")
    imported = api.import_checkpoint("toy-generator", "model.json", "runs/i", contrasts=["t1", "t1ce", "t2", "flair"])
    for done in (generator, samples, *scored, imported):
        assert_same_job(done)

    names = [f"BraTS20_Training_00{number}" for number in (1, 2)]
    for name in names:
        make_subject(tmp_path / "subjects", name, shape=(160, 160, 3))
    api.train("toy-segmenter", ["real"], "runs/s")
    segmented = api.segment("runs/s", "subjects", "runs/p", only=names[:1], include_training_subjects=True)
    assert segmented.run.job().options["subjects"] == names[:1]
    assert_same_job(segmented)
    api.segment("runs/s", "subjects", "runs/all")
    compared = api.evaluate(["toy-overlap"], "runs/o", reference="subjects", prediction="runs/all")
    assert [score["of"].get("subject") for score in compared[0].result["scores"]] == [*names, None]
    assert_same_job(compared[0])


def test_command_of() -> None:
    said = command_of(
        "train",
        {"plugin": "x", "datasets": [Path("data/real"), "b c"], "validate_on": None, "also_train": ["p", "q"],
         "params": {"a": True, "b": (1, 2), "c": None}, "contrasts": ["t1", "t2"], "resume": True, "overwrite": False,
         "out": "runs/x", "cpus": 1.5},
    )  # fmt: skip
    assert shlex.join(said) == (
        "synthkit train x data/real 'b c' --also-train p --also-train q -p a=true -p b=1,2 -p c=none "
        "--contrasts t1,t2 --resume -o runs/x --cpus 1.5"
    )
    assert command_of("phantom", {"out": "p", "number": 3, "seed": 0})[1:] == (
        "phantom",
        "-o",
        "p",
        "-n",
        "3",
        "--seed",
        "0",
    )


@pytest.mark.parametrize(
    ("seeds", "text"), [(range(1000), "0-999"), ([3, 1, 2, 9], "3,1-2,9"), ("0-3,7", "0-3,7"), ([5], "5")]
)
def test_seeds_are_numbers_or_text(seeds: Any, text: str) -> None:
    assert seeds_as_text(seeds) == text
    assert parse_seeds(text)


# --------------------------------------------------------------------------------------------------- what is said


@pytest.mark.usefixtures("toys")
def test_errors_are_those_of_the_commands(tmp_path: Path) -> None:
    real = data.real_dataset(4, 32).path
    with pytest.raises(UsageError, match="is a metric, it is not trained"):
        api.train("toy-shift", [real], tmp_path / "run")
    with pytest.raises(UsageError, match="nothing to train on"):
        api.train("toy-generator", [], tmp_path / "run")
    with pytest.raises(UsageError, match="nothing to score"):
        api.evaluate([], tmp_path / "run")
    with pytest.raises(DataError, match="no trained model") as caught:
        api.generate(tmp_path / "nothing", "0-9", tmp_path / "run")
    assert caught.value.exit_code == ExitCode.INVALID_DATA
    with pytest.raises(TypeError, match="memroy"):
        api.train("toy-generator", [real], tmp_path / "run", memroy="8g")  # type: ignore[call-arg]
    assert not (tmp_path / "run").exists()


def test_a_program_that_does_not_listen_gets_logs_and_warnings(caplog: pytest.LogCaptureFixture) -> None:
    listener: Listener = LoggingListener()
    with caplog.at_level(logging.INFO, "synthkit"):
        listener.note("a note")
    assert caplog.messages == ["a note"]
    with warnings.catch_warnings(record=True) as found, listener.progress("x") as follower:
        warnings.simplefilter("always")
        follower.event({"event": "message", "level": "warning", "text": "beware"})
        follower.event({"event": "message", "level": "info", "text": "said"})
        follower.event({"event": "progress", "step": 1})
        follower.step(1, 2)
    assert [str(item.message) for item in found] == ["beware"] and follower.warned == {"beware"}


@pytest.mark.usefixtures("toys")
def test_the_example_of_the_documentation_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("synthkit_memorization", reason="the plugin memorization is not installed")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    shutil.copytree(data.real_dataset(4, 32).path, "data/real")
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(), flags=re.DOTALL)
    names: dict[str, Any] = {}
    smaller = {'"stylegan2"': '"toy-generator"', '{"kimg": 12}': '{"passes": 1}', "range(1000)": "range(12)"}
    smaller |= {'"unet"': '"toy-segmenter"', '"local"': '"inline"'}
    for block in blocks:
        for old, new in smaller.items():
            block = block.replace(old, new)
        exec(block, names)
    assert names["audit"].result["verdict"]["outcome"] == "insufficient evidence"
    assert (tmp_path / "runs" / "audit" / api.AUDIT_PAGE).is_file()
    assert (tmp_path / "runs" / "unet" / "result.json").is_file()


# ------------------------------------------------------------------------------------------------ the command line


def test_commands_only_parse_and_print() -> None:
    """No function of the command line is longer than 60 lines, its options included."""
    long = {}
    for path in sorted((ROOT / "synthkit" / "cli").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
                n_lines = node.end_lineno - node.lineno + 1
                if n_lines > 60:
                    long[f"{path.name}:{node.name}"] = n_lines
    assert not long


def test_the_words_of_a_training_are_options_of_its_command() -> None:
    """Arguments of ``api.train`` are recorded under the names that the command line has for them."""
    from typer.main import get_command

    from synthkit.cli import app

    known = {option for item in get_command(app).commands["train"].params for option in item.opts}  # type: ignore[attr-defined]
    tree = ast.parse((ROOT / "synthkit" / "api.py").read_text())
    (function,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "train")
    keys = {
        key.value
        for node in ast.walk(function)
        if isinstance(node, ast.Dict)
        for key in node.keys
        if isinstance(key, ast.Constant) and isinstance(key.value, str)
    }
    words = command_of("train", {**dict.fromkeys(keys, "x"), "params": {"a": 1}})
    assert {word for word in words if word.startswith("-")} <= known and "--from" in words and "--preset" in words
