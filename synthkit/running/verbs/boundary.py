"""Where a run meets a method: its inputs opened and checked, the method called, its errors turned into ours."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthkit.contract import NOTES, Declaration, GeneratorDeclaration
from synthkit.errors import (
    ContainerFailedError,
    DataError,
    OutOfMemoryError,
    PluginError,
    SynthkitError,
    explain,
    is_out_of_memory,
)
from synthkit.running.checkpoints import read_checkpoint_metadata
from synthkit.running.run import Job, Run, file_digest, folder_digest, write_json

if TYPE_CHECKING:
    from synthkit.data.dataset import Dataset


def opened_dataset(run: Run, job: Job, role: str) -> Dataset:
    """The dataset of an input; :class:`DataError` if it is damaged, or not the one that the job was made for."""
    from synthkit.data.dataset import Dataset
    from synthkit.data.format import content_digest

    dataset = Dataset(run.input(role))
    expected = job.inputs[role].digest
    content = content_digest(dataset.contrasts, dataset.scheme, dataset.size, dataset.samples)
    if content != dataset.digest:
        raise DataError(
            f"The dataset for {role} is damaged.",
            f"Its table gives the digest {content[:23]}, its description says {dataset.digest[:23]}.",
            "Restore it from its source, or make it again.",
        )
    if expected and dataset.digest != expected:
        raise DataError(
            f"The dataset for {role} has changed since the run was made.",
            f"Its digest is {dataset.digest[:23]}, the job says {expected[:23]}.",
            "Make the run again.",
        )
    return dataset


def opened_file(run: Run, job: Job, role: str) -> Path:
    """The file of an input; :class:`DataError` if it is not the one that the job was made for."""
    path, expected = run.input(role), job.inputs[role].digest
    if expected and (found := file_digest(path)) != expected:
        raise DataError(
            f"The file given as {role} has changed since the run was made.",
            f"Its digest is {found[:23]}, the job says {expected[:23]}.",
            "Make the run again.",
        )
    return path


def opened_folder(run: Run, job: Job, role: str) -> Path:
    """The checkpoint, state or masks of an input; :class:`DataError` if it is not the one that the job was made for."""
    folder, expected = run.input(role), job.inputs[role].digest
    if expected and (found := folder_digest(folder)) != expected:
        raise DataError(
            f"The folder given as {role.replace('_', ' ')} has changed since the run was made.",
            f"Its digest is {found[:23]}, the job says {expected[:23]}.",
            "Make the run again.",
        )
    return folder


def opened_checkpoint(
    run: Run, job: Job, declaration: Declaration, role: str = "checkpoint"
) -> tuple[Path, dict[str, Any]]:
    """The checkpoint that a run uses, and synthkit's notes on it; :class:`DataError` unless it is the plugin's."""
    checkpoint = opened_folder(run, job, role)
    metadata = read_checkpoint_metadata(checkpoint)
    if metadata["plugin"] != declaration.name:
        raise DataError(
            f"The checkpoint is of {metadata['plugin']}, not of {declaration.name}.", fix="Give another run."
        )
    return checkpoint, metadata


@contextmanager
def outputs_of(run: Run) -> Iterator[None]:
    """What the host reads of a run's outputs: :class:`ContainerFailedError` for what a sound run does not leave."""
    try:
        yield
    except DataError as error:
        why = " ".join(part for part in (error.what, error.why) if part)
        raise _not_sound(why, error.details) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _not_sound(f"{type(error).__name__}: {error}.") from error


def _not_sound(why: str, details: tuple[str, ...] = ()) -> ContainerFailedError:
    return ContainerFailedError(
        "The run's outputs are not what it was to make.", why, "Report it to the authors of the plugin.", details
    )


def admitted_checkpoint(run: Run, notes: Mapping[str, Any]) -> dict[str, Any]:
    """The checkpoint of a run with synthkit's notes on it as the host knows them; what ``result.json`` gets of it."""
    with outputs_of(run):
        if all(path.name == NOTES for path in run.checkpoint.iterdir()):
            raise DataError("There is no checkpoint.")
        plain = json.loads(json.dumps(notes))
        told = read_checkpoint_metadata(run.checkpoint)
        if told != plain:
            write_json(run.checkpoint / NOTES, notes)
        outputs = {"checkpoint": {"kind": "checkpoint", "digest": folder_digest(run.checkpoint)}}
    return {"outputs": outputs, "corrected": differing(told, plain, NOTES)}


def differing(told: Mapping[str, Any], known: Mapping[str, Any], name: str) -> list[str]:
    """What a file said otherwise than the host knows it: ``["params in synthkit.json"]``."""
    keys = sorted(key for key in {*told, *known} if told.get(key) != known.get(key))
    return [f"{', '.join(keys)} in {name}"] if keys else []


def call(declaration: Declaration, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call the method; what it raises without a class of ours is the plugin's error, out of memory apart."""
    try:
        return function(*args, **kwargs)
    except Exception as error:
        raise _plugin_error(declaration, error) from error


def yielded(declaration: Declaration, values: Iterable[Any]) -> Iterator[Any]:
    """The values of a method's iterator, its exceptions treated as by :func:`call`."""
    iterator: Iterator[Any] | None = None
    while True:
        try:
            iterator = iter(values) if iterator is None else iterator
            value = next(iterator)
        except StopIteration:
            return
        except Exception as error:
            raise _plugin_error(declaration, error) from error
        yield value


def _plugin_error(declaration: Declaration, error: Exception) -> BaseException:
    if isinstance(error, (SynthkitError, MemoryError, OSError)):
        return error
    if is_out_of_memory(error):
        has_batches = "batch_size" in {item.name for item in dataclasses.fields(declaration.params)}
        batches = "Lower its batch size (-p batch_size=...). " if has_batches else ""
        return OutOfMemoryError(
            f"{declaration.name} is out of memory.",
            str(error).strip().partition("\n")[0],
            f"{batches}Prepare smaller images (--size), or give it more memory.",
        )
    known = explain(error)
    return PluginError(known.what.replace("The method", declaration.name), known.why, known.fix)


def check_generator_size(declaration: GeneratorDeclaration, size: tuple[int, int]) -> None:
    """Raise :class:`DataError` if a generator cannot make images of ``(height, width)`` pixels."""
    height, width = size
    power = height & (height - 1) == 0
    if height != width or not power or not declaration.minimum_size <= height <= declaration.maximum_size:
        raise DataError(
            f"{declaration.name} cannot make images of {width} x {height} pixels.",
            f"It makes squares, a power of two from {declaration.minimum_size} to {declaration.maximum_size} a side.",
            "Prepare the dataset with another --size.",
        )
