"""A whole study as jobs of a Slurm cluster of two nodes, its runs in containers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from synthkit.study.config import Study
from synthkit.study.plan import make_plan
from synthkit.study.progress import states_of

pytestmark = [pytest.mark.slurm, pytest.mark.engine, pytest.mark.slow]

STUDY = """
[study]
name = "on two nodes"
[data]
phantom = 4
size = 32
holdout = "2"
[samples]
n = 16
[arms]
both = false
augmentation = [false]
seeds = 1
[metrics]
fidelity = []
overlap = ["dice"]
[audit]
enabled = false
[run]
backend = "docker"
gpus = 0
retries = 0
[generators.stylegan2]
params = { kimg = 0.5, batch_size = 8, channel_base = 256, channel_max = 16, mapping_layers = 2 }
[segmenters.unet]
params = { samples = 200, batch_size = 8, filters = 4, depth = 3, checkpoint_every = 200 }
"""
#: Often asked, as the jobs are short.
QUICKLY = ("--", "--slurm-init-seconds-before-status-checks", "2", "--seconds-between-status-checks", "2")


@pytest.fixture
def study(tmp_path: Path, missing: Callable[[str, str], NoReturn]) -> Path:
    pytest.importorskip("snakemake_executor_plugin_slurm")
    nodes = shutil.which("sinfo") and subprocess.run(
        ["sinfo", "--noheader", "--Node"], capture_output=True, text=True, timeout=30, check=False
    )
    if not nodes or len(nodes.stdout.splitlines()) < 2:
        missing("slurm", "no Slurm cluster of two nodes answers")
    (tmp_path / "study.toml").write_text(STUDY)
    return tmp_path


def start(study: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "synthkit", "study", "run", str(study), "--executor", "slurm", "--jobs", "2"]
    return subprocess.Popen(
        [*command, *QUICKLY], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def record(study: Path, step: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((study / ".study" / "records" / f"{step}.json").read_text())
    return found


def wait_for(study: Path, step: str, *states: str) -> None:
    deadline = time.monotonic() + 400
    plan = make_plan(Study.load(study))
    while time.monotonic() < deadline:
        if next(item.state for item in states_of(study, plan) if item.step.name == step) in states:
            return
        time.sleep(0.5)
    raise AssertionError(f"{step} never was {' or '.join(states)}")


def test_killed_and_run_again(study: Path) -> None:
    first = start(study)
    wait_for(study, "train-stylegan2", "running", "done")
    prepared = record(study, "prepare")
    os.killpg(first.pid, signal.SIGKILL)  # the command and Snakemake; the jobs of the cluster live on
    first.communicate()

    second = start(study)
    output = second.communicate(timeout=900)[0]
    assert second.returncode == 0, output
    states = states_of(study, make_plan(Study.load(study)))
    assert {item.state for item in states} == {"done"}
    assert record(study, "prepare") == prepared  # what was done stayed
    assert {item.host for item in states} == {"node1", "node2"}
    runs = [path for path in study.rglob("result.json") if ".study" not in path.parts]
    assert len(runs) == 8  # train, generate; twice train, segment, evaluate
    assert all("image_id" in json.loads(path.read_text())["container"] for path in runs)
    assert "unet, without augmentation" in (study / "report.html").read_text()
