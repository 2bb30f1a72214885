"""For tests: snapshots of the structure that NVlabs' code leaves, with stand-ins for the source text they carry."""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from synthkit_generative.foreign import Network

#: Where the original has the source of the module that the class is defined in; loading it the usual way executes it.
SOURCE = "raise SystemExit('the source text of a snapshot was executed')"


class EasyDict(dict[str, Any]):
    """Pickled as the class of this name that the original has."""


EasyDict.__module__, EasyDict.__qualname__ = "dnnlib.util", "EasyDict"


def _reconstruct_persistent_obj(meta: Any) -> None: ...


_reconstruct_persistent_obj.__module__ = "torch_utils.persistence"


class _Module:
    """A network or layer: what is pickled of it is its class's source and its attributes."""

    def __init__(self, class_name: str, settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        self.class_name = class_name
        children: dict[str, dict[str, Tensor]] = {}
        own: dict[str, dict[str, Any]] = {"_parameters": {}, "_buffers": {}, "_modules": {}}
        for name, tensor in tensors.items():
            child, dot, rest = name.partition(".")
            if dot:
                children.setdefault(child, {})[rest] = tensor
            elif tensor.requires_grad:
                own["_parameters"][name] = torch.nn.Parameter(tensor)
            else:
                own["_buffers"][name] = tensor
        own["_modules"] = {name: _Module("Layer", {}, part) for name, part in children.items()}
        self.state = {"training": False, **own, "_init_args": (), "_init_kwargs": EasyDict(settings)}

    def __reduce__(self) -> tuple[Any, ...]:
        meta = EasyDict(
            type="class", version=6, module_src=SOURCE, class_name=self.class_name, state=EasyDict(self.state)
        )
        return _reconstruct_persistent_obj, (meta,), None, None, None


def write_snapshot(path: Path, networks: Mapping[str, Network], protocol: int = pickle.DEFAULT_PROTOCOL) -> None:
    """Write networks as ``network-snapshot-*.pkl``; tensors that require gradients become parameters."""
    dnnlib, util = ModuleType("dnnlib"), ModuleType("dnnlib.util")
    torch_utils, persistence = ModuleType("torch_utils"), ModuleType("torch_utils.persistence")
    vars(util)["EasyDict"] = EasyDict
    vars(persistence)["_reconstruct_persistent_obj"] = _reconstruct_persistent_obj
    content = {name: _Module(net.class_name, net.settings, net.tensors) for name, net in networks.items()}
    file = io.BytesIO()
    modules = {module.__name__: module for module in (dnnlib, util, torch_utils, persistence)}
    with mock.patch.dict(sys.modules, modules):
        pickle.dump({"training_set_kwargs": EasyDict(path="."), **content, "augment_pipe": None}, file, protocol)
    path.write_bytes(file.getvalue())
