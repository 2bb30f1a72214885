"""Cost of the generators: processor time and memory of training and drawing, beside the official code where given.

    python benchmarks/generator_speed.py measure [--official STYLEGAN3 --official GUIDED_DIFFUSION] [--sizes 64 128]
    python benchmarks/generator_speed.py count

``measure`` trains a few steps of each generator with a quarter of its default widths (``--narrower``; at full width a
step takes minutes on a CPU; diffusion half, as its norms need 32 maps), five channels, float32, one thread, each in a
process of its own: images a second of processor time, peak resident memory, and seconds a drawn image (diffusion by 25
steps of dpm++). Lazy regularisation is weighed in: of 16 steps one has R1 and four path length. ``--official`` is a
checkout of NVlabs/stylegan3 or openai/guided-diffusion; its networks, with the operators that need no CUDA, then take
the same steps without regularisation at equal settings, and draw a batch (diffusion: evaluate the network once), in
turn with ours: the ratio is above 1 where ours are faster.

``count`` counts, at 256 x 256, the floating-point operations of training on an image and of drawing one, and the bytes
that the automatic differentiation keeps at its peak for an image, on tensors without values (device "meta"). Hours on a
GPU are an estimate: operations over the rate that the published training speed of StyleGAN2 implies for a V100.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import importlib
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import time
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import packaging.version

GENERATORS = ("progan", "stylegan1", "stylegan2", "stylegan3", "diffusion")
CHANNELS = 5
#: Steps of 16 by what regularises them: neither, path length, R1 and path length; and a step that has it.
STEPS = {1: 12, 4: 3, 0: 1}
LATE = 16 * 10**8  # a step when growing is over
V100_SECONDS_PER_KIMG = 22.9  # StyleGAN2 at 256 x 256: mean of the published 21.6 and 24.2


def make(name: str, size: int, batch: int, device: str, narrower: int = 1) -> tuple[Any, Any]:
    """Module and training of a generator, its default widths divided by ``narrower``."""
    import torch

    package, model = importlib.import_module(f"synthkit_{name}"), importlib.import_module(f"synthkit_{name}.model")
    params = package.Params(batch_size=batch, precision="float32")
    for width in ("channel_base", "channel_max", "width"):
        if hasattr(params, width):
            params = dataclasses.replace(params, **{width: max(32, getattr(params, width) // narrower)})
    if name == "diffusion":
        shape = model.Architecture(size, CHANNELS, params.width, params.res_blocks, params.learn_sigma)
    elif name == "stylegan3":
        shape = model.make_architecture(size, CHANNELS, params)
    else:
        layers = (params.mapping_layers,) if name != "progan" else ()
        shape = model.Architecture(size, CHANNELS, params.channel_base, params.channel_max, *layers)
    training = model.Training(shape, params, torch.device(device), torch.float32)
    training.step = LATE
    return model, training


def seconds(work: Callable[[], Any]) -> float:
    """Processor time."""
    start = time.process_time()
    work()
    return time.process_time() - start


def step_of(training: Any, real: Any, number: int) -> None:
    training.step = LATE + number
    training.training_step(real)


# ------------------------------------------------------------------------------------------------------ measure


def measure_one(name: str, size: int, batch: int, narrower: int) -> dict[str, float]:
    import torch

    torch.set_num_threads(1)
    _, training = make(name, size, batch, "cpu", narrower)
    real = torch.rand(batch, CHANNELS, size, size) * 2 - 1
    step_of(training, real, 1)  # the first step makes the optimisers' moments
    lazy = name in ("stylegan2", "stylegan3")
    spent = {
        number: seconds(lambda number=number: step_of(training, real, number))
        for number in STEPS
        if lazy or number == 1
    }
    mean = sum(spent.get(number, spent[1]) * weight for number, weight in STEPS.items()) / sum(STEPS.values())
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    if name == "diffusion":
        model = importlib.import_module("synthkit_diffusion.model")
        draw = functools.partial(model.sample, training.ema, "noise", training.alpha_bar, [0], "dpm++", 25)
    else:
        draw = drawer(training, [0])
    with torch.inference_mode():
        drawing = seconds(draw)
    return {"images_per_second": batch / mean, "peak_gib": memory, "drawing_seconds": drawing}


def drawer(training: Any, seeds: Sequence[int]) -> Callable[[], object]:
    """Draws as generation does, which has the mean w of a style-based generator in its checkpoint."""
    if hasattr(training, "w_mean"):
        mean = training.w_mean()
        training.w_mean = lambda: mean
    return functools.partial(training.sample, seeds)


def measure(
    generators: Sequence[str], sizes: list[int], batch: int, narrower: int, official: list[Path], trials: int
) -> None:
    print(f"{'generator':10} {'side':>5} {'training':>12} {'peak memory':>12} {'drawing':>12}")
    for name, size in itertools.product(generators, sizes):
        row = in_process("one", name, size, batch, narrower)
        print(
            f"{name:10} {size:5} {row['images_per_second']:8.3f} im/s {row['peak_gib']:8.2f} GiB "
            f"{row['drawing_seconds']:8.2f} s/im",
            flush=True,
        )
    for folder, size in itertools.product(official, sizes):
        for name in ("stylegan2", "stylegan3") if (folder / "training").is_dir() else ("diffusion",):
            for what, ratios in in_process("beside", name, size, batch, narrower, folder, trials).items():
                print(
                    f"{name:10} {size:5} {what} of the official code takes {statistics.median(ratios):.2f} of our time "
                    f"({min(ratios):.2f}-{max(ratios):.2f}, {len(ratios)} trials)",
                    flush=True,
                )


def in_process(*arguments: object) -> Any:
    """What this script prints for ``arguments`` in a process of its own, whose memory is its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, __file__, *map(str, arguments)], capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def beside(name: str, size: int, batch: int, narrower: int, folder: Path, trials: int) -> dict[str, list[float]]:
    """Processor time of the official code over ours, in turn: of a step without regularisation, and of drawing."""
    import torch

    torch.set_num_threads(1)
    sys.path.insert(0, str(folder))
    # What the official code takes from pkg_resources, which setuptools no longer has.
    sys.modules["pkg_resources"] = types.SimpleNamespace(parse_version=packaging.version.parse)
    _, training = make(name, size, batch, "cpu", narrower)
    real = torch.rand(batch, CHANNELS, size, size) * 2 - 1
    our_step = functools.partial(step_of, training, real, 1)
    if name == "diffusion":
        our_draw: Callable[[], object] = functools.partial(training.ema, real, torch.zeros(batch))
        their_step, their_draw = official_diffusion(training, real)
    else:
        our_draw = drawer(training, range(batch))
        their_step, their_draw = official_gan(name, training, real)
    ratios = {"a step": turns(our_step, their_step, trials)}
    with torch.inference_mode():
        ratios["drawing"] = turns(our_draw, their_draw, trials)
    return ratios


def turns(ours: Callable[[], object], theirs: Callable[[], object], trials: int) -> list[float]:
    """Processor time of ``theirs`` over that of ``ours``, of each trial."""
    ours(), theirs()
    ratios = []
    for _ in range(trials):
        spent = seconds(ours)
        ratios.append(seconds(theirs) / spent)
    return ratios


def official_gan(name: str, training: Any, real: Any) -> tuple[Callable[[], object], Callable[[], object]]:
    """Generator and discriminator phases as the official loss takes them: each draws its own images. And drawing."""
    import torch
    import torch.nn.functional as F

    networks = importlib.import_module(f"training.networks_{name}")
    networks2 = importlib.import_module("training.networks_stylegan2")
    params, size = training.params, training.architecture.size
    shape = training.architecture
    width = {"channel_base": params.channel_base, "channel_max": params.channel_max}
    drawing_width = {"channel_base": shape.channel_base, "channel_max": shape.channel_max}
    layers = {"num_layers": params.mapping_layers}
    latent = training.architecture.latent
    generator = networks.Generator(
        z_dim=latent, c_dim=0, w_dim=latent, img_resolution=size, img_channels=CHANNELS, mapping_kwargs=layers,
        num_fp16_res=0, **drawing_width,
    ).requires_grad_(False)  # fmt: skip
    discriminator = networks2.Discriminator(
        c_dim=0, img_resolution=size, img_channels=CHANNELS, num_fp16_res=0, **width
    )
    adams = [
        torch.optim.Adam(network.parameters(), lr=0.0025, betas=(0.0, 0.99), eps=1e-8)
        for network in (generator, discriminator)
    ]

    def step() -> None:
        z = torch.randn(2, len(real), latent)
        generator.requires_grad_(True)
        discriminator.requires_grad_(False)
        F.softplus(-discriminator(generator(z[0], None), None)).mean().backward()
        adams[0].step()
        generator.requires_grad_(False)
        discriminator.requires_grad_(True)
        F.softplus(discriminator(generator(z[1], None), None)).mean().backward()
        F.softplus(-discriminator(real, None)).mean().backward()
        adams[1].step()
        for adam in adams:
            adam.zero_grad(set_to_none=True)

    return step, lambda: generator(torch.randn(len(real), latent), None)


def official_diffusion(training: Any, real: Any) -> tuple[Callable[[], object], Callable[[], object]]:
    import torch

    unet = importlib.import_module("guided_diffusion.unet")
    shape = training.architecture
    multiples = importlib.import_module("synthkit_generative.unet").MULTIPLES[shape.size]
    network = unet.UNetModel(
        image_size=shape.size, in_channels=CHANNELS, model_channels=shape.width, out_channels=CHANNELS,
        num_res_blocks=shape.res_blocks, attention_resolutions=(shape.size // 16, shape.size // 8),
        channel_mult=multiples, num_heads=4, use_scale_shift_norm=True, resblock_updown=False,
    )  # fmt: skip
    adam = torch.optim.AdamW(network.parameters(), lr=1e-4)

    def step() -> None:
        noise, t = torch.randn_like(real), torch.randint(4000, (len(real),))
        (network(real + noise, t) - noise).square().mean().backward()
        adam.step()
        adam.zero_grad(set_to_none=True)

    return step, lambda: network(real, torch.zeros(len(real)))


# -------------------------------------------------------------------------------------------------------- count


class Kept:
    """Bytes that are kept for the backward pass, each storage once; ``peak`` is the most at a time."""

    def __init__(self) -> None:
        self.now = self.peak = 0
        self.uses: dict[int, int] = {}

    def pack(self, tensor: Any) -> Any:
        return Held(self, tensor)


class Held:
    """A tensor of the graph, counted until the graph lets it go."""

    def __init__(self, kept: Kept, tensor: Any) -> None:
        self.kept, self.tensor = kept, tensor
        storage = tensor.untyped_storage()
        self.key, self.bytes = storage._cdata, storage.nbytes()
        if kept.uses.get(self.key, 0) == 0:
            kept.now += self.bytes
            kept.peak = max(kept.peak, kept.now)
        kept.uses[self.key] = kept.uses.get(self.key, 0) + 1

    def __del__(self) -> None:
        self.kept.uses[self.key] -= 1
        if self.kept.uses[self.key] == 0:
            self.kept.now -= self.bytes


def count_one(name: str, batch: int) -> tuple[float, float, float]:
    """Operations of training on an image, of drawing one, and bytes kept for a batch, at 256 x 256."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import flop_registry

    class Counter(TorchDispatchMode):  # FlopCounterMode cannot follow gradients of gradients with respect to images
        total = 0

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = function(*args, **(kwargs or {}))
            if (formula := flop_registry.get(function._overloadpacket)) is not None:
                self.total += formula(*args, **(kwargs or {}), out_val=result)
            return result

    adam = torch.optim.Adam
    unfused = mock.patch.object(torch.optim, "Adam", lambda weights, **how: adam(weights, **{**how, "fused": False}))
    unseeded = [mock.patch(f"synthkit_{name}.model.stream", lambda *key: None, create=True)]
    unseeded.append(mock.patch("synthkit_generative.growing.stream", lambda *key: None))
    plain = mock.patch.object(torch, "autocast", lambda *how, **more: contextlib.nullcontext())
    with unfused, plain, unseeded[0], unseeded[1]:
        _, training = make(name, 256, batch, "meta")
        real = torch.empty(batch, CHANNELS, 256, 256, device="meta")
        operations, kept = {}, Kept()
        for number in STEPS:
            with (
                Counter() as counter,
                torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda held: held.tensor),
            ):
                step_of(training, real, number)
            operations[number] = counter.total / batch
        draw = drawer(training, range(batch))
        with Counter() as counter, torch.no_grad():
            if name == "diffusion":
                for _ in range(25):
                    training.ema(real, torch.empty(batch, device="meta"))
            else:
                draw()
    mean = sum(operations[number] * weight for number, weight in STEPS.items()) / sum(STEPS.values())
    return mean, counter.total / batch, kept.peak


def count() -> None:
    figures = {}
    for name in GENERATORS:
        (training, drawing, four), (*_, eight) = (count_one(name, batch) for batch in (4, 8))
        figures[name] = training, drawing, (eight - four) / 4  # what is not of a sample, weights above all, cancels
    rate = figures["stylegan2"][0] / (V100_SECONDS_PER_KIMG / 1000)
    print(f"Rate implied by StyleGAN2 on a V100: {rate / 1e12:.1f} TFLOP/s.")
    print(f"{'generator':10} {'training':>18} {'drawing':>18} {'kept, batch 32':>16} {'kimg':>7} {'V100 hours':>11}")
    for name, (training, drawing, kept) in figures.items():
        kimg = importlib.import_module(f"synthkit_{name}").Params().kimg
        print(
            f"{name:10} {training / 1e9:9.0f} GFLOP/im {drawing / 1e9:9.0f} GFLOP/im {kept * 32 / 2**30:12.1f} GiB "
            f"{kimg:7.0f} {training * kimg * 1000 / rate / 3600:11.0f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    measuring = commands.add_parser("measure")
    measuring.add_argument("--official", type=Path, action="append", default=[])
    measuring.add_argument("--generators", nargs="*", choices=GENERATORS, default=GENERATORS)
    measuring.add_argument("--sizes", type=int, nargs="+", default=[64, 128])
    measuring.add_argument("--batch", type=int, default=4)
    measuring.add_argument("--narrower", type=int, default=4)
    measuring.add_argument("--trials", type=int, default=3)
    commands.add_parser("count")
    for name, arguments in (("one", 4), ("beside", 6)):  # what `measure` starts
        commands.add_parser(name, help=argparse.SUPPRESS).add_argument("given", nargs=arguments)
    chosen = parser.parse_args()
    if chosen.command == "measure":
        measure(chosen.generators, chosen.sizes, chosen.batch, chosen.narrower, chosen.official, chosen.trials)
    elif chosen.command == "count":
        count()
    elif chosen.command == "one":
        name, *numbers = chosen.given
        print(json.dumps(measure_one(name, *map(int, numbers))))
    else:
        name, size, batch, narrower, folder, trials = chosen.given
        print(json.dumps(beside(name, int(size), int(batch), int(narrower), Path(folder), int(trials))))


if __name__ == "__main__":
    main()
