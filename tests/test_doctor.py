"""``synthkit doctor`` tells of what is broken instead of ending with it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from synthkit.cli import doctor
from synthkit.errors import PluginError
from synthkit.registry import registry as plugins
from synthkit.registry.registry import Registry
from synthkit.running.backends import docker
from synthkit.running.containers import images as containers
from synthkit.testing.toys import GENERATOR


def test_a_plugin_of_no_installed_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    stray = replace(GENERATOR, distribution="synthkit-nowhere")
    with pytest.raises(PluginError, match="'synthkit-nowhere'"):
        containers.image_name(stray)

    def leftovers(*, dry_run: bool) -> list[Any]:
        return []

    monkeypatch.setattr(docker, "engine_info", lambda: {"description": "an engine", "nvidia": ""})
    monkeypatch.setattr(docker, "remove_leftovers", leftovers)
    monkeypatch.setattr(containers, "list_images", lambda: [])
    monkeypatch.setattr(plugins, "discover", lambda: Registry({stray.name: stray}))
    found = {finding.what: finding for finding in doctor.examine()}
    assert found[f"plugin {stray.name}"].state == "broken"
    assert "synthkit-nowhere" in found[f"plugin {stray.name}"].found
