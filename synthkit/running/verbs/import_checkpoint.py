"""``import-checkpoint``: a generator that was trained elsewhere, from the file that its training left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from synthkit.contract import Declaration, GeneratorDeclaration
from synthkit.errors import UsageError
from synthkit.registry.parameters import make_params, params_to_dict
from synthkit.registry.registry import discover, load_module
from synthkit.running.checkpoints import CHECKPOINT_METADATA
from synthkit.running.request import Request
from synthkit.running.run import Job, Run, folder_digest, write_json
from synthkit.running.verbs.boundary import call, check_generator_size, opened_file
from synthkit.running.verbs.inputs import file_input
from synthkit.schemes import BRATS, Scheme

# ------------------------------------------------------------------------------------------------ asked on the host


def ask(
    plugin: str,
    file: Path,
    *,
    contrasts: Sequence[str],
    labels: Sequence[int] = BRATS.values,
    params: Mapping[str, Any] | None = None,
) -> Request:
    """The run that turns ``file`` into a checkpoint of the generator ``plugin``.

    Parameters
    ----------
    plugin : name of a generator that imports files.
    file : what another project's training left; nothing in it is executed.
    contrasts : of the image channels, in the order of the network.
    labels : values in the last channel, ascending from the background 0.
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
        options={"contrasts": _channels(contrasts), "labels": _named_labels(labels), "name": file.name},
    )
    return Request(job, (declaration,), f"import {file.name}", uses_gpu=False)


def _channels(names: Sequence[str]) -> list[str]:
    if not names or not all(names) or len(set(names)) != len(names):
        raise UsageError(
            f"--contrasts {','.join(names)} is not a list of contrasts.",
            fix=f"Name each once: {','.join(BRATS.contrast_names)}.",
        )
    return list(names)


def _named_labels(values: Sequence[int]) -> dict[str, int]:
    """Label values by name, those of BraTS where they have one."""
    if not values or values[0] != 0 or list(values) != sorted(set(values)) or values[-1] > 254:
        raise UsageError(
            f"--labels {','.join(map(str, values))} is not a list of label values.",
            fix=f"Give them in ascending order from 0: {','.join(map(str, BRATS.values))}.",
        )
    known = {value: name for name, value in BRATS.label_values.items()}
    return {known.get(value, f"label{value}"): value for value in values}


# -------------------------------------------------------------------------------------------------- done in the run


def do(run: Run, job: Job, declarations: tuple[Declaration, ...]) -> dict[str, Any]:
    """Import the file; what ``result.json`` gets of it."""
    declaration = declarations[0]
    if not isinstance(declaration, GeneratorDeclaration):
        raise UsageError(f"{declaration.name} is not a generator.")
    file = opened_file(run, job, "file")
    contrasts, labels = job.options["contrasts"], job.options["labels"]
    module, params = load_module(declaration), make_params(declaration, job.params)
    usual = params_to_dict(make_params(declaration, {}))
    run.checkpoint.mkdir(parents=True, exist_ok=True)
    side = call(
        declaration,
        module.import_checkpoint,
        file,
        run.checkpoint,
        contrasts=tuple(contrasts),
        label_values=tuple(sorted(labels.values())),
        params=params,
    )
    check_generator_size(declaration, (side, side))
    write_json(
        run.checkpoint / CHECKPOINT_METADATA,
        {
            "plugin": declaration.name,
            "kind": declaration.kind,
            "distribution": declaration.distribution,
            # What was said of the network; of its training nothing is known.
            "params": {name: value for name, value in params_to_dict(params).items() if value != usual[name]},
            "contrasts": list(contrasts),
            "labels": labels,
            "scheme": Scheme.of_record({"labels": labels}).to_dict(),
            "size": [side, side],
            "protocol": {},
            "training_datasets": [],
            "imported": {"file": job.options["name"], "digest": job.inputs["file"].digest},
        },
    )
    return {"outputs": {"checkpoint": {"kind": "checkpoint", "digest": folder_digest(run.checkpoint)}}}
