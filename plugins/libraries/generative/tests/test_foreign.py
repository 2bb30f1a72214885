# ruff: noqa: E402 (imports follow the check for torch)
"""Files of other projects: the tensors of good ones, and no code of bad ones."""

from __future__ import annotations

import builtins
import collections
import contextlib
import io
import os
import pickle
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from synthkit_generative.foreign.checkpoints import Network, read_generator, read_snapshot, read_state_dict
from synthkit_generative.foreign.tensorflow import read_tensorflow_generator
from synthkit_generative.foreign.testing import write_snapshot

from synthkit.errors import DataError


def _network() -> Network:
    random = torch.Generator().manual_seed(0)
    tensors = {
        "mapping.fc0.weight": torch.randn(4, 3, generator=random).requires_grad_(True),
        "mapping.w_avg": torch.randn(4, generator=random),
        "synthesis.L0.magnitude_ema": torch.tensor(0.5),
        "synthesis.L0.affine.bias": torch.arange(12.0).view(3, 4).T.requires_grad_(True),  # not contiguous
        "synthesis.freqs": torch.randn(10, 2, generator=random)[3:5],  # a part of a storage
    }
    return Network("Generator", {"z_dim": 4, "size": np.int64(3), "mapping_kwargs": {"num_layers": 2}}, tensors)


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_a_snapshot_gives_its_tensors_back(tmp_path: Path, protocol: int) -> None:
    write_snapshot(tmp_path / "a.pkl", {"G": _network(), "G_ema": _network()}, protocol)
    found = read_snapshot(tmp_path / "a.pkl")
    assert set(found) == {"G", "G_ema"}
    network = found["G_ema"]
    assert network.class_name == "Generator" and network.settings["z_dim"] == 4
    assert network.settings["mapping_kwargs"] == {"num_layers": 2}
    expected = _network().tensors
    assert network.tensors.keys() == expected.keys()
    assert all(torch.equal(network.tensors[name], tensor) for name, tensor in expected.items())
    assert not any(tensor.requires_grad for tensor in network.tensors.values())


class _Calls:
    """Pickled as a call of a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.made = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.made


class _State(_Calls):
    """Pickled as a call whose result is then given a state."""

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...], state: Any) -> None:
        self.made = function, arguments, state  # type: ignore[assignment]


def _inside_a_tensor(folder: Path) -> bytes:
    """A call within the file that torch keeps the values of a tensor in."""
    inner = io.BytesIO()
    torch.save(_Calls(os.mkdir, str(folder / "hit")), inner, _use_new_zipfile_serialization=False)
    return pickle.dumps({"G_ema": _Calls(torch.storage._load_from_bytes, inner.getvalue())})


def _read_tensorflow(path: Path) -> Network:
    return read_tensorflow_generator(path, "G_style")


HOSTILE: dict[str, Callable[[Path], bytes]] = {
    "os.mkdir": lambda folder: pickle.dumps({"G_ema": _Calls(os.mkdir, str(folder / "hit"))}),
    "os.system": lambda folder: pickle.dumps(_Calls(os.system, f"mkdir {folder / 'hit'}")),
    "subprocess": lambda folder: pickle.dumps(_Calls(subprocess.Popen, ["mkdir", str(folder / "hit")])),
    "eval": lambda folder: pickle.dumps(_Calls(eval, f"__import__('os').mkdir({str(folder / 'hit')!r})")),
    "exec": lambda folder: pickle.dumps(_Calls(exec, f"import os; os.mkdir({str(folder / 'hit')!r})")),
    "getattr": lambda folder: pickle.dumps(_Calls(getattr, collections.OrderedDict, "__class__")),
    "import": lambda folder: pickle.dumps(_Calls(builtins.__import__, "antigravity")),
    "torch.load": lambda folder: pickle.dumps(_Calls(torch.load, str(folder / "missing"))),
    "tensor's values": _inside_a_tensor,
    "dotted name": lambda folder: b"\x80\x04\x8c\x0bcollections\x8c\x14OrderedDict.__init__\x93.",
    "copyreg": lambda folder: b"ccopyreg\n_reconstructor\n.",
    "persistent id": lambda folder: b"Pabc\n.",
    "extension": lambda folder: b"\x80\x02\x82\x01.",
    # Small files that would take a lot of memory, or never come to an end.
    "far memo": lambda folder: b"\x80\x04Nr\xff\xff\xff\x7f0N.",
    "endless hash": lambda folder: b"\x80\x04})" + b"2\x86" * 60 + b"Ns.",
    "deep key": lambda folder: b"\x80\x04})" + b"\x85" * 10**5 + b"Ns.",
    "key of a set": lambda folder: b"\x80\x04\x8f()" + b"2\x86" * 60 + b"\x90.",
    "long bytes": lambda folder: b"\x80\x05\x96" + (2**45).to_bytes(8, "little") + b".",
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("read", [read_snapshot, read_state_dict, _read_tensorflow])
def test_nothing_in_a_file_is_executed(name: str, read: Callable[[Path], Any], tmp_path: Path) -> None:
    file = tmp_path / "a.pkl"
    file.write_bytes(HOSTILE[name](tmp_path))
    with pytest.raises(DataError, match=r"The file is not a checkpoint"):
        read(file)
    assert [item.name for item in tmp_path.iterdir()] == ["a.pkl"]


def test_a_refused_name_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(HOSTILE["os.mkdir"](tmp_path))
    with pytest.raises(DataError, match=r"names posix\.mkdir.*nothing was executed"):
        read_snapshot(tmp_path / "a.pkl")


def _with_tensor(**changes: Any) -> bytes:
    storage, offset, size, stride = torch.arange(6.0).untyped_storage(), 0, (2, 3), (3, 1)
    arguments = {"storage": torch.storage.TypedStorage(wrap_storage=storage, dtype=torch.float32, _internal=True)}
    arguments |= {"offset": offset, "size": size, "stride": stride, **changes}
    return pickle.dumps({"G_ema": _Calls(torch._utils._rebuild_tensor_v2, *arguments.values(), False, {})})


@pytest.mark.parametrize(
    "changes",
    [
        {"size": (3, 3)},
        {"offset": 1},
        {"offset": -1},
        {"stride": (100, 1)},
        {"stride": (0, 0), "size": (10**6, 10**6)},
        {"size": (2, -3)},
        {"size": "xy"},
        {"storage": 3},
    ],
    ids=str,
)
def test_a_tensor_beyond_its_values_is_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(_with_tensor(**changes))
    with pytest.raises(DataError):
        read_snapshot(tmp_path / "a.pkl")


@pytest.mark.parametrize(
    ("function", "arguments", "state"),
    [
        (collections.OrderedDict, (), {"__class__": 1}),
        (collections.OrderedDict, (), (None, {"__setstate__": 1, "update": 2})),
        (torch._utils._rebuild_parameter, (torch.ones(2), False, {}), {"data": 1}),
    ],
    ids=["dictionary", "slots", "tensor"],
)
def test_a_state_changes_nothing_outside(function: Any, arguments: Any, state: Any, tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"G_ema": _State(function, arguments, state)}))
    with pytest.raises(DataError):
        read_snapshot(tmp_path / "a.pkl")
    write_snapshot(tmp_path / "b.pkl", {"G_ema": _network()})
    assert read_snapshot(tmp_path / "b.pkl")["G_ema"].tensors.keys() == _network().tensors.keys()


def test_a_truncated_or_damaged_file_is_a_data_error(tmp_path: Path) -> None:
    file = tmp_path / "a.pkl"
    write_snapshot(file, {"G_ema": _network()})
    whole = file.read_bytes()
    for place in range(0, len(whole), 7):
        file.write_bytes(whole[:place])
        with pytest.raises(DataError):
            read_snapshot(file)
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        with contextlib.suppress(DataError):
            read_snapshot(file)  # where only a number in a tensor changed


def test_what_is_no_checkpoint_is_said_in_words(tmp_path: Path) -> None:
    """Not what the reader trips over: a key, an index."""
    for text in ("123", "", "<html>", "abc\n"):
        (tmp_path / "a.pkl").write_text(text)
        with pytest.raises(DataError) as caught:
            read_snapshot(tmp_path / "a.pkl")
        assert caught.value.why == "It is damaged, or no checkpoint at all."


def test_what_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_snapshot(tmp_path / "none.pkl")
    write_snapshot(tmp_path / "d.pkl", {"D": _network()})
    with pytest.raises(DataError, match=r"no averaged generator.*It holds D"):
        read_generator(tmp_path / "d.pkl")
    (tmp_path / "list.pkl").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(DataError, match="no networks by name"):
        read_snapshot(tmp_path / "list.pkl")


def test_settings_that_are_not_implemented_are_refused() -> None:
    network = Network("Generator", {"a": 1, "b": 2, "c": 3}, {})
    assert network.chosen({"a": 0, "d": 4}, {"b": 2}, ("c",)) == {"a": 1, "d": 4}
    with pytest.raises(DataError, match="Its setting b is 2"):
        network.chosen({"a": 0}, {"b": 1}, ("c",))
    with pytest.raises(DataError, match="Its setting c is 3"):
        network.chosen({"a": 0}, {"b": 2}, ())


def test_a_state_dict_gives_its_tensors_back(tmp_path: Path) -> None:
    tensors = {"a.weight": torch.randn(3, 2), "a.bias": torch.zeros(3, dtype=torch.float16)}
    torch.save(collections.OrderedDict(tensors), tmp_path / "a.pt")
    found = read_state_dict(tmp_path / "a.pt")
    assert found.keys() == tensors.keys() and all(torch.equal(found[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize("content", [{"a": 1}, [torch.ones(1)], torch.ones(1)], ids=["numbers", "list", "tensor"])
def test_other_contents_are_no_state_dict(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(DataError, match="does not hold tensors by name"):
        read_state_dict(tmp_path / "a.pt")


def test_calls_within_a_zip_of_torch_are_refused(tmp_path: Path) -> None:
    torch.save({"a": _Calls(os.mkdir, str(tmp_path / "hit"))}, tmp_path / "a.pt")
    with pytest.raises(DataError):
        read_state_dict(tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as file:
        assert any(name.endswith("data.pkl") for name in file.namelist())  # what was tested is a zip
    assert not (tmp_path / "hit").exists()


def test_torchs_advice_to_run_a_files_code_is_not_shown(tmp_path: Path) -> None:
    torch.save({"weights": torch.zeros(2), "options": contextlib.nullcontext()}, tmp_path / "a.pt")
    with pytest.raises(DataError) as refused:
        read_state_dict(tmp_path / "a.pt")
    said = str(refused.value)
    assert "weights_only" not in said and "still be loaded" not in said and "never done" in said
