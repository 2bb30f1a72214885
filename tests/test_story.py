"""The page of the demo says what the runs say, whatever was to be expected, and escapes what is in them."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthkit.data.dataset import Dataset
from synthkit.data.nifti import read_volume, write_labels
from synthkit.errors import DataError, UsageError
from synthkit.judging.arms import compared_arms
from synthkit.judging.overlap_tables import read_overlap
from synthkit.report.story import Exhibit, compared_dice, write_story
from synthkit.running.run import Run

# The runs made by hand are those of the report's tests, so that there is one description of what a run leaves.
_spec = importlib.util.spec_from_file_location("runs_by_hand", Path(__file__).with_name("test_report.py"))
assert _spec is not None and _spec.loader is not None
by_hand = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(by_hand)
EVIL, Page, make_audit, make_dataset, make_run = (
    getattr(by_hand, name) for name in ("EVIL", "Page", "make_audit", "make_dataset", "make_run")
)

REGIONS = ("NCR", "ED", "ET", "TC", "WT")
DICE = {"real": {"H1": 0.9, "H2": 0.8, "H3": 0.4}, "synthetic": {"H1": 0.5, "H2": 0.6, "H3": 0.2}}
FAITHFUL, MEMORIZED = "faithful", "memorized"


def scored(path: Path, dice: dict[str, float]) -> Path:
    run = make_run(path, "evaluate", ["dice"], {"outputs": {}, "scores": []})
    rows = [f"{s},{region},both,{v},3.0,9" for s, v in dice.items() for region in REGIONS]
    header = "subject,region,case,dice,hd95_pooled_mm,reference_voxels"
    (run.outputs / "overlap.csv").write_text("\n".join([header, *rows]) + "\n")
    return path


@pytest.fixture
def told(tmp_path: Path, make_subject: Callable[..., Path]) -> dict[str, Any]:
    """Runs as the demo leaves them: two training people and one held out, subjects on disk, two audited generators."""
    protocol = {"name": "akbar2024 (size 32)", "size": 32, "brain_fraction": 0.001, "orientation": "LPS"}
    real = make_dataset(tmp_path / "real", ["Phantom_0001", "Phantom_0002", "Phantom_0003"], protocol=protocol)
    predictions = {}
    for name in DICE["real"]:
        make_subject(tmp_path / "subjects", name)
    for arm in DICE:
        run = make_run(tmp_path / f"segment-{arm}", "segment", ["unet"], {"outputs": {}})
        run.predictions.mkdir()
        for name in DICE[arm]:
            (seg,) = (tmp_path / "subjects" / name).glob("*seg*")
            volume = read_volume(seg)
            labels = np.zeros(volume.data.shape, np.uint8) if arm == "synthetic" else volume.data.astype(np.uint8)
            write_labels(run.predictions / f"{name}.nii.gz", labels, like=volume)
        predictions[arm] = run.path
    exhibits = []
    for name, outcome in ((FAITHFUL, "pass"), (MEMORIZED, "fail")):
        made = make_run(tmp_path / f"samples-{name}", "generate", ["edm"], {"outputs": {}})
        lineage = {"generator": "edm", "checkpoint_digest": "sha256:c", "training_datasets": [real.training_entry()]}
        n = 4 if name == FAITHFUL else 5
        synthetic = make_dataset(made.dataset, [], n=n, lineage=lineage)
        audit = make_audit(tmp_path / f"audit-{name}", real, synthetic, outcome)
        exhibits.append(Exhibit(name, "So & so.", made.path, audit.path))
    change(exhibits[0].audit, scores={"n_copies": 0}, copy=False)
    return {
        "out": tmp_path / "report.html",
        "real": real.path,
        "subjects": tmp_path / "subjects",
        "predictions": predictions,
        "scores": {arm: scored(tmp_path / f"evaluate-{arm}", dice) for arm, dice in DICE.items()},
        "exhibits": exhibits,
        "details": tmp_path / "details.html",
    }


def change(audit: Path, *, copy: bool | None = None, scores: dict[str, Any] | None = None, **verdict: Any) -> None:
    """Change what an audit found: its verdict, its scores, whether its pairs are copies."""
    run = Run(audit)
    result = json.loads((audit / "result.json").read_text())
    result["verdict"] |= verdict
    for score in result["scores"]:
        if not score["of"] and score["name"] in (scores or {}):
            score["value"] = (scores or {})[score["name"]]
    (audit / "result.json").write_text(json.dumps(result))
    if copy is not None:
        table = run.outputs / "pairs.csv"
        rows = [row.split(",") for row in table.read_text().splitlines()]
        for row in rows[1:]:
            row[7], row[11] = str(copy), "False"
        table.write_text("\n".join(",".join(row) for row in rows) + "\n")
        if not copy:
            (run.outputs / "subjects.csv").unlink()


def page(told: dict[str, Any]) -> tuple[dict[str, Any], str, dict[str, str]]:
    """Summary, HTML, and the text of each generator's panel and of the page ("")."""
    summary = write_story(**told)
    html = told["out"].read_text(encoding="utf-8")
    texts = {"": Page(html).text}
    for name in (FAITHFUL, MEMORIZED):
        (panel,) = re.findall(rf'<article id="{name}">.*?</article>', html, flags=re.DOTALL)
        texts[name] = Page(panel).text
    return summary, html, texts


def test_both_questions_are_answered_by_the_runs(told: dict[str, Any]) -> None:
    summary, _, texts = page(told)
    assert summary["outcomes"] == {FAITHFUL: "pass", MEMORIZED: "fail"} and summary["phantom"]
    assert "Nobody on this page is a patient." in texts[""] and "Phantom data." in texts[""]
    assert "✓ Pass" in texts[FAITHFUL] and "None of 4 samples is a copy of a training phantom" in texts[FAITHFUL]
    assert "The nearest of whole images" in texts[FAITHFUL] and "Whom the copies show" not in texts[FAITHFUL]
    assert "✕ Fail" in texts[MEMORIZED] and "3 images are copies." in texts[MEMORIZED]
    assert "What it copied" in texts[MEMORIZED] and "beside Phantom_0001, slice 0, margin 0.37" in texts[MEMORIZED]
    assert "copies of this person Phantom_0001 3" in texts[MEMORIZED]
    assert "Trained on 2 phantoms. So & so." in texts[MEMORIZED]


def test_the_ratio_is_that_of_the_arms(told: dict[str, Any]) -> None:
    _, _, texts = page(told)
    tables = [read_overlap(told["scores"][arm]) for arm in ("real", "synthetic")]
    found = {each.region: each.comparison for each in compared_arms(tables[:1], tables[1:]) if each.score == "Dice"}
    mean = found["mean"]
    assert (
        f"a mean Dice of {mean.synthetic:.3f} , after real ones {mean.real:.3f} : a ratio of {mean.ratio:.3f}"
        in (texts[""])
    )
    for region in REGIONS:
        assert re.search(rf"{region} [^0-9]*{found[region].real:.3f} {found[region].synthetic:.3f} ", texts[""])
    rows, warnings = compared_dice(told["scores"]["real"], told["scores"]["synthetic"])
    assert warnings and all(text in texts[""] for text in warnings) and {row["score"] for row in rows} == {"Dice"}
    # The subject in the middle is shown: H1 0.7, H2 0.7, H3 0.3.
    assert "H1 held out" in texts[""] and "its Dice over all regions is 0.700" in texts[""]


def test_exchanged_scores_of_the_arms_are_exchanged_on_the_page(told: dict[str, Any]) -> None:
    told["scores"] = {"real": told["scores"]["synthetic"], "synthetic": told["scores"]["real"]}
    assert "a ratio of 1.615" in page(told)[2][""]


@pytest.mark.parametrize("outcome", ["fail", "insufficient evidence", "pass"])
def test_whatever_the_verdicts_are_the_page_says_them(outcome: str, told: dict[str, Any]) -> None:
    reason = "For this very reason."
    for item in told["exhibits"]:
        change(item.audit, outcome=outcome, reasons=[reason])
    summary, _, texts = page(told)
    assert set(summary["outcomes"].values()) == {outcome}
    for name in (FAITHFUL, MEMORIZED):
        assert outcome.capitalize() in texts[name] and reason in texts[name]
        others = {"Fail", "Insufficient evidence", "Pass"} - {outcome.capitalize()}
        assert not [word for word in others if re.search(rf"[✓✕?] {word}", texts[name])]
    assert texts[""].count(outcome.capitalize()) >= 4  # among the answers, too


def test_copies_of_the_faithful_and_none_of_the_other(told: dict[str, Any]) -> None:
    faithful, memorized = (item.audit for item in told["exhibits"])
    change(faithful, scores={"n_copies": 2}, copy=True, outcome="fail")
    change(memorized, scores={"n_copies": 0}, copy=False, outcome="pass")
    _, _, texts = page(told)
    assert "2 of 4 samples are copies" in texts[FAITHFUL] and "What it copied" in texts[FAITHFUL]
    assert "The nearest of whole images" in texts[MEMORIZED] and "None of 4 samples" in texts[MEMORIZED]


def test_copies_of_held_out_people_alone(told: dict[str, Any]) -> None:
    memorized = told["exhibits"][1].audit
    change(memorized, scores={"n_copies": 0}, copy=False)
    table = Run(memorized).outputs / "pairs.csv"
    table.write_text(table.read_text().replace("False\n", "True\n"))
    _, _, texts = page(told)
    assert "copy of a held-out person" in texts[MEMORIZED] and "beside Phantom_0003, slice 3" in texts[MEMORIZED]


def test_an_audit_that_was_edited_is_pointed_out(told: dict[str, Any]) -> None:
    audit = told["exhibits"][0].audit
    change(audit, weaker=["Weaker than the default: max_copies = 9."])
    _, _, texts = page(told)
    assert "Weaker than the default: max_copies = 9." in texts[FAITHFUL]
    assert "Weaker" not in texts[MEMORIZED]


def test_names_and_reasons_are_escaped(told: dict[str, Any], tmp_path: Path) -> None:
    change(told["exhibits"][1].audit, reasons=[EVIL])
    table = Run(told["exhibits"][1].audit).outputs / "subjects.csv"
    table.write_text(table.read_text().replace("Phantom_0001", EVIL))
    told["exhibits"][0] = Exhibit(FAITHFUL, f"<b>{EVIL}", told["exhibits"][0].samples, told["exhibits"][0].audit)
    told["details"] = tmp_path / '"><script>.html'
    _, html, texts = page(told)
    assert "<script" not in html and "<b>" not in html.replace("<b>✓ ", "").replace("<b>✕ ", "")
    assert texts[MEMORIZED].count(EVIL) == 2 and EVIL in texts[FAITHFUL]


def test_the_page_loads_nothing_and_links_to_the_details(told: dict[str, Any]) -> None:
    _, html, _ = page(told)
    found = Page(html)
    assert not {"script", "link", "iframe", "object"} & set(found.tags) and "@import" not in html
    assert all(re.match(r"#|data:image/png;base64,|details\.html", link) for link in found.links)
    assert "details.html#audit" in found.links and 'class="light"' in html


def test_patients_are_not_called_phantoms(told: dict[str, Any], tmp_path: Path) -> None:
    real = make_dataset(tmp_path / "patients", ["A", "B", "C"], protocol=Dataset(told["real"]).description["protocol"])
    samples = make_dataset(Run(told["exhibits"][0].samples).dataset.with_name("other"), [])
    told["real"] = real.path
    for item in told["exhibits"]:
        (item.audit / "result.json").unlink()
        make_audit(tmp_path / f"again-{item.name}", real, samples)
    told["exhibits"] = [
        Exhibit(item.name, item.trained, item.samples, tmp_path / f"again-{item.name}") for item in told["exhibits"]
    ]
    summary, _, texts = page(told)
    assert not summary["phantom"] and "Nobody on this page is a patient" not in texts[""]


@pytest.mark.parametrize("damaged", ["audit", "overlap", "prediction"])
def test_what_is_missing_is_refused_by_name(damaged: str, told: dict[str, Any]) -> None:
    if damaged == "audit":
        (told["exhibits"][1].audit / "result.json").unlink()
    elif damaged == "overlap":
        (told["scores"]["real"] / "outputs" / "overlap.csv").unlink()
    else:
        (Run(told["predictions"]["real"]).predictions / "H1.nii.gz").unlink()
    named = {"audit": "audit-memorized", "overlap": "overlap.csv", "prediction": "H1.nii.gz"}[damaged]
    with pytest.raises(DataError, match=re.escape(named)):
        write_story(**told)
    assert not told["out"].exists()


def test_another_file_is_not_replaced(told: dict[str, Any]) -> None:
    told["out"].write_text("mine")
    with pytest.raises(UsageError):
        write_story(**told)
    assert told["out"].read_text() == "mine"
