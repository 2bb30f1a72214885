"""Blank images do not count as searched, and what an insufficient verdict advises helps: it is carried out here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from synthkit_memorization import Params
from synthkit_memorization.blank import blank_images
from synthkit_memorization.metrics import score

from synthkit import Row, Score
from synthkit.judging.policy import Policy
from synthkit.judging.verdict import Verdict, verdict
from synthkit.testing import InMemorySamples

SIZE = 32


def heads(rng: np.random.Generator, prefix: str, n: int, slices: int = 4) -> InMemorySamples:
    """Images of two contrasts: a head that all share, a pattern of the subject, a little of the slice."""
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE - 0.5
    head = (x**2 + y**2) < 0.15
    own = np.repeat(rng.normal(0, 25, (n, 2, SIZE, SIZE)), slices, axis=0)
    images = np.clip(head * (140 + own + rng.normal(0, 6, own.shape)), 0, 255).astype(np.uint8)
    owners = [f"{prefix}{i // slices}" for i in range(n * slices)]
    return InMemorySamples(images, subjects=owners, prefix=f"{prefix}-")


def unnamed(images: Any) -> InMemorySamples:
    return InMemorySamples(images.astype(np.uint8), subjects=[None] * len(images), prefix="s")


def blanks(n: int, kind: str = "black") -> Any:
    rng = np.random.default_rng(9)
    images = np.zeros((n, 2, SIZE, SIZE))
    if kind == "grey":
        images += 128
    if kind == "white":
        images += 255
    if kind == "noisy":
        images = np.clip(100 + rng.normal(0, 2, images.shape), 0, 255)
    if kind == "speck":
        images[:, :, 10:13, 10:13] = 200
    if kind == "hardly any brain":  # 2.4 % of the pixels; heads are 47 %
        images[:, :, 10:15, 10:15] = rng.integers(60, 200, (n, 2, 5, 5))
    return images


KINDS = ("black", "grey", "white", "noisy", "speck", "hardly any brain")


def audited(train: Any, synthetic: Any, holdout: Any, **params: Any) -> tuple[list[dict[str, Any]], list[Row]]:
    chosen = Params(**{"families": ("picture",), "rules": ("pearson",), "plants": 0, **params})
    found = list(score(metrics=["memorization"], params=chosen, train=train, synthetic=synthetic, holdout=holdout))
    return [s.to_dict() for s in found if isinstance(s, Score)], [row for row in found if isinstance(row, Row)]


def value(scores: list[dict[str, Any]], name: str) -> Any:
    (found,) = [item["value"] for item in scores if item["name"] == name and not item["of"]]
    return found


def judged(scores: list[dict[str, Any]], **policy: Any) -> Verdict:
    return verdict(scores, Policy(**{"required_power": (), **policy}))


@pytest.fixture(scope="module")
def real() -> tuple[InMemorySamples, InMemorySamples]:
    rng = np.random.default_rng(0)
    return heads(rng, "a", 10), heads(rng, "b", 20)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_blank(real: tuple[InMemorySamples, InMemorySamples], kind: str) -> None:
    train, holdout = real
    assert blank_images(unnamed(blanks(3, kind)), train).all()
    assert not blank_images(holdout, train).any() and not blank_images(train, train).any()
    # A single contrast that shows a head is searched.
    half = blanks(3, kind)
    half[:, 1] = train.images[:3, 1]
    assert not blank_images(unnamed(half), train).any()
    # Dark, smooth and small heads are no blank images.
    dark = train.images[:3] / 5
    small = np.zeros((3, 2, SIZE, SIZE))
    small[:, :, 8:24, 8:24] = train.images[:3, :, ::2, ::2]
    assert not blank_images(unnamed(np.concatenate([dark, small])), train).any()


@pytest.mark.parametrize("kind", ["black", "noisy", "hardly any brain"])
def test_blank_images_change_nothing_for_the_copies_among_them(
    real: tuple[InMemorySamples, InMemorySamples], kind: str
) -> None:
    """80 noisy copies and 2,720 blank images: 2.9 % of all, 100 % of the rest."""
    train, holdout = real
    rng = np.random.default_rng(1)
    copies = np.clip(train.images.repeat(2, axis=0) + rng.normal(0, 12, (80, 2, SIZE, SIZE)), 0, 255)
    alone, _ = audited(train, unnamed(copies), holdout)
    scores, _ = audited(train, unnamed(np.concatenate([copies, blanks(2720, kind)])), holdout)
    assert value(scores, "n_copies") == value(alone, "n_copies") == 80
    assert (value(scores, "n_synthetic"), value(scores, "n_blank"), value(alone, "n_blank")) == (2800, 2720, 0)
    assert value(scores, "copied_rate") == 1.0
    result = judged(scores)
    assert result.outcome == "fail" and result.exit_code == 10
    assert result.reasons[0].startswith("80 synthetic images are copies of 10 training people")
    assert any(line.startswith("2720 of 2800 synthetic images are blank") for line in result.reasons)


def test_blank_images_excuse_no_copies_where_nothing_is_held_out(
    real: tuple[InMemorySamples, InMemorySamples],
) -> None:
    train, _ = real
    rng = np.random.default_rng(2)
    copies = np.clip(train.images[:20] + rng.normal(0, 12, (20, 2, SIZE, SIZE)), 0, 255)
    found = [
        value(audited(train, unnamed(images), None)[0], "n_copies")
        for images in (copies, np.concatenate([copies, blanks(200)]))
    ]
    assert found == [20, 20]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("held_out", [True, False])
def test_blank_images_alone_are_no_evidence(
    real: tuple[InMemorySamples, InMemorySamples], kind: str, held_out: bool
) -> None:
    train, holdout = real
    scores, rows = audited(train, unnamed(blanks(20, kind)), holdout if held_out else None, plants=5)
    assert value(scores, "n_blank") == value(scores, "n_synthetic") == 20 and value(scores, "copied_rate") is None
    result = judged(scores)
    assert result.outcome == "insufficient evidence" and result.exit_code == 12
    assert result.reasons[0] == (
        "No synthetic image was searched besides 20 blank ones, which do not count; the policy asks for 1 "
        "(min_synthetic). Audit at least 1 more that are not blank."
    )
    assert "20 of 20 synthetic images are blank" in " ".join(result.reasons)
    assert len({row.values["synthetic_id"] for row in rows if row.table == "matches"}) == 20
    # What is advised: one that is not blank.
    more = np.concatenate(
        [blanks(20, kind), holdout.images[:1] if not held_out else heads(np.random.default_rng(3), "c", 1).images[:1]]
    )
    scores, _ = audited(train, unnamed(more), holdout if held_out else None)
    assert not any("min_synthetic" in line for line in judged(scores).reasons)


def test_a_copy_of_a_nearly_blank_slice_is_found_and_counts() -> None:
    """An edge slice that shows hardly any brain, in the training set and among the images."""
    rng = np.random.default_rng(4)
    train, holdout = heads(rng, "a", 10), heads(rng, "b", 20)
    train.images[0] = 0
    train.images[0, :, 4:8, 4:9] = rng.integers(50, 250, (2, 4, 5))
    fresh = heads(rng, "c", 20).images
    scores, rows = audited(train, unnamed(np.concatenate([fresh, train.images[:1]])), holdout)
    assert value(scores, "n_identical") == 1 and value(scores, "n_blank") == 0
    assert any(row.values["synthetic_id"] == "s80" and row.values["copy"] for row in rows if row.table == "matches")
    assert judged(scores).outcome == "fail"


def test_the_policy_counts_images_that_are_not_blank(real: tuple[InMemorySamples, InMemorySamples]) -> None:
    train, holdout = real
    fresh = heads(np.random.default_rng(5), "c", 10).images
    scores, _ = audited(train, unnamed(np.concatenate([fresh, blanks(100)])), holdout)
    short = judged(scores, min_synthetic=60)
    assert short.outcome == "insufficient evidence" and short.reasons[0] == (
        "40 synthetic images were searched besides 100 blank ones, which do not count; the policy asks for 60 "
        "(min_synthetic). Audit at least 20 more that are not blank."
    )
    assert not any("min_synthetic" in line for line in judged(scores, min_synthetic=40).reasons)


# --------------------------------------------------------------------------------------------- what would help


def audit(n_train: int, n_holdout: int, n_images: int, seed: int = 1, **policy: Any) -> Verdict:
    """The verdict on images of nobody in the training set."""
    rng = np.random.default_rng(seed)
    train, holdout = heads(rng, "a", n_train), heads(rng, "b", n_holdout) if n_holdout else None
    images = unnamed(heads(rng, "c", -(-n_images // 4)).images)
    scores, _ = audited(train, images, holdout, **policy.pop("params", {}))
    return verdict(scores, Policy(**{"required_power": (), **policy}))


@pytest.mark.parametrize(("n_train", "n_holdout"), [(20, 20), (10, 6), (5, 7), (6, 0)])
def test_a_small_release_is_judged(n_train: int, n_holdout: int) -> None:
    assert audit(n_train, n_holdout, 80).outcome == "pass"


def test_one_held_out_subject_is_enough_to_fail_copies() -> None:
    """57 of 57 images are noisy copies, and one subject is held out."""
    rng = np.random.default_rng(0)
    train, holdout = heads(rng, "a", 15), heads(rng, "b", 1)
    copies = np.clip(train.images[:57] + rng.normal(0, 12, (57, 2, 32, 32)), 0, 255)
    scores, _ = audited(train, unnamed(copies), holdout)
    result = verdict(scores, Policy(required_power=()))
    assert result.outcome == "fail" and result.exit_code == 10
    assert result.reasons[0].startswith("57 synthetic images are copies of 15 training people")


def test_no_null_at_all_and_its_remedy() -> None:
    first = audit(1, 0, 40)
    assert "How near chance comes is not known" in first.reasons[-1] and "--holdout" in first.reasons[-1]
    assert not any("not known" in line for line in audit(1, 20, 40).reasons)
    first = audit(10, 0, 40, require_holdout=True)
    assert "require_holdout" in " ".join(first.reasons) and "prepare --holdout" in " ".join(first.reasons)
    assert "require_holdout" not in " ".join(audit(10, 5, 40, require_holdout=True).reasons)
    first = audit(2, 1, 40)
    assert first.outcome == "insufficient evidence" and "rests on 3 real people" in " ".join(first.reasons)
    assert "At least 1 more" in " ".join(first.reasons)
    assert "min_null_subjects" not in " ".join(audit(2, 2, 40).reasons)


def test_a_mass_of_weak_copies_cannot_lower_its_own_cut_unnoticed() -> None:
    """Nobody is held out, and every image is half a training image: near to everybody, or copies? It is asked for."""
    rng = np.random.default_rng(7)
    train, holdout = heads(rng, "a", 12), heads(rng, "b", 12)
    mixed = 0.5 * train.images + 0.5 * np.roll(train.images, 4, axis=0)
    scores, _ = audited(train, unnamed(mixed), None)
    first = verdict(scores, Policy(required_power=()))
    assert first.outcome != "pass" and ("likeness" in " ".join(first.reasons) or value(scores, "n_copies"))
    scores, _ = audited(train, unnamed(mixed), holdout)
    assert verdict(scores, Policy(required_power=())).outcome == "fail"


def test_copies_of_held_out_images_fail_and_the_remedy() -> None:
    rng = np.random.default_rng(6)
    train, holdout = heads(rng, "a", 10), heads(rng, "b", 10)
    images = np.concatenate([heads(rng, "c", 40).images, holdout.images[:3]])
    scores, _ = audited(train, unnamed(images), holdout)
    first = verdict(scores, Policy(required_power=()))
    assert first.outcome == "fail" and "3 synthetic images are copies of 1 held-out person" in first.reasons[0]
    scores, _ = audited(train, unnamed(images[:-3]), holdout)
    assert verdict(scores, Policy(required_power=())).outcome == "pass"


@pytest.mark.parametrize(("plants", "advises"), [(10, True), (60, False)])
def test_few_plants_and_their_remedy(plants: int, advises: bool) -> None:
    result = audit(16, 10, 40, required_power=("exact",), params={"plants": plants, "rules": ("pearson",)})
    assert ("-p plants=60" in " ".join(result.reasons)) == advises
