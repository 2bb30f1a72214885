"""What a run may take of the host: disk, log, patience."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from synthkit.errors import ExitCode, UsageError
from synthkit.running import backends
from synthkit.running.backends import kept_log, limits, supervision
from synthkit.running.backends.following import EventFollower
from synthkit.running.backends.kept_log import KeptLog
from synthkit.running.backends.limits import Limits, used_bytes
from synthkit.running.backends.outcome import Attempt
from synthkit.running.launch import RunOptions, carry_out, parse_size
from synthkit.running.listening import LoggingListener
from synthkit.running.proof import signed, take_secret
from synthkit.running.request import Request
from synthkit.running.run import Input, Job, Resources, create_run
from synthkit.testing import data
from synthkit.testing.toys import GENERATOR, SLICE_METRIC


def test_a_log_keeps_its_beginning_and_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_log, "_HEAD_BYTES", 100)
    monkeypatch.setattr(kept_log, "_TAIL_BYTES", 50)
    lines = [f"line {number:04d}\n".encode() for number in range(1000)]
    log = KeptLog(tmp_path / "log.txt")
    for line in lines:
        log.write(line)
    log.close()
    log.write(b"too late")
    text = (tmp_path / "log.txt").read_bytes()
    head, _, tail = text.partition(b"\n... ")
    assert head == b"".join(lines)[:100] and tail.endswith(b"".join(lines[-5:])) and len(text) < 250
    counted = int(tail.split()[0].replace(b",", b""))
    assert counted + 100 + len(tail.partition(b"...\n")[2]) == log.n_bytes == 10_000


def test_a_short_log_is_whole(tmp_path: Path) -> None:
    log = KeptLog(tmp_path / "log.txt")
    log.write(b"one\n")
    assert (tmp_path / "log.txt").read_bytes() == b"one\n"  # at once
    log.close()
    assert (tmp_path / "log.txt").read_bytes() == b"one\n"


@pytest.fixture
def watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Attempt, Limits, KeptLog]]:
    """An attempt that is watched, by a clock that a test sets."""

    def make(**resources: Any) -> tuple[Attempt, Limits, KeptLog]:
        monkeypatch.setattr(limits.time, "monotonic", lambda: clock[0])
        job = Job("evaluate", (SLICE_METRIC.name,), resources=Resources(**resources))
        attempt = Attempt(create_run(tmp_path / "run", job), SLICE_METRIC)
        log = KeptLog(attempt.run.path / "log.txt")
        return attempt, Limits(attempt, EventFollower(attempt.run, lambda event: None), log), log

    clock = [1000.0]
    make.clock = clock  # type: ignore[attr-defined]
    return make


def test_silence_ends_a_run_without_a_time_limit(watch: Any) -> None:
    _, limit, log = watch()
    assert not limit.over()
    watch.clock[0] += 23 * 3600
    log.write(b"still here\n")
    assert not limit.over()
    watch.clock[0] += 23 * 3600
    assert not limit.over()
    watch.clock[0] += 2 * 3600
    assert limit.over() and limit.error.exit_code == ExitCode.TIMEOUT and "no sign of life" in limit.error.what


def test_who_gives_a_time_limit_waits_for_it(watch: Any) -> None:
    _, limit, _ = watch(timeout_seconds=100 * 3600.0)  # what the message advises
    watch.clock[0] += 99 * 3600
    assert not limit.over()
    watch.clock[0] += 2 * 3600
    assert limit.over() and "time limit" in limit.error.why


def test_a_run_with_a_result_has_a_minute_to_end(watch: Any) -> None:
    attempt, limit, _ = watch()
    result = {"contract": 1, "status": "succeeded", "exit_code": 0, "error": None, "outputs": {}, "scores": []}
    attempt.run.write_result(signed(result, take_secret(attempt.run.path)))
    assert not limit.over()
    watch.clock[0] += 50
    assert not limit.over()
    watch.clock[0] += 20
    assert limit.over() and limit.error is None
    assert attempt.finish("local", {}, [])["status"] == "succeeded"


def test_disk_counts_what_is_written_and_not_holes(watch: Any) -> None:
    attempt, limit, _ = watch(disk_bytes=2**20)
    with (attempt.run.outputs / "hole").open("wb") as file:
        file.truncate(2**40)
    assert used_bytes(attempt.run.path) < 2**20 and not limit.over()
    (attempt.run.outputs / "full").write_bytes(bytes(2**21))
    watch.clock[0] += 10
    assert limit.over() and limit.error.exit_code == ExitCode.NOT_WRITABLE


def test_sizes() -> None:
    assert parse_size("1.5g", "--disk") == 3 * 2**29 and parse_size("500MB", "--disk") == 500 * 2**20
    with pytest.raises(UsageError, match="--disk much is not a size"):
        parse_size("much", "--disk")


FILLER = """
import time
def train(data, checkpoint, params):
    (checkpoint / "weights").write_text("x")
    print(5000 * "line\\n", flush=True)
    if (checkpoint / "full").exists():
        return
    (checkpoint / "full").write_bytes(bytes(2**22))
    time.sleep(60)

def generate(checkpoint, seeds, params):
    return iter(())
"""


def test_a_run_that_fills_the_disk_is_ended_and_goes_on_with_more(
    tmp_path: Path, install_plugins: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "_SECONDS_BETWEEN_LOOKS", 0.2)
    declaration = replace(GENERATOR, module="synthkit_for_tests", imports=())
    install_plugins(declaration, code=FILLER)
    source = data.real_dataset(4, 32)

    def request() -> Request:
        inputs = {"data": Input("dataset", source.path, digest=source.digest)}
        return Request(Job("train", (declaration.name,), inputs=inputs), (declaration,), "train")

    options = RunOptions(backend="local", disk="2m")
    with pytest.raises(Exception, match="more than") as caught:
        carry_out(request(), tmp_path / "run", options, LoggingListener())
    assert caught.value.exit_code == ExitCode.NOT_WRITABLE and "--disk" in caught.value.fix  # type: ignore[attr-defined]
    done = carry_out(request(), tmp_path / "run", replace(options, disk="50m", resume=True), LoggingListener())
    assert done.result["status"] == "succeeded"


ORPHAN = """
import os, time
def train(data, checkpoint, params):
    (checkpoint / "weights").write_text("x")
    child = os.fork()
    if child:
        (checkpoint.parents[1] / "pid").write_text(str(child))
        while os.getsid(child) == os.getsid(0):
            time.sleep(0.01)
    else:
        os.setsid()  # leaves the session of the run
        if HOLDS_LOG is False:
            os.closerange(0, 3)
        time.sleep(30)
        os._exit(0)

def generate(checkpoint, seeds, params):
    return iter(())
"""


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are found by /proc")
@pytest.mark.parametrize("holds_log", [True, False])
def test_a_process_that_has_left_its_run_is_ended(
    tmp_path: Path, install_plugins: Callable[..., Any], holds_log: bool
) -> None:
    declaration = replace(GENERATOR, module="synthkit_for_tests", imports=())
    install_plugins(declaration, code=f"HOLDS_LOG = {holds_log}\n{ORPHAN}")
    source = data.real_dataset(4, 32)
    inputs = {"data": Input("dataset", source.path, digest=source.digest)}
    run = create_run(tmp_path / "run", Job("train", (declaration.name,), inputs=inputs))
    result: list[dict[str, Any]] = []
    done = threading.Thread(
        target=lambda: result.append(backends.get("local").run(run, declaration, lambda event: None)), daemon=True
    )
    done.start()
    done.join(25)
    assert supervision._LOG_SECONDS < 5 and not done.is_alive() and result[0]["status"] == "succeeded"
    assert any("had left the run, and were ended: 1." in text for text in result[0]["warnings"])
    left = int((run.path / "pid").read_text())
    assert not Path(f"/proc/{left}").exists() or "Z" in Path(f"/proc/{left}/stat").read_text().split()[2]
