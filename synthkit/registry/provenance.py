"""Where a result comes from: versions, machine, GPU. Small, and free of host names and user names."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from synthkit.contract import Declaration

_WATCHED = ("numpy", "scipy", "nibabel", "zstandard", "torch", "monai", "safetensors", "scikit-learn")


def versions(declarations: tuple[Declaration, ...] = ()) -> dict[str, str]:
    """Versions of Python, of synthkit, of the plugins in use and of the packages that decide numbers."""
    names = ["synthkit-core", *sorted({d.distribution for d in declarations}), *_WATCHED]
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def code(declarations: tuple[Declaration, ...] = ()) -> dict[str, str]:
    """Digest of the Python files of synthkit and of the plugins in use: a version may stand for edited code."""
    from synthkit.errors import SynthkitError
    from synthkit.registry.wheels import code_digest

    found = {}
    for name in ["synthkit-core", *sorted({d.distribution for d in declarations})]:
        try:
            found[name] = code_digest(name)
        except (SynthkitError, OSError):  # a plugin of a test or of a notebook is not an installed distribution
            continue
    return found


def machine() -> dict[str, Any]:
    """Processor, cores, system; and GPUs if torch is loaded already (loading it only for this would be absurd)."""
    described: dict[str, Any] = {
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
    }
    torch = sys.modules.get("torch")
    if torch is not None:
        described["torch_threads"] = torch.get_num_threads()
        if torch.cuda.is_available():
            described["gpus"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
            described["cuda"] = torch.version.cuda
    return described


def gpu_visible() -> bool:
    """Whether this machine shows an NVIDIA device (``/dev/dxg``: through WSL 2), with no driver or torch asked."""
    return Path("/dev/nvidiactl").exists() or Path("/dev/dxg").exists()


def gpu_indices() -> tuple[str, ...]:
    """Indices of this machine's NVIDIA devices, those of CUDA_VISIBLE_DEVICES if that is set."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return tuple(name.strip() for name in chosen.split(",") if name.strip() not in ("", "-1"))
    found = sorted(int(path.name.removeprefix("nvidia")) for path in Path("/dev").glob("nvidia[0-9]*"))
    return tuple(map(str, found)) or (("0",) if Path("/dev/dxg").exists() else ())


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
