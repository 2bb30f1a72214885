"""The search names the image that a float64 brute force names, whatever the images and whichever way it goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

for needed in ("numba", "torch"):
    pytest.importorskip(needed, reason=f"{needed} is not installed")

from hypothesis import assume, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from scipy import ndimage  # noqa: E402
from synthkit_memorization.search import dense, exact, products  # noqa: E402
from synthkit_memorization.search.bound import LEVELS, Directions, cosines, slack  # noqa: E402
from synthkit_memorization.search.cascade import Cascade  # noqa: E402
from synthkit_memorization.search.exact import Groups, Matches, ShardSearch, best_matches, every_view  # noqa: E402
from synthkit_memorization.search.matches import nothing  # noqa: E402
from synthkit_memorization.search.pixels import Box, make_block, shards  # noqa: E402
from synthkit_memorization.search.rules import MEASURES, N_TRANSFORMATIONS, View  # noqa: E402
from synthkit_memorization.search.rules import RULES as ALL_RULES  # noqa: E402
from synthkit_memorization.search.transformations import transformed, turned  # noqa: E402

from synthkit.testing import InMemorySamples  # noqa: E402

WAYS = ["dense", "cascade", "torch"]
#: Rules of a few transformations; the others have tests of their own.
RULES = tuple(rule for rule in ALL_RULES if N_TRANSFORMATIONS[rule] < 10)


def brute_force(
    queries: NDArray[np.uint8], train: NDArray[np.uint8], contrasts: Sequence[int] = (0,), rule: str = "pearson"
) -> NDArray[np.float64]:
    """r of all pairs by the definitions, in float64, with the default background (8) and shift (2 pixels)."""
    x, y = queries.astype(np.float64), train.astype(np.float64)
    inside = centred_in_brain if MEASURES[rule] == "brain" else centred
    if rule == "flip":
        changed = [x[..., ::-1]]
    elif rule == "shift":
        changed = moved_by(x, (-2, 0, 2))[:4] + moved_by(x, (-2, 0, 2))[5:]
    elif rule == "inverted":
        changed = [255 - x]
    elif rule == "brain-inverted":
        changed = [np.where((x > 8).any(axis=1, keepdims=True), np.maximum(255 - x, 9), x)]
    elif rule == "turned":
        changed = [way for d in (-14, -7, 0, 7, 14) for way in ways_up(turned(queries, d).astype(np.float64))]
    elif rule == "turned-inside":
        changed = [way for part in moved_by(x, (-1, 0, 1)) for way in ways_up(part)]
    else:
        changed = [x]
    return np.max([cosines_of(inside(part, contrasts), inside(y, contrasts)) for part in changed], axis=0)


def moved_by(images: NDArray[np.float64], steps: tuple[int, int, int]) -> list[NDArray[np.float64]]:
    most, (height, width) = max(steps), images.shape[-2:]
    padded = np.pad(images, ((0, 0), (0, 0), (most, most), (most, most)))
    corners = [(most - dy, most - dx) for dy in steps for dx in steps]
    return [padded[..., top : top + height, left : left + width] for top, left in corners]


def ways_up(images: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """As they are and mirrored, each turned by all quarters that keep their shape."""
    quarters = range(4) if images.shape[-1] == images.shape[-2] else (0, 2)
    return [np.rot90(way, n, (-2, -1)) for way in (images, images[..., ::-1]) for n in quarters]


def centred(images: NDArray[np.float64], contrasts: Sequence[int]) -> NDArray[np.float64]:
    flat = images[:, list(contrasts)].reshape(len(images), -1)
    return flat - flat.mean(axis=1, keepdims=True)


def centred_in_brain(images: NDArray[np.float64], contrasts: Sequence[int]) -> NDArray[np.float64]:
    """Each contrast less the mean of its brain, 0 outside the brain."""
    result = np.zeros_like(images[:, list(contrasts)])
    for i, image in enumerate(images):
        brain = (image > 8).any(axis=0)
        for place, contrast in enumerate(contrasts):
            values = image[contrast][brain]
            result[i, place][brain] = values - values.mean() if values.size else 0.0
    return result.reshape(len(images), -1)


def cosines_of(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """0 where an image is constant."""
    scale = np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(y, axis=1)[None, :]
    return np.divide(x @ y.T, scale, out=np.zeros_like(scale), where=scale > 1e-9)


def check(found: Matches, r: NDArray[np.float64], people: Any = None) -> None:
    """The k best, to 1e-9, no two of one person where these are given (none negative); another index only where the
    brute force has a tie, and then the lowest of equals."""
    k, people = found.r.shape[1], np.arange(r.shape[1]) if people is None else people
    for i, row in enumerate(r):
        best = np.full(people.max() + 1, -np.inf)
        np.maximum.at(best, people, row)
        expected = np.sort(best[np.isfinite(best)])[::-1][:k]
        n = len(expected)
        np.testing.assert_allclose(found.r[i, :n], expected, atol=1e-9)
        assert np.isnan(found.r[i, n:]).all() and (found.index[i, n:] == -1).all()
        np.testing.assert_allclose(row[found.index[i, :n]], found.r[i, :n], atol=1e-9)
        assert len(set(people[found.index[i, :n]])) == n
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


def search(queries: NDArray[np.uint8], train: NDArray[np.uint8], way: str = "auto", **options: Any) -> Any:
    if way == "torch":
        pytest.importorskip("torch")
    return best_matches(InMemorySamples(queries), InMemorySamples(train), method=way, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("make", [smooth, noise])
def test_equals_the_brute_force_by_every_view_and_rule(way: str, make: Any) -> None:
    rng = np.random.default_rng(1)
    train, queries = make(rng, 300, 3, (40, 33)), make(rng, 70, 3, (40, 33))
    queries[:5], queries[5], queries[6:9] = train[10:15], 0, train[20:23, ..., ::-1]
    queries[9:12, :, :-2, 2:] = train[30:33, :, 2:, :-2]
    train[40:43, :, :15], queries[12:14, :, :, :9] = 0, 0  # smaller brains
    views = every_view(("t1", "t1ce", "t2"))
    found = search(queries, train, way, rules=RULES, k=3)
    assert set(found) == {(view, rule) for view in views for rule in RULES}
    for (view, rule), matches in found.items():
        check(matches, brute_force(queries, train, views[view], rule))
    assert (found["joint", "pearson"].r[:5, 0] == 1.0).all()
    assert (found["joint", "brain"].r[:5, 0] == 1.0).all()
    assert found["joint", "flip"].index[6:9, 0].tolist() == [20, 21, 22]
    assert (found["joint", "flip"].r[6:9, 0] == 1.0).all()
    assert found["joint", "shift"].index[9:12, 0].tolist() == [30, 31, 32]


@pytest.mark.parametrize("way", WAYS)
def test_ties_go_to_the_lowest_index_and_constants_have_r_zero(way: str) -> None:
    rng = np.random.default_rng(0)
    base = smooth(rng, 6, 1, (24, 24))
    blank, bright = np.zeros_like(base[:1]), np.full_like(base[:1], 200)
    train = np.concatenate([blank, base, base, bright, base])
    queries = np.concatenate([base, blank, bright])
    found = search(queries, train, way, rules=("pearson", "brain"), k=4)
    for rule in ("pearson", "brain"):
        matches = found["t1", rule]
        for i in range(6):
            assert list(matches.index[i, :3]) == [1 + i, 7 + i, 14 + i] and (matches.r[i, :3] == 1.0).all()
        # A constant image: 0 with everything, so the lowest indices, its identical twin included.
        assert matches.index[6:].tolist() == [[0, 1, 2, 3]] * 2 and (matches.r[6:] == 0).all()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("make", [smooth, noise])
def test_the_best_images_of_the_nearest_people(way: str, make: Any) -> None:
    """People whose slices are much alike, in order or mixed; with and without one's own; in several shards."""
    rng = np.random.default_rng(13)
    train, people = np.repeat(make(rng, 40, 2, (20, 20)), 8, axis=0), np.repeat(np.arange(40), 8)
    train = np.clip(train + (train > 0) * rng.normal(0, 5, train.shape), 0, 255).astype(np.uint8)
    queries = np.concatenate([make(rng, 10, 2, (20, 20)), train[::20], np.zeros_like(train[:1])])
    own = np.concatenate([np.full(10, -1), people[::20], [-1]])
    mixed = rng.permutation(320)
    for order, exclude in ((np.arange(320), None), (mixed, Groups(own, people[mixed]))):
        options: Any = {"rules": ("pearson", "brain"), "k": 3, "distinct": people[order], "exclude": exclude}
        found = search(queries, train[order], way, views={"joint": (0, 1)}, **options)
        for (_, rule), matches in found.items():
            r = brute_force(queries, train[order], (0, 1), rule)
            if exclude is not None:
                r[own[:, None] == people[order][None, :]] = -np.inf
            check(matches, r, people[order])
        parts = search(queries, train[order], way, views={"joint": (0, 1)}, memory_mb=0.7, **options)
        for key in found:
            np.testing.assert_array_equal(found[key].index, parts[key].index)
            np.testing.assert_array_equal(found[key].r, parts[key].r)


@pytest.mark.parametrize("way", WAYS)
def test_ties_between_people_go_to_the_lowest_index(way: str) -> None:
    rng = np.random.default_rng(14)
    base = smooth(rng, 3, 1, (24, 24))
    train = np.concatenate([base, base, base[::-1], np.zeros_like(base)])
    people = np.array([7, 4, 4, 4, 7, 7, 2**62, 2**62, 2**62, -1, -1, 2])
    queries = np.concatenate([base, np.zeros_like(base[:1])])
    for memory_mb in (2048, 0.002):
        found = search(queries, train, way, k=4, distinct=people, memory_mb=memory_mb)["t1", "pearson"]
        assert found.index[:3, :3].tolist() == [[0, 3, 8], [1, 4, 7], [2, 5, 6]] and (found.r[:3, :3] == 1.0).all()
        # A blank image: 0 with everything. A negative number is nobody's, so both images of it are people.
        assert found.index[3].tolist() == [0, 1, 6, 9] and (found.r[3] == 0).all()
        few = search(queries[:3], train[:6], way, k=4, distinct=people[:6], memory_mb=memory_mb)["t1", "pearson"]
        assert few.index[:, 2:].tolist() == [[-1, -1]] * 3 and np.isnan(few.r[:, 2:]).all()
        assert few.index[:, :2].tolist() == [[0, 3], [1, 4], [2, 5]]


@pytest.fixture(scope="module")
def real_answers(real_slices: Any) -> Any:
    """Some slices of two real subjects; every second one of two others, every fourth one of these; r of all pairs."""
    parts = [real_slices(name)[:, [1, 3]] for name in ("TCGA-DU-7294", "TCGA-FG-6692", "BRATS_009", "BRATS_119")]
    queries = np.concatenate([part[::32] for part in parts[:2]])
    train = np.concatenate([*(part[::2] for part in parts[2:]), *(part[::4] for part in parts[:2])])
    views = every_view(("t1", "t1ce"))
    return queries, train, {(v, rule): brute_force(queries, train, views[v], rule) for v in views for rule in RULES}


@pytest.mark.parametrize("way", WAYS)
def test_equals_the_brute_force_on_real_slices(way: str, real_answers: Any) -> None:
    queries, train, r = real_answers
    found = search(queries, train, way, rules=RULES, k=3)
    for key, matches in found.items():
        check(matches, r[key])
    assert (found["joint", "pearson"].r[:, 0] == 1.0).all()


@pytest.mark.parametrize(("way", "size"), [(way, (16, 16)) for way in WAYS] + [("dense", (20, 13))])
def test_turned_equals_the_brute_force(way: str, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(15)
    train, queries = smooth(rng, 60, 2, size), smooth(rng, 12, 2, size)
    queries[0], queries[1, :, :-1, 1:] = train[3, :, ::-1], train[4, :, 1:, :-1]
    rules = ("turned", "turned-inside")
    found = search(queries, train, way, rules=rules, views={"joint": (0, 1)}, k=2, distinct=np.arange(60) // 4)
    for (_, rule), matches in found.items():
        check(matches, brute_force(queries, train, (0, 1), rule), np.arange(60) // 4)
    assert all(found["joint", rule].index[0, 0] == 3 and found["joint", rule].r[0, 0] == 1.0 for rule in rules)


def test_every_rule_does_to_a_query_what_it_says() -> None:
    rng = np.random.default_rng(16)
    images = smooth(rng, 3, 2, (20, 20))
    for rule, n in N_TRANSFORMATIONS.items():
        changed = list(transformed(images, rule, 2, 8))
        assert len(changed) == n and all(c.shape == images.shape and c.dtype == np.uint8 for c in changed)
        assert len({c.tobytes() for c in changed}) == n
    (negative,) = transformed(images, "inverted", 2, 8)
    (inside,) = transformed(np.maximum(images, 250 * (images > 200)), "brain-inverted", 2, 8)
    np.testing.assert_array_equal(negative, 255 - images)
    np.testing.assert_array_equal((inside > 8).any(axis=1), (images > 8).any(axis=1))
    found = search(negative, images, rules=("pearson", "inverted", "brain-inverted"))
    assert (found["joint", "inverted"].r[:, 0] == 1.0).all() and (found["joint", "pearson"].r[:, 0] < 1.0).all()


def test_turned_is_what_a_bilinear_rotation_is() -> None:
    images = smooth(np.random.default_rng(17), 70, 2, (24, 31))
    for degrees in (-14, 7, 90):
        expected = ndimage.rotate(images.astype(np.float64), -degrees, (-2, -1), False, order=1, mode="grid-constant")
        assert np.abs(turned(images, degrees) - expected).max() < 2
    np.testing.assert_array_equal(turned(images[..., :24], 90), np.rot90(images[..., :24], 3, (-2, -1)))


def test_brain_does_not_see_head_and_background() -> None:
    """Two brains without a common texture in the same head: alike by all pixels, unlike inside."""
    rng = np.random.default_rng(2)
    images = np.zeros((2, 1, 32, 32), np.uint8)
    images[:, :, 6:26, 6:26] = rng.integers(100, 121, (2, 1, 20, 20))
    found = search(images[:1], images[1:], rules=("pearson", "brain"))
    assert found["t1", "pearson"].r[0, 0] > 0.95 and abs(found["t1", "brain"].r[0, 0]) < 0.2
    # The background is not a constant zero: at most 8 it is still none of the brain.
    dim = images.copy()
    dim[dim == 0] = rng.integers(0, 9, (dim == 0).sum())
    assert search(dim[:1], dim[1:], rules=("brain",))["t1", "brain"].r == found["t1", "brain"].r
    assert search(dim[:1], dim[1:], rules=("brain",), background=7)["t1", "brain"].r != found["t1", "brain"].r


def test_a_low_contrast_brain_keeps_its_digits() -> None:
    """One grey value off in a brain of 40,000 pixels: r of the two lone pixels, though sums are 10^9 times larger."""
    images = np.zeros((3, 1, 220, 220), np.uint8)
    images[:, :, 10:210, 10:210] = 253
    images[0, 0, 50, 50] = images[1, 0, 50, 50] = images[2, 0, 60, 60] = 254
    found = search(images[:1], images[1:], "dense", rules=("brain",), k=2)["t1", "brain"]
    assert found.index.tolist() == [[0, 1]]
    np.testing.assert_allclose(found.r, [[1.0, -1 / 39_999]], atol=1e-12)


@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_compared_with_its_own_group(way: str) -> None:
    rng = np.random.default_rng(3)
    images = smooth(rng, 60, 2, (20, 26))
    groups = np.repeat(np.arange(4), 15)
    views = every_view(("t1", "t1ce"))
    found = search(images, images, way, rules=RULES, k=3, exclude=Groups(groups, groups))
    for (view, rule), matches in found.items():
        r = brute_force(images, images, views[view], rule)
        r[groups[:, None] == groups[None, :]] = -np.inf
        check(matches, r)
    alone = search(images, images, way, exclude=Groups(groups * 0, groups * 0))
    assert (alone["joint", "pearson"].index == -1).all() and np.isnan(alone["joint", "pearson"].r).all()
    # A negative group is nobody's: it may even meet itself.
    free = search(images, images, way, exclude=Groups(groups * 0 - 1, groups * 0 - 1))
    assert (free["joint", "pearson"].index[:, 0] == np.arange(60)).all()


@pytest.mark.parametrize("way", WAYS)
def test_above_leaves_out_what_is_not_greater(way: str) -> None:
    rng = np.random.default_rng(11)
    train, queries = smooth(rng, 200, 1, (32, 32)), smooth(rng, 50, 1, (32, 32))
    queries[0] = train[7]
    full = search(queries, train, "dense", rules=RULES, k=2)
    above = {("t1", rule): float(np.median(full["t1", rule].r[:, 0])) for rule in RULES}
    above["t1", "flip"] = float(full["t1", "flip"].r[3, 0])  # a match equal to the threshold does not exceed it
    found = search(queries, train, way, rules=RULES, k=2, above=above)
    for key, matches in found.items():
        kept = full[key].r > above[key]
        np.testing.assert_array_equal(matches.index, np.where(kept, full[key].index, -1))
        np.testing.assert_array_equal(matches.r, np.where(kept, full[key].r, np.nan))
    assert found["t1", "flip"].index[3, 0] == -1 and found["t1", "pearson"].index[0, 0] == 7
    # A threshold for one rule says nothing about another.
    only = search(queries, train, way, rules=("pearson", "flip"), above={("t1", "flip"): 1.0})
    assert (only["t1", "flip"].index == -1).all() and (only["t1", "pearson"].index >= 0).all()


@pytest.mark.parametrize("way", WAYS)
def test_answer_does_not_depend_on_the_memory_given(way: str) -> None:
    rng = np.random.default_rng(4)
    train, queries = smooth(rng, 700, 2, (24, 24)), smooth(rng, 40, 2, (24, 24))
    train[600] = train[20]
    queries[0] = train[20]
    if way == "torch":
        pytest.importorskip("torch")
    source = InMemorySamples(train)
    options: Any = {"k": 3, "method": way, "rules": RULES}
    whole = best_matches(InMemorySamples(queries), source, **options)
    shares: list[float] = []
    parts = best_matches(InMemorySamples(queries), source, memory_mb=0.5, report=shares.append, **options)
    assert len(list(shards(source, 500_000, 8))) > 2 and max(source.reads) <= 256
    assert shares == sorted(shares) and shares[-1] == 1.0
    for key in whole:
        np.testing.assert_array_equal(whole[key].index, parts[key].index)
        np.testing.assert_array_equal(whole[key].r, parts[key].r)
    assert whole["joint", "pearson"].index[0, :2].tolist() == [20, 600]


def test_the_bound_of_the_cascade_is_never_below_r() -> None:
    rng = np.random.default_rng(5)
    for make in (smooth, noise):
        train, queries = make(rng, 60, 2, (37, 70)), make(rng, 30, 2, (37, 70))
        train[:, :, :4], train[0] = 0, 7
        queries[0, 0], queries[1] = 9, train[5]
        queries[2:4, :, 20:], queries[4] = 0, 254
        queries[4, :, 10, 10] = 255
        shard = next(shards(InMemorySamples(train), 10**9, 8))
        block = make_block(queries, shard.box, 0, 8)
        for measure in ("pearson", "brain"):
            views: Any = {(str(c), measure): View(measure, c, 37 * 70) for c in ((0,), (1,), (0, 1))}  # type: ignore[arg-type]
            directions = Directions(shard, views)
            ours, theirs = directions.embed(block, views), directions.embed(shard, views)
            for key, view in views.items():
                x, y = ours[key], theirs[key]
                r = brute_force(queries, train, view.contrasts, measure)
                assert (x.short @ y.short.T - r).min() > -slack(LEVELS[0])
                for level, prefix in enumerate(LEVELS):
                    inner = x.short[:, :-1] @ y.short[:, :-1].T
                    inner += x.tail[:, : prefix - LEVELS[0]] @ y.tail[:, : prefix - LEVELS[0]].T
                    assert (inner + np.outer(x.rho[:, level], y.rho[:, level]) - r).min() > -slack(prefix)


def test_cascade_prunes_smooth_images_and_gives_noise_to_the_dense_way() -> None:
    rng = np.random.default_rng(6)
    views: Any = {("t1", "pearson"): View("pearson", (0,), 48 * 48)}
    for make, solved in ((smooth, True), (noise, False)):
        train = make(rng, 1500, 1, (48, 48))
        shard = next(shards(InMemorySamples(train), 10**9))
        index = Cascade(Directions(shard, views), shard, views, None)
        block = make_block(make(rng, 50, 1, (48, 48)), shard.box, 0)
        _, done = index.search(block, {("t1", "pearson"): np.full(50, -np.inf)}, 1, None)["t1", "pearson"]
        # 48 x 48 noise lies wholly within the kept frequencies, yet 768 axes of 2,303 cannot hold it.
        assert done.mean() > 0.9 if solved else done.mean() < 0.1


def built(queries: NDArray[np.uint8], train: NDArray[np.uint8]) -> set[str]:
    """Views of all contrasts that get a cascade, by the rule pearson."""
    shard = next(shards(InMemorySamples(train), 10**9))
    views: Any = {
        (name, "pearson"): View("pearson", c, 900) for name, c in every_view(InMemorySamples(train).contrasts).items()
    }
    index = ShardSearch(shard, views, 1, None)
    best = {key: nothing(len(queries), 1) for key in views}
    index.build_cascades(InMemorySamples(queries), ("pearson",), best, 8, 2)
    return {view for cascade in index.cascades.values() for view, _ in cascade.views}


@pytest.mark.parametrize(("make", "expected"), [(smooth, {"t1", "t1ce", "joint"}), (noise, set())])
def test_auto_builds_a_cascade_only_where_it_prunes(make: Any, expected: set[str]) -> None:
    rng = np.random.default_rng(9)
    train, queries = make(rng, 600, 2, (30, 30)), make(rng, 520, 2, (30, 30))
    assert built(queries, train) == expected
    for (view, _), matches in search(queries, train).items():
        check(matches, brute_force(queries, train, every_view(("t1", "t1ce"))[view]))


def test_single_contrasts_go_densely_where_the_joint_view_does() -> None:
    rng = np.random.default_rng(10)
    train, queries = smooth(rng, 600, 2, (30, 30)), smooth(rng, 512, 2, (30, 30))
    train[:, 1], queries[:, 1] = noise(rng, 600, 1, (30, 30))[:, 0], noise(rng, 512, 1, (30, 30))[:, 0]
    assert built(queries, train) == set()  # t1 alone would prune, but its products are needed for the joint view anyway


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_small_images_equal_the_brute_force(data: st.DataObject) -> None:
    """Few grey levels on few pixels: constants, identical images, empty brains and exact ties abound."""
    n, m, c = (data.draw(st.integers(1, high)) for high in (6, 12, 3))
    size = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5))
    levels = data.draw(st.sampled_from([2, 3, 14, 256]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    train = rng.integers(0, levels, (m, c, *size)).astype(np.uint8)
    queries = rng.integers(0, levels, (n, c, *size)).astype(np.uint8)
    options: Any = {"k": data.draw(st.integers(1, 3)), "rules": data.draw(st.permutations(ALL_RULES))[:2]}
    views = every_view(InMemorySamples(train).contrasts)
    groups = Groups(rng.integers(-1, 3, n), rng.integers(-1, 3, m)) if data.draw(st.booleans()) else None
    people = rng.integers(0, data.draw(st.integers(1, 5)), m) if data.draw(st.booleans()) else None
    above = data.draw(st.sampled_from([None, -0.3, 0.2, 0.9]))
    expected = {}
    for view, rule in ((view, rule) for view in views for rule in options["rules"]):
        r = brute_force(queries, train, views[view], rule)
        if groups is not None:
            r[groups.excluded(np.arange(n), np.arange(m))] = -np.inf
        if above is not None:
            assume(np.abs(r - above).min() > 1e-9)
            r[r <= above] = -np.inf
        expected[view, rule] = r
    options |= {
        "exclude": groups,
        "distinct": people,
        "above": None if above is None else dict.fromkeys(expected, above),
    }
    ways = [search(queries, train, way, **options) for way in WAYS]
    for key, r in expected.items():
        check(ways[0][key], r, people)
        for way in ways[1:]:
            np.testing.assert_array_equal(ways[0][key].index, way[key].index)
            np.testing.assert_array_equal(ways[0][key].r, way[key].r)


@pytest.mark.parametrize("way", WAYS)
def test_inner_products_are_exact_at_the_extremes(way: str) -> None:
    """All pixels 0 or 255 make the largest sums: a chunk of 128^2 products reaches 2^24 exactly."""
    rng = np.random.default_rng(7)
    images = (rng.integers(0, 2, (8, 1, 300, 300)) * 255).astype(np.uint8)
    images[0], images[1, 0, 0, 0], images[2] = 255, 1, images[3]
    found = search(images, images, way, rules=("pearson", "brain"), k=8)
    for rule in ("pearson", "brain"):
        check(found["t1", rule], brute_force(images, images, (0,), rule))


def test_products_of_bytes_are_exact_at_the_extremes() -> None:
    """In sums of PIECE products, with strides, and in shapes of no round numbers."""
    multiply = products.multiply_bytes()
    if multiply is None:
        pytest.skip("bytes are not multiplied faster here")
    values = np.random.default_rng(7).choice(np.array([-128, 127], np.int8), (20, products.PIECE + 100))
    values[0], values[1] = -128, values[19]
    for n, m, n_pixels in ((3, 17, products.PIECE), (1, 1, 64), (5, 2, 1), (0, 4, 64)):
        x, y = values[:n, :n_pixels], values[20 - m :, :n_pixels]
        np.testing.assert_array_equal(multiply(x, y), x.astype(np.int64) @ y.astype(np.int64).T)


def test_products_of_bytes_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(9)
    train, queries = smooth(rng, 60, 2, (300, 280)), noise(rng, 5, 2, (300, 280))
    options: Any = {"rules": ("pearson", "brain"), "k": 3, "distinct": np.repeat(np.arange(20), 3)}
    monkeypatch.setattr(dense, "multiply_bytes", lambda: None)
    in_floats = search(queries, train, "dense", **options)
    asked: list[int] = []

    def multiply(x: NDArray[np.int8], y: NDArray[np.int8]) -> NDArray[np.int32]:
        asked.append(x.shape[1])
        return x.astype(np.int32) @ y.astype(np.int32).T

    monkeypatch.setattr(dense, "multiply_bytes", lambda: multiply)
    in_bytes = search(queries, train, "dense", **options)
    assert max(asked) == products.PIECE
    for key, found in in_floats.items():
        np.testing.assert_array_equal(found.index, in_bytes[key].index)
        np.testing.assert_array_equal(found.r, in_bytes[key].r)


def test_a_cascade_is_tried_where_there_is_much_to_compare(monkeypatch: pytest.MonkeyPatch) -> None:
    class Shard(list[int]):
        box = Box(0, 100, 0, 100)

    shard: Any = Shard(range(2000))
    monkeypatch.setattr(exact, "multiply_bytes", lambda: None)
    assert exact._is_large(shard, 10_000, 4) and not exact._is_large(shard, 500, 400)
    assert not exact._is_large(Shard(range(900)), 10_000, 400)  # type: ignore[arg-type]  # too few for one query
    monkeypatch.setattr(exact, "multiply_bytes", lambda: np.matmul)
    assert not exact._is_large(shard, 10_000, 40)
    assert exact._is_large(Shard(range(10_000)), 10_000, 4)  # type: ignore[arg-type]


def test_what_cannot_be_compared_is_refused() -> None:
    rng = np.random.default_rng(8)
    with pytest.raises(ValueError, match="queries are"):
        search(noise(rng, 2, 1, (8, 8)), noise(rng, 2, 2, (8, 8)))
    with pytest.raises(ValueError, match="unknown rules mirror"):
        search(noise(rng, 2, 1, (8, 8)), noise(rng, 2, 1, (8, 8)), rules=("mirror",))
    with pytest.raises(ValueError, match="people of 3 images are given for 2 training images"):
        search(noise(rng, 2, 1, (8, 8)), noise(rng, 2, 1, (8, 8)), k=2, distinct=np.arange(3))


def test_a_device_that_is_not_there_is_refused() -> None:
    pytest.importorskip("torch")
    from synthkit.errors import PluginError

    rng = np.random.default_rng(12)
    with pytest.raises(PluginError, match="cannot run on the device 'nowhere'"):
        search(noise(rng, 2, 1, (8, 8)), noise(rng, 2, 1, (8, 8)), device="nowhere")
