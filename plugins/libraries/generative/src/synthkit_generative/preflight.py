"""Whether this machine's GPUs can train, and compute what a CPU computes: what ``synthkit doctor --gpu`` runs.

    python -m synthkit_generative.preflight

prints one JSON document: ``findings`` (as those of ``synthkit doctor``), ``torch``, and of each GPU what it is and its
``comparisons``. It is a process of its own, because a GPU that is not in order may end it.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, Literal, TypedDict

import torch
from synthkit_torch.devices import choose_precision, float32_arithmetic
from synthkit_torch.fused import fused_operators, is_fused, why_none
from synthkit_torch.streams import own_seed
from torch import Tensor, nn

from synthkit_generative.adversarial import discriminator_step, generator_step, r1_step
from synthkit_generative.discriminator import Discriminator, Pyramid
from synthkit_generative.layers import Conv, Linear
from synthkit_generative.resampling import upsample

#: The oldest driver for each CUDA that a torch is built with ("CUDA compatibility" of NVIDIA, minor versions).
DRIVERS = {11: 450, 12: 525, 13: 580}
#: Largest difference that passes, relative to the largest value: sums are ordered otherwise, bfloat16 has 8 bits.
LIMITS = {torch.float32: 1e-3, torch.bfloat16: 0.2}
SIDE, CHANNELS, BATCH, LATENT, STEPS = 32, 3, 8, 32, 3


class Finding(TypedDict):
    """One thing looked for, as ``synthkit doctor`` has it."""

    what: str
    state: Literal["ok", "missing", "broken"]
    found: str
    remedy: str


def _finding(what: str, wrong: Literal["", "missing", "broken"], found: str, remedy: str = "") -> Finding:
    return Finding(what=what, state=wrong or "ok", found=found, remedy=remedy if wrong else "")


# -------------------------------------------------------------------------------------------- what is installed


def look_at_build(cuda: str | None) -> Finding:
    """Whether torch was built for GPUs."""
    found = f"{torch.__version__}, " + (f"CUDA {cuda}" if cuda else "built without CUDA")
    remedy = "Install a torch that is built with CUDA, in an environment of its own if this one is to stay."
    return _finding("torch", "" if cuda else "broken", found, remedy)


def driver_version() -> str:
    """That of the NVIDIA driver, "" where there is none."""
    file = Path("/proc/driver/nvidia/version")
    if file.is_file():
        found = re.search(r"\s(\d{3,}\.\d+(?:\.\d+)?)\s", file.read_text())
        return found[1] if found else ""
    if shutil.which("nvidia-smi") is None:
        return ""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    return said[0] if said and re.fullmatch(r"[\d.]+", said[0]) else ""


def look_at_driver(version: str, cuda: str | None) -> Finding:
    """Whether the driver is new enough for the CUDA that torch was built with."""
    if not version:
        return _finding("driver", "missing", "no NVIDIA driver found", "Install the NVIDIA driver if there is a GPU.")
    if cuda is None:
        return _finding("driver", "", version)
    wanted = DRIVERS.get(int(cuda.split(".")[0]))
    if wanted is None:
        remedy = "See NVIDIA's table of CUDA compatibility."
        return _finding("driver", "missing", f"{version}; which one CUDA {cuda} wants is not known here", remedy)
    old = int(version.split(".")[0]) < wanted
    remedy = f"Install driver {wanted} or later, or a torch that is built with an older CUDA."
    return _finding("driver", "broken" if old else "", f"{version}; CUDA {cuda} wants {wanted} or later", remedy)


def look_at_files(folder: Path) -> Finding:
    """Whether this user may open the devices."""
    files = sorted(folder.glob("nvidia[0-9]*"))
    if not files:
        remedy = "In a container ask for GPUs; elsewhere install the driver, or run nvidia-modprobe."
        return _finding("device files", "missing", f"no {folder}/nvidia0", remedy)
    shut = [file for file in files if not os.access(file, os.R_OK | os.W_OK)]
    found = ", ".join(file.name for file in shut or files)
    groups = sorted({str(file.stat().st_gid) for file in shut})
    remedy = f"Become a member of the group that owns them (number {', '.join(groups)})."
    return _finding("device files", "broken" if shut else "", f"not for this user: {found}" if shut else found, remedy)


def has_code(capability: tuple[int, int], architectures: list[str]) -> bool:
    """Whether kernels were compiled for this compute capability, or can be by the driver.

    Machine code (``sm_80``) runs on GPUs of the same major version and no lower minor one, ``sm_90a`` on that one
    alone; intermediate code (``compute_90``) on all from there on.
    """
    for name in architectures:
        match = re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", name)
        if match is None:
            continue
        made = int(match[2]), int(match[3])
        if match[4] == "a":
            runs = made == capability
        elif match[1] == "sm" or match[4] == "f":
            runs = made[0] == capability[0] and made[1] <= capability[1]
        else:
            runs = made <= capability
        if runs:
            return True
    return False


def look_at_code(name: str, capability: tuple[int, int], architectures: list[str]) -> Finding:
    """Whether torch has kernels for a GPU."""
    found = f"compute capability {capability[0]}.{capability[1]}; torch has {' '.join(architectures)}"
    remedy = "Install a torch that is built for it; with CUDA 12.6 there are some for Pascal and Volta."
    return _finding(f"{name}: kernels", "" if has_code(capability, architectures) else "broken", found, remedy)


# --------------------------------------------------------------------------------------------- what is computed


class _Generator(nn.Module):
    """Images ``(n, CHANNELS, SIDE, SIDE)`` of latents, by layers of our GANs."""

    def __init__(self) -> None:
        super().__init__()
        self.first = Linear(LATENT, 16 * 16)
        self.layers = nn.ModuleList(Conv(16, 16, 3) for _ in range(3))
        self.to_image = Conv(16, CHANNELS, 1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.first(z).view(-1, 16, 4, 4).contiguous(memory_format=torch.channels_last)
        for layer in self.layers:
            assert isinstance(layer, Conv)
            x = upsample(layer.activated(x, padding=1))
        image: Tensor = self.to_image(x)
        return image


def train_and_draw(device: torch.device, precision: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Losses of a few steps of a GAN with R1, scores and images after them; the same inputs on every device."""
    with own_seed(0):
        generator, discriminator = _Generator().to(device), Discriminator(Pyramid(SIDE, CHANNELS, 512, 16)).to(device)
        real = [torch.randn(BATCH, CHANNELS, SIDE, SIDE).to(device) for _ in range(STEPS)]
        latents = [torch.randn(BATCH, LATENT).to(device) for _ in range(STEPS)]

    def scores(images: Tensor) -> Tensor:
        logits: Tensor = discriminator(images, precision)
        return logits

    # Not Adam, which makes a step of a whole learning rate of a gradient that is nothing but rounding.
    optimisers = [torch.optim.SGD(network.parameters(), lr=0.01) for network in (generator, discriminator)]
    losses = []
    for images, z in zip(real, latents, strict=True):
        loss, _ = discriminator_step(scores, optimisers[1], [images], [generator(z).detach()], 1)
        r1_step(scores, optimisers[1], [images], 1, 1.0)
        losses += [loss, generator_step(scores, discriminator, optimisers[0], [generator(z)], 1)]
    with torch.inference_mode():
        made = {"losses": torch.stack(losses), "scores": scores(real[0]), "images": generator(latents[0])}
    return {name: value.detach().double().cpu() for name, value in made.items()}


class Comparison(TypedDict):
    """What a device computed beside the CPU.

    Differences are relative to the largest value, None where one is not finite.
    """

    precision: str
    fused: bool
    differences: dict[str, float | None]
    limit: float
    seconds: float
    equal: bool


def compare(device: torch.device, precision: torch.dtype = torch.float32) -> Comparison:
    """A small training and drawing on ``device`` beside the same on a CPU in float32, by plain torch."""
    with fused_operators(False):
        wanted = train_and_draw(torch.device("cpu"))
    start = time.monotonic()
    with float32_arithmetic():
        found = train_and_draw(device, precision)
    differences = {name: _difference(found[name], value) for name, value in wanted.items()}
    return Comparison(
        precision=str(precision).removeprefix("torch."),
        fused=is_fused(torch.empty(0, device=device)),
        differences=differences,
        limit=LIMITS[precision],
        seconds=time.monotonic() - start,
        equal=all(value is not None and value <= LIMITS[precision] for value in differences.values()),
    )


def _difference(found: Tensor, wanted: Tensor) -> float | None:
    value = float((found - wanted).abs().max() / wanted.abs().max())
    return value if math.isfinite(value) else None


def look_at_comparison(name: str, comparison: Comparison) -> Finding:
    """Whether a device computes what a CPU computes."""
    differences = comparison["differences"].items()
    wrong = [key for key, value in differences if value is None]
    most = max((value, key) for key, value in differences if value is not None) if not wrong else None
    found = f"{', '.join(wrong)} not finite" if most is None else f"differ by {most[0]:.2g} of the CPU's ({most[1]})"
    found = (
        f"a small training and drawing: {found}; up to {comparison['limit']:g} passes; "
        f"{'own' if comparison['fused'] else 'no own'} kernels"
    )
    remedy = "Do not train on this GPU; try fused=false and precision=float32, and send this document to the authors."
    return _finding(f"{name}: {comparison['precision']}", "" if comparison["equal"] else "broken", found, remedy)


# ---------------------------------------------------------------------------------------------------- all of it

#: What is done with each GPU, told where there is none.
PLAN = {
    "kernels": "the compute capability against those that torch has kernels for",
    "first kernel": "a thousand numbers added on the GPU",
    "own kernels": "whether those in Triton can be loaded",
    "float32": "a small training and drawing, compared with the CPU's",
    "bfloat16": "the same in bfloat16, from compute capability 8.0 on",
}


def look_at_gpu(number: int, device: torch.device) -> tuple[dict[str, Any], list[Finding]]:
    """One GPU: what it is and was seen to compute, and what that tells."""
    facts = torch.cuda.get_device_properties(device)
    name, capability = f"GPU {number} ({facts.name})", (facts.major, facts.minor)
    about: dict[str, Any] = {"name": facts.name, "capability": capability, "gib": facts.total_memory / 2**30}
    findings = [look_at_code(name, capability, torch.cuda.get_arch_list())]
    if findings[0]["state"] != "ok":
        return about, findings
    total = float(torch.ones(1000, device=device).sum())
    wrong: Literal["", "broken"] = "" if total == 1000 else "broken"
    remedy = "Do not train on this GPU; update the driver, and try again."
    findings.append(_finding(f"{name}: first kernel", wrong, f"1000 ones add up to {total}", remedy))
    reason = why_none(device)
    told = f"none, plain torch is used, which is slower: {reason}" if reason else "used"
    findings.append(_finding(f"{name}: own kernels", "", told))  # all can be done without
    comparisons = [compare(device)]
    if choose_precision("auto", device) is torch.bfloat16:
        comparisons.append(compare(device, torch.bfloat16))
    findings += [look_at_comparison(name, comparison) for comparison in comparisons]
    return {**about, "comparisons": comparisons, "peak_gib": torch.cuda.max_memory_allocated(device) / 2**30}, findings


def examine() -> dict[str, Any]:
    """The document: what is installed, and of each GPU that torch sees what it computes."""
    cuda = torch.version.cuda
    findings = [look_at_build(cuda), look_at_driver(driver_version(), cuda), look_at_files(Path("/dev"))]
    n = torch.cuda.device_count() if torch.cuda.is_available() else 0
    gpus = []
    for number in range(n):
        about, seen = look_at_gpu(number, torch.device("cuda", number))
        gpus.append(about)
        findings += seen
    if n == 0:
        findings += [
            _finding(f"GPU: {what}", "missing", f"not done, torch sees no GPU: {plan}") for what, plan in PLAN.items()
        ]
    return {"findings": findings, "torch": torch.__version__, "cuda": cuda, "gpus": gpus}


if __name__ == "__main__":
    print(json.dumps(examine()))
