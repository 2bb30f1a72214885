"""Known answers of the two metrics: what was changed stands out, what was not does not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from synthkit_realism import Params
from synthkit_realism.metrics import score

from synthkit import Row, Score
from synthkit.contract import Sample
from synthkit.data.named_schemes import SCHEMES
from synthkit.errors import DataError
from synthkit.schemes import Scheme
from synthkit.testing import InMemorySamples, data

Images = NDArray[np.uint8]
QUICK = Params(resamples=100)
N, SIZE, SLICES_PER_PATIENT = 72, 64, 4


def real() -> InMemorySamples:
    images, labels = data.slices(N, 4, SIZE, seed=5)
    return InMemorySamples(images, labels, subjects=[f"patient{k // SLICES_PER_PATIENT}" for k in range(N)])


def synthetic(change: Callable[[Images, Images], tuple[Images, Images]] = lambda *both: both) -> InMemorySamples:
    """Other heads of the same kind, after a change."""
    images, labels = change(*data.slices(N, 4, SIZE, seed=6))
    return InMemorySamples(images, labels, subjects=[None] * N)


def ranked(made: InMemorySamples) -> dict[str, float]:
    """The excess of every property that has one, largest first, by its name in words."""
    answers = score(metrics=["label-realism"], params=QUICK, real=real(), synthetic=made)
    found = {
        " ".join(answer.of.values()): float(answer.value)
        for answer in answers
        if isinstance(answer, Score) and answer.name == "excess" and answer.value is not None
    }
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    texts: list[str] = []
    monkeypatch.setattr("synthkit.message", lambda text, level="info": texts.append(text))
    return texts


# ------------------------------------------------------------------------------------------------ label-realism


def test_real_against_itself_is_no_distance() -> None:
    answers = list(score(metrics=["label-realism"], params=QUICK, real=real(), synthetic=real()))
    scores = [answer for answer in answers if isinstance(answer, Score)]
    for name in ("ks", "wasserstein", "effect"):
        values = [answer.value for answer in scores if answer.name == name]
        assert len(values) > 40 and np.allclose([value for value in values if value is not None], 0)
    assert all(answer.value == 1 for answer in scores if answer.name == "floor_share" and answer.value is not None)


def test_other_heads_of_the_same_kind_stay_near_the_floor(said: list[str]) -> None:
    assert max(ranked(synthetic()).values()) < 0.2


def moved(images: Images, labels: Images) -> tuple[Images, Images]:
    return images, np.roll(labels, 12, axis=2)


def doubled(images: Images, labels: Images) -> tuple[Images, Images]:
    """Tumours of twice the area, around the same place."""
    large = np.zeros_like(labels)
    y, x = np.mgrid[:SIZE, :SIZE]
    for i, plane in enumerate(labels):
        cy, cx = (axis.mean() for axis in np.nonzero(plane))
        rows, columns = cy + (y - cy) / np.sqrt(2), cx + (x - cx) / np.sqrt(2)
        large[i] = plane[rows.round().astype(int), columns.round().astype(int)]
    return images, large


def eroded(images: Images, labels: Images) -> tuple[Images, Images]:
    """The enhancing rim gives way to oedema but for its inner pixels."""
    core = np.isin(labels, (1, 4))
    square = np.ones((1, 3, 3))
    kept = ndimage.binary_erosion(core, square, iterations=2)
    return images, np.where((labels == 4) & ~kept, np.uint8(2), labels)


def outside(images: Images, labels: Images) -> tuple[Images, Images]:
    """A few label pixels in the corner of the image, where no head is."""
    wrong = labels.copy()
    wrong[:, 1:6, 1:6] = 2
    return images, wrong


def duller(images: Images, labels: Images) -> tuple[Images, Images]:
    """Enhancing tumour that does not enhance."""
    changed = images.copy()
    changed[:, 1][labels == 4] = 110
    return changed, labels


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (moved, {"centroid_x WT", "offset WT"}),
        (doubled, {"area WT", "area_in_brain WT", "area TC", "area ED", "area ET", "area NCR"}),
        (eroded, {"area ET", "ratio ET/WT", "thin ET", "ratio NCR/TC", "compactness ET", "area TC", "ratio TC/WT"}),
        (outside, {"outside_brain WT", "components WT", "components ED"}),
        (duller, {"intensity ET t1ce"}),
    ],
)
def test_what_was_changed_stands_out(
    change: Callable[[Images, Images], tuple[Images, Images]], expected: set[str], said: list[str]
) -> None:
    ranks = ranked(synthetic(change))
    # Where labels were changed and the image was not, intensities change too.
    order = [pair for pair in ranks.items() if change is duller or not pair[0].startswith("intensity")]
    n = min(3, len(expected))
    assert {name for name, _ in order[:n]} <= expected and order[n - 1][1] > 0.3
    worst = next(text for text in said if text.startswith("Farthest from real labels"))
    assert next(iter(ranks)) in worst


def test_the_effect_has_a_sign_and_its_interval() -> None:
    answers = score(metrics=["label-realism"], params=QUICK, real=real(), synthetic=synthetic(doubled))
    found = next(
        answer
        for answer in answers
        if isinstance(answer, Score) and answer.name == "effect" and answer.of == {"property": "area", "region": "WT"}
    )
    assert found.value is not None and found.low is not None and found.value > found.low > 0.5
    assert found.n == N // SLICES_PER_PATIENT


def test_tables_have_a_row_a_property_and_quantiles_of_both_sides() -> None:
    made = synthetic(lambda images, labels: (images, np.where(labels == 4, np.uint8(0), labels)))
    rows = [
        a for a in score(metrics=["label-realism"], params=QUICK, real=real(), synthetic=made) if isinstance(a, Row)
    ]
    main = [row.values for row in rows if row.table == "label_realism"]
    spread = [row.values for row in rows if row.table == "distributions"]
    assert len(spread) == 2 * len(main) and {row["side"] for row in spread} == {"real", "synthetic"}
    area = {row["side"]: row for row in spread if (row["property"], row["region"]) == ("area", "WT")}
    truth = np.count_nonzero(real().labels, axis=(1, 2))
    assert (area["real"]["q000"], area["real"]["q050"], area["real"]["q100"]) == (
        truth.min(),
        np.median(truth),
        truth.max(),
    )
    gone = next(row for row in main if (row["property"], row["region"]) == ("area", "ET"))
    assert gone["ks"] is None and gone["n_synthetic"] == 0 and gone["note"] == "no synthetic slice has it"
    present = next(row for row in main if (row["property"], row["region"]) == ("present", "ET"))
    assert present["ks"] == 1 and present["synthetic_mean"] == 0


def test_held_out_patients_are_a_yardstick() -> None:
    def holdout_ks(holdout: InMemorySamples | None) -> dict[str, Score]:
        answers = score(metrics=["label-realism"], params=QUICK, real=real(), synthetic=synthetic(), holdout=holdout)
        return {" ".join(a.of.values()): a for a in answers if isinstance(a, Score) and a.name == "holdout_ks"}

    assert {found.value for found in holdout_ks(real()).values()} == {0.0}
    far = holdout_ks(synthetic(outside))
    assert far["outside_brain WT"].value == 1 and (far["area NCR"].value or 1) < 0.3
    assert all(found.value is None and found.note for found in holdout_ks(None).values())


def test_scans_of_one_patient_count_as_one(said: list[str]) -> None:
    scans = real()
    names = [f"BraTS-GLI-{k // 24:05d}-{100 + k // 12 % 2}" for k in range(N)]
    scans.samples = [Sample(f"i{k}", "train", name, k, None, "") for k, name in enumerate(names)]
    answers = score(metrics=["label-realism"], params=QUICK, real=scans, synthetic=synthetic())
    assert {a.n for a in answers if isinstance(a, Score) and a.name == "ks"} == {3}
    # And so do those that the dataset says to be of one patient.
    scans.samples = [Sample(f"i{k}", "train", f"x{k // 12}", k, None, "", f"p{k // 24}") for k in range(N)]
    answers = score(metrics=["label-realism"], params=QUICK, real=scans, synthetic=synthetic())
    assert {a.n for a in answers if isinstance(a, Score) and a.name == "ks"} == {3}
    assert any("3 patients, fewer than" in text for text in said)


def test_datasets_that_do_not_fit_are_refused() -> None:
    small = InMemorySamples(*data.slices(4, 4, 32, seed=0), subjects=[None] * 4)
    three = InMemorySamples(*data.slices(4, 3, SIZE, seed=0), subjects=[None] * 4)
    for made in (small, three):
        with pytest.raises(DataError, match="cannot be compared"):
            list(score(metrics=["label-realism"], params=QUICK, real=real(), synthetic=made))


# -------------------------------------------------------------------------------------------- contrast-identity


def identity(made: InMemorySamples) -> dict[str, Score]:
    answers = score(metrics=["contrast-identity"], params=QUICK, real=real(), synthetic=made)
    return {" ".join((a.name, *a.of.values())): a for a in answers if isinstance(a, Score)}


def test_channels_with_the_right_names_keep_them(said: list[str]) -> None:
    found = identity(synthetic())
    assert found["n_mismatched"].value == 0
    for contrast in ("t1", "t1ce", "t2", "flair"):
        margin = found[f"margin {contrast}"]
        assert margin.value is not None and margin.value > 0 and margin.note == "" and margin.low is None
        assert found[f"keeps_name {contrast}"].value == 1
    assert not any("wrong names" in text for text in said)


@pytest.mark.parametrize("order", [(1, 0, 2, 3), (2, 1, 0, 3), (0, 1, 3, 2), (1, 2, 0, 3), (3, 2, 1, 0)])
def test_exchanged_channels_are_found(order: tuple[int, ...], said: list[str]) -> None:
    names = ("t1", "t1ce", "t2", "flair")
    found = identity(synthetic(lambda images, labels: (images[:, list(order)], labels)))
    expected = [f"{names[j]} looks like {names[k]}" for j, k in enumerate(order) if j != k]
    assert found["n_mismatched"].value == len(expected) and found["n_mismatched"].note == "; ".join(expected)
    assert any("wrong names" in text and expected[0] in text for text in said)


def test_channels_that_are_the_same_cannot_be_told_apart() -> None:
    twice = real()
    twice.images[:, 1] = twice.images[:, 0]
    answers = score(metrics=["contrast-identity"], params=QUICK, real=twice, synthetic=twice)
    margins = {a.of["contrast"]: a for a in answers if isinstance(a, Score) and a.name == "margin"}
    assert margins["t1"].value == margins["t1ce"].value == 0
    assert margins["t1"].note == "cannot be told from another contrast" and margins["t2"].note == ""


def test_one_contrast_has_nothing_to_be_told_from() -> None:
    one = InMemorySamples(*data.slices(8, 1, SIZE, seed=0), subjects=[f"p{k}" for k in range(8)])
    answers = list(score(metrics=["contrast-identity"], params=QUICK, real=one, synthetic=one))
    assert [a.value for a in answers if isinstance(a, Score) and a.name == "n_mismatched"] == [None]


def test_a_mistake_that_both_datasets_share_is_found_by_physics(said: list[str]) -> None:
    def exchanged(images: Images, labels: Images) -> tuple[Images, Images]:
        return images[:, [1, 0, 2, 3]], labels

    both = synthetic(exchanged)
    answers = score(metrics=["contrast-identity"], params=QUICK, real=both, synthetic=both)
    found = {" ".join((a.name, *a.of.values())): a for a in answers if isinstance(a, Score)}
    assert found["n_mismatched"].value == 0
    assert found["n_misnamed real"].value == found["n_misnamed synthetic"].value == 2
    assert "t1 looks like t1ce" in found["n_misnamed real"].note
    assert sum(text.startswith("In the real dataset: The channel named t1") for text in said) == 2


@pytest.mark.parametrize("n_wrong", [0, 1, 2])
def test_real_subjects_whose_contrasts_are_exchanged_are_named(n_wrong: int, said: list[str]) -> None:
    images, labels = data.slices(N, 4, SIZE, seed=5)
    subjects = [f"patient{k // 12}" for k in range(N)]
    for k in range(12 * n_wrong):
        images[k] = images[k, [1, 0, 2, 3]]
    made = InMemorySamples(images, labels, subjects=subjects)
    list(score(metrics=["contrast-identity"], params=QUICK, real=made, synthetic=synthetic()))
    told = [text for text in said if "single subjects" in text]
    assert len(told) == min(1, n_wrong)
    for k in range(N // 12):
        assert any(f"patient{k} (t1 like t1ce, t1ce like t1)" in text for text in told) is (k < n_wrong)


# ---------------------------------------------------------------------------------------------- other label schemes


def renamed(samples: InMemorySamples, scheme: Scheme, values: dict[int, int]) -> InMemorySamples:
    table = np.zeros(256, np.uint8)
    table[list(values)] = list(values.values())
    subjects = [sample.subject for sample in samples.samples]
    return InMemorySamples(samples.images, table[samples.labels], subjects=subjects, scheme=scheme)


def test_labels_of_two_schemes_are_compared_by_name() -> None:
    decathlon = renamed(real(), SCHEMES["msd"], {1: 2, 2: 1, 4: 3})
    metrics = ["label-realism", "contrast-identity"]
    answers = list(score(metrics=metrics, params=QUICK, real=real(), synthetic=decathlon))
    ks = [answer.value for answer in answers if isinstance(answer, Score) and answer.name == "ks"]
    assert len(ks) > 40 and set(ks) <= {0.0, None}
    mask = renamed(real(), SCHEMES["whole-tumour"], {1: 1, 2: 1, 4: 1})
    with pytest.raises(DataError, match=r"different names.*NCR, ED and ET, synthetic has WT"):
        list(score(metrics=["label-realism"], params=QUICK, real=real(), synthetic=mask))


@pytest.mark.parametrize("contrasts", [("cine",), ("cine", "late"), tuple("abcdefgh")])
def test_contrasts_that_are_not_of_brain_mr_are_not_judged_by_their_looks(contrasts: tuple[str, ...]) -> None:
    images, labels = data.slices(N, len(contrasts), SIZE, seed=5)
    heart = Scheme.of_labels({"background": 0, "myocardium": 7, "blood": 3})
    labels = np.select([labels == 1, labels == 2], [7, 3], 0).astype(np.uint8)
    made = InMemorySamples(images, labels, contrasts=contrasts, scheme=heart)
    metrics = ["label-realism", "contrast-identity"]
    answers = [a for a in score(metrics=metrics, params=QUICK, real=made, synthetic=made) if isinstance(a, Score)]
    assert {a.of["region"] for a in answers if a.name == "ks" and a.of["property"] == "area"} == {
        "myocardium", "blood", "all",
    }  # fmt: skip
    misnamed = [a for a in answers if a.name == "n_misnamed"]
    assert {a.value for a in misnamed} == {None} and all("not known" in a.note for a in misnamed)
    if len(contrasts) != 2:
        assert next(a for a in answers if a.name == "n_mismatched").value is None
