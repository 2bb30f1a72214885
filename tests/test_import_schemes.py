"""Import: ids of samples say their label scheme as ids of subjects do; what they leave open is asked."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from synthkit import api
from synthkit.data.dataset import Dataset
from synthkit.data.importing import ImportSummary, import_images
from synthkit.data.labels import to_grey
from synthkit.errors import DataError

NAMES = ("t1n", "t1c", "t2w", "t2f", "seg")
SIDE = 48


def sample(of: dict[str, int], seed: int) -> list[np.ndarray]:
    """A head with a tumour that looks like one, its labels last; ``of``: NCR, ED, ET (and RC) -> value."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE]
    radius = np.hypot(y - 24, x - 24)
    brain = radius < 22
    parts = {"ED": radius < 14, "ET": radius < 10, "NCR": radius < 6, "RC": radius < 4, "WT": radius < 14}
    grey = {
        "ED": (80, 90, 190, 230),
        "ET": (90, 240, 150, 150),
        "NCR": (50, 60, 160, 120),
        "RC": (30, 30, 240, 30),
        "WT": (80, 90, 190, 230),
    }
    images = [np.where(brain, 110, 0) + brain * rng.integers(-8, 9, brain.shape) for _ in range(4)]
    labels = np.zeros((SIDE, SIDE), np.uint8)
    for name, inside in parts.items():
        if name in of:
            labels[inside] = of[name]
            for image, value in zip(images, grey[name], strict=True):
                image[inside] = value
    return [*(image.astype(np.uint8) for image in images), labels]


GLI_2023 = {"NCR": 1, "ED": 2, "ET": 3}
WITH_CAVITY = {**GLI_2023, "RC": 4}
OF_2018 = {"NCR": 1, "ED": 2, "ET": 4}


def save(root: Path, ids: Sequence[str], of: dict[str, int], n_values: int = 0, in_folders: bool = True) -> Path:
    """Pictures named as in 2023; labels as greys of exports of a scheme of so many values, else as label values."""
    for i, name in enumerate(ids):
        for channel, plane in zip(NAMES, sample(of, i), strict=True):
            as_grey = channel == "seg" and n_values
            folder = root / channel if in_folders else root
            folder.mkdir(parents=True, exist_ok=True)
            picture = to_grey(plane, range(n_values)) if as_grey else plane
            Image.fromarray(picture).save(folder / (f"{name}.png" if in_folders else f"{name}-{channel}.png"))
    return root


def bring(root: Path, out: Path, **options: str) -> tuple[ImportSummary, Dataset]:
    return api.import_images(root, out, **options), Dataset(out)  # type: ignore[arg-type]


def ids(pattern: str, n: int = 4) -> list[str]:
    return [pattern.format(i) for i in range(n)]


GLI = ids("BraTS-GLI-0000{}-000_075")


@pytest.mark.parametrize("in_folders", [True, False])
@pytest.mark.parametrize(
    ("names", "of", "n_values", "scheme"),
    [
        (GLI, GLI_2023, 0, "brats2023-gli"),
        (GLI, GLI_2023, 4, "brats2023-gli"),
        (GLI, WITH_CAVITY, 0, "gli2024"),
        (GLI, WITH_CAVITY, 5, "gli2024"),
        (ids("BraTS-GLI-0000{}-101_075"), GLI_2023, 5, "gli2024"),
        (ids("BraTS-GLI-0000{}_110"), GLI_2023, 0, "brats2023-gli"),  # the number of a slice is no timepoint
        (ids("BraTS-SSA-0000{}-000_075"), GLI_2023, 0, "ssa"),
    ],
)
def test_ids_say_the_scheme(
    tmp_path: Path, names: list[str], of: dict[str, int], n_values: int, scheme: str, in_folders: bool
) -> None:
    summary, dataset = bring(save(tmp_path / "in", names, of, n_values, in_folders), tmp_path / "out")
    assert dataset.scheme.name == scheme
    for name, value in of.items():
        assert summary.label_pixels[name] == sum((sample(of, i)[-1] == value).sum() for i in range(len(names)))
    assert any(scheme in note and "by the ids BraTS-" in note for note in summary.notes)
    assert not any("Nothing says" in note for note in summary.notes) and not summary.warnings


def test_levels_may_name_a_label_that_only_the_wider_scheme_has(tmp_path: Path) -> None:
    root = save(tmp_path / "in", GLI, WITH_CAVITY, 5)
    _, dataset = bring(root, tmp_path / "out", label_levels="NCR=51,ED=102,ET=153,RC=204")
    assert dataset.scheme.name == "gli2024"


@pytest.mark.parametrize(
    ("names", "of", "n_values", "why", "answer"),
    [
        (GLI, OF_2018, 5, "grey levels of BraTS to 2020 as well", "brats2018"),
        (GLI, {"WT": 1}, 0, "does not say what part of the tumour", "whole-tumour"),
        (ids("s{}"), OF_2018, 5, "none with ET as 4", "brats2018"),
        (ids("s{}"), GLI_2023, 0, "none with ET as 4", "brats2023-gli"),
        ([*GLI, "s1"], GLI_2023, 0, "1 of 5 say none, such as s1", "brats2023-gli"),
        ([*GLI, "BraTS-PED-00001-000_075"], GLI_2023, 0, "They say several", "brats2023-gli"),
        (GLI, {"ED": 1, "NCR": 2, "ET": 3}, 0, "NCR lies around ED", "msd"),
        (GLI, OF_2018, 0, "no sample has a 3", "brats2018"),
    ],
)
def test_what_ids_and_names_leave_open_is_asked_and_the_answer_helps(
    tmp_path: Path, names: list[str], of: dict[str, int], n_values: int, why: str, answer: str
) -> None:
    root = save(tmp_path / "in", names, of, n_values)
    with pytest.raises(DataError, match=why) as caught:
        bring(root, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert "--labels" in caught.value.fix
    named = re.findall(r"--labels ([a-z0-9-]+)", caught.value.fix)
    fits = [line.split(":")[0].removeprefix("fits ").split(" or ")[0] for line in caught.value.details]
    answer = answer if answer in (*named, *fits) or "NAME" in caught.value.fix else f"not {answer}"
    summary, dataset = bring(root, tmp_path / "out", labels=answer)
    assert dataset.scheme.name == answer
    for name, value in of.items():
        assert summary.label_pixels[name] == sum((sample(of, i)[-1] == value).sum() for i in range(len(names)))


@pytest.mark.parametrize("of", [{"NCR": 2, "ED": 1, "ET": 4}, {"NCR": 4, "ED": 2, "ET": 1}])
def test_greys_in_another_order_are_refused_as_in_prepare(tmp_path: Path, of: dict[str, int]) -> None:
    """Nothing says the scheme, the greys are those of exports, and images show that the labels are others."""
    old = dict(zip(NAMES, ("t1", "t1ce", "t2", "flair", "labels"), strict=True))
    root = save(tmp_path / "in", ids("s{}", 6), of, 5)
    for name, folder in old.items():
        (root / name).rename(root / folder)
    with pytest.raises(DataError, match="do not look like those of brats2018") as caught:
        bring(root, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (given,) = re.findall(r"--label-levels ([A-Z0-9=,]+)", caught.value.fix)
    summary, _ = bring(root, tmp_path / "out", label_levels=given)
    assert not summary.warnings
    for name, value in of.items():
        assert summary.label_pixels[name] == sum((sample(of, i)[-1] == value).sum() for i in range(6))
    insisted, _ = bring(root, tmp_path / "all", labels="brats2018")  # the other advice goes on, not silently
    assert any("do not look like" in text for text in insisted.warnings)


def test_collections_of_two_schemes_come_in_apart(tmp_path: Path) -> None:
    for name in ("GLI", "PED"):
        save(tmp_path / name, [f"BraTS-{name}-0000{i}-000_010" for i in range(2)], GLI_2023, 0)
    _, dataset = bring(tmp_path / "GLI", tmp_path / "out")
    assert dataset.scheme.name == "brats2023-gli"


def test_labels_that_look_otherwise_are_told_where_the_scheme_was_said(tmp_path: Path) -> None:
    root = save(tmp_path / "in", GLI, {"NCR": 3, "ED": 2, "ET": 1})
    summary, _ = bring(root, tmp_path / "out", labels="brats2023-gli")
    assert any("do not look like those of brats2023-gli" in text for text in summary.warnings)


def nnunet(root: Path, labels: object) -> Path:
    for i in range(3):
        planes = sample({"ED": 1, "NCR": 2, "ET": 3}, i)
        for folder, names in (("imagesTr", [f"c{i}_{k:04d}" for k in range(4)]), ("labelsTr", [f"c{i}"])):
            (root / folder).mkdir(parents=True, exist_ok=True)
            for name, plane in zip(names, planes[:4] if folder == "imagesTr" else planes[4:], strict=True):
                Image.fromarray(plane).save(root / folder / f"{name}.png")
    channels = {"0": "T1", "1": "T1Gd", "2": "T2", "3": "FLAIR"}
    (root / "dataset.json").write_text(json.dumps({"channel_names": channels, "labels": labels}))
    return root


@pytest.mark.parametrize(
    ("labels", "scheme"),
    [
        ({"background": 0, "edema": 1, "necrosis": 2, "enhancing tumor": 3}, "msd"),
        ({"0": "background", "1": "edema", "2": "necrosis", "3": "enhancing tumor"}, "msd"),
        ({"background": "0", "ED": "1", "NCR": "2", "ET": "3"}, "brats2018"),
        ({"background": 0, "whole": 1, "core": 2, "inner": 3}, "table"),
    ],
)
def test_names_in_nnunets_description_mean_what_they_mean_in_prepare(
    tmp_path: Path, labels: dict[str, object], scheme: str
) -> None:
    summary, dataset = bring(nnunet(tmp_path / "in", labels), tmp_path / "out")
    assert dataset.scheme.name == scheme
    own = {"ED": "whole", "NCR": "core", "ET": "inner"} if scheme == "table" else {}
    for name, value in {"ED": 1, "NCR": 2, "ET": 3}.items():
        pixels = sum((sample({"ED": 1, "NCR": 2, "ET": 3}, i)[-1] == value).sum() for i in range(3))
        assert summary.label_pixels[own.get(name, name)] == pixels


def test_a_list_of_labels_is_refused_with_the_form_that_helps(tmp_path: Path) -> None:
    root = nnunet(tmp_path / "in", ["background", "edema", "necrosis", "enhancing tumor"])
    with pytest.raises(DataError, match="labels is a list") as caught:
        bring(root, tmp_path / "out")
    text = (root / "dataset.json").read_text()
    advised = caught.value.fix.partition("write ")[2].partition(";")[0]
    (root / "dataset.json").write_text(re.sub(r'"labels": \[.*?\]', advised, text))
    assert bring(root, tmp_path / "out")[1].scheme.name == "msd"


def test_mirrored_labels_are_said_to_be_that_and_no_contrast_is_doubted(tmp_path: Path) -> None:
    x, y, z = np.mgrid[:64, :64, :32]
    brain = (x - 31.5) ** 2 + (y - 31.5) ** 2 < 28**2
    r = np.sqrt((x - 18) ** 2 + (y - 25) ** 2 + (z - 15) ** 2)
    parts = (r < 6, (r >= 8) & (r < 13), (r >= 6) & (r < 8))  # NCR, ED, ET
    rng = np.random.default_rng(0)
    labels = np.select(parts, (1, 2, 4), 0).astype(np.uint8)
    for turned in (False, True):
        folder = tmp_path / f"pictures{turned}"
        for name, changes in {"t1": (-30, -5, -10), "t1ce": (-30, -5, 60), "flair": (10, 50, 40)}.items():
            image = 100 + 10 * rng.standard_normal(brain.shape)
            for part, change in zip(parts, changes, strict=True):
                image[part] += change
            save_slices(folder / name, np.where(brain, image, 0).astype(np.uint8))
        save_slices(folder / "labels", labels[::-1] if turned else labels)
        summary = import_images(folder, tmp_path / f"out{turned}", labels="brats2018", label_levels="raw")
        told = [text for text in summary.warnings if "mirrored along the first axis" in text]
        assert bool(told) == turned == summary.labels_are_elsewhere
        assert not [found for found in summary.contrast_findings if found.looks_like]


def save_slices(folder: Path, volume: np.ndarray) -> None:
    folder.mkdir(parents=True)
    for z in range(volume.shape[2]):
        Image.fromarray(volume[:, :, z].T).save(folder / f"a_{z:02d}.png")
