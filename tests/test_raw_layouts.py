"""Folders that a dataset.json describes: channels and labels are what it names, never what their numbers suggest."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthkit.data.dataset import Dataset
from synthkit.data.exporting import export_dataset
from synthkit.data.label_folders import LabelFolder
from synthkit.data.label_tables import label_meant, labels_named, scheme_of_table, table_of_labels
from synthkit.data.nifti import VolumeError, read_channels, write_labels
from synthkit.data.prepare import prepare
from synthkit.data.slices import SliceProtocol
from synthkit.data.subjects import SubjectError, find_subjects, load_subject, survey_folder
from synthkit.errors import DataError
from synthkit.schemes import Scheme

CHANNELS = ("FLAIR", "T1w", "t1gd", "T2w")
LABELS: dict[str, Any] = {
    "0": "background",
    "1": "edema",
    "2": "non-enhancing tumor",
    "3": "enhancing tumour",
}
VALUES = {"FLAIR": 300, "T1w": 100, "t1gd": 200, "T2w": 150}
SMALL = SliceProtocol(size=32, brain_fraction=0.001)


def stored_labels() -> np.ndarray:
    labels = np.zeros((24, 20, 4), np.uint8)
    labels[8, 4:10], labels[9, 4:8], labels[10, 4:6] = 1, 2, 3  # 24 oedema, 16 necrosis, 8 enhancing
    return labels


def make_raw(
    root: Path,
    cases: Sequence[str] = ("BRATS_001", "BRATS_002"),
    *,
    part: str = "Tr",
    four_d: bool = True,
    channels: Sequence[str] = CHANNELS,
    description: Mapping[str, Any] | None = None,
    labels: bool = True,
) -> Path:
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    for folder in (f"images{part}", *([f"labels{part}"] if labels else [])):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for case in cases:
        volumes = []
        for name in channels:
            volume = np.zeros((24, 20, 4), np.int16)
            volume[2:-2, 2:-2] = VALUES.get(name, 50) - np.arange(20)[:, None, None] % 11
            volumes.append(volume)
        if four_d:
            nib.save(nib.Nifti1Image(np.stack(volumes, -1), affine), root / f"images{part}" / f"{case}.nii.gz")
        else:
            for k, volume in enumerate(volumes):
                nib.save(nib.Nifti1Image(volume, affine), root / f"images{part}" / f"{case}_{k:04d}.nii.gz")
        if labels:
            nib.save(nib.Nifti1Image(stored_labels(), affine), root / f"labels{part}" / f"{case}.nii.gz")
    found = description or {"modality": {str(k): name for k, name in enumerate(channels)}, "labels": LABELS}
    (root / "dataset.json").write_text(json.dumps(found))
    return root


def test_a_channel_that_is_not_known_is_asked_about_with_what_helps(tmp_path: Path) -> None:
    def refused(root: Path, **more: Any) -> str:
        with pytest.raises(DataError, match="channel") as caught:
            prepare(root, tmp_path / "out", protocol=dataclasses.replace(SMALL, **more.pop("protocol", {})), **more)
        return caught.value.fix

    # None of that name is there: only contrasts help, or a channel whose name says nothing.
    fix = refused(make_raw(tmp_path / "a", channels=("FLAIR", "T2w")))
    assert fix == "If there is no t1, prepare the others alone: --contrasts flair,t2."
    few = dataclasses.replace(SMALL, contrasts=("flair", "t2"))
    assert prepare(tmp_path / "a", tmp_path / "few", protocol=few).n_samples == 8
    fix = refused(make_raw(tmp_path / "b", channels=("FLAIR", "first", "t1gd", "T2w")))
    assert "--names t1=first." in fix and "--contrasts flair,t1ce,t2" in fix
    assert prepare(tmp_path / "b", tmp_path / "named", protocol=SMALL, names=["t1=first"]).n_samples == 8
    # All called alike: no name tells them apart, with --names or without.
    root = make_raw(tmp_path / "c", channels=("MR", "MR", "MR", "MR"))
    for names in ([], ["t1=MR"]):
        fix = refused(root, names=names)
        assert "--names" not in fix and "--contrasts" not in fix and "cannot be told apart" in fix
    described = json.loads((root / "dataset.json").read_text())
    described["modality"] = dict(zip("0123", ("T1", "T1ce", "T2", "FLAIR"), strict=True))
    (root / "dataset.json").write_text(json.dumps(described))
    assert prepare(root, tmp_path / "told", protocol=SMALL).n_samples == 8


def counts(labels: np.ndarray | None) -> dict[int, int]:
    assert labels is not None
    return {int(v): int(n) for v, n in zip(*np.unique(labels, return_counts=True), strict=True) if v}


#: As they are stored, and by name.
TRUE = {1: 24, 2: 16, 3: 8}
MSD = {"background": 0, "ED": 1, "NCR": 2, "ET": 3}


def scheme_in(folder: Path) -> Scheme:
    """The scheme that the table of the first subject of a folder names."""
    table = find_subjects(folder)[0].table
    assert table is not None and table.scheme is not None
    return table.scheme


# ------------------------------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize("four_d", [True, False])
@pytest.mark.parametrize("above", ["", "Task01_BrainTumour"])
def test_channels_and_labels_are_what_they_are_named(tmp_path: Path, four_d: bool, above: str) -> None:
    make_raw(tmp_path / above, four_d=four_d)
    subjects = find_subjects(tmp_path)
    assert [s.id for s in subjects] == ["BRATS_001", "BRATS_002"]
    volumes = load_subject(subjects[0])
    assert {name: int(data.max()) for name, data in volumes.images.items()} == {
        "t1": 100,
        "t1ce": 200,
        "t2": 150,
        "flair": 300,
    }
    assert volumes.shape == (24, 20, 4) and counts(volumes.labels) == TRUE
    assert scheme_in(tmp_path).label_values == MSD and scheme_in(tmp_path).name == "msd"


def test_nnunet_two_writes_channel_names_and_turns_labels_round(tmp_path: Path) -> None:
    channels = ("T1", "T1ce", "T2", "Flair")
    named = {str(k): name for k, name in enumerate(channels)}
    labels = {"background": 0, "edema": 1, "necrotic and non-enhancing tumor core": 2, "GD-enhancing tumor": 3}
    make_raw(tmp_path, channels=channels, four_d=False, description={"channel_names": named, "labels": labels})
    assert scheme_in(tmp_path).label_values == MSD


def test_a_case_may_end_like_a_channel(tmp_path: Path) -> None:
    make_raw(tmp_path, ("case_0001", "case_0002"))
    assert [s.id for s in find_subjects(tmp_path)] == ["case_0001", "case_0002"]


def test_test_images_are_segmented_and_not_prepared(tmp_path: Path) -> None:
    make_raw(tmp_path, ("a",), four_d=False)
    make_raw(tmp_path, ("t",), part="Ts", labels=False, four_d=False)
    found = survey_folder(tmp_path)
    assert [s.id for s in found.good] == ["a"] and not found.bad
    assert any("imagesTs/t_0000.nii.gz" in note for note in found.notes)
    assert [s.id for s in find_subjects(tmp_path, need_labels=False)] == ["a", "t"]
    make_raw(tmp_path, ("t",), part="Ts", four_d=False)
    assert [s.id for s in find_subjects(tmp_path)] == ["a", "t"]


def test_written_in_the_grid_of_a_4d_image(tmp_path: Path) -> None:
    volumes = load_subject(find_subjects(make_raw(tmp_path / "raw"))[0])
    assert volumes.labels is not None
    write_labels(tmp_path / "out.nii.gz", volumes.labels, like=volumes)
    written = nib.load(tmp_path / "out.nii.gz")
    assert written.shape == (24, 20, 4) and np.array_equal(written.affine, volumes.affine)


def test_prepare_and_our_own_export(tmp_path: Path) -> None:
    summary = prepare(make_raw(tmp_path / "raw"), tmp_path / "data", protocol=SMALL, holdout="1")
    assert summary.subjects[0].label_voxels == {"ED": 24, "NCR": 16, "ET": 8}
    assert summary.labels.why == "by the names in dataset.json" and Dataset(tmp_path / "data").scheme.name == "msd"
    export_dataset(tmp_path / "data", tmp_path / "nnunet", format="nnunet")
    data = Dataset(tmp_path / "data")
    again = {s.id: load_subject(s) for s in find_subjects(tmp_path / "nnunet")}
    assert len(again) == len(data.samples)
    for k, row in enumerate(data.samples):
        images, labels = data.read([k])
        assert np.array_equal(again[row.id].images["t1ce"][:, :, 0].T, images[0, 1])
        assert counts(again[row.id].labels) == counts(labels)


def test_labels_alone_and_predictions_of_nnunet(tmp_path: Path) -> None:
    make_raw(tmp_path / "raw")
    assert counts(LabelFolder(tmp_path / "raw").labels("BRATS_001")[0]) == TRUE
    with pytest.raises(DataError, match="cannot be read without its") as caught:
        LabelFolder(tmp_path / "raw" / "labelsTr")
    assert f"Give {tmp_path / 'raw'}" in caught.value.fix
    predictions = tmp_path / "predictions"
    predictions.mkdir()
    nib.save(nib.Nifti1Image(stored_labels(), np.eye(4)), predictions / "BRATS_001.nii.gz")
    (predictions / "dataset.json").write_text((tmp_path / "raw" / "dataset.json").read_text())
    made = LabelFolder(predictions)
    assert counts(made.labels("BRATS_001")[0]) == TRUE and made.scheme.label_values == MSD


# ------------------------------------------------------------------------------------------------------------ refusals


def test_without_a_description_nothing_is_read_and_the_remedy_helps(tmp_path: Path) -> None:
    root = make_raw(tmp_path / "raw", four_d=False, channels=("T1", "T1ce", "T2", "FLAIR"))
    (root / "dataset.json").unlink()
    for folder in (root, root / "imagesTr"):
        with pytest.raises(DataError, match="cannot be read without its") as caught:
            find_subjects(folder)
    assert "1 is oedema here and necrosis in BraTS" in caught.value.why
    advised = caught.value.fix.partition("dataset.json: ")[2].partition(", with what")[0]
    (root / "dataset.json").write_text(advised)
    assert counts(load_subject(find_subjects(root)[0]).labels) == TRUE


@pytest.mark.parametrize("channels", [("mri1", "T1w", "t1gd", "T2w"), ("FLAIR", "T1w", "T1", "T2w")])
def test_channels_that_are_not_known_are_named(tmp_path: Path, channels: Sequence[str]) -> None:
    make_raw(tmp_path, channels=channels)
    with pytest.raises(DataError, match=r"(No channel|Several channels)") as caught:
        find_subjects(tmp_path)
    assert ", ".join(f"{k} {name}" for k, name in enumerate(channels)) in caught.value.why
    assert "--names" in caught.value.fix
    names = ["flair=mri1"] if channels[0] == "mri1" else ["t1=T1w,t1ce=T1"]
    subject = find_subjects(tmp_path, names=names)[0]
    assert subject.channels == {"t1": 1, "t1ce": 2, "t2": 3, "flair": 0}


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        ({"background": 0, "tumor": 1}, "'tumor' (1) is not a known label"),
        ({"background": 0, "necrosis": 1, "necrotic core": 2, "enhancing": 4}, "Two of its labels stand for NCR"),
        ({"background": 0, "edema and necrosis": 1, "enhancing": 2}, "stands for ED and NCR together"),
        ({"background": 0, "liver": 1, "kidney": 2, "spleen": 3}, "'liver' (1) is not a known label"),
    ],
)
def test_labels_that_are_not_known_are_asked_about(tmp_path: Path, labels: dict[str, Any], why: str) -> None:
    channels = {str(k): name for k, name in enumerate(CHANNELS)}
    make_raw(tmp_path / "raw", description={"channel_names": channels, "labels": labels})
    with pytest.raises(DataError, match="not all known") as caught:
        prepare(tmp_path / "raw", tmp_path / "out", protocol=SMALL)
    assert why in caught.value.why and not (tmp_path / "out").exists()
    assert "--labels NAME" in caught.value.fix and "--labels table" in caught.value.fix
    if "liver" in labels:
        with pytest.raises(DataError, match="not all known"):
            LabelFolder(tmp_path / "raw").labels("BRATS_001")
        summary = prepare(tmp_path / "raw", tmp_path / "out", protocol=SMALL, labels="table")
        assert summary.subjects[0].label_voxels == {"liver": 24, "kidney": 16, "spleen": 8}
        assert Dataset(tmp_path / "out").labels == labels
        assert LabelFolder(tmp_path / "raw", labels="table").scheme.label_values == labels
    summary = prepare(tmp_path / "raw", tmp_path / "msd", protocol=SMALL, labels="msd")
    assert summary.subjects[0].label_voxels == {"ED": 24, "NCR": 16, "ET": 8}


def test_voxels_to_ignore_are_rewritten_as_advised(tmp_path: Path) -> None:
    labels = {"background": 0, "edema": 1, "necrosis": 2, "enhancing tumor": 3}
    channels = {str(k): name for k, name in enumerate(CHANNELS)}
    make_raw(tmp_path / "raw", description={"channel_names": channels, "labels": {**labels, "ignore": 4}})
    with pytest.raises(DataError, match="do not say") as caught:
        prepare(tmp_path / "raw", tmp_path / "out", protocol=SMALL)
    assert "each voxel of 4" in caught.value.fix and "take 'ignore' out of dataset.json" in caught.value.fix
    found = {"channel_names": channels, "labels": labels}
    (tmp_path / "raw" / "dataset.json").write_text(json.dumps(found))  # the advice: no voxel is 4
    assert prepare(tmp_path / "raw", tmp_path / "out", protocol=SMALL).n_samples


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        ({"background": 0, "whole tumor": [1, 2, 3], "enhancing tumor": [3]}, "regions"),
        ({"background": 0, "whole tumor": [1, 2, 3, 4], "tumor core": [2, 3], "ET": [3]}, "several values"),
        ({"background": 0, "edema": 1, "necrosis": 1}, "two of its labels are 1"),
        ({"background": 0, "edema": 300}, "300 is not 1 to 255"),
        ({"background": 0}, "none of them is a label"),
    ],
)
def test_tables_that_do_not_say_what_each_value_is(tmp_path: Path, labels: dict[str, Any], why: str) -> None:
    channels = {str(k): name for k, name in enumerate(CHANNELS)}
    make_raw(tmp_path, description={"channel_names": channels, "labels": labels})
    with pytest.raises(DataError, match="do not say what each value is") as caught:
        find_subjects(tmp_path)
    assert why.lower() in caught.value.why.lower()
    assert "edema, necrosis, enhancing tumor or resection cavity" in caught.value.fix
    assert find_subjects(tmp_path, need_labels=False)  # images alone need no labels
    described = {**LABELS, "4": "resection cavity"}
    (tmp_path / "dataset.json").write_text(json.dumps({"channel_names": channels, "labels": described}))
    assert scheme_in(tmp_path).label_values == {**MSD, "RC": 4}


@pytest.mark.parametrize(
    ("labels", "name"),
    [
        ({"NETC": 1, "SNFH": 2, "ET": 3, "resection cavity": 4}, "gli2024"),
        ({"enhancing tumor": 1, "non-enhancing tumor": 2, "cystic component": 3, "edema": 4}, "ped"),
        ({"necrosis": 1, "edema": 2, "non-enhancing tumor": 3, "enhancing tumor": 4}, "brats2013"),
        ({"edema": 1, "non-enhancing tumor": 2, "enhancing tumour": 3}, "msd"),
        ({"necrosis": 1, "edema": 2, "enhancing": 4}, "brats2018"),
        ({"NCR/NET": 1, "ED": 2, "ET": 3}, "brats2023-gli"),
        ({"whole tumor": 1}, "whole-tumour"),
        ({"GTV": 1}, "men-rt"),
        ({"edema": 3, "necrosis": 1, "enhancing": 2}, "own"),
    ],
)
def test_names_and_values_of_a_known_scheme_are_that_scheme(labels: dict[str, int], name: str) -> None:
    table = labels_named({"background": 0, **labels}, Path("dataset.json"))
    assert table.scheme is not None and table.scheme.name == name
    assert list(table.scheme.label_values.values()) == [0, *labels.values()] or name == "own"


def test_several_tables_of_labels_are_refused_until_one_is_left(tmp_path: Path) -> None:
    seg = tmp_path / "sub-01" / "sub-01_dseg.nii.gz"
    seg.parent.mkdir()
    seg.write_bytes(b"x")
    for name in ("a_dseg.tsv", "dseg.tsv"):
        (tmp_path / name).write_text("index\tname\n1\tEdema\n")
    with pytest.raises(DataError, match="several tables"):
        table_of_labels(seg, tmp_path, {})
    (tmp_path / "a_dseg.tsv").unlink()
    table = table_of_labels(seg, tmp_path, {})
    assert table is not None and table.scheme is not None and table.scheme.label_values == {"background": 0, "ED": 1}
    for saved in (
        b"\xef\xbb\xbfIndex;Name;Colour\r\n1;Edema;red\r\n\r\n",
        b'name,index\n"Edema",1\n',
    ):  # as spreadsheets do
        (tmp_path / "dseg.tsv").write_bytes(saved)
        again = table_of_labels(seg, tmp_path, {})
        assert again is not None and again.scheme == table.scheme
    header = b"index\tname\n"
    for wrong in (
        *(b"value,label\n1,Edema\n", header + b"1\tEdema\n2\tEdema\n", header + b"1\t\xfc\n", header + b"1\t\n"),
        *(header + b"x\tEdema\n", header + b"\tEdema\n", b"index\tname\tname\n1\tEdema\tEdema\n", b""),
    ):
        (tmp_path / "dseg.tsv").write_bytes(wrong)
        with pytest.raises(DataError, match="columns index and name"):
            table_of_labels(seg, tmp_path, {})


def test_regions_that_resolve(tmp_path: Path) -> None:
    labels = {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": [3]}
    for given_labels in (labels, {**labels, "enhancing tumor": 3}):
        found = labels_named(given_labels, tmp_path).scheme
        assert found is not None and found.label_values == MSD


def test_regions_with_a_label_beside_them(tmp_path: Path) -> None:
    labels = {"background": 0, "WT": [1, 2, 3], "TC": [1, 3], "ET": 3, "resection cavity": 4}
    for order in (None, [2, 1, 3, 4]):
        found = labels_named(labels, tmp_path, order=order).scheme
        assert found is not None and found.name == "gli2024"
    with pytest.raises(DataError, match=r"By its regions 1 is the rest of TC, but in .* it is that of WT"):
        labels_named(labels, tmp_path, order=[1, 2, 3, 4])


KIDNEY = {"background": 0, "kidney": [1, 2, 3], "masses": [2, 3], "tumor": 2}


def test_regions_of_another_anatomy_are_what_their_order_says(tmp_path: Path) -> None:
    channels = {str(k): name for k, name in enumerate(CHANNELS)}
    described = {"channel_names": channels, "labels": KIDNEY, "regions_class_order": [1, 3, 2]}
    make_raw(tmp_path / "raw", description=described)
    with pytest.raises(DataError, match="not all known") as caught:
        prepare(tmp_path / "raw", tmp_path / "out", protocol=SMALL)
    assert "It names 1 rest of kidney, 2 tumor, 3 rest of masses" in caught.value.why
    assert "--labels table" in caught.value.fix  # carried out
    summary = prepare(tmp_path / "raw", tmp_path / "out", protocol=SMALL, labels="table")
    assert summary.subjects[0].label_voxels == {"rest_of_kidney": 24, "rest_of_masses": 8, "tumor": 16}
    scheme = Dataset(tmp_path / "out").scheme
    assert scheme.region_values == {
        "rest_of_kidney": (1,), "rest_of_masses": (3,), "tumor": (2,), "kidney": (1, 2, 3), "masses": (2, 3)
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "order", "why"),
    [
        ({}, None, "no regions_class_order says"),
        ({}, [1, 3], "does not have one value for each"),
        ({}, 5, "does not have one value for each"),
        ({}, [1, 3, "2"], "does not have one value for each"),
        ({}, [1, 3, 3], "does not have one value for each"),
        (
            {},
            [1, 2, 3],
            "By its regions 2 is the rest of tumor, but in regions_class_order [1, 2, 3] it is that of masses",
        ),
        (
            {"kidney": [1, 2, 3, 4]},
            [1, 3, 2],
            "4 is the rest of kidney, but in regions_class_order [1, 3, 2] it is not in",
        ),
        ({"kidney": [2, 3]}, [1, 3, 2], "No region has the value 1"),
    ],
)
def test_regions_that_leave_open_what_a_value_is(tmp_path: Path, changes: dict[str, Any], order: Any, why: str) -> None:
    with pytest.raises(DataError, match="do not say what each value is") as caught:
        labels_named({**KIDNEY, **changes}, tmp_path / "dataset.json", order=order)
    assert why in caught.value.why


@settings(deadline=None)
@given(data=st.data(), n=st.integers(2, 6))
def test_painting_regions_in_their_order_gives_the_labels_back(data: st.DataObject, n: int) -> None:
    """Nested regions of any values: each value is that of the last region that has it."""
    values = data.draw(st.permutations(range(1, n + 1)))
    regions = {f"r{k}": sorted(values[k:]) for k in range(n)}
    table = labels_named({"background": 0, **regions}, Path("dataset.json"), order=values)
    assert set(table.named.values()) == set(values)
    scheme = scheme_of_table(table)
    for name, of in regions.items():
        assert list(scheme.region_values[name]) == of
    for value in values:
        name = next(label for label, v in scheme.label_values.items() if v == value)
        assert name in (f"r{values.index(value)}", f"rest_of_r{values.index(value)}")


@pytest.mark.parametrize(
    ("labels", "channels", "why"),
    [
        ({"mean": 1, "b": 2}, [], "called mean"),
        ({"": 1, "b": 2}, [], "not a name"),
        ({"a b": 1, "a-b": 2, "a  b": 3}, [], "not a name of at most 32"),
        ({"liver": 1.5}, [], "1.5 is not a whole number"),
        ({"liver": True}, [], "True is not a whole number"),
        ({"liver": None}, [], "None is not a whole number"),
        ({"1": "liver", "2": "liver"}, [], "'liver' is the name of 1 and of 2"),
        ({"liver": 1}, ["CT", ""], "'' cannot be the name of a contrast"),
        ({"liver": 1}, ["CT a", "CT-a"], "the contrast ct_a twice"),
        ({"liver": 1}, ["CT", "seg"], "'seg' cannot be the name of a contrast"),
        ({"liver": 1}, ["C" * 40], "cannot be the name of a contrast"),
    ],
)
def test_names_that_cannot_be_taken_are_refused(
    tmp_path: Path, labels: dict[str, Any], channels: list[str], why: str
) -> None:
    with pytest.raises(DataError, match=r"cannot be taken|not understood") as caught:
        scheme_of_table(labels_named({"background": 0, **labels}, tmp_path / "dataset.json", channels))
    assert why in caught.value.why and any(text in caught.value.fix for text in ("each name once", "TOML"))


def written(root: Path, key: str, advised: str) -> None:
    """Put the first object that a message advises for a key into dataset.json."""
    objects = advised.partition(f'"{key}": ')[2]
    found = json.loads((root / "dataset.json").read_text())
    found[key], _ = json.JSONDecoder().raw_decode(objects)
    (root / "dataset.json").write_text(json.dumps(found))


@pytest.mark.parametrize(
    ("labels", "what", "why"),
    [
        (["background", "edema", "necrosis", "enhancing tumor"], "have no values", "labels is a list"),
        (["edema", "necrosis", "enhancing tumor"], "have no values", "labels is a list"),
        ([{"name": "edema", "value": 1}], "have no values", "labels is a list"),
        ("edema", "have no values", "labels is a text"),
        (None, "have no values", "labels is null"),
        (..., "have no values", "It has no labels"),
    ],
)
def test_labels_without_values_are_named_and_what_is_advised_helps(
    tmp_path: Path, labels: Any, what: str, why: str
) -> None:
    root = make_raw(tmp_path / "raw")
    description = json.loads((root / "dataset.json").read_text())
    del description["labels"]
    (root / "dataset.json").write_text(json.dumps({**description, **({} if labels is ... else {"labels": labels})}))
    for read in (find_subjects, lambda folder: LabelFolder(folder).labels("BRATS_001")):
        with pytest.raises(DataError, match=what) as caught:
            read(root)
        assert why in caught.value.why and "Give " not in caught.value.fix
    assert "--labels NAME" in caught.value.fix
    summary = prepare(root, tmp_path / "named", protocol=SMALL, labels="msd")
    assert summary.subjects[0].label_voxels == {"ED": 24, "NCR": 16, "ET": 8}
    written(root, "labels", caught.value.fix)
    assert scheme_in(root).label_values == MSD


@pytest.mark.parametrize(
    "labels",
    [
        {"background": "0", "edema": "1", "necrosis": "2", "enhancing tumor": "3"},
        {"edema": "1.0", "necrosis": 2.0, "enhancing tumor": " 3 "},
        {"0": "background", "1.0": "edema", "2": "necrosis", "3": "enhancing tumor"},
        {"edema": [1], "necrosis": ["2"], "enhancing tumor": [3.0]},
        {"whole tumor": ["1", "2", "3"], "tumor core": ["2", "3"], "enhancing tumor": ["3"]},
    ],
)
def test_values_in_other_forms_are_read(tmp_path: Path, labels: dict[str, Any]) -> None:
    root = make_raw(tmp_path)
    description = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps({**description, "labels": labels}))
    assert scheme_in(root).label_values == MSD


@pytest.mark.parametrize(
    ("labels", "why", "fix"),
    [
        ({"edema": 0, "necrosis": 1, "enhancing": 2}, "'edema' has the value 0", "Call 0 background"),
        ({"liver": 0, "kidney": 1}, "'liver' has the value 0", "Call 0 background"),
        ({"edema": "one", "necrosis": 2}, "Neither 'edema' nor 'one' is a number", '"labels": {"background": 0'),
        ({"edema": {"value": 1}}, "is not a whole number", '"labels": {"background": 0'),
    ],
)
def test_a_label_of_value_0_is_no_label(tmp_path: Path, labels: dict[str, Any], why: str, fix: str) -> None:
    with pytest.raises(DataError) as caught:
        labels_named(labels, tmp_path / "dataset.json")
    assert why in caught.value.why and fix in caught.value.fix
    renamed = {"background" if value == 0 else name: value for name, value in labels.items()}
    if renamed != labels:
        assert labels_named(renamed, tmp_path / "dataset.json").named == {n: v for n, v in labels.items() if v}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"labels": {"background": 0,}}', "line 1 column"),
        ("[1, 2]", "a list instead of an object"),
        ("", "Expecting value"),
    ],
)
def test_a_description_that_is_not_json_says_where(tmp_path: Path, text: str, why: str) -> None:
    root = make_raw(tmp_path)
    (root / "dataset.json").write_text(text)
    with pytest.raises(DataError, match=r"dataset.json cannot be read") as caught:
        find_subjects(root)
    assert why in caught.value.why
    (root / "dataset.json").write_text(caught.value.fix.partition("as in ")[2].removesuffix("."))
    assert find_subjects(root, names=["flair=T1,t1=T1Gd,t1ce=T2,t2=FLAIR"])


@pytest.mark.parametrize("channels", [{"T1": 0, "T2": 1}, {"0": ["T1"]}, "T1,T2", ...])
def test_channels_without_numbers_are_named_and_what_is_advised_helps(tmp_path: Path, channels: Any) -> None:
    root = make_raw(tmp_path, channels=("T1", "T1Gd", "T2", "FLAIR"))
    description = json.loads((root / "dataset.json").read_text())
    del description["modality" if "modality" in description else "channel_names"]
    given = {} if channels is ... else {"channel_names": channels}
    (root / "dataset.json").write_text(json.dumps({**description, **given}))
    with pytest.raises(DataError, match=r"do not say which channel|is known to be t1") as caught:
        find_subjects(root)
    written(root, "channel_names", caught.value.fix)
    assert find_subjects(root)[0].channels == {"t1": 0, "t1ce": 1, "t2": 2, "flair": 3}


def test_a_name_that_stands_twice_in_a_description_is_refused(tmp_path: Path) -> None:
    make_raw(tmp_path)
    for text in (
        '{"channel_names": {"0": "T1"}, "labels": {"edema": 1, "edema": 2}}',
        '{"labels": {"a": 1}, "labels": {}}',
    ):
        (tmp_path / "dataset.json").write_text(text)
        with pytest.raises(DataError, match="has a name twice"):
            find_subjects(tmp_path)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("edema", ("ED",)),
        ("peritumoral oedema", ("ED",)),
        ("SNFH", ("ED",)),
        ("surrounding non-enhancing FLAIR hyperintensity", ("ED",)),
        ("NCR/NET", ("NCR", "NET")),
        ("non-enhancing tumor", ("NET",)),
        ("NETC", ("NCR",)),
        ("necrotic tumor core (NCR)", ("NCR",)),
        ("enhancing tumour", ("ET",)),
        ("GD-enhancing tumor", ("ET",)),
        ("Enhancing Tumor Core", ("ET",)),
        ("edema and necrosis", ("ED", "NCR")),
        ("liver", ()),
        ("tumor without edema", ()),
        ("resection cavity", ("RC",)),
        ("cystic component", ("CC",)),
        ("not cystic", ()),
    ],
)
def test_names_of_labels(name: str, meant: tuple[str, ...]) -> None:
    assert label_meant(name) == meant


@settings(deadline=None)
@given(values=st.permutations([1, 2, 3]), turned=st.booleans())
def test_any_order_of_values_is_read_by_name(values: list[int], turned: bool) -> None:
    ours = ("edema", "necrosis", "enhancing tumor")
    labels: dict[str, Any] = dict(zip(ours, values, strict=True))
    if turned:
        labels = {str(value): name for name, value in labels.items()}
    found = labels_named(labels, Path("dataset.json")).scheme
    assert found is not None
    assert found.label_values == {"background": 0, **dict(zip(("ED", "NCR", "ET"), values, strict=True))}


def test_other_numbers_of_channels_and_values_are_refused(tmp_path: Path) -> None:
    make_raw(tmp_path, ("a",))
    subject = find_subjects(tmp_path)[0]
    labels = stored_labels()
    labels[0, 0, 0] = 4
    nib.save(nib.Nifti1Image(labels, np.diag([-1.0, -1.0, 1.0, 1.0])), tmp_path / "labelsTr" / "a.nii.gz")
    with pytest.raises(DataError, match="It is not known which labels a has") as caught:
        prepare(tmp_path, tmp_path.parent / "out", protocol=SMALL)
    assert "which does not have 4" in caught.value.why
    assert load_subject(subject).stored_labels == (0, 1, 2, 3, 4)
    with pytest.raises(SubjectError, match="unknown label value 4"):
        load_subject(dataclasses.replace(subject, label_values=dict.fromkeys(range(4), 0)))
    with pytest.raises(VolumeError, match="4-D image of 3 channels"):
        read_channels(tmp_path / "imagesTr" / "a.nii.gz", 3)


def test_other_formats_are_named(tmp_path: Path) -> None:
    make_raw(tmp_path, ("a",))
    (tmp_path / "imagesTr" / "a.nii.gz").rename(tmp_path / "imagesTr" / "a.nrrd")
    (tmp_path / "labelsTr" / "a.nii.gz").unlink()
    with pytest.raises(DataError, match="no subjects") as caught:
        find_subjects(tmp_path)
    assert "imagesTr/a.nrrd (convert them to NIfTI)" in caught.value.details


def test_cases_without_image_or_labels_are_named(tmp_path: Path) -> None:
    make_raw(tmp_path, ("a", "b", "c", "d"), four_d=False)
    (tmp_path / "imagesTr" / "b_0002.nii.gz").unlink()
    (tmp_path / "labelsTr" / "c.nii.gz").unlink()
    for k in range(4):
        (tmp_path / "imagesTr" / f"d_{k:04d}.nii.gz").unlink()
    assert [str(bad) for bad in survey_folder(tmp_path).bad] == [
        "b: missing t1ce",
        "c: missing segmentation (seg)",
        "d: missing t1 and t1ce and t2 and flair",
    ]


# ---------------------------------------------------------------------------------------------------- BIDS' own table


def test_a_dseg_table_says_what_values_are(tmp_path: Path, make_subject: Callable[..., Path]) -> None:
    folder = make_subject(tmp_path / "made", "x", seg=stored_labels())
    names = {"t1": "_T1w", "t1ce": "_ce-gadolinium_T1w", "t2": "_T2w", "flair": "_FLAIR", "seg": "_dseg"}
    for subject, (kind, ending) in itertools.product(("sub-01", "sub-02"), names.items()):
        place = tmp_path / "bids" / ("derivatives/seg/" if kind == "seg" else "") / subject / "anat"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{subject}{ending}.nii.gz").write_bytes((folder / f"x_{kind}.nii.gz").read_bytes())
    table = tmp_path / "bids" / "derivatives" / "seg" / "dseg.tsv"
    table.write_text("index\tname\n1\tEdema\n2\tNecrosis\n3\tEnhancing tumor\n")
    subjects = find_subjects(tmp_path / "bids")
    assert [s.id for s in subjects] == ["sub-01", "sub-02"]
    assert counts(load_subject(subjects[1]).labels) == TRUE
    assert counts(LabelFolder(tmp_path / "bids").labels("sub-01")[0]) == TRUE
    table.write_text("index\tname\n1\tgrey matter\n2\twhite matter\n3\tcsf\n")
    with pytest.raises(DataError, match="not all known"):
        prepare(tmp_path / "bids", tmp_path / "out", protocol=SMALL)


@pytest.mark.parametrize(
    "labels", [{"background": 0, "kidney": 1, "tumor": 2, "cyst": 3}, {"liver": 1, "lesion": 2, "x": 3}]
)
def test_labels_of_another_anatomy_are_asked_about_before_its_channels(tmp_path: Path, labels: dict[str, int]) -> None:
    root = make_raw(tmp_path / "in", channels=("CT",), description={"channel_names": {"0": "CT"}, "labels": labels})
    with pytest.raises(DataError, match="not all known") as caught:
        prepare(root, tmp_path / "out", protocol=SMALL)
    assert "--labels table" in caught.value.fix and "t1" not in caught.value.fix
    ct = dataclasses.replace(SMALL, contrasts=("ct",))
    assert prepare(root, tmp_path / "out", protocol=ct, labels="table").n_samples == 8  # the advice
