"""Images that come from a registry are what this synthkit and its lock expect, or they get no name here."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from synthkit.contract import CONTRACT_VERSION
from synthkit.errors import BackendUnavailableError, GateFailedError, UsageError
from synthkit.registry.registry import Registry
from synthkit.running.containers import images, pulling
from synthkit.testing.toys import VOLUME_METRIC

PLUGIN = replace(VOLUME_METRIC, distribution="pluggy")  # some installed distribution
NAME = images.image_name(PLUGIN)
SHORT, TAG = NAME.removeprefix("synthkit/").split(":")
SOURCE = "registry.example.org:5000/synthkit"
REGISTRY = Registry(declarations={PLUGIN.name: PLUGIN})


class Engine:
    """An engine that answers for one registry with one image."""

    def __init__(
        self, *, contract: int = CONTRACT_VERSION, plugins: tuple[str, ...] = (PLUGIN.name,), there: bool = True
    ) -> None:
        self.there, self.asked, self.tags, self.removed = there, list[str](), list[str](), list[str]()
        self.labels = {
            images.CONTRACT_LABEL: str(contract),
            images.DISTRIBUTION_LABEL: "pluggy",
            images.DECLARATIONS_LABEL: json.dumps([{"name": name} for name in plugins]),
        }

    def pull(self, repository: str, tag: str, **options: Any) -> Any:
        self.asked.append(f"{repository}{'@' if tag.startswith('sha256') else ':'}{tag}")
        yield {"status": "Pulling"}
        if not self.there:
            yield {"error": "manifest unknown"}

    def inspect_image(self, name: str) -> dict[str, Any]:
        digests = [f"{SOURCE}/{SHORT}@sha256:d1", f"elsewhere/{SHORT}@sha256:d2"]
        return {
            "Id": "sha256:abc",
            "Size": 1,
            "Created": "2026",
            "RepoDigests": digests,
            "Config": {"Labels": self.labels},
        }

    def tag(self, image: str, repository: str, tag: str) -> None:
        self.tags.append(f"{image} {repository}:{tag}")

    def remove_image(self, name: str) -> None:
        self.removed.append(name)


def pull(engine: Engine, **options: Any) -> list[dict[str, str]]:
    return pulling.pull_all([PLUGIN.name], SOURCE, registry=REGISTRY, client=engine, **options)


def test_an_image_is_pulled_checked_and_named_as_a_built_one() -> None:
    engine = Engine()
    assert pull(engine) == [{"image": NAME, "id": "sha256:abc", "digest": "sha256:d1"}]
    assert engine.asked == [f"{SOURCE}/{SHORT}:{TAG}"] and engine.removed == []
    assert engine.tags == [f"sha256:abc {NAME}", f"sha256:abc synthkit/{SHORT}:latest"]


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        (Engine(there=False), "cannot be pulled. The engine says: manifest unknown."),
        (Engine(contract=CONTRACT_VERSION + 1), "is newer than this synthkit"),
        (Engine(plugins=("other",)), f"does not have {PLUGIN.name}"),
    ],
)
def test_what_cannot_run_gets_no_name(engine: Engine, said: str) -> None:
    with pytest.raises(BackendUnavailableError) as caught:
        pull(engine)
    assert said in str(caught.value) and engine.tags == []


def test_a_lock_pins_the_digest_and_refuses_another_image() -> None:
    locked = {"pluggy": {"id": "sha256:abc", "repo_digests": [f"{SOURCE}/{SHORT}@sha256:d1"]}}
    engine = Engine()
    assert pull(engine, locked=locked) and engine.asked == [f"{SOURCE}/{SHORT}@sha256:d1"]
    engine = Engine()
    with pytest.raises(GateFailedError, match=r"not the image that synthkit\.lock names"):
        pull(engine, locked={"pluggy": {"id": "sha256:other", "repo_digests": []}})
    assert engine.tags == [] and engine.removed == [f"{SOURCE}/{SHORT}:{TAG}"]
    assert pull(engine, locked={}) and engine.tags  # the remedy: without the lock


@pytest.mark.parametrize(
    "source", ["", "https://registry.example.org/synthkit", "registry.example.org/", "a b", "-x/y"]
)
def test_what_is_no_registry_is_refused(source: str) -> None:
    with pytest.raises(UsageError, match="not a registry"):
        pulling.pull_all([PLUGIN.name], source, registry=REGISTRY, client=Engine())
