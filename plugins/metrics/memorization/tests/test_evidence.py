"""Blank images do not count as searched, and what an insufficient verdict advises helps: it is carried out here."""

from __future__ import annotations

import re
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
    chosen = Params(**{"rules": ("pearson",), "plants": 0, "resamples": 100, **params})
    found = list(score(metrics=["memorization"], params=chosen, train=train, synthetic=synthetic, holdout=holdout))
    return [s.to_dict() for s in found if isinstance(s, Score)], [row for row in found if isinstance(row, Row)]


def value(scores: list[dict[str, Any]], name: str) -> Any:
    (found,) = [item["value"] for item in scores if item["name"] == name and not item["of"]]
    return found


def judged(scores: list[dict[str, Any]], **policy: Any) -> Verdict:
    return verdict(scores, Policy(**{"required_power": (), "max_explained_rate": 0.9, **policy}))


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
def test_copies_among_blank_images_fail_by_their_share_of_the_others(
    real: tuple[InMemorySamples, InMemorySamples], kind: str
) -> None:
    """80 noisy copies, none of which counts as a copy, and 2,720 blank images: 2.9 % of all, 100 % of the rest."""
    train, holdout = real
    rng = np.random.default_rng(1)
    copies = np.clip(train.images.repeat(2, axis=0) + rng.normal(0, 17, (80, 2, SIZE, SIZE)), 0, 255)
    alone, _ = audited(train, unnamed(copies), holdout, only_flagged=True)
    scores, _ = audited(train, unnamed(np.concatenate([copies, blanks(2720, kind)])), holdout, only_flagged=True)
    assert value(scores, "n_copies") == 0 and value(scores, "n_flagged") == 80
    assert (value(scores, "n_synthetic"), value(scores, "n_blank"), value(alone, "n_blank")) == (2800, 2720, 0)
    assert value(scores, "flagged_rate") == 1.0
    # Thresholds and what is excused are those without the blank images.
    for name in ("explained_flag_rate", "control_flag_rate", "n_flagged"):
        assert value(scores, name) == value(alone, name)
    result = judged(scores)
    assert result.outcome == "fail" and result.exit_code == 10
    assert result.reasons[0].startswith("80 of 80 synthetic images that are not blank are closer to a training image")
    assert result.reasons[1].startswith("2720 of 2800 synthetic images are blank")


def test_blank_images_excuse_no_copies_where_nothing_is_held_out(
    real: tuple[InMemorySamples, InMemorySamples],
) -> None:
    """The null is made as smooth as the synthetic images; blank ones, smoother than any, have no say in it."""
    train, _ = real
    rng = np.random.default_rng(2)
    copies = np.clip(train.images[:20] + rng.normal(0, 12, (20, 2, SIZE, SIZE)), 0, 255)
    flagged = [
        value(audited(train, unnamed(images), None, only_flagged=True)[0], "n_flagged")
        for images in (copies, np.concatenate([copies, blanks(200)]))
    ]
    assert flagged == [20, 20]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("held_out", [True, False])
def test_blank_images_alone_are_no_evidence(
    real: tuple[InMemorySamples, InMemorySamples], kind: str, held_out: bool
) -> None:
    train, holdout = real
    scores, rows = audited(train, unnamed(blanks(20, kind)), holdout if held_out else None, plants=5)
    assert value(scores, "n_blank") == value(scores, "n_synthetic") == 20 and value(scores, "flagged_rate") is None
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
    scores, _ = audited(train, unnamed(more), holdout if held_out else None, only_flagged=True)
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
    assert any(row.values["synthetic_id"] == "s80" and row.values["flagged"] for row in rows if row.table == "matches")
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


def audit(n_train: int, n_holdout: int, n_images: int, seed: int = 1, **policy: Any) -> tuple[Verdict, int]:
    """The verdict on images of nobody in the training set, by twelve columns; and how many images there were."""
    rng = np.random.default_rng(seed)
    train, holdout = heads(rng, "a", n_train), heads(rng, "b", n_holdout) if n_holdout else None
    images = unnamed(heads(rng, "c", -(-n_images // 4)).images)
    params = {"rules": ("pearson", "brain", "flip", "shift"), "only_flagged": True, **policy.pop("params", {})}
    scores, _ = audited(train, images, holdout, **params)
    return verdict(scores, Policy(**{"required_power": (), **policy})), len(images)


def advised(result: Verdict, what: str) -> int | None:
    found = re.search(rf"{what}[^;]*?, try (\d+)", " ".join(result.reasons))
    return None if found is None else int(found[1])


def test_few_images_and_many_people_need_more_images() -> None:
    first, n = audit(20, 90, 60)
    assert first.outcome == "insufficient evidence" and first.exit_code == 12
    assert advised(first, "give more real subjects") is None
    images = advised(first, f"audit more images: {n} are too few")
    assert images is not None and images > n
    second, _ = audit(20, 90, images)
    assert second.outcome == "pass", second.reasons


def test_few_people_need_more_people() -> None:
    first, n = audit(30, 6, 600)
    assert first.outcome == "insufficient evidence"
    people = advised(first, "give more real subjects: 6 are too few")
    assert people is not None and people > 6
    second, _ = audit(30, people, advised(first, "audit more images") or n)
    assert second.outcome == "pass", second.reasons
    # Another thousand images would not have helped.
    third, _ = audit(30, 6, 2000)
    assert third.outcome == "insufficient evidence" and advised(third, "give more real subjects") is not None


def test_without_anybody_held_out_the_words_say_so() -> None:
    result, _ = audit(2, 0, 40, max_explained_rate=0.01)
    shown = " ".join(result.reasons)
    assert (
        "give real subjects outside the training set: 2 in it are too few" in shown
        and advised(result, "outside the training set") is not None
    )


def test_one_held_out_subject_does_not_silence_the_flags() -> None:
    """57 of 57 images are noisy copies, and one subject is held out: the 57 come first."""
    rng = np.random.default_rng(0)
    train, holdout = heads(rng, "a", 15), heads(rng, "b", 1)
    copies = np.clip(train.images[:57] + rng.normal(0, 17, (57, 2, 32, 32)), 0, 255)
    scores, _ = audited(train, unnamed(copies), holdout)
    result = verdict(scores, Policy(required_power=()))
    assert result.outcome == "insufficient evidence" and result.exit_code == 12
    assert result.reasons[0] == (
        "57 of 57 synthetic images are closer to a training image than unrelated real images are: 100.00%, 95% "
        "interval 94.88% to 100.00%; how many chance explains is not known. They match 15 training subjects."
    )
    assert "rest on one real subject" in result.reasons[1] and "at least 2, better 20" in result.reasons[1]
    # What is advised: twenty. Then the verdict is that of the 57.
    scores, _ = audited(train, unnamed(copies), heads(rng, "d", 20))
    result = verdict(scores, Policy(required_power=()))
    assert result.outcome == "fail" and result.reasons[0].startswith("57 of 57")


def test_no_null_at_all_and_its_remedy() -> None:
    first, _ = audit(1, 0, 40)
    assert "There is no valid null" in first.reasons[0] and "--holdout" in first.reasons[0]
    second, _ = audit(1, 20, 40)
    assert not any("no valid null" in line for line in second.reasons)
    first, _ = audit(10, 0, 40, require_holdout=True)
    assert "require_holdout" in " ".join(first.reasons) and "prepare --holdout" in " ".join(first.reasons)
    second, _ = audit(10, 5, 40, require_holdout=True)
    assert "require_holdout" not in " ".join(second.reasons)
    first, _ = audit(10, 5, 40, min_null_subjects=8)
    assert "rest on 5 real subjects" in " ".join(first.reasons) and "Give 3 more." in " ".join(first.reasons)
    second, _ = audit(10, 8, 40, min_null_subjects=8)
    assert "min_null_subjects" not in " ".join(second.reasons)


def test_copies_of_held_out_images_and_the_remedy() -> None:
    rng = np.random.default_rng(6)
    train, holdout = heads(rng, "a", 10), heads(rng, "b", 10)
    images = np.concatenate([heads(rng, "c", 40).images, holdout.images[:3]])
    scores, _ = audited(train, unnamed(images), holdout)
    first = verdict(scores, Policy(required_power=()))
    shown = " ".join(first.reasons)
    assert "3 synthetic images are a copy of a held-out one" in shown and "(--holdout DATASET)" in shown
    scores, _ = audited(train, unnamed(images), heads(rng, "d", 10))
    assert "held-out one" not in " ".join(verdict(scores, Policy(required_power=())).reasons)


@pytest.mark.parametrize(("plants", "advises"), [(10, True), (60, False)])
def test_few_plants_and_their_remedy(plants: int, advises: bool) -> None:
    result, _ = audit(16, 10, 40, required_power=("exact",), params={"plants": plants, "rules": ("pearson",)})
    assert ("-p plants=60" in " ".join(result.reasons)) == advises
