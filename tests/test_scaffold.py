"""What ``synthkit plugins new`` writes works as it is, and what it refuses it refuses before it writes."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from synthkit.errors import UsageError
from synthkit.registry.registry import BrokenPlugin, Registry
from synthkit.registry.wheels import make_wheel
from synthkit.testing import CheckResult, PluginUnderTest, checks_for, scaffold
from synthkit.testing.checks.registry import perform
from synthkit.testing.scaffold import write_plugin
from synthkit.testing.toys import TOYS

KINDS = ("generator", "segmenter", "metric")
MODULES = {"generator": "model", "segmenter": "model", "metric": "metrics"}
EMPTY = Registry()
PAGE = Path(__file__).parents[1] / "docs" / "plugins.md"


def files_in(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def run(*command: object, site: Path | None = None, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """``python -m COMMAND`` where the packages in ``site`` are installed besides those of this environment."""
    path = os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path} if site is not None else None
    return subprocess.run(
        [sys.executable, "-m", *map(str, command)], capture_output=True, text=True, env=environment, cwd=cwd
    )


def install(source: Path, site: Path) -> None:
    done = run("pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--target", site, source)
    assert done.returncode == 0, done.stderr


def passed_tests(source: Path, site: Path, skipped: str = "") -> int:
    """Runs the tests of a distribution, none of which may fail, or be skipped but ``skipped``; how many passed."""
    done = run("pytest", "-q", "-p", "no:cacheprovider", "-rs", site=site, cwd=source)
    counted = re.search(rf"^(\d+) passed{skipped} in", done.stdout, flags=re.MULTILINE)
    assert done.returncode == 0 and counted is not None, done.stdout
    return int(counted[1])


# ------------------------------------------------------------------------------------------------ what is written


@pytest.mark.parametrize(("kind", "images"), [*((kind, False) for kind in KINDS), ("metric", True)])
def test_new_plugin_works_as_it_is(kind: str, images: bool, tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="hatchling is not installed")
    if kind != "metric":
        pytest.importorskip("safetensors", reason="safetensors is not installed")
    source = write_plugin(kind, "new-one", tmp_path / "source", images=images)
    assert ("--real data/real" in (source / "README.md").read_text()) is images
    install(source, tmp_path / "site")
    # The conformance checks, and what is special to the method.
    # A metric keeps nothing for other runs; one of images has no prediction to exchange with its reference.
    n_skipped = (kind == "metric") + images
    assert passed_tests(source, tmp_path / "site", f", {n_skipped} skipped" if n_skipped else "") > 15


@pytest.mark.parametrize("name", ["x", "an-unusually-long-name-of-a-method-that-has-no-end"])
@pytest.mark.parametrize("kind", [*KINDS, "metric --images"])
def test_ruff_finds_nothing(kind: str, name: str, tmp_path: Path) -> None:
    pytest.importorskip("ruff", reason="ruff is not installed")
    source = write_plugin(kind.split()[0], name, tmp_path / "source", images="--images" in kind)
    for command in (("check",), ("format", "--check")):
        done = run("ruff", *command, "--no-cache", ".", cwd=source)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_files_agree_about_their_names(kind: str, tmp_path: Path) -> None:
    source = write_plugin(kind, "new-one", tmp_path / "source")
    project = tomllib.loads((source / "pyproject.toml").read_text())["project"]
    assert project["name"] == "synthkit-new-one"
    assert project["entry-points"] == {"synthkit.plugins": {"new-one": "synthkit_new_one"}}
    assert set(files_in(source)) == {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        ".github/workflows/ci.yml",
        "src/synthkit_new_one/__init__.py",
        "src/synthkit_new_one/Dockerfile",
        f"src/synthkit_new_one/{MODULES[kind]}.py",
        "tests/test_conformance.py",
        f"tests/test_{MODULES[kind]}.py",
    }
    declaration = ast.parse((source / "src/synthkit_new_one/__init__.py").read_text())
    imported = {node.module for node in ast.walk(declaration) if isinstance(node, ast.ImportFrom)}
    imported |= {alias.name for n in ast.walk(declaration) if isinstance(n, ast.Import) for alias in n.names}
    light = {"__future__", "collections.abc", "dataclasses", "synthkit"}
    assert imported == light


def test_templates_travel_in_the_wheel(tmp_path: Path) -> None:
    templates = Path(scaffold.__file__).parent / "templates"
    wanted = {f"synthkit/testing/scaffold/templates/{path}" for path in files_in(templates)}
    with zipfile.ZipFile(make_wheel("synthkit-core", tmp_path)) as wheel:
        assert len(wanted) > 10 and wanted <= set(wheel.namelist())


def test_command_says_what_to_do_next(tmp_path: Path) -> None:
    done = run("synthkit", "plugins", "new", "metric", "new-one", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3 and "synthkit plugins check new-one" in done.stdout
    assert (tmp_path / "synthkit-new-one" / "pyproject.toml").is_file()
    done = run("synthkit", "plugins", "new", "metric", "other", "-o", "there", "--json", cwd=tmp_path)
    assert json.loads(done.stdout) == {"plugin": "other", "kind": "metric", "folder": "there"}
    assert run("synthkit", "plugins", "new", "metric", "other", "-o", "there", cwd=tmp_path).returncode == 2


# ------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("My_Method", "Try my-method"),
        ("3d", "begin with a letter"),
        ("", "Try one like"),
        ("a--b", "Try a-b"),
        ("../up", "Try up"),
        ("synthkit-mine", "Leave it out: mine"),
        ("base-cpu", "base image"),
        ("core", "synthkit-core is installed"),
    ],
)
def test_wrong_names(name: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=re.escape(says)):
        write_plugin("metric", name, tmp_path / "out", EMPTY)
    assert not (tmp_path / "out").exists()


def test_wrong_kind(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="generator, segmenter, metric"):
        write_plugin("judge", "mine", tmp_path / "out", EMPTY)


def test_name_of_an_installed_plugin(tmp_path: Path) -> None:
    toy = replace(TOYS[0], name="mine", distribution="of-somebody")
    broken = BrokenPlugin("mine", "of-nobody", "it raises")
    for registry, owner in ((Registry({"mine": toy}), "of-somebody"), (Registry(broken=[broken]), "of-nobody")):
        with pytest.raises(UsageError, match=f"The name mine is taken. {owner}"):
            write_plugin("metric", "mine", tmp_path / "out", registry)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("precious")
    (tmp_path / "file").write_text("precious")
    for out in (tmp_path / "full", tmp_path / "file"):
        with pytest.raises(UsageError, match="overwritten"):
            write_plugin("metric", "mine", out, EMPTY)
    assert files_in(tmp_path) == {"full/thesis.tex": "precious", "file": "precious"}


@pytest.mark.parametrize("was_there", [True, False])
def test_nothing_is_left_of_a_failure(was_there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if was_there:
        (tmp_path / "out").mkdir()
    real, written = Path.write_text, []

    def full_disk(self: Path, *arguments: object, **options: object) -> int:
        written.append(self)
        if len(written) == 5:
            raise OSError(28, "No space left on device", str(self))
        return real(self, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "write_text", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_plugin("metric", "mine", tmp_path / "out", EMPTY)
    assert [path.name for path in tmp_path.rglob("*")] == (["out"] if was_there else [])


# ------------------------------------------------------------------------------------------------- the walk-through


def test_the_walk_through_makes_a_generator(tmp_path: Path) -> None:
    """The files that docs/plugins.md shows, put over those that the command writes."""
    pytest.importorskip("safetensors", reason="safetensors is not installed")
    shown = dict(re.findall(r"^`([\w/.]+)`\n\n```\w+\n(.*?)```", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL))
    assert "synthkit plugins new generator pca\n" in PAGE.read_text()
    source = write_plugin("generator", "pca", tmp_path / "source")
    written = files_in(source)
    # The reader is shown parts of what the command writes, and replaces the rest.
    for name in ("pyproject.toml", "src/synthkit_pca/Dockerfile", "tests/test_conformance.py"):
        assert shown.pop(name) in written[name]
    assert set(shown) == {"src/synthkit_pca/__init__.py", "src/synthkit_pca/model.py", "tests/test_model.py"}
    assert (
        sum(bool(line.strip()) for name in shown if name.startswith("src/") for line in shown[name].splitlines()) < 60
    )
    for name, text in shown.items():
        (source / name).write_text(text)
    install(source, tmp_path / "site")
    assert passed_tests(source, tmp_path / "site") > 15


# -------------------------------------------------------------------------------------------- mistakes of an author


def outcomes(**changes: Any) -> dict[str, CheckResult]:
    """Outcome of each check of the toy generator, with another module (an import path, or functions)."""
    toy = next(toy for toy in TOYS if toy.kind == "generator")
    path, functions = changes.pop("path", toy.module), None
    if changes:
        functions = SimpleNamespace(**{**vars(importlib.import_module(toy.module)), **changes})
    plugin = PluginUnderTest(replace(toy, module=path), module=functions)
    return {item.name: perform(item, plugin) for item in checks_for(plugin.declaration)}


def test_method_that_cannot_be_imported_fails_once() -> None:
    found = outcomes(path="synthkit.testing.toys.nowhere")
    (failed,) = [result for result in found.values() if result.status == "failed"]
    assert failed.name == "module_has_its_functions"
    assert "No module named 'synthkit.testing.toys.nowhere'" in failed.reason
    assert found["samples_have_the_right_form"].reason == "the method cannot be used"


@pytest.mark.parametrize(
    ("generate", "reason"),
    [
        (lambda checkpoint, seeds, params: None, "generate gives a NoneType and yields nothing"),
        (lambda checkpoint, seeds, params: (np.zeros((4, 32, 32), np.uint8) for _ in seeds), "not a pair of image"),
        (
            lambda checkpoint, seeds, params: ((np.zeros((32, 32)), np.zeros((32, 32), np.uint8)) for _ in seeds),
            "expected uint8 (4, 32, 32), got float64 (32, 32)",
        ),
    ],
)
def test_samples_of_a_wrong_form_are_called_by_their_name(generate: Any, reason: str) -> None:
    result = outcomes(generate=generate)["samples_have_the_right_form"]
    assert result.status == "failed" and reason in result.reason


def test_package_that_was_renamed_in_one_place_only(tmp_path: Path) -> None:
    """No image could be built of a plugin whose distribution is called otherwise than it declares."""
    pytest.importorskip("hatchling", reason="hatchling is not installed")
    source = write_plugin("metric", "new-one", tmp_path / "source")
    project = source / "pyproject.toml"
    project.write_text(project.read_text().replace('name = "synthkit-new-one"', 'name = "better-name"'))
    install(source, tmp_path / "site")
    done = run("synthkit", "plugins", "check", "new-one", "--quiet", site=tmp_path / "site")
    assert done.returncode == 4
    assert "it declares the distribution synthkit-new-one, and comes with better-name" in done.stderr
