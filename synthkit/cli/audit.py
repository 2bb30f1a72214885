"""``audit-memorization``: are there copies of training images, and would this audit have found them?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from synthkit.cli import options as common
from synthkit.errors import DataError, GateFailedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synthkit.cli.console import Console
    from synthkit.data.dataset import Dataset

#: The page that an audit leaves in its run folder.
AUDIT_PAGE = "audit.html"


def audit_memorization(
    real: Annotated[
        Path, typer.Argument(metavar="REAL", help="The dataset that the generator was trained on, with its holdout.")
    ],
    synthetic: Annotated[Path, typer.Argument(metavar="SYNTHETIC", help="The samples to audit.")],
    out: common.Out,
    holdout: Annotated[
        Path | None,
        typer.Option(
            "--holdout",
            metavar="DATASET",
            help="Real subjects never trained on, if REAL has no holdout.",
            show_default=False,
        ),
    ] = None,
    policy: Annotated[
        Path | None, typer.Option("--policy", metavar="TOML", help="What passes and what fails.", show_default=False)
    ] = None,
    features: common.FeaturesFile = None,
    metric: Annotated[str, typer.Option("--metric", metavar="NAME", help="The audit's method.")] = "memorization",
    also_train: Annotated[
        list[Path] | None,
        typer.Option(
            "--also-train",
            metavar="DATASET",
            help="Another dataset that the generator was trained on; repeatable.",
            show_default=False,
        ),
    ] = None,
    accept_other_training_set: Annotated[
        bool,
        typer.Option(
            "--accept-other-training-set", help="Audit although the lineage names other training sets than those given."
        ),
    ] = False,
    param: common.Params = None,
    params: common.ParamsFile = None,
    backend: common.BackendName = None,
    gpus: common.Gpus = None,
    cpus: common.Cpus = None,
    memory: common.Memory = None,
    timeout: common.Timeout = None,
    resume: common.Resume = False,
    overwrite: common.Overwrite = False,
    dry_run: common.DryRun = False,
    json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """Find copies of training images.

    Exits with 10 unless the verdict is pass.
    """
    from dataclasses import asdict

    from synthkit.judging.policy import Policy, load_policy
    from synthkit.registry.parameters import make_params, params_to_dict, parse_assignments
    from synthkit.registry.registry import discover
    from synthkit.report.report import write_audit_page
    from synthkit.running.run import Job

    console = common.console_for(json, quiet)
    declaration = discover().audit(metric)
    rules = load_policy(policy) if policy else Policy()
    train_set, train_input = common.dataset_input(real, ("train",))
    synthetic_set, synthetic_input = common.dataset_input(synthetic)
    train_sets, inputs = {real: train_set}, {"train": train_input, "synthetic": synthetic_input}
    for number, path in enumerate(also_train or (), start=2):
        dataset, inputs[f"train{number}"] = common.dataset_input(path)
        if dataset.digest in {other.digest for other in train_sets.values()}:
            raise UsageError(f"The training set {path} is given twice.", fix="Give each dataset once.")
        train_sets[path] = dataset
    for path, dataset in train_sets.items():
        if dataset.contrasts != synthetic_set.contrasts or dataset.size != synthetic_set.size:
            raise DataError(
                "The two datasets do not match.",
                f"{path} has {'/'.join(dataset.contrasts)} at {dataset.size}, {synthetic} has "
                f"{'/'.join(synthetic_set.contrasts)} at {synthetic_set.size}.",
                "Prepare the real subjects with the size and the contrasts of the synthetic images.",
            )
    lineage = synthetic_set.training_datasets
    if lineage:
        _check_training_sets(synthetic, lineage, train_sets, accept_other_training_set, console)
    elif imported := synthetic_set.lineage.get("imported"):
        console.note(
            f"Their generator was imported ({imported['file']}), its training data are unknown: the audit shows only "
            "what they copy from REAL."
        )
    else:
        console.note("The synthetic images are of unknown origin: the audit shows only what they copy from REAL.")
    if holdout is not None:
        holdout_set, inputs["holdout"] = common.dataset_input(holdout)
        _check_never_trained_on(holdout, holdout_set.training_part().subjects, lineage)
    elif len(train_set.select("holdout")):
        inputs["holdout"] = common.dataset_input(real, ("holdout",))[1]
        _check_never_trained_on(real, train_set.select("holdout").subjects, lineage)
    if features is not None:
        if "features" not in declaration.optional_roles:
            raise UsageError(f"{declaration.name} uses no feature network.", fix="Leave --features out.")
        inputs["features"] = common.file_input(features)
    job = Job(
        verb="audit-memorization",
        plugins=(declaration.name,),
        params=params_to_dict(make_params(declaration, parse_assignments(param or (), params))),
        inputs=inputs,
        options={"policy": asdict(rules), "lineage": "known" if lineage else "unknown"},
    )
    options = common.RunOptions(backend, gpus, cpus, memory, timeout, resume, overwrite, dry_run)
    title = f"audit {len(synthetic_set):,}"
    run, result = common.run_job(out, job, [declaration], options, console, title)
    verdict = result["verdict"]
    document = {"run": str(run.path), "result": result}
    # Tail quantiles and the single planted copies are for the page; the run has said in a sentence what it would find.
    shown = [s for s in result["scores"] if not {"quantile", "planted"} & set(s["of"])]
    common.print_scores(console, {"scores": shown})
    console.print(f"Verdict: {verdict['outcome']}", style="bold green" if verdict["outcome"] == "pass" else "bold red")
    for reason in verdict["reasons"]:
        console.print(f"  {reason}")
    if verdict["not_proven"]:
        console.print("Not proven:")
        for line in verdict["not_proven"]:
            console.print(f"  {line}")
    page = run.path / AUDIT_PAGE
    write_audit_page(run.path, page)
    console.print(f"The worst pairs side by side, real patients' images, not to be passed on: {page}")
    passed = verdict["outcome"] == "pass"
    console.ending(
        f"synthkit release {synthetic} --audit {run.path} -o release"
        if passed
        else f"synthkit report {run.path} -o report.html",
        declaration.citations,
    )
    console.document(document)
    if not passed:
        raise GateFailedError(
            f"The audit's verdict is {verdict['outcome']}.",
            verdict["reasons"][0] if verdict["reasons"] else "",
            f"See {page} and {run.path / 'outputs' / 'matches.csv'}; do not pass the images on.",
        )


def _check_training_sets(
    synthetic: Path, lineage: list[dict[str, Any]], given: dict[Path, Dataset], accept: bool, console: Console
) -> None:
    """Refuse to audit against other datasets than all those that the generator was trained on.

    An image that was copied from a dataset which is not searched would pass; one that is searched in vain raises the
    null, and with it the thresholds.
    """
    from synthkit.data.lineage import original_digests

    wanted = original_digests(lineage)
    known = {*wanted, *(str(item["digest"]) for item in lineage)}
    found = {dataset.digest: path for path, dataset in given.items()}
    missing = [digest for digest in wanted if digest not in found]
    others = [str(path) for digest, path in found.items() if digest not in known]
    if not missing and not others:
        return
    if accept:
        console.warning(
            f"The lineage names other training sets ({len(missing)} of {len(wanted)} not searched, {len(others)} "
            "searched besides); audited all the same, as asked."
        )
        return
    if others:
        digests = ", ".join(digest[:19] for digest in wanted)
        raise DataError(
            f"{synthetic} was not made from {' and '.join(others)}.",
            f"Its lineage names {'the training set' if len(wanted) == 1 else 'the training sets'} {digests}.",
            "Give the datasets that its generator was trained on, or --accept-other-training-set.",
        )
    raise DataError(
        f"{synthetic} was made from {len(missing)} more training set{'s' if len(missing) > 1 else ''} than were given.",
        f"Copies of {', '.join(digest[:19] for digest in missing)} would not be found.",
        "Give each by --also-train, or --accept-other-training-set to search without them.",
        missing,
    )


def _check_never_trained_on(path: Path, subjects: Sequence[str], lineage: list[dict[str, Any]]) -> None:
    """Refuse a holdout that the generator has seen: it would hide the copies of its own subjects."""
    from synthkit.data.lineage import was_trained_on

    seen = [subject for subject in subjects if was_trained_on(subject, lineage)]
    if seen:
        raise DataError(
            f"The generator was trained on {len(seen)} of the {len(subjects)} held-out subjects of {path}.",
            "Thresholds from subjects that it has seen would hide its copies.",
            "Give real subjects that it was never trained on, or leave --holdout out.",
            seen[:20],
        )


COMMANDS = {"audit-memorization": audit_memorization}
