"""Import: every layout of docs/datasets.md gives the samples that were put into it, and what was guessed is said."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from synthkit import api
from synthkit.cli import app
from synthkit.data.channel_names import SEG
from synthkit.data.dataset import Dataset
from synthkit.data.exporting import FORMATS, export_dataset
from synthkit.data.importing import ImportSummary
from synthkit.data.labels import to_grey
from synthkit.data.png_folders import ChannelNames
from synthkit.data.writer import DatasetWriter
from synthkit.errors import DataError, UsageError
from synthkit.schemes import BRATS

N, SIDE = 5, 24
CONTRASTS = BRATS.contrast_names
ALL = "t1,t1ce,t2,flair,labels"
TITLES = ("T1", "T1CE", "T2", "FLAIR", "Seg")


def samples(n: int = N) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    images = rng.integers(0, 256, (n, 4, SIDE, SIDE), dtype=np.uint8)
    return images, rng.choice(np.array([0, 1, 2, 4], np.uint8), (n, SIDE, SIDE))


IMAGES, LABELS = samples()
GREY = to_grey(LABELS, BRATS.values)
FIVE = np.concatenate([IMAGES, GREY[:, None]], axis=1)


def picture(path: Path, array: np.ndarray, mode: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array, mode).save(path) if mode else Image.fromarray(array).save(path)


def palette(path: Path, array: np.ndarray, colours: list[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    indexed = Image.frombytes("P", array.shape[::-1], np.ascontiguousarray(array).tobytes())
    indexed.putpalette(colours)
    indexed.save(path)


def folders(root: Path, names: tuple[str, ...] = TITLES, suffix: str = ".png") -> None:
    for i in range(N):
        for name, plane in zip(names, FIVE[i], strict=True):
            picture(root / name / f"s{i}_{name}{suffix}", plane)


def bring(root: Path, out: Path, **options: Any) -> tuple[ImportSummary, np.ndarray, np.ndarray]:
    summary = api.import_images(root, out, **options)
    images, labels = Dataset(out).read(range(summary.n_samples))
    return summary, images, labels


def assert_same(images: np.ndarray, labels: np.ndarray, order: tuple[int, ...] = (0, 1, 2, 3)) -> None:
    np.testing.assert_array_equal(images, IMAGES[:, list(order)])
    np.testing.assert_array_equal(labels, LABELS)


# ---------------------------------------------------------------------------------------------------- names that say


@pytest.mark.parametrize(
    "names",
    [
        ("A_T1", "B_T1KM", "C_T2", "D_FLAIR", "E_seg"),
        ("T1", "T1+C", "T2", "dark fluid", "Maske"),
        ("T1", "T1 post contrast", "T2", "FLAIR", "annotations"),
        ("t1w", "T1-with-contrast", "t2w", "T2 dark-fluid", "manual_seg"),
    ],
)
def test_folders_as_people_call_them(tmp_path: Path, names: tuple[str, ...]) -> None:
    for i in range(N):
        for name, plane in zip(names, FIVE[i], strict=True):
            picture(tmp_path / "in" / name / f"s{i}.png", plane)
    summary, images, labels = bring(tmp_path / "in", tmp_path / "out")
    assert_same(images, labels)
    assert not summary.left_out


@pytest.mark.parametrize("names", [TITLES, ("T1", "T1_Gd", "T2", "T2_FLAIR", "mask")])
def test_the_channel_may_stand_in_front(tmp_path: Path, names: tuple[str, ...]) -> None:
    for i in range(N):
        for name, plane in zip(names, FIVE[i], strict=True):
            picture(tmp_path / "in" / f"{name}_{i:03d}.png", plane)
    _, images, labels = bring(tmp_path / "in", tmp_path / "out")
    assert_same(images, labels)
    assert Dataset(tmp_path / "out").samples[1].id == "001"


@pytest.mark.parametrize("names", ["01234", ("a", "b", "c", "d", "whatever")])
def test_folders_that_are_not_understood_are_named_and_renaming_them_helps(tmp_path: Path, names: str) -> None:
    for i in range(N):
        for name, plane in zip(names, FIVE[i], strict=True):
            picture(tmp_path / "in" / name / f"s{i}.png", plane)
    with pytest.raises(DataError, match="of one name in several folders") as caught:
        bring(tmp_path / "in", tmp_path / "out", channels="t1")
    assert ", ".join(names) in caught.value.fix
    for name, title in zip(names, TITLES, strict=True):  # the advice
        assert title in caught.value.fix
        (tmp_path / "in" / name).rename(tmp_path / "in" / title)
    _, images, labels = bring(tmp_path / "in", tmp_path / "out")
    assert_same(images, labels)


@pytest.mark.parametrize("in_folders", [True, False])
def test_labels_of_an_unknown_name_may_be_called_so(tmp_path: Path, in_folders: bool) -> None:
    def at(name: str, i: int) -> Path:
        return tmp_path / "in" / (f"{name}/s{i}.png" if in_folders else f"s{i}_{name}.png")

    for i in range(N):
        for name, plane in zip((*TITLES[:4], "Herd"), FIVE[i], strict=True):
            picture(at(name, i), plane)
    with pytest.raises(DataError, match="label channel is missing") as caught:
        bring(tmp_path / "in", tmp_path / "out")
    assert "Herd" in caught.value.why and "if it is there under another name, call" in caught.value.fix
    for i in range(N):
        at("Seg", i).parent.mkdir(exist_ok=True)
        at("Herd", i).rename(at("Seg", i))
    _, images, labels = bring(tmp_path / "in", tmp_path / "out")
    assert_same(images, labels)


def test_sixteen_bits_may_keep_their_brightness(tmp_path: Path) -> None:
    """The advised range of the data brightens; the one beside it gives what the pictures were made of."""
    dark = IMAGES // 2
    for i in range(N):
        for name, plane in zip(TITLES, [*dark[i], GREY[i]], strict=True):
            picture(tmp_path / "in" / name / f"s{i}.png", plane if name == "Seg" else plane.astype(np.uint16) * 257)
    with pytest.raises(DataError, match="not 8-bit greys") as caught:
        bring(tmp_path / "in", tmp_path / "out")
    brightest = int(dark.max()) * 257
    assert f"--range 0,{brightest}" in caught.value.fix and "; 0,65535 keeps" in caught.value.fix
    _, images, _ = bring(tmp_path / "in", tmp_path / "out", value_range="0,65535")
    np.testing.assert_array_equal(images, dark)


@pytest.mark.parametrize(
    "names",
    [
        ("T1", "T1C", "T2", "FLAIR", "Seg"),
        ("T1", "T1Gd", "T2", "FLAIR", "Seg"),
        ("T1", "T1-CE", "T2", "Flair", "Mask"),
        ("t1w", "ct1", "t2w", "T2_FLAIR", "labels"),
    ],
)
def test_a_folder_a_channel_of_any_known_name(tmp_path: Path, names: tuple[str, ...]) -> None:
    folders(tmp_path / "in", names)
    (tmp_path / "in" / "ADC").mkdir()
    (tmp_path / "in" / "T2" if "T2" in names else tmp_path / "in" / "t2w").joinpath("notes.txt").write_text("x")
    (tmp_path / "in" / "readme.md").write_text("x")
    summary, images, labels = bring(tmp_path / "in", tmp_path / "out")
    assert_same(images, labels)
    assert summary.contrasts == CONTRASTS
    assert {"ADC/", "readme.md"} < set(summary.left_out) and any("notes.txt" in name for name in summary.left_out)
    renamed = [name for name in names if name.lower() not in {title.lower() for title in TITLES}]
    *notes, scheme = summary.notes
    assert len(notes) == len(renamed) and all(any(name in note for note in notes) for name in renamed)
    assert scheme.startswith("Nothing says their scheme: they are taken for those of brats2018, 1 NCR, 2 ED and 4 ET")


@pytest.mark.parametrize("suffix", [".tif", ".bmp"])
def test_other_types_of_lossless_pictures(tmp_path: Path, suffix: str) -> None:
    folders(tmp_path / "in", suffix=suffix)
    _, images, labels = bring(tmp_path / "in", tmp_path / "out")
    assert_same(images, labels)


@pytest.mark.parametrize("nested", [False, True])
def test_files_named_by_channel(tmp_path: Path, nested: bool) -> None:
    for i in range(N):
        for name, plane in zip(("t1n", "t1_gd", "t2w", "t2_flair", "seg"), FIVE[i], strict=True):
            picture(tmp_path / "in" / (f"s{i}" if nested else "") / f"s{i}_{name}.png", plane)
    summary, images, labels = bring(tmp_path / "in", tmp_path / "out")
    assert_same(images, labels)
    assert [row.id for row in Dataset(tmp_path / "out").samples] == [f"s{i}" for i in range(N)]
    assert summary.layout == "files named by channel"


def test_nifti_slices_of_two_and_three_axes(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for i in range(N):
        for name, plane in zip((*CONTRASTS, "seg"), (*IMAGES[i], LABELS[i]), strict=True):
            stored = plane.T if name == "t2" else plane.T[:, :, None]
            nib.save(nib.Nifti1Image(stored, np.eye(4)), tmp_path / "in" / f"s{i}_{name}.nii.gz")
    summary, images, labels = bring(tmp_path / "in", tmp_path / "out")
    assert_same(images, labels)
    assert any("label values" in note for note in summary.notes)
    assert any("as stored" in note for note in summary.notes)


def test_names_of_channels_in_the_docs_are_known() -> None:
    page = (Path(__file__).parents[1] / "docs" / "datasets.md").read_text()
    table = page.partition("| channel | known as |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| (\w+) \| (.*) \|$", table, flags=re.MULTILINE)
    listed = {name: row.replace("labels", SEG) for row, names in rows for name in re.findall(r"`(\w+)`", names)}
    assert {name: ChannelNames().channel_of(name) for name in listed} == listed


def test_a_volume_is_sent_to_prepare(tmp_path: Path) -> None:
    for name in (*CONTRASTS, "seg"):
        (tmp_path / "in" / "a").mkdir(parents=True, exist_ok=True)
        volume = np.ones((8, 8, 3), np.uint8)
        nib.save(nib.Nifti1Image(volume, np.eye(4)), tmp_path / "in" / "a" / f"a_{name}.nii.gz")
    with pytest.raises(DataError, match="synthkit prepare"):
        bring(tmp_path / "in", tmp_path / "out")


# ------------------------------------------------------------------------------------------------- names that do not


def nvlabs(root: Path) -> None:
    (root / "dataset.json").parent.mkdir(parents=True)
    (root / "dataset.json").write_text('{"labels": null}')
    for i in range(N):
        picture(root / "00000" / f"img{i:08d}.png", np.moveaxis(IMAGES[i], 0, -1))


def test_nvlabs_folders_of_rgba(tmp_path: Path) -> None:
    nvlabs(tmp_path / "in")
    with pytest.raises(UsageError, match="does not say which channel") as caught:
        bring(tmp_path / "in", tmp_path / "out")
    assert "4 channels" in caught.value.why
    summary, images, labels = bring(tmp_path / "in", tmp_path / "out", channels="flair,t2,t1ce,t1", without_labels=True)
    np.testing.assert_array_equal(images, IMAGES)
    assert summary.contrasts == ("flair", "t2", "t1ce", "t1") and not labels.any()
    assert Dataset(tmp_path / "out").samples[0].id == "img00000000"
    assert any("dataset.json" in note for note in summary.notes) and any("alpha" in note for note in summary.notes)


def test_rgb_with_labels_as_one_of_its_planes(tmp_path: Path) -> None:
    for i in range(N):
        picture(tmp_path / "in" / f"{i}.png", np.moveaxis(FIVE[i, [1, 3, 4]], 0, -1))
    _, images, labels = bring(tmp_path / "in", tmp_path / "out", channels="T1Gd,FLAIR,Seg")
    assert_same(images, labels, (1, 3))


def test_grey_with_alpha_as_a_channel(tmp_path: Path) -> None:
    for i in range(N):
        picture(tmp_path / "in" / f"{i}.png", np.moveaxis(FIVE[i, [3, 4]], 0, -1), "LA")
    _, images, labels = bring(tmp_path / "in", tmp_path / "out", channels="FLAIR,Seg")
    assert_same(images, labels, (3,))


@pytest.mark.parametrize("grid", [(1, 5), (5, 1)])
@pytest.mark.parametrize("as_rgb", [False, True])
def test_mosaics_of_squares_are_seen(tmp_path: Path, grid: tuple[int, int], as_rgb: bool) -> None:
    for i in range(N):
        mosaic = np.concatenate([*FIVE[i]], axis=1 if grid == (1, 5) else 0)
        picture(tmp_path / "in" / f"{i}.png", np.repeat(mosaic[..., None], 3, axis=2) if as_rgb else mosaic)
    summary, images, labels = bring(tmp_path / "in", tmp_path / "out", channels=ALL)
    assert_same(images, labels)
    assert any(f"{grid[0]} x {grid[1]} tiles" in note for note in summary.notes)


def test_a_grid_with_a_black_tile_is_given(tmp_path: Path) -> None:
    def save(last: int) -> None:
        for i in range(N):
            tiles = [*FIVE[i], np.full((SIDE, SIDE), last, np.uint8)]
            picture(tmp_path / "in" / f"{i}.png", np.block([tiles[:3], tiles[3:]]))

    save(0)
    with pytest.raises(DataError, match="--mosaic ROWSxCOLUMNS"):
        bring(tmp_path / "in", tmp_path / "out", channels=ALL)
    _, images, labels = bring(tmp_path / "in", tmp_path / "out", channels=ALL, mosaic="2x3")
    assert_same(images, labels)
    save(9)
    with pytest.raises(DataError, match="more tiles"):
        bring(tmp_path / "in", tmp_path / "other", channels=ALL, mosaic="2x3")
    _, images, labels = bring(tmp_path / "in", tmp_path / "other", channels=f"{ALL},-", mosaic="2x3")
    assert_same(images, labels)


def test_frames_of_a_tiff_are_channels(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for i in range(N):
        first, *others = (Image.fromarray(plane) for plane in FIVE[i])
        first.save(tmp_path / "in" / f"{i}.tif", save_all=True, append_images=others)
    _, images, labels = bring(tmp_path / "in", tmp_path / "out", channels=ALL)
    assert_same(images, labels)


@pytest.mark.parametrize("mosaic", [False, True])
def test_images_and_labels_in_two_folders(tmp_path: Path, mosaic: bool) -> None:
    for i in range(N):
        tiles = np.block([[IMAGES[i, 0], IMAGES[i, 1]], [IMAGES[i, 2], IMAGES[i, 3]]])
        picture(tmp_path / "in" / "images" / f"{i}.png", tiles if mosaic else np.moveaxis(IMAGES[i], 0, -1))
        picture(tmp_path / "in" / "masks" / f"{i}.png", GREY[i])
    _, images, labels = bring(tmp_path / "in", tmp_path / "out", channels="t1,t1ce,t2,flair")
    assert_same(images, labels)
    (tmp_path / "in" / "masks" / "2.png").unlink()
    with pytest.raises(DataError, match="missing") as caught:
        bring(tmp_path / "in", tmp_path / "other", channels="t1,t1ce,t2,flair")
    assert caught.value.details == ("2: no labels",)


# ------------------------------------------------------------------------------------------------------------ arrays

_Write = Callable[[Path], Path]


def _npy(array: np.ndarray, name: str = "a.npy") -> _Write:
    def write(root: Path) -> Path:
        np.save(root / name, array)
        return root / name

    return write


def _npz(**arrays: np.ndarray) -> _Write:
    def write(root: Path) -> Path:
        np.savez_compressed(root / "a.npz", **arrays)
        return root / "a.npz"

    return write


def _several(**arrays: np.ndarray) -> _Write:
    def write(root: Path) -> Path:
        for name, array in arrays.items():
            np.save(root / f"{name}.npy", array)
        return root

    return write


RAW_FIVE = np.concatenate([IMAGES, LABELS[:, None]], axis=1)
BY_NAME = {name: IMAGES[:, k] for k, name in enumerate(CONTRASTS)}


@pytest.mark.parametrize(
    ("write", "channels"),
    [
        (_npy(FIVE), ALL),
        (_npy(RAW_FIVE), ALL),
        (_npy(np.moveaxis(FIVE, 1, -1)), ALL),
        (_npy(FIVE.astype(np.int64)), ALL),
        (_npz(images=IMAGES, labels=LABELS), "t1,t1ce,t2,flair"),
        (_npz(images=IMAGES, masks=LABELS[:, None]), "t1,t1ce,t2,flair"),
        (_npz(arr_0=FIVE), ALL),
        (_npz(**BY_NAME, seg=LABELS), None),
        (_several(images=IMAGES, labels=GREY), "t1,t1ce,t2,flair"),
        (_several(**BY_NAME, seg=LABELS), None),
        (_several(**{f"s{i}": FIVE[i] for i in range(N)}), ALL),
        (_several(**{f"s{i}": np.moveaxis(FIVE[i], 0, -1) for i in range(N)}), ALL),
    ],
)
def test_arrays(tmp_path: Path, write: _Write, channels: str | None) -> None:
    (tmp_path / "in").mkdir()
    summary, images, labels = bring(write(tmp_path / "in"), tmp_path / "out", channels=channels)
    assert_same(images, labels)
    assert summary.layout == "arrays" and summary.n_samples == N


def test_one_contrast_without_an_axis_of_channels(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=IMAGES[:, 3], label=LABELS)
    _, images, labels = bring(tmp_path / "a.npz", tmp_path / "out", channels="flair")
    assert_same(images, labels, (3,))


def test_an_axis_that_may_be_either_is_asked_for(tmp_path: Path) -> None:
    array = np.arange(4 * 4 * 6 * 4, dtype=np.uint8).reshape(4, 4, 6, 4)
    np.save(tmp_path / "a.npy", array)
    options: dict[str, Any] = {"channels": "t1,t1ce,t2,flair", "without_labels": True}
    with pytest.raises(UsageError, match=r"--channels-first .* --channels-last"):
        bring(tmp_path / "a.npy", tmp_path / "out", **options)
    _, images, _ = bring(tmp_path / "a.npy", tmp_path / "first", channels_last=False, **options)
    np.testing.assert_array_equal(images, array)
    _, images, _ = bring(tmp_path / "a.npy", tmp_path / "last", channels_last=True, **options)
    np.testing.assert_array_equal(images, np.moveaxis(array, -1, 1))


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match="cannot be read"):
        bring(tmp_path / "a.npy", tmp_path / "out", channels=ALL)


# ---------------------------------------------------------------------------------------------------------- palettes


def test_a_palette_in_colour_is_its_indices_for_labels(tmp_path: Path) -> None:
    folders(tmp_path / "in")
    colours = [0, 0, 0, 255, 0, 0, 0, 255, 0, 9, 9, 9, 0, 0, 255]
    for i in range(N):
        palette(tmp_path / "in" / "Seg" / f"s{i}_Seg.png", LABELS[i], colours)
    summary, images, labels = bring(tmp_path / "in", tmp_path / "out")
    assert_same(images, labels)
    assert any("label values" in note for note in summary.notes)


def test_a_palette_of_greys_is_what_it_shows(tmp_path: Path) -> None:
    folders(tmp_path / "in")
    index = np.searchsorted([0, 51, 102, 204], GREY).astype(np.uint8)
    shuffled = np.array([2, 0, 3, 1], np.uint8)  # as a tool that shrinks files may number them
    greys = np.zeros(4, int)
    greys[shuffled] = [0, 51, 102, 204]
    for i in range(N):
        path = tmp_path / "in" / "Seg" / f"s{i}_Seg.png"
        palette(path, shuffled[index[i]], np.repeat(greys, 3).tolist())
        ramp = [level for grey in range(256) for level in (grey,) * 3]
        palette(tmp_path / "in" / "T1" / f"s{i}_T1.png", IMAGES[i, 0], ramp)
    _, images, labels = bring(tmp_path / "in", tmp_path / "out")
    assert_same(images, labels)


# -------------------------------------------------------------------------------------------------------- our formats


@given(
    st.sets(st.sampled_from(CONTRASTS), min_size=1),
    st.lists(st.sampled_from(["train", "holdout"]), min_size=1, max_size=4),
    st.sampled_from(FORMATS),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=25, deadline=None)
def test_every_format_that_is_written_comes_back(kept: set[str], splits: list[str], format: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    contrasts = tuple(name for name in CONTRASTS if name in kept)
    shape = (len(splits), len(contrasts), *rng.integers(2, 12, 2))
    images = rng.integers(0, 256, shape, dtype=np.uint8)
    labels = rng.choice(np.array(BRATS.values, np.uint8), (shape[0], *shape[2:]))
    rows = [{"id": f"P{i}_{i:03d}", "split": split, "subject": f"P{i}", "slice": i} for i, split in enumerate(splits)]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        size = (int(shape[2]), int(shape[3]))
        with DatasetWriter(root / "data", contrasts=contrasts, scheme=BRATS, size=size) as writer:
            writer.append(images, labels, rows)
        export_dataset(root / "data", root / "out", format=format)
        api.import_images(root / "out", root / "back", kind="real")
        assert Dataset(root / "back").digest == Dataset(root / "data").digest


# -------------------------------------------------------------------------------------------------------- the command


def test_the_command_says_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders(tmp_path / "in", ("T1", "T1Gd", "T2", "FLAIR", "Seg"))
    (tmp_path / "in" / "DWI").mkdir()
    app(["import", str(tmp_path / "in"), "-o", str(tmp_path / "out")], standalone_mode=False)
    said = capsys.readouterr()
    assert "The folder T1Gd is read as t1ce." in said.out
    assert "Left out (1): DWI/." in said.err
    counts = {
        words[0]: words[1:]
        for line in said.out.splitlines()
        if (words := line.split()) and words[0] in BRATS.label_values
    }
    assert counts == {name: [f"{(value == LABELS).sum():,}", f"{N}"] for name, value in BRATS.label_values.items()}


def test_a_dry_run_judges_everything_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("synthkit.cli.console.Console._document_printed", False)
    folders(tmp_path / "in")
    app(["import", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--dry-run", "--json"], standalone_mode=False)
    assert json.loads(capsys.readouterr().out)["label_samples"]["ET"] == N
    assert not (tmp_path / "out").exists()
