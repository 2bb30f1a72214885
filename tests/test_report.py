"""The report, from run folders made by hand."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from html import escape as html_escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from synthkit.data.dataset import Dataset
from synthkit.data.writer import DatasetWriter
from synthkit.errors import DataError, NotWritableError, UsageError
from synthkit.report import pictures, segmentation
from synthkit.report.gather import gather, phantoms_among, subjects_behind
from synthkit.report.match_rule import MatchRule
from synthkit.report.report import write_audit_page, write_report
from synthkit.report.wording import duration, words
from synthkit.running.run import Input, Job, Run, create_run, write_json
from synthkit.schemes import BRATS

CONTRASTS = ("t1", "t1ce", "t2", "flair")
REGIONS = ("NCR", "ED", "ET", "TC", "WT")
EVIL = "<script>alert('x')</script>"


# ------------------------------------------------------------------------------------------------ material


def make_dataset(path: Path, subjects: Sequence[str], n: int = 4, **options: Any) -> Dataset:
    """``n`` slices of each subject, every second with tumour; without subjects ``n`` synthetic ones."""
    rng = np.random.default_rng(len(subjects) + n)
    total = n * max(1, len(subjects))
    images = rng.integers(1, 255, (total, 4, 32, 32), dtype=np.uint8)
    labels = np.zeros((total, 32, 32), np.uint8)
    labels[::2, 8:16, 8:16], labels[::2, 10:14, 10:14], labels[::2, 11:13, 11:13] = 2, 4, 1
    rows: list[dict[str, Any]] = [
        {
            "id": f"{s}_{i}".replace("/", ""),
            "split": "holdout" if s == subjects[-1] else "train",
            "subject": s,
            "slice": i,
        }
        for s in subjects
        for i in range(n)
    ] or [{"id": f"seed{i:08d}", "split": "synthetic", "seed": i} for i in range(n)]
    kind = "real" if subjects else "synthetic"
    with DatasetWriter(path, contrasts=CONTRASTS, scheme=BRATS, size=(32, 32), kind=kind, **options) as writer:
        writer.append(images, labels, rows)
    return Dataset(path)


def as_input(dataset: Dataset) -> Input:
    return Input("dataset", source=dataset.path, digest=dataset.digest)


_clock = iter(range(10_000))


def make_run(path: Path, verb: Any, plugins: Sequence[str], result: Mapping[str, Any] | None, **job: Any) -> Run:
    """A run folder with its result; runs are created one second apart."""
    second = next(_clock)
    created = f"2026-01-01T{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}+00:00"
    command = ("synthkit", verb, *plugins, "-o", path.name)
    run = create_run(path, Job(verb=verb, plugins=tuple(plugins), command=command, created=created, **job))
    if result is not None:
        isolation = {"network": "host", "root_filesystem": "writable", "inputs": "not protected"}
        base = {
            "contract": 1,
            "status": "succeeded",
            "exit_code": 0,
            "error": None,
            "seconds": 65.0,
            "backend": "inline",
            "isolation": isolation,
            "versions": {"python": "3.11.7"},
            "machine": {"cores": 2},
            "warnings": [],
        }
        run.write_result({**base, **result})
    return run


def make_trained(path: Path, plugin: str, datasets: Sequence[Dataset]) -> Run:
    digest = f"sha256:checkpoint-of-{path.name}"
    result = {"outputs": {"checkpoint": {"kind": "checkpoint", "digest": digest}}}
    inputs = {f"data{i}": as_input(d) for i, d in enumerate(datasets)}
    run = make_run(path, "train", [plugin], result, inputs=inputs, params={"seed": 7})
    run.checkpoint.mkdir()
    metadata = {
        "plugin": plugin,
        "contrasts": list(CONTRASTS),
        "labels": BRATS.label_values,
        "size": [32, 32],
        "params": {"seed": 7, "learning_rate": 0.01},
        "training_datasets": [d.training_entry() for d in datasets],
    }
    write_json(run.checkpoint / "synthkit.json", metadata)
    return run


def make_evaluated(root: Path, trained: Run, dice: Mapping[str, float], **options: Any) -> Run:
    """Segment and evaluate; every region has the same Dice."""
    name = trained.path.name
    digest = f"sha256:checkpoint-of-{name}"
    checkpoint = Input("checkpoint", source=trained.checkpoint, digest=digest)
    subjects = Input("subjects", source=root)
    options = {"subjects": list(dice), **options}
    segmented = make_run(
        root / f"seg-{name}",
        "segment",
        ["unet"],
        {"outputs": {}},
        inputs={"checkpoint": checkpoint, "subjects": subjects},
        options=options,
    )
    segmented.predictions.mkdir()
    write_json(segmented.predictions / "predictions.json", {"checkpoint_digest": digest, "seen_in_training": []})
    scores: list[dict[str, Any]] = []
    mean = float(np.mean(list(dice.values())))
    for region in (*REGIONS, "mean"):
        of = {"region": region}
        if region != "mean":
            scores += [{"name": "dice", "value": v, "of": {"subject": s, **of}} for s, v in dice.items()]
            scores += [{"name": "hd95", "value": 3.25, "of": {"subject": s, **of}} for s in dice]
        low, high = min(dice.values()), max(dice.values())
        scores.append({"name": "dice_mean", "value": mean, "of": of, "low": low, "high": high, "n": len(dice)})
        scores.append({"name": "hd95_mean", "value": 3.25, "of": of, "n": len(dice), "note": "HD95 pooled"})
        for case, count in (("missed", 4321), ("false", 0), ("empty", 1)):
            scores.append({"name": f"n_{case}", "value": count, "of": of, "n": len(dice)})
    inputs = {
        "reference": Input("labels", source=root),
        "prediction": Input("labels", source=segmented.predictions),
    }
    result = {"scores": scores, "outputs": {}}
    run = make_run(root / f"eval-{name}", "evaluate", ["dice", "hausdorff"], result, inputs=inputs, options=options)
    rows = [f"{s},{region},both,{v},3.25,9" for s, v in dice.items() for region in REGIONS]
    header = "subject,region,case,dice,hd95_pooled_mm,reference_voxels"
    (run.outputs / "overlap.csv").write_text("\n".join([header, *rows]) + "\n")
    return run


def make_audit(path: Path, real: Dataset, synthetic: Dataset, outcome: str = "fail") -> Run:
    scores: list[dict[str, Any]] = [
        {"name": "n_synthetic", "value": 4, "of": {}, "n": 4},
        {"name": "n_copies", "value": 3, "of": {}, "n": 4},
        {"name": "copied_rate", "value": 0.75, "of": {}, "low": 0.1941, "high": 0.9937, "n": 4},
        {"name": "n_holdout_twins", "value": 1, "of": {}},
    ]
    for family in ("tumour", "picture"):
        scores.append({"name": "cut", "value": 0.61, "of": {"family": family}})
        scores.append({"name": "least_margin", "value": 0.37, "of": {"family": family}})
        scores.append({"name": "least_margin", "value": 0.83, "of": {"family": family, "side": "holdout"}})
    for contrast in (*CONTRASTS, "joint", "labels"):
        of = {"contrast": contrast, "rule": "pearson"}
        scores.append({"name": "threshold", "value": 0.9123, "of": of, "low": 0.9, "high": 0.92, "n": 1})
        scores.append({"name": "best_r_quantile", "value": 0.8765, "of": {**of, "quantile": "0.99"}, "n": 4})
    verdict = {"outcome": outcome, "reasons": ["3 images are copies."], "not_proven": ["That a person is safe."]}
    held_out = Input("dataset", source=real.path, splits=("holdout",), digest=real.digest)
    inputs = {"train": as_input(real), "synthetic": as_input(synthetic), "holdout": held_out}
    options = {"policy": {"max_copies": 0}, "lineage": "unknown"}
    run = make_run(
        path,
        "audit-memorization",
        ["memorization"],
        {"scores": scores, "verdict": verdict, "exit_code": 10, "outputs": {}},
        inputs=inputs,
        options=options,
    )
    train_id, holdout_id = real.samples[0].id, real.samples[-1].id
    header = "contrast,rule,synthetic_id,train_id,r,threshold,r_null_quantile,copy,margin,"
    header += "holdout_id,r_holdout,holdout_copy"
    rows = [
        f"{view},{rule},{synthetic.samples[1].id},{train_id},0.9876,0.9123,1.0,True,0.37,"
        f"{holdout_id},0.1234,{rule == 'shift'}"
        for view, rule in (
            ("joint", "pearson"),
            ("labels", "shift"),
            ("tumour", "turned-inside"),
            ("joint", "brain-inverted"),
        )
    ]
    (run.outputs / "pairs.csv").write_text("\n".join([header, *rows]) + "\n")
    rows = [
        f"{s.id},{c},pearson,{train_id},s,0,0.95,1.0,True,0.4" for s in synthetic.samples for c in (*CONTRASTS, "joint")
    ]
    header = "synthetic_id,contrast,rule,train_id,train_subject,train_slice,r,r_null_quantile,copy,margin"
    (run.outputs / "matches.csv").write_text("\n".join([header, *rows]) + "\n")
    rows = [f"{holdout_id},{c},pearson,{train_id},0.5" for c in (*CONTRASTS, "joint")]
    (run.outputs / "null.csv").write_text("\n".join(["holdout_id,contrast,rule,train_id,r", *rows]) + "\n")
    header = "train_subject,n_train,n_matched,n_copies,best_r"
    (run.outputs / "subjects.csv").write_text(f"{header}\n{real.samples[0].subject},4,3,3,0.9876\n")
    twins = f"holdout_subject,train_subject,margin\nOther,{real.samples[0].subject},0.2\n"
    (run.outputs / "holdout_twins.csv").write_text(twins)
    return run


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Real and synthetic data, two segmenters scored on the same subjects, an audit, a run that failed."""
    runs = tmp_path / "runs"
    real = make_dataset(tmp_path / "data" / "real", ["P1", "P2", EVIL], protocol={"name": "akbar2024 (size 32)"})
    generator = make_trained(runs / "sg2", "stylegan2", [real])
    lineage = {
        "generator": "stylegan2",
        "checkpoint_digest": "sha256:checkpoint-of-sg2",
        "training_datasets": [real.training_entry()],
    }
    checkpoint = Input("checkpoint", source=generator.checkpoint, digest="sha256:checkpoint-of-sg2")
    made = make_run(
        runs / "gen",
        "generate",
        ["stylegan2"],
        {"outputs": {}},
        inputs={"checkpoint": checkpoint},
        options={"seeds": "0-3"},
    )
    synthetic = make_dataset(made.dataset, [], provenance={"seeds": "0-3"}, lineage=lineage)
    dice = {"A": 0.8, "B": 0.6, "C": 0.7}
    make_evaluated(runs, make_trained(runs / "unet-real", "unet", [real]), dice)
    half = {name: value / 2 for name, value in dice.items()}
    make_evaluated(runs, make_trained(runs / "unet-syn", "unet", [synthetic]), half)
    make_audit(runs / "audit", real, synthetic)
    error = {"what": f"Memory ran out {EVIL}.", "why": "The batch was too large.", "fix": "Lower it.", "exit_code": 7}
    make_run(runs / "oom", "train", ["unet"], {"status": "failed", "exit_code": 7, "error": error, "seconds": 1.0})
    return runs


class Page(HTMLParser):
    """Tags, links and visible text of a page; checks that tags are closed in the order they were opened."""

    VOID = frozenset(("meta", "img", "br", "link"))

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        assert not self._open, f"not closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "srcset")]
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open[-1] == tag, f"</{tag}> closes {self._open[-1:]}"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))


def report(*paths: Path, title: str = "A study") -> tuple[dict[str, Any], str, Page]:
    out = paths[0].parent / "report.html"
    summary = write_report(list(paths), out, title=title)
    html = out.read_text(encoding="utf-8")
    return summary, html, Page(html)


# --------------------------------------------------------------------------------------------- the whole page


def test_summary_counts_runs_datasets_and_sections(study: Path) -> None:
    summary, html, _ = report(study)
    json.dumps(summary, allow_nan=False)
    assert summary["n_runs"] == 10 and summary["n_failed"] == 1 and summary["n_datasets"] == 2
    assert summary["sections"] == ["runs", "samples", "segmentation", "audit", "provenance"]
    assert summary["verdicts"] == {"audit": "fail"}
    assert summary["contains_real_images"] and not summary["phantom"] and summary["notes"] == []
    assert summary["bytes"] == len(html.encode())


def test_page_loads_nothing_from_elsewhere(study: Path) -> None:
    _, html, page = report(study)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert "@import" not in html and "url(" not in html
    for link in page.links:
        assert re.match(r"#|data:image/png;base64,|https://", link), link
    # What is elsewhere is only linked to, in a citation.
    assert not re.search(r"<(?!a )[^>]*(?:src|href)=.https?:", html)


def test_names_are_escaped_everywhere(study: Path) -> None:
    _, html, page = report(study, title=f"<b>{EVIL}")
    assert "<script" not in html and f"<b>{EVIL}" in page.text
    assert f"Memory ran out {EVIL}." in page.text
    assert f"{EVIL}, slice 3" in page.text  # the held-out neighbour of the pair


def test_pictures_decode_to_the_slices(study: Path) -> None:
    _, _, page = report(study)
    found = [link for link in page.links if link.startswith("data:")]
    # Two grids of at most four rows with tumour, five pictures each; a pair of each of three views: synthetic, match,
    # difference, and the slices beside the match.
    pixels = [np.asarray(Image.open(io.BytesIO(base64.b64decode(link.partition(",")[2])))) for link in found]
    grids = [p for p in pixels if p.shape == (32, 32)]
    assert len(grids) == (4 + 2) * 5 and {p.dtype for p in pixels} == {np.dtype(np.uint8)}
    assert 9 <= len(pixels) - len(grids) <= 18
    # Label maps stand in colours beside the contrast that they are best seen on, those of the match as well.
    coloured = [p for p in pixels if p.shape == (32, 64, 3)]
    assert len(coloured) >= 4 and any((p[:, 32:].max(axis=2) != p[:, 32:].min(axis=2)).any() for p in coloured)
    assert all((p[:, :32, 0] == p[:, :32, 1]).all() for p in coloured)
    expected = Dataset(study.parent / "data" / "real").read([0])[0][0, 0]
    assert np.array_equal(pixels[0], expected)


def test_failed_runs_are_shown_with_their_error(study: Path) -> None:
    _, _, page = report(study)
    assert "✕ failed" in page.text and "The batch was too large. Lower it. Exit code 7" in page.text
    assert "1 of 10 runs did not succeed: oom." in page.text


def test_scores_by_another_protocol_are_not_mixed_with_those_of_whole_volumes(tmp_path: Path) -> None:
    real = make_dataset(tmp_path / "real", ["A"])
    dice = {"B": 0.8, "C": 0.6, "D": 0.7}
    runs = tmp_path / "runs"
    make_evaluated(runs, make_trained(runs / "by-study", "unet", [real]), dice, protocol="akbar2024")
    _, _, page = report(runs)
    assert "scored on the slices that akbar2024 keeps, by its rules." in page.text
    make_evaluated(runs, make_trained(runs / "whole", "unet", [real]), dict.fromkeys(dice, 0.5))
    _, _, page = report(runs)
    assert "whole volumes (runs by another protocol, not shown: 1)." in page.text
    assert "Mean Dice, trained on real 0.500" in page.text
    assert "0.700" not in page.text


def test_arms_are_named_by_training_data_with_their_ratio(study: Path) -> None:
    _, _, page = report(study)
    assert "Mean Dice, trained on real 0.700 3 subjects" in page.text
    assert "Mean Dice, trained on synthetic 0.350" in page.text
    assert "synthetic 0.350 3 0.500 0 0 " in page.text
    assert "a ratio of 0.500 to training on real data" in page.text
    assert (
        "An arm has one training" in page.text and "3 patients: no interval of a ratio, give at least 30." in page.text
    )
    assert "3.2" in page.text and "HD95 pooled" in page.text


@pytest.mark.parametrize(("names", "said"), [(("Phantom_0001", "Phantom_0002"), "all"), (("P1", "P2"), "no")])
def test_synthetic_images_alone_still_tell_phantoms_from_patients(
    names: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    real = make_dataset(tmp_path / "real", names)
    lineage = {"generator": "g", "checkpoint_digest": "sha256:c", "training_datasets": [real.training_entry()]}
    make_dataset(tmp_path / "shared" / "synthetic", [], lineage=lineage)
    material = gather([tmp_path / "shared"])
    assert phantoms_among(material) == said
    phantoms, patients = subjects_behind(material)
    assert len(phantoms | patients) == 1  # the other one is held out


def test_scored_training_subjects_are_pointed_out(tmp_path: Path) -> None:
    real = make_dataset(tmp_path / "real", ["P1", "P2"])
    make_evaluated(tmp_path / "runs", make_trained(tmp_path / "runs" / "u", "unet", [real]), {"P1": 0.9, "P2": 0.5})
    _, _, page = report(tmp_path / "runs")
    assert "1 of 2 scored subjects were trained on" in page.text and "(P1)" in page.text


def test_audit_shows_verdict_numbers_and_pairs(study: Path) -> None:
    _, _, page = report(study)
    for text in (
        "✕ Fail",
        "3 images are copies.",
        "That a person is safe.",
        "0.7500 0.1941 to 0.9937 0 4",
        "0.9123 0.9000 to 0.9200",
        "0.8765",
        "max_copies = 0",
        "r 0.9876",
        "Training match P1_0; r 0.1234 with the held-out",
        "Held-out match",
        "Slice after",
        "3 of 4 images are copies",
        "cut: a smaller margin is a copy 0.61 0.61",
        "smallest margin to training people 0.37 0.37",
        "smallest margin to held-out people 0.83 0.83",
        "labels: the label map",
        "tumour: the tumour alone",
        "margin 0.37, r 0.9876 (a copy exceeds 0.9123)",
        "rule pearson, also a copy by brain-inverted",
        "two ids, by what their images show: Other is P1",
        "Where the synthetic images come from is not known",
    ):
        assert text in page.text, text
    assert page.text.count("for internal use") >= 1 and page.text.count("Contains real training images") >= 3


@pytest.mark.parametrize(
    ("outcome", "mark"), [("pass", "✓ Pass"), ("insufficient evidence", "? Insufficient evidence")]
)
def test_each_outcome_has_its_mark(tmp_path: Path, outcome: str, mark: str) -> None:
    real, synthetic = make_dataset(tmp_path / "real", ["P1", "P2"]), make_dataset(tmp_path / "syn", [])
    make_audit(tmp_path / "audit", real, synthetic, outcome)
    assert mark in report(tmp_path / "audit")[2].text


@pytest.mark.parametrize(
    ("rule", "change", "said"),
    [
        ("pearson", lambda image: image, ""),
        ("flip", lambda image: image[..., ::-1], "mirrored"),
        ("shift", lambda image: np.roll(image, 2, axis=-1), "moved 2 px left"),
        ("inverted", lambda image: 255 - image, "dark and bright exchanged"),
        ("brain-inverted", lambda image: np.where((image > 8).any(axis=0), 255 - image, image), "dark and bright"),
        ("turned", lambda image: np.rot90(image, axes=(-2, -1)), "turned by 270 degrees"),
        ("turned", lambda image: np.roll(image[..., ::-1], 3, axis=-2), "mirrored"),
        ("turned", lambda image: image[..., ::-1, :], "mirrored, turned by 180 degrees"),
    ],
)
def test_pairs_are_drawn_as_their_rule_compares_them(rule: str, change: Any, said: str) -> None:
    """Of a copy that was changed so, the synthetic image is drawn as its match lies."""
    match = np.zeros((2, 32, 32), np.uint8)
    match[:, 6:26, 9:23] = np.random.default_rng(0).integers(30, 220, (2, 20, 14))
    shown, words = MatchRule(rule, [0, 1]).transformed(np.ascontiguousarray(change(match)), match)
    assert np.array_equal(shown, match) and words.startswith(said)


@pytest.mark.parametrize(("rule", "said"), [("bent", "to one frame and bent"), ("turned", "one frame"), ("flip", "")])
def test_what_was_compared_and_is_not_drawn_is_said(rule: str, said: str) -> None:
    match = MatchRule(rule, [0, 1])
    assert said in match.not_drawn and match.is_framed == bool(said) == bool(match.not_drawn)


def test_provenance_traces_samples_to_the_training_data(study: Path) -> None:
    _, html, page = report(study)
    real = Dataset(study.parent / "data" / "real")
    assert "Seeds 0-3" in page.text and "sha256:checkpoint-of-sg2" in page.text and real.digest in html
    assert "synthkit train stylegan2 -o sg2" in page.text
    assert "10.1038/s41597-024-03073-x" in html
    assert "1 min 05 s" in page.text and "none (plain process)" in page.text


def test_container_and_isolation_are_told(tmp_path: Path) -> None:
    isolation = {"network": "none", "root_filesystem": "read-only", "no_new_privileges": True, "pids_limit": 512}
    container = {"image": "synthkit/unet", "digest": "sha256:abc", "limits": {"shm_size": "8g"}}
    make_run(tmp_path / "run", "train", ["unet"], {"isolation": isolation, "container": container})
    _, _, page = report(tmp_path / "run")
    assert "network none, root read-only" in page.text and "no new privileges yes" in page.text
    assert "digest sha256:abc" in page.text and "limits shm size 8g" in page.text


def test_phantom_is_said_and_needs_no_notice(tmp_path: Path) -> None:
    make_dataset(tmp_path / "data", ["Phantom_0001", "Phantom_0002"])
    summary, _, page = report(tmp_path / "data")
    assert summary["phantom"] and not summary["contains_real_images"]
    assert "say nothing about patients" in page.text and "internal use" not in page.text


def test_real_among_phantoms_keeps_the_notice(tmp_path: Path) -> None:
    make_dataset(tmp_path / "data", ["Phantom_0001", "P2"])
    summary, _, page = report(tmp_path / "data")
    assert not summary["phantom"] and summary["contains_real_images"]
    assert "Phantom data among the real" in page.text and "internal use" in page.text


# ------------------------------------------------------------------------------------------- what is missing


def test_moved_datasets_become_notes(study: Path) -> None:
    shutil.rmtree(study.parent / "data")
    summary, _, page = report(study)
    assert any("used as train cannot be shown" in note for note in summary["notes"])
    assert any("No pictures of the train images" in note for note in summary["notes"])
    assert "r 0.9876" in page.text and "Training match P1_0" in page.text
    assert "the images are not where they were" in page.text


def test_changed_dataset_is_noted(study: Path) -> None:
    shutil.rmtree(study.parent / "data")
    make_dataset(study.parent / "data" / "real", ["Q1", "Q2"])
    assert any("has changed since" in note for note in report(study)[0]["notes"])


def test_runs_without_result_and_damaged_ones_are_shown(tmp_path: Path) -> None:
    make_run(tmp_path / "runs" / "going", "train", ["unet"], None)
    make_run(tmp_path / "runs" / "broken", "train", ["unet"], {}).path.joinpath("job.json").write_text("{")
    summary, _, page = report(tmp_path / "runs")
    assert summary["n_runs"] == 2 and summary["n_failed"] == 2
    assert "no result" in page.text and "still running" in page.text
    assert "unreadable" in page.text and "cannot be read" in page.text


def test_damaged_tables_become_notes(study: Path) -> None:
    for name in ("pairs", "matches", "subjects", "null"):
        (study / "audit" / "outputs" / f"{name}.csv").write_text("a,b\n1,2\n")
    summary, _, page = report(study)
    assert any("The table matches cannot be shown" in note for note in summary["notes"])
    assert any("most similar pairs cannot be shown" in note for note in summary["notes"])
    assert "✕ Fail" in page.text


def test_pairs_fall_back_to_the_matches(study: Path) -> None:
    (study / "audit" / "outputs" / "pairs.csv").unlink()
    text = report(study)[2].text
    assert "r 0.9500" in text and "Training match P1_0" in text


def test_training_is_found_by_digest_when_links_are_broken(study: Path) -> None:
    for name in ("seg-unet-real", "seg-unet-syn"):
        (study / name / "inputs" / "checkpoint").unlink()
    assert "trained on synthetic 0.350" in report(study)[2].text


def test_unknown_training_data_give_no_ratio(study: Path) -> None:
    for name in ("unet-real", "unet-syn"):
        shutil.rmtree(study / name)
    _, _, page = report(study)
    assert "not known (eval-unet-real)" in page.text and "cannot be traced" in page.text
    assert "ratio to real" not in page.text


def test_different_subjects_give_no_ratio(tmp_path: Path) -> None:
    real, synthetic = make_dataset(tmp_path / "real", ["P1", "P2"]), make_dataset(tmp_path / "syn", [])
    runs = tmp_path / "runs"
    make_evaluated(runs, make_trained(runs / "r", "unet", [real]), {"A": 0.8, "B": 0.6})
    make_evaluated(runs, make_trained(runs / "s", "unet", [synthetic]), {"A": 0.8, "C": 0.6})
    _, _, page = report(runs)
    assert "scored different subjects" in page.text and "ratio to real" not in page.text


def test_nothing_to_report(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="nothing to report"):
        write_report([tmp_path / "empty"], tmp_path / "r.html", title="t")
    with pytest.raises(DataError, match="no folder"):
        write_report([tmp_path / "absent"], tmp_path / "r.html", title="t")
    with pytest.raises(DataError):
        write_report([], tmp_path / "r.html", title="t")
    assert not (tmp_path / "r.html").exists()


def test_only_a_report_is_replaced(tmp_path: Path) -> None:
    make_dataset(tmp_path / "data", ["P1"])
    out = tmp_path / "r.html"
    out.write_text("my thesis")
    with pytest.raises(UsageError):
        write_report([tmp_path / "data"], out, title="t")
    assert out.read_text() == "my thesis"
    with pytest.raises(UsageError):
        write_report([tmp_path / "data"], tmp_path, title="t")
    out.unlink()
    for title in ("first", "second"):
        write_report([tmp_path / "data"], out, title=title)
    assert "<title>second</title>" in out.read_text()


def test_failed_write_keeps_the_earlier_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_dataset(tmp_path / "data", ["P1"])
    out = tmp_path / "r.html"
    write_report([tmp_path / "data"], out, title="first")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(NotWritableError, match="No space left"):
        write_report([tmp_path / "data"], out, title="second")
    assert "<title>first</title>" in out.read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "r.html"]


# ------------------------------------------------------------------------------------------------- its parts


def test_outline_of_one_pixel() -> None:
    mask = np.zeros((3, 3), bool)
    mask[1, 2] = True
    assert pictures.outline(mask) == "M2 1L3 1L3 2L2 2z"
    assert pictures.outline(np.zeros((3, 3), bool)) == ""


@settings(deadline=None)
@given(arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_outline_encloses_exactly_the_mask(mask: np.ndarray) -> None:
    """The signed area of all loops (holes count negative) is the number of pixels."""
    area = 0.0
    for loop in filter(None, pictures.outline(mask).split("z")):
        points = np.array([[int(v) for v in point.split()] for point in loop.removeprefix("M").split("L")])
        following = np.roll(points, -1, axis=0)
        area += float((points[:, 0] * following[:, 1] - following[:, 0] * points[:, 1]).sum()) / 2
    assert area == np.count_nonzero(mask)


@given(st.integers(0, 500), st.integers(0, 20))
def test_evenly_is_sorted_without_repeats_and_inside(n: int, count: int) -> None:
    chosen = pictures.evenly(n, count).tolist()
    assert len(chosen) == min(n, count) and sorted(set(chosen)) == chosen
    assert all(0 <= i < n for i in chosen)


def test_evenly_takes_the_middles() -> None:
    assert pictures.evenly(12, 3).tolist() == [2, 6, 10]


def test_representative_samples_hold_tumour(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "d", [], n=20)
    chosen, examined, with_tumour = pictures.representative(dataset, range(20), 5)
    assert (examined, with_tumour) == (20, 10) and chosen == [2, 6, 10, 14, 18]
    empty, _, none = pictures.representative(dataset, [1, 3, 5], 5)
    assert empty == [1, 3, 5] and none == 0


def test_reduced_is_the_mean_of_blocks() -> None:
    image = np.zeros((256, 256), np.uint8)
    image[0, :2] = 255
    small = pictures.reduced(image)
    assert small.shape == (128, 128) and small[0, 0] == 128 and small.sum() == 128
    assert pictures.reduced(image[:64, :64]).shape == (64, 64)


def test_pearson_and_difference() -> None:
    one, other = np.random.default_rng(0).integers(0, 255, (2, 8, 8), dtype=np.uint8)
    assert pictures.pearson(one, other) == pytest.approx(np.corrcoef(one.ravel(), other.ravel())[0, 1])
    assert pictures.pearson(one, np.zeros_like(one)) is None
    assert pictures.difference(np.array([10, 0, 255], np.uint8), np.array([12, 3, 0], np.uint8)).tolist() == [
        8,
        12,
        255,
    ]


def dice_rows(runs: Path, region: str, notes: list[str] | None = None) -> dict[str, dict[str, Any]]:
    """The rows of a region in the table of Dice, by the arms' labels."""
    found = segmentation.section(gather([runs]), [] if notes is None else notes)
    assert found is not None
    group = next(group for group in found["tables"][0]["groups"] if group["region"] == region)
    return {row["arm"].label: row for row in group["rows"]}


def test_a_single_patient_has_a_ratio_without_interval(tmp_path: Path) -> None:
    real, synthetic = make_dataset(tmp_path / "real", ["P1", "P2"]), make_dataset(tmp_path / "syn", [])
    runs = tmp_path / "runs"
    make_evaluated(runs, make_trained(runs / "r", "unet", [real]), {"A": 0.8})
    make_evaluated(runs, make_trained(runs / "s", "unet", [synthetic]), {"A": 0.2})
    rows = dice_rows(runs, "WT")
    assert list(rows) == ["real", "synthetic"] and rows["real"]["ratio"] is None
    assert rows["synthetic"]["ratio"] == {"value": pytest.approx(0.25), "low": None, "high": None}


def test_trainings_that_differ_in_their_seed_are_one_arm_and_a_model_scored_twice_is_there_once(tmp_path: Path) -> None:
    real, synthetic = make_dataset(tmp_path / "real", ["P1", "P2"]), make_dataset(tmp_path / "syn", [])
    runs = tmp_path / "runs"
    for name, value in (("r1", 0.9), ("r2", 0.7)):
        make_evaluated(runs, make_trained(runs / name, "unet", [real]), {"A": value, "B": value})
    trained = make_trained(runs / "s", "unet", [synthetic])
    make_evaluated(runs, trained, {"A": 0.4, "B": 0.4})
    rows = dice_rows(runs, "WT")
    assert list(rows) == ["real", "synthetic"] and rows["real"]["n_trainings"] == 2
    assert rows["real"]["value"] == pytest.approx(0.8)
    assert rows["synthetic"]["ratio"]["value"] == pytest.approx(0.5)
    assert "real 2 trainings 0.800" in report(runs)[2].text
    again = Run(runs / "eval-s")
    shutil.copytree(again.path, runs / "eval-s-again", symlinks=True)
    assert [row["n_trainings"] for row in dice_rows(runs, "WT").values()] == [2, 1]
    assert rows["synthetic"]["ratio"]["value"] == pytest.approx(0.5)
    # With other scores, of other predictions, say, it is something else, and no training of the arm.
    table = runs / "eval-s-again" / "outputs" / "overlap.csv"
    table.write_text(table.read_text().replace("0.4", "0.5"))
    assert [row["n_trainings"] for row in dice_rows(runs, "WT").values()] == [2, 1, 1]


def test_metrics_that_were_asked_for_one_by_one_stand_together(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    real = make_dataset(tmp_path / "real", ["P1", "P2"])
    one = make_evaluated(runs, make_trained(runs / "r", "unet", [real]), {"A": 0.4, "B": 0.4})
    shutil.copytree(one.path, runs / "z-later", symlinks=True)
    for name, values in (("job", {"plugins": ["surface-dice"]}), ("result", {"scores": []})):
        file = runs / "z-later" / f"{name}.json"
        record = json.loads(file.read_text())
        if name == "result":
            of = {"region": "WT"}
            values = {"scores": [{"name": "surface_dice_mean", "value": 0.6, "of": of, "n": 2}]}
        file.write_text(json.dumps({**record, **values}))
    # A run leaves empty what it was not asked for.
    (runs / "z-later" / "outputs" / "overlap.csv").write_text(
        "subject,region,case,dice,surface_dice\nA,WT,both,,0.6\nB,WT,both,,0.6\n"
    )
    table = one.outputs / "overlap.csv"
    table.write_text(
        "".join(line for line in table.read_text().splitlines(keepends=True) if "WT" in line or "case" in line)
    )
    found = segmentation.section(gather([runs]), [])
    assert found is not None and [arm.label for arm in found["arms"]] == ["real"] and found["left_out"] == 0
    nsd = found["tables"][2]["groups"][0]["rows"][0]
    assert nsd["value"] == pytest.approx(0.6) and nsd["scored"] == pytest.approx(0.6)
    assert [table["title"] for table in found["tables"]] == ["Dice", "HD95 in mm", "NSD (surface Dice)"]


def test_a_ratio_of_trainings_that_had_not_ended_says_so(tmp_path: Path) -> None:
    real, synthetic = make_dataset(tmp_path / "real", ["P1", "P2"]), make_dataset(tmp_path / "syn", [])
    runs = tmp_path / "runs"
    for name, data, last in (("r", real, 0.505), ("s", synthetic, 0.6)):
        trained = make_trained(runs / name, "unet", [data])
        make_evaluated(runs, trained, {"A": 0.5, "B": 0.5})
        told = [(50, 0.5), (100, last)]
        lines = [{"event": "progress", "step": n, "total": 100, "values": {"val_dice": dice}} for n, dice in told]
        (trained.path / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    text = report(runs)[2].text
    assert "Trainings that have not ended learning: synthetic, training 1 (+0.10)." in text
    (runs / "r" / "events.jsonl").unlink()
    assert "Whether learning has ended is not known of real, training 1" in report(runs)[2].text


def test_arms_of_unequal_settings_are_pointed_out(tmp_path: Path) -> None:
    real, synthetic = make_dataset(tmp_path / "real", ["P1", "P2"]), make_dataset(tmp_path / "syn", [])
    runs = tmp_path / "runs"
    for name, data in (("r", real), ("s", synthetic)):
        make_evaluated(runs, make_trained(runs / name, "unet", [data]), {"A": 0.5, "B": 0.5})
    assert "differ in more than" not in report(runs)[2].text
    file = runs / "s" / "outputs" / "checkpoint" / "synthkit.json"
    file.write_text(file.read_text().replace("0.01", "0.02"))
    text = report(runs)[2].text
    assert "differ in more than their images: learning_rate is 0.01 in real and 0.02 in synthetic." in text


def test_arms_that_were_scored_otherwise_have_no_ratio(tmp_path: Path) -> None:
    real, synthetic = make_dataset(tmp_path / "real", ["P1", "P2"]), make_dataset(tmp_path / "syn", [])
    runs = tmp_path / "runs"
    for name, data in (("r", real), ("s", synthetic)):
        job = make_evaluated(runs, make_trained(runs / name, "unet", [data]), {"A": 0.5, "B": 0.5}).path / "job.json"
        record = json.loads(job.read_text())
        record["params"] = {"borders": "voxels" if name == "r" else "surfels", "seed": name}
        job.write_text(json.dumps(record))
    assert dice_rows(runs, "WT")["synthetic"]["ratio"] is None
    text = report(runs)[2].text
    assert "no ratio, the arms were scored otherwise: borders is voxels in real and surfels in synthetic." in text
    job.write_text(job.read_text().replace("surfels", "voxels"))
    assert dice_rows(runs, "WT")["synthetic"]["ratio"]["value"] == 1 and "scored otherwise" not in report(runs)[2].text


def test_without_scores_by_subject_there_is_the_mean_as_scored_alone(study: Path) -> None:
    (study / "eval-unet-real" / "outputs" / "overlap.csv").unlink()
    notes: list[str] = []
    rows = dice_rows(study, "WT", notes)
    assert rows["real"]["value"] is None and rows["real"]["scored"] == pytest.approx(0.7)
    assert rows["synthetic"]["value"] == pytest.approx(0.35) and rows["synthetic"]["ratio"] is None
    assert "eval-unet-real cannot be read, so there is no ratio" in notes[0]
    assert "mean as scored" in report(study)[2].text


@pytest.mark.parametrize(("value", "ceiling"), [(0.3, 0.4), (373.1, 400.0), (10.0, 10.0), (85.0, 100.0), (4.0, 4.0)])
def test_nice_ceiling(value: float, ceiling: float) -> None:
    assert segmentation.nice_ceiling(value) == pytest.approx(ceiling)


def test_words_and_durations() -> None:
    assert (words([]), words(["a"]), words(["a", "b", "c"])) == ("", "a", "a, b and c")
    assert (duration(4.25), duration(185), duration(7800), duration(None)) == ("4.2 s", "3 min 05 s", "2 h 10 min", "–")


# ------------------------------------------------------------------------------------- the page of one audit


def test_audit_page_shows_the_pairs_and_warns(study: Path, tmp_path: Path) -> None:
    summary = write_audit_page(study / "audit", tmp_path / "audit.html")
    page = Page((tmp_path / "audit.html").read_text())
    assert summary["outcome"] == "fail" and summary["contains_real_images"] and summary["n_pairs"] >= 1
    assert "must not leave the institution" in page.text and "Training match P1_0" in page.text
    for criterion in ("Singling out", "Linkability", "Inference"):
        assert criterion in page.text


def test_audit_page_for_release_shows_no_image_and_names_nobody(study: Path, tmp_path: Path) -> None:
    summary = write_audit_page(study / "audit", tmp_path / "audit.html", pictures=False)
    html = (tmp_path / "audit.html").read_text()
    page = Page(html)
    assert not summary["contains_real_images"] and not [link for link in page.links if link.startswith("data:")]
    real = Dataset(study.parent / "data" / "real")
    for name in {sample.id for sample in real.samples} | {sample.subject for sample in real.samples}:
        assert name is not None and html_escape(name) not in html
    assert str(study) not in html and str(study.parent) not in html
    assert "✕ Fail" in page.text and "0.9123" in page.text and "Singling out" in page.text


def test_audit_page_for_release_is_refused_where_a_reason_names_a_subject(study: Path, tmp_path: Path) -> None:
    result = json.loads((study / "audit" / "result.json").read_text())
    result["verdict"]["reasons"].append("Look at P1_0 again.")
    (study / "audit" / "result.json").write_text(json.dumps(result))
    with pytest.raises(DataError, match="name what it must not"):
        write_audit_page(study / "audit", tmp_path / "audit.html", pictures=False)
    assert not (tmp_path / "audit.html").exists()


def test_audit_page_needs_one_audit(study: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not one finished memorization audit"):
        write_audit_page(study / "sg2", tmp_path / "audit.html")


def test_distributions_are_drawn_in_the_order_of_their_excess(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "evaluate", ["label-realism"], {"scores": [], "outputs": {}})
    header = "property,region,contrast,unit,side,n,q000,q050,q100"
    rows = ["area,WT,,pixels,real,9,0,10,20", "area,WT,,pixels,synthetic,8,0,30,40", "ratio,ET/WT,,,real,9,0,0.5,1"]
    (run.outputs / "distributions.csv").write_text("\n".join([header, *rows]) + "\n")
    (run.outputs / "label_realism.csv").write_text("property,region,contrast,excess\narea,WT,,0.1\nratio,ET/WT,,0.4\n")
    _, html, page = report(tmp_path / "run")
    assert page.text.index("ratio ET/WT") < page.text.index("area WT (pixels), excess 0.10")
    # The median of the synthetic images, 30 of 0 to 40, at three quarters of the width and half the height.
    assert 'class="curve-synthetic" points="0.00,100.00 75.00,50.00 100.00,0.00"' in html
    (run.outputs / "distributions.csv").write_text(f"{header}\narea,WT,,pixels,real,many,0,10,20\n")
    assert any("distributions of run cannot be shown" in note for note in report(tmp_path / "run")[0]["notes"])


def test_scores_of_different_feature_networks_are_kept_apart(tmp_path: Path) -> None:
    for name in ("lite0@1", "inception@2"):
        scores = [{"name": "fd", "value": 3.0, "of": {"contrast": "t1", "features": name}}]
        make_run(tmp_path / "runs" / name[:4], "evaluate", ["fid"], {"scores": scores, "outputs": {}})
    assert "different feature networks, inception@2 and lite0@1" in report(tmp_path / "runs")[2].text
    assert "different feature networks" not in report(tmp_path / "runs" / "lite")[2].text


# -------------------------------------------------------------------------------------------- utility, floors


def compared(score: str, region: str, ratio: float | None, **values: Any) -> dict[str, Any]:
    ends = {"ratio_low": None, "ratio_high": None, "n_patients": 40, "n_real": 2, "n_synthetic": 3, **values}
    return {"arm": "synthetic", "region": region, "score": score, "real": 0.8, "synthetic": 0.4, "ratio": ratio, **ends}


def test_what_utility_found_comes_first(tmp_path: Path) -> None:
    real = make_dataset(tmp_path / "real", ["P1", "P2"])
    make_evaluated(tmp_path / "u", make_trained(tmp_path / "u" / "r", "unet", [real]), {"A": 0.4})
    document = {
        "subjects": ["A"],
        "comparisons": [
            compared("Dice", "WT", 0.87),
            compared("lesion-wise Dice", "WT", 0.55, ratio_low=0.4, ratio_high=0.7),
            compared("Dice", "mean", 0.5, ratio_low=0.45, ratio_high=0.56),
            compared("lesion-wise Dice", "mean", None),
        ],
        "sentences": ["WT: Dice 0.87 of real, lesion-wise 0.55: false islands.", "Dice of WT.", "Dice of the mean."],
        "doubts": ["Images lie otherwise."],
    }
    write_json(tmp_path / "u" / "utility.json", document)
    summary, _, page = report(tmp_path / "u")
    assert summary["sections"][0] == "utility"
    first = page.text.index("WT: Dice 0.87 of real, lesion-wise 0.55: false islands. Dice of the mean. 3 runs")
    table = page.text.index("region Dice lesion-wise Dice mean 0.500 0.450 to 0.560 0.400 / 0.800 – 0.400 / 0.800")
    assert first < table < page.text.index("What was run", table)
    assert "WT 0.870 0.400 / 0.800 0.550 0.400 to 0.700" in page.text and "Dice of WT." not in page.text
    assert "Ratio of Dice, mean: synthetic to real 0.500 0.450 to 0.560, 40 patients" in page.text
    assert "Images lie otherwise." in page.text and "A missed region has Dice 0" in page.text
    (tmp_path / "u" / "utility.json").write_text("{}")
    summary, _, page = report(tmp_path / "u")
    assert "utility" not in summary["sections"] and "utility cannot be shown: KeyError" in summary["notes"][0]


def test_floors_stand_beside_what_is_held_against_them(tmp_path: Path) -> None:
    values = {"fd": 3.0, "fd_floor": 1.5, "fd_matched": 2.5, "kd": 0.25, "kd_floor": 0.125, "ks": 0.5, "floor_ks": None}
    scores = [{"name": name, "value": value, "of": {"contrast": "t1"}, "n": 12} for name, value in values.items()]
    scores[1] |= {"low": 1.25, "high": 1.75}
    make_run(tmp_path / "runs" / "fid", "evaluate", ["fid"], {"scores": scores, "outputs": {}})
    text = report(tmp_path / "runs")[2].text
    assert "floor, 95 % of ideal generators n note fd t1 3.0000 12 fd_floor t1 1.5000 1.2500 to 1.7500 12" in text
    assert "fd_matched t1 2.5000 1.5000, 1.2500 to 1.7500 12 kd t1 0.2500 0.1250 12" in text
    assert "n is the number of independent units" in text
