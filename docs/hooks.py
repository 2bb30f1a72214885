"""What mkdocs needs to know: pages that lie outside of docs/, and links that lead out of it.

The pages are written for readers of the repository, where every relative link leads to a file. On the site some of
those files are pages as well; others are named, as there is nothing to link to.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from posixpath import normpath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.structure.files import Files

ROOT = Path(__file__).parents[1]

#: File of the repository -> page of the site.
PAGES = {
    "README.md": "overview.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "benchmarks.md",
}
_SOURCES = {page: file for file, page in PAGES.items()}
# A fenced block, which is left alone, or a link or picture that is relative.
_BLOCK_OR_LINK = re.compile(r"^```.*?^```|\[([^\]]*)\]\((?!\w+:|#)([^)\s#]+)(#[^)\s]*)?\)", re.M | re.S)


def on_files(files: Files, config: Any) -> Files:
    """The site's pages, with those that lie outside of docs/."""
    from mkdocs.structure.files import File

    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text("utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """The text of a page, its links as they are on the site."""
    return with_links_of_the_site(markdown, page.file.src_uri)


def with_links_of_the_site(text: str, page: str) -> str:
    """``text`` with links to pages of the site, and names of files that the site does not have.

    What leads nowhere stays as it is, so that a strict build refuses it.
    """
    source = _SOURCES.get(page, f"docs/{page}")

    def replaced(found: re.Match[str]) -> str:
        label, link, anchor = found[1], found[2], found[3] or ""
        if link is None:
            return found[0]
        target = normpath(PurePosixPath(source).parent / link)
        if target in PAGES:
            return f"[{label}]({PAGES[target]}{anchor})"
        if target.startswith("docs/"):
            return f"[{label}]({target.removeprefix('docs/')}{anchor})"
        if not (ROOT / target).exists():
            return found[0]
        return label if target in label else f"{label} (`{target}`)"

    return _BLOCK_OR_LINK.sub(replaced, text)
