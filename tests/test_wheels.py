"""Wheels made of what is installed, and the build contexts of container images."""

from __future__ import annotations

import base64
import csv
import hashlib
import subprocess
import sys
import zipfile
from dataclasses import replace
from importlib.metadata import distribution
from pathlib import Path

import pytest

from synthkit.errors import PluginError, UsageError
from synthkit.registry import wheels
from synthkit.registry.wheels import code_digest, make_wheel
from synthkit.running.containers import building
from synthkit.running.containers import images as containers
from synthkit.testing.toys import VOLUME_METRIC

NAME = "pluggy"  # pure Python, installed from a wheel wherever synthkit is


def test_repacked_wheel_installs_the_same_files(tmp_path: Path) -> None:
    wheel = make_wheel(NAME, tmp_path)
    assert wheel.name == f"pluggy-{distribution(NAME).version}-py3-none-any.whl"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile"]
    subprocess.run([*pip, "--target", str(tmp_path / "site"), str(wheel)], check=True)
    original = Path(str(distribution(NAME).locate_file("pluggy")))
    again = tmp_path / "site" / "pluggy"
    files = sorted(path.relative_to(original) for path in original.rglob("*.py"))
    assert files == sorted(path.relative_to(again) for path in again.rglob("*.py"))
    assert all((original / file).read_bytes() == (again / file).read_bytes() for file in files)


def test_record_is_true(tmp_path: Path) -> None:
    with zipfile.ZipFile(make_wheel(NAME, tmp_path)) as archive:
        record = next(name for name in archive.namelist() if name.endswith("/RECORD"))
        rows = list(csv.reader(archive.read(record).decode().splitlines()))
        assert sorted(row[0] for row in rows) == sorted(archive.namelist())
        for name, digest, size in rows:
            if name != record:
                content = archive.read(name)
                expected = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
                assert (digest, int(size)) == (f"sha256={expected}", len(content))
        assert not [name for name in archive.namelist() if "__pycache__" in name or name.endswith("INSTALLER")]


def test_same_wheel_twice(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert make_wheel(NAME, tmp_path / "a").read_bytes() == make_wheel(NAME, tmp_path / "b").read_bytes()


def test_not_installed(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="not installed"):
        make_wheel("synthkit-there-is-none", tmp_path)


def test_code_digest_is_stable() -> None:
    assert code_digest(NAME) == code_digest(NAME) != code_digest("synthkit-core")


def test_context_of_a_base(tmp_path: Path) -> None:
    links, context = tmp_path / "links", tmp_path / "context"
    links.mkdir()
    context.mkdir()
    (links / "some-1.0-py3-none-any.whl").write_bytes(b"x")
    (links / "notes.txt").write_bytes(b"x")
    certificates = tmp_path / "ours.pem"
    certificates.write_text("authority")
    building._assemble(context, "base-cpu", links, certificates)
    assert [path.name for path in (context / "wheels").iterdir()] == ["some-1.0-py3-none-any.whl"]
    (core,) = (context / "synthkit").iterdir()
    assert core.name.startswith("synthkit_core-")
    with zipfile.ZipFile(core) as archive:
        assert {"synthkit/running/verbs/execute.py", "synthkit/_containers/base/Dockerfile"} <= set(archive.namelist())
    requirements = (context / "requirements.txt").read_text().splitlines()
    assert requirements[0] == "torch" and any(line.startswith("numpy") for line in requirements)
    assert not any("extra" in line for line in requirements)
    assert "torch==" in (context / "constraints.txt").read_text()
    assert (context / "certificates.crt").read_text() == "authority"
    settings = (context / "pip.conf").read_text()
    assert "cert = /build/certificates.crt" in settings and "download.pytorch.org" not in settings
    torch = (context / "torch.txt").read_text().splitlines()
    assert torch == ["--extra-index-url https://download.pytorch.org/whl/cpu", "torch"]
    assert "file:" not in settings
    assert "ENTRYPOINT" in (context / "Dockerfile").read_text()


@pytest.mark.parametrize(
    ("wheel", "given", "index"),
    [
        ("torch-2.9-cp311-cp311-linux_x86_64.whl", None, []),
        ("torchmetrics-1.0-py3-none-any.whl", None, ["--extra-index-url https://download.pytorch.org/whl/cpu"]),
        ("some-1.0-py3-none-any.whl", "", []),
        (
            "some-1.0-py3-none-any.whl",
            "https://mirror.example.org/cpu",
            ["--extra-index-url https://mirror.example.org/cpu"],
        ),
    ],
)
def test_only_torch_is_looked_for_in_its_index(tmp_path: Path, wheel: str, given: str | None, index: list[str]) -> None:
    links, context = tmp_path / "links", tmp_path / "context"
    links.mkdir()
    context.mkdir()
    (links / wheel).write_bytes(b"x")
    building._assemble(context, "base-cpu", links, None, given)
    assert (context / "torch.txt").read_text().splitlines() == [*index, "torch"]
    assert "--no-deps -r /build/torch.txt" in (context / "Dockerfile").read_text()


def test_stale_wheels_of_our_own_stay_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    links, context, source = tmp_path / "links", tmp_path / "context", tmp_path / "source"
    for folder in (links, context, source):
        folder.mkdir()
    names = ("synthkit_core-9.9", "Pluggy-0.0.1", "pluggy_more-1.0", "torch-9.9", "numpy-9.9")
    for name in names:
        (links / f"{name}-py3-none-any.whl").write_bytes(b"stale")
    plugin = replace(VOLUME_METRIC, distribution="pluggy")
    (tmp_path / "Dockerfile").write_text("FROM scratch")
    monkeypatch.setattr(building, "_dockerfile", lambda declaration: tmp_path / "Dockerfile")
    building._assemble(context, plugin, links, None)
    ours = f"pluggy-{distribution('pluggy').version}"
    found = {path.name.removesuffix("-py3-none-any.whl") for path in (context / "wheels").iterdir()}
    assert found == {ours, "pluggy_more-1.0", "numpy-9.9"}
    assert f"/{ours}-py3" in (context / "requirements.txt").read_text()


def test_what_pip_builds_is_what_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some-0.1-py3-none-any.whl").write_bytes(b"stale, and first by name")

    def pip(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        (Path(command[command.index("-w") + 1]) / "some-0.2-py3-none-any.whl").write_bytes(b"built")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", pip)
    assert wheels._build("some", tmp_path, tmp_path).read_bytes() == b"built"
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"some-0.{n}-py3-none-any.whl" for n in (1, 2)]


def test_pip_settings_follow_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://index.example.org/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "file:///srv/wheels https://more.example.org/simple")
    found = building._pip_settings()
    assert found["index-url"] == "https://index.example.org/simple"
    assert found["extra-index-url"] == "https://more.example.org/simple"


def test_wrong_options(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="base-cpu"):
        containers.image_name("base-gpu")
    with pytest.raises(UsageError, match="find-links"):
        (tmp_path / "context").mkdir()
        building._assemble(tmp_path / "context", "base", tmp_path / "nowhere", None)
