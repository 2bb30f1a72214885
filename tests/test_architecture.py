"""The house keeps its shape: floors, rooms and the arrows between them, names and sizes.

``lint-imports`` checks the contracts in ``pyproject.toml``; what it cannot say is counted here. Imports inside
functions count like any other, and so do those for type checkers. What is over a limit today is listed below, so that
the lists can only become shorter: an entry that is no longer needed fails as well.
"""

from __future__ import annotations

import ast
import functools
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

pytest.importorskip("importlinter", reason="import-linter is not installed")

ROOT = Path(__file__).parents[1]
_FOLDERS = [ROOT / "synthkit", *(p for p in sorted(ROOT.glob("plugins/*/*/src/*")) if p.is_dir())]
#: Import name -> folder, of core and all plugins.
PACKAGES = {path.name: path for path in sorted(_FOLDERS, key=lambda path: path.name)}

MOST_ROOMS = 20
MOST_ARROWS = 90
MOST_LINES = 400

#: The ground floor. Another module at the top of core would be a room of its own; ``__main__`` is a door of ``cli``.
GROUND = {"synthkit", *(f"synthkit.{name}" for name in ("contract", "errors", "events", "files", "schemes"))}

#: Upward for type checkers only: what `from synthkit import hookimpl` is.
FACE = ("synthkit", "synthkit.registry.hookspecs")

LONGER_FILES = {
    "plugins/metrics/memorization/tests/test_search.py",
    "plugins/metrics/overlap/tests/test_overlap.py",
}

Graph = Mapping[str, set[str]]

_BUILD = """
import grimp, json, sys
graph = grimp.build_graph(*sys.argv[1:], include_external_packages=False, cache_dir=None)
print(json.dumps({m: sorted(graph.find_modules_directly_imported_by(m)) for m in sorted(graph.modules)}))
"""


def run(command: list[str], core: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """A command in the folder ``core``, which holds the package synthkit; the plugins are those of this checkout."""
    sources = [core, *(path.parent for name, path in PACKAGES.items() if name != "synthkit")]
    path = os.pathsep.join(str(source) for source in sources)
    return subprocess.run(command, cwd=core, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)


@functools.cache
def imports() -> Graph:
    """Module -> modules that it imports, of core and all plugins."""
    done = run([sys.executable, "-c", _BUILD, *PACKAGES])
    assert done.returncode == 0, done.stderr
    return {module: set(imported) for module, imported in json.loads(done.stdout).items()}


def core() -> Graph:
    return {module: imported for module, imported in imports().items() if is_in(module, "synthkit")}


def is_in(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def room(module: str, packages: Iterable[str]) -> str:
    """The folder that holds a module; a package of nothing but ``__init__`` is a module of the room that it lies in."""
    if module in GROUND:
        return "ground"
    if module == "synthkit.__main__":
        return "synthkit.cli"
    above = module.rpartition(".")[0]
    return module if module in packages or above == "synthkit" else above


def arrows(graph: Graph) -> Counter[tuple[str, str]]:
    """(room, room it imports from) -> number of imports."""
    packages = {module.rpartition(".")[0] for module in graph}
    pairs = ((room(a, packages), room(b, packages)) for a, imported in graph.items() for b in imported)
    return Counter(pair for pair in pairs if pair[0] != pair[1])


def circles(graph: Graph) -> list[list[str]]:
    """Groups of nodes that all lead to one another, by Tarjan's algorithm (1972)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        number[node] = low[node] = len(number)
        stack.append(node)
        for successor in graph.get(node, ()):
            if successor not in number:
                visit(successor)
                low[node] = min(low[node], low[successor])
            elif successor in stack:
                low[node] = min(low[node], number[successor])
        if low[node] == number[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in graph:
        if node not in number:
            visit(node)
    return sorted(found)


def without(graph: Graph, removed: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    removed = set(removed)
    return {a: {b for b in imported if (a, b) not in removed} for a, imported in graph.items()}


# ------------------------------------------------------------------------------------------------------- contracts


def lint(core: Path = ROOT) -> subprocess.CompletedProcess[str]:
    script = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    return run([sys.executable, "-c", script, "--no-cache", "--no-logo"], core)


def test_contracts_hold() -> None:
    done = lint()
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("where", "added", "contract"),
    [
        ("errors.py", "import synthkit.data.labels", "floor"),
        ("data/splits.py", "from synthkit.report import pages", "floor"),
        ("report/pages.py", "from synthkit.reproduce import sample", "floor"),
        ("attic.py", "import json", "floor"),
        ("judging/arms.py", "import synthkit_overlap", "plugin"),
        ("running/backends/docker.py", "from synthkit.running.backends import apptainer", "backend"),
    ],
)
def test_a_wrong_import_breaks_a_contract(tmp_path: Path, where: str, added: str, contract: str) -> None:
    shutil.copytree(ROOT / "synthkit", tmp_path / "synthkit", ignore=shutil.ignore_patterns("__pycache__", "_demo"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "synthkit" / where).open("a") as file:
        file.write(f"\n\ndef _when_needed():\n    {added}\n")
    done = lint(tmp_path)
    broken = [line for line in done.stdout.splitlines() if " BROKEN" in line]
    assert done.returncode == 1, done.stdout + done.stderr
    assert len(broken) == 1 and contract in broken[0], done.stdout + done.stderr


def test_contracts_know_every_package() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    assert config["root_packages"] == list(PACKAGES)
    (layers,) = (contract["layers"] for contract in config["contracts"] if contract["id"] == "plugins")
    kinds = {path.name: path.parents[2].name for path in PACKAGES.values()}
    methods = {name for name in PACKAGES if kinds[name] in ("generators", "segmenters", "metrics")}
    assert set(layers[0].split(" | ")) == methods
    assert {name for layer in layers for name in layer.split(" | ")} == set(PACKAGES)


# ----------------------------------------------------------------------------------------------------------- rooms


def test_rooms_and_arrows_are_few() -> None:
    graph = core()
    packages = {module.rpartition(".")[0] for module in graph}
    rooms = sorted({room(module, packages) for module in graph})
    counted = arrows(graph)
    for name in rooms:
        print(name, "->", ", ".join(f"{b} {n}" for (a, b), n in sorted(counted.items()) if a == name))
    print(f"{len(rooms)} rooms, {len(counted)} arrows, {sum(counted.values())} imports between rooms")
    assert len(rooms) <= MOST_ROOMS
    assert len(counted) <= MOST_ARROWS


def test_top_rooms_have_no_circles() -> None:
    def top(name: str) -> str:
        return ".".join(name.split(".")[:2])

    graph: dict[str, set[str]] = defaultdict(set)
    for a, b in arrows(without(core(), [FACE])):
        if top(a) != top(b):
            graph[top(a)].add(top(b))
    assert circles(graph) == []


def test_modules_have_no_circles() -> None:
    assert circles(without(imports(), [FACE])) == []


def test_circles_are_seen() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set()}) == [["a", "b", "c"]]
    assert circles({"a": {"b", "c"}, "b": {"d"}, "c": {"d"}}) == []


def test_rooms_are_folders_with_modules() -> None:
    graph = {
        "synthkit.x": set(),
        "synthkit.x.y": {"synthkit.z.presets", "synthkit.errors"},
        "synthkit.z.presets": set(),
    }
    assert arrows(graph) == {("synthkit.x", "synthkit.z"): 1, ("synthkit.x", "ground"): 1}
    assert room("synthkit.new", {"synthkit"}) == "synthkit.new"


# -------------------------------------------------------------------------------------------------------- public API


def public_modules() -> set[str]:
    """What docs/plugins.md names: the first word of each line below the heading."""
    page = (ROOT / "docs" / "plugins.md").read_text()
    section = page.partition("\n## Public modules\n")[2].partition("\n## ")[0]
    return set(re.findall(r"^[^\w\n]*(synthkit(?:\.\w+)*)\b", section, flags=re.MULTILINE))


def test_plugins_import_public_modules_only() -> None:
    public = public_modules()
    assert {"synthkit", "synthkit.errors", "synthkit.testing"} <= public <= set(core()), public - set(core())
    private = {
        f"{module} imports {imported}"
        for module, all_imported in imports().items()
        if not is_in(module, "synthkit")
        for imported in all_imported
        if is_in(imported, "synthkit") and imported not in public
    }
    assert not private


# ------------------------------------------------------------------------------------------------- names and sizes


def python_files(*folders: str) -> list[Path]:
    return sorted(file for folder in folders for file in (ROOT / folder).rglob("*.py"))


def test_files_are_short() -> None:
    lines = {
        f.relative_to(ROOT).as_posix(): len(f.read_text().splitlines()) for f in python_files("synthkit", "plugins")
    }
    assert len(lines) > 200
    longer = {name for name, n in lines.items() if n > MOST_LINES}
    assert longer - LONGER_FILES == set()
    assert LONGER_FILES - longer == set(), "take them from LONGER_FILES"


def test_no_two_classes_of_core_have_one_name() -> None:
    places = defaultdict(list)
    for file in python_files("synthkit"):
        if not file.is_relative_to(ROOT / "synthkit" / "testing" / "toys"):  # a wrong toy mirrors a right one
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.ClassDef):
                    places[node.name].append(file.relative_to(ROOT).as_posix())
    assert {name: files for name, files in places.items() if len(files) > 1} == {}


def test_no_module_is_called_utils() -> None:
    vague = re.compile(r"_?(utils?|helpers?|misc|common)")
    named = [name for name in imports() if vague.fullmatch(name.rpartition(".")[2])]
    assert not named


def test_every_package_is_typed() -> None:
    assert [name for name, path in PACKAGES.items() if not (path / "py.typed").is_file()] == []


# ------------------------------------------------------------------------------------------------------- packaging


def test_packages_of_ours_are_bounded_where_they_are_required() -> None:
    """One minor version fits together: what a plugin imports of core may change in the next one."""
    version = re.search(
        r'^__version__ = "(\d+)\.(\d+)\.', (ROOT / "synthkit" / "__init__.py").read_text(), re.MULTILINE
    )
    assert version
    major, minor = int(version[1]), int(version[2])
    bounds = f">={major}.{minor},<{major}.{minor + 1}"
    for file in ROOT.glob("plugins/*/*/pyproject.toml"):
        project = tomllib.loads(file.read_text())["project"]
        assert project["version"].startswith(f"{major}.{minor}."), file
        required = list(itertools.chain(project["dependencies"], *project.get("optional-dependencies", {}).values()))
        ours = [item for item in required if item.startswith("synthkit-")]
        assert ours and all(item.endswith(bounds) for item in ours), (file, ours)
