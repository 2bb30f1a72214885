"""From a template to a file: rendering, and what may be overwritten."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synthkit.errors import NotWritableError, UsageError
from synthkit.files import write_atomically
from synthkit.report.wording import count, duration, interval, number, words

#: Every page of ours has this in its head; only files that have it are replaced.
MARK = '<meta name="generator" content="synthkit report">'


def check_replaceable(out: Path) -> None:
    """Raise UsageError if ``out`` is a folder, or a file that is not a page of ours."""
    if out.is_dir():
        raise UsageError(f"{out} is a folder.", fix="Name an HTML file with -o.")
    if out.exists() and MARK not in out.read_bytes()[:4096].decode(errors="replace"):
        raise UsageError(
            f"{out} is there already and is not a report.",
            "Only a report is replaced by a report.",
            "Choose another name.",
        )


def render(template: str, page: Mapping[str, Any]) -> bytes:
    """The page as UTF-8; everything in ``page`` is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    from synthkit import __version__

    environment = Environment(
        loader=PackageLoader("synthkit.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, interval=interval, count=count, seconds=duration, words=words)
    css, _, _ = environment.loader.get_source(environment, "report.css")  # type: ignore[union-attr]
    made = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    ours = {"css": Markup(css), "mark": Markup(MARK), "version": __version__, "made": made}
    return environment.get_template(template).render(**page, **ours).encode()


def write_page(out: Path, html: bytes) -> None:
    """Write all or nothing; NotWritableError where that fails."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out, html)
    except OSError as error:
        raise NotWritableError(
            f"The report {out} cannot be written.", f"{error.strerror or error}.", "Choose another place with -o."
        ) from error
