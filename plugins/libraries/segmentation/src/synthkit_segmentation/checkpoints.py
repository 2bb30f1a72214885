"""A checkpoint of a segmenter on disk: files are replaced whole, and an unfinished training goes on exactly.

``config.json``
    task, contrasts, label values, parameters and the digests of the data.
``model.safetensors``
    weights of the best validation Dice.
``last.safetensors``
    while training: weights, the optimiser's state and counters to go on from; afterwards the last weights.
``history.json``
    loss and validation Dice at every checkpoint.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from synthkit_torch.storage import opened, save_json, write_tensors
from torch import Tensor, nn

from synthkit.errors import DataError, PluginError

CONFIG, BEST, LAST, HISTORY = "config.json", "model.safetensors", "last.safetensors", "history.json"


@dataclass
class TrainingState:
    """Where a training stands; kept with the weights."""

    step: int = 0
    best_dice: float | None = None
    best_samples: int = 0
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    finished: bool = False


def begin(checkpoint: Path, config: dict[str, Any]) -> None:
    """Write the configuration; PluginError if the folder holds the training of another one."""
    if (checkpoint / CONFIG).exists() and read_config(checkpoint) != config:
        raise PluginError(
            f"{checkpoint} holds the training of another job.",
            "Its data or parameters differ from those given now.",
            "Train into an empty folder, or give the parameters of the first call.",
        )
    save_json(checkpoint / CONFIG, config)


def read_config(checkpoint: Path) -> dict[str, Any]:
    """The configuration that a training began with; DataError where there is none."""
    try:
        config: dict[str, Any] = json.loads((checkpoint / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{checkpoint} is not a checkpoint of a segmenter.", f"{CONFIG}: {error}.", "Train the segmenter first."
        ) from error
    return config


def save(
    checkpoint: Path,
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    state: TrainingState,
    shown: int,
    *,
    finished: bool,
) -> None:
    """Best weights first: were the second file lost, resuming would come by here again."""
    dice = state.history[-1]["val_dice"]
    weights = weights_of(network)
    if state.best_dice is None or (dice is not None and dice >= state.best_dice):
        state.best_dice, state.best_samples = dice, shown
        write_tensors(checkpoint / BEST, weights, {"samples": str(shown)})
    state.finished = finished
    tensors = weights
    if not finished:
        tensors = {f"model.{name}": tensor for name, tensor in weights.items()}
        for name, parameter in network.named_parameters():
            for key, value in optimiser.state[parameter].items():
                tensors[f"optimiser.{key}.{name}"] = value
    write_tensors(checkpoint / LAST, tensors, {"progress": json.dumps(dataclasses.asdict(state))})
    summary = {"best_samples": state.best_samples, "best_val_dice": state.best_dice, "validations": state.history}
    save_json(checkpoint / HISTORY, summary)


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers (statistics of batch norm) by name, each once; ``state_dict`` repeats shared ones."""
    return {**dict(network.named_parameters()), **dict(network.named_buffers())}


def resume(checkpoint: Path, network: nn.Module, optimiser: torch.optim.Optimizer) -> TrainingState:
    """Where the training in ``checkpoint`` stands, weights and optimiser set to it; the start where there is none."""
    if not (checkpoint / LAST).exists():
        return TrainingState()
    with opened(checkpoint / LAST) as file:
        state = TrainingState(**json.loads(file.metadata()["progress"]))
        if state.finished:
            return state
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    names = {parameter: name for name, parameter in network.named_parameters()}
    with torch.no_grad():
        for name, tensor in weights_of(network).items():
            tensor.copy_(tensors[f"model.{name}"])
    numbered = (parameter for group in optimiser.param_groups for parameter in group["params"])
    kept: dict[str, dict[str, Tensor]] = {}
    for stored, tensor in tensors.items():
        kind, _, rest = stored.partition(".")
        if kind == "optimiser":
            key, _, name = rest.partition(".")
            kept.setdefault(name, {})[key] = tensor
    optimiser.load_state_dict(
        {
            "state": {i: kept[names[parameter]] for i, parameter in enumerate(numbered) if names[parameter] in kept},
            "param_groups": optimiser.state_dict()["param_groups"],
        }
    )
    return state


def digest_of(checkpoint: Path) -> str:
    """sha256 of the best weights of a checkpoint."""
    return hashlib.sha256((checkpoint / BEST).read_bytes()).hexdigest()


def load_initial(network: nn.Module, checkpoint: Path) -> None:
    """The best weights of another training; DataError where they are of another network."""
    with opened(checkpoint / BEST) as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (not a dict)
    wanted = {name: tuple(tensor.shape) for name, tensor in weights_of(network).items()}
    if other := sorted(name for name in {*shapes, *wanted} if shapes.get(name) != wanted.get(name)):
        raise DataError(
            "The training cannot begin with that checkpoint.",
            f"{other[0]} is {shapes.get(other[0], 'not in it')}, here {wanted.get(other[0], 'there is none')}: its "
            "network is another one.",
            "Leave out the parameters that make another network.",
        )
    load_weights(network, checkpoint / BEST)


def load_weights(network: nn.Module, path: Path) -> None:
    """Weights by name; DataError if the file is damaged or of another network."""
    with opened(path) as file, torch.no_grad():
        for name, tensor in weights_of(network).items():
            tensor.copy_(file.get_tensor(name))
