"""The hosted CI runs what README.md and ``.ci/run`` run."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")

ROOT = Path(__file__).parents[1]
WORKFLOW = ROOT / ".github" / "workflows" / "ci.yml"


@pytest.fixture(scope="module")
def jobs() -> dict[str, Any]:
    return dict(yaml.safe_load(WORKFLOW.read_text())["jobs"])


def commands(jobs: dict[str, Any]) -> set[str]:
    return {line for job in jobs.values() for step in job["steps"] for line in step.get("run", "").splitlines()}


def scripts() -> str:
    """README.md and ``.ci/run``: lines that go on in the next as one, plugins in the place of their variable."""
    text = (ROOT / "README.md").read_text() + (ROOT / ".ci" / "run").read_text()
    text = re.sub(r"\s*\\\n\s*", " ", text)
    plugins = re.search(r"^plugins=\((.*)\)$", text, flags=re.MULTILINE)
    return text.replace('"${plugins[@]}"', plugins[1]) if plugins else text


def test_commands_are_those_of_the_readme_and_of_ci(jobs: dict[str, Any]) -> None:
    known = scripts()
    # Which tests are chosen differs.
    unknown = [c for c in commands(jobs) if re.sub(r"(bin/pytest) .*", r"\1", c) not in known]
    assert not unknown


def test_every_step_of_lint_is_there(jobs: dict[str, Any]) -> None:
    checks = re.findall(r"^ *(\.venv/bin/(?:ruff|mypy|mkdocs)\b.*)$", scripts(), flags=re.MULTILINE)
    assert len(checks) >= 4
    assert set(checks) <= commands(jobs)


def test_every_supported_python_is_tested(jobs: dict[str, Any]) -> None:
    versions = jobs["tests"]["strategy"]["matrix"]["python"]
    required = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert required == f">={versions[0]}"
    assert [int(version.partition(".")[2]) for version in versions] == list(range(11, 11 + len(versions)))


def test_every_plugin_has_its_image_built(jobs: dict[str, Any]) -> None:
    (build,) = (command for command in commands(jobs) if "containers build" in command)
    names = {path.parent.name for path in ROOT.glob("plugins/*/*/pyproject.toml") if path.parts[-3] != "libraries"}
    assert set(build.split()[4:]) == names


def test_hooks_before_a_commit_need_no_network() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert {repository["repo"] for repository in config["repos"]} == {"local"}
    hooks = [hook for repository in config["repos"] for hook in repository["hooks"]]
    assert {hook["language"] for hook in hooks} == {"system"}
    assert {"ruff", "ruff-format", "mypy"} <= {hook["id"] for hook in hooks}
