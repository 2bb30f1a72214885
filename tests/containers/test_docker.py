"""Real containers on a real engine. Needs the image of ``base-cpu``; skips, with the reason, where there is none."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import nibabel as nib
import numpy as np
import pytest

from synthkit.contract import Declaration
from synthkit.data.label_folders import LabelFolder
from synthkit.errors import (
    BackendUnavailableError,
    ContainerFailedError,
    DataError,
    ExitCode,
    GpuUnavailableError,
    SynthkitError,
)
from synthkit.registry.registry import Registry, discover
from synthkit.running.backends import docker as backend_module
from synthkit.running.backends import get, isolation, limits
from synthkit.running.backends.docker import DockerBackend
from synthkit.running.backends.limits import used_bytes
from synthkit.running.containers import building, engine
from synthkit.running.containers import images as containers
from synthkit.running.exclusive import locked
from synthkit.running.run import Input, Job, Resources, Run, create_run

pytestmark = pytest.mark.engine

MakeRun = Callable[..., Run]


@pytest.fixture(scope="module")
def client(missing: Callable[[str, str], NoReturn]) -> Any:
    try:
        return engine.connect()
    except SynthkitError as error:
        missing("engine", f"no container engine: {error.why}")


@pytest.fixture(scope="module")
def probe(
    client: Any, tmp_path_factory: pytest.TempPathFactory, missing: Callable[[str, str], NoReturn]
) -> Iterator[Declaration]:
    """The probe plugin, installed into a folder of its own and seen by this process for a while; and its image."""
    try:
        containers.find_image(containers.image_name("base-cpu"), client)
    except BackendUnavailableError as error:
        missing("engine", f"{error.what} Build it with `synthkit containers build base-cpu`.")
    site = tmp_path_factory.mktemp("probe") / "site"
    source = Path(__file__).parent / "probe"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(site), str(source)], check=True)
    sys.path.insert(0, str(site))
    os.environ["PROBE_SITE"] = str(site)
    try:
        declaration = discover().get("probe")
        building.build(declaration, base_image="base-cpu", client=client)
        yield declaration
        for name in (containers.image_name(declaration), "synthkit/probe:latest"):
            client.remove_image(name, force=True)
    finally:
        sys.path.remove(str(site))
        del os.environ["PROBE_SITE"]
        sys.modules.pop("synthkit_probe", None)


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    def make(action: str = "look", *, resources: Resources | None = None, **params: Any) -> Run:
        reference = tmp_path / "reference"
        reference.mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4)), reference / "a.nii.gz")
        job = Job(
            "evaluate",
            ("probe",),
            params={"action": action, **params},
            inputs={"reference": Input("labels", reference)},
            options={"labels": {"reference": LabelFolder(reference, labels="brats2018").decision()}},
            resources=resources or Resources(),
        )
        return create_run(tmp_path / "run", job)

    return make


@pytest.fixture(autouse=True)
def nothing_left(client: Any, tmp_path: Path) -> Iterator[None]:
    """No test may leave a container."""
    yield
    assert not _containers_of(client, tmp_path / "run")


def _containers_of(client: Any, run: Path) -> list[dict[str, Any]]:
    return list(client.containers(all=True, filters={"label": f"{engine.RUN_LABEL}={run.resolve()}"}))


def _execute(run: Run, declaration: Declaration) -> dict[str, Any]:
    result = DockerBackend().run(run, declaration, lambda event: None)
    assert run.result() == result
    return result


def _facts(run: Run) -> dict[str, Any]:
    with (run.outputs / "facts.csv").open(newline="") as file:
        return {row["name"]: json.loads(row["value"]) for row in csv.DictReader(file)}


# --------------------------------------------------------------------------------------------------- isolation


def test_isolation_is_in_force(
    client: Any, probe: Declaration, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_HOST", "x")
    run = make_run(resources=Resources(memory_bytes=512 << 20, cpus=1.5))
    with locked(run.path):
        result = _execute(run, probe)
    assert result["status"] == "succeeded", result["error"]
    facts = _facts(run)

    assert "busy" in facts["unlink lock"]
    assert {path.lstat().st_uid for path in (run.path, *run.path.rglob("*"))} == {os.getuid()}
    user = isolation.user_of(engine.describe(client))
    assert f"{facts['uid']}:{facts['gid']}" == user
    assert os.getuid() != 0 or user == "65532:65532"  # never root
    assert facts["user"] == "synthkit"
    assert facts["capabilities"] == ["0" * 16] * 5
    assert facts["no_new_privileges"] == "1"
    assert facts["seccomp"] == "2"
    assert facts["interfaces"] == ["lo"]
    for what in ("socket to the hypervisor", "socket to ciphers", "io_uring"):
        assert "Operation not permitted" in facts[what], what  # whatever the engine's profile leaves open
    assert "OSError" in facts["connect"] and "gaierror" in facts["resolve"]
    for what in ("write root", "write code", "write job", "write input", "write beside inputs"):
        assert "Read-only file system" in facts[what] or "Permission denied" in facts[what], what
    assert facts["replace job"] != "done" and facts["mount"] != "done"
    assert facts["write outputs"] == facts["write tmp"] == facts["execute from tmp"] == "done"
    assert facts["inputs"] == ["a.nii.gz"]
    assert facts["shm_bytes"] == 512 << 20  # no more than the memory there is
    assert facts["first process"] in ("docker-init", "tini", "catatonit")
    allowed = set(isolation.environment(probe, run.job())) | {"PATH", "HOSTNAME", "CUDA_VISIBLE_DEVICES"}
    assert set(facts["environment"]) - {"LC_CTYPE"} <= allowed

    stated = result["isolation"]
    assert stated["network"] == "none"
    assert stated["root_filesystem"] == stated["inputs"] == "read-only"
    assert stated["capabilities"] == "none"
    assert stated["no_new_privileges"] is True and stated["init"] is True
    assert stated["memory_limit_bytes"] == 512 << 20
    assert stated["pids_limit"] > 0 and stated["cpus"] == 1.5
    assert stated["user"] == user
    container = result["container"]
    assert container["image"] == "synthkit/probe:0.1.0" and container["image_id"].startswith("sha256:")
    assert {path.name for path in run.path.iterdir()} == {
        "job.json",
        "inputs",
        "outputs",
        "events.jsonl",
        "log.txt",
        "result.json",
    }


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder to another user")
def test_what_a_group_of_the_caller_may_read_a_run_may_read(
    probe: Declaration, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation.os, "getgroups", lambda: [0, 60001])
    result = _execute(make_run(), probe)
    assert result["status"] == "succeeded", result["error"]
    assert result["isolation"]["groups"] == ["60001"]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder to another user")
def test_unknown_uid(probe: Declaration, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation.os, "getuid", lambda: 54321)
    monkeypatch.setattr(isolation.os, "getgid", lambda: 54322)
    run = make_run()
    for path in (run.path, *run.path.rglob("*")):
        os.chown(path, 54321, 54322, follow_symlinks=False)
    result = _execute(run, probe)
    assert result["status"] == "succeeded", result["error"]
    facts = _facts(run)
    assert (facts["uid"], facts["gid"], facts["user"]) == (54321, 54322, "synthkit")
    assert "Permission denied" in facts["write beside inputs"] or "Read-only" in facts["write beside inputs"]
    made = (run.outputs / "facts.csv").stat()
    assert (made.st_uid, made.st_gid) == (54321, 54322)


def test_default_limit_leaves_something_to_the_machine(client: Any, probe: Declaration, make_run: MakeRun) -> None:
    result = _execute(make_run(), probe)
    total = engine.describe(client).memory_bytes
    assert 0.89 * total < result["isolation"]["memory_limit_bytes"] <= 0.9 * total


def test_links_out_of_an_input_are_refused(probe: Declaration, make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    (tmp_path / "elsewhere.nii.gz").write_bytes(b"")
    (tmp_path / "reference" / "b.nii.gz").symlink_to(tmp_path / "elsewhere.nii.gz")
    with pytest.raises(DataError, match="links"):
        DockerBackend().run(run, probe, lambda event: None)


# ----------------------------------------------------------------------------------------------- ways of ending


def test_timeout(probe: Declaration, make_run: MakeRun) -> None:
    events: list[dict[str, Any]] = []
    run = make_run("sleep", resources=Resources(timeout_seconds=6))
    result = DockerBackend().run(run, probe, events.append)
    assert result["exit_code"] == ExitCode.TIMEOUT
    assert result["error"]["type"] == "RunTimeoutError"
    assert any(event.get("text") == "asleep" for event in events)
    assert "action sleep" in (run.path / "log.txt").read_text()
    assert result["isolation"]["network"] == "none"


def test_timeout_of_a_run_that_does_not_listen(
    probe: Declaration, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend_module, "_GRACE_SECONDS", 1.0)
    result = _execute(make_run("stubborn", resources=Resources(timeout_seconds=6)), probe)
    assert result["exit_code"] == ExitCode.TIMEOUT  # though the container ends with 137


def test_out_of_memory(probe: Declaration, make_run: MakeRun) -> None:
    result = _execute(make_run("allocate", megabytes=4096, resources=Resources(memory_bytes=400 << 20)), probe)
    assert result["exit_code"] == ExitCode.OUT_OF_MEMORY
    assert "0.4 GiB" in result["error"]["why"]


def test_enough_memory(probe: Declaration, make_run: MakeRun) -> None:
    result = _execute(make_run("allocate", megabytes=64, resources=Resources(memory_bytes=400 << 20)), probe)
    assert result["exit_code"] == ExitCode.OK


def test_killed_from_outside(client: Any, probe: Declaration, make_run: MakeRun) -> None:
    run = make_run("sleep")

    def kill() -> None:
        _until(lambda: (run.path / "events.jsonl").is_file() and "asleep" in (run.path / "events.jsonl").read_text())
        for found in _containers_of(client, run.path):
            client.kill(found["Id"])

    thread = threading.Thread(target=kill)
    thread.start()
    result = _execute(run, probe)
    thread.join()
    assert result["exit_code"] == ExitCode.OUT_OF_MEMORY
    assert "somebody" in result["error"]["why"]


@pytest.mark.parametrize(("action", "why"), [("exit", "Exit status 3."), ("crash", "Signal 11.")])
def test_dies_without_a_result(probe: Declaration, make_run: MakeRun, action: str, why: str) -> None:
    run = make_run(action)
    result = _execute(run, probe)
    assert result["exit_code"] == ExitCode.CONTAINER_FAILED
    assert result["error"]["why"] == why
    assert f"action {action}" in result["error"]["details"]
    assert "succeeded" not in json.dumps(result)


def test_log_of_a_container_that_dies_at_once(
    probe: Declaration, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = DockerBackend._settings

    def settings(self: DockerBackend, *args: Any) -> dict[str, Any]:
        return {**real(self, *args), "entrypoint": ["echo", "gone already"]}

    monkeypatch.setattr(DockerBackend, "_settings", settings)
    for _ in range(5):
        run = make_run()
        result = _execute(run, probe)
        assert result["exit_code"] == ExitCode.CONTAINER_FAILED
        assert result["error"]["details"] == ["gone already /job"]
        for path in run.path.iterdir():
            if path.is_file():
                path.unlink()
        (run.path / "inputs" / "reference").unlink()
        (run.path / "inputs").rmdir()
        run.outputs.rmdir()


def test_closed_output_is_not_the_end(probe: Declaration, make_run: MakeRun) -> None:
    result = _execute(make_run("hush", seconds=2), probe)
    assert result["exit_code"] == ExitCode.OK


def _until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("action", "signals"),
    [("sleep", [signal.SIGINT]), ("sleep", [signal.SIGTERM]), ("stubborn", [signal.SIGINT, signal.SIGINT])],
)
def test_interrupt(
    client: Any, probe: Declaration, make_run: MakeRun, action: str, signals: list[signal.Signals]
) -> None:
    run = make_run(action)
    environment = {**os.environ, "PYTHONPATH": os.environ["PROBE_SITE"]}
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("drive.py")), str(run.path)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert "message\n" in process.stdout  # asleep
    started = time.monotonic()
    for number in signals:
        process.send_signal(number)
        time.sleep(1)
    assert process.wait(60) == ExitCode.INTERRUPTED
    assert time.monotonic() - started < backend_module._GRACE_SECONDS  # a second one does not wait for the grace
    result = run.result()
    assert result is not None and result["error"]["type"] == "InterruptedRunError"
    assert not _containers_of(client, run.path)


def test_leftovers_of_a_killed_command(client: Any, probe: Declaration, make_run: MakeRun) -> None:
    run = make_run("sleep")
    environment = {**os.environ, "PYTHONPATH": os.environ["PROBE_SITE"]}
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("drive.py")), str(run.path)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert "message\n" in process.stdout
    mine = str(run.path.resolve())
    assert mine not in [found["run"] for found in engine.find_leftovers(client)]  # its command runs
    process.kill()
    process.wait()
    assert [f["state"] for f in engine.remove_leftovers(dry_run=True, client=client) if f["run"] == mine] == ["running"]
    assert mine in [found["run"] for found in engine.remove_leftovers(client=client)]
    assert mine not in [found["run"] for found in engine.find_leftovers(client)]


def test_engine_that_goes_away(
    client: Any, probe: Declaration, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: Any
) -> None:
    real = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if not real.startswith("unix://"):
        pytest.skip("the engine is not at a local socket")
    relay = Relay(real.removeprefix("unix://"), tmp_path_factory.mktemp("relay") / "docker.sock")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{relay.path}")
    run = make_run("sleep")

    def on_event(event: dict[str, Any]) -> None:
        if event.get("text") == "asleep":
            relay.close()

    result = DockerBackend().run(run, probe, on_event)
    left = _containers_of(client, run.path)  # nobody can remove it now; doctor will
    assert len(left) == 1
    client.remove_container(left[0]["Id"], force=True)
    assert result["exit_code"] == ExitCode.CONTAINER_FAILED
    assert "lost" in result["error"]["what"]
    assert any("doctor" in warning for warning in result["warnings"])
    assert result["isolation"]["network"] == "none"


class Relay:
    """A socket that hands everything on to an engine, until it is closed."""

    def __init__(self, engine_path: str, path: Path) -> None:
        self.path, self._engine_path = path, engine_path
        self._sockets: list[socket.socket] = []
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self.path.unlink()
        for each in [self._server, *self._sockets]:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._server.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect(self._engine_path)
                self._sockets += [near, far]
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=self._copy, args=(source, target), daemon=True).start()

    @staticmethod
    def _copy(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


def test_removed_from_outside(client: Any, probe: Declaration, make_run: MakeRun) -> None:
    run = make_run("sleep")

    def on_event(event: dict[str, Any]) -> None:
        if event.get("text") == "asleep":
            client.remove_container(_containers_of(client, run.path)[0]["Id"], force=True)

    result = DockerBackend().run(run, probe, on_event)
    assert result["exit_code"] == ExitCode.CONTAINER_FAILED


# --------------------------------------------------------------------------------------------- methods with bad intent


def test_a_forged_result_is_not_taken(probe: Declaration, make_run: MakeRun) -> None:
    result = _execute(make_run("forge"), probe)
    assert result["exit_code"] == ExitCode.CONTAINER_FAILED and "runner did not write" in result["error"]["what"]
    assert "9.9.9" not in json.dumps(result)


def test_traps_in_the_outputs(probe: Declaration, make_run: MakeRun) -> None:
    run = make_run("traps")
    result = _execute(run, probe)
    assert result["exit_code"] == ExitCode.CONTAINER_FAILED
    assert [line.partition(":")[0] for line in result["error"]["details"]] == ["hole", "link", "pipe.csv"]
    assert [path.name for path in run.outputs.iterdir()] == ["shell"]
    status = (run.outputs / "shell").stat()
    assert (status.st_uid, status.st_mode & 0o7777) == (os.getuid(), 0o644)


def test_a_full_disk_is_no_disk_of_the_hosts(probe: Declaration, make_run: MakeRun) -> None:
    run = make_run("fill", resources=Resources(disk_bytes=64 << 20))
    result = _execute(run, probe)
    assert result["exit_code"] == ExitCode.NOT_WRITABLE and "--disk" in result["error"]["fix"]
    assert used_bytes(run.path) < 4 << 30


def test_a_flood_of_words_is_cut(probe: Declaration, make_run: MakeRun) -> None:
    run = make_run("flood")
    result = _execute(run, probe)
    assert result["status"] == "succeeded" and len(result["warnings"]) <= 1001
    log = (run.path / "log.txt").read_bytes()
    assert (
        len(log) < 18 << 20
        and log.startswith(b"action flood")
        and b"left out" in log
        and b"39 xxx" not in log[: 1 << 20]
    )


def test_a_run_that_does_not_end(probe: Declaration, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_LINGERING_SECONDS", 1.0)
    monkeypatch.setattr(limits, "_SECONDS_BETWEEN_LOOKS", 0.5)
    monkeypatch.setattr(backend_module, "_GRACE_SECONDS", 3.0)
    run = make_run("attach")
    result = _execute(run, probe)
    if "attached 0" not in (run.path / "log.txt").read_text():
        pytest.skip("this kernel lets nobody attach to the first process")
    assert result["status"] == "succeeded" and any("did not end" in text for text in result["warnings"])


# ------------------------------------------------------------------------------------------------ before the run


def test_gpu_without_a_runtime(client: Any, probe: Declaration, make_run: MakeRun) -> None:
    if engine.describe(client).gpu:
        pytest.skip("this engine has a GPU runtime")
    run = make_run(resources=Resources(gpus="all"))
    with pytest.raises(GpuUnavailableError, match="NVIDIA Container Toolkit") as caught:
        DockerBackend().check(probe, run.job())
    assert "could not select device driver" in caught.value.why
    result = _execute(run, probe)  # should a check have been skipped
    assert result["exit_code"] == ExitCode.GPU_UNAVAILABLE


def test_image_missing(probe: Declaration, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "REPOSITORY", "synthkit-not-built")
    with pytest.raises(BackendUnavailableError, match="synthkit containers build probe") as caught:
        get("docker").check(probe, make_run().job())
    assert caught.value.exit_code == ExitCode.BACKEND_UNAVAILABLE


def test_engine_missing(probe: Declaration, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    with pytest.raises(BackendUnavailableError, match="DOCKER_HOST") as caught:
        DockerBackend().check(probe, make_run().job())
    assert caught.value.exit_code == ExitCode.BACKEND_UNAVAILABLE


def test_newer_contract(probe: Declaration, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "CONTRACT_VERSION", 0)
    with pytest.raises(BackendUnavailableError, match="newer than this synthkit"):
        DockerBackend().check(probe, make_run().job())


# ------------------------------------------------------------------------------------------------------- images


def test_image_says_what_it_is(client: Any, probe: Declaration) -> None:
    described = containers.inspect(probe, client)
    assert described["name"] == "synthkit/probe:0.1.0"
    assert described["plugins"] == ["probe"]
    assert list(described["declarations"]) == [json.loads(json.dumps(probe.to_dict()))]
    assert described["name"] in [image["name"] for image in containers.list_images(client)]


def test_no_settings_of_the_index_in_the_image(client: Any, probe: Declaration) -> None:
    history = json.dumps(client.history(containers.image_name(probe)))
    assert "pip.conf" not in history and "/build" not in history.split("synthkit-core")[0]


def test_build_that_fails(client: Any, probe: Declaration, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text("ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nRUN echo what went wrong && exit 7\n")
    monkeypatch.setattr(building, "_dockerfile", lambda declaration: dockerfile)
    lines: list[str] = []
    with pytest.raises(ContainerFailedError, match="could not be built") as caught:
        building.build(probe, base_image="base-cpu", on_line=lines.append, client=client, registry=Registry())
    assert "what went wrong" in caught.value.details and "what went wrong" in lines
