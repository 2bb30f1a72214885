"""Every page shows one ratio for the same runs: that of judging/arms, in the digits that it prints."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console as RichConsole

from synthkit.cli import demo
from synthkit.cli.console import Console
from synthkit.cli.utility import _print
from synthkit.contract import Declaration
from synthkit.data.slices import SliceProtocol
from synthkit.judging.arms import compared_arms
from synthkit.judging.overlap_tables import OverlapTable
from synthkit.report.report import write_report
from synthkit.running.launch import Done
from synthkit.running.listening import LoggingListener
from synthkit.running.run import Job, Run, create_run, write_json
from synthkit.running.verbs.utility import UtilityRequest, measure_utility, plan_utility
from synthkit.schemes import BRATS
from synthkit.study.config import Study
from synthkit.study.plan import make_plan
from synthkit.study.report import write_report as write_study_report
from synthkit.study.step import digest_of_mark, mark_of, record_of

COLUMNS = ("subject", "region", "case", "dice", "hd95_pooled_mm", "surface_dice", "reference_voxels", "diagonal_mm")
REGIONS = ("NCR", "ED", "ET", "TC", "WT")
DIAGONAL_MM = 100.0

#: Subject and region to Dice; "empty" where neither has the region, "false" where the prediction alone has it.
Scores = Mapping[tuple[str, str], float | str]


def planted(synthetic: bool) -> Scores:
    """32 subjects, two without enhancing tumour: real finds all, synthetic has Dice 0.889 and strays in the two."""
    found: dict[tuple[str, str], float | str] = {}
    for number in range(32):
        for region in REGIONS:
            lacks = region == "ET" and number >= 30
            found[f"S{number:02}", region] = (
                ("false" if synthetic else "empty") if lacks else (8 / 9 if synthetic else 1.0)
            )
    return found


def random(seed: int, level: float) -> Scores:
    """Fifty subjects; regions that are missed, false, or in neither."""
    rng, references = np.random.default_rng(seed), np.random.default_rng(99)
    found: dict[tuple[str, str], float | str] = {}
    for number in range(50):
        for region in REGIONS:
            if references.random() < 0.2:
                found[f"S{number:02}", region] = "false" if rng.random() < 0.5 else "empty"
            else:
                found[f"S{number:02}", region] = 0.0 if rng.random() < 0.1 else float(rng.uniform(0.5, 1) * level)
    return found


CASES: dict[str, Callable[[str, int], Scores]] = {
    "planted": lambda arm, seed: planted(arm == "synthetic"),
    "random": lambda arm, seed: random(seed + 10 * (arm == "synthetic"), 0.8 if arm == "synthetic" else 1.0),
}
TRAININGS = {"planted": 2, "random": 3}


def rows_of(scores: Scores) -> list[dict[str, Any]]:
    """Rows as the metrics write them."""
    rows = []
    for (subject, region), value in scores.items():
        case = value if isinstance(value, str) else "both" if value else "missed"
        dice = "" if case == "empty" else 0.0 if isinstance(value, str) else value
        mm = "" if case == "empty" else 20 * (1 - dice) + 1 if case == "both" else DIAGONAL_MM
        voxels = 0 if isinstance(value, str) else 9
        rows.append(dict(zip(COLUMNS, (subject, region, case, dice, mm, dice, voxels, DIAGONAL_MM), strict=True)))
    return rows


def table_of(scores: Scores) -> OverlapTable:
    return {(row["subject"], row["region"]): {k: str(v) for k, v in row.items()} for row in rows_of(scores)}


def finish_evaluation(path: Path, scores: Scores) -> None:
    """Outputs and result of a run of ``evaluate``: means as the metrics take them, a false region with Dice 0."""
    with (path / "outputs" / "overlap.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows_of(scores))
    found: list[dict[str, Any]] = []
    for name, column in (("dice", "dice"), ("surface_dice", "surface_dice"), ("hd95", "hd95_pooled_mm")):
        means = {}
        for region in REGIONS:
            values = [(r["subject"], r[column]) for r in rows_of(scores) if r["region"] == region]
            of = [{"subject": subject, "region": region} for subject, _ in values]
            found += [
                {"name": name, "value": None if v == "" else v, "of": o} for o, (_, v) in zip(of, values, strict=True)
            ]
            means[region] = float(np.mean([v for _, v in values if v != ""]))
        means["mean"] = float(np.mean([means[region] for region in REGIONS[:3]]))
        found += [{"name": f"{name}_mean", "value": value, "of": {"region": r}} for r, value in means.items()]
    finish(path, scores=found)


def finish(path: Path, **result: Any) -> None:
    base = {"contract": 1, "status": "succeeded", "exit_code": 0, "seconds": 1.0, "versions": {}, "machine": {}}
    write_json(path / "result.json", {**base, "warnings": [], "outputs": {}, **result})


@pytest.fixture(params=list(CASES))
def case(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def expected(case: str) -> dict[tuple[str, str], tuple[str, str, str]]:
    """By region and score: ratio, interval and mean in the digits that pages print."""
    tables = [[table_of(CASES[case](arm, k)) for k in range(TRAININGS[case])] for arm in ("real", "synthetic")]
    found = {}
    for item in compared_arms(*tables):
        assert item.comparison.ratio is not None and item.comparison.ratio_interval is not None
        low, high = item.comparison.ratio_interval
        assert low <= item.comparison.ratio <= high
        digits = 1 if item.score == "HD95 (mm)" else 3
        found[item.region, item.score] = (
            f"{item.comparison.ratio:.3f}", f"{low:.3f} to {high:.3f}", f"{item.comparison.synthetic:.{digits}f}",
        )  # fmt: skip
    if case == "planted":
        whole = {found[region, "Dice"][::2] for region in REGIONS if region != "ET"}
        assert whole == {("0.889", "0.889")}
        # What strays where the reference has none costs: SOME of the subjects have Dice 0.
        assert [found[region, "Dice"][0] for region in ("ET", "mean")] == ["0.833", "0.870"]
    return found


class Quiet(LoggingListener):
    def warning(self, text: str) -> None: ...


@pytest.fixture
def measured(case: str, tmp_path: Path, make_subject: Any) -> tuple[Path, dict[str, Any]]:
    """A folder with trainings and the runs of ``utility`` on them, and its document; the methods' part is given."""
    for name in sorted({subject for subject, _ in CASES[case]("real", 0)}):
        make_subject(tmp_path / "subjects", name, shape=(24, 20, 2))
    arms: dict[str, Sequence[Path]] = {"real": [], "synthetic": []}
    for arm in arms:
        for k in range(TRAININGS[case]):
            run = create_run(tmp_path / "runs" / f"{arm}-{k}", Job(verb="train", plugins=("unet",)))
            run.checkpoint.mkdir()
            data = {"kind": arm, "digest": f"sha256:{arm}", "n_samples": 10, "subject_keys": [], "name": arm}
            metadata = {
                "kind": "segmenter", "plugin": "unet", "params": {"seed": k}, "contrasts": ["t1"], "size": [32, 32],
                "labels": BRATS.label_values,
                "protocol": SliceProtocol(contrasts=("t1",), size=32).to_dict(), "training_datasets": [data],
            }  # fmt: skip
            write_json(run.checkpoint / "synthkit.json", metadata)
            digest = {"checkpoint": {"kind": "checkpoint", "digest": f"sha256:{arm}-{k}"}}
            finish(run.path, outputs=digest)
            arms[arm] = [*arms[arm], run.path]

    def start(folder: Path, job: Job, declarations: Sequence[Declaration], title: str) -> None:
        run = create_run(folder, job)
        if job.verb == "segment":
            run.predictions.mkdir()
            finish(folder)
        else:
            arm, number = folder.parent.name.split("-")
            finish_evaluation(folder, CASES[case](arm, int(number) - 1))

    request = UtilityRequest(tmp_path / "subjects", tmp_path / "runs" / "utility", arms)
    return tmp_path / "runs", measure_utility(plan_utility(request, Quiet()), start, Quiet())


def numbers_in(text: str) -> str:
    """Visible text of a page in one line."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)))


def test_means_are_those_of_evaluate(measured: tuple[Path, dict[str, Any]]) -> None:
    folder, document = measured
    for row in document["comparisons"]:
        name = {"Dice": "dice_mean", "NSD": "surface_dice_mean", "HD95 (mm)": "hd95_mean"}[row["score"]]
        for arm in ("real", "synthetic"):
            results = sorted((folder / "utility").glob(f"{arm}-*/evaluate/result.json"))
            scores = [score for path in results for score in json.loads(path.read_text())["scores"]]
            means = [s["value"] for s in scores if s["name"] == name and s["of"] == {"region": row["region"]}]
            assert row[arm] == pytest.approx(np.mean(means)), (row["region"], name)


def test_utility(measured: tuple[Path, dict[str, Any]], expected: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    document = measured[1]
    rows = {(row["region"], row["score"]): row for row in document["comparisons"]}
    assert rows.keys() == expected.keys()
    for key, row in rows.items():
        ratio, interval, _ = expected[key]
        assert (f"{row['ratio']:.3f}", f"{row['ratio_low']:.3f} to {row['ratio_high']:.3f}") == (ratio, interval)
    out = io.StringIO()
    monkeypatch.setattr(Console, "_out", lambda self: RichConsole(file=out, width=250))
    _print(document, Console())
    printed = re.sub(r"\s+", " ", out.getvalue())
    for (region, score), (ratio, interval, mean) in expected.items():
        assert f"{ratio} ({interval})" in printed
        if score == "Dice":
            whose = "the mean of labels" if region == "mean" else region
            assert f"of {mean} for {whose}, against" in printed and f"a ratio of {ratio} (95 %" in printed


def test_report(measured: tuple[Path, dict[str, Any]], expected: Any, case: str, tmp_path: Path) -> None:
    write_report([measured[0]], tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text()
    text = numbers_in(html)
    for (region, score), (ratio, interval, mean) in expected.items():
        title = {"Dice": "Dice", "NSD": "NSD (surface Dice)", "HD95 (mm)": "HD95 in mm"}[score]
        table = html[html.index(f"<h3>{title}</h3>") :]
        group = numbers_in(table[table.index(f">{region}</th><td>") :].split("</tbody>")[0])
        row = group[group.index("synthetic") :].strip()
        assert re.search(rf" {mean} (\S+ to \S+ )?\d+ {ratio} {interval} ", row), row
    ratio, interval, mean = expected["mean", "Dice"]
    assert f"a ratio of {ratio} ({interval}) to training on real data" in text and f"mean Dice of {mean}" in text
    assert f"ratio to real {ratio}" in text and f"Mean Dice, trained on synthetic {mean}" in text
    if case == "planted":
        # The mean is that of evaluate, in which a stray voxel counts as 0; the strays are beside the ratio.
        assert "mean as scored" not in text and "it also found 2.0 of 2 regions" in text
        assert re.search(r"0\.833 \S+ to \S+ 0 2 of 2", text)


def test_demo(expected: Any, case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo's table and ``demo.json``, with steps that only leave their files."""
    if case == "random":
        pytest.skip("the demo has one training an arm: here those of an arm are alike")

    def step(self: Any, function: str, **arguments: Any) -> Done:
        folder = Path(arguments["out"])
        if function == "evaluate":
            create_run(folder, Job(verb="evaluate", plugins=("dice", "hausdorff")))
            finish_evaluation(folder, CASES[case](folder.name.removeprefix("evaluate-"), 0))
        return Done(Run(folder), {"verdict": {"outcome": "pass", "reasons": ["No copies."]}, "scores": []})

    out = io.StringIO()
    monkeypatch.setattr(demo, "_check_installed", lambda: None)
    monkeypatch.setattr(demo._Demo, "step", step)
    monkeypatch.setattr(demo, "_trained_on_another", lambda checkpoint, real: False)
    monkeypatch.setattr(demo, "write_story", lambda out, **told: None)
    monkeypatch.setattr(Console, "_out", lambda self: RichConsole(file=out, width=250))
    demo.run_demo(tmp_path / "demo", Console(quiet=True))
    summary = json.loads((tmp_path / "demo" / "demo.json").read_text())
    shown = {row["region"]: (f"{row['ratio']:.3f}", f"{row['synthetic']:.3f}") for row in summary["dice"]}
    assert shown == {region: (x[0], x[2]) for (region, score), x in expected.items() if score == "Dice"}
    assert next(row["n_false"] for row in summary["dice"] if row["region"] == "ET") == 2 and summary["warnings"]
    # One training an arm has no interval, and the demo says so.
    assert re.search(r"ET\s+1.000\s+0.833\s+0.833\s+32\s+2 of 2", out.getvalue())
    assert "An arm has one training" in " ".join(summary["warnings"])
    assert summary["audits"]["faithful"]["verdict"] == "pass" and "No copies." in out.getvalue()


def test_study(expected: Any, case: str, tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(
        f'[data]\nsubjects = "subjects"\nsize = 32\n[generators.stylegan2]\n[segmenters.unet]\n[arms]\nboth = false\n'
        f"seeds = {TRAININGS[case]}\n[metrics]\nfidelity = []\n[audit]\nenabled = false\n"
    )
    study = Study.load(tmp_path)
    for arm, folder in (("real", "real"), ("synthetic", "stylegan2")):
        for k in range(TRAININGS[case]):
            run = create_run(
                tmp_path / "segmenters/unet" / folder / "augmented" / f"seed-{k}" / "evaluate",
                Job(verb="evaluate", plugins=("dice", "hausdorff", "surface-dice")),
            )
            finish_evaluation(run.path, CASES[case](arm, k))
    for step in make_plan(study).steps:
        if (tmp_path / step.out).exists():
            inputs = {other: digest_of_mark(tmp_path, other) for other in step.after}
            record = {"command": list(step.command), "status": "done", "inputs": inputs}
            for path, content in ((mark_of(step.name), {"step": step.name}), (record_of(step.name), record)):
                (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
                write_json(tmp_path / path, content)
    html = write_study_report(tmp_path, study).read_text()
    with (tmp_path / "tables" / "utility.csv").open() as file:
        rows = {row["region"]: row for row in csv.DictReader(file) if row["arm"] == "stylegan2"}
    tex = (tmp_path / "tables" / "utility.tex").read_text()
    for region in rows:
        ratio, interval, mean = expected[region, "Dice"]
        row = rows[region]
        assert f"{float(row['ratio']):.3f}" == ratio and f"{float(row['dice']):.3f}" == mean
        assert f"{float(row['ratio_low']):.3f} to {float(row['ratio_high']):.3f}" == interval
        assert re.search(rf"stylegan2 & {region} & {mean}.* & {ratio} & {interval} &", tex)
    ratio, interval, mean = expected["mean", "Dice"]
    page = numbers_in(html)
    assert f"the best reached {ratio} of the Dice of real images (95 % interval {interval})" in page
    assert f" {ratio} {interval} " in page and f"{mean}" in page
    figure = (tmp_path / "figures" / "ratio.svg").read_text()
    assert f"stylegan2: {ratio} ({interval})" in figure
    if case == "planted":
        assert "2.0 of 2" in page and json.loads(json.dumps(rows["ET"]))["n_without"] == "2"
