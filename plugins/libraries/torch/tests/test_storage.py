# ruff: noqa: E402 (imports follow the check for torch)
"""Files of a checkpoint are whole or absent, and what cannot be read is an error with a reason."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from synthkit_torch import storage

from synthkit.errors import DataError, NotWritableError


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.safetensors"
    storage.save_tensors(path, {"a": torch.ones(3)}, {"step": 1})

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage, "save_file", full)
    with pytest.raises(NotWritableError, match="disk space"):
        storage.save_tensors(path, {"a": torch.zeros(3)}, {"step": 2})
    tensors, facts = storage.load_tensors(path)
    assert facts == {"step": 1} and torch.equal(tensors["a"], torch.ones(3))
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


def test_what_is_written_is_read_again_by_everyone(tmp_path: Path) -> None:
    storage.save_tensors(tmp_path / "a.safetensors", {"a": torch.arange(6.0).view(2, 3).T}, {"step": 1})
    tensors, facts = storage.load_tensors(tmp_path / "a.safetensors")
    assert facts == {"step": 1} and torch.equal(tensors["a"], torch.arange(6.0).view(2, 3).T)
    storage.save_json(tmp_path / "a.json", {"b": [1]})
    assert storage.load_json(tmp_path / "a.json") == {"b": [1]}
    assert all(stat.S_IMODE(path.stat().st_mode) & 0o044 == 0o044 for path in tmp_path.iterdir())


def test_what_is_not_a_checkpoint_is_refused(tmp_path: Path) -> None:
    for content in (None, b"", b"[1]", b"{"):
        path = tmp_path / "file"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(DataError, match="cannot be read"):
            storage.load_json(path)
        with pytest.raises(DataError, match="cannot be read"):
            storage.load_tensors(path)
    storage.write_tensors(tmp_path / "other", {"a": torch.ones(1)}, {})
    with pytest.raises(DataError, match="cannot be read"):
        storage.load_tensors(tmp_path / "other")  # no facts
