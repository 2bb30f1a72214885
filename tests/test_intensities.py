"""Backgrounds are recognized, volumes are read by a rule that fits, and what comes out black or clipped is said."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthkit.data.dataset import Dataset
from synthkit.data.intensities import Rule, from_background, greys_of_brain, recognize, unfit
from synthkit.data.intensity_notes import same_images, tone_note
from synthkit.data.prepare import prepare
from synthkit.data.slice_rule import check_fits_model
from synthkit.data.slices import SliceProtocol
from synthkit.data.subjects import SubjectError, find_subjects, load_subject
from synthkit.errors import DataError

MakeSubject = Callable[..., Path]
CONTRASTS = ("t1", "t1ce", "t2", "flair")
SHAPE = (24, 20, 4)
SMALL = {"size": 64, "brain_fraction": 0.002}
MAX, RANGE = Rule(None, 100), Rule(0.5, 99.5)


def _raw(seed: int = 0, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """A head in a volume of zeros: values 20 to 600, skewed as those of MR are."""
    rng = np.random.default_rng(seed)
    raw = np.zeros(shape, np.float32)
    raw[4:-4, 3:-3] = 20 + 580 * rng.beta(2, 3, size=(shape[0] - 8, shape[1] - 6, shape[2]))
    return raw


def _normalized(raw: np.ndarray, kind: str) -> np.ndarray:
    brain = raw > 0
    scores = (raw - raw[brain].mean()) / raw[brain].std()
    if kind == "z-scores":
        return np.where(brain, scores, 0).astype(np.float32)
    if kind == "z-scores at the minimum":
        return np.where(brain, scores, scores[brain].min()).astype(np.float32)
    if kind == "z-scores of the whole volume":
        return ((raw - raw.mean()) / raw.std()).astype(np.float32)
    if kind == "z-scores at 0.35":
        return np.where(brain, 0.35 + scores / 20, 0.35).astype(np.float32)
    if kind == "-1..1":
        return (raw / raw.max() * 2 - 1).astype(np.float32)
    if kind == "-1024":
        return (raw - 1024).astype(np.int16)
    if kind == "100":
        return (raw + 100).astype(np.uint16)
    if kind == "16 bits":
        return (raw / raw.max() * 65535 - 32768).astype(np.int16)
    assert kind == "0..1"
    return (raw / raw.max()).astype(np.float32)


def _of_kind(make_subject: MakeSubject, root: Path, name: str, kind: str, seed: int = 0) -> Path:
    volumes = {c: _normalized(_raw(seed * 4 + k), kind) for k, c in enumerate(CONTRASTS)}
    return make_subject(root, name, **volumes)


@pytest.mark.parametrize(
    ("kind", "value", "inside"),
    [
        ("0..1", 0, False),
        ("-1..1", -1, False),
        ("-1024", -1024, False),
        ("100", 100, False),
        ("16 bits", -32768, False),
        ("z-scores", 0, True),
        ("z-scores at 0.35", 0.35, True),
    ],
)
def test_recognized(kind: str, value: float, inside: bool) -> None:
    found = recognize(_normalized(_raw(), kind))
    assert found.value == pytest.approx(value) and found.is_inside == inside and found.second is None
    assert (unfit({"t1": found}, MAX) is not None) == inside
    assert unfit({"t1": found}, RANGE) is None


@pytest.mark.parametrize("kind", ["-1..1", "-1024", "100", "16 bits", "z-scores of the whole volume", "0..1"])
def test_a_background_below_the_brain_is_moved_to_0(tmp_path: Path, make_subject: MakeSubject, kind: str) -> None:
    """The dataset is that of the raw volumes, within the rounding of what was stored."""
    _of_kind(make_subject, tmp_path / "raw", "A", "0..1")
    _of_kind(make_subject, tmp_path / "given", "A", kind)
    images = []
    for name in ("raw", "given"):
        summary = prepare(tmp_path / name, tmp_path / f"{name}-out", protocol=SliceProtocol(**SMALL))
        images.append(Dataset(tmp_path / f"{name}-out").read(range(4))[0].astype(int))
        said = [note for note in summary.subjects[0].notes if "background moved to 0 from" in note]
        assert len(said) == (name == "given" and kind != "0..1")
    assert np.abs(images[0] - images[1]).max() <= 1


@given(st.integers(0, 1000), st.sampled_from([np.int16, np.uint8, np.uint16, np.float32, np.float64]))
def test_ordinary_volumes_are_left_as_they_are(seed: int, dtype: Any) -> None:
    raw = (_raw(seed) / 600 * 250).astype(dtype)
    if np.dtype(dtype).kind != "u":
        raw[4, 3:6] = -5  # what interpolation leaves at edges
    data, found = from_background(raw)
    assert data is raw and not found.is_inside and unfit({"t1": found}, MAX) is None


@settings(deadline=None)
@given(st.integers(0, 1000), st.floats(-2000, 2000, width=32), st.floats(0.125, 128, width=32))
def test_any_constant_background(seed: int, background: float, scale: float) -> None:
    raw = _raw(seed)
    data, found = from_background((raw * np.float32(scale) + np.float32(background)).astype(np.float64))
    assert found.value == pytest.approx(background, abs=1e-3) and not found.is_inside
    assert np.array_equal(data != 0, raw > 0)


@pytest.mark.parametrize("kind", ["z-scores", "z-scores at 0.35"])
def test_z_scores_are_refused_and_the_remedy_helps(tmp_path: Path, make_subject: MakeSubject, kind: str) -> None:
    _of_kind(make_subject, tmp_path / "in", "A", kind)
    with pytest.raises(DataError) as refused:
        prepare(tmp_path / "in", tmp_path / "out", protocol=SliceProtocol(**SMALL))
    (line,) = refused.value.details
    assert re.search(r"^A: t1, t1ce, t2, flair: .*inside the values of the brain \(51 % of the brain", line)
    assert not (tmp_path / "out").exists()

    rule = re.search(r"--intensity (\S+)", line)
    assert rule
    prepare(tmp_path / "in", tmp_path / "out", protocol=SliceProtocol(**SMALL, intensity=rule[1]))
    full = SliceProtocol(intensity=rule[1], brain_fraction=0.002)
    prepare(tmp_path / "in", tmp_path / "full", protocol=full)
    images = Dataset(tmp_path / "full").read(range(4))[0]
    for k in range(4):
        brain = np.zeros(images[:, k].shape, bool)
        brain[:, 118:138, 116:140] = (_raw(k) > 0).transpose(2, 1, 0)
        assert images[:, k][brain].min() >= 1 and (images[:, k][~brain] == 0).all()
        assert (images[:, k][brain] == 255).mean() < 0.01 and 60 < np.median(images[:, k][brain]) < 190


def test_brain_of_the_very_value_of_the_background_is_not_black() -> None:
    scores = np.round(_normalized(_raw(), "z-scores") * 30)
    assert (scores[7:-7, 6:-6] == 0).any()
    greys = greys_of_brain(scores, RANGE)
    assert greys[7:-7, 6:-6].min() >= 1 and (greys[:4] == 0).all()


def test_zeros_inside_z_scores_are_no_missing_part(tmp_path: Path, make_subject: MakeSubject) -> None:
    volumes = {c: np.round(_normalized(_raw(k), "z-scores") * 25).astype(np.int8) for k, c in enumerate(CONTRASTS)}
    volumes["flair"][4:10] = 0
    make_subject(tmp_path / "in", "A", **volumes)
    notes = (
        prepare(tmp_path / "in", tmp_path / "out", protocol=SliceProtocol(**SMALL, intensity="p0.5-p99.5"))
        .subjects[0]
        .notes
    )
    missing = [note for note in notes if "of the brain" in note and " is 0 in " in note]
    assert [note.split()[0] for note in missing] == ["flair"]


def test_a_background_above_the_brain_is_named() -> None:
    found = recognize(np.where(_raw() > 0, _raw(), 2000))
    assert found.is_inside and found.kind == "background 2000 above the brain"
    assert "background 2000 above the brain (100 % of the brain lie below it)" in (unfit({"t1": found}, MAX) or "")


def test_a_head_in_air_is_not_called_black(tmp_path: Path, make_subject: MakeSubject) -> None:
    """Nothing tells its air from its brain."""
    noise = np.abs(np.random.default_rng(0).normal(0, 8, (80, 80, 4))) + 1
    head = noise.copy()
    head[30:50, 30:50] = 500
    files = dict.fromkeys(CONTRASTS, head.astype(np.float32))
    make_subject(tmp_path / "in", "A", shape=head.shape, seg=np.zeros(head.shape, np.uint8), **files)
    notes = prepare(tmp_path / "in", tmp_path / "out", protocol=SliceProtocol(**SMALL)).subjects[0].notes
    assert not [note for note in notes if "black" in note]
    assert [note for note in notes if "no constant background, half of its border is above" in note]


def test_subjects_of_several_kinds_are_named(tmp_path: Path, make_subject: MakeSubject) -> None:
    for n, kind in enumerate(("0..1", "z-scores", "0..1")):
        _of_kind(make_subject, tmp_path / "in", f"s{n}", kind, n)
    with pytest.raises(DataError, match="1 of 3 subjects"):
        prepare(tmp_path / "in", tmp_path / "out", protocol=SliceProtocol(**SMALL))
    protocol = SliceProtocol(**SMALL, intensity="p0.5-p99.5")
    notes = prepare(tmp_path / "in", tmp_path / "out", protocol=protocol).notes
    (note,) = [note for note in notes if "several kinds" in note]
    assert (
        "background 0 below the brain in 2 (s0 ...)" in note
        and "z-scores, background not below the brain in 1 (s1)" in note
    )
    assert "t1, t1ce, t2, flair" in note


def test_two_backgrounds_are_refused_and_the_remedy_helps(tmp_path: Path, make_subject: MakeSubject) -> None:
    padded = np.zeros((48, 40, 4), np.float32)
    padded[8:40, 6:34] = _normalized(_raw(shape=(32, 28, 4)), "z-scores of the whole volume")
    files = {**dict.fromkeys(CONTRASTS, padded), "seg": np.zeros(padded.shape, np.uint8)}
    make_subject(tmp_path / "in", "A", shape=padded.shape, **files)
    with pytest.raises(DataError) as refused:
        prepare(tmp_path / "in", tmp_path / "out", protocol=SliceProtocol(**SMALL, intensity="p0.5-p99.5"))
    found = re.search(
        r"two backgrounds, 0 at the border and (\S+) around the brain \(write (\S+) to", str(refused.value.details)
    )
    assert found and found[1] == found[2]
    padded[padded == 0] = padded[8, 6, 0]
    make_subject(tmp_path / "in", "A", shape=padded.shape, **{**files, **dict.fromkeys(CONTRASTS, padded)})
    assert prepare(tmp_path / "in", tmp_path / "out", protocol=SliceProtocol(**SMALL)).n_samples == 4


def test_negative_values_without_a_background_are_refused(tmp_path: Path, make_subject: MakeSubject) -> None:
    noise = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    make_subject(tmp_path, "A", t1=noise)
    with pytest.raises(DataError) as refused:
        prepare(tmp_path, tmp_path.parent / "out", protocol=SliceProtocol(**SMALL))
    assert "t1: negative values and no constant background" in refused.value.details[0]


def test_a_background_that_interpolation_left_is_constant() -> None:
    moved = _normalized(_raw(), "-1..1")
    moved += np.random.default_rng(0).uniform(-1e-7, 1e-7, SHAPE).astype(np.float32)
    data, found = from_background(moved)
    assert found.value == pytest.approx(-1, abs=1e-5) and np.array_equal(data != 0, _raw() > 0)


def test_a_model_of_other_intensities_refuses_by_name(tmp_path: Path, make_subject: MakeSubject) -> None:
    _of_kind(make_subject, tmp_path, "A", "z-scores")
    volumes = load_subject(find_subjects(tmp_path)[0], labels=False)
    with pytest.raises(SubjectError, match="Subject A") as refused:
        check_fits_model(volumes, SliceProtocol())
    assert "the model's data were made by --intensity max" in refused.value.why and "--only" in refused.value.fix
    check_fits_model(volumes, SliceProtocol(intensity="p0.5-p99.5"))


# ---------------------------------------------------------------------------------------------------- black and clipped


def _skewed(n_bright: int, bright: float) -> np.ndarray:
    raw = np.zeros((80, 80, 16), np.float32)
    raw[8:-8, 8:-8] = 100 + 50 * np.random.default_rng(0).random((64, 64, 16))
    raw.reshape(-1)[np.flatnonzero(raw)[: n_bright * 7 : 7]] = bright
    return raw


def test_a_nearly_black_contrast_is_named_and_the_rule_helps(tmp_path: Path, make_subject: MakeSubject) -> None:
    volumes = {"t1": _skewed(0, 0), "t1ce": _skewed(1, 5000), "t2": _skewed(300, 4000), "flair": _skewed(0, 0)}
    make_subject(tmp_path / "in", "A", shape=(80, 80, 16), seg=np.zeros((80, 80, 16), np.uint8), **volumes)
    notes = prepare(tmp_path / "in", tmp_path / "max", protocol=SliceProtocol(brain_fraction=0.01)).subjects[0].notes
    black = {note.split()[0]: note for note in notes if "nearly black" in note}
    assert list(black) == ["t1ce", "t2"]
    assert "half of the brain is below 6 of 255 (its maximum is 5000, its 99.9th percentile 150" in black["t1ce"]
    assert "--intensity p99.9 makes" in black["t1ce"] and "--intensity p99.5 makes" in black["t2"]
    for name, note in black.items():
        rule = Rule.parse(re.findall(r"--intensity (\S+)", note)[0])
        assert rule and "nearly black" not in (tone_note(name, volumes[name], rule) or "")


def test_a_clipped_contrast_is_named_and_the_rule_helps() -> None:
    raw = _raw(shape=(80, 80, 16))
    note = tone_note("t1", raw, Rule(None, 90))
    assert note and "t1 is clipped: 10." in note and "--intensity p99.9" in note
    assert tone_note("t1", raw, Rule(None, 99.9)) is None
    saturated = np.minimum(raw, 300)
    note = tone_note("t1", saturated, MAX)
    assert note and "its file has them at 300 already" in note and "--intensity" not in note


def _tissue(background: np.ndarray | float, skull: bool = False) -> np.ndarray:
    """A disc of brain of -20 to 100, by default of one value around it."""
    x, y, _ = np.mgrid[:96, :96, :16]
    r = np.hypot(x - 47, y - 47)
    tissue = np.clip(40 + 25 * np.random.default_rng(0).standard_normal(r.shape), -20, 100)
    return np.where(r < 30, tissue, np.where((r < 33) & skull, 1500, background)).astype(np.int16)


@pytest.mark.parametrize("offset", [0, 1024])
@pytest.mark.parametrize("rule", ["max", "p99.9"])
def test_a_crushed_contrast_is_named_and_the_rule_helps(offset: int, rule: str) -> None:
    data, background = from_background(_tissue(-1000) + offset)
    note = tone_note("t1", data, Rule.parse(rule), background)
    assert note and re.search(r"t1 is crushed: half of the brain lies between 2[34]\d and 2[34]\d of 255", note)
    helps = Rule.parse(re.findall(r"--intensity (\S+)", note)[0])
    assert helps and tone_note("t1", data, helps, background) is None
    greys = greys_of_brain(data, helps)
    spread = np.subtract(*np.percentile(greys[greys > 0], [75, 25]))
    assert spread == pytest.approx(int(re.findall(r"over (\d+) grey", note)[0]), abs=8)


def test_a_crushed_contrast_in_noise_is_named_and_what_is_advised_helps() -> None:
    noise = -1000 + 5 * np.random.default_rng(1).standard_normal((96, 96, 16))
    for raw in (_tissue(noise), _tissue(noise, skull=True) + 1024):
        data, background = from_background(raw)
        note = tone_note("t1", data, RANGE, background)
        assert background.value is None and note and "write one value to all of that, and give --intensity" in note
    raw = _tissue(noise)
    data, background = from_background(np.where(raw < -500, -1000, raw).astype(np.int16))
    assert tone_note("t1", data, RANGE, background) is None
    data, background = from_background(_tissue(-1000, skull=True) * 4)
    assert "take away or correct what is not brain" in (tone_note("t1", data, MAX, background) or "")


def test_two_contrasts_that_are_one_image_are_named(tmp_path: Path, make_subject: MakeSubject) -> None:
    rng = np.random.default_rng(0)
    t1, t2 = (
        np.where(_tissue(-1000) > -500, rng.integers(50, 300, (96, 96, 16)), 0).astype(np.int16) for _ in range(2)
    )
    assert same_images({"t1": t1, "t2": t2}) == {}
    for copy, how in ((t1, "voxel by voxel"), ((t1 * 0.37).astype(np.uint8), "in another scale or type")):
        ((pair, line),) = same_images({"t1": t1, "t1ce": copy, "t2": t2}).items()
        assert pair == ("t1", "t1ce") and line.startswith(f"t1 and t1ce are one image, {how}")
    assert same_images({"t1": t1 * 0, "t2": t2 * 0}) == {} == same_images({"t1": t1})
    images = {"t1": t1, "t1ce": t1, "t2": t2, "flair": np.where(t2 > 0, 400 - t2, 0).astype(np.int16)}
    make_subject(tmp_path / "in", "A", shape=(96, 96, 16), seg=np.zeros((96, 96, 16), np.uint8), **images)
    found = prepare(tmp_path / "in", tmp_path / "out", protocol=SliceProtocol(brain_fraction=0.01)).subjects[0].notes
    assert [note for note in found if "one image" in note] == [
        "t1 and t1ce are one image, voxel by voxel: one of the two files is a copy under another name; put the right "
        "one there"
    ]


def test_no_false_notes_on_real_subjects(real_subjects: Path) -> None:
    for subject in find_subjects(real_subjects):
        volumes = load_subject(subject, labels=False)
        assert {found.kind for found in volumes.backgrounds.values()} == {"background 0 below the brain"}
        for rule in (MAX, RANGE):
            assert not any(tone_note(name, data, rule) for name, data in volumes.images.items())
        assert same_images(volumes.images) == {}


@pytest.mark.parametrize("text", ["p0.5-p99.5", "p0-p100", "p1-p99", "max", "p99.9"])
def test_rules(text: str) -> None:
    assert Rule.parse(text) is not None and SliceProtocol(intensity=text).intensity == text


@pytest.mark.parametrize(
    "text", ["p99.5-p0.5", "0.5-99.5", "p0", "p101", "p-1-p5", "median", "p1-", "p1-p2-p3", "pnan"]
)
def test_what_is_not_a_rule(text: str) -> None:
    assert Rule.parse(text) is None


def test_scores_that_were_cut_at_zero_are_refused_and_whole_ones_are_read(
    tmp_path: Path, make_subject: MakeSubject
) -> None:
    scores = {name: _normalized(_raw(k), "z-scores") for k, name in enumerate(CONTRASTS)}
    make_subject(tmp_path / "in", "A", **{name: np.maximum(image, 0) for name, image in scores.items()})
    with pytest.raises(DataError) as caught:
        prepare(tmp_path / "in", tmp_path / "out", protocol=SliceProtocol(**SMALL))
    assert "z-scores that were cut at 0" in caught.value.details[0]
    rule = re.search(r"--intensity (\S+) reads", caught.value.details[0])
    make_subject(tmp_path / "in", "A", **scores)  # the advice
    assert rule and prepare(tmp_path / "in", tmp_path / "out", protocol=SliceProtocol(**SMALL, intensity=rule[1]))


@pytest.mark.parametrize("kind", ["0..1", "z-scores"])
def test_nan_around_the_brain_is_refused_with_what_takes_it_away(
    tmp_path: Path, make_subject: MakeSubject, kind: str
) -> None:
    outside = _raw() == 0
    bare = {name: np.where(outside, np.nan, _normalized(_raw(k), kind)) for k, name in enumerate(CONTRASTS)}
    make_subject(tmp_path / "in", "A", **bare)
    with pytest.raises(DataError) as caught:
        prepare(tmp_path / "in", tmp_path / "out", protocol=SliceProtocol(**SMALL))
    line = re.search(r"`(np\.nan_to_num\(.*\))`", caught.value.details[0])
    assert line, caught.value.details
    make_subject(tmp_path / "in", "A", **{name: eval(line[1], {"np": np, "array": v}) for name, v in bare.items()})
    (subject,) = prepare(tmp_path / "in", tmp_path / "out", protocol=SliceProtocol(**SMALL)).subjects
    assert subject.kept and not any("is 0 in" in note for note in subject.notes)
