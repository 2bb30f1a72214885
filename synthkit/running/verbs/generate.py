"""``generate``: synthetic samples, one a seed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synthkit import events
from synthkit.contract import Declaration
from synthkit.data.dataset import Dataset
from synthkit.data.writer import DatasetWriter
from synthkit.errors import DataError, PluginError
from synthkit.registry.parameters import make_params, params_to_dict
from synthkit.registry.registry import discover, load_module
from synthkit.running.request import Request
from synthkit.running.run import Job, Run
from synthkit.running.verbs.boundary import call, opened_checkpoint, yielded
from synthkit.running.verbs.inputs import checkpoint_input, resolved_params
from synthkit.running.verbs.seeds import count_seeds, format_seeds, iterate_seeds, parse_seeds, take_shard
from synthkit.schemes import Scheme

if TYPE_CHECKING:
    from synthkit.contract import UInt8Array

_SAMPLES_PER_WRITE = 16

# ------------------------------------------------------------------------------------------------ asked on the host


def ask(model: Path, seeds: str, *, shard: str | None = None, params: Mapping[str, Any] | None = None) -> Request:
    """The run that draws a sample for each seed.

    Parameters
    ----------
    model : a `train` or `import-checkpoint` run of a generator, or its checkpoint.
    seeds : such as ``"0-999,2000"``.
    shard : ``"3/8"`` for the third of eight parts of the seeds.
    params : parameters of the plugin, over those of the training.

    Raises :class:`UsageError` for seeds that cannot be, :class:`DataError` where there is no model.
    """
    ranges = parse_seeds(seeds)
    if shard is not None:
        ranges = take_shard(ranges, shard)
        seeds = format_seeds(ranges)
    metadata, item = checkpoint_input(model)
    declaration = discover().get(metadata["plugin"], "generator")
    job = Job(
        verb="generate",
        plugins=(declaration.name,),
        params=resolved_params(declaration, metadata, params),
        inputs={"checkpoint": item},
        options={"seeds": seeds},
    )
    return Request(job, (declaration,), f"generate {count_seeds(ranges):,}")


# -------------------------------------------------------------------------------------------------- done in the run


def do(run: Run, job: Job, declarations: tuple[Declaration, ...]) -> dict[str, Any]:
    """Draw the samples that are not there yet; what ``result.json`` gets of it."""

    declaration = declarations[0]
    checkpoint, metadata = opened_checkpoint(run, job, declaration)
    params = make_params(declaration, {**metadata["params"], **job.params})
    ranges = parse_seeds(job.options["seeds"])
    total = count_seeds(ranges)
    module = load_module(declaration)
    writer = DatasetWriter(
        run.dataset,
        contrasts=metadata["contrasts"],
        scheme=Scheme.of_record(metadata),
        size=tuple(metadata["size"]),
        kind="synthetic",
        protocol=metadata.get("protocol"),
        provenance={"plugin": declaration.name, "params": params_to_dict(params), "seeds": job.options["seeds"]},
        lineage={
            "generator": declaration.name,
            "checkpoint_digest": job.inputs["checkpoint"].digest,
            "training_datasets": metadata["training_datasets"],
            **({"imported": metadata["imported"]} if "imported" in metadata else {}),
        },
        resume=True,
    )
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
            rows = [{"id": f"seed{s:08d}", "split": "synthetic", "seed": s} for s in seeds[first : first + len(images)]]
            try:
                writer.append(np.stack(images), np.stack(labels), rows)
            except (DataError, ValueError) as error:
                raise PluginError(f"{declaration.name} made a sample that does not fit.", f"{error}") from error
            first += len(images)
            images.clear()
            labels.clear()
            events.progress(len(done) + first, total, unit="sample")

        samples = call(declaration, module.generate, checkpoint, list(seeds), params) if seeds else ()
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
