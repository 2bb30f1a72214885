"""Runs in a fresh process, and what ends them: time limit, kill, interrupt, a process that dies without a word."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from synthkit.errors import BackendUnavailableError, ExitCode, GpuUnavailableError, UsageError, error_from_dict
from synthkit.registry.registry import Registry
from synthkit.running import backends
from synthkit.running.backends import gpus, limits, supervision
from synthkit.running.backends.following import EventFollower
from synthkit.running.run import Input, Job, Resources, Run, create_run, folder_digest
from synthkit.testing import data
from synthkit.testing.toys import GENERATOR

# Methods for the run's process: what each training does.
METHODS = """
import os, signal, sys, time
import synthkit


def mark(checkpoint):
    (checkpoint / "pid").write_text(str(os.getpid()))


def train(data, checkpoint, params):
    from synthkit.testing.toys.generator import train as right
    mark(checkpoint)
    what = os.environ["WHAT_TO_DO"]
    if what == "talk":
        print("to stdout", flush=True)
        print("to stderr", file=sys.stderr, flush=True)
        synthkit.message("mind the gap", level="warning")
        synthkit.message("by the way")
        right(data, checkpoint, params)
    elif what == "wait":
        synthkit.progress(1, 1000)
        time.sleep(120)
    elif what == "ignore":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        synthkit.progress(1, 1000)
        time.sleep(120)
    elif what in ("worker", "worker and killed"):
        if os.fork() == 0:
            (checkpoint / "worker").write_text(str(os.getpid()))
            time.sleep(120)
            os._exit(0)
        while not (checkpoint / "worker").exists():
            time.sleep(0.01)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        synthkit.progress(1, 1000)
        if what == "worker and killed":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(120)
    elif what == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "crash":
        print("about to crash", flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)
    elif what == "vanish":
        os._exit(17)
    elif what == "environment":
        right(data, checkpoint, params)
        (checkpoint / "environment.json").write_text(__import__("json").dumps(dict(os.environ)))
    elif what == "ask":
        input("really? ")


def generate(checkpoint, seeds, params):
    from synthkit.testing.toys.generator import generate as right
    return right(checkpoint, seeds, params)
"""


@pytest.fixture
def start(
    tmp_path: Path, install_plugins: Callable[..., Registry], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Run, dict[str, Any], list[dict[str, Any]]]]:
    """Runs a training that does ``what`` on the local backend; returns run, result and events."""
    declaration = replace(GENERATOR, module="synthkit_for_tests", imports=())
    install_plugins(declaration, code=METHODS)
    monkeypatch.setattr(supervision, "_GRACE_SECONDS", 1.0)

    def go(
        what: str, on_event: Callable[[dict[str, Any]], None] | None = None, **resources: Any
    ) -> tuple[Run, dict[str, Any], list[dict[str, Any]]]:
        monkeypatch.setenv("WHAT_TO_DO", what)
        dataset = data.real_dataset(1, 32)
        inputs = {"data": Input("dataset", dataset.path, digest=dataset.digest)}
        job = Job("train", (declaration.name,), inputs=inputs, resources=Resources(**resources))
        run = create_run(tmp_path / "run", job)
        events: list[dict[str, Any]] = []

        def follow(event: dict[str, Any]) -> None:
            events.append(event)
            if on_event is not None:
                on_event(event)

        result = backends.get("local").run(run, declaration, follow)
        assert result == run.result()
        assert result["backend"] == "local" and result["isolation"]["network"] == "host"
        return run, result, events

    return go


@pytest.fixture
def jump(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Any]], None]:
    """For ``on_event``: puts the backend's clock on by an hour, so that no test waits for a time limit."""
    hours = [0]
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + 3600 * hours[0])
    monkeypatch.setattr(limits, "time", clock)

    def forward(event: dict[str, Any]) -> None:
        hours[0] += 1

    return forward


def is_alive(file: Path) -> bool:
    """Whether the process whose number is in ``file`` runs still (a zombie does not)."""
    status = Path("/proc") / file.read_text() / "status"
    try:
        return "\nState:\tZ" not in status.read_text()
    except OSError:
        return False


def ended(file: Path) -> bool:
    """Whether that process ends, given a moment: a kill is not done when the call that sends it returns."""
    for _ in range(500):
        if not is_alive(file):
            return True
        time.sleep(0.02)
    return False


def test_run_in_a_fresh_process_succeeds(start: Callable[..., Any]) -> None:
    run, result, events = start("talk")
    assert (result["status"], result["exit_code"], result["error"]) == ("succeeded", 0, None), result
    assert (run.checkpoint / "pid").read_text() != str(os.getpid())
    assert result["outputs"]["checkpoint"]["digest"] == folder_digest(run.checkpoint)
    assert result["versions"]["synthkit-core"]
    log = (run.path / "log.txt").read_text()
    assert "to stdout" in log and "to stderr" in log
    assert result["warnings"] == ["mind the gap"]
    assert [e["text"] for e in events if e["event"] == "message"] == ["mind the gap", "by the way"]
    steps = [e for e in events if e["event"] == "progress"]
    assert steps[-1]["step"] == steps[-1]["total"] == 4


def test_events_come_while_the_run_goes_on(
    start: Callable[..., Any], jump: Callable[..., None], tmp_path: Path
) -> None:
    alive: list[bool] = []

    def look(event: dict[str, Any]) -> None:
        alive.append(is_alive(tmp_path / "run" / "outputs" / "checkpoint" / "pid"))
        jump(event)

    start("wait", look, timeout_seconds=1800)
    assert alive == [True]


def test_time_limit(start: Callable[..., Any], jump: Callable[..., None]) -> None:
    run, result, _ = start("wait", jump, timeout_seconds=1800)
    assert (result["status"], result["exit_code"]) == ("failed", ExitCode.TIMEOUT)
    assert "longer than 1800 s" in result["error"]["what"] and "--resume" in result["error"]["fix"]
    assert error_from_dict(result["error"]).exit_code == ExitCode.TIMEOUT
    assert result["seconds"] > 0, "the run had the chance to write its own result first"
    assert ended(run.checkpoint / "pid")


@pytest.mark.parametrize("what", ["ignore", "worker"])
def test_time_limit_of_a_run_that_ignores_signals_or_has_workers(
    what: str, start: Callable[..., Any], jump: Callable[..., None]
) -> None:
    run, result, _ = start(what, jump, timeout_seconds=1800)
    assert result["exit_code"] == ExitCode.TIMEOUT
    assert ended(run.checkpoint / "pid")
    assert what != "worker" or ended(run.checkpoint / "worker")


def test_killed_run_is_taken_for_out_of_memory(start: Callable[..., Any]) -> None:
    run, result, _ = start("killed")
    assert (result["status"], result["exit_code"]) == ("failed", ExitCode.OUT_OF_MEMORY)
    assert "Signal 9" in result["error"]["why"]
    assert result["started"] == run.job().created and result["seconds"] > 0
    assert run.seconds_spent() == result["seconds"]


def test_workers_go_with_a_run_that_is_killed(start: Callable[..., Any]) -> None:
    run, result, _ = start("worker and killed")
    assert result["exit_code"] == ExitCode.OUT_OF_MEMORY
    assert ended(run.checkpoint / "worker")


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux does it")
def test_a_run_and_its_workers_end_with_a_command_that_is_killed(
    tmp_path: Path, install_plugins: Callable[..., Registry], monkeypatch: pytest.MonkeyPatch
) -> None:
    install_plugins(replace(GENERATOR, module="synthkit_for_tests", imports=()), code=METHODS)
    monkeypatch.setenv("WHAT_TO_DO", "worker")
    dataset = data.real_dataset(1, 32)
    inputs = {"data": Input("dataset", dataset.path, digest=dataset.digest)}
    run = create_run(tmp_path / "run", Job("train", (GENERATOR.name,), inputs=inputs))
    command = f"""
import os, signal
from pathlib import Path
from synthkit.running import backends
from synthkit.registry.registry import discover
from synthkit.running.run import Run

def kill(event):
    os.kill(os.getpid(), signal.SIGKILL)

backends.get("local").run(Run(Path({str(run.path)!r})), discover().get({GENERATOR.name!r}), kill)
"""
    assert subprocess.run([sys.executable, "-c", command], timeout=60, check=False).returncode == -signal.SIGKILL
    assert ended(run.checkpoint / "pid")
    assert ended(run.checkpoint / "worker")


def test_crash_shows_the_end_of_the_log(start: Callable[..., Any]) -> None:
    run, result, _ = start("crash")
    assert result["exit_code"] == ExitCode.CONTAINER_FAILED
    assert result["error"]["why"] == "Signal 11."
    assert "about to crash" in result["error"]["details"]
    assert str(run.path / "log.txt") in result["error"]["fix"]


def test_exit_without_a_result(start: Callable[..., Any]) -> None:
    _, result, _ = start("vanish")
    assert (result["exit_code"], result["error"]["why"]) == (ExitCode.CONTAINER_FAILED, "Exit status 17.")


def test_nobody_answers_questions(start: Callable[..., Any]) -> None:
    _, result, _ = start("ask")
    assert result["exit_code"] == ExitCode.PLUGIN
    assert "EOFError" in result["error"]["what"]


def test_interrupt_ends_the_run_with_grace(start: Callable[..., Any]) -> None:
    def interrupt(event: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    run, result, _ = start("wait", interrupt)
    assert (result["status"], result["exit_code"]) == ("failed", ExitCode.INTERRUPTED)
    assert "--resume" in result["error"]["fix"]
    assert ended(run.checkpoint / "pid")


def test_second_interrupt_kills(start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(event: dict[str, Any]) -> None:
        monkeypatch.setattr(supervision, "_GRACE_SECONDS", 60.0)
        threading.Timer(0.5, signal.raise_signal, [signal.SIGINT]).start()
        raise KeyboardInterrupt

    began = time.monotonic()
    run, result, _ = start("ignore", interrupt)
    assert result["exit_code"] == ExitCode.INTERRUPTED
    assert ended(run.checkpoint / "pid")
    assert time.monotonic() - began < 50, "it waited for the end of the grace"


def test_failure_of_the_caller_leaves_no_process(start: Callable[..., Any], tmp_path: Path) -> None:
    def fail(event: dict[str, Any]) -> None:
        raise RuntimeError("the caller's own")

    with pytest.raises(RuntimeError, match="the caller's own"):
        start("wait", fail)
    assert ended(tmp_path / "run" / "outputs" / "checkpoint" / "pid")


def test_earlier_result_is_forgotten(start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    run, _, _ = start("talk")
    (run.path / "events.jsonl").write_text('{"event": "message", "level": "warning", "text": "old"}\n')
    monkeypatch.setenv("WHAT_TO_DO", "vanish")
    result = backends.get("local").run(run, GENERATOR, lambda event: None)
    assert (result["status"], result["exit_code"]) == ("failed", ExitCode.CONTAINER_FAILED)
    assert result["warnings"] == [] and "outputs" not in result


@pytest.mark.parametrize(
    ("gpus", "visible"), [("none", ""), ("device=1,3", "1,3"), ("2", "0,1"), ("all", None)], ids=str
)
def test_gpus_are_shown_or_hidden(gpus: str, visible: str | None, start: Callable[..., Any], monkeypatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    run, result, _ = start("environment", gpus=gpus)
    assert result["status"] == "succeeded", result["error"]
    environment = json.loads((run.checkpoint / "environment.json").read_text())
    assert environment.get("CUDA_VISIBLE_DEVICES") == visible


@pytest.mark.parametrize(("gpus", "visible"), [("1", "5"), ("2", "5,7"), ("all", "5,7,3"), ("none", "")], ids=str)
def test_a_schedulers_gpus_are_narrowed_and_never_widened(
    gpus: str, visible: str, start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7,3")
    run, result, _ = start("environment", gpus=gpus)
    assert result["status"] == "succeeded", result["error"]
    environment = json.loads((run.checkpoint / "environment.json").read_text())
    assert environment["CUDA_VISIBLE_DEVICES"] == visible


@pytest.mark.parametrize(("cpus", "threads"), [(3, "3"), (0.5, "1"), (None, "7")], ids=str)
def test_cpus_are_threads_of_the_libraries(
    cpus: float | None, threads: str, start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    run, result, _ = start("environment", cpus=cpus)
    assert result["status"] == "succeeded", result["error"]
    assert json.loads((run.checkpoint / "environment.json").read_text())["OMP_NUM_THREADS"] == threads


@pytest.mark.parametrize("granted", ["5", ""])
def test_more_gpus_than_the_scheduler_granted_are_refused(granted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "gpu_visible", lambda: True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", granted)
    job = Job("train", ("toy-generator",), resources=Resources(gpus="2"))
    with pytest.raises(GpuUnavailableError, match="CUDA_VISIBLE_DEVICES"):
        backends.get("local").check(replace(GENERATOR, gpu="optional"), job)


def test_what_the_local_backend_cannot_enforce_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = backends.get("local")
    job = Job("train", ("toy-generator",), resources=Resources(memory_bytes=10**9))
    with pytest.raises(UsageError, match="--memory cannot be enforced"):
        backend.check(GENERATOR, job)
    monkeypatch.setattr(gpus, "gpu_visible", lambda: False)
    job = Job("train", ("toy-generator",), resources=Resources(gpus="all"))
    backend.check(GENERATOR, job)  # a plugin without use for a GPU
    with pytest.raises(GpuUnavailableError, match="no NVIDIA device"):
        backend.check(replace(GENERATOR, gpu="optional"), job)
    monkeypatch.setattr(gpus, "gpu_visible", lambda: True)
    backend.check(replace(GENERATOR, gpu="optional"), job)


def test_command_is_the_one_to_type(tmp_path: Path) -> None:
    run = Run(tmp_path / "with space")
    job = Job("train", ("toy-generator",))
    assert backends.get("local").command(run, GENERATOR, job) == f"synthkit-run '{run.path}'"


def test_backends_are_chosen_by_name_or_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job("train", ("toy-generator",))
    monkeypatch.delenv("SYNTHKIT_BACKEND", raising=False)
    assert backends.choose("local", GENERATOR, job).name == "local"
    monkeypatch.setenv("SYNTHKIT_BACKEND", "inline")
    assert backends.choose(None, GENERATOR, job).name == "inline"
    assert backends.choose("local", GENERATOR, job).name == "local"
    with pytest.raises(UsageError, match=r"no backend 'dokcer'.*docker, apptainer, local, inline"):
        backends.choose("dokcer", GENERATOR, job)


def test_nothing_falls_back_to_running_without_isolation(monkeypatch: pytest.MonkeyPatch) -> None:
    class Absent:
        name = "docker"

        def check(self, declaration: Any, job: Any) -> None:
            raise BackendUnavailableError("No engine answers.", "The socket is not there.", "Start Docker.")

    monkeypatch.delenv("SYNTHKIT_BACKEND", raising=False)
    monkeypatch.setattr(backends, "get", lambda name: Absent())
    with pytest.raises(BackendUnavailableError, match=r"Start Docker\. .*--backend local"):
        backends.choose(None, GENERATOR, Job("train", ("toy-generator",)))


def test_follower_waits_for_whole_lines(tmp_path: Path) -> None:
    seen: list[Any] = []
    follower = EventFollower(Run(tmp_path), seen.append)
    follower.poll()
    file = tmp_path / "events.jsonl"
    file.write_text('{"event": "progress", "step": 1}\n{"event": "pro')
    follower.poll()
    assert [e["step"] for e in seen] == [1]
    with file.open("a") as stream:
        stream.write('gress", "step": 2}\nnonsense\n{"event": "message", "level": "warning", "text": "é"}\n')
    follower.poll()
    follower.poll()
    assert [e.get("step") for e in seen] == [1, 2, None]
    assert follower.warnings == ["é"]


def test_inline_run_is_like_the_others(
    tmp_path: Path, install_plugins: Callable[..., Registry], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    install_plugins(GENERATOR)
    dataset = data.real_dataset(1, 32)
    job = Job("train", (GENERATOR.name,), inputs={"data": Input("dataset", dataset.path, digest=dataset.digest)})
    run = create_run(tmp_path / "run", job)
    events: list[dict[str, Any]] = []
    result = backends.get("inline").run(run, GENERATOR, events.append)
    assert (result["status"], result["backend"]) == ("succeeded", "inline")
    assert events[-1]["step"] == 4


def test_synthkit_run_says_how_it_is_used(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "synthkit.running.verbs.execute"]
    help_ = subprocess.run([*command, "--help"], capture_output=True, text=True, check=False)
    assert (help_.returncode, help_.stdout.startswith("usage: synthkit-run FOLDER")) == (0, True)
    assert subprocess.run(command, capture_output=True, check=False).returncode == ExitCode.USAGE
    none = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, check=False)
    assert none.returncode == ExitCode.INVALID_DATA
    assert "is not a run folder" in none.stderr
    assert (tmp_path / "result.json").is_file()
