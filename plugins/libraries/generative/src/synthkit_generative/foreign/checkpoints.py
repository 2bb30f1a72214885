"""Checkpoints of other projects, read without running anything that is stored in them.

A pickle is a program: it names functions and calls them. NVlabs' snapshots even carry the source text of their classes,
to be executed when they are loaded. Here every name that a snapshot needs stands for something inert that keeps what it
is given, and any other name is refused. Tensors are read by torch with ``weights_only``.
"""

from __future__ import annotations

import io
import pickle
import reprlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from synthkit_torch.storage import save_json, save_tensors
from torch import Tensor, nn

from synthkit.errors import DataError, is_out_of_memory, reason_of
from synthkit_generative.foreign.unpickling import RestrictedUnpickler, n_values, name_of
from synthkit_generative.training import CONFIG, GENERATOR

_LARGEST = 2**16  # of the numbers in settings: feature maps, layers
_SIDES = tuple(2**n for n in range(2, 11))


@dataclass(frozen=True)
class Network:
    """A network of a snapshot: the name of its class, the arguments it was made with, its parameters and buffers."""

    class_name: str
    settings: dict[str, Any]
    tensors: dict[str, Tensor]

    def chosen(self, defaults: Mapping[str, Any], fixed: Mapping[str, Any], ignored: Collection[str]) -> dict[str, Any]:
        """Its settings of the names in ``defaults``.

        Numbers, those whose default is one, are from 1 to 65,536. ``fixed`` are those that must have one value because
        no other is implemented here, ``ignored`` those that do not change the network's images; DataError for anything
        else.
        """
        for name, value in self.settings.items():
            fits = name in ignored or (name in fixed and value == fixed[name])
            if name in defaults:
                fits = type(defaults[name]) is not int or (type(value) is int and 0 < value <= _LARGEST)
            if not fits:
                raise DataError(
                    "The network was made in a way that cannot be imported.",
                    f"Its setting {name_of(name)} is {reprlib.repr(value)}.",
                    "Import a network of the official configurations, without classes.",
                )
        return {name: self.settings.get(name, default) for name, default in defaults.items()}


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Tensors by name of a file written by ``torch.save(network.state_dict(), path)``; DataError if it is not one."""
    with reading(path):
        found = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(found, Mapping) or not all(isinstance(tensor, Tensor) for tensor in found.values()):
            raise ValueError("it does not hold tensors by name")
        return {str(name): tensor for name, tensor in found.items()}


def read_snapshot(path: Path) -> dict[str, Network]:
    """Networks by name (``G_ema`` and others) of a snapshot of NVlabs' StyleGAN2-ADA or StyleGAN3 for PyTorch.

    Raises
    ------
    DataError : another format, a truncated file, or one that names something no snapshot needs.
    """
    with reading(path), path.open("rb") as file:
        found = RestrictedUnpickler(file, _CALLED, _CLASSES).load()
        if not isinstance(found, dict):
            raise ValueError("it holds no networks by name")
        networks = {name_of(name): _network(item) for name, item in found.items() if isinstance(item, _Persistent)}
        if not networks:
            raise ValueError("it holds no network")
        return networks


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Around the reading of a foreign file: whatever goes wrong becomes a DataError."""
    try:
        yield
    except DataError:
        raise
    except OSError as error:
        raise DataError("The file cannot be read.", f"{error.strerror}.", "Check the path.") from error
    except Exception as error:  # whatever a damaged or hostile file leads to
        # What a reader trips over (IndexError, KeyError, EOFError) says nothing of the file; what it refuses does.
        said = isinstance(error, (ValueError, RuntimeError, pickle.UnpicklingError)) or is_out_of_memory(error)
        first_line = reason_of(error).rstrip(".") if said else "It is damaged, or no checkpoint at all"
        raise DataError(
            "The file is not a checkpoint that can be imported.",
            f"{first_line}.",
            "Check that it is complete and of the official code.",
        ) from error


def read_generator(path: Path) -> Network:
    """The averaged generator of a snapshot, which images are drawn with."""
    networks = read_snapshot(path)
    if "G_ema" not in networks:
        raise DataError(
            "The file holds no averaged generator.",
            f"It holds {', '.join(networks)}; the generator of a snapshot is named G_ema.",
            "Give a network-snapshot-*.pkl of the official code.",
        )
    return networks["G_ema"]


@contextmanager
def translating(name: str) -> Iterator[None]:
    """Around the building of our network from a foreign one: what does not fit becomes a DataError."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # whatever settings and names lead to that are none of the original's
        raise DataError(
            f"The file does not hold a generator of {name}.",
            " ".join(str(error).split())[:300] + ".",
            "Name the plugin of the method that it was trained with.",
        ) from error


def refuse_other(network: Network, other: str, settings: Collection[str]) -> None:
    """DataError that names the plugin ``other`` where the network has one of ``settings``, which only its kind has."""
    if found := sorted(set(settings) & set(network.settings)):
        raise DataError(
            f"The file holds a generator of {other}.", f"It has the setting {found[0]}.", f"Import it as {other}."
        )


def state_of(make: Callable[[], nn.Module], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State of the network that ``make`` builds, with these weights and no others.

    Built without memory: weights that a hostile file asks for, and does not have, take none.
    """
    with torch.device("meta"):
        network = make()
    network.load_state_dict(dict(tensors), assign=True)
    return network.state_dict()


def save_imported(
    checkpoint: Path,
    architecture: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    contrasts: Sequence[str],
    label_values: Sequence[int],
) -> None:
    """Write a checkpoint as a finished training leaves it, for ``drawing.load``.

    DataError for weights that are not finite: a training that diverged leaves such, and they draw black images.
    """
    if broken := [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]:
        raise DataError(
            "The network's weights are not finite.",
            f"NaN or infinite are {len(broken)} of {len(tensors)} tensors, such as {broken[0]}: the training diverged.",
            "Import an earlier file of the same training.",
        )
    facts = {"step": 0, "batch_size": 0, "imported": True}
    own = {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    save_tensors(checkpoint / GENERATOR, own, facts)
    config = {"format": 1, "contrasts": list(contrasts), "label_values": sorted(label_values)}
    save_json(checkpoint / CONFIG, {**config, "architecture": dict(architecture), "imported": True, "finished": True})


def side_of(value: Any) -> int:
    """The side of a network's images in pixels, as its settings have it; ValueError if it is not a power of two."""
    if type(value) is not int or value not in _SIDES:
        raise ValueError(f"its images have a side of {reprlib.repr(value)}")
    return value


def check_mean(w_mean: Tensor, latent: int) -> None:
    """ValueError unless this is the mean of latents of so many numbers."""
    if w_mean.shape != (latent,):
        raise ValueError(f"the mean of its latents has the shape {tuple(w_mean.shape)}, not ({latent},)")


def check_channels(found: int, contrasts: Sequence[str]) -> None:
    """DataError unless a network of ``found`` image channels draws these contrasts and the labels."""
    if found != len(contrasts) + 1:
        raise DataError(
            f"The network draws {found} channels, and {len(contrasts)} contrasts and the labels were named.",
            f"Named were {', '.join(contrasts)}.",
            "Name every contrast, in the order of the network's channels, the labels being the last channel.",
        )


# ------------------------------------------------------------------------------------------------- inert objects


class Inert(dict[Any, Any]):
    """Takes whatever a pickle gives it, and does nothing with it. Items set are kept."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        pass


class _Leaf:
    """A tensor, or its storage, that a pickle can hold but not change."""

    __slots__ = ("content",)

    def __init__(self, content: Any) -> None:
        self.content = content

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("it changes a tensor after making it")


class _Persistent:
    """An object that would be made by executing its stored source text; here its class's name and its attributes."""

    __slots__ = ("attributes", "class_name")

    def __init__(self, class_name: str, attributes: dict[str, Any]) -> None:
        self.class_name = class_name
        self.attributes = attributes

    def __setstate__(self, state: Any) -> None:
        if state is not None:
            raise pickle.UnpicklingError("it changes an object after making it")


def _persistent(meta: Any, *_: Any) -> _Persistent:
    if not isinstance(meta, dict) or not isinstance(meta.get("state"), dict) or meta.get("type") != "class":
        raise pickle.UnpicklingError("a persistent object has no state")
    return _Persistent(name_of(meta.get("class_name")), meta["state"])


def _storage(content: Any) -> _Leaf:
    """Values of one or several tensors, a file of torch within the file."""
    storage = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    if not isinstance(storage, torch.storage.TypedStorage):
        raise pickle.UnpicklingError("a tensor has no values")
    return _Leaf(storage)


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> _Leaf:
    if not isinstance(storage, _Leaf) or not isinstance(storage.content, torch.storage.TypedStorage):
        raise pickle.UnpicklingError("a tensor has no values")
    values = torch.tensor([], dtype=storage.content.dtype).set_(storage.content._untyped_storage)
    if n_values(size) > values.numel():
        raise pickle.UnpicklingError("a tensor has fewer values than its shape says")
    # Within the storage or an error: torch's own rebuilding would make the storage larger.
    return _Leaf(values.as_strided(size, stride, offset))


def _parameter(tensor: Any, *_: Any) -> _Leaf:
    if not isinstance(tensor, _Leaf) or not isinstance(tensor.content, Tensor):
        raise pickle.UnpicklingError("a parameter is not a tensor")
    return tensor


#: All names that a snapshot needs. Numpy's numbers are among the arguments of layers; nothing here reads them.
_CALLED: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _persistent,
    ("torch.storage", "_load_from_bytes"): _storage,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
}
_CLASSES: dict[tuple[str, str], type] = dict.fromkeys(
    (
        ("collections", "OrderedDict"),
        ("builtins", "set"),
        ("dnnlib.util", "EasyDict"),
        ("numpy", "dtype"),
        ("numpy", "ndarray"),
        *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    ),
    Inert,
)


# ------------------------------------------------------------------------------------------------------ networks


def _network(item: _Persistent) -> Network:
    settings = item.attributes.get("_init_kwargs")
    if not isinstance(settings, dict):
        raise ValueError(f"the arguments of {item.class_name} are missing")
    return Network(item.class_name, dict(settings), dict(_tensors(item, "", set())))


def _tensors(item: _Persistent, prefix: str, seen: set[int]) -> Iterator[tuple[str, Tensor]]:
    if id(item) in seen:
        raise ValueError("a layer is in the network twice")
    seen.add(id(item))
    for kind in ("_parameters", "_buffers"):
        for name, leaf in _children(item, kind):
            if isinstance(leaf, _Leaf) and isinstance(leaf.content, Tensor):
                yield f"{prefix}{name}", leaf.content
    for name, child in _children(item, "_modules"):
        if isinstance(child, _Persistent):
            yield from _tensors(child, f"{prefix}{name}.", seen)


def _children(item: _Persistent, kind: str) -> list[tuple[str, Any]]:
    found = item.attributes.get(kind)
    return [(name_of(name), child) for name, child in found.items()] if isinstance(found, dict) else []
