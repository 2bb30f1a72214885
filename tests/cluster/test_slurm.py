"""Ordinary commands as jobs of a Slurm cluster, through Snakemake. ``.ci/slurm`` starts a cluster of two nodes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from synthkit.data.dataset import Dataset

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

# Two phantoms are made apart from each other, so that both nodes have something to do.
WORKFLOW = """
rule all:
    input: "data/real/dataset.json"

rule phantom:
    output: "subjects-{{seed}}/done"
    shell: "{synthkit} phantom -o subjects-{{wildcards.seed}}/made -n 2 --seed {{wildcards.seed}} --workers 1"
           " && echo $SLURM_JOB_ID $SLURMD_NODENAME > {{output}}"

rule prepare:
    input: "subjects-1/done", "subjects-2/done"
    output: "data/real/dataset.json"
    shell: "rm -rf data/real && {synthkit} prepare subjects-1/made -o data/real --size 32 --holdout 1 --workers 1"
"""

Snakemake = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def snakemake(tmp_path: Path, missing: Callable[[str, str], NoReturn]) -> Snakemake:
    """Starts Snakemake on the cluster in ``tmp_path``; skips where there is no cluster."""
    pytest.importorskip("snakemake_executor_plugin_slurm")
    if shutil.which("sinfo") is None:
        missing("slurm", "no Slurm")
    nodes = subprocess.run(["sinfo", "--noheader", "--Node"], capture_output=True, text=True, timeout=30, check=False)
    if nodes.returncode != 0 or len(nodes.stdout.splitlines()) < 2:
        missing("slurm", "no Slurm cluster of two nodes answers")
    synthkit = f"{sys.executable} -m synthkit"
    (tmp_path / "Snakefile").write_text(WORKFLOW.format(synthkit=synthkit))

    def start(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "snakemake", "--executor", "slurm", "--jobs", "4", *arguments]
        # Without an accounting database; asked often, as the jobs are short.
        command += ["--slurm-status-command", "squeue", "--slurm-no-account", "--slurm-keep-successful-logs"]
        command += ["--slurm-init-seconds-before-status-checks", "2", "--seconds-between-status-checks", "2"]
        command += ["--latency-wait", "20", "--default-resources", "mem_mb=1000", "runtime=10"]
        return subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )

    return start


def test_commands_are_jobs_on_both_nodes(snakemake: Snakemake, tmp_path: Path) -> None:
    process = snakemake()
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    marks = [(tmp_path / f"subjects-{seed}" / "done").read_text().split() for seed in (1, 2)]
    assert len({job for job, _ in marks}) == len({node for _, node in marks}) == 2
    assert len(Dataset(tmp_path / "data" / "real")) > 0


def test_cancelled_job_is_done_again(snakemake: Snakemake, tmp_path: Path) -> None:
    process = snakemake("--retries", "1")
    assert process.stdout is not None
    submitted = next(line for line in process.stdout if "has been submitted with SLURM jobid" in line)
    job = submitted.split("SLURM jobid ")[1].split()[0]
    subprocess.run(["scancel", job], check=True, timeout=30)
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    assert f"SLURM-job '{job}' failed" in output and "CANCELLED" in output
    assert json.loads((tmp_path / "data" / "real" / "dataset.json").read_text())
