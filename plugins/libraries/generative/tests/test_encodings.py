"""Labels as channels and back: what was encoded is decoded, of any scheme; edges end in one of their labels."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

pytest.importorskip("scipy", reason="scipy is not installed")

from scipy import ndimage
from synthkit_generative.encodings import (
    NAMES,
    Encoding,
    contacts,
    encoding_of,
    fitted_offsets,
    nested_regions,
    of_bytes,
    to_bytes,
)

from synthkit.data.named_schemes import SCHEMES
from synthkit.errors import UsageError
from synthkit.schemes import BRATS, Label, Region, Scheme
from synthkit.testing import InMemorySamples

#: Organs with regions beside one another, one of them made of nothing but regions, and two that cross.
ORGANS = Scheme(
    name="organs",
    family="Organs",
    contrasts=BRATS.contrasts,
    labels=tuple(Label(f"L{value}", value, f"organ {value}", "#000000") for value in (3, 7, 8, 20, 21, 22, 255)),
    nested=(
        Region("pair", ("L3", "L7"), "pair"),
        Region("other", ("L8", "L20"), "other pair"),
        Region("four", ("L3", "L7", "L8", "L20"), "both pairs"),
        Region("crossing", ("L20", "L21"), "crosses the pairs"),
        Region("again", ("L7", "L3"), "the first pair again"),
    ),
)
ALL = {**SCHEMES, "organs": ORGANS, "plain": Scheme.of_labels({"background": 0, "a": 9, "b": 4})}
names = pytest.mark.parametrize("name", NAMES)


def maps(scheme: Scheme, seed: int, n: int = 3, side: int = 12) -> NDArray[np.uint8]:
    """Label maps of blobs, specks and, now and then, a single label everywhere."""
    random = np.random.default_rng(seed)
    values = np.array(scheme.values, dtype=np.uint8)
    blobs = ndimage.gaussian_filter(random.normal(size=(len(values), n, side, side)), (0, 0, 1.5, 1.5)).argmax(axis=0)
    labels = np.where(random.random((n, side, side)) < 0.9, values[blobs], random.choice(values, (n, side, side)))
    labels[0] = random.choice(values)
    return labels.astype(np.uint8)


def made(name, scheme: Scheme, labels: NDArray[np.uint8]) -> Encoding:
    images = np.zeros((len(labels), 1, *labels.shape[1:]), dtype=np.uint8)
    return encoding_of(
        name, InMemorySamples(images, labels, contrasts=("t1",), label_values=scheme.values, scheme=scheme)
    )


@names
@given(scheme=st.sampled_from(sorted(ALL)), seed=st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=40)
def test_what_was_encoded_is_decoded(name, scheme: str, seed: int) -> None:
    labels = maps(ALL[scheme], seed)
    encoding = made(name, ALL[scheme], labels)
    channels = encoding.encode(labels)
    assert channels.dtype == np.float32 and channels.shape == (3, encoding.channels, 12, 12)
    assert (np.abs(channels) <= 1).all()
    np.testing.assert_array_equal(encoding.decode(channels), labels)
    np.testing.assert_array_equal(encoding.decode(of_bytes(to_bytes(channels))), labels)
    assert not encoding.unclear(channels).any()
    read = Encoding.of_config(
        json.loads(json.dumps({"label_values": encoding.label_values, "label_encoding": encoding.to_dict()}))
    )
    assert read == encoding


@pytest.mark.parametrize("name", ["onehot", "nested"])
@given(scheme=st.sampled_from(sorted(ALL)), seed=st.integers(0, 2**32 - 1), share=st.floats(0, 1))
@example(scheme="brats2013", seed=86, share=0.5002)
@settings(deadline=None, max_examples=40)
def test_between_two_labels_there_is_no_third(name, scheme: str, seed: int, share: float) -> None:
    assume(abs(share - 0.5) > 1e-4)  # exactly half-way all regions tie, and the first label wins
    one, other = maps(ALL[scheme], seed), maps(ALL[scheme], seed + 1)
    encoding = made(name, ALL[scheme], one)
    mixed = share * encoding.encode(one) + (1 - share) * encoding.encode(other)
    decoded = encoding.decode(mixed.astype(np.float32))
    assert ((decoded == one) | (decoded == other)).all()
    if abs(share - 0.5) > 0.01:
        np.testing.assert_array_equal(decoded, one if share > 0.5 else other)
        assert (encoding.unclear(mixed.astype(np.float32)) == ((0.26 < share < 0.74) & (one != other))).all() or (
            0.24 < share < 0.26 or 0.74 < share < 0.76
        )


@pytest.mark.parametrize(("name", "third"), [("grey", True), ("onehot", False), ("nested", False), ("distance", False)])
def test_a_blurred_edge_of_enhancing_tumour_leaves_rims_in_grey_levels_alone(name, third: bool) -> None:
    labels = np.zeros((1, 24, 24), dtype=np.uint8)
    labels[:, 6:18, 6:18] = 4
    encoding = made(name, BRATS, labels)
    blurred = ndimage.gaussian_filter(encoding.encode(labels), (0, 0, 1, 1))
    assert bool(set(np.unique(encoding.decode(blurred))) - {0, 4}) == third


@names
def test_values_without_a_meaning_are_background(name) -> None:
    labels = np.array([[[0, 3], [4, 9]]], dtype=np.uint8)
    encoding = made(name, BRATS, np.zeros((1, 2, 2), np.uint8))
    assert encoding.decode(encoding.encode(labels)).tolist() == [[[0, 0], [4, 0]]]
    assert encoding.encode(labels[:0]).shape == (0, encoding.channels, 2, 2)


def test_nested_regions_are_those_of_the_scheme_and_leave_out_what_surrounds() -> None:
    """Of the core, what touches its outside needs no channel: enhancing tumour around necrosis, or the reverse."""
    for ring, inner in ((4, 1), (1, 4)):
        labels = np.zeros((1, 12, 12), dtype=np.uint8)
        for margin, value in ((1, 2), (3, ring), (5, inner)):
            labels[:, margin:-margin, margin:-margin] = value
        assert made("nested", BRATS, labels).regions == ((1, 2, 4), (1, 4), (inner,))


def test_regions_that_cross_or_say_the_same_get_no_channel() -> None:
    values = ORGANS.values
    found = nested_regions(ORGANS, np.zeros((len(values),) * 2, dtype=np.int64))
    assert found[:3] == ((3, 7, 8, 20), (3, 7), (8, 20)) and (20, 21) not in found
    assert sorted(found[3:]) == [(7,), (20,), (21,), (22,), (255,)]


def test_contacts_count_neighbours() -> None:
    labels = np.array([[[0, 0, 1], [0, 2, 1]]], dtype=np.uint8)
    found = contacts(labels, (0, 1, 2))
    assert found.tolist() == [[4, 1, 2], [1, 2, 1], [2, 1, 0]]


def test_distance_is_in_pixels_of_its_reach() -> None:
    labels = np.zeros((1, 1, 40), dtype=np.uint8)
    labels[..., 20:] = 4
    encoding = Encoding("distance", (0, 4), reach=5)
    expected = np.clip((np.arange(40) - 19.5) / 5, -1, 1)
    np.testing.assert_allclose(encoding.encode(labels)[0, :, 0], [-expected, expected], rtol=1e-6)


@pytest.mark.parametrize("name", ["onehot", "nested", "distance"])
def test_an_order_is_for_grey_levels(name) -> None:
    data = InMemorySamples(np.zeros((1, 1, 8, 8), np.uint8), np.zeros((1, 8, 8), np.uint8), contrasts=("t1",))
    with pytest.raises(UsageError, match=f"label_order says nothing to label_encoding={name}") as caught:
        encoding_of(name, data, "0,2,4,1")
    assert "Leave it out, or give label_encoding=grey" in str(caught.value)
    assert encoding_of(name, data, "").name == name
    assert encoding_of("grey", data, "0,2,4,1").label_values == (0, 2, 4, 1)


def test_a_training_that_begins_with_another_keeps_its_regions() -> None:
    data = InMemorySamples(np.zeros((1, 1, 8, 8), np.uint8), np.zeros((1, 8, 8), np.uint8), contrasts=("t1",))
    begun = Encoding("nested", (0, 1, 2, 4), ((1, 2, 4), (1, 4), (4,)))
    assert encoding_of("nested", data).regions[2] == (4,) or encoding_of("nested", data, "", begun) == begun
    assert encoding_of("nested", data, "", begun) == begun
    assert encoding_of("onehot", data, "", begun).name == "onehot"


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ({"name": "colours"}, "'colours', which is not known"),
        ({"regions": [[1, 2], [2, 4]]}, "cross"),
        ({"regions": [[1, 2, 4], [1]]}, "tell all labels apart"),
        ({"regions": [[1, 2, 9], [1], [2]]}, "cross"),
        ({"name": "distance"}, "reach nowhere"),
    ],
)
def test_a_damaged_checkpoint_is_refused(said, wrong: str) -> None:
    config = {"label_values": [0, 1, 2, 4], "label_encoding": {"name": "nested", "regions": [], "reach": 0, **said}}
    with pytest.raises(ValueError, match=wrong):
        Encoding.of_config(config)


@given(seed=st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=20)
def test_fitted_offsets_give_labels_their_pixels(seed: int) -> None:
    """Of channels that are unsure everywhere; and the labels stay as they are where they have their pixels already."""
    labels = maps(BRATS, seed, n=6, side=24)
    encoding = made("nested", BRATS, labels)
    shares = [float((labels == value).mean()) for value in encoding.label_values]
    random = np.random.default_rng(seed)
    channels = encoding.encode(labels) * 0.3 + random.normal(0, 0.15, (6, encoding.channels, 24, 24)) - 0.05
    channels = channels.clip(-1, 1).astype(np.float32)
    offsets = fitted_offsets(encoding.scores(channels), shares, encoding.most_offset)
    drawn = encoding.decode(channels, offsets)
    found = [float((drawn == value).mean()) for value in encoding.label_values]
    np.testing.assert_allclose(found, shares, atol=0.01)
    sure = fitted_offsets(encoding.scores(encoding.encode(labels)), shares, encoding.most_offset)
    np.testing.assert_array_equal(encoding.decode(encoding.encode(labels), sure), labels)


def test_a_label_that_is_never_drawn_does_not_come_as_specks() -> None:
    encoding = Encoding("onehot", (0, 1, 4), ((1,), (4,)))
    channels = np.full((2, 2, 8, 8), -1, dtype=np.float32)
    offsets = fitted_offsets(encoding.scores(channels), (0.5, 0.5, 0.0), encoding.most_offset)
    assert offsets == (0.0, 0.5, -0.5)
    assert not encoding.decode(channels, offsets).any()
