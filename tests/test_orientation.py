"""One side up: arrays of every stored order give the same slices, and labels come back voxel by voxel."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthkit.data.dataset import Dataset
from synthkit.data.exporting import export_dataset
from synthkit.data.geometry import AS_STORED, Geometry
from synthkit.data.label_folders import LabelFolder
from synthkit.data.lies import lying_otherwise
from synthkit.data.native_grid import to_native
from synthkit.data.orientation import Turn, axis_codes, directions, edge_marks, is_code, says_nothing, tilt_degrees
from synthkit.data.phantom import make_subject as make_phantom
from synthkit.data.prepare import prepare
from synthkit.data.signatures import signature
from synthkit.data.slices import SliceProtocol, arranged, slice_volume, slices_for_segmentation
from synthkit.data.subject_files import Subject
from synthkit.data.subjects import SubjectError, SubjectVolumes, find_subjects, load_subject
from synthkit.errors import DataError
from synthkit.judging.protocols import KeptSlices, SliceRule
from synthkit.report import pictures
from synthkit.schemes import BRATS

with_phantoms = pytest.mark.skipif(find_spec("nilearn") is None, reason="nilearn brings the template of the phantom")

MakeSubject = Callable[..., Path]

CODES = sorted("".join(code) for ends in itertools.product("LR", "PA", "SI") for code in itertools.permutations(ends))
SMALL = SliceProtocol(size=64, brain_fraction=0.004)
STORED = SliceProtocol(size=64, brain_fraction=0.004, orientation=AS_STORED)
ORIGIN = (-31.5, 17.0, 4.0)


def affine_of(code: str, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> np.ndarray:
    """Affine of an array in the order ``code``; ``spacing`` along left-right, back-front, feet-head."""
    sizes = {end: size for ends, size in zip(("LR", "PA", "SI"), spacing, strict=True) for end in ends}
    affine = np.eye(4)
    affine[:3, :3] = directions(code) * [sizes[end] for end in code]
    affine[:3, 3] = ORIGIN
    return affine


def brain(shape: tuple[int, int, int] = (26, 22, 6), seed: int = 0) -> dict[str, np.ndarray]:
    """Volumes in the order LPS without any symmetry, and labels."""
    rng = np.random.default_rng(seed)
    images = {}
    for name in ("t1", "t1ce", "t2", "flair"):
        images[name] = rng.integers(60, 200, shape).astype(np.int16)
        images[name][:2] = images[name][:, -3:] = 0
    labels = rng.choice(np.array([0, 0, 0, 1, 2, 4], np.uint8), shape)
    return {**images, "seg": labels}


def stored_as(code: str, volumes: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    turn = Turn.between("LPS", code)
    return {name: np.asfortranarray(turn.apply(volume)) for name, volume in volumes.items()}


def in_memory(code: str, volumes: Mapping[str, np.ndarray]) -> SubjectVolumes:
    stored = stored_as(code, volumes)
    labels = stored.pop("seg")
    return SubjectVolumes("A", stored, labels, affine_of(code), (1.0, 1.0, 1.0), None)


@pytest.mark.parametrize("code", CODES)
def test_files_of_one_subject_in_several_orders_are_read_as_the_first(code: str, tmp_path: Path) -> None:
    """Where affines say the same place; a label map that is moved by half a voxel is refused as before."""
    affine = np.array([[0.1, -1.1, 0, 31], [-0.9, 0.1, 0, 9], [0, 0, 1.3, -7], [0, 0, 0, 1]])
    labels = np.arange(5 * 6 * 7, dtype=np.uint8).reshape(5, 6, 7) % 5
    image = np.random.default_rng(0).random((5, 6, 7), dtype=np.float32)
    order = nib.orientations.ornt_transform(nib.io_orientation(affine), nib.orientations.axcodes2ornt(tuple(code)))
    stored = nib.Nifti1Image(labels, affine).as_reoriented(order)
    nib.save(nib.Nifti1Image(image, affine), tmp_path / "A_t1.nii.gz")
    for moved, says in ((0.0, ""), (0.5, "affines disagree")):
        places = stored.affine.copy()
        places[0, 3] += moved
        nib.save(nib.Nifti1Image(np.asarray(stored.dataobj), places), tmp_path / "A_seg.nii.gz")
        subject = Subject("A", tmp_path, {"t1": tmp_path / "A_t1.nii.gz"}, tmp_path / "A_seg.nii.gz")
        if says:
            with pytest.raises(SubjectError, match="disagree"):
                load_subject(subject)
            continue
        found = load_subject(subject)
        np.testing.assert_array_equal(found.labels, labels)
        np.testing.assert_array_equal(found.images["t1"], image)
        assert len(found.affine_notes) == int(code != axis_codes(affine))
        assert all("seg: stored in another order of axes than t1" in note for note in found.affine_notes)


# --------------------------------------------------------------------------------------------------------- the turn


def test_there_are_48_orders() -> None:
    assert len(CODES) == 48 and all(is_code(code) for code in CODES)
    assert not any(map(is_code, ("", "LP", "LPSS", "LRS", "lps", "LPX")))
    for code in CODES:
        assert axis_codes(affine_of(code)) == code == "".join(nib.aff2axcodes(affine_of(code)))


@pytest.mark.parametrize("code", CODES)
def test_slices_are_the_same_whatever_the_stored_order_and_labels_come_back(code: str) -> None:
    volumes = brain()
    expected = slice_volume(in_memory("LPS", volumes), SMALL)
    subject = in_memory(code, volumes)
    found = slice_volume(subject, SMALL)
    assert found.slice_indices == expected.slice_indices == tuple(range(6))
    np.testing.assert_array_equal(found.images, expected.images)
    np.testing.assert_array_equal(found.labels, expected.labels)
    full = SliceProtocol()
    every = slices_for_segmentation(subject, full)
    assert every.labels is not None
    np.testing.assert_array_equal(to_native(every.labels, every.slice_indices, subject, full), subject.labels)
    assert arranged(subject, SMALL).axes == "LPS"


@settings(max_examples=40, deadline=None)
@given(
    code=st.sampled_from(CODES),
    shape=st.tuples(*[st.integers(1, 40)] * 3),
    turned=st.tuples(*[st.floats(-0.2, 0.2)] * 3),
    seed=st.integers(0, 9),
)
def test_labels_come_back_also_from_oblique_grids(
    code: str, shape: tuple[int, int, int], turned: tuple[float, float, float], seed: int
) -> None:
    volumes = brain(shape, seed)
    volumes |= dict.fromkeys(("t1", "t1ce", "t2", "flair"), np.full(shape, 100, np.int16))
    subject = in_memory(code, volumes)
    affine = subject.affine.copy()
    skew = np.array([[0, -turned[2], turned[1]], [turned[2], 0, -turned[0]], [-turned[1], turned[0], 0]])
    # Cayley's form: a rotation by some degrees.
    affine[:3, :3] = np.linalg.solve(np.eye(3) + skew / 2, np.eye(3) - skew / 2) @ affine[:3, :3]
    oblique = SubjectVolumes("A", subject.images, subject.labels, affine, subject.spacing_mm, None)
    every = slices_for_segmentation(oblique, SliceProtocol())
    assert every.labels is not None
    np.testing.assert_array_equal(
        to_native(every.labels, every.slice_indices, oblique, SliceProtocol()), subject.labels
    )


def test_the_patients_right_is_on_the_left_and_the_forehead_on_top() -> None:
    volume = np.zeros((21, 23, 3), np.int16)  # RAS: x to the right, y to the front
    volume[4:17, 5:18] = 50
    volume[17, 11], volume[10, 18] = 100, 200  # at the patient's right, at the front
    subject = SubjectVolumes("A", dict.fromkeys(SMALL.contrasts, volume), None, affine_of("RAS"), (1.0, 1.0, 1.0), None)
    image = slices_for_segmentation(subject, SliceProtocol()).images[1, 0]
    ((row_of_right, column_of_right),) = np.argwhere(image == 128)
    ((row_of_front, column_of_front),) = np.argwhere(image == 255)
    assert column_of_right < column_of_front and row_of_front < row_of_right
    assert edge_marks("LPS") == {"left": "R", "right": "L", "top": "A", "bottom": "P"}
    assert edge_marks("RAS") == {"left": "L", "right": "R", "top": "P", "bottom": "A"} and edge_marks(None) == {}


# ------------------------------------------------------------------------------------------- affines that say nothing


def test_affines_that_say_nothing() -> None:
    shape = (24, 20, 4)
    no_codes = nib.Nifti1Header()
    centred = np.diag([1.0, 1.0, 1.0, 1.0])
    centred[:3, 3] = (-11.5, -9.5, -1.5)
    for affine in (np.eye(4), np.diag([0.5, 0.5, 5, 1]), centred):
        assert says_nothing(affine, None, shape)
    assert says_nothing(affine_of("RAS"), no_codes, shape)
    for affine in (affine_of("RAS"), affine_of("LPS"), np.diag([-1.0, -1.0, 1, 1])):
        assert not says_nothing(affine, None, shape)


def test_what_says_nothing_keeps_the_stored_order_and_is_named(tmp_path: Path, make_subject: MakeSubject) -> None:
    root = tmp_path / "in"
    for name, affine in (("a", np.eye(4)), ("b", np.eye(4)), ("c", affine_of("RAS"))):
        stored = stored_as("RAS", brain(seed=ord(name)))
        make_subject(root, name, affines=dict.fromkeys(stored, affine), **stored)
    summary = prepare(root, tmp_path / "out", protocol=SMALL, labels="brats2018")
    (note,) = (note for note in summary.notes if "orientation" in note)
    assert note.startswith("2 of 3 affines say nothing of orientation (a, b)") and "--stored-axes" in note
    assert summary.geometry.axes is None
    data = Dataset(tmp_path / "out")
    np.testing.assert_array_equal(
        data.read([0])[0][0], slice_volume(load_subject(find_subjects(root)[0]), STORED).images[0]
    )
    # Carried out, the advice helps: all three the same side up, and marked.
    known = prepare(
        root,
        tmp_path / "known",
        protocol=SliceProtocol(size=64, brain_fraction=0.004, stored_axes="RAS"),
        labels="brats2018",
    )
    assert known.geometry.axes == "LPS" and not any("orientation" in note for note in known.notes)
    expected = slice_volume(in_memory("LPS", brain(seed=ord("a"))), SMALL)
    np.testing.assert_array_equal(Dataset(tmp_path / "known").read([0])[0][0], expected.images[0])


def test_much_turned_volumes_are_named(tmp_path: Path, make_subject: MakeSubject) -> None:
    angle = np.radians(30)
    affine = affine_of("LPS")
    affine[:3, :3] = [[-np.cos(angle), np.sin(angle), 0], [-np.sin(angle), -np.cos(angle), 0], [0, 0, 1]]
    assert tilt_degrees(affine) == pytest.approx(30)
    make_subject(tmp_path / "in", "a", affines=dict.fromkeys(("t1", "t1ce", "t2", "flair", "seg"), affine))
    summary = prepare(tmp_path / "in", tmp_path / "out", protocol=SMALL, labels="brats2018")
    assert any(note.startswith("turned by 30 degrees") for note in summary.subjects[0].notes)


# -------------------------------------------------------------------------------------------------------- as stored


def test_sagittal_volumes_are_read_and_refused_as_stored(tmp_path: Path, make_subject: MakeSubject) -> None:
    stored = stored_as("PSR", brain())
    make_subject(tmp_path / "in", "a", affines=dict.fromkeys(stored, affine_of("PSR")), **stored)
    subject = load_subject(find_subjects(tmp_path / "in")[0])
    np.testing.assert_array_equal(
        slice_volume(subject, SMALL).images, slice_volume(in_memory("LPS", brain()), SMALL).images
    )
    with pytest.raises(SubjectError, match=r"not inferior-superior.*--orientation LPS"):
        slice_volume(subject, STORED)
    with pytest.raises(DataError, match="1 of 1 subjects"):
        prepare(tmp_path / "in", tmp_path / "out", protocol=STORED, labels="brats2018")
    prepare(tmp_path / "in", tmp_path / "out", protocol=SMALL, labels="brats2018")


def test_as_stored_turns_nothing_and_names_what_is_mixed(tmp_path: Path, make_subject: MakeSubject) -> None:
    for name, code in (("a", "LPS"), ("b", "RAS")):
        stored = stored_as(code, brain())
        make_subject(tmp_path / "in", name, affines=dict.fromkeys(stored, affine_of(code)), **stored)
    summary = prepare(tmp_path / "in", tmp_path / "out", protocol=STORED, labels="brats2018")
    assert summary.geometry.axes is None and summary.protocol.name.count("orientation") == 0
    assert any("LPS in 1 (a ...), RAS in 1 (b ...)" in note for note in summary.notes)
    one, other = Dataset(tmp_path / "out").read([0, 6])[0]
    np.testing.assert_array_equal(one, other[:, ::-1, ::-1])
    turned = prepare(tmp_path / "in", tmp_path / "turned", protocol=SMALL, labels="brats2018")
    assert not any("orders" in note for note in turned.notes)
    one, other = Dataset(tmp_path / "turned").read([0, 6])[0]
    np.testing.assert_array_equal(one, other)


def test_real_subjects_have_one_side_up(tmp_path: Path, real_subjects: Path) -> None:
    prepare(real_subjects, tmp_path / "out", protocol=SliceProtocol(size=64))
    data = Dataset(tmp_path / "out")
    assert Geometry.of(data.description["protocol"]) == Geometry("LPS", (1.0, 1.0, 1.0))
    # Two of the five are stored the other way round; slices of LPS are what they were.
    for name in ("BRATS_009", "TCGA-FG-6692"):
        subject = load_subject(find_subjects(real_subjects / name)[0])
        new, old = (slice_volume(subject, SliceProtocol(orientation=order)) for order in ("LPS", AS_STORED))
        flipped = slice(None, None, -1 if name == "BRATS_009" else 1)
        np.testing.assert_array_equal(new.images, old.images[:, :, flipped, flipped])
        assert new.slice_indices == old.slice_indices


# ------------------------------------------------------------------------------------------------- what follows from it


def test_evaluation_on_kept_slices_follows(tmp_path: Path, make_subject: MakeSubject) -> None:
    t1 = np.zeros((240, 240, 6), np.int16)
    t1[40:200, 40:200, 2:4] = 1000 + np.arange(160)[:, None, None]
    t1[0, 0] = 100
    labels = np.zeros((240, 240, 6), np.uint8)
    labels[100, 100, 1:4] = 4
    for code in ("LPS", "RAI", "SPL"):
        root = tmp_path / code
        stored = stored_as(code, {"t1": t1, "seg": labels})
        others = dict.fromkeys(("t1ce", "t2", "flair"))
        affines = dict.fromkeys(stored, affine_of(code, (1.0, 1.0, 3.0)))
        make_subject(root, "a", affines=affines, **stored, **others)
        kept, spacing = KeptSlices(LabelFolder(root, labels="brats2018"), SliceRule(root, (), BRATS)).labels("a")
        assert kept.shape == (240, 240, 2) and np.count_nonzero(kept) == 2 and spacing == (1.0, 1.0, 3.0)


def test_exports_say_where_slices_lie(tmp_path: Path, make_subject: MakeSubject) -> None:
    stored = stored_as("RAS", brain())
    for name in ("a", "b"):
        affine = affine_of("RAS" if name == "a" else "LPS", (0.8, 0.8, 3))
        make_subject(tmp_path / "in", name, affines=dict.fromkeys(stored, affine), **stored)
    prepare(tmp_path / "in", tmp_path / "out", protocol=SMALL, labels="brats2018")
    export_dataset(tmp_path / "out", tmp_path / "nifti", format="nifti")
    image = nib.load(tmp_path / "nifti" / "a_000" / "a_000_t1.nii.gz")
    assert "".join(nib.aff2axcodes(image.affine)) == "LPS" and image.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_allclose(image.header.get_zooms(), (3.2, 3.2, 3), rtol=1e-6)  # 64 pixels for 256
    prepare(tmp_path / "in", tmp_path / "mixed", protocol=STORED, labels="brats2018")
    export_dataset(tmp_path / "mixed", tmp_path / "unknown", format="nifti")
    header = nib.load(tmp_path / "unknown" / "a_000" / "a_000_t1.nii.gz").header
    assert int(header["sform_code"]) == int(header["qform_code"]) == 0


def test_pictures_are_marked_where_the_orientation_is_known(tmp_path: Path, make_subject: MakeSubject) -> None:
    make_subject(tmp_path / "in", "a")
    prepare(tmp_path / "in", tmp_path / "out", protocol=SMALL, labels="brats2018")
    data = Dataset(tmp_path / "out")
    assert pictures.sample_row(data, 0)["marks"] == {"left": "R", "right": "L", "top": "A", "bottom": "P"}
    described = json.loads((tmp_path / "out" / "dataset.json").read_text())
    del described["protocol"]["geometry"], described["protocol"]["orientation"]
    (tmp_path / "out" / "dataset.json").write_text(json.dumps(described))
    old = Dataset(tmp_path / "out")
    assert pictures.sample_row(old, 0)["marks"] == {}
    assert SliceProtocol.from_dict(old.description["protocol"]).orientation == AS_STORED


@with_phantoms
def test_heads_that_lie_otherwise_than_their_affines_say_are_named() -> None:
    turns = {"D": lambda a: a[:, ::-1], "E": lambda a: a[:, :, ::-1], "F": lambda a: a.transpose(1, 0, 2)}
    signatures = {}
    for k, name in enumerate("ABCGHIJKDEF"):
        subject = make_phantom(k, 7, shape=(48, 48, 40), spacing_mm=4.5)
        signatures[name] = signature([turns.get(name, np.asarray)(subject[c]) for c in ("t1", "t2")])
        if name in "GH":  # left and right are alike, and cannot be told
            signatures[name] = signature([subject[c][::-1] for c in ("t1", "t2")])
    assert lying_otherwise(signatures) == {
        "D": "mirrored front to back",
        "E": "mirrored head to foot",
        "F": "with its axes exchanged",
    }
    assert lying_otherwise({name: found for name, found in signatures.items() if name not in turns}) == {}
    assert lying_otherwise({"A": signatures["A"], "B": None}) == {}


@with_phantoms
@pytest.mark.parametrize("name", ["A", "B", "C"])
def test_a_wrong_affine_is_said(tmp_path: Path, name: str) -> None:
    def prepared(wrong: np.ndarray, kept: slice = slice(None), padded: bool = False) -> tuple[str, ...]:
        for k, subject in enumerate("ABC"):
            for kind, data in make_phantom(k, 7, shape=(48, 48, 40), spacing_mm=4.5).items():
                path = tmp_path / "in" / f"BraTS2021_0000{subject}" / f"BraTS2021_0000{subject}_{kind}.nii.gz"
                path.parent.mkdir(parents=True, exist_ok=True)
                slab = data[:, :, kept]
                data = np.pad(slab, ((0, 0), (0, 0), (16, 18))) if padded else slab
                affine = wrong if subject == name else np.diag([-4.5, -4.5, 4.5, 1])
                nib.save(nib.Nifti1Image(data, affine), path)
        return prepare(
            tmp_path / "in",
            tmp_path / "out",
            protocol=SliceProtocol(size=64, brain_fraction=0.01),
            labels="brats2021",
            dry_run=True,
        ).notes

    wrong = np.diag([4.5, 4.5, 4.5, 1])
    wrong[:3, 3] = -100
    said = [note for note in prepared(wrong) if "heads lie otherwise" in note]
    assert len(said) == 1 and f"0000{name} (mirrored front to back)" in said[0] and said[0].count("(mirrored") == 1
    assert not any("heads lie otherwise" in note for note in prepared(np.diag([-4.5, -4.5, 4.5, 1])))  # the advice
    # Slabs, cut or with nothing around them, look alike any way.
    assert not any("heads lie otherwise" in note for note in prepared(wrong, slice(16, 22)))
    assert not any("heads lie otherwise" in note for note in prepared(wrong, slice(16, 22), padded=True))
