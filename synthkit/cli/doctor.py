"""What is on this machine that synthkit needs, and what to do about what is not."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from synthkit.errors import SynthkitError

_MARKS = {"ok": "ok", "missing": "--", "broken": "!!"}
_LITTLE_DISK = 20 * 2**30


@dataclass(frozen=True)
class Finding:
    """One thing looked for. ``missing`` limits what can be done, ``broken`` wants repair."""

    what: str
    state: Literal["ok", "missing", "broken"]
    found: str
    remedy: str = ""

    @property
    def mark(self) -> str:
        return _MARKS[self.state]


def examine(*, clean: bool = False) -> list[Finding]:
    """Look at engine, GPU, disk, Python packages, plugins and container images. Never raises for what it finds."""
    findings = [*_python(), _disk(Path.cwd()), _gpu()]
    findings += _engine_and_images(clean)
    return [*findings, _apptainer()]


#: What looks at GPUs is a program of a library, since core needs no torch; a GPU out of order ends it alone.
_GPU_LIBRARY = "synthkit_generative"
_GPU_SECONDS = 600


def examine_gpu() -> tuple[list[Finding], dict[str, Any]]:
    """Train and draw on each GPU and compare with the CPU; never raises for what it finds.

    Returns
    -------
    what was found, and the rest of the document: ``torch``, ``cuda``, ``gpus`` with their ``comparisons``.
    """
    absent = [name for name in (_GPU_LIBRARY, "torch") if importlib.util.find_spec(name) is None]
    if absent:
        remedy = "Install a generator with what it runs on, as synthkit-stylegan2[runtime]."
        return [Finding("GPU check", "missing", f"not done, without {', '.join(absent)}", remedy)], {}
    command = [sys.executable, "-m", f"{_GPU_LIBRARY}.preflight"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_GPU_SECONDS)
    except subprocess.TimeoutExpired:
        remedy = "Look with nvidia-smi whether another job keeps it busy; otherwise restart the machine."
        return [Finding("GPU check", "broken", f"no end after {_GPU_SECONDS} seconds", remedy)], {}
    try:
        document: dict[str, Any] = json.loads(done.stdout)
        return [Finding(**item) for item in document.pop("findings")], document
    except (ValueError, KeyError, TypeError):
        said = (done.stderr.strip().splitlines() or ["no word"])[-1]
        remedy = "Install the driver that torch wants and try again; CUDA_VISIBLE_DEVICES= leaves the GPUs out."
        return [Finding("GPU check", "broken", f"ended with {done.returncode}: {said}", remedy)], {}


def _python() -> list[Finding]:
    from synthkit.registry.registry import discover

    registry = discover()
    findings = []
    names = registry.names()
    if names:
        findings.append(Finding("plugins", "ok", ", ".join(names)))
    else:
        findings.append(
            Finding("plugins", "missing", "none installed", "Install some, for example synthkit-stylegan2.")
        )
    for item in registry.broken:
        remedy = f"Repair or uninstall {item.distribution or item.name}; the others are not affected."
        findings.append(Finding(f"plugin {item.name}", "broken", item.reason, remedy))
    local = [name for name in ("torch", "monai", "safetensors", "nilearn") if importlib.util.find_spec(name) is None]
    if local:
        remedy = "Needed for --backend local and for the demo only: install synthkit-core[local]."
        findings.append(Finding("runtime packages", "missing", f"without {', '.join(local)}", remedy))
    else:
        findings.append(Finding("runtime packages", "ok", "torch, monai, safetensors, nilearn"))
    if importlib.util.find_spec("snakemake") is None:
        remedy = "Needed for `synthkit study run` only: install synthkit-core[study]."
        findings.append(Finding("studies", "missing", "without snakemake", remedy))
    else:
        findings.append(Finding("studies", "ok", "snakemake"))
    return findings


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    found = f"{free / 2**30:.0f} GiB free here"
    if free < _LITTLE_DISK:
        return Finding(
            "disk", "missing", found, "100,000 samples of 256 x 256 take 5 to 7 GB, container images 3 to 10 GB."
        )
    return Finding("disk", "ok", found)


def _gpu() -> Finding:
    devices = sorted(path.name for path in Path("/dev").glob("nvidia[0-9]*"))
    if devices:
        return Finding("GPU", "ok", f"{len(devices)} NVIDIA device{'s' if len(devices) > 1 else ''}")
    if os.path.exists("/dev/dxg"):  # noqa: PTH110
        return Finding("GPU", "ok", "through WSL 2")
    return Finding(
        "GPU",
        "missing",
        "no NVIDIA device",
        "Everything runs on the CPU, slowly; install the NVIDIA driver if there is a GPU.",
    )


def _apptainer() -> Finding:
    from synthkit.running.backends.apptainer import program, version
    from synthkit.running.containers import sif

    if program() is None:
        return Finding("Apptainer", "missing", "not on PATH", "Needed for --backend apptainer only.")
    there = sorted(path.name for path in sif.folder().glob("*.sif"))
    if not there:
        remedy = "Make images for it: synthkit containers export --help."
        return Finding("Apptainer", "missing", f"{version()}, no images in {sif.folder()}", remedy)
    return Finding("Apptainer", "ok", f"{version()}, {', '.join(there)}")


def _engine_and_images(clean: bool) -> list[Finding]:
    from synthkit.registry.registry import discover
    from synthkit.running.backends.docker import engine_info, remove_leftovers
    from synthkit.running.containers import images as containers

    try:
        info = engine_info()
    except SynthkitError as error:
        return [Finding("container engine", "missing", error.why, error.fix)]
    findings = [Finding("container engine", "ok", str(info["description"]))]
    if info["nvidia"]:
        findings.append(Finding("GPU in containers", "ok", str(info["nvidia"])))
    else:
        findings.append(
            Finding(
                "GPU in containers",
                "missing",
                "no NVIDIA runtime",
                "Install the NVIDIA Container Toolkit, then restart the engine.",
            )
        )
    leftovers = remove_leftovers(dry_run=not clean)
    if leftovers:
        remedy = "" if clean else "Remove them: synthkit doctor --clean."
        done = "removed" if clean else "left behind by killed commands"
        findings.append(Finding("containers", "ok" if clean else "missing", f"{len(leftovers)} {done}", remedy))
    there = {image["name"] for image in containers.list_images()}
    registry = discover()
    wanted: dict[str, str] = {}
    for name in registry.names():
        try:
            wanted[containers.image_name(registry.declarations[name])] = name
        except SynthkitError as error:
            findings.append(Finding(f"plugin {name}", "broken", error.why, error.fix))
    absent = [name for image, name in wanted.items() if image not in there]
    if absent:
        remedy = f"Build them: synthkit containers build base {' '.join(absent)}."
        findings.append(Finding("container images", "missing", f"none for {', '.join(absent)}", remedy))
    else:
        findings.append(Finding("container images", "ok", ", ".join(sorted(wanted))))
    return findings
