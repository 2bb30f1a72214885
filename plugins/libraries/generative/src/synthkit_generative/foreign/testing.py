"""For tests: files of the structure that NVlabs' code leaves, with stand-ins for the source text they carry."""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, cast
from unittest import mock

import pytest
import torch
from torch import Tensor

from synthkit.errors import DataError
from synthkit_generative.foreign.checkpoints import Network

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


class _TensorflowNetwork:
    """Pickled as the class of this name that the TensorFlow code has."""

    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state

    def __getstate__(self) -> dict[str, Any]:
        return self.state


def write_tensorflow(
    path: Path, network: Network, *, module: str, parts: Sequence[str] = (), protocol: int = 4
) -> None:
    """Write a network as the averaged generator of ``network-*.pkl``; ``module`` is where the original has its class.

    Tensors named ``part/...`` go into a network of their own; what is not a tensor is pickled as it is. Generator and
    discriminator are others, which are not to be read.
    """
    kind = cast("type[_TensorflowNetwork]", type("Network", (_TensorflowNetwork,), {"__module__": module}))
    values = {
        name: tensor.numpy(force=True)[()] if isinstance(tensor, Tensor) else tensor  # [()]: a number has no dimension
        for name, tensor in network.tensors.items()
    }

    def saved(prefix: str, components: dict[str, Any]) -> _TensorflowNetwork:
        inner = tuple(f"{prefix}{part}/" for part in components)
        return kind(
            {
                "version": 3,
                "name": "Gs",
                "static_kwargs": network.settings,
                "components": components,
                "build_module_src": SOURCE,
                "build_func_name": network.class_name,
                "variables": [
                    (name.removeprefix(prefix), value)
                    for name, value in values.items()
                    if name.startswith(prefix) and not name.startswith(inner)
                ],
            }
        )

    averaged, other = saved("", {part: saved(f"{part}/", {}) for part in parts}), kind({"variables": []})
    modules = [ModuleType(".".join(module.split(".")[: n + 1])) for n in range(module.count(".") + 1)]
    vars(modules[-1])["Network"] = kind
    with mock.patch.dict(sys.modules, {item.__name__: item for item in modules}):
        path.write_bytes(pickle.dumps((other, other, averaged), protocol))


def assert_import_is_refused(
    import_checkpoint: Callable[..., object],
    network: Network,
    folder: Path,
    reason: str,
    *,
    module: str,
    parts: Sequence[str] = (),
) -> None:
    """The network, written by :func:`write_tensorflow`, is not imported (of two contrasts): DataError with a reason."""
    write_tensorflow(folder / "a.pkl", network, module=module, parts=parts)
    (folder / "checkpoint").mkdir()
    with pytest.raises(DataError, match=reason):
        import_checkpoint(folder / "a.pkl", folder / "checkpoint", contrasts=("t1", "t2"), label_values=(0, 4))
