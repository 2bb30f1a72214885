"""The documentation says what the code does: generated parts are current, links lead somewhere, the example works."""

from __future__ import annotations

import importlib.util
import itertools
import json
import re
import shlex
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from synthkit.contract import Declaration
from synthkit.data.dataset import Dataset
from synthkit.data.writer import DatasetWriter
from synthkit.errors import ExitCode
from synthkit.registry.registry import Registry, discover, problem_of
from synthkit.running.backends.local import NOT_ISOLATED
from synthkit.running.backends.outcome import Attempt
from synthkit.running.run import Input, Job, create_run
from synthkit.running.verbs.execute import execute
from synthkit.schemes import Scheme
from synthkit.testing import check_generator, data
from synthkit.testing.toys import TOYS

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")), ROOT / "benchmarks" / "README.md"]


def load(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    return load(ROOT / "docs" / "generate.py", "synthkit_docs_generate")


def section(page: str, heading: str) -> str:
    """Text of a ``##`` section of a page."""
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", page, flags=re.MULTILINE | re.DOTALL)
    assert found, heading
    return found[1]


def first_column(text: str) -> set[str]:
    """Names in backquotes in the first column of the tables of a text."""
    cells = re.findall(r"^\| (`[^|]*) \|", text, flags=re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}


# ----------------------------------------------------------------------------------------------------- generated


@pytest.fixture
def own_plugins() -> None:
    """Skips where a plugin of ours is not installed."""
    installed = {d.distribution for d in discover().declarations.values()}
    projects = [tomllib.loads(p.read_text())["project"] for p in ROOT.glob("plugins/*/*/pyproject.toml")]
    own = {project["name"] for project in projects if "entry-points" in project}
    if own - installed:
        pytest.skip(f"not installed: {', '.join(sorted(own - installed))}")


@pytest.mark.usefixtures("own_plugins")
def test_generated_parts_are_current(generate: ModuleType) -> None:
    pinned = re.search(r"^typer==(\S+)", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE)
    assert pinned
    stale = generate.out_of_date()
    if version("typer") != pinned[1]:  # it words the help texts
        stale = [name for name in stale if name != "docs/commands.md"]
    assert not stale, f"run `python docs/generate.py`: {stale}"


def test_a_stale_block_is_seen(generate: ModuleType) -> None:
    page = "a\n<!-- begin x -->\nold\n<!-- end x -->\nb\n"
    new = generate.with_blocks(page, {"x": lambda: "new"})
    assert new == "a\n<!-- begin x -->\n\nnew\n\n<!-- end x -->\nb\n"
    assert generate.with_blocks(new, {"x": lambda: "new"}) == new
    with pytest.raises(ValueError, match="exactly once"):
        generate.with_blocks(page, {"y": lambda: "new"})


def test_a_table_is_markdown(generate: ModuleType) -> None:
    made = generate.table(("a", "b"), [("x | y", "``code`` or :class:`Error`")])
    assert made.splitlines()[2] == "| x \\| y | `code` or `Error` |"


def test_exit_codes_of_the_readme_are_all_there_are() -> None:
    cells = [cell.strip() for cell in re.findall(r"(?<=\|)[^|\n]*", (ROOT / "README.md").read_text())]
    told = {int(a): b for a, b in itertools.pairwise(cells) if a.isdecimal()}
    assert set(told) == {int(code) for code in ExitCode}
    assert told[10].startswith("a gate failed") and told[8] == "timeout" and told[130] == "interrupted"


# --------------------------------------------------------------------------------------------------------- links


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_relative_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL))
    broken = [
        link
        for link in links
        if not link.startswith(("https://", "http://", "#")) and not (page.parent / link.partition("#")[0]).exists()
    ]
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_commands_shown_exist(page: Path) -> None:
    from typer.main import get_command

    from synthkit.cli import app

    main: Any = get_command(app)
    shown = re.findall(
        r"synthkit ([a-z][a-z-]+)(?= |`|$)", "\n".join(re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL))
    )
    assert set(shown) <= set(main.commands)


def shown_commands(page: Path) -> list[list[str]]:
    """The words of each `synthkit ...` in the shell blocks of a page, comments left out."""
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)).replace("\\\n", " ")
    lines = (re.split(r"\s#|&&|;|\||>", line)[0] for text in blocks.splitlines() for line in text.split("&&"))
    words = (shlex.split(line.partition("# ")[0], comments=True) for line in lines if "synthkit " in line)
    return [found for found in words if found and found[0].rpartition("/")[2] == "synthkit"]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_options_shown_exist(page: Path) -> None:
    from typer.main import get_command

    from synthkit.cli import app

    for words in shown_commands(page):
        command: Any = get_command(app)
        known = {"--help", "-h"}
        for word in words[1:]:
            command = getattr(command, "commands", {}).get(word, command)
            parameters = [*command.params, *getattr(getattr(command, "own", None), "params", ())]
            known |= {option for item in parameters for option in (*item.opts, *item.secondary_opts)}
        given = {word.partition("=")[0] for word in itertools.takewhile(lambda word: word != "--", words)}
        assert {word for word in given if re.match(r"--?[a-z]", word)} <= known, words


def test_the_walk_of_the_readme_is_whole() -> None:
    """What CI runs word for word: every path that a command reads is one that an earlier command made."""
    text = section((ROOT / "README.md").read_text(), "Use it")
    block = re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)[0]
    commands = [shlex.split(line, comments=True) for line in block.splitlines() if line.startswith("synthkit")]
    made: set[str] = set()
    for words in commands:
        read = {word for word in words[2:] if re.match(r"(data/|runs|pred$|SUBJECTS$)", word)}
        out = words[words.index("-o") + 1] if "-o" in words else ""
        assert read - {out, "runs"} <= made, words
        made.add(out)
    verbs = {"phantom", "prepare", "train", "generate", "segment", "evaluate", "audit-memorization", "utility"}
    assert verbs | {"release", "report", "verify"} == {words[1] for words in commands}


# ---------------------------------------------------------------------------------------------------- the formats


def test_keys_of_dataset_json_are_documented(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "d", contrasts=("t1",), scheme=Scheme.of_labels({"background": 0}), size=(32, 32)):
        pass
    documented = first_column(section((ROOT / "docs" / "datasets.md").read_text(), "The folder"))
    keys = set(json.loads((tmp_path / "d" / "dataset.json").read_text()))
    assert keys <= documented
    assert documented - keys == set()


def test_keys_of_job_and_result_are_documented(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "runs.md").read_text()
    source = data.real_dataset(4, 32)
    inputs = {role: Input("dataset", source.path, digest=source.digest) for role in ("real", "synthetic")}
    registry = Registry(declarations={toy.name: toy for toy in TOYS})
    run = create_run(tmp_path / "run", Job("evaluate", ("toy-shift",), inputs=inputs))
    attempt = Attempt(run, registry.get("toy-shift"))
    execute(run.path, registry)
    result = attempt.finish("local", dict(NOT_ISOLATED), [], container={})
    assert result["status"] == "succeeded", result["error"]
    assert set(json.loads((run.path / "job.json").read_text())) == first_column(section(page, "job.json"))
    documented = first_column(section(page, "result.json"))
    assert set(result) <= documented
    assert documented - set(result) == {"protocol", "seal", "verdict"}
    kept = re.findall(r"`(\w+)`", section(page, "Backends").partition("records what")[2].partition("Local and")[0])
    assert set(NOT_ISOLATED) <= set(kept)


# ---------------------------------------------------------------------------------------------------- the example


def test_the_example_plugin_keeps_every_promise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("safetensors", reason="safetensors is not installed")
    page = (ROOT / "docs" / "plugins.md").read_text()
    files = dict(re.findall(r"^`([\w/.]+)`\n\n```\w+\n(.*?)```", page, flags=re.MULTILINE | re.DOTALL))
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    python = [text for name, text in files.items() if name.startswith("src/") and name.endswith(".py")]
    assert sum(bool(line.strip()) for text in python for line in text.splitlines()) < 60
    project = tomllib.loads(files["pyproject.toml"])["project"]
    (name, module) = next(iter(project["entry-points"]["synthkit.plugins"].items()))
    monkeypatch.syspath_prepend(str(tmp_path / "src"))
    declared = __import__(module).synthkit_declare()
    assert [d.name for d in declared] == [name] and declared[0].distribution == project["name"]
    assert problem_of(declared[0]) == ""
    results = check_generator(declared[0])
    assert len(results) > 10 and not [r for r in results if r.status == "skipped"]


def test_the_examples_of_reading_a_dataset_work(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr", reason="zarr is not installed")
    assert zarr.__version__ >= "3"
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "datasets.md").read_text(), flags=re.DOTALL)
    source = data.real_dataset(4, 32)
    assert len(blocks) == 2
    for block in blocks:
        code = block.replace('"data/real', f'"{source.path}').replace("data/real", str(source.path))
        names: dict[str, Any] = {}
        exec(code, names)
        n = len(names["labels"])
        images, labels = Dataset(source.path).read(
            range(24 - n if "select" in block else 0, 24 if "select" in block else n)
        )
        assert (names["images"] == images).all() and (names["labels"] == labels).all()


def test_the_policy_shown_is_a_policy(tmp_path: Path) -> None:
    from synthkit.judging.policy import load_policy

    shown = re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "audit.md").read_text(), flags=re.DOTALL)
    assert len(shown) == 1
    (tmp_path / "policy.toml").write_text(shown[0])
    assert load_policy(tmp_path / "policy.toml").min_null_subjects == 20


@pytest.mark.parametrize(("name", "plugin"), [("faithful", "stylegan2"), ("memorized", "edm")])
def test_the_parameters_of_the_demo_generators_are_parameters(name: str, plugin: str) -> None:
    from synthkit.registry.parameters import make_params, parse_assignments

    declarations: dict[str, Declaration] = discover().declarations
    if plugin not in declarations:
        pytest.skip(f"the plugin {plugin} is not installed")
    given = parse_assignments((), ROOT / "benchmarks" / f"demo_{name}.toml")
    assert make_params(declarations[plugin], given).kimg > 0


@pytest.mark.usefixtures("own_plugins")
def test_the_generator_script_reports_by_its_exit_status() -> None:
    done = subprocess.run([sys.executable, ROOT / "docs" / "generate.py", "--check"], capture_output=True, text=True)
    assert done.returncode in (0, 1) and bool(done.stdout) == bool(done.returncode), done.stderr


# -------------------------------------------------------------------------------------------------- contributing


def changes() -> dict[str, list[str]]:
    """Change -> files that it touches, as CONTRIBUTING.md has them."""
    rows = re.findall(r"^\| (.+?) \| (.+) \|$", section(CONTRIBUTING, "Ten likely changes"), flags=re.MULTILINE)
    return {name: re.findall(r"`([\w./-]+/[\w./-]+|\w+\.\w+)`", files) for name, files in rows if "`" in files}


CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()


def test_ten_changes_touch_at_most_four_files() -> None:
    assert len(changes()) == 10
    assert all(2 <= len(files) <= 4 for files in changes().values())


def test_files_named_in_contributing_exist() -> None:
    named = re.findall(r"`([a-z_.-][\w.-]*(?:/[a-z_.][\w.-]*)+)`", CONTRIBUTING)
    assert len(named) > 20
    assert {
        name for name in named if not any((folder / name).exists() for folder in (ROOT, ROOT / "synthkit"))
    } == set()


def test_every_room_is_in_the_table() -> None:
    rooms = set(re.findall(r"^\| `(\w+)` \|", section(CONTRIBUTING, "The rooms"), flags=re.MULTILINE))
    assert rooms == {path.parent.name for path in (ROOT / "synthkit").glob("*/__init__.py")}
