"""The apptainer backend, with a program in Apptainer's place that runs ``synthkit-run`` without any walls.

What real walls hold is tested in ``tests/containers/test_apptainer.py``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from synthkit.errors import BackendUnavailableError, ExitCode, GpuUnavailableError, NotWritableError, UsageError
from synthkit.registry.registry import Registry
from synthkit.running import backends
from synthkit.running.backends import apptainer, gpus, supervision
from synthkit.running.containers import images as containers
from synthkit.running.containers import sif
from synthkit.running.run import Input, Job, Resources, Run, create_run
from synthkit.testing import data
from synthkit.testing.toys import GENERATOR

METHODS = """
import os, signal, sys, time
import synthkit


def train(data, checkpoint, params):
    from synthkit.testing.toys.generator import train as right
    (checkpoint / "pid").write_text(str(os.getpid()))
    synthkit.progress(1, 1000)
    what = os.environ["WHAT_TO_DO"]
    if what == "wait":
        time.sleep(120)
    elif what == "fail":
        raise ValueError("not this one")
    elif what == "vanish":
        print("last words", flush=True)
        os._exit(17)
    right(data, checkpoint, params)
    (checkpoint / "environment.json").write_text(__import__("json").dumps(dict(os.environ)))


def generate(checkpoint, seeds, params):
    from synthkit.testing.toys.generator import generate as right
    return right(checkpoint, seeds, params)
"""

# Takes the words that the backend writes, leaves them in calls.jsonl, and does without walls what they say. What the
# machine refuses is in REFUSED; what the probe sees is in facts.
FAKE = """#!{python}
import json, os, pathlib, sys
here = pathlib.Path(__file__).parent
words = sys.argv[1:]
with open(here / "calls.jsonl", "a") as calls:
    calls.write(json.dumps({{"words": words, "environment": dict(os.environ)}}) + "\\n")
if words == ["--version"]:
    print("apptainer version 1.4.5")
    sys.exit()
if words[:1] == ["inspect"]:
    print((here / "labels.json").read_text())
    sys.exit()
for refused in os.environ.get("REFUSED", "").split():
    if refused in words:
        sys.exit(f"FATAL:   {{refused}} is not for you")
inside = words[next(i for i, word in enumerate(words) if word.endswith(".sif")) + 1 :]
if inside[0] == "sh":
    print((here / "facts").read_text(), end="")
    sys.exit()
assert inside[0] == "env" and inside[-2:] == ["synthkit-run", "/job"], inside
folder = next(word for word in words if word.endswith("destination=/job")).split("source=")[1].split(",")[0]
os.environ.update(dict(word.split("=", 1) for word in inside[1:-2]))
if os.environ["WHAT_TO_DO"] == "killed":
    sys.exit(137)
os.execv(sys.executable, [sys.executable, "-m", "synthkit.running.verbs.execute", folder])
"""

FACTS = """Uid:\t1000\t1000\t1000\t1000
Gid:\t100\t100\t100\t100
CapPrm:\t0000000000000000
CapEff:\t0000000000000000
CapBnd:\t0000000000000000
NoNewPrivs:\t1
Seccomp:\t0
---
Inter-|   Receive
 face |bytes
    lo:       0       0
---
99 68 0:41 / / rw,nodev,relatime unbindable - overlay overlay ro,lowerdir=/a:/b
125 99 254:0 /run /job rw,nosuid - ext4 /dev/vda rw,discard
127 126 254:0 /data /job/inputs/data ro,nosuid - ext4 /dev/vda rw,discard
"""


@dataclasses.dataclass
class Fake:
    """The folder of the program, and what was called."""

    folder: Path

    def calls(self, verb: str) -> list[dict[str, Any]]:
        lines = (self.folder / "calls.jsonl").read_text().splitlines()
        return [call for call in map(json.loads, lines) if verb in call["words"]]

    def words(self) -> list[str]:
        """Those of the run, which comes after the probe."""
        return list(self.calls("exec")[-1]["words"])


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "apptainer").write_text(FAKE.format(python=sys.executable))
    (folder / "apptainer").chmod(0o755)
    (folder / "facts").write_text(FACTS)
    labels = {containers.CONTRACT_LABEL: "1", containers.DECLARATIONS_LABEL: json.dumps([{"name": GENERATOR.name}])}
    (folder / "labels.json").write_text(json.dumps({"data": {"attributes": {"labels": labels}}}))
    (folder / f"{sif.file_name(NAME, '.sif')}").write_bytes(b"an image")
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    monkeypatch.setenv("SYNTHKIT_SIF_DIR", str(folder))
    for name in (*apptainer._SCHEDULERS, "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    return Fake(folder)


NAME = "synthkit/for-tests:1.0"
DECLARATION = dataclasses.replace(GENERATOR, module="synthkit_for_tests", distribution="synthkit-for-tests", imports=())


@pytest.fixture
def prepared(
    fake: Fake, tmp_path: Path, install_plugins: Callable[..., Registry], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Run]:
    """Makes a run whose training does ``what``."""
    install_plugins(DECLARATION, code=METHODS)
    monkeypatch.setattr(supervision, "_GRACE_SECONDS", 5.0)

    def make(what: str = "train", **resources: Any) -> Run:
        monkeypatch.setenv("WHAT_TO_DO", what)
        dataset = data.real_dataset(1, 32)
        inputs = {"data": Input("dataset", dataset.path, digest=dataset.digest)}
        return create_run(
            tmp_path / "run", Job("train", (DECLARATION.name,), inputs=inputs, resources=Resources(**resources))
        )

    return make


def execute(run: Run, on_event: Callable[[dict[str, Any]], None] = lambda event: None) -> dict[str, Any]:
    result = backends.get("apptainer").run(run, DECLARATION, on_event)
    assert result == run.result() and result["backend"] == "apptainer"
    return result


def is_over(run: Run) -> bool:
    status = Path("/proc") / (run.checkpoint / "pid").read_text() / "status"
    for _ in range(500):
        try:
            if "\nState:\tZ" in status.read_text():
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


def test_run_from_start_to_end(fake: Fake, prepared: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APPTAINER_BIND", "/etc:/mnt")
    monkeypatch.setenv("SINGULARITYENV_SECRET", "x")
    monkeypatch.setenv("APPTAINER_TMPDIR", "/scratch")
    events: list[dict[str, Any]] = []
    run = prepared()
    result = execute(run, events.append)
    assert (result["status"], result["error"]) == ("succeeded", None)
    assert events[-1]["step"] == 4
    environment = json.loads((run.checkpoint / "environment.json").read_text())
    assert environment["HOME"] == "/tmp" and environment["CUDA_VISIBLE_DEVICES"] == ""
    called = fake.calls("exec")[-1]["environment"]
    assert "APPTAINER_BIND" not in called and "SINGULARITYENV_SECRET" not in called
    assert called["APPTAINER_TMPDIR"] == "/scratch"
    assert result["container"]["image_id"] == f"sha256:{hashlib.sha256(b'an image').hexdigest()}"
    assert result["container"]["engine"] == "apptainer version 1.4.5"


def test_walls_that_are_asked_for(fake: Fake, prepared: Callable[..., Run], tmp_path: Path) -> None:
    run = prepared(memory_bytes=1 << 30, cpus=1.5)
    execute(run)
    words = fake.words()
    for flag in ("--containall", "--cleanenv", "--no-home", "--no-privs"):
        assert flag in words
    pairs = set(itertools.pairwise(words))
    assert {("--network", "none"), ("--memory", f"{1 << 30}"), ("--memory-swap", f"{1 << 30}")} <= pairs
    assert {("--pids-limit", "4096"), ("--cpus", "1.5"), ("--pwd", "/tmp")} <= pairs
    assert "--nv" not in words and "--writable" not in words and "--writable-tmpfs" not in words
    mounted = [second for first, second in pairs if first == "--mount"]
    folder = run.path.resolve()
    assert f"type=bind,source={folder},destination=/job" in mounted
    assert f"type=bind,source={folder}/job.json,destination=/job/job.json,ro" in mounted
    source = run.input("data").resolve()
    assert f"type=bind,source={source},destination=/job/inputs/data,ro" in mounted
    assert len(mounted) == 4
    work = Path(words[words.index("--workdir") + 1])
    assert not work.parent.exists(), "the run's /tmp was left behind"


def test_paths_with_marks(tmp_path: Path) -> None:
    source = tmp_path / 'a, "b": c'
    source.mkdir()
    run = create_run(tmp_path / "run", Job("evaluate", ("dice",), inputs={"reference": Input("labels", source)}))
    with apptainer._stage(run, run.job()) as stage:
        mounted = apptainer._binds(run, run.job(), stage)
    assert mounted[-1] == f'type=bind,"source={tmp_path.resolve()}/a, ""b"": c",destination=/job/inputs/reference,ro'


def test_stated_is_what_the_probe_saw(fake: Fake, prepared: Callable[..., Run]) -> None:
    result = execute(prepared())
    stated = result["isolation"]
    assert (stated["network"], stated["root_filesystem"], stated["inputs"]) == ("none", "read-only", "read-only")
    assert (stated["capabilities"], stated["no_new_privileges"], stated["seccomp"]) == ("none", True, False)
    assert stated["user"] == "1000:100" and stated["limits"] == "of the container"
    assert stated["memory_limit_bytes"] > 0 and stated["pids_limit"] == 4096
    assert result["warnings"] == []


@pytest.mark.parametrize(
    ("seen", "instead", "key", "value"),
    [
        ("    lo:", "  eth0: 1\n    lo:", "network", "host"),
        ("overlay ro,", "overlay rw,", "root_filesystem", "writable"),
        ("/job/inputs/data ro", "/job/inputs/data rw", "inputs", "not protected"),
        ("/job/inputs/data ro", "/job/inputs/other ro", "inputs", "not protected"),
        ("CapEff:\t0000000000000000", "CapEff:\t0000000000000001", "capabilities", "some"),
        ("NoNewPrivs:\t1", "NoNewPrivs:\t0", "no_new_privileges", False),
    ],
)
def test_what_is_not_in_force_is_not_claimed(seen: str, instead: str, key: str, value: object) -> None:
    job = Job("train", ("toy",), inputs={"data": Input("dataset", Path("/data"))})
    assert seen in FACTS
    assert apptainer.describe(FACTS.replace(seen, instead), job, apptainer.Walls(True, True))[key] == value


def test_machine_that_refuses_limits(fake: Fake, prepared: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFUSED", "--memory")
    result = execute(prepared())
    assert result["status"] == "succeeded"
    stated = result["isolation"]
    assert stated["memory_limit_bytes"] is None and stated["pids_limit"] is None and stated["limits"] == "none"
    assert any("cannot limit memory and processes" in warning for warning in result["warnings"])
    assert "--network" in fake.words()


def test_memory_limit_that_cannot_be_kept_is_refused(
    prepared: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFUSED", "--memory")
    with pytest.raises(UsageError, match="--memory cannot be enforced by Apptainer here"):
        execute(prepared(memory_bytes=1 << 30))


def test_machine_that_refuses_a_network_of_its_own(
    fake: Fake, prepared: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFUSED", "--net")
    (fake.folder / "facts").write_text(FACTS.replace("    lo:", "  eth0: 1\n    lo:"))
    result = execute(prepared())
    assert result["status"] == "succeeded" and result["isolation"]["network"] == "host"
    assert "cannot take the network away" in result["warnings"][0]
    assert "--memory" in fake.words()


def test_machine_that_starts_nothing(prepared: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFUSED", "exec")
    with pytest.raises(Exception, match="exec is not for you") as caught:
        execute(prepared())
    assert caught.value.exit_code == ExitCode.CONTAINER_FAILED  # type: ignore[attr-defined]


def test_in_a_schedulers_job_the_scheduler_limits(
    fake: Fake, prepared: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    result = execute(prepared())
    assert "--memory" not in fake.words() and "--pids-limit" not in fake.words()
    assert result["isolation"]["limits"] == "of the scheduler's job"
    job = Job("train", (DECLARATION.name,), resources=Resources(memory_bytes=1 << 30))
    with pytest.raises(UsageError, match="sbatch --mem"):
        backends.get("apptainer").check(DECLARATION, job)


def test_failures_of_the_method(prepared: Callable[..., Run]) -> None:
    result = execute(prepared("fail"))
    assert result["exit_code"] == ExitCode.PLUGIN and "not this one" in json.dumps(result["error"])


@pytest.mark.parametrize(
    ("what", "code", "why"),
    [("vanish", ExitCode.CONTAINER_FAILED, "Exit status 17."), ("killed", ExitCode.OUT_OF_MEMORY, "Signal 9")],
)
def test_end_without_a_result(prepared: Callable[..., Run], what: str, code: ExitCode, why: str) -> None:
    result = execute(prepared(what))
    assert result["exit_code"] == code and why in result["error"]["why"]


def test_time_limit(prepared: Callable[..., Run]) -> None:
    run = prepared("wait", timeout_seconds=4)
    result = execute(run)
    assert result["exit_code"] == ExitCode.TIMEOUT and is_over(run)


def test_interrupt(prepared: Callable[..., Run]) -> None:
    def interrupt(event: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    run = prepared("wait")
    result = execute(run, interrupt)
    assert result["exit_code"] == ExitCode.INTERRUPTED and is_over(run)


@pytest.mark.parametrize(
    ("gpus", "granted", "visible"),
    [("none", "5,7", ""), ("device=1,3", None, "1,3"), ("1", "5,7", "5"), ("all", "5,7", "5,7"), ("all", None, None)],
)
def test_gpus(gpus: str, granted: str | None, visible: str | None, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    if granted is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", granted)
    declaration = dataclasses.replace(DECLARATION, gpu="optional")
    job = Job("train", (DECLARATION.name,), resources=Resources(gpus=gpus))
    inside = apptainer._inside(declaration, job)
    assert [w.partition("=")[2] for w in inside if w.startswith("CUDA_VISIBLE_DEVICES=")] == (
        [] if visible is None else [visible]
    )
    backend = apptainer.ApptainerBackend()
    assert ("--nv" in backend._start(declaration, job, apptainer.Walls(True, True), [])) is (gpus != "none")


def test_what_is_missing_is_named(
    fake: Fake, prepared: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    job = prepared().job()
    backend = backends.get("apptainer")
    backend.check(DECLARATION, job)
    monkeypatch.setattr(gpus, "gpu_visible", lambda: False)
    with pytest.raises(GpuUnavailableError):
        backend.check(
            dataclasses.replace(DECLARATION, gpu="required"), dataclasses.replace(job, resources=Resources(gpus="all"))
        )
    monkeypatch.setenv("SYNTHKIT_SIF_DIR", str(tmp_path / "elsewhere"))
    with pytest.raises(BackendUnavailableError, match=r"for-tests_1\.0\.sif is not there.*containers export"):
        backends.get("apptainer").check(DECLARATION, job)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackendUnavailableError, match="Apptainer is not there") as caught:
        backends.get("apptainer").check(DECLARATION, job)
    assert caught.value.exit_code == ExitCode.BACKEND_UNAVAILABLE


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("nonsense", "not an image that Apptainer can read"),
        ({}, "not an image of synthkit's"),
        ({containers.CONTRACT_LABEL: "999"}, "newer than this synthkit"),
        ({containers.CONTRACT_LABEL: "1"}, "does not have"),
    ],
)
def test_images_that_do_not_fit(labels: object, message: str, fake: Fake, prepared: Callable[..., Run]) -> None:
    text = labels if isinstance(labels, str) else json.dumps({"data": {"attributes": {"labels": labels}}})
    (fake.folder / "labels.json").write_text(text)
    with pytest.raises(BackendUnavailableError, match=message):
        backends.get("apptainer").check(DECLARATION, prepared().job())


def test_singularity_will_do(fake: Fake, prepared: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    (fake.folder / "apptainer").rename(fake.folder / "singularity")
    monkeypatch.setattr(apptainer.shutil, "which", lambda name: {"singularity": f"{fake.folder}/singularity"}.get(name))
    assert execute(prepared())["status"] == "succeeded"


def test_archives_are_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Client:
        def get_image(self, name: str) -> Any:
            yield b"one "
            if broken:
                raise OSError(28, "No space left on device")
            yield name.encode()

    broken = False
    monkeypatch.setenv("SYNTHKIT_SIF_DIR", "/images")
    monkeypatch.setattr(containers, "find_image", lambda name, client: None)
    monkeypatch.setattr(containers, "find_target", lambda name, registry: name)
    monkeypatch.setattr(containers, "image_name", lambda target: f"synthkit/{target}:0.1.0")
    written = sif.export(["unet", "unet"], tmp_path / "out", client=Client())
    archive = tmp_path / "out" / "unet_0.1.0.tar"
    assert archive.read_bytes() == b"one synthkit/unet:0.1.0"
    build = f"apptainer build /images/unet_0.1.0.sif docker-archive:{archive}"
    assert written == [{"image": "synthkit/unet:0.1.0", "archive": str(archive), "build": build}]
    broken = True
    with pytest.raises(NotWritableError, match="No space left"):
        sif.export(["swin"], tmp_path / "out", client=Client())
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["unet_0.1.0.tar"]


def test_command_line_is_the_one_to_type(tmp_path: Path, fake: Fake, prepared: Callable[..., Run]) -> None:
    job = Job("train", (DECLARATION.name,), inputs={"data": Input("dataset", tmp_path)})
    line = backends.get("apptainer").command(Run(tmp_path / "run"), DECLARATION, job)
    assert line.startswith("apptainer --quiet exec ") and line.endswith(" synthkit-run /job")
    assert f"source={tmp_path.resolve()},destination=/job/inputs/data,ro" in line and "for-tests_1.0.sif" in line
