"""Networks that NVlabs' TensorFlow code of Progressive GAN and StyleGAN has pickled, read without TensorFlow.

Such a file holds three networks: generator, discriminator, averaged generator. Of each it has the arguments that it was
made with, the source text that the original executes to build it again, and the values of its variables as NumPy
arrays. As in :mod:`synthkit_generative.foreign.checkpoints`, what a name of the file stands for here only keeps what it
is given: arrays are made from their bytes, source text is dropped unread, and any other name is refused.
"""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synthkit.errors import DataError
from synthkit_generative.foreign.checkpoints import Inert, Network, reading
from synthkit_generative.foreign.unpickling import RestrictedUnpickler, n_values, name_of

#: Kinds of numbers that weights and arguments come in, by NumPy's names.
_NUMBERS = frozenset(("b1", "f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1"))


def read_tensorflow_generator(path: Path, function: str) -> Network:
    """The averaged generator, its tensors by the names of its variables; those of a part come behind ``part/``.

    ``function`` is the name of the function that the original makes it with.

    Raises
    ------
    DataError : another format or function, a truncated file, or one that names something no such file needs.
    """
    with reading(path), path.open("rb") as file:
        found = RestrictedUnpickler(file, _CALLED, _CLASSES).load()
        size = path.stat().st_size
        if not isinstance(found, tuple) or len(found) != 3 or not all(isinstance(item, _Saved) for item in found):
            raise ValueError("it does not hold a generator, a discriminator and an averaged generator")
        *_, averaged = found
        settings = {name_of(name): _plain(value) for name, value in averaged.part("static_kwargs", dict).items()}
        name = name_of(averaged.state.get("build_func_name"))
        if name != function:
            raise DataError(
                "The file holds a generator of another method.",
                f"It is made by {name}, and what can be imported here by {function}.",
                "Name the plugin of the method that it was trained with.",
            )
        return Network(name, settings, _tensors(averaged, size))


def growth_of(lod: Tensor, n_levels: int) -> Tensor:
    """Level and alpha, float64 (2,), of a network of so many levels whose ``lod`` variable this is.

    It counts the levels that are not grown yet, and falls from whole number to whole number while one is faded in.
    ValueError if there are not so many.
    """
    value = float(lod)
    if not 0 <= value <= n_levels - 1:
        raise ValueError(f"lod is {value:g} where there are {n_levels} resolutions")
    missing = math.floor(value)
    return torch.tensor([n_levels - 1 - missing, 1 - (value - missing)], dtype=torch.float64)


# ------------------------------------------------------------------------------------------------- inert objects


class _Saved:
    """A pickled network: its state, read as it is."""

    state: dict[str, Any]

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict) or hasattr(self, "state"):
            raise pickle.UnpicklingError("a network has no state, or two")
        self.state = state

    def part(self, name: str, kind: type[Any]) -> Any:
        """An entry of the state, which must be of this kind."""
        value = self.state.get(name)
        if not isinstance(value, kind):
            raise ValueError(f"{name} of a network is missing")
        return value


class _Dtype:
    """The type of an array's numbers."""

    def __init__(self, code: Any, *_: Any) -> None:
        if not isinstance(code, str) or code not in _NUMBERS:
            raise pickle.UnpicklingError("it has an array of a type that no checkpoint needs")
        self._found = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        _, order, *rest = state
        if order not in ("<", ">", "|", "=") or any(part is not None for part in rest[:3]):
            raise pickle.UnpicklingError("the type of an array has parts, which no checkpoint needs")
        self._found = self._found.newbyteorder(order)

    def read(self, values: Any, shape: Any, *, by_column: bool = False) -> NDArray[Any]:
        """The array of these bytes; no larger than they are."""
        if not isinstance(values, (bytes, bytearray)) or len(values) != n_values(shape) * self._found.itemsize:
            raise pickle.UnpicklingError("an array has other values than its shape says")
        return np.frombuffer(values, self._found).reshape(shape, order="F" if by_column else "C")


class _Array:
    """An array that a pickle makes empty and fills once."""

    values: NDArray[Any]

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, by_column, values = state
        if not isinstance(dtype, _Dtype) or hasattr(self, "values"):
            raise pickle.UnpicklingError("an array has no type, or is filled twice")
        self.values = dtype.read(values, shape, by_column=by_column is True)


def _empty(*_: Any) -> _Array:
    return _Array()


def _filled(values: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    if not isinstance(dtype, _Dtype):
        raise pickle.UnpicklingError("an array has no type")
    array = _Array()
    array.values = dtype.read(values, shape, by_column=order == "F")
    return array


def _scalar(dtype: Any, values: Any) -> _Array:
    return _filled(values, dtype, (), "C")


#: NumPy 2 has another name for its inner part. Arrays are reconstructed, or from a buffer since pickles of protocol 5.
_CALLED = {
    (f"numpy.{core}.{module}", name): function
    for core in ("core", "_core")
    for module, name, function in (
        ("multiarray", "_reconstruct", _empty),
        ("multiarray", "scalar", _scalar),
        ("numeric", "_frombuffer", _filled),
    )
}
_CLASSES: dict[tuple[str, str], type] = {
    ("tfutil", "Network"): _Saved,
    ("dnnlib.tflib.network", "Network"): _Saved,
    ("dnnlib.util", "EasyDict"): Inert,
    ("collections", "OrderedDict"): Inert,
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): Inert,
}


# ------------------------------------------------------------------------------------------------------ networks


def _plain(value: Any) -> Any:
    """An argument as Python has it."""
    return value.values.item() if isinstance(value, _Array) and value.values.ndim == 0 else value


def _tensors(network: _Saved, file_size: int) -> dict[str, Tensor]:
    """By name, with those of its parts; parts have none themselves."""
    parts = network.state.get("components", {})
    if not isinstance(parts, dict):
        raise ValueError("components of a network are missing")
    found: dict[str, Tensor] = {}
    n = 0
    for prefix, part in (("", network), *((f"{name_of(name)}/", part) for name, part in parts.items())):
        if not isinstance(part, _Saved):
            raise ValueError("a part of the network is not a network")
        for name, value in part.part("variables", list):
            if not isinstance(value, _Array):
                raise ValueError(f"the variable {name_of(name)} has no values")
            n += value.values.size
            if n > file_size:
                raise ValueError("its variables have more values than the file")
            found[prefix + name_of(name)] = torch.from_numpy(value.values.astype(np.float32))
    return found
