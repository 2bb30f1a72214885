"""The registry of backends: names, where they come from, and what each says of itself."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from types import SimpleNamespace

import pytest

from synthkit.errors import BackendUnavailableError, UsageError
from synthkit.running import backends
from synthkit.running.backends.local import LocalBackend
from synthkit.running.lock import make_lock_of_run
from synthkit.testing.toys import GENERATOR


class Elsewhere(LocalBackend):
    """As a distribution of somebody else's would declare one."""

    name = "elsewhere"


def install(monkeypatch: pytest.MonkeyPatch, points: Iterable[EntryPoint]) -> None:
    installed = EntryPoints(points)
    monkeypatch.setattr(backends, "entry_points", lambda **wanted: installed.select(**wanted))


def point(name: str, value: str) -> EntryPoint:
    return EntryPoint(name, value, backends.ENTRY_POINT_GROUP)


@pytest.mark.parametrize("name", backends.BUILT_IN)
def test_ours_are_what_they_are_called(name: str) -> None:
    backend = backends.get(name)
    assert backend.name == name
    assert backend.lock_section in ("images", "sif", "")


def test_one_joins_by_an_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "backend_of_somebody", SimpleNamespace(Elsewhere=Elsewhere))
    install(monkeypatch, [point(name, "backend_of_somebody:Elsewhere") for name in ("elsewhere", "docker")])
    assert backends.names() == (*backends.BUILT_IN, "elsewhere")
    assert backends.get("elsewhere").name == "elsewhere"
    assert backends.get("docker").name == "docker"  # nobody takes the name of ours


def test_a_broken_one_is_named_and_the_others_work(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, [point("broken", "synthkit_not_there:Backend")])
    with pytest.raises(UsageError, match=r"The backend broken cannot be used.*ModuleNotFoundError"):
        backends.get("broken")
    assert backends.get("local").name == "local"


def test_an_unknown_one_is_refused_with_those_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, [point("elsewhere", f"{__name__}:Elsewhere")])
    with pytest.raises(UsageError, match="'dokcer'") as caught:
        backends.get("dokcer")
    assert all(name in caught.value.why for name in (*backends.BUILT_IN, "elsewhere"))


def test_the_help_names_all_of_ours() -> None:
    """It is written out, as ``--help`` must not import the registry."""
    *first, last = backends.BUILT_IN
    reference = Path(__file__).parents[1] / "docs" / "commands.md"
    assert f"{', '.join(first)} or {last}" in reference.read_text(encoding="utf-8")


def test_a_plain_process_has_no_image_to_be_pinned_to() -> None:
    with pytest.raises(BackendUnavailableError, match="--current-image"):
        backends.get("local").pin({"image": "synthkit/toy", "image_id": "sha256:0"}, GENERATOR)


def test_a_lock_refuses_a_backend_whose_images_it_cannot_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Elsewhere, "lock_section", "wasm")
    monkeypatch.setitem(sys.modules, "backend_of_somebody", SimpleNamespace(Elsewhere=Elsewhere))
    install(monkeypatch, [point("elsewhere", "backend_of_somebody:Elsewhere")])
    with pytest.raises(UsageError, match=r"elsewhere.*'wasm'.*SYNTHKIT_LOCK=off"):
        make_lock_of_run((GENERATOR,), "elsewhere")
