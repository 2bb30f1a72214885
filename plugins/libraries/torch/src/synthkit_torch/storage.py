"""Files of a checkpoint: safetensors and JSON, either whole or absent, so that a killed training can resume."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from synthkit.errors import DataError, NotWritableError


def partial_path(path: Path) -> Path:
    """Where a file is written before it gets its name."""
    return path.with_name(f".{path.name}.partial")


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]) -> None:
    """Write tensors and JSON-ready ``facts`` into one safetensors file, which appears whole or not at all."""
    write_tensors(path, tensors, {"facts": json.dumps(dict(facts))})


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
    """As :func:`save_tensors`, with metadata as safetensors has it."""
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    partial = partial_path(path)
    try:
        save_file(whole, partial, metadata=dict(metadata))
        partial.chmod(0o644)  # safetensors leaves it to its owner alone, and a container may be another user
        _publish(partial, path)
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        raise _not_writable(path, error) from error


def load_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors (on the CPU) and facts of a file written by :func:`save_tensors`; DataError if it is not one."""
    with opened(path) as file:
        facts = json.loads((file.metadata() or {})["facts"])
        return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118 (not a dict)


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The safetensors file (``safetensors.safe_open``), its tensors on the CPU; DataError where it cannot be read."""
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise DataError(
            f"The checkpoint file {path.name} cannot be read.",
            f"{type(error).__name__}: {error}.",
            "Give the checkpoint folder of a finished training, or train again.",
        ) from error


def save_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file that appears whole or not at all."""
    partial = partial_path(path)
    try:
        partial.write_text(json.dumps(dict(content), indent=2) + "\n", encoding="utf-8")
        _publish(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise _not_writable(path, error) from error


def load_json(path: Path) -> dict[str, Any]:
    """A JSON object; DataError if the file is missing or is not one."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict):
            return content
        reason = "it holds no JSON object"
    except (OSError, ValueError) as error:
        reason = str(error)
    raise DataError(
        f"The checkpoint file {path.name} cannot be read.",
        f"{reason}.",
        "Give the checkpoint folder of a finished training, or train again.",
    )


def _publish(partial: Path, path: Path) -> None:
    # Without the fsync a power cut may leave the new name with old or no content.
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def _not_writable(path: Path, error: Exception) -> NotWritableError:
    return NotWritableError(
        f"The checkpoint file {path.name} cannot be written.",
        f"{error}.",
        "Free some disk space or choose another output folder, then run the same command again: training resumes.",
    )
