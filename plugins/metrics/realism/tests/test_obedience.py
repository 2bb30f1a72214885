"""``obedience``: images that show their labels are told from images that do not, by what real images teach."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthkit_realism import ObedienceParams
from synthkit_realism.obedience import score

from synthkit.contract import Score
from synthkit.errors import DataError
from synthkit.schemes import BRATS
from synthkit.testing import InMemorySamples
from synthkit.testing.data import slices

PARAMS = ObedienceParams(images=40)


def samples(seed: int, n: int = 16, **options: Any) -> InMemorySamples:
    return InMemorySamples(*slices(n, 4, 32, seed), **options)


def scored(synthetic: Any, real: Any = None, holdout: Any = None) -> Mapping[tuple[str, str, str], Score]:
    real = samples(1) if real is None else real
    made = score(metrics=["obedience"], params=PARAMS, real=real, synthetic=synthetic, holdout=holdout)
    found = [answer for answer in made if isinstance(answer, Score)]
    return {(a.name, a.of.get("images", ""), a.of.get("region", "")): a for a in found}


def test_images_like_the_held_out_ones_are_read_as_well() -> None:
    held = samples(2)
    found = scored(samples(2, subjects=[None] * 16), holdout=held)
    for region in ("NCR", "ED", "ET", "TC", "WT"):
        assert found["obedience", "", region].value == 1.0
        assert found["read_dice", "synthetic", region] != found["read_dice", "holdout", region]
        assert (found["read_dice", "synthetic", region].value or 0) > 0.75
        assert (found["read_area_r", "holdout", region].value or 0) > 0.8


def test_images_that_do_not_show_their_labels_are_found() -> None:
    images, labels = slices(16, 4, 32, 2)
    moved = InMemorySamples(images, np.roll(labels, 9, axis=2), subjects=[None] * 16)
    found = scored(moved, holdout=samples(2))
    assert max(found["obedience", "", region].value or 0 for region in ("NCR", "ED", "ET", "WT")) < 0.6
    # An image without tumour below a label map with one.
    empty = np.where(labels[:, None] > 0, np.array([120, 110, 90, 80])[:, None, None], images).astype(np.uint8)
    assert (
        scored(InMemorySamples(empty, labels, subjects=[None] * 16))["read_dice", "synthetic", "WT"].value or 0
    ) < 0.2


def test_labels_go_by_their_names() -> None:
    images, labels = slices(16, 4, 32, 2)
    scheme = replace(BRATS, labels=tuple(replace(x, value={4: 3}.get(x.value, x.value)) for x in BRATS.labels))
    renumbered = InMemorySamples(images, np.where(labels == 4, 3, labels).astype(np.uint8), scheme=scheme)
    assert scored(renumbered) == scored(InMemorySamples(images, labels))


def test_without_held_out_images_there_is_no_ratio() -> None:
    found = scored(samples(2))
    assert found["obedience", "", "WT"].value is None and "no held-out" in found["obedience", "", "WT"].note
    assert found["n_asked", "", ""].value == 0


def test_a_label_that_nobody_has_learned_is_not_read() -> None:
    images, labels = slices(16, 4, 32, 1)
    few = InMemorySamples(images, np.where(labels == 4, 2, labels).astype(np.uint8))
    assert {region for name, _, region in scored(samples(2), real=few) if name == "read_dice"} == {
        *("NCR", "ED", "TC", "WT")
    }
    with pytest.raises(DataError, match="nothing to learn labels from"):
        scored(samples(2), real=InMemorySamples(images))


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 2**32 - 1))
def test_of_any_pictures_scores_are_in_their_range(seed: int) -> None:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (4, 4, 32, 32), dtype=np.uint8) * rng.integers(0, 2, (4, 1, 1, 1), dtype=np.uint8)
    labels = rng.choice(np.array([0, 1, 2, 4], np.uint8), (4, 32, 32)) * rng.integers(0, 2, (4, 1, 1), dtype=np.uint8)
    for found in scored(InMemorySamples(images, labels, subjects=[None] * 4), holdout=samples(2)).values():
        assert found.value is not None or found.note
        assert found.name != "read_dice" or 0 <= (found.value or 0) <= 1
