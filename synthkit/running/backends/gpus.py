"""GPUs of this machine, or of the part of it that a scheduler has granted."""

from __future__ import annotations

import os

from synthkit.contract import Declaration
from synthkit.errors import GpuUnavailableError
from synthkit.registry.provenance import gpu_visible
from synthkit.running.run import Job


def visible_devices(gpus: str) -> str | None:
    """``CUDA_VISIBLE_DEVICES`` for ``--gpus``; None where it is left as it is.

    A scheduler's choice is narrowed, never widened to devices that it gave to others.
    """
    granted = os.environ.get("CUDA_VISIBLE_DEVICES")
    if gpus == "none":
        return ""
    if gpus.startswith("device="):
        return gpus.removeprefix("device=")
    if gpus.isdecimal():
        devices = [str(i) for i in range(int(gpus))] if granted is None else granted.split(",")
        return ",".join(devices[: int(gpus)])
    return granted


def check_gpus(declaration: Declaration, job: Job) -> None:
    """:class:`GpuUnavailableError` if this machine, or what its scheduler granted, has not the GPUs asked for."""
    if job.resources.gpus != "none" and declaration.gpu != "none" and not gpu_visible():
        raise GpuUnavailableError(
            f"--gpus {job.resources.gpus} cannot be given.",
            "This machine shows no NVIDIA device.",
            "Install the NVIDIA driver, or run on the CPU with --gpus none. `synthkit doctor` tells more.",
        )
    check_granted(declaration, job)


def check_granted(declaration: Declaration, job: Job) -> None:
    """:class:`GpuUnavailableError` if a scheduler has granted fewer GPUs than are asked for."""
    granted = os.environ.get("CUDA_VISIBLE_DEVICES")
    if granted is not None and job.resources.gpus.isdecimal() and declaration.gpu != "none":
        n_granted = len([device for device in granted.split(",") if device])
        if n_granted < int(job.resources.gpus):
            raise GpuUnavailableError(
                f"--gpus {job.resources.gpus} cannot be given.",
                f"CUDA_VISIBLE_DEVICES={granted} grants {n_granted}.",
                "Ask the scheduler for more, or ask for fewer here.",
            )
