"""``synthkit.lock``: what was locked is held to, a drift of what a run uses is refused, one of anything else is not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from synthkit.contract import Declaration
from synthkit.errors import DataError, UsageError
from synthkit.registry.registry import Registry
from synthkit.running import lock as module
from synthkit.running.containers import images as containers
from synthkit.running.containers import sif
from synthkit.running.lock import check_lock, compare_locks, find_lock, make_lock, read_lock, write_lock
from synthkit.testing import data
from synthkit.testing.toys import GENERATOR, TOYS

OTHER = replace(GENERATOR, name="other", distribution="synthkit-for-tests")


def packages(**versions: str) -> dict[str, Any]:
    return {name: {"version": version, "code": f"sha256:{name}", "plugins": []} for name, version in versions.items()}


def lock_of(**sections: Any) -> dict[str, Any]:
    return {"lock": 1, "python": "3.11", "libraries": {}, "distributions": {}, **sections}


def image(identity: str, *digests: str) -> dict[str, Any]:
    return {"name": "synthkit/a:1", "id": identity, "repo_digests": list(digests)}


@pytest.fixture(autouse=True)
def _no_lock_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SYNTHKIT_LOCK", raising=False)


def check_here(declarations: tuple[Declaration, ...], backend: str) -> None:
    """What a command does before it makes a run."""
    lock = find_lock()
    assert lock is not None
    check_lock(lock, declarations, backend)


# ------------------------------------------------------------------------------------------------------ comparing


def test_a_drifted_version_is_named_with_what_to_install() -> None:
    (drift,) = compare_locks(
        lock_of(distributions=packages(a="1", b="1")), {"distributions": packages(a="2")}, whole=False
    )
    assert (drift.what, drift.locked, drift.now) == ("a", "1", "2")
    assert "pip install a==1" in drift.fix


def test_edited_code_of_the_same_version_is_a_drift() -> None:
    now = packages(a="1")
    now["a"]["code"] = "sha256:edited"
    (drift,) = compare_locks(lock_of(distributions=packages(a="1")), {"distributions": now}, whole=False)
    assert str(drift) == "code of a: sha256:a in the lock, sha256:edited now"


def test_a_drift_of_what_is_not_used_counts_only_in_the_whole() -> None:
    locked = lock_of(distributions=packages(a="1", b="1"), libraries={"numpy": "2.0", "torch": "2.6"})
    used = {"distributions": packages(a="1"), "libraries": {"numpy": "2.0"}}
    assert compare_locks(locked, used, whole=False) == []
    assert [drift.what for drift in compare_locks(locked, used, whole=True)] == ["torch", "b"]


def test_a_plugin_installed_later_may_not_run_but_does_not_fail_the_whole() -> None:
    now = {"distributions": packages(a="1", late="1")}
    locked = lock_of(distributions=packages(a="1"))
    assert [drift.what for drift in compare_locks(locked, now, whole=False)] == ["late"]
    assert compare_locks(locked, now, whole=True) == []


@pytest.mark.parametrize(
    ("now", "same"),
    [
        (image("sha256:1"), True),
        (image("sha256:2"), False),
        (image("sha256:2", "r/a@sha256:pushed"), True),
        (None, False),
    ],
)
def test_an_image_is_the_same_by_its_id_or_by_a_digest_in_a_registry(now: dict[str, Any] | None, same: bool) -> None:
    locked = lock_of(images={"a": image("sha256:1", "r/a@sha256:pushed")})
    found = compare_locks(locked, {"images": {} if now is None else {"a": now}}, whole=True)
    assert (found == []) is same
    assert same or "docker pull r/a@sha256:pushed" in found[0].fix


def test_python_is_compared_without_its_patch_release(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.provenance, "versions", lambda: {"python": "3.12.7"})
    made = make_lock(())
    assert made["python"] == "3.12"
    assert [drift.what for drift in compare_locks(lock_of(), {"python": made["python"]}, whole=False)] == ["Python"]


# --------------------------------------------------------------------------------------------------- what is used


def test_a_local_run_is_held_to_libraries_and_a_container_run_to_its_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_images", lambda declarations: {"synthkit-core": image("sha256:1")})
    local, docker = (module.make_lock_of_run((GENERATOR,), backend) for backend in ("local", "docker"))
    assert set(local) == {"distributions", "python", "libraries"} and set(docker) == {"distributions", "images"}
    assert set(local["distributions"]) == {"synthkit-core"}
    assert {"numpy", "scipy"} <= set(local["libraries"])
    assert "torch" not in local["libraries"]  # an extra of synthkit, which the toy does not ask for


def test_the_lock_is_sorted_and_read_again(tmp_path: Path, install_plugins: Callable[..., Registry]) -> None:
    install_plugins(OTHER)
    made = make_lock((OTHER, *TOYS))
    write_lock(tmp_path / "synthkit.lock", made)
    assert read_lock(tmp_path / "synthkit.lock") == made
    assert list(made["distributions"]) == ["synthkit-core", "synthkit-for-tests"]
    assert made["distributions"]["synthkit-for-tests"] | {"code": ""} == {
        "version": "1.0",
        "code": "",
        "plugins": ["other"],
    }
    write_lock(tmp_path / "again.lock", make_lock((*reversed(TOYS), OTHER)))
    assert (tmp_path / "again.lock").read_bytes() == (tmp_path / "synthkit.lock").read_bytes()


# ------------------------------------------------------------------------------------------------------- finding


def test_the_lock_is_looked_for_up_to_the_folder_of_the_study_and_no_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, deep = tmp_path / "study", tmp_path / "study" / "a" / "b"
    deep.mkdir(parents=True)
    (tmp_path / "synthkit.lock").touch()
    assert find_lock(tmp_path) == tmp_path / "synthkit.lock"
    assert find_lock(deep) is None  # in no study: its own folder only
    (study / "study.toml").touch()
    assert find_lock(deep) is None
    (study / "synthkit.lock").touch()
    assert find_lock(deep) == study / "synthkit.lock"
    (deep / "synthkit.lock").touch()
    assert find_lock(deep) == deep / "synthkit.lock"
    monkeypatch.setenv("SYNTHKIT_LOCK", "off")
    assert find_lock(deep) is None
    monkeypatch.setenv("SYNTHKIT_LOCK", "other.lock")
    assert find_lock(deep) == Path("other.lock")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"lock": 1}', '{"lock": 2, "distributions": {}, "libraries": {}}'])
def test_a_damaged_or_newer_lock_is_an_error(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "synthkit.lock").write_text(text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"synthkit\.lock"):
        check_here((GENERATOR,), "local")


def test_a_lock_that_is_named_and_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNTHKIT_LOCK", "nowhere.lock")
    with pytest.raises(DataError, match="nowhere"):
        check_here((GENERATOR,), "local")


# -------------------------------------------------------------------------------------------------------- refusal


def drifted(path: Path, change: Callable[[dict[str, Any]], None], declarations: tuple[Declaration, ...]) -> None:
    lock = make_lock(declarations)
    change(lock)
    write_lock(path, lock)


def test_a_run_is_refused_before_anything_is_made(
    tmp_path: Path, install_plugins: Callable[..., Registry], monkeypatch: pytest.MonkeyPatch
) -> None:
    install_plugins(*TOYS, OTHER)
    monkeypatch.chdir(tmp_path)

    def synthkit(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "synthkit", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    def other_is_older(lock: dict[str, Any]) -> None:
        lock["distributions"]["synthkit-for-tests"]["version"] = "0.9"

    drifted(tmp_path / "synthkit.lock", other_is_older, (*TOYS, OTHER))
    check_here((GENERATOR,), "local")  # which does not use the one that has drifted
    real = data.real_dataset(2, 32).path
    refused = synthkit("train", "other", real, "-o", "refused", "--backend", "local", "--json")
    error = json.loads(refused.stdout)["error"]
    assert refused.returncode == 2 and not (tmp_path / "refused").exists()
    assert "synthkit-for-tests: 0.9 in the lock, 1.0 now" in error["why"]
    assert "pip install synthkit-for-tests==0.9" in error["fix"] and "synthkit lock" in error["fix"]
    checked = synthkit("lock", "--check")
    assert checked.returncode == 10 and "synthkit-for-tests" in checked.stderr
    assert synthkit("lock").returncode == 0
    check_here((GENERATOR, OTHER), "local")


def test_a_changed_image_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "_images", lambda declarations: {"synthkit-core": image("sha256:now")})
    lock = make_lock((GENERATOR,))
    lock["images"] = {"synthkit-core": image("sha256:then")}
    write_lock(tmp_path / "synthkit.lock", lock)
    with pytest.raises(UsageError, match="has drifted") as error:
        check_here((GENERATOR,), "docker")
    assert "container image of synthkit-core: sha256:then in the lock, sha256:now now" in error.value.why
    check_here((GENERATOR,), "local")


def test_a_sif_file_is_compared_where_one_was_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SYNTHKIT_SIF_DIR", str(tmp_path))
    monkeypatch.setattr(module, "_images", lambda declarations: None)
    write_lock(tmp_path / "synthkit.lock", make_lock((GENERATOR,)))
    path = tmp_path / sif.file_name(containers.image_name(GENERATOR), ".sif")
    path.write_bytes(b"then")
    check_here((GENERATOR,), "apptainer")  # there was none when it was locked
    write_lock(tmp_path / "synthkit.lock", make_lock((GENERATOR,)))
    check_here((GENERATOR,), "apptainer")
    path.write_bytes(b"now")
    with pytest.raises(UsageError, match="has drifted") as error:
        check_here((GENERATOR,), "apptainer")
    assert f"Put the file of then back in its place: {path.name}" in error.value.fix
    check_here((GENERATOR,), "local")
