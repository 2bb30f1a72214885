"""``audit-memorization``: are there copies of training images, and would this audit have found them?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synthkit import api
from synthkit.cli.options import PLUGIN_OPTIONS, RUN_OPTIONS, FeaturesFile, Given, Out, shares

if TYPE_CHECKING:
    from synthkit.cli.console import Console
    from synthkit.contract import Declaration
    from synthkit.running.launch import Done

AlsoTrain = Annotated[
    list[Path] | None,
    typer.Option(
        "--also-train",
        metavar="DATASET",
        help="Another dataset that the generator was trained on; repeatable.",
        show_default=False,
    ),
]
AcceptOther = Annotated[
    bool,
    typer.Option(
        "--accept-other-training-set", help="Audit although the lineage names other training sets than those given."
    ),
]


@shares(*PLUGIN_OPTIONS, *RUN_OPTIONS)
def audit_memorization(
    given: Given,
    real: Annotated[
        Path, typer.Argument(metavar="REAL", help="The dataset that the generator was trained on, with its holdout.")
    ],
    synthetic: Annotated[Path, typer.Argument(metavar="SYNTHETIC", help="The samples to audit.")],
    out: Out,
    holdout: Annotated[
        Path | None,
        typer.Option(
            "--holdout",
            metavar="DATASET",
            help="Real subjects never trained on, if REAL has no holdout.",
            show_default=False,
        ),
    ] = None,
    control: Annotated[
        Path | None,
        typer.Option(
            "--control",
            metavar="RUN",
            help="Samples of the same model with the label maps of --holdout: how near it comes to whom it never saw.",
            show_default=False,
        ),
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(
            "--policy",
            metavar="TOML",
            help="File with the rules of the verdict. Default: no copies of anybody.",
            show_default=False,
        ),
    ] = None,
    features: FeaturesFile = None,
    metric: Annotated[str, typer.Option("--metric", metavar="NAME", help="The audit plugin.")] = "memorization",
    also_train: AlsoTrain = None,
    accept_other_training_set: AcceptOther = False,
) -> None:
    """Find copies of training images.

    Exits with 10 if the verdict is fail, and with 12 if it is insufficient evidence.
    """
    from synthkit.running.verbs import audit_memorization as verb

    request = verb.ask(
        real,
        synthetic,
        holdout=holdout,
        control=control,
        policy=policy,
        features=features,
        metric=metric,
        also_train=also_train or (),
        accept_other_training_set=accept_other_training_set,
        params=given.params,
        listener=given.console,
    )
    _show(given.run(request, out), synthetic, request.declarations[0], given.console)


def _show(done: Done, synthetic: Path, declaration: Declaration, console: Console) -> None:
    """Print scores, verdict and page; raise an error unless the verdict is pass."""
    from synthkit.cli.scores import print_scores
    from synthkit.judging.verdict import ENDS

    run, result = done.run, done.result
    verdict = result["verdict"]
    passed = verdict["outcome"] == "pass"
    for line in verdict.get("weaker", ()):
        console.print(line, style="bold red")
    # Tail quantiles and the single planted copies are for the page; the run has said in a sentence what it would find.
    shown = [s for s in result["scores"] if not {"quantile", "planted"} & set(s["of"])]
    # Long tables are cut: rows with copies come first.
    copied = {tuple(s["of"].items()) for s in shown if s["name"] == "n_copies" and s["value"]}
    print_scores(console, {"scores": sorted(shown, key=lambda s: tuple(s["of"].items()) not in copied)})
    console.print(f"Verdict: {verdict['outcome']}", style="bold green" if passed else "bold red")
    for reason in verdict["reasons"]:
        console.print(f"  {reason}")
    if verdict["not_proven"]:
        console.print("Not proven:")
        for line in verdict["not_proven"]:
            console.print(f"  {line}")
    page = api.audit_page(done)
    if result.get("seal"):
        console.print(f"Seal of this audit: {result['seal']['digest']}")
    console.print(f"The worst pairs side by side, real patients' images, not to be passed on: {page}")
    release, report = f"release {synthetic} --audit {run.path} -o release", f"report {run.path} -o report.html"
    console.ending(f"synthkit {release if passed else report}", declaration.citations)
    console.document(done.to_dict())
    if not passed:
        raise ENDS[verdict["outcome"]](
            f"The audit's verdict is {verdict['outcome']}.",
            verdict["reasons"][0] if verdict["reasons"] else "",
            f"See {page} and {run.path / 'outputs' / 'matches.csv'}; do not pass the images on.",
        )


COMMANDS = {"audit-memorization": audit_memorization}
