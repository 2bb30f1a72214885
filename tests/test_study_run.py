"""A study is run: by the real Snakemake, with toys for plugins that take no time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from synthkit.cli.study import _ended_by_force
from synthkit.errors import DataError, UsageError
from synthkit.running.backends import apptainer
from synthkit.running.listening import Listener
from synthkit.study import step as steps
from synthkit.study.config import Study
from synthkit.study.plan import make_plan
from synthkit.study.progress import share_done, states_of
from synthkit.study.workflow import lock_for, write_plan

pytest.importorskip("snakemake")

STUDY = """
[data]
subjects = "subjects"
size = 32
holdout = "1"
[samples]
n = 6
[arms]
both = false
seeds = 1
[metrics]
fidelity = ["toy-distance"]
overlap = ["dice"]
[audit]
enabled = false
[run]
backend = "local"
gpus = 0
retries = 0
[generators.one]
plugin = "toy-generator"
params = { passes = 2 }
[generators.two]
plugin = "toy-generator"
[segmenters.toy-segmenter]
"""


@pytest.fixture
def folder(tmp_path: Path, make_subject: Callable[..., Path], install_plugins: Callable[..., Any]) -> Path:
    from synthkit.testing.toys import GENERATOR, KEEPING_METRIC, SEGMENTER

    install_plugins(GENERATOR, SEGMENTER, KEEPING_METRIC)
    study = tmp_path / "study"
    for number in (1, 2, 3):
        # Large enough to be kept by the rule of prepare.
        make_subject(study / "subjects", f"BraTS20_Training_00{number}", shape=(140, 140, 2 + number))
    (study / "study.toml").write_text(STUDY)
    return study


def synthkit(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "synthkit", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, **options)


def states(folder: Path) -> dict[str, str]:
    return {item.step.name: item.state for item in states_of(folder, make_plan(Study.load(folder)))}


def started(folder: Path) -> dict[str, float]:
    """When each step began last."""
    return {
        path.stem: json.loads(path.read_text())["started"] for path in (folder / ".study" / "records").glob("*.json")
    }


@pytest.mark.slow
def test_run_again_and_change(folder: Path) -> None:
    done = synthkit("study", "run", folder, "--cores", "2")
    assert done.returncode == 0, done.stderr
    assert set(states(folder).values()) == {"done"}
    first = started(folder)
    assert len(first) == len(make_plan(Study.load(folder)).steps) == 2 + 2 * 3 + 3 * 3
    assert "toy-segmenter, with augmentation" in (folder / "report.html").read_text()
    # Numbers are all that some metrics make.
    assert not any((folder / "generators" / "one" / "fidelity" / "outputs").iterdir())
    mark = json.loads((folder / ".study" / "done" / "fidelity-one.json").read_text())
    assert list(mark["outputs"]) == ["./scores"]

    kept = folder / "data" / "kept" / "outputs" / "kept" / "arrays.npz"
    assert (folder / "generators" / "two" / "fidelity" / "inputs" / "kept").resolve() == kept.resolve()

    # What is done stays.
    assert synthkit("study", "run", folder).returncode == 0
    assert started(folder) == first

    # A changed parameter: its training is another run, and what depends on it follows. Another Python is no reason to
    # do anything else again.
    (folder / "study.toml").write_text(STUDY.replace("passes = 2", "passes = 3"))
    plan = make_plan(Study.load(folder))
    dependent = plan.depending_on(["train-one"])
    assert {name for name, state in states(folder).items() if state == "changed"} == dependent
    python = folder.parent / "another place" / "bin" / "python"
    python.parents[1].symlink_to(sys.prefix)
    done = subprocess.run(
        [python, "-m", "synthkit", "study", "run", folder], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    again = started(folder)
    ran = {name for name in again if again[name] != first[name]}
    assert "train-one" in ran and ran <= dependent
    assert set(states(folder).values()) == {"done"}
    job = json.loads((folder / "generators" / "one" / "train" / "job.json").read_text())
    assert job["params"]["passes"] == 3


@pytest.mark.slow
def test_a_failing_step_leaves_the_others_running(folder: Path) -> None:
    # Too short for its resolutions: refused by the method, in its run.
    (folder / "study.toml").write_text(
        STUDY.replace("generators.one", "generators.progan").replace(
            'plugin = "toy-generator"\nparams = { passes = 2 }', "params = { kimg = 0.001 }"
        )
    )
    done = synthkit("study", "run", folder)
    found = states(folder)
    assert found["train-progan"] == "failed" and found["generate-progan"] == "waiting"
    assert found["evaluate-toy-segmenter-two-augmented-seed-0"] == "done"
    assert done.returncode == 2  # of the step: such a training ends before it has begun
    assert "train-progan" in done.stderr and "progan.txt" in done.stderr
    assert "Not complete" in (folder / "report.html").read_text()
    said = synthkit("study", "status", folder)
    assert "failed with 2: train-progan" in said.stdout and "faded in" in said.stdout


@pytest.mark.slow
def test_a_step_that_was_killed_is_named(folder: Path) -> None:
    (folder / "study.toml").write_text(STUDY.replace('[generators.two]\nplugin = "toy-generator"\n', ""))
    with subprocess.Popen(
        [sys.executable, "-m", "synthkit", "study", "run", str(folder), "--cores", "1"],
        stderr=subprocess.PIPE, text=True,
    ) as study:  # fmt: skip
        pid = None
        while study.poll() is None and pid is None:
            pid = next(
                (int(found.parent.name) for found in Path("/proc").glob("[0-9]*/cmdline") if is_step(found)), None
            )
            time.sleep(0.02)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        said = study.communicate()[1]
    assert study.returncode == 3
    assert "prepare could not write why: its process died with <Signals.SIGKILL: 9>" in " ".join(said.split())
    assert synthkit("study", "run", folder).returncode == 0
    # The log keeps what was killed then, which is not blamed for what is stopped now.
    assert _ended_by_force(folder / ".study" / "snakemake.txt") == {}


def is_step(cmdline: Path) -> bool:
    """Whether the process is the Python of the step that comes first, not the shell that has begun it."""
    try:
        return cmdline.read_bytes().split(b"\0")[1:4] == [b"-m", b"synthkit.study.step", b"prepare"]
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT])
def test_interrupted_and_run_again(folder: Path, ending: signal.Signals) -> None:
    (folder / "study.toml").write_text(STUDY.replace('[generators.two]\nplugin = "toy-generator"\n', ""))
    process = subprocess.Popen(
        [sys.executable, "-m", "synthkit", "study", "run", str(folder), "--cores", "1"],
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and states(folder).get("train-one") not in ("running", "done"):
        time.sleep(0.05)
    prepared = started(folder)["prepare"]
    os.killpg(process.pid, ending)
    process.communicate()
    assert process.returncode == (130 if ending == signal.SIGINT else -signal.SIGKILL)
    done = synthkit("study", "run", folder)
    assert done.returncode == 0, done.stderr + (folder / ".study" / "snakemake.txt").read_text()[-2000:]
    assert set(states(folder).values()) == {"done"}
    assert started(folder)["prepare"] == prepared


@pytest.fixture
def called(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """Arguments of what steps would call, which succeed and leave a file each. Steps run in ``folder``."""
    found: list[dict[str, Any]] = []

    def call(function: str, arguments: Mapping[str, Any], log: object) -> int:
        found.append(dict(arguments))
        out = Path(arguments["out"])
        out.mkdir(parents=True, exist_ok=True)
        (out / f"{'Phantom_' * (function == 'phantom')}{len(found)}").touch()
        return 0

    monkeypatch.setattr(steps, "_call", call)
    monkeypatch.chdir(folder)
    return found


def execute(folder: Path, name: str, text: str) -> int:
    (folder / "study.toml").write_text(text)
    study = Study.load(folder)
    write_plan(study, make_plan(study))
    return steps.execute(name)


def test_what_another_command_made_gives_way(folder: Path, called: list[dict[str, Any]]) -> None:
    out = folder / "generators" / "one" / "train"
    for passes in (2, 2, 3):
        assert execute(folder, "train-one", STUDY.replace("passes = 2", f"passes = {passes}")) == 0
    assert [call["backend"] for call in called] == ["local"] * 3
    assert ["resume" in call for call in called] == [False, True, False]
    assert not any("overwrite" in call for call in called)
    assert {path.name for path in out.iterdir()} == {"3"}


def test_a_folder_on_another_disk_stays_a_link(folder: Path, called: list[dict[str, Any]], tmp_path: Path) -> None:
    out = folder / "generators" / "one" / "train"
    out.parent.mkdir(parents=True)
    (tmp_path / "disk").mkdir()
    out.symlink_to(tmp_path / "disk")
    for passes in (2, 3):
        assert execute(folder, "train-one", STUDY.replace("passes = 2", f"passes = {passes}")) == 0
    assert out.is_symlink() and [path.name for path in out.iterdir()] == ["2"]


def test_a_phantom_is_gone_on_with_and_made_anew(folder: Path, called: list[dict[str, Any]]) -> None:
    own = set((folder / "subjects").iterdir())
    for n in (3, 3, 2):
        assert execute(folder, "phantom", STUDY.replace('subjects = "subjects"', f"phantom = {n}")) == 0
    # It cannot be resumed: it keeps what is there.
    assert [call["number"] for call in called] == [3, 3, 2]
    assert not any("resume" in call for call in called)
    assert set((folder / "subjects").iterdir()) == own | {folder / "subjects" / "Phantom_3"}


@pytest.mark.parametrize(
    ("backend", "scheduler", "limited"),
    [("local", False, False), ("docker", False, True), ("docker", True, True), ("apptainer", False, True),
     ("apptainer", True, False), ("", False, True)],
)  # fmt: skip
def test_memory_is_limited_by_backends_that_can(
    folder: Path,
    called: list[dict[str, Any]],
    backend: str,
    scheduler: bool,
    limited: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SYNTHKIT_BACKEND", raising=False)
    monkeypatch.setattr(apptainer, "in_scheduler", lambda: scheduler)
    text = STUDY.replace('backend = "local"', f'backend = "{backend}"\nmemory_gb = 3.5')
    assert execute(folder, "train-one", text) == 0
    assert called[0].get("memory") == ("3.5g" if limited else None)
    assert called[0]["cpus"] == 1


def test_the_lock_of_either_folder_holds_the_steps(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SYNTHKIT_LOCK", raising=False)
    monkeypatch.chdir(tmp_path)
    study = Study.load(Path(folder.name))
    assert lock_for(study) is None
    (tmp_path / "synthkit.lock").touch()
    assert lock_for(study) == tmp_path / "synthkit.lock"
    (folder / "synthkit.lock").touch()
    assert lock_for(study) == folder / "synthkit.lock"
    monkeypatch.setenv("SYNTHKIT_LOCK", "other.lock")
    assert lock_for(study) == tmp_path / "other.lock"
    monkeypatch.setenv("SYNTHKIT_LOCK", "off")
    assert lock_for(study) is None


def test_a_gpu_is_never_given_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from contextlib import ExitStack

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(steps, "_PATIENCE_SECONDS", 0.01)
    with ExitStack() as first, ExitStack() as second:
        assert steps._free_devices(1, ["0", "1", "2"], first) == ["0"]
        assert steps._free_devices(2, ["0", "1", "2"], second) == ["1", "2"]
        taken = []

        def release(seconds: float) -> None:
            taken.append(seconds)
            first.close()

        monkeypatch.setattr(time, "sleep", release)
        with ExitStack() as third:
            assert steps._free_devices(1, ["0", "1", "2"], third) == ["0"]
        assert taken == [0.01]


def test_states_without_any_run(folder: Path) -> None:
    assert set(states(folder).values()) == {"waiting"}
    assert synthkit("study", "run", folder, "--executor", "nonesuch").returncode == 5
    assert synthkit("study", "plan", folder, "--json").returncode == 0


# ------------------------------------------------------------------------------------------- one step, in its process


def step_with(folder: Path, monkeypatch: pytest.MonkeyPatch, call: Callable[..., object]) -> tuple[int, str]:
    """Exit code and log of the step prepare, whose function in the library is ``call``."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr("synthkit.api.prepare", call)
    code = execute(folder, "prepare", STUDY)
    return code, (folder / ".study" / "logs" / "prepare.txt").read_text()


def test_steps_count_by_what_they_cost(folder: Path) -> None:
    items = states_of(folder, make_plan(Study.load(folder)))
    assert share_done(items) is None
    # Each training takes 100 s and all else 1 s: one training of two generators and three segmenters.
    long = [replace(item, state="done", seconds=100.0) for item in items if item.step.name == "train-one"]
    short = [
        replace(item, state="done", seconds=1.0) for item in items if item.step.name in ("prepare", "generate-one")
    ]
    done = {item.step.name: item for item in (*long, *short)}
    known = [done.get(item.step.name, item) for item in items]
    kinds = Counter(item.step.kind for item in items)
    others = len(items) - kinds["train generator"] - kinds["generate"] - 1
    expected = (100 + 1 + 1) / (2 * 100 + 2 * 1 + 1 + others * (102 / 3))
    assert share_done(known) == pytest.approx(expected)
    # By the plan's hours, where it gives them.
    timed = [replace(item, step=replace(item.step, gpu_hours=3.0 if item in long else 1.0)) for item in known]
    assert share_done(timed) == pytest.approx((3 + 1 + 1) / (3 + len(items) - 1))


def test_the_log_of_a_step_has_what_was_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def call(listener: Listener, **arguments: Any) -> None:
        listener.note("a note")
        with listener.progress("work") as follower:
            follower.event({"event": "message", "level": "warning", "text": "beware"})
            follower.step(1, 2)
        print("printed by a library")
        os.write(2, b"written by a library in C\n")
        raise DataError("It failed.", "For a reason.", "Try again.", ["first subject"])

    code, log = step_with(folder, monkeypatch, call)
    assert code == 3
    assert log.splitlines()[0].startswith("$ synthkit prepare subjects -o data/real --size 32 --holdout 1 ")
    assert log.splitlines()[1:] == [
        "a note", "warning: beware", "printed by a library", "written by a library in C",
        "error: It failed.", "  first subject", "  why: For a reason.", "  try: Try again.",
    ]  # fmt: skip
    assert states_of(folder, make_plan(Study.load(folder)))[0].error == "error: It failed."


def test_what_cannot_be_noted_is_a_failure(
    folder: Path, called: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(step: object) -> dict[str, str]:
        raise FileNotFoundError("result.json")

    monkeypatch.setattr(steps, "_outputs", unreadable)
    assert execute(folder, "prepare", STUDY) == 1
    assert states(folder)["prepare"] == "failed"
    assert "FileNotFoundError: result.json" in (folder / steps.log_of("prepare")).read_text()


def test_a_bug_in_a_step_has_its_traceback(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, log = step_with(folder, monkeypatch, lambda **_: [][1])
    assert code == 1
    assert "Traceback" in log and "error: This is a bug of synthkit.\n  why: IndexError" in log


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_step_is_interrupted_once(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    ended = []

    def call(**_: object) -> None:
        try:
            os.kill(os.getpid(), getattr(signal, name))
            time.sleep(60)
        except KeyboardInterrupt:
            for number in (signal.SIGINT, signal.SIGTERM):  # while the run ends with grace
                os.kill(os.getpid(), number)
                time.sleep(0.01)
            ended.append("with grace")
            raise

    code, log = step_with(folder, monkeypatch, call)
    assert code == 130 and ended == ["with grace"] and "error: Interrupted." in log
    assert signal.getsignal(signal.SIGTERM) is handler
    record = json.loads((folder / ".study" / "records" / "prepare.json").read_text())
    assert record["status"] == "interrupted"
    assert states(folder)["prepare"] == "interrupted"


def test_what_cannot_be_resumed_is_made_anew(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ways = []

    def call(out: str, resume: bool = False, overwrite: bool = False, **_: object) -> None:
        ways.append((resume, overwrite))
        if resume:
            raise UsageError("It was made of other inputs.")
        Path(out).mkdir(parents=True, exist_ok=True)

    (folder / "data" / "real").mkdir(parents=True)
    (folder / "data" / "real" / "something").touch()
    code, log = step_with(folder, monkeypatch, call)
    assert code == 0 and ways == [(True, False), (False, True)]
    assert [line.split()[-1] for line in log.splitlines() if line.startswith("$ ")] == ["--resume", "--overwrite"]
