"""A new plugin, as an independent distribution that works from the start: ``synthkit plugins new``.

What is written passes the conformance checks, its own tests and ruff as it is, and its container image builds. The
method in it is a small one that the author replaces by their own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import get_args

from synthkit.contract import Kind
from synthkit.errors import UsageError
from synthkit.files import discard
from synthkit.registry.registry import _NAME, Registry, discover
from synthkit.running.containers.images import BASES

#: Template of each file of the distribution. ``{package}`` and ``{module}`` stand for what Python imports.
_COMMON = {
    "pyproject.toml": "common/pyproject.toml.j2",
    "README.md": "common/README.md.j2",
    "LICENSE": "common/LICENSE.j2",
    ".github/workflows/ci.yml": "common/ci.yml.j2",
    "src/{package}/Dockerfile": "common/Dockerfile.j2",
    "tests/test_conformance.py": "common/test_conformance.py.j2",
}
_OF_KIND = {
    "src/{package}/__init__.py": "declaration.py.j2",
    "src/{package}/{module}.py": "method.py.j2",
    "tests/test_{module}.py": "test_method.py.j2",
}


def write_plugin(
    kind: str, name: str, out: Path | None = None, registry: Registry | None = None, *, images: bool = False
) -> Path:
    """Write the distribution ``synthkit-NAME`` into ``out`` (default: a folder of its name), which is returned.

    With ``images``, a metric compares real and synthetic images, and else label maps with a reference.

    Raises :class:`UsageError`, before anything is written, if there is no such kind, if another than a metric is to
    compare ``images``, if the name cannot be a plugin's
    or is taken, or if ``out`` is neither new nor an empty folder.
    """
    if kind not in get_args(Kind):
        raise UsageError(f"There is no kind of plugin called {kind!r}.", f"There are: {', '.join(get_args(Kind))}.")
    if images and kind != "metric":
        raise UsageError(f"A {kind} compares no images.", "Only metrics do.", "Leave --images out.")
    _require_free_name(name, registry or discover())
    out = out or Path(f"synthkit-{name}")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UsageError(
            f"The output {out} is {'not empty' if out.is_dir() else 'not a folder'}.",
            "Nothing is overwritten unasked.",
            "Choose another with -o.",
        )
    _write(out, _render(kind, name, images))
    return out


def _require_free_name(name: str, registry: Registry) -> None:
    if not _NAME.match(name):
        raise UsageError(
            f"{name!r} cannot be the name of a plugin.",
            "Names are lower-case letters, digits and hyphens, and begin with a letter.",
            f"Try {near}." if _NAME.match(near := _near(name)) else "Try one like my-method.",
        )
    if name.startswith("synthkit-"):
        raise UsageError(
            f"The plugin would be called {name} and its package synthkit-{name}.",
            "The package has the prefix anyway.",
            f"Leave it out: {name.removeprefix('synthkit-')}.",
        )
    if name in BASES:
        raise UsageError(f"{name} is the name of a base image.", "Its image would replace it.", "Choose another name.")
    broken = {item.name: item.distribution for item in registry.broken}
    if name in registry.declarations or name in broken:
        owner = registry.declarations[name].distribution if name in registry.declarations else broken[name]
        raise UsageError(f"The name {name} is taken.", f"{owner} is installed and has it.", "Choose another name.")
    try:
        distribution(f"synthkit-{name}")
    except PackageNotFoundError:
        return
    raise UsageError(f"The name {name} is taken.", f"The package synthkit-{name} is installed.", "Choose another name.")


def _near(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _render(kind: str, name: str, images: bool) -> dict[str, str]:
    """Text of each file, by its path in the distribution."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("synthkit.testing.scaffold"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    package = f"synthkit_{name.replace('-', '_')}"
    module = "metrics" if kind == "metric" else "model"
    facts = {"kind": kind, "name": name, "package": package, "module": module, "images": images}
    folder = "image_metric" if images else kind
    templates = {**_COMMON, **{path: f"{folder}/{template}" for path, template in _OF_KIND.items()}}
    return {
        path.format(**facts): environment.get_template(template).render(**facts) for path, template in templates.items()
    }


def _write(out: Path, texts: Mapping[str, str]) -> None:
    """All of the files, or none of them."""
    was_there = out.exists()
    try:
        for path, text in texts.items():
            target = out / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
    except BaseException:
        for child in out.iterdir() if out.is_dir() else ():
            discard(child)
        if not was_there:
            discard(out)
        raise
