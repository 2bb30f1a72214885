"""The site of the documentation builds strictly, links nowhere but to itself, and loads nothing from elsewhere."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote

import pytest

pytest.importorskip("mkdocs", reason="mkdocs is not installed")

ROOT = Path(__file__).parents[1]


def build(root: Path, site: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    return subprocess.run(command, cwd=root, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "site"
    done = build(ROOT, folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def hooks() -> ModuleType:
    spec = spec_from_file_location("synthkit_docs_hooks", ROOT / "docs" / "hooks.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_page_is_there(site: Path) -> None:
    pages = {path.parent.relative_to(site).as_posix() for path in site.rglob("index.html")}
    assert pages == {".", "overview", "contributing", "changelog", "benchmarks"} | {
        path.stem for path in (ROOT / "docs").glob("*.md") if path.stem != "index"
    }


def test_links_lead_somewhere(site: Path) -> None:
    broken = []
    for page in site.rglob("index.html"):
        text = page.read_text("utf-8")
        for link in re.findall(r'(?:href|src)="([^"]+)"', re.sub(r"<(script|pre)\b.*?</\1>", "", text, flags=re.S)):
            path = unquote(html.unescape(link)).partition("#")[0].partition("?")[0]
            if path and not re.match(r"\w+:|//", path) and not (page.parent / path).exists():
                broken.append(f"{page.relative_to(site)}: {link}")
    assert not broken


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    loaded = re.compile(r'<(?:script|img|iframe|link)\b[^>]*?(?:src|href)="((?:https?:)?//[^"]+)"')
    found = {link for page in site.rglob("*.html") for link in loaded.findall(page.read_text("utf-8"))}
    assert found == set()


@pytest.mark.parametrize(
    ("page", "written", "on_the_site"),
    [
        ("audit.md", "[r](release.md#what)", "[r](release.md#what)"),
        ("index.md", "[o](../README.md)", "[o](overview.md)"),
        ("overview.md", "[a](docs/audit.md)", "[a](audit.md)"),
        ("benchmarks.md", "[d](../docs/demo.md#x)", "[d](demo.md#x)"),
        ("plugins.md", "[contract.py](../synthkit/contract.py)", "contract.py (`synthkit/contract.py`)"),
        ("overview.md", "![a picture](docs/pictures/report.png)", "![a picture](pictures/report.png)"),
        ("overview.md", "[`LICENSE`](LICENSE)", "`LICENSE`"),
        ("audit.md", "[x](https://example.org/a.md) [y](#z)", "[x](https://example.org/a.md) [y](#z)"),
        ("audit.md", "[x](../there_is_none.py)", "[x](../there_is_none.py)"),
        (
            "audit.md",
            "```sh\n[x](../README.md)\n```\n[x](../README.md)",
            "```sh\n[x](../README.md)\n```\n[x](overview.md)",
        ),
    ],
)
def test_links_are_those_of_the_site(hooks: ModuleType, page: str, written: str, on_the_site: str) -> None:
    assert hooks.with_links_of_the_site(written, page) == on_the_site


def build_changed(tmp_path: Path, name: str, text: str) -> list[str]:
    """Lines of what a build says that ends in an error, with ``text`` added to a page."""
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    config = (ROOT / "mkdocs.yml").read_text()
    (tmp_path / "mkdocs.yml").write_text(config.replace("docs/hooks.py", str(ROOT / "docs" / "hooks.py")))
    with (tmp_path / "docs" / name).open("a") as file:
        file.write(f"\n{text}\n")
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode != 0
    return [line for line in done.stderr.splitlines() if line.startswith("WARNING")]


@pytest.mark.parametrize("wrong", ["[x](there_is_none.md)", "[x](audit.md#there-is-none)", "[x](../there_is_none.py)"])
def test_a_link_to_nowhere_fails(tmp_path: Path, wrong: str) -> None:
    (warning,) = build_changed(tmp_path, "demo.md", wrong)
    assert "demo.md" in warning and wrong[4:-1] in warning


def test_a_page_that_is_not_in_the_navigation_fails(tmp_path: Path) -> None:
    assert build_changed(tmp_path, "new.md", "# New")
