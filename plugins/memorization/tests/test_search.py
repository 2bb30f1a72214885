"""The search names the image that a float64 brute force names, whatever the images and whichever way it goes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from synthkit_memorization.bound import Directions, cosines, slack
from synthkit_memorization.cascade import Cascade
from synthkit_memorization.pixels import make_block, shards
from synthkit_memorization.search import Groups, Matches, ShardSearch, best_matches, every_rule, no_matches

from synthkit.contract import Sample


class InMemory:
    """A dataset held in an array: ``synthkit.contract.Samples`` for tests."""

    label_values = (0, 1, 2, 4)
    digest = "0" * 64

    def __init__(self, images: NDArray[np.uint8], subjects: Sequence[str | None] | None = None) -> None:
        self.images = images
        self.contrasts = tuple(("t1", "t1ce", "t2", "flair")[: images.shape[1]])
        self.size = images.shape[2:]
        subjects = subjects or ["s"] * len(images)
        self.samples = [Sample(f"i{n}", "train", s, n, None, "") for n, s in enumerate(subjects)]
        self.largest_read = 0

    def __len__(self) -> int:
        return len(self.images)

    def read(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        self.largest_read = max(self.largest_read, len(indices))
        images = self.images[np.asarray(indices, dtype=np.int64)]
        return images, np.zeros((len(images), *self.size), np.uint8)

    def batches(self, batch_size: int) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
        for start in range(0, len(self), batch_size):
            yield self.read(range(start, min(start + batch_size, len(self))))


def brute_force(queries: NDArray[np.uint8], train: NDArray[np.uint8]) -> NDArray[np.float64]:
    """r of all pairs by the definition, in float64; 0 where an image is constant."""
    x, y = (a.reshape(len(a), -1).astype(np.float64) for a in (queries, train))
    x, y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    scale = np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(y, axis=1)[None, :]
    return np.divide(x @ y.T, scale, out=np.zeros_like(scale), where=scale > 1e-9)


def check(found: Matches, r: NDArray[np.float64]) -> None:
    """The k best, to 1e-9; another index only where the brute force has a tie, and then the lowest of equals."""
    k = found.r.shape[1]
    for i, row in enumerate(r):
        expected = np.sort(row[np.isfinite(row)])[::-1][:k]
        n = len(expected)
        np.testing.assert_allclose(found.r[i, :n], expected, atol=1e-9)
        assert np.isnan(found.r[i, n:]).all() and (found.index[i, n:] == -1).all()
        np.testing.assert_allclose(row[found.index[i, :n]], found.r[i, :n], atol=1e-9)
        assert len(set(found.index[i, :n])) == n
        clear = [j for j in range(n) if (np.abs(row - expected[j]) < 1e-9).sum() == 1]
        assert all(found.index[i, j] == np.flatnonzero(np.abs(row - expected[j]) < 1e-9)[0] for j in clear)


def smooth(
    rng: np.random.Generator, n: int, contrasts: int, size: tuple[int, int], terms: int = 4
) -> NDArray[np.uint8]:
    """Images of a few low frequencies inside a frame of zeros, ``(n, contrast, y, x)``."""
    rows, columns = cosines(size[0], terms), cosines(size[1], terms)
    field = np.einsum("ncab,ay,bx->ncyx", rng.normal(size=(n, contrasts, terms, terms)), rows, columns)
    field = 40 + 170 * (field - field.min()) / np.ptp(field)
    images = np.clip(field + rng.normal(size=field.shape), 0, 255).astype(np.uint8)
    images[..., :3, :] = 0
    images[..., :2] = 0
    return images


def noise(rng: np.random.Generator, n: int, contrasts: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    return rng.integers(0, 256, (n, contrasts, *size), dtype=np.uint8)


@pytest.mark.parametrize("method", ["dense", "cascade", "auto"])
@pytest.mark.parametrize("make", [smooth, noise])
@pytest.mark.parametrize("k", [1, 5])
def test_equals_the_brute_force_on_every_rule(method: Any, make: Any, k: int) -> None:
    rng = np.random.default_rng(k)
    train, queries = make(rng, 300, 3, (40, 33)), make(rng, 70, 3, (40, 33))
    queries[:5], queries[5] = train[10:15], 0
    found = best_matches(InMemory(queries), InMemory(train), k=k, method=method)
    assert list(found) == ["t1", "t1ce", "t2", "joint"]
    for rule, contrasts in every_rule(("t1", "t1ce", "t2")).items():
        check(found[rule], brute_force(queries[:, list(contrasts)], train[:, list(contrasts)]))
    assert (found["joint"].r[:5, 0] == 1.0).all() and (found["joint"].index[:5, 0] == np.arange(10, 15)).all()


@pytest.mark.parametrize("method", ["dense", "cascade"])
def test_ties_go_to_the_lowest_index_and_constants_have_r_zero(method: Any) -> None:
    rng = np.random.default_rng(0)
    base = smooth(rng, 6, 1, (24, 24))
    blank, bright = np.zeros_like(base[:1]), np.full_like(base[:1], 200)
    train = np.concatenate([blank, base, base, bright, base])
    queries = np.concatenate([base, blank, bright])
    found = best_matches(InMemory(queries), InMemory(train), k=4, method=method)["t1"]
    for i in range(6):
        assert list(found.index[i, :3]) == [1 + i, 7 + i, 14 + i] and (found.r[i, :3] == 1.0).all()
    # A constant image: 0 with everything, so the lowest indices, its identical twin included.
    assert found.index[6:].tolist() == [[0, 1, 2, 3]] * 2 and (found.r[6:] == 0).all()


@pytest.mark.parametrize("method", ["dense", "cascade"])
def test_nothing_is_compared_with_its_own_group(method: Any) -> None:
    rng = np.random.default_rng(3)
    images = smooth(rng, 60, 2, (20, 26))
    groups = np.repeat(np.arange(4), 15)
    found = best_matches(InMemory(images), InMemory(images), k=3, exclude=Groups(groups, groups), method=method)
    for rule, contrasts in every_rule(("t1", "t1ce")).items():
        r = brute_force(images[:, list(contrasts)], images[:, list(contrasts)])
        r[groups[:, None] == groups[None, :]] = -np.inf
        check(found[rule], r)
    alone = best_matches(InMemory(images), InMemory(images), exclude=Groups(groups * 0, groups * 0), method=method)
    assert (alone["joint"].index == -1).all() and np.isnan(alone["joint"].r).all()
    # A negative group is nobody's: it may even meet itself.
    free = best_matches(
        InMemory(images), InMemory(images), exclude=Groups(groups * 0 - 1, groups * 0 - 1), method=method
    )
    assert (free["joint"].index[:, 0] == np.arange(60)).all()


@pytest.mark.parametrize("method", ["dense", "cascade"])
def test_answer_does_not_depend_on_the_memory_given(method: Any) -> None:
    rng = np.random.default_rng(4)
    train, queries = smooth(rng, 700, 2, (24, 24)), smooth(rng, 40, 2, (24, 24))
    train[600] = train[20]
    queries[0] = train[20]
    source = InMemory(train)
    whole = best_matches(InMemory(queries), source, k=3, method=method)
    shares: list[float] = []
    parts = best_matches(InMemory(queries), source, k=3, method=method, memory_mb=0.6, report=shares.append)
    assert len(list(shards(source, 600_000))) > 2 and source.largest_read <= 256
    assert shares == sorted(shares) and shares[-1] == 1.0
    for rule in whole:
        np.testing.assert_array_equal(whole[rule].index, parts[rule].index)
        np.testing.assert_array_equal(whole[rule].r, parts[rule].r)
    assert whole["joint"].index[0, :2].tolist() == [20, 600]


def test_the_bound_of_the_cascade_is_never_below_r() -> None:
    rng = np.random.default_rng(5)
    for make in (smooth, noise):
        train, queries = make(rng, 60, 2, (37, 70)), make(rng, 30, 2, (37, 70))
        train[:, :, :4], train[0] = 0, 7
        queries[0, 0], queries[1] = 9, train[5]
        shard = next(shards(InMemory(train), 10**9))
        block = make_block(queries, shard.box, 0)
        for contrasts in ((0,), (1,), (0, 1)):
            directions = Directions(shard, contrasts, 37 * 70)
            r = brute_force(queries[:, list(contrasts)], train[:, list(contrasts)])
            ours, theirs = (directions.embed(images, directions.moments(images)) for images in (block, shard))
            for x, y in zip(ours, theirs, strict=True):
                assert (x @ y.T - r).min() > -slack(x.shape[1])


def test_cascade_prunes_smooth_images_and_gives_noise_to_the_dense_way() -> None:
    rng = np.random.default_rng(6)
    for make, solved in ((smooth, True), (noise, False)):
        train = make(rng, 1500, 1, (48, 48))
        shard = next(shards(InMemory(train), 10**9))
        index = Cascade(Directions(shard, (0,), 48 * 48), shard)
        found = index.search(make_block(make(rng, 50, 1, (48, 48)), shard.box, 0), 1, np.full(50, -np.inf), None)
        # 48 x 48 noise lies wholly within the kept frequencies, yet 768 axes of 2,303 cannot hold it.
        assert found.solved.mean() > 0.9 if solved else found.solved.mean() < 0.1


@pytest.mark.parametrize(("make", "built"), [(smooth, {"t1", "t1ce", "joint"}), (noise, set())])
def test_auto_builds_a_cascade_only_where_it_prunes(make: Any, built: set[str]) -> None:
    rng = np.random.default_rng(9)
    train, queries = make(rng, 600, 2, (30, 30)), make(rng, 520, 2, (30, 30))
    rules = every_rule(("t1", "t1ce"))
    shard = next(shards(InMemory(train), 10**9))
    search = ShardSearch(shard, 900, rules, 1, None)
    search.build_cascades(InMemory(queries), no_matches(rules, 520, 1))
    assert set(search.cascades) == built
    found = best_matches(InMemory(queries), InMemory(train))
    for rule, contrasts in rules.items():
        check(found[rule], brute_force(queries[:, list(contrasts)], train[:, list(contrasts)]))


def test_single_contrasts_go_densely_where_the_joint_rule_does() -> None:
    rng = np.random.default_rng(10)
    train, queries = smooth(rng, 600, 2, (30, 30)), smooth(rng, 512, 2, (30, 30))
    train[:, 1], queries[:, 1] = noise(rng, 600, 1, (30, 30))[:, 0], noise(rng, 512, 1, (30, 30))[:, 0]
    rules = every_rule(("t1", "t1ce"))
    search = ShardSearch(next(shards(InMemory(train), 10**9)), 900, rules, 1, None)
    search.build_cascades(InMemory(queries), no_matches(rules, 512, 1))
    assert not search.cascades  # t1 alone would prune, but its products are needed for the joint rule anyway


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_small_images_equal_the_brute_force(data: st.DataObject) -> None:
    """Few grey levels on few pixels: constants, identical images, and exact ties abound."""
    n, m, c = (data.draw(st.integers(1, high)) for high in (6, 12, 3))
    size = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5))
    levels = data.draw(st.sampled_from([2, 3, 256]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    train = rng.integers(0, levels, (m, c, *size)).astype(np.uint8)
    queries = rng.integers(0, levels, (n, c, *size)).astype(np.uint8)
    k = data.draw(st.integers(1, 3))
    ways = [best_matches(InMemory(queries), InMemory(train), k=k, method=way) for way in ("dense", "cascade")]
    for rule, contrasts in every_rule(InMemory(train).contrasts).items():
        check(ways[0][rule], brute_force(queries[:, list(contrasts)], train[:, list(contrasts)]))
        np.testing.assert_array_equal(ways[0][rule].index, ways[1][rule].index)
        np.testing.assert_array_equal(ways[0][rule].r, ways[1][rule].r)


def test_inner_products_are_exact_at_the_extremes() -> None:
    """All pixels 0 or 255 make the largest sums: a chunk of 128^2 products reaches 2^24 exactly."""
    rng = np.random.default_rng(7)
    images = (rng.integers(0, 2, (8, 1, 100, 100)) * 255).astype(np.uint8)
    images[0], images[1, 0, 0, 0], images[2] = 255, 1, images[3]
    found = best_matches(InMemory(images), InMemory(images), k=8, method="dense")["t1"]
    check(found, brute_force(images, images))


def test_different_contrasts_or_sizes_are_refused() -> None:
    rng = np.random.default_rng(8)
    with pytest.raises(ValueError, match="queries are"):
        best_matches(InMemory(noise(rng, 2, 1, (8, 8))), InMemory(noise(rng, 2, 2, (8, 8))))
