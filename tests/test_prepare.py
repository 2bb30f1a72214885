"""prepare: refuses before it writes, writes the same whatever the workers, goes on after an interruption."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from synthkit.data import prepare as prepare_module
from synthkit.data import survey as survey_module
from synthkit.data.dataset import Dataset
from synthkit.data.prepare import prepare
from synthkit.data.slices import SliceProtocol, slice_volume
from synthkit.data.subjects import SubjectError, find_subjects, load_subject
from synthkit.data.writer import DatasetWriter
from synthkit.errors import DataError, UsageError

MakeSubject = Callable[..., Path]

# The small subjects' slices have 20 x 16 brain pixels of 65,536: a rule that keeps them.
SMALL = SliceProtocol(size=64, brain_fraction=0.004)


@pytest.fixture
def subjects(tmp_path: Path, make_subject: MakeSubject) -> Path:
    root = tmp_path / "subjects"
    for n in range(5):
        make_subject(root, f"s{n}", shape=(24, 20, 3 + n))
    return root


def _content(path: Path) -> tuple[Any, ...]:
    data = Dataset(path)
    images, labels = data.read(range(len(data)))
    return data.digest, images.tobytes(), labels.tobytes(), [row.id for row in data.samples]


# -------------------------------------------------------------------------------------------------------- what it makes


def test_dataset_and_summary(tmp_path: Path, subjects: Path, make_subject: MakeSubject) -> None:
    dark = np.zeros((24, 20, 4), np.int16)
    dark[2:-2, 2:-2, 1:] = 100 + np.arange(20)[:, None, None]
    dark[2, 2, 1] = -5
    make_subject(subjects, "s9", t1=dark)
    summary = prepare(subjects, tmp_path / "out", protocol=SMALL, holdout="s1,s9", seed=3)
    data = Dataset(tmp_path / "out")
    assert len(data) == summary.n_samples == 3 + 4 + 5 + 6 + 7 + 3
    assert [row.id for row in data.samples][:4] == ["s0_000", "s0_001", "s0_002", "s1_000"]
    assert [(row.subject, row.slice, row.split) for row in data.samples if row.subject == "s9"] == [
        ("s9", z, "holdout") for z in (1, 2, 3)
    ]
    assert data.contrasts == ("t1", "t1ce", "t2", "flair") and data.size == (64, 64) and data.kind == "real"
    assert {row.subject for row in data.samples if row.split == "holdout"} == {"s1", "s9"}

    last = summary.subjects[-1]
    assert (last.id, last.split, last.kept, last.n_dropped) == ("s9", "holdout", (1, 2, 3), 1)
    # Columns of labels through all 4 slices: 6 of oedema, 4 of necrotic core, 2 of enhancing tumour.
    assert last.label_voxels == {"NCR": 16, "ED": 24, "ET": 8}
    assert last.negative_voxels == {"t1": 1}
    assert "slab: 4 slices, 4 mm" in last.notes

    volumes = load_subject(find_subjects(subjects / "s4")[0])
    images, labels = data.read([18, 24])
    slices = slice_volume(volumes, SMALL)
    np.testing.assert_array_equal(images, slices.images[[0, 6]])
    np.testing.assert_array_equal(labels, slices.labels[[0, 6]])

    description = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert SliceProtocol.from_dict(description["protocol"]) == SMALL
    assert (description["protocol"]["holdout"], description["protocol"]["seed"]) == ("s1,s9", 3)
    assert description["provenance"]["summary"]["splits"]["holdout"]["slices_kept"] == 7
    assert str(tmp_path) not in (tmp_path / "out" / "dataset.json").read_text()


def test_workers_do_not_change_the_result(tmp_path: Path, subjects: Path) -> None:
    for workers in (1, 2, 5):
        prepare(subjects, tmp_path / str(workers), protocol=SMALL, holdout="2", workers=workers)
    assert _content(tmp_path / "1") == _content(tmp_path / "2") == _content(tmp_path / "5")


def test_progress(tmp_path: Path, subjects: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    prepare(subjects, tmp_path / "out", protocol=SMALL, on_progress=lambda *call: calls.append(call))
    assert [call for call in calls if call[0] == "check"] == [("check", n, 5) for n in range(1, 6)]
    assert [call for call in calls if call[0] == "write"] == [("write", n, 5) for n in range(6)]


def test_notes(tmp_path: Path, make_subject: MakeSubject) -> None:
    two = np.zeros((24, 20, 4), np.uint8)
    two[5, 5] = 2
    cut = np.zeros((24, 20, 4), np.int16)
    cut[2:12, 2:-2] = 9 + np.arange(16)[:, None]
    make_subject(tmp_path / "in", "A", seg=two, flair=cut)
    ras = np.diag([1.0, 1.0, 1.0, 1.0])
    make_subject(tmp_path / "in", "B", affines=dict.fromkeys(("t1", "t1ce", "t2", "flair", "seg"), ras))
    summary = prepare(tmp_path / "in", tmp_path / "out", protocol=SMALL)
    assert "flair is 0 in 50.0% of the brain" in summary.subjects[0].notes
    orientation, unit, lost, _misfit, _same_volume = summary.notes
    assert lost.startswith("a large part of the brain is 0 in flair of A (50%)") and "--contrasts" in lost
    few = ("t1", "t1ce", "t2")  # the advice, carried out
    again = prepare(tmp_path / "in", tmp_path / "few", protocol=replace(SMALL, contrasts=few))
    assert not any("is 0 in" in note for note in (*again.notes, *again.subjects[0].notes))
    assert orientation.startswith("1 of 2 affines say nothing of orientation (B)")
    assert unit == "2 of 2 headers name no unit of the voxel size: taken as mm"


def test_real_subjects(tmp_path: Path, real_subjects: Path) -> None:
    summary = prepare(real_subjects, tmp_path / "out", holdout="TCGA-DU-7294")
    assert [len(s.kept) for s in summary.subjects] == [55, 33, 72, 65, 83]
    assert len(Dataset(tmp_path / "out")) == 308
    by_id = {s.id: s for s in summary.subjects}
    assert by_id["TCGA-DU-7294"].negative_voxels == {"t1": 2250, "t1ce": 1242, "t2": 136, "flair": 1561}
    assert by_id["TCGA-DU-7294"].label_voxels["ET"] == 0
    assert by_id["BRATS_009"].notes == ("slab: 55 slices, 55 mm", "flair is 0 in 4.5% of the brain")
    assert by_id["TCGA-FG-6692"].notes == ()


# --------------------------------------------------------------------------------------------------------- bad subjects


def _damage(subjects: Path, make_subject: MakeSubject) -> None:
    (subjects / "s1" / "s1_t2.nii.gz").unlink()
    stored = (subjects / "s2" / "s2_flair.nii.gz").read_bytes()
    (subjects / "s2" / "s2_flair.nii.gz").write_bytes(stored[: len(stored) // 2])
    make_subject(subjects, "s3", shape=(24, 20, 6), t1=np.zeros((24, 20, 6), np.int16))


def test_bad_subjects_are_all_named_before_anything_is_written(
    tmp_path: Path, subjects: Path, make_subject: MakeSubject
) -> None:
    _damage(subjects, make_subject)
    with pytest.raises(DataError, match="3 of 5 subjects cannot be used") as caught:
        prepare(subjects, tmp_path / "out", protocol=SMALL)
    missing, truncated, empty = caught.value.details
    assert missing == "s1: missing t2"
    assert truncated.startswith("s2: s2_flair.nii.gz: its gzip stream is truncated")
    assert empty == "s3: t1 is empty: all voxels are 0"
    assert not (tmp_path / "out").exists()


def test_skip_bad_goes_on_without_them(tmp_path: Path, subjects: Path, make_subject: MakeSubject) -> None:
    _damage(subjects, make_subject)
    summary = prepare(subjects, tmp_path / "out", protocol=SMALL, holdout="1", skip_bad=True)
    assert [s.id for s in summary.subjects] == ["s0", "s4"]
    assert [bad.id for bad in summary.bad_subjects] == ["s1", "s2", "s3"]
    assert Dataset(tmp_path / "out").subjects == ("s0", "s4")
    description = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert description["provenance"]["summary"]["bad_subjects"][0] == {"subject": "s1", "reason": "missing t2"}


def test_skip_bad_with_no_good_subject(tmp_path: Path, make_subject: MakeSubject) -> None:
    make_subject(tmp_path / "in", "A", t1=None)
    with pytest.raises(DataError, match="1 of 1 subjects cannot be used"):
        prepare(tmp_path / "in", tmp_path / "out", protocol=SMALL, skip_bad=True)


def test_a_volume_too_large_is_a_bad_subject(tmp_path: Path, make_subject: MakeSubject) -> None:
    make_subject(tmp_path / "in", "A", shape=(300, 20, 2))
    with pytest.raises(DataError) as caught:
        prepare(tmp_path / "in", tmp_path / "out", protocol=SMALL)
    assert "A: t1 is 300x20 pixels in the plane and not empty outside" in caught.value.details[0]


def test_no_slice_kept_at_all(tmp_path: Path, subjects: Path) -> None:
    with pytest.raises(DataError, match="keeps no slice") as caught:
        prepare(subjects, tmp_path / "out")
    assert "15%" in caught.value.why
    assert not (tmp_path / "out").exists()


def test_impossible_holdout_is_said_before_reading(
    tmp_path: Path, subjects: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (survey_module, prepare_module):
        monkeypatch.setattr(module, "load_subject", lambda *_: pytest.fail("a subject was read"))
    monkeypatch.setattr(prepare_module, "_FEW_SUBJECTS", 4)
    for holdout in ("nobody", "5", "akbar2024"):
        with pytest.raises(UsageError):
            prepare(subjects, tmp_path / "out", protocol=SMALL, holdout=holdout)


def test_bad_subjects_are_said_before_a_holdout_that_cannot_be(tmp_path: Path, make_subject: MakeSubject) -> None:
    root = tmp_path / "subjects"
    (make_subject(root, "a") / "a_t1.nii.gz").unlink()
    with pytest.raises(DataError, match="1 of 1 subjects") as caught:  # told by its name
        prepare(root, tmp_path / "out", protocol=SMALL, holdout="0.2")
    assert caught.value.details[0] == "a: missing t1" and "holdout" in " ".join(caught.value.details).lower()
    (make_subject(root, "a") / "a_t2.nii.gz").write_bytes(b"broken" * 1000)
    with pytest.raises(DataError, match="1 of 1 subjects") as caught:  # told by reading it
        prepare(root, tmp_path / "out", protocol=SMALL, holdout="0.2")
    assert caught.value.details[0].startswith("a: a_t2.nii.gz: it is not NIfTI")
    make_subject(root, "b")
    with pytest.raises(UsageError) as usage:
        prepare(root, tmp_path / "out", protocol=SMALL, holdout="1", skip_bad=True)
    assert usage.value.details[-1].startswith("left out a: a_t2.nii.gz")
    assert not (tmp_path / "out").exists()


def test_rounded_labels_and_files_that_were_not_read_are_noted(tmp_path: Path, make_subject: MakeSubject) -> None:
    root = tmp_path / "subjects"
    for name in ("a", "b"):
        folder = make_subject(root, name)
    (folder / "b_extra.nii.gz").write_bytes(b"x" * 2000)
    seg = nib.load(folder / "b_seg.nii.gz")
    nib.save(nib.Nifti1Image(seg.get_fdata() * (1 - 1e-7), seg.affine), folder / "b_seg.nii.gz")
    summary = prepare(root, tmp_path / "out", protocol=SMALL, holdout="1")
    assert any("not quite whole numbers" in note for note in summary.subjects[1].notes)
    assert any("b/b_extra.nii.gz" in note for note in summary.notes)


# ------------------------------------------------------------------------------------- interruptions, existing outputs


class _KilledError(BaseException):
    """Stands for a kill: nothing is tidied up after it."""


def _interrupted(subjects: Path, out: Path, after: int, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    """A prepare that dies after so many subjects, with a commit after each and none at the end."""
    real = DatasetWriter.append
    written = 0

    def append(self: Any, *args: Any) -> None:
        nonlocal written
        if written == after:
            raise _KilledError
        real(self, *args)
        self.commit()
        written += 1

    with monkeypatch.context() as patch:
        patch.setattr(DatasetWriter, "append", append)
        patch.setattr(DatasetWriter, "__exit__", lambda *_: None)
        with pytest.raises(_KilledError):
            prepare(subjects, out, protocol=SMALL, **options)


@pytest.mark.parametrize("after", [0, 1, 3])
def test_resume_after_a_kill_gives_the_same_dataset(
    tmp_path: Path, subjects: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    out = tmp_path / "out"
    _interrupted(subjects, out, after, monkeypatch, holdout="2")
    with pytest.raises(DataError):
        Dataset(out)
    summary = prepare(subjects, out, protocol=SMALL, holdout="2", resume=True)
    assert summary.n_resumed == [0, 3, 7, 12][after]
    prepare(subjects, tmp_path / "whole", protocol=SMALL, holdout="2")
    assert _content(out) == _content(tmp_path / "whole")
    # Once more: nothing is left to do.
    assert prepare(subjects, out, protocol=SMALL, holdout="2", resume=True).n_resumed == 25
    assert _content(out) == _content(tmp_path / "whole")


def test_resume_does_not_read_finished_subjects_a_second_time(
    tmp_path: Path, subjects: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _interrupted(subjects, tmp_path / "out", 3, monkeypatch)
    sliced = []
    real = prepare_module.slice_volume

    def spy(volumes: Any, protocol: Any) -> Any:
        sliced.append(volumes.id)
        return real(volumes, protocol)

    monkeypatch.setattr(prepare_module, "slice_volume", spy)
    prepare(subjects, tmp_path / "out", protocol=SMALL, resume=True)
    assert sorted(sliced) == ["s3", "s4"]


def test_resume_with_other_settings_or_subjects_is_refused(
    tmp_path: Path, subjects: Path, make_subject: MakeSubject, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    _interrupted(subjects, out, 3, monkeypatch, holdout="2")
    with pytest.raises(UsageError, match="cannot be continued"):
        prepare(subjects, out, protocol=SMALL, holdout="1", resume=True)
    make_subject(subjects, "a-new-first-one", shape=(24, 20, 3))
    with pytest.raises(UsageError, match=r"begun here is of other subjects.*at sample 0"):
        prepare(subjects, out, protocol=SMALL, holdout="2", resume=True)


def test_existing_outputs(tmp_path: Path, subjects: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    prepare(subjects, out, protocol=SMALL)
    before = _content(out)
    with pytest.raises(UsageError, match="is not empty"):
        prepare(subjects, out, protocol=SMALL)
    assert _content(out) == before
    prepare(subjects, out, protocol=SMALL, holdout="1", overwrite=True)
    assert _content(out)[0] != before[0]


@pytest.mark.parametrize("option", ["overwrite", "resume"])
@pytest.mark.parametrize("others", [{"notes.txt": "x"}, {}, {"dataset.json": '{"name": "Dataset001_BrainTumour"}'}])
def test_what_is_no_dataset_is_left_alone(tmp_path: Path, subjects: Path, option: str, others: dict[str, str]) -> None:
    thesis = tmp_path / "out" / "images" / "thesis.tex"
    thesis.parent.mkdir(parents=True)
    thesis.write_text("years of work")
    for name, text in others.items():
        (tmp_path / "out" / name).write_text(text)
    with pytest.raises(UsageError, match="is not a dataset"):
        prepare(subjects, tmp_path / "out", protocol=SMALL, **{option: True})
    assert thesis.read_text() == "years of work"


def test_overwrite_keeps_the_old_dataset_if_subjects_are_bad(tmp_path: Path, subjects: Path) -> None:
    prepare(subjects, tmp_path / "out", protocol=SMALL)
    before = _content(tmp_path / "out")
    (subjects / "s1" / "s1_t2.nii.gz").unlink()
    with pytest.raises(DataError):
        prepare(subjects, tmp_path / "out", protocol=SMALL, overwrite=True)
    assert _content(tmp_path / "out") == before


def test_output_inside_the_subjects_is_refused(tmp_path: Path, subjects: Path) -> None:
    for out in (subjects, subjects / "out", subjects.parent):
        with pytest.raises(UsageError, match="overlap"):
            prepare(subjects, out, protocol=SMALL, overwrite=True)


def test_a_subject_that_changes_between_the_passes(
    tmp_path: Path, subjects: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def report(phase: str, done: int, total: int) -> None:
        if (phase, done) == ("check", total):
            path = subjects / "s4" / "s4_t1.nii.gz"
            image = nib.load(path)
            data = np.asanyarray(image.dataobj).copy()
            data[:, :, 0] = 0
            nib.save(nib.Nifti1Image(data, image.affine), path)

    monkeypatch.setattr("synthkit.data.prepare.MOST_BYTES", 0)  # nothing is kept: all are read again
    with pytest.raises(SubjectError, match="changed while they were being read"):
        prepare(subjects, tmp_path / "out", protocol=SMALL, on_progress=report, workers=1)
    with pytest.raises(DataError, match="not complete"):
        Dataset(tmp_path / "out")


def test_dry_run_checks_and_writes_nothing(tmp_path: Path, subjects: Path) -> None:
    summary = prepare(subjects, tmp_path / "out", protocol=SMALL, holdout="2", dry_run=True)
    assert summary.n_samples == 25 and sum(s.split == "holdout" for s in summary.subjects) == 2
    assert not (tmp_path / "out").exists()
    (subjects / "s1" / "s1_t2.nii.gz").unlink()
    with pytest.raises(DataError, match="1 of 5 subjects"):
        prepare(subjects, tmp_path / "out", protocol=SMALL, dry_run=True)


def test_one_subject_under_two_names_is_noticed(tmp_path: Path, make_subject: MakeSubject) -> None:
    root = tmp_path / "subjects"
    for name, height in (("a", 3), ("b", 4), ("c", 3)):
        make_subject(root, name, shape=(24, 20, height))
    notes = prepare(root, tmp_path / "data", protocol=SMALL, holdout="a").notes
    assert next(note for note in notes if "same volume" in note).startswith("a, c hold the same volume")
