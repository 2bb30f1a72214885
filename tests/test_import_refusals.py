"""Import: what is ambiguous or coded otherwise is refused and leaves nothing, and the way on that is named works."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from synthkit import api
from synthkit.cli import app
from synthkit.data import importing
from synthkit.data.dataset import Dataset
from synthkit.data.labels import to_grey
from synthkit.errors import DataError, ExitCode, SynthkitError, UsageError
from synthkit.schemes import BRATS

N, SIDE = 6, 32
FOLDERS = ("T1", "T1CE", "T2", "FLAIR", "Seg")
RNG = np.random.default_rng(5)
IMAGES = RNG.integers(0, 256, (N, 4, SIDE, SIDE), dtype=np.uint8)
LABELS = np.zeros((N, SIDE, SIDE), np.uint8)
LABELS[:, 4:24, 4:24], LABELS[:, 8:20, 8:20], LABELS[:, 10:16, 10:16] = 2, 4, 1
GREY = to_grey(LABELS, BRATS.values)


def save(root: Path, labels: np.ndarray = GREY, images: np.ndarray = IMAGES, suffix: str = ".png") -> Path:
    for i in range(N):
        for name, plane in zip(FOLDERS, (*images[i], labels[i]), strict=True):
            (root / name).mkdir(parents=True, exist_ok=True)
            ending = suffix if name == "Seg" else ".png"
            Image.fromarray(plane).save(root / name / f"s{i:03d}_{name}{ending}")
    return root


def run(*arguments: object) -> None:
    app([str(word) for word in arguments], standalone_mode=False)


def remedies(error: SynthkitError) -> list[list[str]]:
    """Options that an error advises, each as words of a command line."""
    found = re.findall(r"--(?:label-levels|range|mosaic|channels|as) [^\s;]+|--without-labels", error.fix)
    return [option.rstrip(".,").split(" ", 1) for option in found]


def refused(root: Path, out: Path, *options: str) -> SynthkitError:
    """The error of an import, which leaves nothing."""
    before = sorted(out.parent.rglob("*"))
    with pytest.raises(SynthkitError) as caught:
        run("import", root, "-o", out, *options)
    assert sorted(out.parent.rglob("*")) == before
    assert caught.value.fix
    return caught.value


def imported(out: Path) -> tuple[np.ndarray, np.ndarray]:
    return Dataset(out).read(range(N))


# ------------------------------------------------------------------------------------------------------------ labels


def coded(*greys: int) -> np.ndarray:
    """Labels with these greys for background, NCR, ED and ET."""
    table = np.zeros(5, np.uint8)
    table[[0, 1, 2, 4]] = greys
    return table[LABELS]


@pytest.mark.parametrize(
    ("greys", "first"),
    [
        ((0, 1, 2, 4), "raw"),
        ((0, 85, 170, 255), "0=0,1=85,2=170,4=255"),
        ((0, 64, 128, 192), "0=0,1=64,2=128,4=192"),
        ((0, 51, 102, 153), "0=0,1=51,2=102,4=153"),
        ((0, 50, 100, 200), "0=0,1=50,2=100,4=200"),
    ],
)
def test_labels_coded_otherwise_are_refused_with_the_values_and_the_option_that_reads_them(
    tmp_path: Path, greys: tuple[int, ...], first: str
) -> None:
    root = save(tmp_path / "in", coded(*greys))
    error = refused(root, tmp_path / "out")
    assert error.exit_code == ExitCode.INVALID_DATA
    assert f"{greys[0]}, {greys[1]}, {greys[2]} and {greys[3]}" in error.what and error.details == ()
    advised = remedies(error)
    assert advised[0] == ["--label-levels", first]
    for k, option in enumerate(advised):
        run("import", root, "-o", tmp_path / f"out{k}", *option)
        images, labels = imported(tmp_path / f"out{k}")
        np.testing.assert_array_equal(labels, LABELS)
        np.testing.assert_array_equal(images, IMAGES)


def test_raw_values_say_how_much_would_be_lost(tmp_path: Path) -> None:
    error = refused(save(tmp_path / "in", coded(0, 1, 2, 4)), tmp_path / "out")
    assert f"{(LABELS > 0).sum():,} labelled pixels would become background" in error.why


def test_three_is_asked_about_with_the_schemes_that_have_it(tmp_path: Path) -> None:
    root = save(tmp_path / "in", coded(0, 1, 2, 3))
    for options in ((), ("--label-levels", "raw")):
        fix = refused(root, tmp_path / "out", *options).fix
        advised = re.findall(r"--labels (\S+)", fix)
        assert {"brats2023-gli", "ped", "msd"} <= {name.rstrip(".") for name in advised}
    for name, labels in (
        ("brats2023-gli", ("NCR", "ED", "ET")),
        ("ped", ("ET", "NET", "CC")),
        ("msd", ("ED", "NCR", "ET")),
    ):
        run("import", root, "-o", tmp_path / name, "--labels", name)
        dataset = Dataset(tmp_path / name)
        np.testing.assert_array_equal(dataset.read(range(N))[1], coded(0, 1, 2, 3))
        assert [dataset.labels[label] for label in labels] == [1, 2, 3]


@pytest.mark.parametrize("values", [(0, 1, 1, 1), (0, 1, 2, 2), (0, 1, 2, 3)])
def test_label_values_of_several_schemes_are_asked_about(tmp_path: Path, values: tuple[int, ...]) -> None:
    """In arrays, which hold label values, nothing says what 1 is."""
    np.savez(tmp_path / "a.npz", flair=IMAGES[:, 0], seg=coded(*values))
    error = refused(tmp_path / "a.npz", tmp_path / "out")
    advised = re.findall(r"--labels ([\w-]+)", error.fix)
    assert error.exit_code == ExitCode.INVALID_DATA and len(advised) > 2
    for name in advised:
        run("import", tmp_path / "a.npz", "-o", tmp_path / name, "--labels", name)
        np.testing.assert_array_equal(imported(tmp_path / name)[1], coded(*values))
        assert Dataset(tmp_path / name).scheme.name == name


def test_few_pixels_of_a_label_that_the_scheme_lacks_are_not_taken_for_blur(tmp_path: Path) -> None:
    """Grey levels of labels after treatment: enhancing tumour, at 153, is a level between two of BraTS 2018."""
    greys = GREY.copy()
    greys[0, 0, 0] = 153
    root = save(tmp_path / "in", greys)
    assert "--labels gli2024" in refused(root, tmp_path / "out").fix
    run("import", root, "-o", tmp_path / "out", "--labels", "gli2024")
    assert imported(tmp_path / "out")[1][0, 0, 0] == 3


def test_a_mask_of_one_value_is_asked_about(tmp_path: Path) -> None:
    root = save(tmp_path / "in", (LABELS > 0) * np.uint8(255))
    for asked in ((), ("--label-levels", "0=0,1=255"), ("--label-levels", "0=0,4=255")):
        fix = refused(root, tmp_path / "out", *asked).fix
        assert "--labels whole-tumour --label-levels 0=0,1=255 if" in fix and "--label-levels 0=0,ET=255" in fix
    run("import", root, "-o", tmp_path / "whole", "--labels", "whole-tumour", "--label-levels", "0=0,1=255")
    np.testing.assert_array_equal(imported(tmp_path / "whole")[1], LABELS > 0)
    assert Dataset(tmp_path / "whole").labels == {"background": 0, "WT": 1}
    for level in ("0=0,ET=255", "ET=255"):
        run("import", root, "-o", tmp_path / level, "--label-levels", level)
        np.testing.assert_array_equal(imported(tmp_path / level)[1], (LABELS > 0) * 4)
    fix = refused(root, tmp_path / "out", "--labels", "brats2021").fix
    assert "--labels brats2021 --label-levels 0=0,ET=255" in fix
    run("import", root, "-o", tmp_path / "said", "--labels", "brats2021", "--label-levels", "0=0,ET=255")
    np.testing.assert_array_equal(imported(tmp_path / "said")[1], (LABELS > 0) * 4)
    # As greys of exports: 128 is the whole tumour's there, and no level has to be named.
    fix = refused(save(tmp_path / "grey", (LABELS > 0) * np.uint8(128)), tmp_path / "out").fix
    assert "Give --labels whole-tumour if" in fix
    run("import", tmp_path / "grey", "-o", tmp_path / "greys", "--labels", "whole-tumour")
    np.testing.assert_array_equal(imported(tmp_path / "greys")[1], LABELS > 0)


def test_three_and_four_together_are_never_taken_for_known_labels(tmp_path: Path) -> None:
    labels = coded(0, 1, 3, 4)
    labels[0, 0, 0] = 2
    root = save(tmp_path / "in", labels)
    assert remedies(refused(root, tmp_path / "out")) == []
    assert "--labels gli2024" in refused(root, tmp_path / "out", "--label-levels", "raw").fix
    run("import", root, "-o", tmp_path / "out", "--label-levels", "NCR=1,ED=2,ED=3,ET=4")
    assert ((imported(tmp_path / "out")[1] == 2) == ((labels == 2) | (labels == 3))).all()


def test_one_picture_coded_otherwise_is_refused_by_name(tmp_path: Path) -> None:
    labels = GREY.copy()
    labels[3] = LABELS[3]
    error = refused(save(tmp_path / "in", labels), tmp_path / "out")
    assert "hold 0, 1, 2, 4, 51, 102 and 204" in error.what
    assert error.details == ("s003: 400 of 400 pixels",) and remedies(error) == []


def test_jpeg_labels_are_refused_with_their_share_and_read_if_asked(tmp_path: Path) -> None:
    root = save(tmp_path / "in", suffix=".jpg")
    error = refused(root, tmp_path / "out")
    assert re.search(r"\d+\.\d% of the label pixels", error.what) and "JPEG" in error.why
    assert len(error.details) == N and error.details[0].startswith("s000: ")
    (option,) = remedies(error)
    assert option == ["--label-levels", "study,nearest"]
    run("import", root, "-o", tmp_path / "out", *option)
    assert (imported(tmp_path / "out")[1] == LABELS).mean() > 0.9


@pytest.mark.parametrize(("n_off", "taken"), [(8, True), (9, False)])
def test_a_handful_between_the_levels_is_taken_and_counted(tmp_path: Path, n_off: int, taken: bool) -> None:
    labels = np.zeros_like(GREY)
    labels[0, 0, :n_off] = np.arange(90, 90 + n_off)
    root = save(tmp_path / "in", labels)
    if taken:
        assert api.import_images(root, tmp_path / "out").off_level_pixels == n_off
    else:
        refused(root, tmp_path / "out")


@pytest.mark.parametrize(
    "spec", ["0=0,1=85", "raw,nearest", "0=0,7=9", "0=0,1=5,2=5", "1,2,3", "0=x", "1=0,2=9", "0=70000"]
)
def test_levels_that_make_no_sense_or_do_not_hold_all_values(tmp_path: Path, spec: str) -> None:
    root = save(tmp_path / "in", coded(0, 85, 170, 255))
    error = refused(root, tmp_path / "out", "--label-levels", spec)
    assert isinstance(error, DataError if spec == "0=0,1=85" else UsageError)


@pytest.mark.parametrize("spec", ["0,85,170,255", "NCR=85,ed=170,ET=255", "4=255,1=85,2=170", "1=84,1=85,2=170,4=255"])
def test_ways_to_write_levels(tmp_path: Path, spec: str) -> None:
    run("import", save(tmp_path / "in", coded(0, 85, 170, 255)), "-o", tmp_path / "out", "--label-levels", spec)
    np.testing.assert_array_equal(imported(tmp_path / "out")[1], LABELS)


def test_labels_that_are_no_whole_numbers(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", flair=IMAGES[:, 0], seg=LABELS / 4)
    assert "not whole numbers" in refused(tmp_path / "a.npz", tmp_path / "x" / "out").what
    np.savez(tmp_path / "a.npz", flair=IMAGES[:, 0], seg=LABELS * np.float32(0.9999999))
    run("import", tmp_path / "a.npz", "-o", tmp_path / "out")
    np.testing.assert_array_equal(imported(tmp_path / "out")[1], LABELS)


# ------------------------------------------------------------------------------------------------------------ values


@pytest.mark.parametrize(
    ("images", "advised"),
    [
        (IMAGES.astype(np.uint16) * 16, "0,4080"),
        (IMAGES.astype(np.float32) / 255, "0,1"),
        (IMAGES.astype(np.float32) / 127.5 - 1, "-1,1"),
        (IMAGES.astype(np.int16) - 100, "-100,155"),
        (IMAGES * 1.7 + 0.3, None),
    ],
)
def test_values_that_are_no_8_bit_greys_need_a_range(tmp_path: Path, images: np.ndarray, advised: str | None) -> None:
    np.savez(tmp_path / "a.npz", images=images, labels=LABELS)
    options = ("--channels", "t1,t1ce,t2,flair")
    error = refused(tmp_path / "a.npz", tmp_path / "x" / "out", *options)
    (option,) = remedies(error)
    assert advised is None or option == ["--range", advised]
    run("import", tmp_path / "a.npz", "-o", tmp_path / "out", *options, *option)
    found = imported(tmp_path / "out")[0]
    assert np.abs(found.astype(int) - IMAGES).max() <= 1


def test_16_bit_pictures_are_scaled_and_never_clipped(tmp_path: Path) -> None:
    root = save(tmp_path / "in", images=IMAGES.astype(np.uint16) * 257)
    (option,) = remedies(refused(root, tmp_path / "out"))
    assert option == ["--range", "0,65535"]
    assert remedies(refused(root, tmp_path / "out", "--range", "0,4095")) == [option]
    run("import", root, "-o", tmp_path / "out", *option)
    np.testing.assert_array_equal(imported(tmp_path / "out")[0], IMAGES)


def test_one_contrast_of_16_bits_beside_others_of_8_is_refused(tmp_path: Path) -> None:
    root = save(tmp_path / "in")
    Image.fromarray(IMAGES[0, 0].astype(np.uint16) * 257).save(root / "T1" / "s000_T1.png")
    error = refused(root, tmp_path / "out")
    assert "several types" in error.what and any("t1 of s000" in line for line in error.details)
    refused(root, tmp_path / "out", "--range", "0,65535")


def test_nan_is_refused(tmp_path: Path) -> None:
    images = IMAGES[:, 0].astype(np.float32)
    images[2, 3, 3] = np.nan
    np.savez(tmp_path / "a.npz", flair=images, seg=LABELS)
    assert "NaN" in refused(tmp_path / "a.npz", tmp_path / "x" / "out").what


def test_a_contrast_that_is_nearly_black_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = IMAGES.copy()
    images[:, 2] //= 20
    run("import", save(tmp_path / "in", images=images), "-o", tmp_path / "out")
    assert "t2 is nearly black: no pixel of any image is brighter than 12 of 255" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------------- names


def test_two_pictures_of_one_stem(tmp_path: Path) -> None:
    root = save(tmp_path / "in")
    Image.fromarray(IMAGES[1, 0]).save(root / "T1" / "s000.png")
    error = refused(root, tmp_path / "out")
    assert error.details == ("s000: s000.png, s000_T1.png",)
    (root / "T1" / "s000.png").unlink()
    run("import", root, "-o", tmp_path / "out")


@pytest.mark.parametrize("second", ["T1Gd", "t1c", "t1ce"])
def test_two_folders_of_one_channel(tmp_path: Path, second: str) -> None:
    root = save(tmp_path / "in")
    (root / second).mkdir()
    error = refused(root, tmp_path / "out")
    assert error.details == (f"t1ce: T1CE, {second}",)
    (root / second).rmdir()
    run("import", root, "-o", tmp_path / "out")


def test_labels_that_are_missing_or_have_an_unknown_name(tmp_path: Path) -> None:
    root = save(tmp_path / "in")
    (root / "Seg").rename(root / "Truth")
    error = refused(root, tmp_path / "out")
    assert "Truth/" in error.why
    (option,) = remedies(error)
    run("import", root, "-o", tmp_path / "alone", *option)
    (root / "Truth").rename(root / "Mask")
    run("import", root, "-o", tmp_path / "out")
    np.testing.assert_array_equal(imported(tmp_path / "out")[1], LABELS)


def test_a_colour_picture_and_a_transparent_one(tmp_path: Path) -> None:
    root = save(tmp_path / "in")
    path = root / "T1" / "s002_T1.png"
    Image.fromarray(np.moveaxis(IMAGES[:3, 0], 0, -1)).save(path)
    assert "colour picture" in refused(root, tmp_path / "out").what
    alpha = np.dstack([IMAGES[2, 0], IMAGES[2, 1]])
    Image.fromarray(alpha, "LA").save(path)
    assert "transparent" in refused(root, tmp_path / "out").what
    Image.fromarray(np.dstack([IMAGES[2, 0], np.full((SIDE, SIDE), 255, np.uint8)]), "LA").save(path)
    run("import", root, "-o", tmp_path / "out")
    np.testing.assert_array_equal(imported(tmp_path / "out")[0], IMAGES)


@pytest.mark.parametrize("k", [3, 4])
def test_a_grey_mosaic_saved_in_colour_is_not_three_equal_channels(tmp_path: Path, k: int) -> None:
    (tmp_path / "in").mkdir()
    for i in range(N):
        mosaic = np.concatenate([*IMAGES[i, :k]], axis=1)
        Image.fromarray(mosaic).convert("RGB" if k == 3 else "RGBA").save(tmp_path / "in" / f"{i}.png")
    options = ("--channels", ",".join(BRATS.contrast_names[:k]), "--without-labels")
    error = refused(tmp_path / "in", tmp_path / "out", *options)
    option = next(option for option in remedies(error) if option[1] == f"1x{k}")
    run("import", tmp_path / "in", "-o", tmp_path / "out", *options, *option)
    np.testing.assert_array_equal(imported(tmp_path / "out")[0], IMAGES[:, :k])


@pytest.mark.parametrize(
    "options",
    [
        ("--channels", "t1,t1"), ("--channels", "t1,adc"), ("--channels", "labels"), ("--mosaic", "5"),
        ("--mosaic", "0x5"), ("--range", "1"), ("--range", "5,1"), ("--as", "unreal"),
        ("--channels", "t1,t1ce,t2,flair,labels"), ("--mosaic", "1x5"), ("--channels-last",),
    ],
)  # fmt: skip
def test_options_that_make_no_sense_or_do_not_fit_the_layout(tmp_path: Path, options: tuple[str, ...]) -> None:
    assert isinstance(refused(save(tmp_path / "in"), tmp_path / "out", *options), UsageError)


def test_channels_that_nobody_names_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for i in range(N):
        mosaic = np.concatenate([*IMAGES[i], GREY[i]], axis=1)
        Image.fromarray(mosaic).save(tmp_path / "in" / f"{i}.png")
    (option,) = remedies(refused(tmp_path / "in", tmp_path / "out"))
    run("import", tmp_path / "in", "-o", tmp_path / "out", *option)
    images, labels = imported(tmp_path / "out")
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(labels, LABELS)


def test_channels_are_never_named_over_names_that_say_otherwise(tmp_path: Path) -> None:
    """All contrasts would become pictures of one."""
    (tmp_path / "in").mkdir()
    for name, plane in zip(("t1", "flair", "seg"), IMAGES[0], strict=False):
        Image.fromarray(plane).save(tmp_path / "in" / f"a_{name}.png")
    error = refused(tmp_path / "in", tmp_path / "out", "--channels", "t1", "--without-labels")
    assert "files named by channel" in error.why and error.exit_code == ExitCode.USAGE
    run("import", tmp_path / "in", "-o", tmp_path / "out", "--without-labels")


@pytest.mark.parametrize("content", ["nothing", "text", "both"])
def test_folders_without_pictures_are_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "in").mkdir()
    if content != "nothing":
        (tmp_path / "in" / "notes.txt").write_text("x")
    if content == "both":
        Image.fromarray(IMAGES[0, 0]).save(tmp_path / "in" / "a.png")
        np.save(tmp_path / "in" / "b.npy", IMAGES)
    error = refused(tmp_path / "in", tmp_path / "out")
    assert {"nothing": "nothing", "text": "notes.txt", "both": "1 arrays"}[content] in error.why


# ------------------------------------------------------------------------------------------------ nothing left behind


@pytest.mark.parametrize("before", ["absent", "empty", "dataset"])
def test_a_refusal_leaves_the_output_as_it_was(tmp_path: Path, before: str) -> None:
    bad = save(tmp_path / "bad", coded(0, 1, 2, 4))
    out = tmp_path / "out"
    options = []
    if before == "empty":
        out.mkdir()
    if before == "dataset":
        run("import", save(tmp_path / "good"), "-o", out)
        options = ["--overwrite"]
    refused(bad, out, *options)
    if before == "dataset":
        np.testing.assert_array_equal(imported(out)[1], LABELS)


@pytest.mark.parametrize("before", ["absent", "empty"])
def test_a_picture_that_changes_while_it_is_imported(
    tmp_path: Path, before: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, out = save(tmp_path / "in"), tmp_path / "out"
    if before == "empty":
        out.mkdir()
    check: Callable[..., Any] = importing._check_all

    def then_damage(*arguments: Any) -> Any:
        found = check(*arguments)
        (root / "FLAIR" / "s005_FLAIR.png").write_bytes(b"gone")
        return found

    monkeypatch.setattr(importing, "_check_all", then_damage)
    refused(root, out)
