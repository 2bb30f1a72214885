"""A checkpoint of the U-Net on disk: files are replaced whole, and an unfinished training goes on exactly.

``config.json``
    network, contrasts, label values, parameters and the digest of the training data.
``model.safetensors``
    weights of the best validation Dice.
``last.safetensors``
    while training: weights, momentum and counters to go on from; afterwards the last weights.
``history.json``
    loss and validation Dice at every checkpoint.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.networks.nets.dynunet import DynUNet
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors

from synthkit.errors import DataError, PluginError


@dataclass
class Progress:
    """Where a training stands; kept with the weights."""

    step: int = 0
    best_dice: float | None = None
    best_samples: int = 0
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    finished: bool = False


def _write(path: Path, content: bytes) -> None:
    """Atomically: the file is there whole, or as it was."""
    temporary = path.with_name(f".{path.name}.part")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def begin(checkpoint: Path, config: dict[str, Any]) -> None:
    path = checkpoint / "config.json"
    if path.exists() and read_config(checkpoint) != config:
        raise PluginError(
            f"{checkpoint} holds the training of another job.",
            "Its data or parameters differ from those given now.",
            "Train into an empty folder, or give the parameters of the first call.",
        )
    _write(path, (json.dumps(config, indent=2) + "\n").encode())


def read_config(checkpoint: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{checkpoint} is no checkpoint of unet.", f"config.json: {error}.", "Train the segmenter first."
        ) from error
    return config


def save(
    checkpoint: Path,
    network: DynUNet,
    optimiser: torch.optim.Optimizer,
    state: Progress,
    shown: int,
    *,
    finished: bool,
) -> None:
    """Best weights first: were the second file lost, resuming would come by here again."""
    dice = state.history[-1]["val_dice"]
    # Parameters by name; the network's state_dict lists each twice, since blocks and skip layers share them.
    weights = {name: parameter.detach().cpu().contiguous() for name, parameter in network.named_parameters()}
    if state.best_dice is None or (dice is not None and dice >= state.best_dice):
        state.best_dice, state.best_samples = dice, shown
        _write(checkpoint / "model.safetensors", to_safetensors(weights, {"samples": str(shown)}))
    state.finished = finished
    tensors = weights
    if not finished:
        tensors = {f"model.{name}": tensor for name, tensor in weights.items()}
        for name, parameter in network.named_parameters():
            tensors[f"momentum.{name}"] = optimiser.state[parameter]["momentum_buffer"].cpu().contiguous()
    _write(
        checkpoint / "last.safetensors", to_safetensors(tensors, {"progress": json.dumps(dataclasses.asdict(state))})
    )
    summary = {"best_samples": state.best_samples, "best_val_dice": state.best_dice, "validations": state.history}
    _write(checkpoint / "history.json", (json.dumps(summary, indent=2) + "\n").encode())


def resume(checkpoint: Path, network: DynUNet, optimiser: torch.optim.Optimizer) -> Progress:
    path = checkpoint / "last.safetensors"
    if not path.exists():
        return Progress()
    with _opened(path) as file:
        state = Progress(**json.loads(file.metadata()["progress"]))
        if not state.finished:
            with torch.no_grad():
                for name, parameter in network.named_parameters():
                    parameter.copy_(file.get_tensor(f"model.{name}"))
                    momentum = file.get_tensor(f"momentum.{name}").to(parameter.device)
                    optimiser.state[parameter]["momentum_buffer"] = momentum
    return state


def load_weights(network: DynUNet, path: Path) -> None:
    with _opened(path) as file, torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(file.get_tensor(name))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (OSError, SafetensorError) as error:
        raise DataError(
            f"The checkpoint {path} cannot be read.", f"{error}.", "Train the segmenter again, or copy the file again."
        ) from error
