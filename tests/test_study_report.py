"""Report of a study on hand-made run folders whose numbers are known."""

from __future__ import annotations

import csv
import datetime
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from synthkit.judging.arms import PairedComparison
from synthkit.running.run import Job
from synthkit.study.config import Study
from synthkit.study.fidelity import FidelityNumber
from synthkit.study.plan import make_plan
from synthkit.study.report import write_report
from synthkit.study.results import Cell, StudyResults, gather
from synthkit.study.step import digest_of_mark, mark_of, record_of
from synthkit.testing import data

COLUMNS = ("subject", "region", "case", "dice", "hd95_pooled_mm", "surface_dice", "reference_voxels")


def run(
    path: Path,
    verb: Any,
    plugins: Sequence[str],
    *,
    status: str = "succeeded",
    seconds: float = 3600.0,
    scores: Sequence[Mapping[str, Any]] = (),
    result: bool = True,
    **more: Any,
) -> None:
    """A run folder with its job and, if wanted, its result."""
    (path / "outputs").mkdir(parents=True, exist_ok=True)
    job = Job(verb=verb, plugins=tuple(plugins), created="2026-01-01T00:00:00+00:00", synthkit="0.1.0")
    (path / "job.json").write_text(json.dumps(job.to_dict()))
    if result:
        document = {
            "contract": 1,
            "status": status,
            "seconds": seconds,
            "scores": list(scores),
            "versions": {"numpy": "2.0"},
            "machine": {},
            **more,
        }
        (path / "result.json").write_text(json.dumps(document))


def overlap(path: Path, dice: Mapping[tuple[str, str], float]) -> None:
    """Scores by subject and region; Dice 0 is a missed region, 100 mm away."""
    run(path, "evaluate", ("dice", "hausdorff", "surface-dice"), seconds=30)
    with (path / "outputs" / "overlap.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for (subject, region), value in dice.items():
            rest = ("both", value, 20 * (1 - value), 0.9 * value) if value else ("missed", 0.0, 100.0, 0.0)
            writer.writerow((subject, region, *rest, 10))


def audit(path: Path, outcome: str, rate: float) -> None:
    scores = [{"name": "copied_rate", "value": rate, "of": {}, "low": rate, "high": rate + 0.02, "n": 100}]
    scores += [{"name": name, "value": 0, "of": {}} for name in ("n_copies", "n_copied_subjects", "n_holdout_copies")]
    verdict = {"outcome": outcome, "reasons": [], "not_proven": []}
    run(path, "audit-memorization", ("memorization",), scores=scores, verdict=verdict)


def fidelity(path: Path, fid: float) -> None:
    scores = [{"name": "fid", "value": fid + add, "of": {"contrast": c}} for c, add in (("t1", -4), ("flair", 4))]
    run(path, "evaluate", ("fid",), scores=scores)


def dice_of(cell: Cell) -> PairedComparison:
    return next(item.comparison for item in cell.comparisons if item.score == "Dice")


def without_column(run: Path, column: str, case: str) -> None:
    """Blank a column of the rows of a case, as a protocol does that leaves out distances of missed regions."""
    path = run / "outputs" / "overlap.csv"
    rows = list(csv.DictReader(path.open()))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows({**row, **({column: ""} if row["case"] == case else {})} for row in rows)


SUBJECTS = [f"BraTS20_Training_{i:03d}" for i in range(4)]


def dice(value: float) -> dict[tuple[str, str], float]:
    return {(s, r): value for s in SUBJECTS for r in ("NCR", "ED", "ET", "TC", "WT")}


@pytest.fixture
def study(tmp_path: Path) -> Study:
    (tmp_path / "study.toml").write_text(
        '[study]\nname = "t"\n[data]\nsubjects = "subjects"\nsize = 32\n[generators.stylegan2]\n[generators.progan]\n'
        "[segmenters.unet]\n[arms]\nseeds = 3\nboth = false\n[metrics]\nfidelity = ['fid']\n"
    )
    return Study.load(tmp_path)


def seed(study: Study, arm: str, k: int) -> Path:
    return study.folder / "segmenters/unet" / arm / "augmented" / f"seed-{k}"


def fill(study: Study) -> None:
    for k, d in enumerate((0.7, 0.8, 0.9)):
        overlap(seed(study, "real", k) / "evaluate", dice(d))
        overlap(seed(study, "stylegan2", k) / "evaluate", dice(d))
    overlap(seed(study, "progan", 0) / "evaluate", dice(0.4))
    overlap(seed(study, "progan", 1) / "evaluate", dice(0.4))
    audit(study.folder / "generators/stylegan2/audit", "pass", 0.0)
    fidelity(study.folder / "generators/stylegan2/fidelity", 30)


def note(study: Study) -> None:
    """Leave the notes that `study run` leaves, for every step whose run is there."""
    for step in make_plan(study).steps:
        if not (study.folder / step.out).exists():
            continue
        results = [path.read_text() for path in (study.folder / step.out).rglob("result.json")]
        status = "done" if results or step.kind == "prepare" else "running"
        if any('"failed"' in text for text in results):
            status = "failed"
        inputs = {other: digest_of_mark(study.folder, other) for other in step.after}
        record = {"command": list(step.command), "status": status, "inputs": inputs, "exit_code": 1}
        for path, content in ((mark_of(step.name), {"step": step.name}), (record_of(step.name), record)):
            (study.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (study.folder / path).write_text(json.dumps(content))


def numbers_of(study: Study) -> StudyResults:
    note(study)
    return gather(study.folder, study)


def page_of(study: Study) -> str:
    note(study)
    return write_report(study.folder, study).read_text()


def edited(study: Study, old: str, new: str) -> Study:
    """The study after its file was edited; notes and runs stay as they were."""
    file = study.folder / "study.toml"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    return Study.load(study.folder)


def cell_of(study: Study, arm: str, region: str = "mean") -> Cell:
    return next(c for c in numbers_of(study).cells if (c.arm, c.region) == (arm, region))


def test_what_another_study_toml_has_left_is_not_shown(study: Study) -> None:
    fill(study)
    audit(study.folder / "generators/progan/audit", "fail", 0.5)
    run(study.folder / "generators/stylegan2/train", "train", ("stylegan2",), seconds=7200)
    run(study.folder / "generators/stylegan2/samples", "generate", ("stylegan2",))
    for k in range(3):
        run(seed(study, "stylegan2", k) / "train", "train", ("unet",))
        run(seed(study, "stylegan2", k) / "segment", "segment", ("unet",))
    assert "out of date" not in page_of(study) and "0.800" in page_of(study)
    study = edited(study, "[generators.stylegan2]", "[generators.stylegan2]\nparams = { kimg = 9.9 }")
    page, numbers = write_report(study.folder, study).read_text(), gather(study.folder, study)
    assert {c.arm for c in numbers.cells} == {"real", "progan"}
    assert "Not complete" in page and "are out of date and left out: train-stylegan2" in page
    assert numbers.generators[0].audit is None and numbers.generators[0].fidelity == {}
    assert "training generators" not in [cost.what for cost in numbers.costs]
    assert not any("stylegan" in citation.text.lower() for citation in numbers.citations)


def test_what_is_no_part_of_the_plan_is_not_counted(study: Study) -> None:
    fill(study)
    run(study.folder / "generators/progan/train", "train", ("progan",), seconds=7200)
    run(study.folder / "generators/progan/samples", "generate", ("progan",), status="failed")
    page_of(study)
    assert (study.folder / "figures/fidelity-unet-augmented.svg").is_file()
    study = edited(study, "[generators.progan]\n", "")
    numbers = gather(study.folder, study)
    assert numbers.n_runs == 8 and {c.arm for c in numbers.cells} == {"real", "stylegan2"}
    assert "failed" not in numbers.left and "training generators" not in [cost.what for cost in numbers.costs]
    study = edited(study, "fidelity = ['fid']", "fidelity = []")
    assert "progan" not in write_report(study.folder, study).read_text()
    assert [path.name for path in (study.folder / "figures").iterdir()] == ["ratio.svg"]


def test_a_step_that_failed_when_it_ran_again_shows_nothing_of_before(study: Study) -> None:
    fill(study)
    audit(study.folder / "generators/progan/audit", "pass", 0.0)
    note(study)
    record = study.folder / record_of("audit-progan")
    record.write_text(record.read_text().replace('"done"', '"failed"'))
    assert gather(study.folder, study).generators[1].audit is None
    assert "1 step failed: audit-progan." in write_report(study.folder, study).read_text()


def test_known_numbers(study: Study) -> None:
    fill(study)
    real, same, worse = (cell_of(study, a) for a in ("real", "stylegan2", "progan"))
    assert real.dice == pytest.approx(0.8) and real.dice_sd == pytest.approx(0.1) and not real.comparisons
    assert dice_of(same).ratio == pytest.approx(1)
    assert dice_of(worse).ratio == pytest.approx(0.5) and (worse.n_done, worse.n_planned) == (2, 3)
    assert dice_of(worse).ratio_interval is None  # four patients


def test_fidelity_scores_are_means_over_contrasts_without_joint(study: Study) -> None:
    sc = [{"name": "fid", "value": v, "of": {"contrast": c}} for c, v in (("t1", 10.0), ("t2", 20.0), ("joint", 300.0))]
    run(study.folder / "generators/stylegan2/fidelity", "evaluate", ("fid",), scores=sc)
    assert numbers_of(study).generators[0].fidelity["fid"].value == pytest.approx(15)


def test_a_distance_stands_beside_its_floor(study: Study) -> None:
    sc = [{"name": n, "value": v, "of": {"contrast": "t1"}} for n, v in (("fid", 9.0), ("fid_floor", 21.5))]
    sc[1] |= {"low": 17.25, "high": 25.75}
    run(study.folder / "generators/stylegan2/fidelity", "evaluate", ("fid",), scores=sc)
    assert numbers_of(study).generators[0].fidelity == {
        "fid": FidelityNumber(9.0, None, None, "lower"), "fid_floor": FidelityNumber(21.5, 17.25, 25.75, "neither")
    }  # fmt: skip
    page = page_of(study)
    assert "21.500 (17.250 to 25.750)" in page
    assert "fid,fid_low,fid_high,fid_floor" in (study.folder / "tables/fidelity.csv").read_text()
    assert "fid floor" in page and "21.5" in page and "A floor is what images of new people would have" in page


def test_two_feature_networks_are_not_averaged(study: Study) -> None:
    sc = [
        {"name": "fd", "value": v, "of": {"contrast": "t1", "features": f}} for f, v in (("a@1", 10.0), ("b@2", 90.0))
    ]
    run(study.folder / "generators/stylegan2/fidelity", "evaluate", ("fid",), scores=sc)
    assert numbers_of(study).generators[0].fidelity == {
        "fd[a@1]": FidelityNumber(10.0, None, None, "lower"), "fd[b@2]": FidelityNumber(90.0, None, None, "lower")
    }  # fmt: skip


def test_report_of_everything_missing(study: Study) -> None:
    assert "Not complete" in page_of(study)


def test_metrics_of_several_packages_lie_in_folders_of_their_own(study: Study) -> None:
    fill(study)
    out = seed(study, "progan", 0) / "evaluate"
    before = cell_of(study, "progan")
    for name in ("job.json", "result.json", "outputs"):
        (out / "overlap").mkdir(exist_ok=True)
        (out / name).rename(out / "overlap" / name)
    run(out / "another", "evaluate", ("their-metric",))
    assert cell_of(study, "progan") == before


def test_only_the_real_arm(study: Study) -> None:
    overlap(seed(study, "real", 0) / "evaluate", dice(0.8))
    assert "Not complete" in page_of(study)


def test_partial_report_says_so(study: Study) -> None:
    fill(study)
    run(seed(study, "progan", 2) / "train", "train", ("unet",), status="failed")
    page = page_of(study)
    assert "Not complete" in page and "1 step failed" in page and "progan is not audited" in page


def test_started_without_result_is_named(study: Study) -> None:
    fill(study)
    overlap(seed(study, "progan", 2) / "evaluate", dice(0.4))
    audit(study.folder / "generators/progan/audit", "pass", 0.0)
    run(study.folder / "generators/progan/fidelity", "evaluate", ("fid",), result=False)
    assert "Not complete" in page_of(study)


def test_damaged_result_is_tolerated(study: Study) -> None:
    fill(study)
    (seed(study, "progan", 0) / "evaluate/result.json").write_text("{")
    assert "is damaged" in page_of(study)


def test_missing_table_is_tolerated(study: Study) -> None:
    fill(study)
    (seed(study, "progan", 0) / "evaluate/outputs/overlap.csv").unlink()
    assert "cannot be read" in page_of(study)


def test_other_subjects_are_tolerated(study: Study) -> None:
    fill(study)
    overlap(seed(study, "progan", 1) / "evaluate", {k: v for k, v in dice(0.4).items() if k[0] != SUBJECTS[0]})
    assert "different subjects" in page_of(study)


def test_distances_that_a_protocol_leaves_out_are_no_mean(study: Study) -> None:
    fill(study)
    table = dice(0.4)
    table[SUBJECTS[0], "NCR"] = 0.0
    overlap(seed(study, "progan", 1) / "evaluate", table)
    assert cell_of(study, "progan", "NCR").hd95_mm == pytest.approx((12 + (100 + 3 * 12) / 4) / 2)
    without_column(seed(study, "progan", 1) / "evaluate", "hd95_pooled_mm", "missed")
    cell = cell_of(study, "progan", "NCR")
    assert cell.hd95_mm is None and cell.dice == pytest.approx(0.35) and cell.comparisons
    assert cell_of(study, "progan", "ED").hd95_mm == pytest.approx(12)
    page_of(study)


def test_missing_one_region_of_a_subject_does_not_improve_its_distance(study: Study) -> None:
    fill(study)
    table = dice(0.4)
    for subject in SUBJECTS:
        table[subject, "ET"] = 0.0
    for k in range(2):
        overlap(seed(study, "progan", k) / "evaluate", table)
    assert cell_of(study, "progan").hd95_mm == pytest.approx((12 + 12 + 100) / 3)
    for k in range(2):
        without_column(seed(study, "progan", k) / "evaluate", "hd95_pooled_mm", "missed")
    assert cell_of(study, "progan").hd95_mm is None  # and not 12, of NCR and ED
    assert cell_of(study, "progan", "ED").hd95_mm == pytest.approx(12)


def test_the_rules_of_a_protocol_are_stated(study: Study) -> None:
    fill(study)
    assert "by the protocol" not in page_of(study)
    for k in range(3):
        result = seed(study, "real", k) / "evaluate/result.json"
        protocol = {"name": "akbar2024", "policy": ["Missed regions have no distance."]}
        result.write_text(json.dumps({**json.loads(result.read_text()), "protocol": protocol}))
        for arm in ("stylegan2", "progan"):
            (seed(study, arm, k) / "evaluate/result.json").unlink(missing_ok=True)
    page = page_of(study)
    assert "by the protocol <code>akbar2024</code>" in page and "<li>Missed regions have no distance.</li>" in page
    assert "protocol akbar2024" in (study.folder / "tables/utility.tex").read_text()


@pytest.mark.parametrize(
    ("n_real", "n_synthetic", "n_patients", "caution"),
    [
        (1, 1, 60, "An arm has one training"),
        (3, 1, 60, "An arm has one training"),
        (3, 2, 4, "4 patients: no interval of a ratio, give at least 30."),
        (3, 2, 30, "30 patients: the upper ends of the intervals are too low if"),
        (3, 2, 60, ""),
    ],
)
def test_an_interval_stands_where_patients_and_trainings_suffice_or_the_page_says_what_is_missing(
    study: Study, n_real: int, n_synthetic: int, n_patients: int, caution: str
) -> None:
    for arm, n, value in (("real", n_real, 0.8), ("progan", n_synthetic, 0.4)):
        for k in range(n):
            scores = {(f"P{i:02d}", "ET"): value for i in range(n_patients)}
            overlap(seed(study, arm, k) / "evaluate", scores)
    page = page_of(study)
    over = "patients and trainings" if min(n_real, n_synthetic) > 1 and n_patients >= 30 else ""
    assert (f"95 % interval over {over}</th>" if over else "95 % interval</th>") in page
    rows = list(csv.DictReader((study.folder / "tables/utility.csv").open()))
    progan = next(row for row in rows if row["arm"] == "progan")
    assert (progan["interval_over"], progan["n_patients"]) == (over, str(n_patients))
    # In the page twice: beside the table and in the opening words.
    assert page.count(caution) == 2 if caution else "Caution" not in page
    assert caution in (study.folder / "tables/utility.tex").read_text()


def test_the_best_of_several_arms_was_chosen_afterwards(study: Study) -> None:
    fill(study)
    assert "chosen afterwards, of 2 such arms: its ratio is optimistic" in page_of(study)


def draw(study: Study, generator: str) -> None:
    """Samples of a generator, to be shown or not."""
    run(study.folder / f"generators/{generator}/samples", "generate", (generator,))
    target = study.folder / f"generators/{generator}/samples/outputs/dataset"
    shutil.copytree(data.real_dataset(2, 32).path, target)


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        ("pass", ""),
        ("fail", "the verdict of the audit is fail"),
        ("insufficient evidence", "the verdict of the audit is insufficient evidence"),
        ("", "not audited"),
    ],
)
def test_samples_are_shown_after_a_passed_audit_alone(study: Study, outcome: str, said: str) -> None:
    draw(study, "progan")
    if outcome:
        audit(study.folder / "generators/progan/audit", outcome, 0.0)
    page = page_of(study)
    assert ("data:image/png" in page) == (outcome == "pass") and said in page
    assert ("generators/progan/samples/outputs/dataset" in page) == bool(said)
    assert "can be passed on" not in page


def test_samples_of_a_study_without_audit_are_not_shown(study: Study) -> None:
    draw(study, "progan")
    audit(study.folder / "generators/progan/audit", "pass", 0.0)
    study = edited(study, "[metrics]", "[audit]\nenabled = false\n[metrics]")
    page = page_of(study)
    assert "data:image/png" not in page and "the audit is off in study.toml" in page


def test_samples_of_phantoms_are_shown_unaudited(study: Study) -> None:
    study = edited(study, 'subjects = "subjects"', "phantom = 4")
    draw(study, "progan")
    audit(study.folder / "generators/progan/audit", "fail", 1.0)
    page = page_of(study)
    assert "data:image/png" in page and "there are no patients" in page


def test_figures_are_their_own_files(study: Study) -> None:
    fill(study)
    page = page_of(study)
    file = (study.folder / "figures/ratio.svg").read_text()
    assert "var(" not in file and "stroke:#dcdcd5" in file
    assert "stroke:var(--rule,#dcdcd5)" in page  # dark where the page is


def test_hours_and_times_are_of_all_attempts(study: Study) -> None:
    fill(study)
    folder = study.folder / "generators/progan"
    run(folder / "train", "train", ("progan",), seconds=200 * 3600, machine={"gpus": ["A", "B"]})
    run(folder / "samples", "generate", ("progan",), seconds=10)
    for name, earlier in (("train", 144 * 3600.0), ("samples", 50.0)):
        job = json.loads((folder / name / "job.json").read_text())
        (folder / name / "job.json").write_text(json.dumps({**job, "spent_seconds": earlier}))
    numbers = numbers_of(study)
    found = next(generator for generator in numbers.generators if generator.name == "progan")
    assert found.training_seconds == 344 * 3600
    assert found.seconds_a_sample == pytest.approx(60 / study.n_samples)
    cost = next(cost for cost in numbers.costs if cost.what == "training generators")
    assert (cost.hours, cost.gpu_hours) == (344, 688)


@pytest.mark.parametrize("status", ["failed", "interrupted"])
def test_a_training_that_was_killed_counts_up_to_its_last_event(study: Study, status: str) -> None:
    fill(study)
    note(study)
    folder = study.folder / "generators/progan/train"
    run(folder, "train", ("progan",), result=False)
    job = json.loads((folder / "job.json").read_text())
    (folder / "job.json").write_text(json.dumps({**job, "resources": {"gpus": "device=3"}, "spent_seconds": 3600.0}))
    began = datetime.datetime.fromisoformat(job["created"]).timestamp()
    (folder / "events.jsonl").write_text(json.dumps({"time": began + 7200, "event": "progress", "step": 1}) + "\n")
    step = next(step for step in make_plan(study).steps if step.name == "train-progan")
    record = study.folder / record_of("train-progan")
    record.write_text(json.dumps({"status": status, "command": list(step.command), "exit_code": 137}))
    cost = next(cost for cost in gather(study.folder, study).costs if cost.what == "training generators")
    assert (cost.hours, cost.gpu_hours) == (3, 3)


def test_imported_generator(study: Study) -> None:
    fill(study)
    run(study.folder / "generators/progan/train", "import-checkpoint", ("progan",))
    page_of(study)


def test_failed_run_counts_as_cost(study: Study) -> None:
    fill(study)
    before = sum(c.hours for c in numbers_of(study).costs)
    run(seed(study, "progan", 2) / "train", "train", ("unet",), status="failed", seconds=7200)
    assert sum(c.hours for c in numbers_of(study).costs) == pytest.approx(before + 2)


def test_two_containers_of_one_plugin_are_both_named(study: Study) -> None:
    for k in range(2):
        run(seed(study, "real", k) / "train", "train", ("unet",), container={"image_id": f"sha256:{k}"})
    assert all(f"sha256:{k}" in str(numbers_of(study).images) for k in range(2))


def test_generator_called_real_something(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(
        '[study]\nname = "t"\n[data]\nsubjects = "subjects"\nsize = 32\n[generators.realistic]\nplugin="stylegan2"\n'
        "[segmenters.unet]\n[arms]\nseeds = 1\nboth = false\n[metrics]\nfidelity = []\n"
    )
    study = Study.load(tmp_path)
    overlap(seed(study, "real", 0) / "evaluate", dice(0.8))
    overlap(seed(study, "realistic", 0) / "evaluate", dice(0.4))
    assert "the best reached 0.50" in page_of(study)


def test_the_page_loads_nothing(study: Study) -> None:
    fill(study)
    page = page_of(study)
    assert "What to cite" in page and "<script" not in page and "http://" not in page.replace("http://www.w3.org", "")


def test_csv_and_tex(study: Study) -> None:
    fill(study)
    page_of(study)
    rows = list(csv.DictReader((study.folder / "tables/utility.csv").open()))
    row = next(r for r in rows if r["arm"] == "progan" and r["region"] == "mean")
    assert float(row["ratio"]) == pytest.approx(0.5) and row["n_trainings"] == "2"
    tex = (study.folder / "tables/utility.tex").read_text()
    assert r"\toprule" in tex and tex.count(r"\\") == len(rows) + 1
    page_of(study)  # a second time, over its own


def test_missed_and_false(study: Study) -> None:
    fill(study)
    table = dice(0.4)
    table[SUBJECTS[0], "NCR"] = 0.0
    table[SUBJECTS[1], "WT"] = 0.0
    overlap(seed(study, "progan", 1) / "evaluate", table)
    cell = cell_of(study, "progan", "NCR")
    assert cell.cases.n_missed == pytest.approx(0.5) and cell.dice == pytest.approx((0.4 + 0.3) / 2)
