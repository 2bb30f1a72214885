"""Contents that are wrong and would pass: each is named, with what helps, and no right one is taken for it."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import affine_transform

from synthkit import events
from synthkit.data import survey
from synthkit.data.contrast_looks import exchanged_contrasts
from synthkit.data.label_folders import LabelFolder
from synthkit.data.label_grids import check_same_grids
from synthkit.data.label_looks import explained_by_exchange, looks_of
from synthkit.data.label_pairs import check_prediction
from synthkit.data.label_places import places_of
from synthkit.data.named_schemes import SCHEMES
from synthkit.data.prepare import prepare
from synthkit.data.scheme_choice import decide
from synthkit.data.scheme_ids import Labelled
from synthkit.data.slices import SliceProtocol, arranged, kept_slices
from synthkit.data.subjects import find_subjects, load_subject
from synthkit.errors import DataError

MakeSubject = Callable[..., Path]
SMALL = SliceProtocol(size=64, brain_fraction=0.004)
AFFINE = np.diag([-1.0, -1.0, 1.0, 1.0])


def save(path: Path, data: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, affine), path)
    return path


def labels_of(folder: Path, name: str) -> np.ndarray:
    return np.asanyarray(nib.load(folder / name / f"{name}_seg.nii.gz").dataobj)


# ------------------------------------------------------------------------------------- predictions that are no labels


def test_predictions_that_are_no_label_maps_are_named_and_the_remedy_helps(
    tmp_path: Path, make_subject: MakeSubject
) -> None:
    name = make_subject(tmp_path / "ref").name
    truth = labels_of(tmp_path / "ref", name)
    values = np.array([0, 1, 2, 4], np.uint8)
    one_hot = np.stack([truth == value for value in values], -1).astype(np.float32)
    noise = np.random.default_rng(0).random(one_hot.shape).astype(np.float32)
    soft = 0.7 * one_hot + 0.3 * noise / noise.sum(-1, keepdims=True)
    reference = LabelFolder(tmp_path / "ref")
    for k, (data, says, axis) in enumerate(
        (
            (one_hot.astype(np.uint8), "it is 4-D (24x20x4x4), as one-hot", -1),
            (soft, "4-D (24x20x4x4), as one-hot maps or probabilities", -1),
            (np.moveaxis(soft, -1, 0), "4-D (4x24x20x4)", 0),
            (soft[..., None, :], "5-D", -1),
            (soft[..., 1], "holds probabilities (", None),
            (20 * soft[..., 1] - 10, "the raw output of a network (-", None),
        )
    ):
        folder = tmp_path / f"pred{k}"
        save(folder / f"{name}.nii.gz", data)
        prediction = LabelFolder(folder, reference=reference)
        with pytest.raises(DataError) as caught:
            check_prediction(reference, prediction, prediction.subjects)
        assert says in caught.value.why.replace("It ", "it ") and "largest probability" in caught.value.fix
        if axis is not None:  # the advice, carried out
            save(folder / f"{name}.nii.gz", values[data.argmax(axis)].reshape(truth.shape))
            right = LabelFolder(folder, reference=reference)
            check_prediction(reference, right, right.subjects)
            np.testing.assert_array_equal(right.labels(name)[0], truth)


def test_probabilities_of_8_bits_are_not_listed_value_by_value(tmp_path: Path, make_subject: MakeSubject) -> None:
    name = make_subject(tmp_path / "ref").name
    save(tmp_path / "pred" / f"{name}.nii.gz", np.arange(24 * 20 * 4).reshape(24, 20, 4).astype(np.uint8))
    reference = LabelFolder(tmp_path / "ref")
    with pytest.raises(DataError) as caught:
        check_prediction(reference, LabelFolder(tmp_path / "pred", reference=reference), [name])
    assert "values, as of grey levels or probabilities" in caught.value.why and len(caught.value.why) < 300


def test_a_segmentation_with_channels_is_a_bad_subject(tmp_path: Path, make_subject: MakeSubject) -> None:
    make_subject(tmp_path / "in", seg=np.zeros((24, 20, 4, 3), np.uint8))
    with pytest.raises(DataError, match="cannot be used") as caught:
        prepare(tmp_path / "in", tmp_path / "out", protocol=SMALL)
    assert "it is 4-D (24x20x4x3), as one-hot" in caught.value.details[0]


def test_channels_without_a_background_become_labels_as_advised(tmp_path: Path, make_subject: MakeSubject) -> None:
    make_subject(tmp_path / "in", "A")
    truth = labels_of(tmp_path / "in", "A")
    values = np.array([1, 2, 4], np.uint8)
    channels = np.stack([truth == value for value in values], -1).astype(np.uint8)
    path = tmp_path / "in/A/A_seg.nii.gz"
    nib.save(nib.Nifti1Image(channels, nib.load(path).affine), path)
    with pytest.raises(DataError, match="cannot be used") as caught:
        prepare(tmp_path / "in", tmp_path / "out", protocol=SMALL)
    assert "put one in front, 1 minus their sum" in caught.value.details[0]
    whole = np.concatenate([1 - channels.sum(-1, keepdims=True), channels], -1)
    nib.save(nib.Nifti1Image(np.array([0, *values], np.uint8)[whole.argmax(-1)], nib.load(path).affine), path)
    np.testing.assert_array_equal(labels_of(tmp_path / "in", "A"), truth)
    assert prepare(tmp_path / "in", tmp_path / "out", protocol=SMALL, holdout="0").n_samples


# -------------------------------------------------------------------------------------------------------- two affines


def with_qform(path: Path, qform: np.ndarray) -> None:
    image = nib.load(path)
    image = nib.Nifti1Image(np.asanyarray(image.dataobj).copy(), image.affine)
    image.set_sform(image.affine, 2)
    image.set_qform(qform, 1)
    nib.save(image, path)


def test_two_affines_that_contradict_each_other_are_named(
    tmp_path: Path, make_subject: MakeSubject, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, qform in (("A", np.diag([1.0, -1, 1, 1])), ("B", AFFINE), ("C", AFFINE + np.eye(4, k=3) * 0.5)):
        folder = make_subject(tmp_path / "in", name)
        for kind in ("t1", "seg"):
            with_qform(folder / f"{name}_{kind}.nii.gz", qform)
    notes = {row.id: row.notes for row in prepare(tmp_path / "in", tmp_path / "out", protocol=SMALL).subjects}
    told = [note for note in notes["A"] if "qform" in note]
    assert told == [
        "t1, seg: qform and sform contradict each other, by up to 46 mm: the sform (LPS) is used, the qform (RPS) is "
        "not; if the qform is true, write it to the sform"
    ]
    assert not any("qform" in note for name in "BC" for note in notes[name])
    said: list[str] = []
    monkeypatch.setattr(events, "message", lambda text, **_: said.append(text))
    save(tmp_path / "pred" / "A.nii.gz", labels_of(tmp_path / "in", "A"))
    check_same_grids(LabelFolder(tmp_path / "in", ["A"]), LabelFolder(tmp_path / "pred"))
    assert len(said) == 1 and said[0].startswith("A_seg.nii.gz: qform and sform contradict")
    for kind in ("t1", "t1ce", "t2", "flair", "seg"):  # the advice, carried out: then nothing is contradicted
        path = tmp_path / "in" / "A" / f"A_{kind}.nii.gz"
        data = np.asanyarray(nib.load(path).dataobj).copy()
        save(path, data, np.diag([1.0, -1, 1, 1]))
    again = prepare(tmp_path / "in", tmp_path / "again", protocol=SMALL, dry_run=True).subjects[0].notes
    assert not any("qform" in note for note in again)


# ------------------------------------------------------------------------------ labels and contrasts of single subjects

VALUES = {"NCR": 1, "ED": 2, "ET": 4}
FILES = tuple(f"x_{kind}.nii.gz" for kind in ("t1", "t1ce", "t2", "flair", "seg"))


def head(seed: int = 0) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Images of a brain with a tumour on one side, and its labels as BraTS writes them."""
    x, y, z = np.mgrid[:48, :48, :24]
    brain = (x - 23.5) ** 2 + (y - 23.5) ** 2 < 22**2
    r = np.sqrt((x - 15) ** 2 + (y - 20) ** 2 + (z - 9) ** 2)
    parts = {"NCR": r < 6, "ET": (r >= 6) & (r < 8), "ED": (r >= 8) & (r < 11)}
    rng = np.random.default_rng(seed)
    images = {name: 100 + 10 * rng.standard_normal(r.shape) for name in ("t1", "t1ce", "t2", "flair")}
    for name, changes in (("NCR", (-30, -30, 60, 10)), ("ET", (-10, 60, 30, 40)), ("ED", (-5, -5, 40, 50))):
        for contrast, change in zip(images, changes, strict=True):
            images[contrast][parts[name]] += change
    labels = np.select([parts[name] for name in VALUES], [*VALUES.values()], 0).astype(np.uint8)
    return {name: np.where(brain, image, 0).astype(np.int16) for name, image in images.items()}, labels


def renumbered(labels: np.ndarray, values: dict[int, int]) -> np.ndarray:
    table = np.arange(256, dtype=np.uint8)
    table[[*values]] = [*values.values()]
    return table[labels]


def seen(name: str, images: dict[str, np.ndarray], labels: np.ndarray) -> Labelled:
    found = Labelled(name, FILES, tuple(np.unique(labels).tolist()), looks=looks_of(images, labels))
    return replace(found, places=places_of(images, labels, "LPS", (1, 1, 1)))


def exchanged(images: dict[str, np.ndarray], one: str, other: str) -> dict[str, np.ndarray]:
    return {**images, one: images[other], other: images[one]}


WRONG = {
    "exchanged": lambda images, labels: (exchanged(images, "t1", "t1ce"), labels),
    "crosswise": lambda images, labels: (images, renumbered(labels, {1: 2, 2: 1})),
    "mirrored": lambda images, labels: (images, labels[::-1]),
}
SAYS = {
    "exchanged": "t1 looks like t1ce, and t1ce like t1",
    "crosswise": "NCR lies around ED",
    "mirrored": "fit the images better mirrored left to right: there the voxels are",
}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("n_wrong", [0, 1, 2, 3, 5])
def test_single_subjects_are_named_and_no_other_scheme_is_advised(kind: str, n_wrong: int) -> None:
    subjects = [seen(f"s{k}", *(WRONG[kind](*head(k)) if k < n_wrong else head(k))) for k in range(5)]
    if n_wrong < 3:
        notes = decide(subjects).notes
        assert [re.findall(r"labels of (s\d) do not look like", note) for note in notes] == [
            [f"s{k}"] for k in range(n_wrong)
        ]
        assert all(SAYS[kind] in note for note in notes)
        return
    with pytest.raises(DataError, match="do not look like those of brats2018") as caught:
        decide(subjects)
    assert SAYS[kind] in caught.value.why and "fits best" not in caught.value.why
    assert ("--labels brats2018 goes on" in caught.value.fix) is (kind != "crosswise")
    insisted = decide(subjects, SCHEMES["brats2018"])  # what it says goes on, and is not silent
    assert sum("brats2018, which --labels says" in note for note in insisted.notes) == n_wrong


def test_a_copy_of_t1_does_not_make_a_cavity_of_enhancing_tumour(tmp_path: Path, make_subject: MakeSubject) -> None:
    images, labels = head()
    make_subject(tmp_path / "in", "A", shape=labels.shape, **{**images, "t1ce": images["t1"]}, seg=labels)
    with pytest.raises(DataError, match="do not look like") as caught:
        prepare(tmp_path / "in", tmp_path / "out", protocol=SMALL)
    assert "t1 and t1ce are one image" in caught.value.why and "gli2024" not in str(caught.value)
    save(tmp_path / "in" / "A" / "A_t1ce.nii.gz", images["t1ce"])  # the advice, carried out
    assert prepare(tmp_path / "in", tmp_path / "out", protocol=SMALL).subjects[0].notes[1:] == ()


def test_of_contrasts_that_are_one_image_looks_are_not_judged(
    tmp_path: Path, make_subject: MakeSubject, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = head()
    make_subject(tmp_path / "in", "A", shape=labels.shape, **{**images, "t2": images["flair"]}, seg=labels)
    judged: list[str] = []
    monkeypatch.setattr(survey, "exchanged_contrasts", lambda images, *_: judged.extend(images) or {})
    (subject,) = prepare(tmp_path / "in", tmp_path / "out", protocol=SMALL, labels="brats2018", dry_run=True).subjects
    assert "t2 and flair are one image" in " ".join(subject.notes) and judged == ["t1", "t1ce"]


@pytest.mark.parametrize("called", [("T1", "T1ce", "T2", "Flair"), ("T1w", "T1 Gd", "T2w", "FLAIR")])
def test_exchanged_channels_are_read_as_it_is_advised(tmp_path: Path, called: tuple[str, ...]) -> None:
    images, labels = head()
    for k, data in enumerate(exchanged(images, "t1", "t1ce").values()):
        save(tmp_path / "in" / "imagesTr" / f"A_{k:04d}.nii.gz", data)
    stored = np.select([labels == 1, labels == 2, labels == 4], [2, 1, 3]).astype(np.uint8)
    save(tmp_path / "in" / "labelsTr" / "A.nii.gz", stored)
    channels = {str(k): name for k, name in enumerate(called)}
    meanings = {"background": 0, "edema": 1, "necrosis": 2, "enhancing tumor": 3}
    description = {"channel_names": channels, "labels": meanings, "file_ending": ".nii.gz"}
    (tmp_path / "in" / "dataset.json").write_text(json.dumps(description))
    with pytest.raises(DataError, match="do not look like") as caught:
        prepare(tmp_path / "in", tmp_path / "out", protocol=SMALL)
    (advised,) = shlex.split(caught.value.fix.partition("--names ")[2].partition(";")[0])
    assert advised == f"t1ce={called[0]},t1={called[1]}"
    assert prepare(tmp_path / "in", tmp_path / "out", protocol=SMALL, names=[advised]).n_samples


def test_exchanged_files_are_read_as_it_is_advised(tmp_path: Path, make_subject: MakeSubject) -> None:
    images, labels = head()
    make_subject(tmp_path / "in", "A", shape=labels.shape, **exchanged(images, "t1", "t1ce"), seg=labels)
    with pytest.raises(DataError, match="do not look like") as caught:
        prepare(tmp_path / "in", tmp_path / "out", protocol=SMALL)
    words = shlex.split(caught.value.fix)
    names = words[words.index("--names") + 1].rstrip(";")
    assert sorted(names.split(",")) == ["t1=_t1ce", "t1ce=_t1"]
    assert not prepare(tmp_path / "in", tmp_path / "out", protocol=SMALL, names=[names]).labels.notes
    told = prepare(tmp_path / "in", tmp_path / "all", protocol=SMALL, labels="brats2018").labels.notes
    assert len(told) == 1 and "t1 looks like t1ce" in told[0]


def test_a_mask_of_the_brain_is_no_tumour(tmp_path: Path, make_subject: MakeSubject) -> None:
    mask = np.zeros((24, 20, 4), np.uint8)
    mask[2:-2, 2:-2] = 1
    make_subject(tmp_path / "in", "A", seg=mask)
    make_subject(tmp_path / "in", "B", shape=(24, 20, 5))
    with pytest.raises(DataError, match="1 of 2 subjects cannot be used") as caught:
        prepare(tmp_path / "in", tmp_path / "out", protocol=SMALL)
    assert "labels cover 100% of the brain, as a mask of the brain" in caught.value.details[0]
    assert "--skip-bad" in caught.value.fix and not (tmp_path / "out").exists()
    summary = prepare(tmp_path / "in", tmp_path / "out", protocol=SMALL, skip_bad=True)
    assert [row.id for row in summary.subjects] == ["B"] and [bad.id for bad in summary.bad_subjects] == ["A"]
    for name, given in (("whole", "whole-tumour"), ("own", str(tmp_path / "own.toml"))):
        make_subject(tmp_path / name, "A", seg=mask)
        (tmp_path / "own.toml").write_text("[labels]\nbrain = 1\n")
        if name == "whole":
            with pytest.raises(DataError, match="cannot be used") as caught:
                prepare(tmp_path / name, tmp_path / "x", protocol=SMALL, labels=given)
            assert "--skip-bad" not in caught.value.fix and "--labels FILE.toml" in caught.value.fix
        else:  # what it advises for another anatomy
            assert prepare(tmp_path / name, tmp_path / "y", protocol=SMALL, labels=given).n_samples == 4
    half = mask * (np.arange(24) < 15)[:, None, None].astype(np.uint8)
    make_subject(tmp_path / "half", "A", seg=half)
    notes = prepare(tmp_path / "half", tmp_path / "z", protocol=SMALL, labels="whole-tumour").subjects[0].notes
    assert any("cover 65% of the brain, more than tumours do" in note for note in notes)


def test_labels_of_another_or_moved_are_named_by_subject_and_the_remedy_helps(tmp_path: Path) -> None:
    people = {name: head(seed) for seed, name in enumerate("ABC")}
    images, right = people["B"]
    wrong = np.roll(right, 9, 0)
    for name, (contrasts, labels) in people.items():
        for contrast, data in contrasts.items():
            save(tmp_path / "in" / name / f"{name}_{contrast}.nii.gz", data.astype(np.float32))
        save(tmp_path / "in" / name / f"{name}_seg.nii.gz", wrong if name == "B" else labels)
    protocol = SliceProtocol(size=64, brain_fraction=0.004)
    kept = {"labels": "brats2018", "patients": "one-per-subject", "dry_run": True}
    told = [n for n in prepare(tmp_path / "in", tmp_path / "x", protocol=protocol, **kept).notes if "do not fit" in n]
    assert len(told) == 1 and re.match(
        r"labels do not fit the images in B \(where they lie, voxels are [0-9.]+ ", told[0]
    )
    assert "give each subject its own label map" in told[0]
    save(tmp_path / "in" / "B" / "B_seg.nii.gz", right)  # the advice, carried out
    assert not any("do not fit" in n for n in prepare(tmp_path / "in", tmp_path / "x", protocol=protocol, **kept).notes)
    far = places_of(images, np.roll(right, 24, 1), "LPS", (1, 1, 1))
    assert far is not None and far.misfit
    without = places_of({name: images[name] for name in ("t1", "t1ce", "t2")}, wrong, "LPS", (1, 1, 1))
    assert without is not None and not without.misfit  # ventricles are bright in T2


def test_a_contrast_of_another_subject_is_named_and_no_names_are_doubted(tmp_path: Path) -> None:
    images, labels = head()
    for contrast, data in images.items():
        inside = np.where(data > 50, data, 0).astype(np.float32)
        moved = np.roll(np.roll(head(1)[0]["t2"], 3, 0), 2, 1)
        inside[:2], moved[:4] = 0, 0
        save(tmp_path / "in" / "A" / f"A_{contrast}.nii.gz", moved.astype(np.float32) if contrast == "t2" else inside)
    save(tmp_path / "in" / "A" / "A_seg.nii.gz", labels)
    found = prepare(tmp_path / "in", tmp_path / "x", protocol=SMALL, labels="brats2018", dry_run=True)
    assert any(re.match(r"brain lies where no other contrast has any in t2 of A \([0-9.]+%\)", n) for n in found.notes)
    assert not any("looks like" in note for note in (*found.notes, *found.subjects[0].notes))
    save(tmp_path / "in" / "A" / "A_t2.nii.gz", np.where(images["t2"] > 50, images["t2"], 0).astype(np.float32))
    again = prepare(tmp_path / "in", tmp_path / "x", protocol=SMALL, labels="brats2018", dry_run=True)
    assert not any("no other contrast" in note for note in again.notes)


def test_t1_and_t1ce_were_exchanged_where_the_core_is_as_bright_as_oedema() -> None:
    images, labels = head()
    images["t1"][labels == VALUES["NCR"]] += 35  # tumour that does not enhance, and no necrosis
    found = seen("A", exchanged(images, "t1", "t1ce"), labels)
    assert explained_by_exchange(found.looks, SCHEMES["brats2018"])
    assert not explained_by_exchange(seen("A", images, labels).looks, SCHEMES["brats2018"])


def test_real_subjects_are_right_and_their_mistakes_are_found(real_subjects: Path) -> None:
    missed = 0
    for subject in find_subjects(real_subjects):
        volumes = arranged(load_subject(subject), SliceProtocol())
        images, labels = volumes.images, volumes.labels
        assert labels is not None
        kept = kept_slices(volumes, SliceProtocol())
        assert exchanged_contrasts(images, labels, kept) == {} == exchanged_contrasts(images, None, kept)
        for one, other in combinations(images, 2):
            if {one, other} != {"t1", "t1ce"}:  # which only enhancing tumour tells apart
                assert exchanged_contrasts(exchanged(images, one, other), labels, kept) == {one: other, other: one}
        here = places_of(images, labels, "LPS", (1, 1, 1))
        assert here is not None and not here.are_elsewhere and not here.misfit
        for flips in list(product((1, -1), repeat=3))[1:]:
            found = places_of(images, labels[:: flips[0], :: flips[1], :: flips[2]], "LPS", (1, 1, 1))
            missed += found is None or not found.are_elsewhere
    assert missed <= 3  # of 35: where a tumour and its mirror image overlap


MASKS = {
    "0 and 1 alone": lambda image: (image > 0).astype(np.uint8),
    "0 and 100 alone": lambda image: np.where(image > 0, 100.0, 0).astype(np.float32),
    "0, 1, 2 and 3 alone": lambda image: np.ceil(image / image.max() * 3).astype(np.int16),
    "nearly all of what is not background is 1": lambda image: affine_transform(
        (image > 0).astype(np.float32), np.array([[0.9, 0.1, 0], [-0.1, 0.9, 0], [0, 0, 1]]), order=1
    ),
    "more than single precision holds": lambda image: image * 1e50,
}


@pytest.mark.parametrize("says", MASKS)
def test_a_contrast_that_is_a_mask_is_refused_by_name_and_each_remedy_helps(
    tmp_path: Path, make_subject: MakeSubject, says: str
) -> None:
    images, labels = head()
    folder = make_subject(
        tmp_path / "in", "A", shape=labels.shape, **{**images, "t1ce": MASKS[says](images["t1ce"])}, seg=labels
    )
    with pytest.raises(DataError) as caught:
        prepare(tmp_path / "in", tmp_path / "out", protocol=SMALL)
    assert f"A: t1ce is no image: {'it holds ' if 'alone' in says else ''}" in caught.value.details[0]
    assert says in caught.value.details[0] and "--names t1ce=" in caught.value.details[0]
    contrasts = tuple(re.search(r"--contrasts (\S+)\.", caught.value.fix)[1].split(","))  # type: ignore[index]
    assert contrasts == ("t1", "t2", "flair")
    prepare(tmp_path / "in", tmp_path / "three", protocol=replace(SMALL, contrasts=contrasts))
    save(folder / "A_gado.nii.gz", images["t1ce"])
    prepare(tmp_path / "in", tmp_path / "named", protocol=SMALL, names=["t1ce=_gado"])


def test_an_empty_label_map_is_named_and_so_is_a_tumour_beside_it(tmp_path: Path, make_subject: MakeSubject) -> None:
    for name in "ABC":
        images, labels = head(ord(name))
        empty = np.zeros_like(labels)
        empty[20, 20, 4] = name == "C"  # a stray voxel
        if name == "B":
            images = {contrast: np.where(labels > 0, 100, image).astype(np.int16) for contrast, image in images.items()}
        make_subject(tmp_path / "in", f"BraTS2021_0000{name}", shape=labels.shape, **images, seg=empty)
        spacing = np.diag([-2.0, -2.0, 2.0, 1.0])
        for path in (tmp_path / "in" / f"BraTS2021_0000{name}").iterdir():
            save(path, np.asanyarray(nib.load(path).dataobj), spacing)
    notes = prepare(tmp_path / "in", tmp_path / "out", protocol=SMALL, labels="brats2021").notes
    assert any(
        "nothing is labelled in 2 of 3 subjects" in note and "0000A" in note and "0000C" not in note for note in notes
    )
    (seen,) = [note for note in notes if "bright in FLAIR as of a tumour" in note]
    assert "0000A (" in seen and "0000C (" in seen and "0000B" not in seen


def test_values_of_any_size_are_read_without_a_warning_of_numpy(tmp_path: Path, make_subject: MakeSubject) -> None:
    images, labels = head()
    for name, scale in (("A", 1e30), ("B", 1e-30)):
        scaled = {contrast: (image * scale).astype(np.float32) for contrast, image in images.items()}
        make_subject(tmp_path / "in", name, shape=labels.shape, **scaled, seg=labels)
    with np.errstate(over="raise", invalid="raise"):
        prepare(tmp_path / "in", tmp_path / "out", protocol=SMALL, labels="brats2018", workers=1)


@pytest.mark.parametrize("n_others", [0, 1, 3])
def test_labels_that_were_exchanged_between_two_subjects_are_said_of_both(
    tmp_path: Path, make_subject: MakeSubject, n_others: int
) -> None:
    heads = {}
    for k, name in enumerate("ABCDE"[: 2 + n_others]):
        images, labels = head(k)
        turn = (slice(None), slice(None, None, -1)) if k % 2 else (slice(None, None, -1),)
        heads[name] = {contrast: image[turn] for contrast, image in images.items()}, labels[turn]
    for name, (images, _) in heads.items():
        seg = heads[{"A": "B", "B": "A"}.get(name, name)][1]
        make_subject(tmp_path / "in", name, shape=seg.shape, **images, seg=seg)
    try:
        notes = prepare(tmp_path / "in", tmp_path / "out", protocol=SMALL).labels.notes
    except DataError as error:
        assert n_others < 2 and "Exchange the label maps of A and B" in error.fix and "--labels brats2018" in error.fix
        notes = prepare(tmp_path / "in", tmp_path / "insist", protocol=SMALL, labels="brats2018").labels.notes
    assert [note.split(" do not")[0] for note in notes] == ["labels of A", "labels of B"]
    assert "its labels fit the images of B, and those of B its images" in notes[0]
    for name in "AB":  # the advice
        save(tmp_path / "in" / name / f"{name}_seg.nii.gz", heads[name][1])
    assert not prepare(tmp_path / "in", tmp_path / "right", protocol=SMALL).labels.notes
