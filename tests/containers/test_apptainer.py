"""Real containers of Apptainer's, from images of a real engine. Skips, with the reason, where one is missing."""

from __future__ import annotations

import csv
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import nibabel as nib
import numpy as np
import pytest

from synthkit.contract import Declaration
from synthkit.data.label_folders import LabelFolder
from synthkit.errors import BackendUnavailableError, ExitCode, SynthkitError
from synthkit.registry.registry import discover
from synthkit.running.backends import apptainer, get
from synthkit.running.containers import building, engine, sif
from synthkit.running.containers import images as containers
from synthkit.running.run import Input, Job, Resources, Run, create_run

pytestmark = [pytest.mark.engine, pytest.mark.slow]

MakeRun = Callable[..., Run]


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory, missing: Callable[[str, str], NoReturn]) -> Iterator[Declaration]:
    """The probe plugin, installed into a folder of its own, and its SIF file."""
    if apptainer.program() is None:
        missing("apptainer", "no Apptainer")
    try:
        client = engine.connect()
        containers.find_image(containers.image_name("base-cpu"), client)
    except SynthkitError as error:
        missing("engine", f"nothing to make SIF files of: {error.what}")
    site, folder = tmp_path_factory.mktemp("probe") / "site", tmp_path_factory.mktemp("sif")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(site), str(Path(__file__).parent / "probe")], check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        patch.setenv("PYTHONPATH", str(site))
        patch.setenv("SYNTHKIT_SIF_DIR", str(folder))
        declaration = discover().get("probe")
        building.build(declaration, base_image="base-cpu", client=client)
        (exported,) = sif.export(["probe"], folder)
        build = shlex.split(exported["build"])
        build[2:2] = ["--mksquashfs-args", "-noI -noD -noF -noX"]  # compressing would take minutes
        subprocess.run(build, check=True, capture_output=True)
        Path(exported["archive"]).unlink()
        yield declaration
        for name in (exported["image"], "synthkit/probe:latest"):
            client.remove_image(name, force=True)
    sys.modules.pop("synthkit_probe", None)


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    def make(action: str = "look", *, resources: Resources | None = None, **params: Any) -> Run:
        reference = tmp_path / "reference, with: marks"
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
def nothing_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test may leave a process, nor a folder of the run's."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(apptainer.tempfile, "tempdir", str(tmp_path / "temporary"))
    yield
    assert not list((tmp_path / "temporary").iterdir())
    _until(lambda: not _processes_of(tmp_path / "run"), 20)


def _processes_of(run: Path) -> list[str]:
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout.splitlines()
    return [line for line in listed if f"{run}" in line and "exec" in line]


def _until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def _execute(run: Run, declaration: Declaration) -> dict[str, Any]:
    result = get("apptainer").run(run, declaration, lambda event: None)
    assert run.result() == result
    return result


def _facts(run: Run) -> dict[str, Any]:
    with (run.outputs / "facts.csv").open(newline="") as file:
        return {row["name"]: json.loads(row["value"]) for row in csv.DictReader(file)}


def test_isolation_is_in_force_and_stated(
    probe: Declaration, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_HOST", "x")
    monkeypatch.setenv("APPTAINERENV_SECRET_OF_THE_HOST", "x")
    monkeypatch.setenv("APPTAINER_BIND", "/etc:/mnt")
    run = make_run()
    result = _execute(run, probe)
    assert result["status"] == "succeeded", result["error"]
    facts = _facts(run)
    assert (facts["uid"], facts["gid"]) == (os.getuid(), os.getgid())
    assert facts["user"] == "synthkit"
    assert facts["capabilities"] == ["0" * 16] * 5
    assert facts["no_new_privileges"] == "1"
    assert "OSError" in facts["connect"] and "gaierror" in facts["resolve"]
    for what in ("write root", "write code", "write job", "write input", "write beside inputs"):
        assert "Read-only file system" in facts[what] or "Permission denied" in facts[what], what
    assert facts["replace job"] != "done" and facts["mount"] != "done"
    assert facts["write outputs"] == facts["write tmp"] == facts["execute from tmp"] == "done"
    assert facts["inputs"] == ["a.nii.gz"]
    assert "SECRET_OF_THE_HOST" not in facts["environment"] and facts["environment"]["HOME"] == "/tmp"

    stated = result["isolation"]
    assert stated["network"] == "none"
    assert stated["root_filesystem"] == stated["inputs"] == "read-only"
    assert stated["capabilities"] == "none" and stated["no_new_privileges"] is True
    assert stated["user"] == f"{os.getuid()}:{os.getgid()}"
    assert stated["seccomp"] is (facts["seccomp"] == "2")
    assert not [warning for warning in result["warnings"] if "Apptainer" in warning]
    assert result["backend"] == "apptainer" and result["container"]["image"] == "probe_0.1.0.sif"
    assert result["container"]["image_id"].startswith("sha256:") and "1." in result["container"]["engine"]


def test_timeout(probe: Declaration, make_run: MakeRun) -> None:
    run = make_run("sleep", resources=Resources(timeout_seconds=8))
    result = _execute(run, probe)
    assert result["exit_code"] == ExitCode.TIMEOUT
    assert result["seconds"] > 0, "the run had the chance to write its own result first"


def test_timeout_of_a_run_that_does_not_listen(
    probe: Declaration, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    from synthkit.running.backends import supervision

    monkeypatch.setattr(supervision, "_GRACE_SECONDS", 1.0)
    result = _execute(make_run("stubborn", resources=Resources(timeout_seconds=8)), probe)
    assert result["exit_code"] == ExitCode.TIMEOUT


@pytest.mark.parametrize(("action", "why"), [("exit", "Exit status 3."), ("crash", "Signal 11.")])
def test_dies_without_a_result(probe: Declaration, make_run: MakeRun, action: str, why: str) -> None:
    result = _execute(make_run(action), probe)
    assert result["exit_code"] == ExitCode.CONTAINER_FAILED
    assert result["error"]["why"] == why
    assert f"action {action}" in result["error"]["details"]


def test_memory_limit(probe: Declaration, make_run: MakeRun) -> None:
    run = make_run("allocate", megabytes=2048, resources=Resources(memory_bytes=400 << 20))
    try:
        result = _execute(run, probe)
    except SynthkitError as error:
        assert "cgroups" in error.why
        pytest.skip(f"this machine does not let Apptainer limit memory: {error.why}")
    assert result["exit_code"] == ExitCode.OUT_OF_MEMORY
    assert result["isolation"]["memory_limit_bytes"] == 400 << 20


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt(probe: Declaration, make_run: MakeRun, number: signal.Signals) -> None:
    run = make_run("sleep")
    driver = Path(__file__).with_name("drive.py")
    process = subprocess.Popen(
        [sys.executable, str(driver), str(run.path), "apptainer"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert "message\n" in process.stdout  # asleep
    process.send_signal(number)
    assert process.wait(60) == ExitCode.INTERRUPTED
    result = run.result()
    assert result is not None and result["error"]["type"] == "InterruptedRunError"


def test_what_is_no_image_is_refused(
    probe: Declaration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_run: MakeRun
) -> None:
    monkeypatch.setenv("SYNTHKIT_SIF_DIR", str(tmp_path))
    (tmp_path / "probe_0.1.0.sif").write_bytes(b"nothing of the kind")
    with pytest.raises(BackendUnavailableError, match="no image that Apptainer can read"):
        get("apptainer").check(probe, make_run().job())
