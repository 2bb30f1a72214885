"""``import-checkpoint``: a generator that was trained elsewhere, from the file that its training left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from synthkit.contract import NOTES, Declaration, GeneratorDeclaration
from synthkit.data.named_schemes import scheme_named
from synthkit.errors import DataError, UsageError
from synthkit.registry.parameters import make_params, params_to_dict
from synthkit.registry.registry import discover, load_module
from synthkit.running.checkpoints import read_checkpoint_metadata
from synthkit.running.request import Request
from synthkit.running.run import Job, Run, folder_digest, write_json
from synthkit.running.verbs.boundary import (
    admitted_checkpoint,
    call,
    check_generator_size,
    opened_file,
    outputs_of,
)
from synthkit.running.verbs.inputs import file_input
from synthkit.schemes import Scheme

# Labels are greys of a channel, of which the last value has to leave one above.
_MAX_VALUE = 254

# ------------------------------------------------------------------------------------------------ asked on the host


def ask(
    plugin: str,
    file: Path,
    *,
    contrasts: Sequence[str],
    labels: str,
    params: Mapping[str, Any] | None = None,
) -> Request:
    """The run that turns ``file`` into a checkpoint of the generator ``plugin``.

    Parameters
    ----------
    plugin : name of a generator that imports files.
    file : what another project's training left; nothing in it is executed.
    contrasts : of the image channels, in the order of the network.
    labels : of the last channel: values, ascending from the background 0, as in "0,1,2"; or a label scheme, a name or
        a TOML file as :func:`synthkit.data.named_schemes.scheme_named` takes it.
    params : of the plugin, for what the file does not tell of its network.

    Raises :class:`UsageError` for a plugin that imports nothing and for channels or labels that cannot be.
    """
    declaration = discover().get(plugin, "generator")
    if not getattr(declaration, "imports", ()):
        raise UsageError(f"{plugin} imports no files of other projects.", fix="Train it with `synthkit train`.")
    job = Job(
        verb="import-checkpoint",
        plugins=(declaration.name,),
        params=params_to_dict(make_params(declaration, params or {})),
        inputs={"file": file_input(file)},
        options={"contrasts": _channels(contrasts), "scheme": _scheme(labels).to_dict(), "name": file.name},
    )
    return Request(job, (declaration,), f"import {file.name}", uses_gpu=False)


def _channels(names: Sequence[str]) -> list[str]:
    if not names or not all(names) or len(set(names)) != len(names):
        raise UsageError(
            f"--contrasts {','.join(names)} is not a list of contrasts.",
            fix="Name each once, as in t1,flair.",
        )
    return list(names)


def _scheme(labels: str) -> Scheme:
    """A scheme that has a name or a file; of values alone, with the names of BraTS up to 2020 where it has them."""
    words = labels.replace(" ", "").split(",")
    if all(word.isdecimal() for word in words):
        values = tuple(map(int, words))
        if values[0] != 0 or list(values) != sorted(set(values)) or values[-1] > _MAX_VALUE:
            raise _refused(labels)
        return Scheme.of_values(values)
    if "," in labels or not labels.strip():
        raise _refused(labels)
    scheme = scheme_named(labels)
    if scheme.values[-1] > _MAX_VALUE:
        raise _refused(labels)
    return scheme


def _refused(labels: str) -> UsageError:
    return UsageError(
        f"--labels {labels} is not a list of label values.",
        f"Those of a generator are 0 to {_MAX_VALUE}.",
        "Give them in ascending order from 0, as in 0,1,2; or name a label scheme.",
    )


# -------------------------------------------------------------------------------------------------- done in the run


def do(run: Run, job: Job, declarations: tuple[Declaration, ...]) -> dict[str, Any]:
    """Import the file; what ``result.json`` gets of it."""
    declaration = declarations[0]
    if not isinstance(declaration, GeneratorDeclaration):
        raise UsageError(f"{declaration.name} is not a generator.")
    file = opened_file(run, job, "file")
    contrasts, scheme = job.options["contrasts"], Scheme.from_dict(job.options["scheme"])
    module, params = load_module(declaration), make_params(declaration, job.params)
    run.checkpoint.mkdir(parents=True, exist_ok=True)
    side = call(
        declaration,
        module.import_checkpoint,
        file,
        run.checkpoint,
        contrasts=tuple(contrasts),
        label_values=scheme.values,
        params=params,
    )
    check_generator_size(declaration, (side, side))
    write_json(run.checkpoint / NOTES, _notes(declaration, job, side))
    return {"outputs": {"checkpoint": {"kind": "checkpoint", "digest": folder_digest(run.checkpoint)}}}


def _notes(declaration: Declaration, job: Job, side: int) -> dict[str, Any]:
    """What is noted beside the checkpoint, whose images have ``side`` pixels a side."""
    params, usual = (params_to_dict(make_params(declaration, given)) for given in (job.params, {}))
    scheme = Scheme.from_dict(job.options["scheme"])
    return {
        "plugin": declaration.name,
        "kind": declaration.kind,
        "distribution": declaration.distribution,
        # What was said of the network; of its training nothing is known.
        "params": {name: value for name, value in params.items() if value != usual[name]},
        "contrasts": list(job.options["contrasts"]),
        "labels": scheme.label_values,
        "scheme": scheme.to_dict(),
        "size": [side, side],
        "protocol": {},
        "training_datasets": [],
        "imported": {"file": job.options["name"], "digest": job.inputs["file"].digest},
    }


# ----------------------------------------------------------------------------------------------- taken on the host


def admit(run: Run, job: Job, declarations: tuple[Declaration, ...], told: Mapping[str, Any]) -> dict[str, Any]:
    """The checkpoint with its digest; of its network the run tells nothing but the size of its images."""
    declaration = declarations[0]
    with outputs_of(run):
        side, other = read_checkpoint_metadata(run.checkpoint)["size"]
        if not isinstance(declaration, GeneratorDeclaration) or type(side) is not int or side != other:
            raise DataError("Its checkpoint makes no squares.")
        check_generator_size(declaration, (side, side))
    return admitted_checkpoint(run, _notes(declaration, job, side))
