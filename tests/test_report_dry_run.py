"""``synthkit report --dry-run``: what a report would be of, refused as the report is, and nothing written."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("jinja2", reason="jinja2 is not installed")

from synthkit.running.run import Job, create_run
from synthkit.testing import data


def report(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "synthkit", "report", *map(str, arguments)], capture_output=True, text=True, timeout=120
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A dataset and a run that has not ended."""
    shutil.copytree(data.real_dataset(2, 32).path, tmp_path / "in" / "real")
    create_run(tmp_path / "in" / "unet", Job(verb="train", plugins=("unet",)))
    return tmp_path / "in"


def test_it_says_what_the_report_would_be_of(folder: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    done = report(folder, "-o", tmp_path / "page.html", "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    planned: dict[str, Any] = json.loads(done.stdout)
    assert [(run["run"], run["verb"], run["status"]) for run in planned["runs"]] == [("unet", "train", "no result")]
    assert [(item["kind"], item["n_samples"] > 0) for item in planned["datasets"]] == [("real", True)]
    shown = report(folder, "-o", tmp_path / "page.html", "--dry-run")
    assert shown.returncode == 0 and "no result" in shown.stdout and "page.html" in shown.stdout
    assert sorted(tmp_path.rglob("*")) == before
    written = report(folder, "-o", tmp_path / "page.html", "--json")
    summary = json.loads(written.stdout)
    assert (summary["n_runs"], summary["n_datasets"]) == (len(planned["runs"]), len(planned["datasets"]))


def test_it_is_refused_as_the_report_is(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.html").write_text("<p>Mine.</p>")
    before = sorted(tmp_path.rglob("*"))
    for runs, out, code, text in (
        (tmp_path / "nowhere", "page.html", 3, "There is no"),
        (tmp_path / "empty", "page.html", 3, "There is nothing to report"),
        (folder, "notes.html", 2, "is not a report"),
        (folder, "empty", 2, "is a folder"),
    ):
        refused, planned = (report(runs, "-o", tmp_path / out, *option) for option in ((), ("--dry-run",)))
        assert refused.returncode == planned.returncode == code, planned.stderr
        assert refused.stderr == planned.stderr and text in " ".join(planned.stderr.split())
    assert sorted(tmp_path.rglob("*")) == before
