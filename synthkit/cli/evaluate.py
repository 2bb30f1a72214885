"""``evaluate``: numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synthkit.cli.options import PLUGIN_OPTIONS, RUN_OPTIONS, FeaturesFile, Given, Labels, Names, Out, shares

if TYPE_CHECKING:
    from synthkit.running.request import Request

PredictionGrid = Annotated[
    str,
    typer.Option(
        "--prediction-grid",
        metavar="GRID",
        help="own, or reference: predictions saved without their affine are on the grid of the reference.",
    ),
]

PredictionLabels = Annotated[
    str | None,
    typer.Option(
        "--prediction-labels",
        metavar="SCHEME",
        help="The same of the prediction. Default: its run or table says it, else the reference's.",
        show_default=False,
    ),
]

Kept = Annotated[
    Path | None,
    typer.Option(
        "--kept",
        metavar="RUN",
        help="A run with --keep of the same metrics, --real, --features and parameters: nothing is computed twice.",
        show_default=False,
    ),
]

Protocol = Annotated[
    str | None,
    typer.Option(
        "--protocol",
        metavar="NAME",
        help="akbar2024: predictions are scored as in the study, on its slices and by its rules.",
        show_default=False,
    ),
]


@shares(*PLUGIN_OPTIONS, *RUN_OPTIONS)
def evaluate(
    given: Given,
    metrics: Annotated[list[str], typer.Argument(metavar="METRIC...", help="`synthkit plugins` lists them.")],
    out: Out,
    reference: Annotated[
        Path | None,
        typer.Option(
            "--reference", metavar="SUBJECTS", help="Subjects with labels, or label volumes.", show_default=False
        ),
    ] = None,
    prediction: Annotated[
        Path | None,
        typer.Option("--prediction", metavar="RUN", help="A `segment` run, or label volumes.", show_default=False),
    ] = None,
    real: Annotated[
        Path | None, typer.Option("--real", metavar="DATASET", help="Real samples.", show_default=False)
    ] = None,
    synthetic: Annotated[
        Path | None, typer.Option("--synthetic", metavar="DATASET", help="Synthetic samples.", show_default=False)
    ] = None,
    names: Names = None,
    labels: Labels = None,
    prediction_labels: PredictionLabels = None,
    prediction_grid: PredictionGrid = "own",
    features: FeaturesFile = None,
    kept: Kept = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Score nothing; keep what scores need of --real, for --kept of later runs.")
    ] = False,
    protocol: Protocol = None,
    include_training_subjects: Annotated[
        bool, typer.Option("--include-training-subjects", help="Score subjects that the segmenter was trained on, too.")
    ] = False,
) -> None:
    """Score predictions, or synthetic samples.

    Predictions are compared with a --reference, --synthetic samples with --real ones.

    Metrics of one package share a run; those of several make one run each, in folders below -o.
    """
    from synthkit.running.verbs import evaluate as verb

    roles = {"reference": reference, "prediction": prediction, "real": real, "synthetic": synthetic}
    requests = verb.ask(
        metrics,
        {**roles, "features": features, "kept": kept},
        protocol=protocol,
        include_training_subjects=include_training_subjects,
        prediction_grid=prediction_grid,
        names=names or (),
        labels=labels,
        prediction_labels=prediction_labels,
        keep=keep,
        params=given.params,
        listener=given.console,
    )
    _run_and_show(given, requests, out, f"--real {real} --synthetic DATASET --kept {out} -o RUN" if keep else "")


def _run_and_show(given: Given, requests: list[Request], out: Path, with_kept: str) -> None:
    from synthkit.cli.scores import print_scores
    from synthkit.running.request import citations_of

    console, documents = given.console, []
    for done, request in zip(given.run_all(requests, out), requests, strict=True):
        documents.append(done.to_dict())
        print_scores(console, done.result)
        done_what = "Scored" if done.result["scores"] else "Kept for later runs (--kept) of"
        console.print(f"{done_what} {', '.join(request.job.plugins)}: {done.run.path}")
    console.document(documents[0] if len(documents) == 1 else {"runs": documents})
    metrics = [name for request in requests for name in request.job.plugins]
    following = f"synthkit evaluate {' '.join(metrics)} {with_kept}" if with_kept else ""
    console.ending(following or f"synthkit report {out} -o report.html", citations_of(metrics))


COMMANDS = {"evaluate": evaluate}
