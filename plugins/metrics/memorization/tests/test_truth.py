"""Verdicts on sets of which the truth is known: phantom people, copies of some of them among images of others.

No copy passes, whatever was done to it, and no set of innocent images fails.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from synthkit_memorization import Params
from synthkit_memorization.metrics import score

from synthkit import Row, Score
from synthkit.judging.policy import Policy
from synthkit.judging.verdict import verdict
from synthkit.testing import InMemorySamples

ndimage = pytest.importorskip("scipy.ndimage")
pytest.importorskip("nilearn", reason="phantoms are made of its template")

CONTRASTS = ("t1", "t1ce", "t2", "flair")
SLICES = range(13, 28, 3)
N_TRAIN, N_HOLDOUT, N_FRESH = 12, 10, 8


@dataclass(frozen=True)
class Slices:
    """Images uint8 ``(image, contrast, y, x)`` and labels ``(image, y, x)``, as many of each person as SLICES."""

    images: Any
    labels: Any

    def of(self, people: range) -> Slices:
        rows = slice(people.start * len(SLICES), people.stop * len(SLICES))
        return Slices(self.images[rows], self.labels[rows])

    def named(self, prefix: str) -> InMemorySamples:
        owners = [f"{prefix}{i // len(SLICES)}" for i in range(len(self.images))]
        return InMemorySamples(self.images, self.labels, subjects=owners, contrasts=CONTRASTS, prefix=prefix)


@pytest.fixture(scope="module")
def people() -> Slices:
    from synthkit.data.phantom import make_subject

    images, labels = [], []
    for person in range(N_TRAIN + N_HOLDOUT + N_FRESH):
        made = make_subject(person, 11, shape=(64, 64, 40), spacing_mm=3.75)
        for z in SLICES:
            grey = [made[c][..., z].T / np.quantile(made[c][made[c] > 0], 0.995) for c in CONTRASTS]
            images.append(np.clip(np.rint(255 * np.stack(grey)), 0, 255).astype(np.uint8))
            labels.append(made["seg"][..., z].T.astype(np.uint8))
    return Slices(np.stack(images), np.stack(labels))


@pytest.fixture(scope="module")
def train(people: Slices) -> Slices:
    return people.of(range(N_TRAIN))


@pytest.fixture(scope="module")
def holdout(people: Slices) -> Slices:
    return people.of(range(N_TRAIN, N_TRAIN + N_HOLDOUT))


@pytest.fixture(scope="module")
def fresh(people: Slices) -> Slices:
    return people.of(range(N_TRAIN + N_HOLDOUT, N_TRAIN + N_HOLDOUT + N_FRESH))


def judged(train: Slices, parts: list[Slices], holdout: Slices | None, **params: Any) -> tuple[Any, Any, list[Row]]:
    """The verdict, the scores of all images together by name, and the rows."""
    images, labels = (np.concatenate([getattr(part, name) for part in parts]) for name in ("images", "labels"))
    synthetic = InMemorySamples(images, labels, contrasts=CONTRASTS, prefix="s")
    found = list(
        score(
            metrics=["memorization"],
            params=Params(**{"plants": 0, **params}),
            train=train.named("a"),
            synthetic=synthetic,
            holdout=None if holdout is None else holdout.named("b"),
        )
    )
    scores = [item.to_dict() for item in found if isinstance(item, Score)]
    whole = {item["name"]: item["value"] for item in scores if not item["of"]}
    rows = [item for item in found if isinstance(item, Row)]
    return verdict(scores, Policy(required_power=())), whole, rows


def noisy(images: Any, sd: float, seed: int = 0) -> Any:
    noise = np.random.default_rng(seed).normal(0, sd, images.shape) * (images > 0)
    return np.clip(np.rint(images + noise), 0, 255).astype(np.uint8)


def resized(images: Any, scale: float) -> Any:
    """About the centre, at the same size: more than 1 crops."""
    centre = (np.array(images.shape[-2:]) - 1) / 2
    matrix, offset = np.eye(2) / scale, centre - centre / scale
    flat = images.reshape(-1, *images.shape[-2:]).astype(np.float32)
    return np.stack([ndimage.affine_transform(x, matrix, offset, order=1) for x in flat]).reshape(images.shape)


def elastic(images: Any, px: float) -> Any:
    rng = np.random.default_rng(5)
    field = [ndimage.gaussian_filter(rng.normal(size=images.shape[-2:]), 8) for _ in range(2)]
    grid = np.mgrid[: images.shape[-2], : images.shape[-1]] + np.stack([px * f / np.sqrt((f**2).mean()) for f in field])
    flat = images.reshape(-1, *images.shape[-2:]).astype(np.float32)
    return np.stack([ndimage.map_coordinates(x, grid, order=1) for x in flat]).reshape(images.shape)


def byte(images: Any) -> Any:
    return np.clip(np.rint(images), 0, 255).astype(np.uint8)


def one_negative(images: Any) -> Any:
    changed = images.copy()
    changed[:, 2] = 255 - changed[:, 2]
    return changed


#: What is done to training images of 8 people; none of it hides them.
CHANGES: dict[str, Callable[[Any], Any]] = {
    "noise": lambda x: noisy(x, 25),
    "gamma": lambda x: byte(255 * (x / 255.0) ** 1.6),
    "upside down": lambda x: x[..., ::-1, :],
    "quarter turn": lambda x: np.rot90(x, axes=(-2, -1)),
    "quarter turn on grey": lambda x: np.rot90(np.minimum(x, 243) + np.uint8(12), axes=(-2, -1)),
    "negative": lambda x: 255 - x,
    "negative upside down": lambda x: 255 - x[..., ::-1, :],
    "negative inside the brain": lambda x: np.where((x > 8).any(axis=1, keepdims=True), np.maximum(255 - x, 9), x),
    "one contrast negative": one_negative,
    "cropped": lambda x: byte(resized(x, 1.25)),
    "smaller": lambda x: byte(resized(x, 0.8)),
    "moved and mirrored": lambda x: np.roll(x, (8, -8), axis=(-2, -1))[..., ::-1],
    "rotated": lambda x: byte(ndimage.rotate(x, 10, axes=(-2, -1), reshape=False, order=1)),
    "elastic": lambda x: byte(elastic(x, 1.0)),
}


def some_of(slices: Slices, change: Callable[[Any], Any] = lambda x: x) -> Slices:
    """A middle slice of each of eight people, changed."""
    rows = np.arange(8) * len(SLICES) + 3
    return Slices(np.ascontiguousarray(change(slices.images[rows])), slices.labels[rows] * 0)


@pytest.mark.parametrize("held_out", [True, False])
def test_innocent_images_pass(train: Slices, holdout: Slices, fresh: Slices, held_out: bool) -> None:
    result, whole, _ = judged(train, [fresh], holdout if held_out else None)
    assert result.outcome == "pass" and whole["n_copies"] == 0, result.reasons


@pytest.mark.parametrize("change", CHANGES)
def test_copies_fail_whatever_was_done_to_them(train: Slices, holdout: Slices, fresh: Slices, change: str) -> None:
    result, whole, rows = judged(train, [some_of(train, CHANGES[change]), fresh], holdout)
    assert result.outcome == "fail" and result.exit_code == 10, whole["n_copies"]
    copies = {row.values["synthetic_id"] for row in rows if row.table == "matches" and row.values["copy"]}
    assert copies and copies <= {f"s{i}" for i in range(8)}
    named = {
        r.values["synthetic_id"]: r.values["train_subject"] for r in rows if r.table == "matches" and r.values["copy"]
    }
    assert all(named[f"s{i}"] == f"a{i}" for i in range(8) if f"s{i}" in named)


def test_one_contrast_of_four_is_enough(train: Slices, holdout: Slices, fresh: Slices) -> None:
    images = fresh.images[:8].copy()
    images[:, 0] = some_of(train).images[:, 0]
    result, whole, _ = judged(train, [Slices(images, fresh.labels[:8]), fresh], holdout)
    assert result.outcome == "fail" and whole["n_copies"] == 8 and whole["n_identical"] == 0


def with_large_tumours(slices: Slices, n: int = 4) -> Any:
    """Rows of the largest tumour of each of the n people who have the largest."""
    sizes = (slices.labels > 0).sum(axis=(1, 2)).reshape(-1, len(SLICES))
    people = np.argsort(-sizes.max(axis=1))[:n]
    return people * len(SLICES) + sizes.argmax(axis=1)[people]


def test_labels_of_a_training_image_under_the_image_of_another_fail(
    train: Slices, holdout: Slices, fresh: Slices
) -> None:
    rows = with_large_tumours(train)
    copies = Slices(fresh.images[: len(rows)], train.labels[rows])
    result, whole, found = judged(train, [copies, fresh], holdout)
    assert result.outcome == "fail" and whole["n_copies"] == len(rows) and "labels" in result.reasons[0]
    copied = [row.values for row in found if row.table == "matches" and row.values["copy"]]
    assert {(row["synthetic_id"], row["train_subject"]) for row in copied} == {
        (f"s{i}", f"a{row // len(SLICES)}") for i, row in enumerate(rows)
    }


def test_a_training_persons_tumour_in_the_head_of_another_fails(train: Slices, holdout: Slices, fresh: Slices) -> None:
    rows = with_large_tumours(train)
    images, labels = fresh.images[: len(rows)].copy(), fresh.labels[: len(rows)] * 0
    for image, label, row in zip(images, labels, rows, strict=True):
        inside = train.labels[row] > 0
        image[:, inside] = train.images[row][:, inside]
        label[inside] = 4  # whole: only what lies under it is copied
    result, whole, found = judged(train, [Slices(images, labels), fresh], holdout, families=("picture", "tumour"))
    assert result.outcome == "fail" and whole["n_copies"] == len(rows)
    copied = {row.values["contrast"] for row in found if row.table == "matches" and row.values["copy"]}
    assert "tumour" in copied


def test_copies_of_held_out_people_fail(train: Slices, holdout: Slices, fresh: Slices) -> None:
    result, whole, _ = judged(train, [some_of(holdout, lambda x: noisy(x, 25)), fresh], holdout)
    assert result.outcome == "fail" and "held-out" in result.reasons[0]
    assert (whole["n_holdout_copies"], whole["n_copied_holdout_subjects"], whole["n_copies"]) == (8, 8, 0)


def test_decoys_excuse_nothing(train: Slices, holdout: Slices, fresh: Slices) -> None:
    decoys = Slices(noisy(holdout.images[2:8], 6), holdout.labels[2:8] * 0)
    result, whole, _ = judged(train, [some_of(train, lambda x: byte(elastic(x, 0.8))), fresh, decoys], holdout)
    assert result.outcome == "fail" and whole["n_copies"] >= 6 and whole["n_holdout_copies"] >= 6


def test_a_training_person_among_the_held_out_hides_nothing(train: Slices, holdout: Slices, fresh: Slices) -> None:
    held = Slices(holdout.images.copy(), holdout.labels)
    twin = range(len(SLICES))
    held.images[twin] = noisy(np.roll(train.images[twin], 1, axis=-1), 8)
    copies = Slices(noisy(train.images[[1, 2, 3] * 4], 10, 3), train.labels[[1, 2, 3] * 4] * 0)
    result, whole, rows = judged(train, [copies, fresh], held)
    assert result.outcome == "fail" and whole["n_copies"] == 12 and whole["n_holdout_twins"] == 1
    (named,) = [row.values for row in rows if row.table == "holdout_twins"]
    assert (named["holdout_subject"], named["train_subject"]) == ("b0", "a0")


def test_one_person_held_out_is_enough_to_name_copies(train: Slices, holdout: Slices, fresh: Slices) -> None:
    one = Slices(holdout.images[: len(SLICES)], holdout.labels[: len(SLICES)])
    result, whole, _ = judged(train, [some_of(train, lambda x: noisy(x, 12)), fresh], one)
    assert result.outcome == "fail" and whole["n_copies"] == 8 and "8 synthetic images are copies" in result.reasons[0]


def test_one_training_person_under_four_ids_is_one_person(train: Slices, fresh: Slices) -> None:
    """Nobody is held out: the other scans of a person may not be those that a copy is compared with."""
    n = len(SLICES)
    scans = [noisy(train.images[:n], 6, seed) for seed in range(3)]
    more = Slices(np.concatenate([train.images, *scans]), np.concatenate([train.labels, *[train.labels[:n]] * 3]))
    copies = Slices(noisy(train.images[[1, 2, 3] * 4], 12, 9), train.labels[[1, 2, 3] * 4] * 0)
    result, whole, _ = judged(more, [copies, fresh], None)
    assert result.outcome == "fail" and whole["n_copies"] == 12 and whole["n_copied_subjects"] == 1
    assert whole["n_null_subjects"] == N_TRAIN


def test_noise_and_repeats_do_not_lower_the_cut(train: Slices, holdout: Slices, fresh: Slices) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (600, *fresh.images.shape[1:]), np.uint8)
    repeated = np.concatenate([noise, np.repeat(fresh.images[:1], 600, axis=0)])
    cuts = []
    for parts in ([fresh], [fresh, Slices(repeated, np.zeros((1200, 64, 64), np.uint8))]):
        _, _, rows = judged(train, parts, holdout, families=("picture",), rules=("pearson",))
        cuts.append(next(row.values["threshold"] for row in rows if row.table == "pairs"))
    assert cuts[0] == pytest.approx(cuts[1], abs=1e-6)


def test_blank_images_are_no_search(train: Slices, holdout: Slices, fresh: Slices) -> None:
    blank = Slices(np.zeros((200, *fresh.images.shape[1:]), np.uint8), np.zeros((200, 64, 64), np.uint8))
    result, whole, _ = judged(train, [some_of(train, lambda x: noisy(x, 12)), blank], holdout)
    assert result.outcome == "fail" and whole["n_blank"] == 200 and whole["copied_rate"] == 1.0
    result, _, _ = judged(train, [blank], holdout)
    assert result.outcome == "insufficient evidence"


@pytest.mark.parametrize("kind", ["blurred", "mean of five", "principal components"])
def test_smooth_images_of_nobody_pass(train: Slices, holdout: Slices, fresh: Slices, kind: str) -> None:
    rng = np.random.default_rng(1)
    if kind == "blurred":
        images = ndimage.gaussian_filter(fresh.images.astype(np.float32), (0, 0, 1.0, 1.0))
    elif kind == "mean of five":
        grid = train.images.reshape(N_TRAIN, len(SLICES), *train.images.shape[1:]).astype(np.float32)
        images = np.stack([grid[rng.permutation(N_TRAIN)[:5], i % len(SLICES)].mean(axis=0) for i in range(60)])
    else:
        flat = train.images.reshape(len(train.images), -1).astype(np.float32)
        mean = flat.mean(axis=0)
        _, size, axes = np.linalg.svd(flat - mean, full_matrices=False)
        weights = rng.normal(size=(60, 12)) * size[:12] / np.sqrt(len(flat))
        images = (mean + weights @ axes[:12]).reshape(60, *train.images.shape[1:])
    result, whole, _ = judged(train, [Slices(byte(images), np.zeros((len(images), 64, 64), np.uint8))], holdout)
    assert result.outcome == "pass" and whole["n_copies"] == whole["n_holdout_copies"] == 0, result.reasons
