"""The phantom: deterministic subjects with exact labels that look like BraTS and are written like BraTS."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from synthkit.data import phantom, phantom_anatomy
from synthkit.errors import NotWritableError, UsageError
from synthkit.schemes import BRATS

needs_template = pytest.mark.skipif(
    importlib.util.find_spec("nilearn") is None, reason="nilearn, which brings the MNI152 template, is not installed"
)
#: The same heads at 2 mm: an eighth of the voxels.
COARSE = {"shape": (120, 120, 78), "spacing_mm": 2.0}
ENHANCING_INDEX, LOW_GRADE_INDEX = 1, 4
SEED = 3


@pytest.fixture(scope="module")
def subject() -> dict[str, np.ndarray]:
    """A subject with an enhancing tumour."""
    return phantom.make_subject(ENHANCING_INDEX, SEED, **COARSE)


@pytest.fixture(scope="module")
def low_grade() -> dict[str, np.ndarray]:
    return phantom.make_subject(LOW_GRADE_INDEX, SEED, **COARSE)


def bounding_box_mm(mask: np.ndarray, spacing_mm: float) -> np.ndarray:
    found = np.argwhere(mask)
    return np.array([found.min(axis=0), found.max(axis=0)]) * spacing_mm


@needs_template
def test_volumes_have_the_types_of_brats(subject):
    assert list(subject) == ["t1", "t1ce", "t2", "flair", "seg"]
    assert {volume.shape for volume in subject.values()} == {(120, 120, 78)}
    assert {subject[c].dtype for c in BRATS.contrast_names} == {np.dtype(np.int16)}
    assert subject["seg"].dtype == np.uint8


@needs_template
def test_a_subject_depends_on_seed_and_index_alone(subject):
    phantom.make_subject(7, 8, **COARSE)  # what was made before does not matter
    again = phantom.make_subject(ENHANCING_INDEX, SEED, **COARSE)
    for name, volume in subject.items():
        np.testing.assert_array_equal(volume, again[name])


@needs_template
def test_subjects_differ_in_anatomy_not_only_in_brightness(subject, low_grade):
    for contrast in BRATS.contrast_names:
        both = (subject[contrast] > 0) & (low_grade[contrast] > 0)
        inside = np.corrcoef(subject[contrast][both], low_grade[contrast][both])[0, 1]
        assert inside < 0.8, contrast
    assert np.mean((subject["t1"] > 0) != (low_grade["t1"] > 0)) > 0.01
    other_seed = phantom.make_subject(ENHANCING_INDEX, SEED + 1, **COARSE)
    assert not np.array_equal(other_seed["seg"], subject["seg"])


@needs_template
def test_a_subject_is_not_symmetric(subject):
    brain = subject["t1"] > 0
    low, high = (int(edge) for edge in bounding_box_mm(brain, 1)[:, 0])
    cropped = brain[low : high + 1]
    assert np.mean(cropped != cropped[::-1]) > 0.01


@needs_template
def test_background_is_zero_in_the_same_voxels_of_all_contrasts(subject):
    brain = subject["t1"] > 0
    for contrast in BRATS.contrast_names:
        np.testing.assert_array_equal(subject[contrast] > 0, brain)
        assert subject[contrast].min() == 0
    # A head of ordinary size (1.0 to 2.0 litres), whole in the grid except where the brain stem leaves it.
    assert 1.0e6 < brain.sum() * 8 < 2.0e6
    assert not brain[[0, -1]].any() and not brain[:, [0, -1]].any() and not brain[:, :, -1].any()


@needs_template
def test_labels_lie_in_the_brain_and_nest(subject):
    seg = subject["seg"]
    assert set(np.unique(seg)) == {0, 1, 2, 4}
    assert not (seg[subject["t1"] == 0]).any()
    # Whatever touches necrosis is enhancing tumour: the rim is closed.
    necrosis = seg == 1
    surface = ndimage.binary_dilation(necrosis) & ~necrosis
    assert surface.any() and (seg[surface] == 4).all()
    # Oedema lies outside: filling the core's holes finds none.
    core = (seg == 1) | (seg == 4)
    assert not (seg[ndimage.binary_fill_holes(core)] == 2).any()
    assert ndimage.label(core)[1] == 1 and ndimage.label(seg > 0)[1] == 1


@needs_template
def test_a_low_grade_tumour_has_no_enhancing_label(low_grade):
    seg = low_grade["seg"]
    assert set(np.unique(seg)) == {0, 1, 2}
    brain = (low_grade["t1"] > 0) & (seg == 0)
    assert low_grade["t1ce"][seg == 1].mean() < low_grade["t1ce"][brain].mean()


def white_matter(subject: dict[str, np.ndarray]) -> np.ndarray:
    """Healthy white matter: the brightest quarter of T1, in the middle half of T2."""
    healthy = (subject["t1"] > 0) & (subject["seg"] == 0)
    return healthy & (subject["t1"] > np.percentile(subject["t1"][healthy], 75))


@needs_template
def test_tumour_tissues_look_as_they_do_in_each_contrast(subject):
    white = white_matter(subject)

    def ratio(contrast: str, label: int) -> float:
        return float(subject[contrast][subject["seg"] == label].mean() / subject[contrast][white].mean())

    assert ratio("t1ce", 4) > 1.2 > 1.0 > ratio("t1", 4)
    assert ratio("t1", 1) < 0.85 and ratio("t1ce", 1) < ratio("t1ce", 4)
    assert ratio("t2", 2) > 1.3 and ratio("flair", 2) > 1.3
    assert ratio("t2", 1) > 1.3


@needs_template
def test_csf_is_bright_in_t2_and_dark_in_t1_and_flair(subject):
    # The darkest voxels of T1 deep in the healthy brain are ventricles and cisterns.
    brain = subject["t1"] > 0
    deep = ndimage.binary_erosion(brain, iterations=8) & (subject["seg"] == 0)
    csf = deep & (subject["t1"] < 0.5 * subject["t1"][white_matter(subject)].mean())
    assert csf.sum() > 100
    white = white_matter(subject)
    assert subject["t2"][csf].mean() > 1.8 * subject["t2"][white].mean()
    assert subject["flair"][csf].mean() < 0.8 * subject["flair"][white].mean()


@needs_template
def test_arrays_run_from_right_to_left_and_front_to_back(subject):
    """As in BraTS: with this affine the cerebellum is behind and below, and the ventricles above it."""
    assert nibabel.aff2axcodes(phantom.affine()) == ("L", "P", "S")
    np.testing.assert_array_equal(phantom.affine()[:, 3], [0, 239, 0, 1])
    brain = subject["t1"] > 0
    box = bounding_box_mm(brain, 2.0)
    size = box[1] - box[0]
    assert size[1] > size[0]  # longer than wide
    # The lowest slices hold cerebellum and brain stem: their centre is behind that of the whole brain.
    lowest = int(box[0, 2] / 2) + 3
    assert ndimage.center_of_mass(brain[:, :, lowest])[1] > ndimage.center_of_mass(brain)[1]


@needs_template
def test_a_coarser_grid_shows_the_same_head(subject):
    fine = phantom.make_subject(ENHANCING_INDEX, SEED)
    assert fine["t1"].shape == (240, 240, 155)
    # Bounding boxes agree within three voxels, tumour volumes within a fifth.
    fine_box, coarse_box = (bounding_box_mm(s["t1"] > 0, mm) for s, mm in ((fine, 1.0), (subject, 2.0)))
    assert np.abs(fine_box[:, :2] - coarse_box[:, :2]).max() <= 6
    volumes = (fine["seg"] > 0).sum(), 8 * (subject["seg"] > 0).sum()
    assert abs(volumes[0] - volumes[1]) < 0.2 * volumes[0]


def test_what_cannot_be_made_is_refused():
    for index, seed in ((-1, 0), (0, -1), (0, 2**63)):
        with pytest.raises(UsageError, match="no phantom subject"):
            phantom.make_subject(index, seed)
    with pytest.raises(UsageError, match="does not fit"):
        phantom.make_subject(0, 0, shape=(64, 64, 64))


def test_without_nilearn_the_error_says_what_to_install(monkeypatch, tmp_path):
    phantom_anatomy._template.cache_clear()
    monkeypatch.setattr(phantom_anatomy.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError) as caught:
        phantom.write_phantom(tmp_path / "out", 1, 0)
    assert "[local]" in caught.value.fix and "nilearn" in caught.value.why
    assert not (tmp_path / "out").exists()


# -------------------------------------------------------------------------------------------------- writing


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> tuple[Path, list[tuple[int, int]]]:
    """Two subjects written by two processes, and the progress that was reported."""
    out = tmp_path_factory.mktemp("phantom")
    seen: list[tuple[int, int]] = []
    folders = phantom.write_phantom(out, 2, SEED, workers=2, progress=lambda done, n: seen.append((done, n)))
    assert folders == [out / "Phantom_0001", out / "Phantom_0002"]
    return out, seen


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@needs_template
def test_files_are_named_and_laid_out_as_brats(written):
    out, seen = written
    assert seen == [(0, 2), (1, 2), (2, 2)]
    assert sorted(path.name for path in out.iterdir()) == ["Phantom_0001", "Phantom_0002"]
    names = {f"Phantom_0001_{c}.nii.gz" for c in ("t1", "t1ce", "t2", "flair", "seg")}
    assert set(contents(out / "Phantom_0001")) == names
    for name in names:
        image = nibabel.load(out / "Phantom_0001" / name)
        assert image.shape == (240, 240, 155)
        assert image.header.get_zooms() == (1.0, 1.0, 1.0)
        assert image.get_data_dtype() == (np.uint8 if "seg" in name else np.int16)
        np.testing.assert_array_equal(
            image.affine, np.array([[-1, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]])
        )
        assert image.header["descrip"].item() == b"synthkit phantom 1, seed 3, subject 1: not a patient"


@needs_template
def test_bytes_do_not_depend_on_the_number_of_subjects_or_workers(written, tmp_path):
    phantom.write_phantom(tmp_path, 1, SEED, workers=1)
    assert contents(tmp_path / "Phantom_0001") == contents(written[0] / "Phantom_0001")


@needs_template
def test_subjects_that_are_there_are_kept(written, monkeypatch):
    out, _ = written
    monkeypatch.setattr(phantom, "make_subject", lambda *_: pytest.fail("made again"))
    seen: list[tuple[int, int]] = []
    assert len(phantom.write_phantom(out, 2, SEED, progress=lambda *step: seen.append(step))) == 2
    assert seen == [(2, 2)]


@needs_template
def test_another_seed_does_not_mix_with_what_is_there(written):
    before = contents(written[0] / "Phantom_0002")
    with pytest.raises(UsageError, match="not subject 1 of seed 4"):
        phantom.write_phantom(written[0], 2, 4)
    assert contents(written[0] / "Phantom_0002") == before


def test_a_folder_with_a_file_missing_is_not_taken_for_a_subject(tmp_path):
    (tmp_path / "Phantom_0001").mkdir()
    with pytest.raises(UsageError, match="not subject 1"):
        phantom.write_phantom(tmp_path, 1, 0)


@needs_template
def test_a_failed_write_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*_: object) -> dict[str, np.ndarray]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(phantom, "make_subject", full)
    with pytest.raises(NotWritableError, match="No space left"):
        phantom.write_phantom(tmp_path, 1, 0, workers=1)
    assert list(tmp_path.iterdir()) == []


@needs_template
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_interrupted_while_it_runs_it_leaves_whole_subjects_only(tmp_path):
    out = tmp_path / "out"
    script = f"""
from pathlib import Path
from synthkit.data.phantom import write_phantom
if __name__ == "__main__":
    write_phantom(Path({str(out)!r}), 40, 0, workers=2, progress=lambda done, n: print(done, flush=True))
"""
    (tmp_path / "script.py").write_text(script)
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "script.py")], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 1:
            break
    os.killpg(process.pid, signal.SIGINT)  # as the terminal does: to the workers too
    assert process.wait(timeout=60) != 0
    deadline = time.monotonic() + 10
    while any(path.name.startswith(".") for path in out.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.1)
    folders = list(out.iterdir())
    assert 1 <= len(folders) < 40
    for folder in folders:
        assert folder.name.startswith("Phantom_") and len(list(folder.iterdir())) == 5
