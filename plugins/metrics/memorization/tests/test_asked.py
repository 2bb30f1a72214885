"""Leak by mask on people of whom the truth is known: whoever comes back for a label map is found, nobody else is."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from synthkit_memorization import Params
from synthkit_memorization.asked import asked_for
from synthkit_memorization.metrics import score
from synthkit_memorization.people import People
from synthkit_memorization.search.apart import LEAST, Reduced, ToPeople, correlations

from synthkit import Score
from synthkit.judging.policy import Policy
from synthkit.judging.verdict import Verdict, verdict
from synthkit.schemes import BRATS, Label
from synthkit.testing import InMemorySamples

ndimage = pytest.importorskip("scipy.ndimage")

SIZE, SLICES, N_TRAIN, N_HOLDOUT, N_HEADS = 32, 3, 12, 10, 10
Y, X = np.mgrid[:SIZE, :SIZE] / SIZE - 0.5
BRAIN = (X / 0.42) ** 2 + (Y / 0.46) ** 2 < 1
GREY = {1: (60, 200), 2: (100, 180), 4: (220, 150)}


def smooth(rng: np.random.Generator, sigma: float) -> Any:
    field = ndimage.gaussian_filter(rng.normal(size=(2, SIZE, SIZE)), (0, sigma, sigma))
    return field / field.std()


def heads(rng: np.random.Generator, n: int) -> Any:
    """Brains of ``n`` people, float ``(person, slice, contrast, y, x)``: slices of one resemble each other."""
    return np.stack([
        [np.where(BRAIN, 110 + 25 * person + 8 * smooth(rng, 2), 0) for _ in range(SLICES)]
        for person in (smooth(rng, 2) for _ in range(n))
    ])  # fmt: skip


def tumours(rng: np.random.Generator, n: int) -> Any:
    """Label maps of as many slices, uint8 ``(n, y, x)``: three parts, of a shape of its own, in the brain."""
    labels = np.zeros((n, SIZE, SIZE), np.uint8)
    for one in labels:
        cy, cx = rng.uniform(-0.2, 0.2, 2)
        distance = np.hypot(Y - cy, X - cx) * (1 + 0.3 * smooth(rng, 3)[0]) / rng.uniform(0.14, 0.2)
        for value, radius in ((2, 1.0), (4, 0.7), (1, 0.4)):
            one[distance < radius] = value
    return labels


def painted(rng: np.random.Generator, brains: Any, labels: Any, texture: Any = None) -> Any:
    """Images of brains with the tumours of label maps in them; its texture drawn anew where none is given."""
    images = brains.copy()
    texture = 10 * np.stack([smooth(rng, 1) for _ in labels]) if texture is None else texture
    for value, grey in GREY.items():
        inside = (labels == value)[:, None]
        images = np.where(inside, np.array(grey)[:, None, None] + texture, images)
    return np.clip(np.rint(images), 0, 255).astype(np.uint8)


@dataclasses.dataclass(frozen=True)
class World:
    train: InMemorySamples
    holdout: InMemorySamples
    strangers: Any
    texture: Any

    def heads_of_strangers(self, rng: np.random.Generator, n: int) -> Any:
        return self.strangers[rng.integers(len(self.strangers), size=n)]


def real(rng: np.random.Generator, prefix: str, n: int, texture: Any) -> InMemorySamples:
    brains, labels = heads(rng, n).reshape(-1, 2, SIZE, SIZE), tumours(rng, n * SLICES)
    owners = [f"{prefix}{row // SLICES}" for row in range(len(labels))]
    return InMemorySamples(painted(rng, brains, labels, texture), labels, subjects=owners, prefix=prefix)


@pytest.fixture(scope="module")
def world() -> World:
    rng = np.random.default_rng(0)
    texture = 10 * np.stack([smooth(rng, 1) for _ in range(N_TRAIN * SLICES)])
    strangers = heads(rng, N_HEADS).reshape(-1, 2, SIZE, SIZE)
    return World(real(rng, "a", N_TRAIN, texture), real(rng, "b", N_HOLDOUT, None), strangers, texture)


def asked(images: Any, labels: Any, prefix: str = "g") -> InMemorySamples:
    """Samples that say that they were asked to have these label maps."""
    data = InMemorySamples(images, labels, subjects=[None] * len(images), prefix=prefix)
    data.samples = [dataclasses.replace(s, asked=json.dumps({"labels": n})) for n, s in enumerate(data.samples)]
    return data


def obedient(world: World, of: InMemorySamples, seed: int) -> InMemorySamples:
    """What a generator gives that paints the label maps it is asked for into heads of nobody here."""
    rng = np.random.default_rng(seed)
    return asked(painted(rng, world.heads_of_strangers(rng, len(of)), of.labels), of.labels)


@pytest.fixture(scope="module")
def control(world: World) -> InMemorySamples:
    return obedient(world, world.holdout, 1)


def audited(
    world: World, images: InMemorySamples, control: InMemorySamples | None, **policy: Any
) -> tuple[Verdict, dict[str, Score], dict[str, float]]:
    """The verdict, scores of the whole, and copies by family."""
    params = Params(plants=0, feature_search="no")
    given = {"train": world.train, "synthetic": images, "holdout": world.holdout, "control": control}
    found = [s for s in score(metrics=["memorization"], params=params, **given) if isinstance(s, Score)]
    result = verdict([s.to_dict() for s in found], Policy(required_power=(), **policy))
    copies = {s.of["family"]: s.value for s in found if s.name == "n_copies" and set(s.of) == {"family"}}
    return result, {s.name: s for s in found if not s.of}, {name: n or 0.0 for name, n in copies.items()}


@pytest.mark.parametrize("with_control", [True, False])
def test_a_generator_that_returns_training_patients_for_their_label_maps_is_found(
    world: World, control: InMemorySamples, with_control: bool
) -> None:
    rng = np.random.default_rng(2)
    noise = rng.normal(0, 12, world.train.images.shape) * (world.train.images > 0)
    images = np.clip(np.rint(world.train.images + noise), 0, 255).astype(np.uint8)
    result, whole, copies = audited(world, asked(images, world.train.labels), control if with_control else None)
    assert (whole["n_asked"].value, whole["n_asked"].n, whole["n_returned"].value) == (36, 12, 12)
    assert copies["asked"] == 36 and not any(
        n for name, n in copies.items() if name != "asked"
    )  # these agree by request
    assert (whole["asked_first_rate"].value, whole["asked_first_rate"].n) == (1.0, 12)
    assert "1 of 12" in whole["asked_first_rate"].note
    assert result.outcome == "fail"
    (line,) = (line for line in result.reasons if "Asked for" in line)
    assert "12 training people, 12 come back, in 36 of 36 images" in line and "of 12 of 12" in line
    if with_control:
        assert whole["asked_auc"].value == 1.0 and (whole["n_control"].value, whole["n_control"].n) == (30, 10)
        # 10 held-out people against 12 and themselves: it is not that label maps give people away.
        assert (whole["control_first_rate"].value or 0) <= 0.3 and "1 of 12" in whole["control_first_rate"].note
        told = audited(world, asked(images, world.train.labels), control, max_membership_auc=0.55, max_copies=35)[0]
        assert any("asking for their label map, with an AUC of at least" in line for line in told.reasons)


def test_one_that_obeys_label_maps_without_copying_is_not(world: World, control: InMemorySamples) -> None:
    result, whole, copies = audited(world, obedient(world, world.train, 3), control)
    assert result.outcome == "pass" and not any(copies.values()) and whole["n_returned"].value == 0
    assert 0.2 < (whole["asked_auc"].value or 0) < 0.8 and (whole["asked_first_rate"].value or 0) <= 0.34
    assert "12 training people, nobody comes back in 36 images" in result.reasons[1]
    assert not any("faintly" in line for line in result.not_proven)
    alone, whole, copies = audited(world, obedient(world, world.train, 3), None)
    assert alone.outcome == "pass" and not any(copies.values()) and whole["asked_auc"].value is None
    assert any("faintly" in line and "--control CONTROL" in line for line in alone.not_proven)
    limited = audited(world, obedient(world, world.train, 3), None, max_membership_auc=0.9)[0]
    assert limited.outcome == "insufficient evidence" and any("a control of enough" in line for line in limited.reasons)


def test_one_that_gives_back_what_is_inside_tumours_alone_is_found_beside_a_control(
    world: World, control: InMemorySamples
) -> None:
    rng = np.random.default_rng(4)
    brains = world.heads_of_strangers(rng, len(world.train))
    images = asked(painted(rng, brains, world.train.labels, world.texture), world.train.labels)
    result, whole, copies = audited(world, images, control)
    assert result.outcome == "fail" and copies["asked"] == 36 and whole["n_returned"].value == 12
    assert (whole["asked_first_rate"].value or 0) <= 0.34  # by what is outside, nobody


def test_label_maps_that_nobody_asked_for_are_copies(world: World) -> None:
    images = obedient(world, world.train, 3)
    images.samples = [dataclasses.replace(sample, asked=None) for sample in images.samples]
    result, whole, copies = audited(world, images, None)
    assert result.outcome == "fail" and copies["labels"] > 0 and "asked" not in copies
    assert whole["n_asked"].value == 0 and whole["n_returned"].value is None
    assert any("no image here was asked for" in line for line in result.not_proven)


def test_label_maps_of_others_than_was_asked_for_are_copies(world: World) -> None:
    """Asked for with that of one person, and beside it the same image once more, which nobody asked for."""
    images = obedient(world, world.train, 3)
    images.samples = [dataclasses.replace(s, asked=s.asked if n % 2 else None) for n, s in enumerate(images.samples)]
    _, whole, copies = audited(world, images, None)
    assert copies["labels"] == whole["n_copies"].value and 0 < copies["labels"] <= 18 == whole["n_asked"].value


def test_a_control_of_few_people_is_said_and_not_used(
    world: World, control: InMemorySamples, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr("synthkit.message", lambda text, **_: said.append(text))
    few = asked(control.images[:9], control.labels[:9])
    result, whole, _ = audited(world, obedient(world, world.train, 3), few)
    assert any("label maps of 3 held-out people, too few" in text for text in said)
    assert whole["n_control"].value is None and any("faintly" in line for line in result.not_proven)


# ---------------------------------------------------------------------------------------------- who was asked for


def test_who_was_asked_for_is_told_by_the_label_map_alone(world: World) -> None:
    labels = world.train.labels[[0, 3, 33, 5, 0, 0]].copy()
    labels[3] = 0  # everybody's
    labels[4, 0, 0] = 1  # nobody's
    data = asked(np.zeros((6, 2, SIZE, SIZE), np.uint8), labels)
    data.samples = [*data.samples[:5], dataclasses.replace(data.samples[5], asked='{"volume_ml": 2.0}')]
    people = People.of(world.train)
    names = [people.name(person) if person >= 0 else "" for person in asked_for(data, people, BRATS)]
    assert names == ["a0", "a1", "a11", "", "", ""]
    twice = InMemorySamples(world.train.images, np.roll(world.train.labels, 3, 0) * 0 + world.train.labels[0])
    assert (asked_for(data, People.of(twice), BRATS)[:1] == -1).all()  # of several people
    newer = dataclasses.replace(BRATS, labels=tuple(
        Label(one.name, 3, one.meaning, one.colour) if one.value == 4 else one for one in BRATS.labels
    ))  # fmt: skip
    relabelled = InMemorySamples(
        data.images, np.where(labels == 4, 3, labels).astype(np.uint8), scheme=newer, subjects=[None] * 6
    )
    relabelled.samples = data.samples
    assert [people.name(p) if p >= 0 else "" for p in asked_for(relabelled, people, BRATS)] == names


# ------------------------------------------------------------------------------------------------------- the search


def by_hand(x: Any, y: Any, parts: list[Any]) -> float:
    both = own = other = 0.0
    for part in parts:
        for c in range(len(x)):
            a, b = x[c][part] - x[c][part].mean(), y[c][part] - y[c][part].mean()
            both, own, other = both + a @ b, own + a @ a, other + b @ b
    return both / np.sqrt(own * other)


def test_correlations_are_those_of_the_pixels_that_count(world: World) -> None:
    rows = np.arange(0, 36, 7)
    one, other = (Reduced.of(data, rows % len(data), 8) for data in (world.train, world.holdout))
    x, y = (data.images[rows % len(data)].astype(float) for data in (world.train, world.holdout))
    a, b = (data.labels[rows % len(data)] for data in (world.train, world.holdout))
    for rule in ("outside", "outside-brain", "inside"):
        found = correlations(one, other, rule)
        for i in range(len(rows)):
            for j in range(len(rows)):
                left = ~ndimage.binary_dilation((a[i] > 0), np.ones((3, 3)))
                left &= ~ndimage.binary_dilation((b[j] > 0), np.ones((3, 3)))
                if rule == "outside-brain":
                    left &= (x[i] > 8).any(axis=0) & (y[j] > 8).any(axis=0)
                parts = [a[i] == value for value in (1, 2, 4)] if rule == "inside" else [left]
                parts = [part for part in parts if part.any()]
                assert found[i, j] == pytest.approx(by_hand(x[i], y[j], parts), abs=1e-9)
        assert np.diag(correlations(one, one, rule)) == pytest.approx(1.0, abs=1e-9)


def test_too_few_pixels_and_constant_images_are_no_match(world: World) -> None:
    labels = np.full((3, SIZE, SIZE), 2, np.uint8)
    labels[:, :4, :5] = 0  # 3 x 4 pixels are left beside the border of the labels
    assert LEAST > 12
    covered = Reduced.of(InMemorySamples(world.train.images[:3], labels), np.arange(3), 8)
    assert np.isnan(correlations(covered, covered, "outside")).all()
    grey = InMemorySamples(np.full((3, 2, SIZE, SIZE), 90, np.uint8))
    flat = Reduced.of(grey, np.arange(3), 8)
    assert (correlations(flat, Reduced.of(world.train, np.arange(3), 8), "outside") == 0).all()
    assert np.isnan(correlations(flat, flat, "inside")).all()  # nothing is labelled
    hidden, others = InMemorySamples(world.train.images[:3], labels), People.of(grey)
    nobody = ToPeople.of(hidden, np.arange(3), others, ("outside",), 8)
    assert np.isneginf(nobody.r).all()


def test_the_nearest_image_of_each_person_is_named(world: World) -> None:
    people, rows = People.of(world.train), np.array([4, 31])
    to = ToPeople.of(world.train, rows, people, ("outside", "outside-brain"), 8)
    assert to.r.shape == (2, N_TRAIN, 2)
    own = people.person[rows]
    assert to.r[[0, 1], own] == pytest.approx(np.ones((2, 2))) and (to.index[[0, 1], own] == rows[:, None]).all()
    assert (people.person[to.index[0, :, 0]] == np.arange(N_TRAIN)).all()
