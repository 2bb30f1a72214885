"""Regions of any label scheme, compared by name, and labels that a prediction has in each other's places."""

from __future__ import annotations

import re
from itertools import permutations
from pathlib import Path

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("scipy", reason="scipy is not installed")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from synthkit_overlap import Params  # noqa: E402
from synthkit_overlap.metrics import score  # noqa: E402

from synthkit import Row, Score  # noqa: E402
from synthkit.data.named_schemes import SCHEMES, read_scheme  # noqa: E402
from synthkit.errors import DataError  # noqa: E402
from synthkit.schemes import Scheme  # noqa: E402
from synthkit.testing import InMemoryVolumes  # noqa: E402

HEART = (
    '[labels]\nmyocardium = 7\nblood = 3\n[regions]\nheart = ["myocardium", "blood"]\n[contrasts]\ncine = ["cine"]\n'
)


@pytest.fixture(name="heart")
def heart_fixture(tmp_path: Path) -> Scheme:
    (tmp_path / "heart.toml").write_text(HEART)
    return read_scheme(tmp_path / "heart.toml")


def scheme_of(name: str, heart: Scheme) -> Scheme:
    return heart if name == "heart" else SCHEMES[name]


def blocks(scheme: Scheme, size: int = 5) -> np.ndarray:
    """Every label as a block of its own, side by side."""
    volume = np.zeros((size + 2, size + 2, (size + 1) * len(scheme.labels) + 1), np.uint8)
    for i, label in enumerate(scheme.labels):
        volume[1:-1, 1:-1, 1 + i * (size + 1) : (i + 1) * (size + 1)] = label.value
    return volume


def renumbered(volume: np.ndarray, values: dict[int, int]) -> np.ndarray:
    table = np.arange(256, dtype=np.uint8)
    table[list(values)] = list(values.values())
    return table[volume]


def run(reference: np.ndarray, of: Scheme, prediction: np.ndarray, by: Scheme, n: int = 3, **params: object) -> list:
    return list(
        score(
            metrics=["dice"],
            params=Params(resamples=100, **params),
            reference=InMemoryVolumes({f"s{i}": reference for i in range(n)}, scheme=of),
            prediction=InMemoryVolumes({f"s{i}": prediction for i in range(n)}, scheme=by),
        )
    )


def means(items: list[Score | Row]) -> dict[str, float | None]:
    return {item.of["region"]: item.value for item in items if isinstance(item, Score) and item.name == "dice_mean"}


def note_of(items: list[Score | Row], region: str = "mean") -> str:
    return next(
        item.note
        for item in items
        if isinstance(item, Score) and (item.name, item.of) == ("dice_mean", {"region": region})
    )


@pytest.mark.parametrize("name", ["gli2024", "ped", "whole-tumour", "heart"])
def test_a_perfect_prediction_scores_one_in_every_region_of_its_scheme(name: str, heart: Scheme) -> None:
    scheme = scheme_of(name, heart)
    volume = blocks(scheme)
    items = run(volume, scheme, volume, scheme)
    assert means(items) == dict.fromkeys([*scheme.region_values, "mean"], 1.0)
    in_mean = {item.values["region"] for item in items if isinstance(item, Row) and item.values["in_mean"]}
    assert in_mean == set(scheme.mean_of)
    assert "crosswise" not in note_of(items)


def test_each_side_has_values_of_its_own() -> None:
    """BraTS 2018 writes 1 NCR, 2 ED, 4 ET, the Decathlon 1 ED, 2 NCR, 3 ET."""
    volume = blocks(SCHEMES["brats2018"])
    items = run(volume, SCHEMES["brats2018"], renumbered(volume, {1: 2, 2: 1, 4: 3}), SCHEMES["msd"])
    assert set(means(items).values()) == {1.0}


def test_a_mask_of_the_whole_tumour_is_scored_beside_its_parts() -> None:
    volume = blocks(SCHEMES["brats2018"])
    mask = (volume > 0).astype(np.uint8)
    items = run(volume, SCHEMES["brats2018"], mask, SCHEMES["whole-tumour"])
    assert means(items) == {"WT": 1.0, "mean": None}
    assert "not scored: NCR, ED, ET and TC, which the prediction's scheme does not have" in note_of(items, "WT")
    assert "none of NCR, ED and ET is scored" in note_of(items)
    assert means(run(mask, SCHEMES["whole-tumour"], volume, SCHEMES["brats2018"])) == {"WT": 1.0, "mean": 1.0}


def test_a_cavity_that_the_prediction_cannot_say_is_named() -> None:
    after, adult = SCHEMES["gli2024"], SCHEMES["brats2023-gli"]
    volume = blocks(after)
    items = run(volume, after, np.where(volume == 4, 0, volume).astype(np.uint8), adult)
    assert means(items) == dict.fromkeys(("NCR", "ED", "ET", "TC", "WT", "mean"), 1.0)
    assert "not scored: RC, which the prediction's scheme does not have" in note_of(items)


def test_a_nested_region_is_found_by_its_parts(heart: Scheme) -> None:
    """The prediction's scheme names the same labels, and not what they are together."""
    parts = Scheme.of_labels({"background": 0, "blood": 1, "myocardium": 2})
    volume = blocks(heart)
    assert means(run(volume, heart, renumbered(volume, {3: 1, 7: 2}), parts))["heart"] == 1.0


def test_nothing_in_common_is_refused(heart: Scheme) -> None:
    volume = blocks(SCHEMES["ped"])
    with pytest.raises(DataError, match=r"no region in common.*NET.*myocardium.*name the label schemes"):
        run(volume, SCHEMES["ped"], np.zeros_like(volume), heart)
    mask = (volume > 0).astype(np.uint8)
    with pytest.raises(DataError, match="nested_regions=true"):
        run(volume, SCHEMES["ped"], mask, SCHEMES["whole-tumour"], nested_regions=False)
    assert means(run(volume, SCHEMES["ped"], mask, SCHEMES["whole-tumour"], nested_regions=True))["WT"] == 1.0


def test_values_of_another_scheme_are_refused_with_those_that_there_are(heart: Scheme) -> None:
    volume = blocks(heart)
    with pytest.raises(DataError, match=r"prediction has label values that heart does not: \[1\].*7 myocardium"):
        run(volume, heart, np.where(volume == 3, 1, volume).astype(np.uint8), heart)


# ------------------------------------------------------------------------------------------------------ crosswise


@pytest.mark.parametrize("order", [o for o in permutations((1, 2, 3)) if o != (1, 2, 3)])
def test_every_exchange_of_labels_is_named_and_the_remedy_helps(order: tuple[int, ...]) -> None:
    adult = SCHEMES["brats2023-gli"]
    volume = blocks(adult)
    values = dict(zip((1, 2, 3), order, strict=True))
    items = run(volume, adult, renumbered(volume, values), adult)
    names = {value: label for label, value in adult.label_values.items()}
    for value, became in values.items():
        if value != became:
            assert f"{names[became]} where the reference has {names[value]}" in note_of(items)
            assert "--prediction-labels" in note_of(items, names[value])
    right = Scheme.of_labels({"background": 0, **{names[value]: became for value, became in values.items()}})
    items = run(volume, adult, renumbered(volume, values), right)
    assert means(items)["mean"] == 1.0 and "crosswise" not in note_of(items)


def test_a_label_in_the_place_of_one_that_the_prediction_never_has() -> None:
    """Enhancing tumour written as 4, in files that are read as those after treatment: 4 is the cavity there."""
    after = SCHEMES["gli2024"]
    reference = np.where((volume := blocks(after)) == 4, 0, volume).astype(np.uint8)
    items = run(reference, after, renumbered(reference, {3: 4}), after)
    assert "RC where the reference has ET (Dice 1.00, with RC 0.00)" in note_of(items)
    assert "--prediction-labels brats2018 or brats2021" in note_of(items)


@pytest.mark.parametrize("n_crossed", [0, 1, 2, 3, 4])
def test_every_subject_that_shows_it_is_named(n_crossed: int) -> None:
    adult = SCHEMES["brats2023-gli"]
    volume = blocks(adult)
    crossed = renumbered(volume, {1: 2, 2: 1})
    predictions = {f"s{i}": crossed if i < n_crossed else volume for i in range(4)}
    items = list(
        score(
            metrics=["dice"],
            params=Params(resamples=100),
            reference=InMemoryVolumes(dict.fromkeys(predictions, volume), scheme=adult),
            prediction=InMemoryVolumes(predictions, scheme=adult),
        )
    )
    note = note_of(items)
    assert ("crosswise" in note) is (n_crossed > 0)
    if 0 < n_crossed < 4:
        assert f"({n_crossed} of 4 subjects: {', '.join(f's{i}' for i in range(n_crossed))})" in note
    # What is wrong in a few is not helped by another scheme for all.
    assert ("--prediction-labels" in note) is (n_crossed > 2)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["gli2024", "ped", "brats2018"]),
    st.sampled_from([0.0, 0.2, 0.6, 1.0]),
    st.sampled_from(["random", "lost", "one label", "shifted", "two confused", "one missed"]),
)
def test_no_segmenter_is_taken_for_an_exchange(seed: int, name: str, share: float, kind: str) -> None:
    """Good, bad and empty ones: labels at random places, lost, all taken for one, moved, or two for one another."""
    random, scheme = np.random.default_rng(seed), SCHEMES[name]
    reference = blocks(scheme, 6)
    one, other = random.choice(scheme.values[1:], 2, replace=False).tolist()
    wrong = {
        "random": random.choice(np.array(scheme.values, np.uint8), reference.shape),
        "lost": np.zeros_like(reference),
        "one label": np.where(reference > 0, random.choice(scheme.values[1:]), 0).astype(np.uint8),
        "shifted": np.roll(reference, random.integers(-3, 4), random.integers(3)),
        "two confused": renumbered(reference, {one: other, other: one}),
        "one missed": renumbered(reference, {one: other}),
    }[kind]
    # All of it is no segmenter's: a mask of one value, and two labels exchanged.
    share = min(share, 0.6) if kind in ("one label", "two confused") else share
    prediction = np.where(random.random(reference.shape) < share, wrong, reference)
    items = run(reference, scheme, prediction, scheme, n=2)
    notes = " ".join(item.note for item in items if isinstance(item, Score))
    assert "crosswise" not in notes and "not where their names say" not in notes


# ------------------------------------------------------------------------------------------ neither right nor exchanged

PED_AS_ADULT = {1: 3, 2: 1, 3: 1, 4: 2}
# Kind -> scheme of the reference, its values -> those of the prediction, and what helps.
NUMBERED: dict[str, tuple[str, dict[int, int], str]] = {
    "adult order, paediatric reference": ("ped", PED_AS_ADULT, "brats2023-gli or met or men or ssa"),
    "the same without cysts": ("ped", {**PED_AS_ADULT, 3: 0}, "brats2023-gli or met or men or ssa"),
    "HD-GLIO": ("brats2021", {1: 1, 2: 1, 4: 2}, "FILE.toml"),
    "oedema and core": ("brats2021", {1: 2, 2: 1, 4: 2}, "FILE.toml"),
    "core and oedema": ("brats2021", {1: 1, 2: 2, 4: 1}, "FILE.toml"),
    "enhancing tumour alone": ("brats2021", {1: 0, 2: 0, 4: 1}, "FILE.toml"),
    "core alone": ("brats2021", {1: 1, 2: 0, 4: 1}, "FILE.toml"),
    "oedema alone": ("gli2024", {1: 0, 2: 1, 3: 0, 4: 0}, "FILE.toml"),
    "whole tumour": ("brats2021", {1: 1, 2: 1, 4: 1}, "whole-tumour"),
    "Decathlon": ("brats2023-gli", {1: 2, 2: 1}, "msd or nnunet-brats"),
    "three in a ring": ("brats2023-gli", {1: 3, 2: 1, 3: 2}, "FILE.toml"),
    "paediatric order, later reference": ("gli2024", {1: 2, 2: 4, 3: 1, 4: 0}, "ped"),
}


def tumours(scheme: Scheme, kind: str) -> np.ndarray:
    """Blocks in which the first label is small, as necrosis is, so that it is a small part of what it is put with."""
    volume = blocks(scheme, 8)
    if "core" in kind or kind in ("HD-GLIO", "whole tumour"):
        volume[volume == scheme.labels[0].value] *= (np.indices(volume.shape)[0] % 8 < 3)[
            volume == scheme.labels[0].value
        ]
    return volume


@pytest.mark.parametrize("kind", NUMBERED)
def test_values_that_mean_something_else_are_named_and_what_is_advised_helps(kind: str, tmp_path: Path) -> None:
    name, values, advised = NUMBERED[kind]
    scheme = SCHEMES[name]
    volume = tumours(scheme, kind)
    wrong = renumbered(volume, values)
    stray = np.random.default_rng(0).random(volume.shape) < 0.003
    wrong = np.where(stray & (wrong > 0), max(values.values()), wrong).astype(np.uint8)
    note = note_of(run(volume, scheme, wrong, scheme), scheme.labels[0].name)
    assert "(3 of 3 subjects)" in note and f"--prediction-labels {advised}" in note, note
    if advised == "FILE.toml":
        lines = re.findall(r"`([^`]+)`", note)
        (tmp_path / "FILE.toml").write_text("\n".join(lines))
        right = read_scheme(tmp_path / "FILE.toml")
    else:
        right = SCHEMES[advised.split(" ")[0]]
    items = run(volume, scheme, wrong, right)
    scores = {region: value for region, value in means(items).items() if region != "mean"}
    assert scores and min(v for v in scores.values() if v is not None) > (0.75 if "cysts" in kind else 0.9), scores
    assert "names say" not in note_of(items, next(iter(scores)))


def test_a_mask_in_one_subject_of_three_is_named() -> None:
    scheme = SCHEMES["brats2021"]
    volume = blocks(scheme)
    predictions = {"a": (volume == 4).astype(np.uint8), "b": volume, "c": volume}
    items = list(
        score(
            metrics=["dice"],
            params=Params(resamples=100),
            reference=InMemoryVolumes(dict.fromkeys(predictions, volume), scheme=scheme),
            prediction=InMemoryVolumes(predictions, scheme=scheme),
        )
    )
    assert "NCR where the reference has ET (Dice 1.00, with NCR 0.00) (1 of 3 subjects: a)" in note_of(items)
    assert "files of these subjects" in note_of(items) and "--prediction-labels" not in note_of(items)


def test_a_tumour_that_is_taken_for_oedema_in_one_subject_is_a_segmenters_mistake() -> None:
    scheme = SCHEMES["brats2021"]
    volume = blocks(scheme)
    alone = np.where(volume == 1, 1, 0).astype(np.uint8)
    predictions = {"a": alone * 2, "b": volume, "c": volume}
    references = {"a": alone, "b": volume, "c": volume}
    items = list(
        score(
            metrics=["dice"],
            params=Params(resamples=100),
            reference=InMemoryVolumes(references, scheme=scheme),
            prediction=InMemoryVolumes(predictions, scheme=scheme),
        )
    )
    assert "names say" not in note_of(items) and "crosswise" not in note_of(items)


def test_files_of_ones_own_are_compared_once_a_region_is_called_as_the_references(tmp_path: Path) -> None:
    scheme = SCHEMES["brats2021"]
    volume = blocks(scheme)
    hd = renumbered(volume, {2: 1, 4: 2})
    text = "[labels]\nNE = 1\nCE = 2\n"
    (tmp_path / "hd.toml").write_text(text)
    with pytest.raises(DataError, match="no region in common") as caught:
        run(volume, scheme, hd, read_scheme(tmp_path / "hd.toml"))
    heading, region = re.findall(r"`([^`]+)`", caught.value.fix)
    (tmp_path / "hd.toml").write_text(f"{text}{heading}\n{region}\n")
    items = run(volume, scheme, hd, read_scheme(tmp_path / "hd.toml"))
    assert means(items)["WT"] == 1.0 and "names say" not in note_of(items, "WT")
