# ruff: noqa: E402 (imports follow the check for torch)
"""Samples from seeds, and labels from grey levels."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="torch is not installed")

from synthkit_generative.decoding import decode, encode, read_order, settled, surroundings, thin_rims, unclear
from synthkit_generative.drawing import draw
from synthkit_generative.encodings import Encoding
from synthkit_generative.params import LastParams
from synthkit_generative.records import grid
from synthkit_torch.streams import SeedStreams, own_seed, stream
from torch import Tensor

import synthkit
from synthkit.errors import UsageError
from synthkit.schemes import BRATS

CPU = torch.device("cpu")


def noise(seeds: Sequence[int]) -> Tensor:
    return SeedStreams(seeds, CPU).normal(3, 8, 8).clamp(-1, 1)


def drawn(
    seeds,
    sampler=noise,
    batch_size: int = 4,
    device=CPU,
    background_zero: bool = False,
    settle_labels: bool = False,
    label_order=(0, 1, 2, 4),
    generate_precision: str = "float32",
):
    return draw(
        seeds,
        sampler,
        LastParams(
            generate_batch_size=batch_size,
            background_zero=background_zero,
            settle_labels=settle_labels,
            generate_precision=generate_precision,
        ),
        encoding=Encoding("grey", tuple(label_order)),
        device=device,
        name="Toy",
    )


class _NamedCuda:
    """Makes the code take the path of a GPU, on the CPU."""

    type = "cuda"


@pytest.mark.parametrize("device", [CPU, _NamedCuda()], ids=["cpu", "gpu"])
def test_a_sample_belongs_to_its_seed(device) -> None:
    seeds = [7, 1, 2**40, 3, 4, 2**40 + 2**32]
    together = list(drawn(seeds, device=device))
    other = list(drawn(seeds[::-1], batch_size=3, device=device))[::-1]
    for (image, labels), (image_again, labels_again) in zip(together, other, strict=True):
        assert np.array_equal(image, image_again) and np.array_equal(labels, labels_again)
    assert len({image.tobytes() for image, _ in together}) == len(seeds)
    assert together[0][0].dtype == np.uint8 and together[0][0].shape == (2, 8, 8)


def test_all_batches_of_a_gpu_have_one_size() -> None:
    """The size of a batch may decide how sums are ordered."""
    sizes = []

    def counting(seeds: Sequence[int]) -> Tensor:
        sizes.append(len(seeds))
        return noise(seeds)

    assert len(list(drawn(range(5), counting, batch_size=3, device=_NamedCuda()))) == 5
    assert sizes == [3, 3]


@pytest.mark.parametrize("precision", ["float32", "tf32"])
def test_drawing_streams_and_is_in_the_precision_asked_for(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    taken, seen = [], set()

    def endless():
        for seed in itertools.count():
            taken.append(seed)
            yield seed

    def watching(seeds: Sequence[int]) -> Tensor:
        seen.add((torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32))
        assert torch.is_inference_mode_enabled()
        return noise(seeds)

    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    samples = drawn(endless(), watching, generate_precision=precision)
    for _ in range(5):
        next(samples)
        assert torch.backends.cudnn.allow_tf32 and not torch.is_inference_mode_enabled()  # the caller's own
        assert not torch.backends.cuda.matmul.allow_tf32
    assert len(taken) == 5 and seen == {(precision == "tf32",) * 2}
    assert list(drawn([])) == []


def test_the_message_counts_unclear_pixels_and_thin_rims(monkeypatch: pytest.MonkeyPatch) -> None:
    """A blurred edge from black to 204: 0 51 102 204 204 0; 51 and 102 are a rim, and one 204 is drawn as 180."""
    messages = []
    monkeypatch.setattr(synthkit, "message", messages.append)
    grey = np.zeros((8, 8), dtype=np.uint8)
    grey[4, 1:6] = [51, 102, 204, 180, 0]

    def blurred(seeds: Sequence[int]) -> Tensor:
        image = torch.from_numpy(np.stack([grey] * 3)).float()[None] / 127.5 - 1
        return image.expand(len(seeds), -1, -1, -1)

    ((_, labels),) = drawn([0], blurred)
    assert labels[4].tolist() == [0, 1, 2, 4, 4, 0, 0, 0]
    assert "4 labelled pixels. 1 pixels (25 for" in messages[0] and "; 2 (50) are a rim" in messages[0]
    assert "nearest clear pixel" not in messages[0]
    # 102 and 180 are as near to the background above as to the tumour between them.
    ((_, labels),) = drawn([0], blurred, settle_labels=True)
    assert labels[4, [0, 1, 3, 5]].tolist() == [0, 0, 4, 0] and {*labels[4, [2, 4]]} <= {0, 4}
    assert "1 pixels (25 for" in messages[1] and "nearest clear pixel" in messages[1]


@given(order=st.permutations((1, 2, 4)))
def test_labels_in_any_order_are_decoded_as_they_were_encoded(order: list[int]) -> None:
    order = [0, *order]
    labels = np.array([[0, 1, 2], [4, 2, 0]], dtype=np.uint8)
    grey = encode(labels, order)
    np.testing.assert_array_equal(decode(grey, order), labels)
    assert encode(np.array(order, dtype=np.uint8), order).tolist() == [0, 51, 102, 204]
    assert encode(np.array([3, 9], dtype=np.uint8), order).tolist() == [0, 0]
    assert not unclear(grey, grey, order).any()


def test_in_the_order_of_a_tumour_a_blurred_edge_leaves_the_label_that_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From outside in: oedema, enhancing tumour, necrosis. The edge of necrosis passes through both, as in a tumour."""
    messages = []
    monkeypatch.setattr(synthkit, "message", messages.append)
    grey = np.zeros((8, 8), dtype=np.uint8)
    grey[4, 1:6] = [51, 102, 204, 204, 0]

    def blurred(seeds: Sequence[int]) -> Tensor:
        image = torch.from_numpy(np.stack([grey] * 3)).float()[None] / 127.5 - 1
        return image.expand(len(seeds), -1, -1, -1)

    ((_, labels),) = drawn([0], blurred, label_order=(0, 2, 4, 1))
    assert labels[4].tolist() == [0, 2, 4, 1, 1, 0, 0, 0]
    assert "4 labelled pixels. 0 pixels" in messages[0] and "; 2 (50) are a rim" in messages[0]


@pytest.mark.parametrize("text", ["0,1,2", "0,1,2,4,4", "1,0,2,4", "0,1,2,3", "0;1;2;4", "0,1,2,x", ","])
def test_an_order_of_other_labels_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="each has to be in it once, and 0 first") as caught:
        read_order(text, (0, 1, 2, 4))
    assert text in str(caught.value)


def test_without_an_order_it_is_that_of_the_values() -> None:
    assert read_order("", (0, 4, 2, 1)) == (0, 1, 2, 4)
    assert read_order(" 0, 2,4 ,1", (0, 1, 2, 4)) == (0, 2, 4, 1)


def test_unclear_pixels_take_the_label_of_the_nearest_clear_one() -> None:
    labels = np.array([[0, 1, 1, 2, 2, 4, 4, 1, 0]], dtype=np.uint8)
    clear = np.array([[1, 0, 0, 0, 1, 1, 1, 0, 1]], dtype=bool)
    found = settled(labels, clear)[0].tolist()
    assert found[:2] == [0, 0] and found[3:7] == [2, 2, 4, 4] and found[8] == 0
    assert found[2] in (0, 2) and found[7] in (0, 4)  # as near to either
    np.testing.assert_array_equal(settled(labels, np.ones_like(clear)), labels)
    np.testing.assert_array_equal(settled(labels, np.zeros_like(clear)), labels)


def test_thin_rims_are_one_pixel_between_lower_and_higher() -> None:
    labels = np.zeros((7, 7), dtype=np.uint8)
    labels[2:5, 2:5] = 2
    labels[3, 3] = 4  # a core in a ring of oedema that is one pixel wide
    expected = np.zeros((7, 7), dtype=bool)
    expected[[2, 4, 3, 3], [3, 3, 2, 4]] = True  # the corners of the ring touch no core along y or x
    np.testing.assert_array_equal(thin_rims(labels), expected)
    np.testing.assert_array_equal(thin_rims(labels.T), expected)
    labels[1:6, 1:6] = 2
    labels[3, 3] = 4  # two pixels wide: a region, not a rim
    assert not thin_rims(labels).any()


def test_a_valley_or_a_ridge_is_no_rim() -> None:
    labels = np.tile(np.array([4, 2, 4, 0, 2, 0, 0], dtype=np.uint8), (7, 1))
    assert not thin_rims(labels).any()


def test_unclear_is_beyond_a_quarter_of_the_smallest_gap() -> None:
    """Levels 0 51 102 204 are 51 apart at least: 12 off is clear, 13 is not."""
    grey = np.array([[0, 12, 13, 51, 64, 102, 191, 192, 255]], dtype=np.uint8)
    labels = np.array([[0, 0, 0, 1, 1, 2, 4, 4, 4]], dtype=np.uint8)
    assert unclear(grey, encode(labels, (0, 1, 2, 4)), (0, 1, 2, 4))[0].tolist() == [
        False,
        False,
        True,
        False,
        True,
        False,
        True,
        False,
        True,
    ]


def test_the_surroundings_are_black_and_joined_to_the_edge() -> None:
    image = np.full((2, 8, 8), 3, dtype=np.uint8)
    image[:, 1:7, 1:7] = 100  # the head
    image[:, 3:5, 3:5] = 2  # a dark ventricle, not joined to the edge
    image[0, 0, 0] = 60  # not black in one contrast
    expected = np.ones((8, 8), dtype=np.bool_)
    expected[1:7, 1:7] = expected[0, 0] = False
    np.testing.assert_array_equal(surroundings(image), expected)
    assert not surroundings(np.full((2, 8, 8), 100, np.uint8)).any()
    assert surroundings(np.zeros((1, 8, 8), np.uint8)).all()


@pytest.mark.parametrize("background_zero", [False, True])
def test_the_surroundings_become_zero_and_lose_stray_labels(
    background_zero: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = []
    monkeypatch.setattr(synthkit, "message", messages.append)
    drawing = np.full((3, 8, 8), 5, dtype=np.uint8)
    drawing[:2, 2:6, 2:6] = 100
    drawing[2] = 0
    drawing[2, 3, 3], drawing[2, 7, 6] = 204, 102  # a label in the head, and one in the corner

    def sampler(seeds: Sequence[int]) -> Tensor:
        return (torch.from_numpy(drawing).float()[None] / 127.5 - 1).expand(len(seeds), -1, -1, -1)

    ((image, labels),) = drawn([0], sampler, background_zero=background_zero)
    assert labels[3, 3] == 4 and labels[7, 6] == (0 if background_zero else 2)
    assert image[0, 0, 0] == (0 if background_zero else 5) and image[0, 3, 3] == 100
    assert ("1 in the black surroundings of the head became background" in messages[0]) == background_zero


def test_streams_follow_from_their_key_and_leave_the_global_one_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    a, b, c = (torch.randn(4, generator=stream(CPU, *key)) for key in ((0, 1, 7), (0, 1, 7), (0, 2, 7)))
    assert torch.equal(a, b) and not torch.equal(a, c)
    with own_seed(3):
        first = torch.rand(3)
    with own_seed(3):
        assert torch.equal(torch.rand(3), first)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_seed_stream_continues() -> None:
    streams, one = SeedStreams([4, 9], CPU), SeedStreams([9], CPU)
    for shape in ((3,), (2, 2)):
        assert torch.equal(streams.normal(*shape)[1:], one.normal(*shape))


def test_a_grid_has_a_row_a_sample_and_colours_for_labels() -> None:
    grey = np.full((2, 3, 16, 16), 100, dtype=np.uint8)
    grey[:, 2] = 0
    grey[1, 2, 4:8, 4:8] = 204
    picture = grid(grey, ("t1", "flair"), Encoding("grey", (0, 1, 2, 4)), BRATS)
    assert picture.shape == (14 + 32 + 14, 48, 3)
    body, legend = picture[14:-14], picture[-14:]
    assert (legend == BRATS.rgb([1])[1]).all(axis=-1).any()  # the square of the first label
    assert (body[:, :32] == 100).all() and (body[:16, 32:] == 100).all()
    assert (body[20:24, 36:40] == (0xD5, 0x5E, 0x00)).all() and (body[24:, 32:] == 100).all()
