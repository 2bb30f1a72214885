# ruff: noqa: E402 (imports follow the check for torch)
"""Files of the TensorFlow code: the arrays of good ones, and no code of bad ones. See also ``test_foreign.py``."""

from __future__ import annotations

import contextlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from synthkit_generative.foreign.checkpoints import Network
from synthkit_generative.foreign.tensorflow import growth_of, read_tensorflow_generator
from synthkit_generative.foreign.testing import write_tensorflow

from synthkit.errors import DataError

MODULES = ("tfutil", "dnnlib.tflib.network")


def _network() -> Network:
    random = torch.Generator().manual_seed(0)
    tensors = {
        "lod": torch.tensor(1.5),
        "4x4/Dense/weight": torch.randn(4, 6, generator=random),
        "synthesis/4x4/Conv/weight": torch.randn(3, 3, 2, 5, generator=random),
        "synthesis/4x4/Conv/bias": torch.randn(5, generator=random),
    }
    settings = {"num_channels": 5, "resolution": np.int64(64), "dtype": "float32", "latent_size": None}
    return Network("G_style", settings, tensors)


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("module", MODULES)
def test_the_averaged_generator_is_given_back(module: str, protocol: int, tmp_path: Path) -> None:
    network = _network()
    write_tensorflow(tmp_path / "a.pkl", network, module=module, parts=("synthesis",), protocol=protocol)
    found = _read(tmp_path / "a.pkl")
    assert (found.class_name, found.settings) == ("G_style", {**network.settings, "resolution": 64})
    assert found.tensors.keys() == network.tensors.keys()
    assert all(torch.equal(tensor, network.tensors[name]) for name, tensor in found.tensors.items())


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float16).reshape(2, 3),
        np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3)),
        np.arange(6, dtype=">f4").reshape(2, 3),
        np.zeros((0, 3), np.float32),
        np.array(True),
    ],
    ids=["half", "by column", "big-endian", "empty", "bool"],
)
def test_arrays_of_any_layout_are_read(array: Any, tmp_path: Path) -> None:
    _write(tmp_path / "a.pkl", array)
    found = _read(tmp_path / "a.pkl").tensors["w"]
    np.testing.assert_array_equal(found.numpy(), array.astype(np.float32))


def _read(path: Path) -> Network:
    return read_tensorflow_generator(path, "G_style")


def _write(path: Path, value: Any) -> None:
    """A file whose averaged generator has one variable, whatever that is."""
    write_tensorflow(path, Network("G_style", {}, {"w": value}), module="tfutil")


def test_a_generator_of_another_method_is_refused(tmp_path: Path) -> None:
    write_tensorflow(tmp_path / "a.pkl", _network(), module=MODULES[0])
    with pytest.raises(DataError, match=r"another method.*made by G_style.*here by G_paper"):
        read_tensorflow_generator(tmp_path / "a.pkl", "G_paper")


class _Made:
    """Pickled as a call of NumPy's that is then given a state."""

    def __init__(self, function: Any, arguments: tuple[Any, ...], state: Any = None) -> None:
        self.made = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.made


_, (_, _, _), (VERSION, *_) = np.zeros(2, np.float32).__reduce__()
RECONSTRUCT = np.zeros(2).__reduce__()[0]
SCALAR = np.float32(1).__reduce__()[0]
EMPTY = (np.ndarray, (0,), b"b")
FLOAT = np.dtype("f4")


@pytest.mark.parametrize(
    "item",
    [
        _Made(RECONSTRUCT, EMPTY, (VERSION, (3,), FLOAT, False, b"\0" * 8)),
        _Made(RECONSTRUCT, EMPTY, (VERSION, (2**40, 2**40), FLOAT, False, b"\0" * 8)),
        _Made(RECONSTRUCT, EMPTY, (VERSION, (-2, -1), FLOAT, False, b"\0" * 8)),
        _Made(RECONSTRUCT, EMPTY, (VERSION, (2,), "f4", False, b"\0" * 8)),
        _Made(RECONSTRUCT, EMPTY, (VERSION, (2,), FLOAT, False, [1, 2])),
        _Made(RECONSTRUCT, EMPTY),
        _Made(SCALAR, ("f4", b"\0" * 4)),
        _Made(SCALAR, (FLOAT, b"\0" * 8)),
        np.array([None], dtype=object),
        np.zeros(1, dtype=[("a", "f4")]),
        np.array(["x"]),
        3.0,
        None,
    ],
    ids=[
        "too few values", "huge", "negative", "type", "list", "empty", "scalar type", "scalar", "objects", "parts",
        "text", "number", "none",
    ],
)  # fmt: skip
def test_what_is_no_array_of_numbers_is_refused(item: Any, tmp_path: Path) -> None:
    _write(tmp_path / "a.pkl", item)
    with pytest.raises(DataError, match=r"The file is not a checkpoint"):
        _read(tmp_path / "a.pkl")


def _pair(depth: int) -> Any:
    """A tuple of 2 ** depth parts that takes no room, but a long time to be printed or hashed."""
    pair: Any = ()
    for _ in range(depth):
        pair = (pair, pair)
    return pair


@pytest.mark.parametrize(
    "network",
    [
        Network(_pair(60), {}, {}),
        Network("\x1b[2J", {}, {}),
        Network("G_style", {"x" * 1000: 1}, {}),
        Network("G_style", {}, {"w": _pair(60)}),
        Network("G_style", {}, {"v" * 201: torch.ones(1)}),
    ],
    ids=["name", "escape", "setting", "value", "variable"],
)
def test_names_that_are_none_are_refused(network: Network, tmp_path: Path) -> None:
    write_tensorflow(tmp_path / "a.pkl", network, module=MODULES[0])
    with pytest.raises(DataError):
        _read(tmp_path / "a.pkl")


def test_values_that_are_used_again_and_again_are_refused(tmp_path: Path) -> None:
    once = np.zeros(10_000, np.float32)
    write_tensorflow(tmp_path / "a.pkl", Network("G_style", {}, {f"w{n}": once for n in range(50)}), module=MODULES[0])
    with pytest.raises(DataError, match="more values than the file"):
        _read(tmp_path / "a.pkl")


@pytest.mark.parametrize("content", [(), [1, 2, 3], {"G_ema": 1}, (1, 2, 3)], ids=str)
def test_other_contents_are_refused(content: Any, tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match="does not hold a generator"):
        _read(tmp_path / "a.pkl")


def test_a_truncated_or_damaged_file_is_a_data_error(tmp_path: Path) -> None:
    file = tmp_path / "a.pkl"
    write_tensorflow(file, _network(), module=MODULES[1], parts=("synthesis",))
    whole = file.read_bytes()
    for place in range(0, len(whole), 11):
        file.write_bytes(whole[:place])
        with pytest.raises(DataError):
            _read(file)
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        with contextlib.suppress(DataError):  # another number, or a refusal; never anything else
            _read(file)


@pytest.mark.parametrize(
    ("lod", "expected"), [(0.0, (4, 1.0)), (4.0, (0, 1.0)), (1.25, (3, 0.75)), (3.875, (1, 0.125)), (0.5, (4, 0.5))]
)
def test_growth_by_hand(lod: float, expected: tuple[int, float]) -> None:
    assert tuple(growth_of(torch.tensor(lod), 5).tolist()) == expected


@pytest.mark.parametrize("lod", [-0.1, 4.1, float("nan")])
def test_growth_that_cannot_be_is_refused(lod: float) -> None:
    with pytest.raises(ValueError, match="where there are 5 resolutions"):
        growth_of(torch.tensor(lod), 5)
