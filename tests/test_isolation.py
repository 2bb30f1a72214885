"""What the docker backend asks of an engine and understands of its answers, without an engine."""

from __future__ import annotations

import dataclasses
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from synthkit.contract import MetricDeclaration, ScoreDefinition
from synthkit.errors import (
    BackendUnavailableError,
    ContainerFailedError,
    DataError,
    GpuUnavailableError,
    NotWritableError,
)
from synthkit.running.backends import isolation
from synthkit.running.backends.docker import DockerBackend, start_error
from synthkit.running.backends.ownership import lent
from synthkit.running.containers import engine
from synthkit.running.containers.engine import Engine
from synthkit.running.exclusive import locked
from synthkit.running.run import Input, Job, Resources, Run, create_run
from synthkit.study.plan import Step
from synthkit.study.step import _gpus

INFO: dict[str, Any] = {
    "MemTotal": 16 << 30,
    "NCPU": 8,
    "CgroupVersion": "2",
    "SecurityOptions": ["name=seccomp,profile=default", "name=cgroupns"],
    "Runtimes": {"runc": {}},
    "MemoryLimit": True,
    "SwapLimit": True,
    "PidsLimit": True,
    "CpuCfsQuota": True,
}
DOCKER: dict[str, Any] = {"Version": "28.0.1", "Components": [{"Name": "Engine"}]}
PROBE = MetricDeclaration(
    name="probe",
    summary="for tests",
    module="nowhere",
    distribution="synthkit-core",
    roles=("reference",),
    scores=(ScoreDefinition(name="done", summary="", better="higher"),),
)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    (tmp_path / "real data").mkdir()
    (tmp_path / "real data" / "a.nii.gz").write_bytes(b"x")
    job = Job("evaluate", ("probe",), inputs={"reference": Input("labels", tmp_path / "real data")})
    return create_run(tmp_path / "run", job)


def _options(run: Run, described: Engine | None = None, **resources: Any) -> dict[str, Any]:
    job = dataclasses.replace(run.job(), resources=Resources(**resources))
    return isolation.host_options(run, job, described or Engine.of(INFO, DOCKER), PROBE)


def test_engine_plain() -> None:
    found = Engine.of(INFO, DOCKER)
    assert (found.name, found.version, found.cgroup, found.gpu) == ("Docker", "28.0.1", "v2", "")
    assert found.limits == {"memory", "swap", "pids", "cpus"}
    assert found.seccomp and not (found.rootless or found.remapped or found.selinux)


@pytest.mark.parametrize(
    ("change", "version", "expected"),
    [
        ({"Runtimes": {"runc": {}, "nvidia": {}}}, DOCKER, {"gpu": "nvidia"}),
        ({"DiscoveredDevices": [{"Source": "cdi", "ID": "nvidia.com/gpu=0"}]}, DOCKER, {"gpu": "cdi"}),
        ({"DiscoveredDevices": [{"Source": "cdi", "ID": "vendor.com/net=0"}]}, DOCKER, {"gpu": ""}),
        ({}, {"Version": "5.4", "Components": [{"Name": "Podman Engine"}]}, {"gpu": "cdi", "name": "Podman"}),
        ({"SecurityOptions": ["name=rootless"]}, DOCKER, {"rootless": True, "seccomp": False}),
        ({"SecurityOptions": ["name=userns", "name=selinux"]}, DOCKER, {"remapped": True, "selinux": True}),
        ({"SwapLimit": False, "PidsLimit": False}, DOCKER, {"limits": frozenset({"memory", "cpus"})}),
        ({"SecurityOptions": None, "Runtimes": None, "MemTotal": None}, {}, {"memory_bytes": 0, "version": ""}),
    ],
)
def test_engine_kinds(change: dict[str, Any], version: dict[str, Any], expected: dict[str, Any]) -> None:
    found = dataclasses.asdict(Engine.of({**INFO, **change}, version))
    assert {key: found[key] for key in expected} == expected


def test_walls(run: Run) -> None:
    options = _options(run)
    assert options["network_mode"] == "none" and options["read_only"] and options["cap_drop"] == ["ALL"]
    assert options["security_opt"] == ["no-new-privileges"]
    assert options["mem_limit"] == options["memswap_limit"] == int((16 << 30) * 0.9)
    assert options["shm_size"] == 8 << 30
    assert options["log_config"]["Type"] == "none"
    assert "device_requests" not in options and "nano_cpus" not in options and "userns_mode" not in options


def test_limits(run: Run) -> None:
    options = _options(run, memory_bytes=1 << 30, cpus=2.5)
    assert options["mem_limit"] == options["memswap_limit"] == options["shm_size"] == 1 << 30
    assert options["nano_cpus"] == 2_500_000_000


def test_special_engines(run: Run) -> None:
    described = Engine.of({**INFO, "SecurityOptions": ["name=userns", "name=selinux"], "MemoryLimit": False}, DOCKER)
    options = _options(run, described)
    assert options["userns_mode"] == "host"
    assert options["security_opt"] == ["no-new-privileges", "label=disable"]
    assert options["mem_limit"] is None


def test_mounts(run: Run, tmp_path: Path) -> None:
    mounts = {m["Target"]: (m["Source"], bool(m.get("ReadOnly"))) for m in _options(run)["mounts"]}
    folder = str(run.path.resolve())
    assert mounts == {
        "/job": (folder, False),
        "/job/job.json": (f"{folder}/job.json", True),
        "/job/inputs/reference": (str((tmp_path / "real data").resolve()), True),
    }


def test_inputs_that_a_container_cannot_see(run: Run, tmp_path: Path) -> None:
    data = tmp_path / "real data"
    (data / "inside.nii.gz").symlink_to("a.nii.gz")
    _options(run)
    (data / "outside.nii.gz").symlink_to(tmp_path / "run" / "job.json")
    with pytest.raises(DataError, match=r"outside\.nii\.gz"):
        _options(run)
    (data / "outside.nii.gz").unlink()
    data.rename(tmp_path / "gone")
    with pytest.raises(DataError, match="not there"):
        _options(run)


def test_environment_is_closed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    variables = isolation.environment(PROBE, run.job())
    assert "SECRET" not in variables and "PATH" not in variables
    assert variables["HOME"] == "/tmp" and variables["USER"] == variables["LOGNAME"] == "synthkit"
    assert variables["NVIDIA_VISIBLE_DEVICES"] == "void"
    gpu = isolation.environment(PROBE, dataclasses.replace(run.job(), resources=Resources(gpus="all", cpus=1.5)))
    assert "NVIDIA_VISIBLE_DEVICES" not in gpu and gpu["OMP_NUM_THREADS"] == gpu["OPENBLAS_NUM_THREADS"] == "2"


@pytest.mark.parametrize(
    ("gpus", "way", "expected"),
    [
        ("all", "nvidia", {"Count": -1, "Capabilities": [["gpu"]]}),
        ("2", "", {"Count": 2, "Capabilities": [["gpu"]]}),
        ("device=0,3", "nvidia", {"DeviceIDs": ["0", "3"], "Capabilities": [["gpu"]]}),
        ("all", "cdi", {"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=all"]}),
        ("2", "cdi", {"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=0", "nvidia.com/gpu=1"]}),
        ("device=GPU-1f", "cdi", {"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=GPU-1f"]}),
    ],
)
def test_gpu_request(gpus: str, way: str, expected: dict[str, Any]) -> None:
    request = isolation.gpu_request(Resources(gpus=gpus), way)
    assert {key: value for key, value in request.items() if value} == expected


@pytest.mark.parametrize(
    ("asked", "variables", "expected"),
    [
        # Devices confined to the job (ConstrainDevices): it counts from 0, the engine counts those of the machine.
        ("1", {"CUDA_VISIBLE_DEVICES": "0", "SLURM_JOB_GPUS": "3"}, "device=3"),
        ("all", {"CUDA_VISIBLE_DEVICES": "0,1", "SLURM_JOB_GPUS": "2,5"}, "device=2,5"),
        ("1", {"CUDA_VISIBLE_DEVICES": "0,1", "SLURM_JOB_GPUS": "2,5"}, "device=2"),
        ("device=1", {"CUDA_VISIBLE_DEVICES": "0,1", "SLURM_JOB_GPUS": "2,5"}, "device=5"),
        ("1", {"CUDA_VISIBLE_DEVICES": "0", "SLURM_JOB_GPUS": "2,5", "SLURM_STEP_GPUS": "5"}, "device=5"),
        # Not confined: the same numbers everywhere.
        ("1", {"CUDA_VISIBLE_DEVICES": "3", "SLURM_JOB_GPUS": "3"}, "device=3"),
        ("1", {"CUDA_VISIBLE_DEVICES": "3"}, "device=3"),
        # Names are the same everywhere.
        ("2", {"CUDA_VISIBLE_DEVICES": "GPU-1f,GPU-2a", "SLURM_JOB_GPUS": "2,5"}, "device=GPU-1f,GPU-2a"),
        # No GPUs, and a cluster that does not say which.
        ("none", {"CUDA_VISIBLE_DEVICES": "0", "SLURM_JOB_GPUS": "3"}, "none"),
        ("2", {}, "2"),
        ("all", {}, "all"),
    ],
)
def test_an_engine_is_asked_for_the_devices_of_the_slurm_job(
    asked: str, variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_GPUS", "SLURM_STEP_GPUS", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert isolation.engine_gpus(asked) == asked
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert isolation.engine_gpus(asked) == expected


def test_devices_of_the_slurm_job_reach_the_request_and_the_command(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_STEP_GPUS", raising=False)
    for name, value in {"SLURM_JOB_ID": "7", "CUDA_VISIBLE_DEVICES": "0,1", "SLURM_JOB_GPUS": "2,5"}.items():
        monkeypatch.setenv(name, value)
    assert isolation.gpu_request(Resources(gpus="all"), "nvidia")["DeviceIDs"] == ["2", "5"]
    job = dataclasses.replace(run.job(), resources=Resources(gpus="1"))
    words = shlex.split(DockerBackend().command(run, PROBE, job))
    assert words[words.index("--gpus") + 1] == "device=2"
    with pytest.raises(GpuUnavailableError, match="grants 2"):
        DockerBackend().check(PROBE, dataclasses.replace(job, resources=Resources(gpus="3")))


def test_steps_of_a_study_in_a_slurm_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    step = Step("train-a", "train generator", Path("a"), "train", {"plugin": "a"}, gpus=1, in_container=True)
    with _gpus(step, {"local_gpus": []}) as options:
        assert options == {"gpus": "1"}, "a job of its own: no numbers of this machine on record"
    with _gpus(step, {"local_gpus": ["3", "5"]}) as one, _gpus(step, {"local_gpus": ["3", "5"]}) as other:
        assert (one, other) == ({"gpus": "device=3"}, {"gpus": "device=5"}), "one job for all: each has its own"


def test_gpu_only_for_those_who_use_it(run: Run) -> None:
    assert _options(run, gpus="all")["device_requests"]
    job = dataclasses.replace(run.job(), resources=Resources(gpus="all"))
    without = dataclasses.replace(PROBE, gpu="none")
    assert "device_requests" not in isolation.host_options(run, job, Engine.of(INFO, DOCKER), without)


@pytest.mark.parametrize(
    ("message", "gpu", "kind"),
    [
        ('could not select device driver "" with capabilities: [[gpu]]', True, GpuUnavailableError),
        ("nvidia-container-cli: initialization error: nvml error: driver not loaded", True, GpuUnavailableError),
        ("CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=all", True, GpuUnavailableError),
        ("nvidia-container-cli: ldcache error", False, ContainerFailedError),
        ('invalid mount config for type "bind": bind source path does not exist: /x', True, BackendUnavailableError),
        ("mkdir /var/lib/docker/overlay2/x: no space left on device", False, NotWritableError),
        ("OCI runtime create failed", True, ContainerFailedError),
    ],
)
def test_refusals(message: str, gpu: bool, kind: type[Exception]) -> None:
    assert type(start_error(RuntimeError(message), gpu=gpu)) is kind


def test_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    monkeypatch.setattr(os, "getgid", lambda: 100)
    assert isolation.user_of(Engine.of(INFO, DOCKER)) == "1000:100"
    assert isolation.user_of(Engine.of({**INFO, "SecurityOptions": ["name=rootless"]}, DOCKER)) == "0:0"


def test_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    monkeypatch.setattr(os, "getgid", lambda: 100)
    monkeypatch.setattr(os, "getgroups", lambda: [100, 4, 60001])
    assert isolation.groups_of(Engine.of(INFO, DOCKER)) == ["4", "60001"]
    assert isolation.groups_of(Engine.of({**INFO, "SecurityOptions": ["name=rootless"]}, DOCKER)) == []


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file to others")
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_an_input_that_a_run_may_not_read_is_named_before_it_starts(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container has no capability that lets root read what others keep from it; a group of the caller's may."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "secret").write_text("x")
    os.chown(folder / "secret", 54321, 60001)
    (folder / "secret").chmod(0o640)
    source = folder if kind == "folder" else folder / "secret"
    run = create_run(tmp_path / "run", Job("train", ("toy",), inputs={"data": Input("labels", source)}))
    user = isolation.user_of(Engine.of(INFO, DOCKER))
    with pytest.raises(DataError, match=r"no right to read .*secret"):
        isolation.mounts(run, run.job(), user)
    monkeypatch.setattr(os, "getgroups", lambda: [0, 60001])
    assert len(isolation.mounts(run, run.job(), user)) == 3


@pytest.mark.skipif(os.getuid() != 0, reason="it is about root")
def test_root_is_nobody_in_a_container(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    described = Engine.of(INFO, DOCKER)
    user = isolation.user_of(described)
    assert user == "65532:65532"
    monkeypatch.setattr(os, "getgroups", lambda: [0, 4])
    assert isolation.groups_of(described) == ["4"]
    outside = tmp_path / "outside"
    outside.write_text("x")
    (run.outputs / "folder").mkdir()
    (run.outputs / "folder" / "link").symlink_to(outside)
    with lent(run.path, user):
        owners = {p.lstat().st_uid for p in (run.path, run.path / "job.json", run.outputs / "folder" / "link")}
        assert owners == {65532}
    assert {p.lstat().st_uid for p in (run.path, *run.path.rglob("*"), outside)} == {0}
    # What the message advises helps.
    secret = tmp_path / "real data" / "a.nii.gz"
    secret.chmod(0o600)
    with pytest.raises(DataError, match="made as user 65532") as caught:
        _options(run)
    subprocess.run(caught.value.fix.removeprefix("Give it: ").partition(". Or")[0], shell=True, check=True)
    _options(run)


def test_the_lock_cannot_be_unlinked_in_a_container(run: Run) -> None:
    with locked(run.path):
        lock = {m["Target"]: m.get("ReadOnly") for m in _options(run)["mounts"]}["/job/.lock"]
    assert lock is True


def test_stated_isolation_is_what_the_engine_says() -> None:
    inspected = {
        "HostConfig": {"NetworkMode": "bridge", "ReadonlyRootfs": False, "CapDrop": None, "CapAdd": None, "Memory": 0},
        "Config": {"User": ""},
        "Mounts": [{"Destination": "/job/inputs/real", "RW": True}],
    }
    stated = isolation.describe_isolation(inspected, Engine.of(INFO, DOCKER))
    assert stated["network"] == "bridge" and stated["root_filesystem"] == "writable"
    assert stated["inputs"] == "not protected" and stated["capabilities"] == "some"
    assert stated["no_new_privileges"] is False
    assert stated["memory_limit_bytes"] is None and stated["swap"] == "not limited" and stated["pids_limit"] is None
    assert isolation.describe_isolation({}, Engine.of(INFO, DOCKER)) == {}


def test_swap_is_not_claimed_without_swap_accounting() -> None:
    host = {"NetworkMode": "none", "ReadonlyRootfs": True, "Memory": 5, "MemorySwap": 5}
    inspected = {"HostConfig": host, "Config": {}, "Mounts": []}
    assert isolation.describe_isolation(inspected, Engine.of(INFO, DOCKER))["swap"] == "none"
    blind = Engine.of({**INFO, "SwapLimit": False}, DOCKER)
    assert isolation.describe_isolation(inspected, blind)["swap"] == "not limited"


def test_command_line(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    job = dataclasses.replace(run.job(), resources=Resources(gpus="device=0,1", memory_bytes=1 << 30))
    line = DockerBackend().command(run, PROBE, job)
    words = shlex.split(line)
    assert words[:2] == ["docker", "run"] and words[-1] == "/job"
    assert words[-2].startswith("synthkit/core:")
    assert words[words.index("--gpus") + 1] == '"device=0,1"'  # docker reads this value as CSV
    assert f"type=bind,src={tmp_path.resolve()}/real data,dst=/job/inputs/reference,readonly" in words
    assert words[words.index("--memory") + 1] == words[words.index("--memory-swap") + 1] == str(1 << 30)
    for wanted in ("--read-only", "--init"):
        assert wanted in words


def test_leftovers_of_others_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = engine.labels(Path("/run"))
    dead = {**mine, engine.PID_LABEL: "1", engine.START_LABEL: "before the machine began"}
    containers = [
        {"Id": "alive", "Names": ["/a"], "State": "running", "Labels": mine},
        {"Id": "dead", "Names": ["/b"], "State": "running", "Labels": dead},
    ]
    removed: list[str] = []

    class Client:
        def containers(self, all: bool, filters: dict[str, list[str]]) -> list[dict[str, Any]]:
            assert all and filters["label"] == [f"{key}={mine[key]}" for key in (engine.HOST_LABEL, engine.UID_LABEL)]
            return containers

        def remove_container(self, identifier: str, **options: Any) -> None:
            removed.append(identifier)

    assert [c["id"] for c in engine.remove_leftovers(dry_run=True, client=Client())] == ["dead"]
    assert removed == []
    engine.remove_leftovers(client=Client())
    assert removed == ["dead"]
    assert mine[engine.UID_LABEL] == str(os.getuid())


def test_a_container_that_outlived_a_killed_command_is_removed_before_the_next_attempt(run: Run) -> None:
    mine, other = engine.labels(run.path.resolve()), engine.labels(Path("/another/run"))
    dead = {engine.PID_LABEL: "1", engine.START_LABEL: "before the machine began"}
    containers = [
        {"Id": "live", "Names": ["/a"], "State": "running", "Labels": mine},
        {"Id": "left", "Names": ["/b"], "State": "running", "Labels": {**mine, **dead}},
        {"Id": "of another run", "Names": ["/c"], "State": "running", "Labels": {**other, **dead}},
    ]
    removed: list[str] = []

    class Client:
        def containers(self, all: bool, filters: dict[str, list[str]]) -> list[dict[str, Any]]:
            return containers

        def remove_container(self, identifier: str, **options: Any) -> None:
            removed.append(identifier)

    backend = DockerBackend()
    backend._client = Client()
    assert backend._remove_earlier(run) == ["b"]
    assert removed == ["left"]
