"""``train``, ``import-checkpoint``, ``generate``, ``segment``: commands that make runs of generators and segmenters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from synthkit.cli.options import PLUGIN_OPTIONS, RUN_OPTIONS, AskedLabels, Conditions, Given, Names, Out, Preset, shares


@shares(*PLUGIN_OPTIONS, *RUN_OPTIONS)
def train(
    given: Given,
    plugin: Annotated[
        str, typer.Argument(metavar="NAME", help="A generator or segmenter; `synthkit plugins` lists them.")
    ],
    datasets: Annotated[
        list[Path], typer.Argument(metavar="DATASET...", help="One or more datasets; their holdout is never used.")
    ],
    out: Out,
    validate_on: Annotated[
        Path | None,
        typer.Option(
            "--validate-on",
            metavar="DATASET",
            help="Real samples; a segmenter validates on a part of their subjects instead of on a part of its data.",
            show_default=False,
        ),
    ] = None,
    pretrained: Annotated[
        Path | None,
        typer.Option("--pretrained", metavar="FILE", help="Weights to begin with.", show_default=False),
    ] = None,
    initial: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="RUN",
            help="Begin with the weights of a run of the same plugin, or of its checkpoint (fine-tuning); its "
            "parameters hold, too, but for those given.",
            show_default=False,
        ),
    ] = None,
    preset: Preset = None,
) -> None:
    """Train a generator or a segmenter.

    With --resume and a larger kimg a generator that has finished is trained longer. The learning rate of edm and of
    segmenters follows the length of the training, so another one begins with their weights: --from.
    """
    from synthkit.running.verbs import train as verb

    console = given.console
    request = verb.ask(
        plugin,
        datasets,
        validate_on=validate_on,
        pretrained=pretrained,
        initial=initial,
        preset=preset,
        params=given.params,
        listener=console,
    )
    done, declaration = given.run(request, out), request.declarations[0]
    console.document(done.to_dict())
    console.print(f"Trained {declaration.name} in {done.result['seconds']:.0f} s: {done.run.path}")
    if declaration.kind == "generator":
        follow = f"synthkit generate {done.run.path} --seeds 0-999 -o data/synthetic"
    else:
        follow = f"synthkit segment {done.run.path} SUBJECTS -o predictions"
    console.ending(follow, declaration.citations)


@shares(
    *PLUGIN_OPTIONS, "backend", "cpus", "memory", "disk", "timeout", "resume", "overwrite", "dry_run", "json", "quiet"
)
def import_checkpoint(
    given: Given,
    plugin: Annotated[str, typer.Argument(metavar="NAME", help="The generator that the file is of.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that another project's training left.")],
    out: Out,
    contrasts: Annotated[
        str,
        typer.Option("--contrasts", metavar="LIST", help="Image channels, in the network's order.", show_default=False),
    ],
    labels: Annotated[
        str,
        typer.Option(
            "--labels", metavar="LABELS", help="Of the last channel: values, background 0 first, or a label scheme."
        ),
    ] = "brats2018",
) -> None:
    """Import a generator that was trained elsewhere.

    Code in the file is never executed. The file does not tell the order of its channels, nor what it was trained on.
    """
    from synthkit.running.verbs import import_checkpoint as verb
    from synthkit.schemes import Scheme, enumerated

    console = given.console
    channels = [name.strip() for name in contrasts.split(",")]
    request = verb.ask(plugin, file, contrasts=channels, labels=labels, params=given.params)
    done = given.run(request, out)
    console.document(done.to_dict())
    console.print(f"Imported {file.name}: {done.run.path}")
    scheme = Scheme.from_dict(request.job.options["scheme"])
    names = enumerated([f"{label.value} {label.name}" for label in scheme.labels])
    console.note(f"Its labels are {names}; --labels names another scheme.")
    console.note("What it was trained on is not known: an audit shows only what it copies from the data given to it.")
    console.ending(
        f"synthkit generate {done.run.path} --seeds 0-999 -o data/synthetic", request.declarations[0].citations
    )


@shares(*PLUGIN_OPTIONS, *RUN_OPTIONS)
def generate(
    given: Given,
    model: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run of `train` or `import-checkpoint`, or its checkpoint folder.")
    ],
    seeds: Annotated[
        str, typer.Option("--seeds", metavar="LIST", help="Seeds, one sample each: 0-999,2000.", show_default=False)
    ],
    out: Out,
    shard: Annotated[
        str | None,
        typer.Option(
            "--shard", metavar="I/N", help="Only part I of N of the seeds, for jobs side by side.", show_default=False
        ),
    ] = None,
    snapshot: Annotated[
        str | None,
        typer.Option(
            "--snapshot",
            metavar="KIMG",
            help="What a training had learned before its end: latest, or after so many thousand images.",
            show_default=False,
        ),
    ] = None,
    labels: AskedLabels = None,
    condition: Conditions = None,
) -> None:
    """Draw synthetic samples, one per seed.

    Of generators that offer it, samples can be asked for by label maps and by conditions.
    """
    from synthkit.running.listening import counted
    from synthkit.running.verbs import generate as verb
    from synthkit.running.verbs.asking import parse_conditions

    console = given.console
    request = verb.ask(
        model,
        seeds,
        shard=shard,
        snapshot=snapshot,
        labels=labels,
        conditions=parse_conditions(condition or ()),
        params=given.params,
        listener=console,
    )
    done = given.run(request, out)
    n_samples = done.result["outputs"]["dataset"]["n_samples"]
    console.document(done.to_dict())
    console.print(f"Generated {counted(n_samples, 'sample')} in {done.result['seconds']:.0f} s: {done.run.path}")
    console.ending(
        f"synthkit audit-memorization DATASET {done.run.path} -o runs/audit", request.declarations[0].citations
    )


@shares(*PLUGIN_OPTIONS, *RUN_OPTIONS)
def segment(
    given: Given,
    model: Annotated[Path, typer.Argument(metavar="RUN", help="A `train` run of a segmenter.")],
    subjects: Annotated[
        Path, typer.Argument(metavar="SUBJECTS", help="Folder of subjects (NIfTI), in any known layout.")
    ],
    out: Out,
    only: Annotated[
        str | None,
        typer.Option("--only", metavar="ID[,ID...]", help="Segment these subjects only.", show_default=False),
    ] = None,
    names: Names = None,
    include_training_subjects: Annotated[
        bool,
        typer.Option("--include-training-subjects", help="Also those that the model was trained on, directly or not."),
    ] = False,
    keep_probabilities: Annotated[
        bool,
        typer.Option("--keep-probabilities", help="Also write each label's probability, in outputs/probabilities."),
    ] = False,
    resample: Annotated[
        bool,
        typer.Option("--resample", help="Resample subjects to the voxel size of the training images, and labels back."),
    ] = False,
) -> None:
    """Segment subjects into NIfTI labels.

    Labels are written in each subject's own grid and affine. Subjects that the model was trained on, directly or
    through synthetic images, are left out.
    """
    from synthkit.running.listening import counted
    from synthkit.running.verbs import segment as verb

    console = given.console
    request = verb.ask(
        model,
        subjects,
        only=only.split(",") if only else None,
        names=names or (),
        include_training_subjects=include_training_subjects,
        keep_probabilities=keep_probabilities,
        resample=resample,
        params=given.params,
        listener=console,
    )
    done = given.run(request, out)
    n = len(request.job.options["subjects"])
    console.document(done.to_dict())
    console.print(f"Segmented {counted(n, 'subject')} in {done.result['seconds']:.0f} s: {done.run.predictions}")
    console.ending(
        f"synthkit evaluate dice hausdorff surface-dice --reference {subjects} --prediction {done.run.path} "
        "-o runs/eval",
        request.declarations[0].citations,
    )


COMMANDS = {"train": train, "import-checkpoint": import_checkpoint, "generate": generate, "segment": segment}
