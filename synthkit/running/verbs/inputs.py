"""What a user names, as inputs of a job: found, and with the digest that it has now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

from synthkit.contract import Declaration
from synthkit.data.dataset import Dataset
from synthkit.data.format import read_description
from synthkit.data.geometry import common_axes
from synthkit.data.likeness import doubts_about
from synthkit.errors import DataError, UsageError
from synthkit.registry.parameters import make_params, params_to_dict
from synthkit.running.checkpoints import find_checkpoint, find_snapshot, read_checkpoint_metadata
from synthkit.running.listening import Listener
from synthkit.running.run import Input, file_digest, folder_digest


def dataset_input(path: Path, splits: Sequence[str] = ()) -> tuple[Dataset, Input]:
    """Open a dataset and describe it as an input."""
    dataset = Dataset(path)
    return dataset, Input("dataset", source=dataset.path, splits=tuple(splits), digest=dataset.digest)


def look_at(datasets: Iterable[Dataset], listener: Listener) -> list[str]:
    """Say, and return, what the images of datasets show that is not recorded, compared with the first real one."""
    ordered = sorted(datasets, key=lambda dataset: dataset.kind != "real")
    names = [_called(dataset.path.resolve()) for dataset in ordered]
    named = [f"{name} ({k})" if names.count(name) > 1 else name for k, name in enumerate(names, start=1)]
    doubts = doubts_about({name: d.training_part() for name, d in zip(named, ordered, strict=True)})
    for text in doubts:
        listener.warning(text)
    return doubts


def _called(path: Path) -> str:
    """What a user calls a dataset: its folder, or the run that made it."""
    return path.parents[1].name if path.parts[-2:] == ("outputs", "dataset") else path.name


def checkpoint_input(path: Path, snapshot: str | None = None) -> tuple[dict[str, Any], Input]:
    """Find the checkpoint of a run and describe it as an input; returns synthkit's notes on it as well.

    With ``snapshot`` one from before the end of the training, see :func:`synthkit.running.checkpoints.find_snapshot`.
    """
    checkpoint = find_checkpoint(path) if snapshot is None else find_snapshot(path, snapshot)
    return read_checkpoint_metadata(checkpoint), Input(
        "checkpoint", source=checkpoint, digest=folder_digest(checkpoint)
    )


def resolved_params(
    declaration: Declaration, metadata: Mapping[str, Any], given: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Parameters of a run that uses a checkpoint: those of its training, changed by what is given now."""
    return params_to_dict(make_params(declaration, {**metadata["params"], **(given or {})}))


def check_axes(inputs: Mapping[str, Input], listener: Listener) -> None:
    """:class:`DataError` for datasets among the inputs whose images lie in different orientations; doubts are said."""
    sources = {role: item.source for role, item in inputs.items() if item.kind == "dataset" and item.source}
    _, doubts = common_axes({role: read_description(path).get("protocol") or {} for role, path in sources.items()})
    for doubt in doubts:
        listener.warning(doubt)


def folder_input(kind: Literal["subjects", "labels"], path: Path) -> Input:
    """A folder of NIfTI files as an input; :class:`DataError` if there is none."""
    if not path.is_dir():
        raise DataError(f"There is no folder {path}.", fix="Check the path.")
    return Input(kind, source=path)


def features_named(path: Path | None, declaration: Declaration) -> tuple[Path | None, dict[str, str]]:
    """The file of ``--features FILE`` or ``NAME=FILE``, and the parameter that holds the method to the name.

    :class:`UsageError` for a name that the method does not ask for.
    """
    name, equals, file = str(path).partition("=")
    if path is None or not (name and equals) or "/" in name or path.exists():
        return path, {}
    if "network" not in {item.name for item in fields(declaration.params)}:
        raise UsageError(f"{declaration.name} knows no feature networks by name.", fix=f"Give --features {file}.")
    return Path(file).expanduser(), {"network": name}


def file_input(path: Path) -> Input:
    """A file as an input, with its digest; :class:`DataError` if there is none."""
    if not path.is_file():
        raise DataError(f"There is no file {path}.", fix="Check the path.")
    return Input("file", source=path, digest=file_digest(path))
