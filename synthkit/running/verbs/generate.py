"""``generate``: synthetic samples, one a seed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synthkit import events
from synthkit.contract import NOTES, Declaration, Sample
from synthkit.data.dataset import Dataset
from synthkit.data.format import DESCRIPTION
from synthkit.data.receiving import receive
from synthkit.data.writer import DatasetWriter, Described
from synthkit.errors import DataError, PluginError
from synthkit.registry.parameters import make_params, params_to_dict
from synthkit.registry.registry import discover, load_module
from synthkit.running.checkpoints import images_shown
from synthkit.running.listening import Listener
from synthkit.running.request import Request
from synthkit.running.run import Job, Run
from synthkit.running.verbs.asking import Asking, asked_for, asking_of
from synthkit.running.verbs.boundary import call, differing, opened_checkpoint, outputs_of, yielded
from synthkit.running.verbs.inputs import checkpoint_input, resolved_params
from synthkit.running.verbs.seeds import count_seeds, format_seeds, iterate_seeds, parse_seeds, take_shard
from synthkit.running.verbs.train import notes_of
from synthkit.schemes import Scheme

if TYPE_CHECKING:
    from synthkit.contract import UInt8Array

_SAMPLES_PER_WRITE = 16

# ------------------------------------------------------------------------------------------------ asked on the host


def ask(
    model: Path,
    seeds: str,
    *,
    shard: str | None = None,
    snapshot: str | None = None,
    labels: Path | None = None,
    conditions: Mapping[str, Any] | None = None,
    params: Mapping[str, Any] | None = None,
    listener: Listener,
) -> Request:
    """The run that draws a sample for each seed.

    Parameters
    ----------
    model : a `train` or `import-checkpoint` run of a generator, or its checkpoint.
    seeds : such as ``"0-999,2000"``.
    shard : ``"3/8"`` for the third of eight parts of the seeds.
    snapshot : "latest", or thousands of training images: what a training had learned before its end.
    labels, conditions : what samples are asked for, where the generator offers it: the label maps of a dataset or of a
        folder of masks, and conditions by name; see :func:`synthkit.running.verbs.asking.asked_for`.
    params : parameters of the plugin, over those of the training.

    Raises :class:`UsageError` for seeds that cannot be and for what the generator does not offer, :class:`DataError`
    where there is no model, or labels do not fit it.
    """
    ranges = parse_seeds(seeds)
    if shard is not None:
        ranges = take_shard(ranges, shard)
        seeds = format_seeds(ranges)
    metadata, item = checkpoint_input(model, snapshot)
    declaration = discover().get(metadata["plugin"], "generator")
    if snapshot is not None:
        _check_notes(Run(model), declaration, metadata)
    asked, options = asked_for(declaration, metadata, labels, conditions or {}, iterate_seeds(ranges), listener)
    job = Job(
        verb="generate",
        plugins=(declaration.name,),
        params=resolved_params(declaration, metadata, params),
        inputs={"checkpoint": item, **asked},
        options={"seeds": seeds, **options},
    )
    return Request(job, (declaration,), f"generate {count_seeds(ranges):,}")


def _check_notes(training: Run, declaration: Declaration, metadata: Mapping[str, Any]) -> None:
    """:class:`DataError` for notes on a snapshot, which the training wrote, that are not what its job says."""
    known = json.loads(json.dumps(notes_of(training, training.job(), declaration)))
    if other := differing({key: value for key, value in metadata.items() if key != "unfinished"}, known, NOTES):
        raise DataError(
            f"The snapshot of {training.path} says otherwise than its job.",
            f"Other are {'; '.join(other)}.",
            "Go on with the training by --resume, and draw from its end.",
        )


# -------------------------------------------------------------------------------------------------- done in the run


def do(run: Run, job: Job, declarations: tuple[Declaration, ...]) -> dict[str, Any]:
    """Draw the samples that are not there yet; what ``result.json`` gets of it."""
    declaration = declarations[0]
    checkpoint, metadata = opened_checkpoint(run, job, declaration)
    params = make_params(declaration, {**metadata["params"], **job.params})
    ranges = parse_seeds(job.options["seeds"])
    total = count_seeds(ranges)
    module = load_module(declaration)
    asking = asking_of(run, job, declaration, metadata)
    described = _described(declaration, job, metadata, images_shown(checkpoint), asking)
    writer = DatasetWriter(run.dataset, **vars(described), resume=True)
    with writer:
        done = {row.seed for row in writer.samples}
        if done:
            events.message(f"{len(done)} of {total} samples were there already.")
        seeds = [seed for seed in iterate_seeds(ranges) if seed not in done]
        images: list[UInt8Array] = []
        labels: list[UInt8Array] = []
        first = 0

        def flush() -> None:
            nonlocal first
            rows = [_row(seed, asking) for seed in seeds[first : first + len(images)]]
            try:
                writer.append(np.stack(images), np.stack(labels), rows)
            except (DataError, ValueError) as error:
                raise PluginError(f"{declaration.name} made a sample that does not fit.", f"{error}") from error
            first += len(images)
            images.clear()
            labels.clear()
            events.progress(len(done) + first, total, unit="sample")

        asked = {"asked": map(asking.of, seeds)} if asking else {}
        samples = call(declaration, module.generate, checkpoint, list(seeds), params, **asked) if seeds else ()
        for sample in yielded(declaration, samples):
            if not isinstance(sample, (tuple, list)) or len(sample) != 2:
                raise PluginError(
                    f"{declaration.name} made a {type(sample).__name__} where a sample belongs.",
                    "A sample is a pair of image and labels.",
                    f"Report it to the authors of {declaration.distribution}.",
                )
            if first + len(images) == len(seeds):
                raise PluginError(
                    f"{declaration.name} made more samples than {len(seeds)} for {len(seeds)} seeds.",
                    "A generator yields one sample a seed.",
                    f"Report it to the authors of {declaration.distribution}.",
                )
            image, label_map = sample
            if asking:
                _check_labels(declaration, asking, seeds[first + len(images)], label_map)
            images.append(np.asarray(image))
            labels.append(np.asarray(label_map))
            if len(images) == _SAMPLES_PER_WRITE:
                flush()
        if images:
            flush()
        if first != len(seeds):
            raise PluginError(
                f"{declaration.name} made {first} samples for {len(seeds)} seeds.",
                "A generator yields one sample a seed.",
                f"Report it to the authors of {declaration.distribution}.",
            )
    made = Dataset(run.dataset)
    return {"outputs": {"dataset": {"kind": "dataset", "digest": made.digest, "n_samples": len(made)}}}


def _check_labels(declaration: Declaration, asking: Asking, seed: int, labels: Any) -> None:
    try:
        asking.check(seed, labels)
    except DataError as error:
        raise PluginError(
            f"{declaration.name} made a sample that was not asked for.",
            error.what,
            f"Report it to the authors of {declaration.distribution}.",
        ) from error


def _row(seed: int, asking: Asking | None) -> dict[str, Any]:
    asked = {"asked": asking.record(seed)} if asking else {}
    return {"id": f"seed{seed:08d}", "split": "synthetic", "seed": seed, **asked}


def _described(
    declaration: Declaration, job: Job, metadata: Mapping[str, Any], shown: int | None, asking: Asking | None
) -> Described:
    """What the dataset says of itself: where its samples come from. ``shown`` is of an unfinished training."""
    known = metadata["training_datasets"]
    params = make_params(declaration, {**metadata["params"], **job.params})
    return Described(
        contrasts=tuple(metadata["contrasts"]),
        scheme=Scheme.of_record(metadata),
        size=(int(metadata["size"][0]), int(metadata["size"][1])),
        kind="synthetic",
        protocol=metadata.get("protocol") or {},
        provenance={"plugin": declaration.name, "params": params_to_dict(params), "seeds": job.options["seeds"]},
        lineage={
            "generator": declaration.name,
            "checkpoint_digest": job.inputs["checkpoint"].digest,
            **(asking.lineage(known) if asking else {"training_datasets": known}),
            **({"imported": metadata["imported"]} if "imported" in metadata else {}),
            **({"unfinished": {"images": shown}} if shown is not None else {}),
        },
    )


# ----------------------------------------------------------------------------------------------- taken on the host


def admit(run: Run, job: Job, declarations: tuple[Declaration, ...], told: Mapping[str, Any]) -> dict[str, Any]:
    """The samples, read once, each of a seed that was asked for; where they come from is what the job says."""
    declaration = declarations[0]
    checkpoint, metadata = opened_checkpoint(run, job, declaration)
    asking = asking_of(run, job, declaration, metadata)
    described = _described(declaration, job, metadata, images_shown(checkpoint), asking)
    rows = [_row(seed, asking) for seed in iterate_seeds(parse_seeds(job.options["seeds"]))]
    wanted = [Sample(row["id"], row["split"], None, None, row["seed"], "", asked=row.get("asked")) for row in rows]
    with outputs_of(run):
        digest, keys = receive(run.dataset, described, wanted)
        if asking:
            _check_asked(Dataset(run.dataset), asking)
    return {
        "outputs": {"dataset": {"kind": "dataset", "digest": digest, "n_samples": len(wanted)}},
        "corrected": [f"{', '.join(keys)} in {DESCRIPTION}"] if keys else [],
    }


def _check_asked(made: Dataset, asking: Asking) -> None:
    for start in range(0, len(made), _SAMPLES_PER_WRITE):
        rows = made.samples[start : start + _SAMPLES_PER_WRITE]
        for row, labels in zip(rows, made.read(range(start, start + len(rows)))[1], strict=True):
            asking.check(row.seed or 0, labels)
