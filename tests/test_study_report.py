"""Report of a study on hand-made run folders whose numbers are known."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from synthkit.runs import Job
from synthkit.study.config import Study
from synthkit.study.report import write_report
from synthkit.study.results import Cell, gather

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
    scores = [{"name": "flagged_rate", "value": rate, "of": {}, "low": rate, "high": rate + 0.02, "n": 100}]
    scores += [{"name": name, "value": 0, "of": {}} for name in ("n_flagged", "n_copies", "n_copied_subjects")]
    verdict = {"outcome": outcome, "reasons": [], "not_proven": []}
    run(path, "audit-memorization", ("memorization",), scores=scores, verdict=verdict)


def looks(path: Path, fid: float) -> None:
    scores = [{"name": "fid", "value": fid + add, "of": {"contrast": c}} for c, add in (("t1", -4), ("flair", 4))]
    run(path, "evaluate", ("fid",), scores=scores)


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
        "[segmenters.unet]\n[arms]\nseeds = 3\nboth = false\n[metrics]\nlooks = ['fid']\n"
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
    looks(study.folder / "generators/stylegan2/looks", 30)


def cell_of(study: Study, arm: str, region: str = "mean") -> Cell:
    return next(c for c in gather(study.folder, study).cells if (c.arm, c.region) == (arm, region))


def test_known_numbers(study: Study) -> None:
    fill(study)
    real, same, worse = (cell_of(study, a) for a in ("real", "stylegan2", "progan"))
    assert real.dice == pytest.approx(0.8) and real.dice_sd == pytest.approx(0.1) and real.comparison is None
    assert same.comparison is not None and worse.comparison is not None
    assert same.comparison.comparison.ratio == pytest.approx(1)
    assert worse.comparison.comparison.ratio == pytest.approx(0.5) and (worse.n_done, worse.n_planned) == (2, 3)
    interval = worse.comparison.comparison.ratio_interval
    assert interval is not None
    low, high = interval
    assert 0.4 / 0.9 - 1e-9 <= low <= 0.5 <= high <= 0.4 / 0.7 + 1e-9


def test_looks_are_means_over_contrasts_without_joint(study: Study) -> None:
    sc = [{"name": "fid", "value": v, "of": {"contrast": c}} for c, v in (("t1", 10.0), ("t2", 20.0), ("joint", 300.0))]
    run(study.folder / "generators/stylegan2/looks", "evaluate", ("fid",), scores=sc)
    assert gather(study.folder, study).generators[0].looks["fid"][0] == pytest.approx(15)


def test_two_feature_networks_are_not_averaged(study: Study) -> None:
    sc = [
        {"name": "fd", "value": v, "of": {"contrast": "t1", "features": f}} for f, v in (("a@1", 10.0), ("b@2", 90.0))
    ]
    run(study.folder / "generators/stylegan2/looks", "evaluate", ("fid",), scores=sc)
    assert gather(study.folder, study).generators[0].looks == {"fd[a@1]": (10.0, "lower"), "fd[b@2]": (90.0, "lower")}


def test_report_of_everything_missing(study: Study) -> None:
    assert "Not complete" in write_report(study.folder, study).read_text()


def test_only_the_real_arm(study: Study) -> None:
    overlap(seed(study, "real", 0) / "evaluate", dice(0.8))
    assert "Not complete" in write_report(study.folder, study).read_text()


def test_partial_report_says_so(study: Study) -> None:
    fill(study)
    run(seed(study, "progan", 2) / "train", "train", ("unet",), status="failed")
    page = write_report(study.folder, study).read_text()
    assert "Not complete" in page and "1 run failed" in page and "progan is not audited" in page


def test_started_without_result_is_named(study: Study) -> None:
    fill(study)
    overlap(seed(study, "progan", 2) / "evaluate", dice(0.4))
    audit(study.folder / "generators/progan/audit", "pass", 0.0)
    run(study.folder / "generators/progan/looks", "evaluate", ("fid",), result=False)
    assert "Not complete" in write_report(study.folder, study).read_text()


def test_damaged_result_is_tolerated(study: Study) -> None:
    fill(study)
    (seed(study, "progan", 0) / "evaluate/result.json").write_text("{")
    assert "is damaged" in write_report(study.folder, study).read_text()


def test_missing_table_is_tolerated(study: Study) -> None:
    fill(study)
    (seed(study, "progan", 0) / "evaluate/outputs/overlap.csv").unlink()
    assert "cannot be read" in write_report(study.folder, study).read_text()


def test_other_subjects_are_tolerated(study: Study) -> None:
    fill(study)
    overlap(seed(study, "progan", 1) / "evaluate", {k: v for k, v in dice(0.4).items() if k[0] != SUBJECTS[0]})
    assert "different subjects" in write_report(study.folder, study).read_text()


def test_distances_that_a_protocol_leaves_out_are_no_mean(study: Study) -> None:
    fill(study)
    table = dice(0.4)
    table[SUBJECTS[0], "NCR"] = 0.0
    overlap(seed(study, "progan", 1) / "evaluate", table)
    assert cell_of(study, "progan", "NCR").hd95_mm == pytest.approx((12 + (100 + 3 * 12) / 4) / 2)
    without_column(seed(study, "progan", 1) / "evaluate", "hd95_pooled_mm", "missed")
    cell = cell_of(study, "progan", "NCR")
    assert cell.hd95_mm is None and cell.dice == pytest.approx(0.35) and cell.comparison is not None
    assert cell_of(study, "progan", "ED").hd95_mm == pytest.approx(12)
    write_report(study.folder, study)


def test_imported_generator(study: Study) -> None:
    fill(study)
    run(study.folder / "generators/progan/train", "import-checkpoint", ("progan",))
    write_report(study.folder, study)


def test_failed_run_counts_as_cost(study: Study) -> None:
    fill(study)
    before = sum(c.hours for c in gather(study.folder, study).costs)
    run(seed(study, "progan", 2) / "train", "train", ("unet",), status="failed", seconds=7200)
    assert sum(c.hours for c in gather(study.folder, study).costs) == pytest.approx(before + 2)


def test_two_containers_of_one_plugin_are_both_named(study: Study) -> None:
    for k in range(2):
        run(seed(study, "real", k) / "train", "train", ("unet",), container={"image_id": f"sha256:{k}"})
    assert all(f"sha256:{k}" in str(gather(study.folder, study).images) for k in range(2))


def test_generator_called_real_something(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(
        '[study]\nname = "t"\n[data]\nsubjects = "subjects"\nsize = 32\n[generators.realistic]\nplugin="stylegan2"\n'
        "[segmenters.unet]\n[arms]\nseeds = 1\nboth = false\n[metrics]\nlooks = []\n"
    )
    study = Study.load(tmp_path)
    overlap(seed(study, "real", 0) / "evaluate", dice(0.8))
    overlap(seed(study, "realistic", 0) / "evaluate", dice(0.4))
    assert "the best reached 0.50" in write_report(tmp_path, study).read_text()


def test_the_page_loads_nothing(study: Study) -> None:
    fill(study)
    page = write_report(study.folder, study).read_text()
    assert "What to cite" in page and "<script" not in page and "http://" not in page.replace("http://www.w3.org", "")


def test_csv_and_tex(study: Study) -> None:
    fill(study)
    write_report(study.folder, study)
    rows = list(csv.DictReader((study.folder / "tables/utility.csv").open()))
    row = next(r for r in rows if r["arm"] == "progan" and r["region"] == "mean")
    assert float(row["ratio"]) == pytest.approx(0.5) and row["n_trainings"] == "2"
    tex = (study.folder / "tables/utility.tex").read_text()
    assert r"\toprule" in tex and tex.count(r"\\") == len(rows) + 1
    write_report(study.folder, study)  # a second time, over its own


def test_missed_and_false(study: Study) -> None:
    fill(study)
    table = dice(0.4)
    table[SUBJECTS[0], "NCR"] = 0.0
    table[SUBJECTS[1], "WT"] = 0.0
    overlap(seed(study, "progan", 1) / "evaluate", table)
    cell = cell_of(study, "progan", "NCR")
    assert cell.n_missed == pytest.approx(0.5) and cell.dice == pytest.approx((0.4 + 0.3) / 2)
