"""``synthkit doctor`` tells of what is broken instead of ending with it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from typer.testing import CliRunner

from synthkit.cli import app, doctor
from synthkit.cli.console import Console
from synthkit.errors import PluginError, UsageError
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


def invoke() -> tuple[int, dict[str, Any]]:
    Console._document_printed = False  # one a process
    result = CliRunner().invoke(app, ["doctor", "--gpu", "--json"])
    return result.exit_code, json.loads(result.stdout)


def pretend(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """The check of GPUs is this program instead."""
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: name)
    run = subprocess.run

    def instead(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        return run([sys.executable, "-c", program], **options)

    monkeypatch.setattr(doctor.subprocess, "run", instead)


@pytest.mark.parametrize("state", ["ok", "missing", "broken"])
def test_gpus_that_are_not_in_order_end_with_9(state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    findings = [{"what": "GPU 0", "state": state, "found": "seen", "remedy": ""}]
    pretend(monkeypatch, f"import json; print(json.dumps({ {'findings': findings, 'gpus': []} }))")
    code, document = invoke()
    assert document == {"findings": findings, "gpus": []}
    assert code == (0 if state == "ok" else 9)


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("import os; os.abort()", "ended with -6: no word"),
        ("raise RuntimeError('CUDA error')", "ended with 1: RuntimeError: CUDA error"),
        ("print([])", "ended with 0"),
        ("import time; time.sleep(60)", "no end after 1 seconds"),
    ],
)
def test_a_gpu_that_ends_the_check_is_told(program: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, program)
    monkeypatch.setattr(doctor, "_GPU_SECONDS", 1 if "sleep" in program else 60)
    code, document = invoke()
    (finding,) = document["findings"]
    assert code == 9 and finding["state"] == "broken" and said in finding["found"] and finding["remedy"]


def test_without_torch_nothing_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    code, document = invoke()
    (finding,) = document["findings"]
    assert code == 9 and "torch" in finding["found"] and finding["state"] == "missing"


def test_without_a_gpu_it_says_what_it_would_have_done(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    code, document = invoke()
    assert code == 9 and document["gpus"] == []
    assert any("compared with the CPU" in finding["found"] for finding in document["findings"])


def test_gpus_and_cleaning_are_two_things() -> None:
    assert isinstance(CliRunner().invoke(app, ["doctor", "--gpu", "--clean"]).exception, UsageError)
