"""Planted copies of phantom people: which of them the audit finds, beside the published rules of others.

    python benchmarks/copy_detection.py [--cache people.npz] [--innocents 200] [--copies 40] [--only NAME,...]

Every detector sees the training images, the images of held-out people, and one query at a time, and gives a suspicion.
Queries are copies of each kind (planted_copies.py), and all images of innocent people whom nobody trained on. Errors
are counted by *person*: an innocent is one person, as suspicious as the most suspicious of their images, and the line
of a detector lies where at most 1 % of the innocents are above it. What is printed is the share of copies above it.

Detectors, each by the statistic that its rule compares with a number; the last line has the innocents that the rule's
own number calls copies, where there is one:

synthkit   this package: cut over margin, the largest of all families, of an audit of all queries together
r          largest Pearson r with a training image, all contrasts as one (Akbar et al. 2025)
DCR        Euclidean distance to the closest record (Park et al. 2018)
AuthPct    that distance over the distance of this record to its own nearest; a copy below 1 (Alaa et al. 2022)
Carlini    the distance over 0.5 times the mean distance of the 50 nearest; a copy below 1 (Carlini et al. 2023)
SSIM       largest structural similarity with a training image, mean over contrasts, windows of 8 x 8 (Wang et al. 2004)
M3         cosine distance of features, nearest training image; a copy below the 5th percentile of such distances
           between training images (its novelty; Sathiyamohan 2026). Its network, RadioDINO, is not at hand; here it is
           the one that comes with synthkit-features, each contrast on its own, mean over contrasts
features   the same with features centred at the mean of the training images (``feature_search`` of the audit)
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from phantom_people import CONTRASTS, SIDE, Slices, joined, make_people
from planted_copies import KINDS, plant
from synthkit_memorization import Params
from synthkit_memorization.investigation import investigate

#: People who are trained on, held out, and beside copies as donors; then come the innocents.
TRAIN, HOLDOUT, DONORS = 40, 20, 20

#: Share of innocent people who may be called copies.
FALSE_POSITIVES = 0.01

FEATURE_BATCH = 256

Float = NDArray[np.float64]

# --------------------------------------------------------------------------------------------------- detectors


@dataclass(frozen=True)
class Suspicions:
    """How suspicious each query is ``(n,)``, more is worse; and from where on the rule itself calls it a copy."""

    values: Float
    own_line: float | None = None


Detector = Callable[[Slices, Slices, Slices], Suspicions]


def synthkit_scores(train: Slices, holdout: Slices, queries: Slices) -> Float:
    """Suspicion ``(n,)`` of each query by the metric ``memorization``: cut over margin; above 1 it is a copy."""
    audit, _ = investigate(
        Params(plants=0), train.dataset("train"), queries.dataset(""), holdout.dataset("holdout"), None, "cpu"
    )
    suspicion: Float = (audit.cuts / np.maximum(audit.margins, 1e-9)).max(axis=1)
    return suspicion


def _synthkit(train: Slices, holdout: Slices, queries: Slices) -> Suspicions:
    return Suspicions(synthkit_scores(train, holdout, queries), 1)


def _pearson(train: Slices, holdout: Slices, queries: Slices) -> Suspicions:
    def directions(slices: Slices) -> NDArray[np.float32]:
        flat = slices.images.reshape(len(slices), -1).astype(np.float32)
        flat -= flat.mean(axis=1, keepdims=True)
        return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)

    return Suspicions((directions(queries) @ directions(train).T).max(axis=1).astype(np.float64))


def _distances(queries: Slices, train: Slices) -> Float:
    """Euclidean, of all pixels of all contrasts, ``(query, training image)``; exact, from integers."""
    x, y = (each.images.reshape(len(each), -1).astype(np.float64) for each in (queries, train))
    squares = (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1) - 2 * x @ y.T
    distances: Float = np.sqrt(np.maximum(squares, 0))
    return distances


def _dcr(train: Slices, holdout: Slices, queries: Slices) -> Suspicions:
    return Suspicions(-_distances(queries, train).min(axis=1))


def _authpct(train: Slices, holdout: Slices, queries: Slices) -> Suspicions:
    distances, among = _distances(queries, train), _distances(train, train)
    np.fill_diagonal(among, np.inf)
    return Suspicions(-distances.min(axis=1) / among.min(axis=1)[distances.argmin(axis=1)], -1)


def _carlini(train: Slices, holdout: Slices, queries: Slices) -> Suspicions:
    distances = np.sort(_distances(queries, train), axis=1)
    return Suspicions(-distances[:, 0] / (0.5 * distances[:, :50].mean(axis=1)), -1)


def _ssim(train: Slices, holdout: Slices, queries: Slices) -> Suspicions:
    """Windows of 8 x 8 at every fourth pixel; with means, variances and covariance of each, by (13) of the paper."""
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    total = np.zeros((len(queries), len(train)), np.float32)
    corners = [(y, x) for y in range(0, SIDE - 7, 4) for x in range(0, SIDE - 7, 4)]
    for contrast in range(len(CONTRASTS)):
        for top, left in corners:
            part = (contrast, slice(top, top + 8), slice(left, left + 8))
            a, b = (each.images[:, *part].reshape(len(each), -1).astype(np.float32) for each in (queries, train))
            mean_a, mean_b = a.mean(axis=1, keepdims=True), b.mean(axis=1)
            a, b = a - mean_a, b - mean_b[:, None]
            variances = (a**2).mean(axis=1, keepdims=True) + (b**2).mean(axis=1)
            light = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
            total += light * (2 * (a @ b.T) / a.shape[1] + c2) / (variances + c2)
    return Suspicions(total.max(axis=1).astype(np.float64) / (len(corners) * len(CONTRASTS)))


class _Features:
    """Two detectors of one network: features of all images are taken once."""

    def __init__(self) -> None:
        self._kept: list[tuple[Slices, NDArray[np.float32]]] = []

    def _of(self, slices: Slices) -> NDArray[np.float32]:
        """Float32 ``(n, contrast, feature)``."""
        for known, features in self._kept:
            if known is slices:
                return features
        from synthkit_features import extractor

        network = extractor()
        flat = slices.images.reshape(-1, SIDE, SIDE)
        parts = [network(flat[start : start + FEATURE_BATCH]) for start in range(0, len(flat), FEATURE_BATCH)]
        self._kept.append((slices, np.concatenate(parts).reshape(len(slices), len(CONTRASTS), -1)))
        return self._kept[-1][1]

    def _directions(self, train: Slices, slices: Slices, centred: bool) -> NDArray[np.float32]:
        """The features of each contrast of length 1, over the root of their number, so that products are means."""
        features = self._of(slices) - self._of(train).mean(axis=0) if centred else self._of(slices)
        units = features / np.maximum(np.linalg.norm(features, axis=2, keepdims=True), 1e-12)
        return (units / np.sqrt(len(CONTRASTS))).reshape(len(slices), -1)

    def m3(self, train: Slices, holdout: Slices, queries: Slices) -> Suspicions:
        known = self._directions(train, train, False)
        among = known @ known.T
        np.fill_diagonal(among, -np.inf)
        nearest = (self._directions(train, queries, False) @ known.T).max(axis=1)
        return Suspicions(nearest.astype(np.float64) - 1, -float(np.percentile(1 - among.max(axis=1), 5)))

    def centred(self, train: Slices, holdout: Slices, queries: Slices) -> Suspicions:
        similarity = self._directions(train, queries, True) @ self._directions(train, train, True).T
        return Suspicions(similarity.max(axis=1).astype(np.float64))


def detectors() -> dict[str, Detector]:
    features = _Features()
    found: dict[str, Detector] = {
        "synthkit": _synthkit,
        "r": _pearson,
        "DCR": _dcr,
        "AuthPct": _authpct,
        "Carlini": _carlini,
        "SSIM": _ssim,
    }
    if find_spec("torch") and find_spec("synthkit_features"):
        return {**found, "M3": features.m3, "features": features.centred}
    print("M3, features: left out, for want of torch or synthkit-features")
    return found


# ------------------------------------------------------------------------------------------------------- rates


def line_of(person_suspicion: Float, rate: float = FALSE_POSITIVES) -> float:
    """The smallest line that at most this share of people are strictly above."""
    return float(np.sort(person_suspicion)[::-1][int(rate * len(person_suspicion))])


def by_person(suspicion: Float, person: NDArray[np.int64]) -> Float:
    """The most suspicious image of each person."""
    return np.array([suspicion[person == who].max() for who in np.unique(person)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, help="a file that the phantom people are kept in")
    parser.add_argument("--seed", type=int, default=2026, help="of the people and of the copies")
    parser.add_argument("--innocents", type=int, default=200, help="people")
    parser.add_argument("--copies", type=int, default=40, help="of each kind")
    parser.add_argument("--only", default="", help="some detectors, with commas between")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes that make people")
    options = parser.parse_args()
    if options.innocents < 1 / FALSE_POSITIVES:
        parser.error(f"a rate of {FALSE_POSITIVES:.0%} by person takes {1 / FALSE_POSITIVES:.0f} innocents")
    found = detectors()
    some = options.only.split(",") if options.only else list(found)
    if unknown := set(some) - set(found):
        parser.error(f"there is no detector {', '.join(sorted(unknown))}; there are {', '.join(found)}")
    people = make_people(TRAIN + HOLDOUT + DONORS + options.innocents, options.seed, options.cache, options.workers)
    train, holdout, donors, innocent = np.split(np.arange(len(people)), np.cumsum([TRAIN, HOLDOUT, DONORS]))
    copies = {kind.name: plant(kind, people, train, donors, options.copies, options.seed) for kind in KINDS}
    queries = [people.slices(innocent), *copies.values()]
    ends = np.cumsum([len(part) for part in queries])[:-1]
    everything = joined(queries)
    known, unseen = people.slices(train), people.slices(holdout)
    table, own = {}, {}
    for name in some:
        suspicions = found[name](known, unseen, everything)
        innocents, *planted = np.split(suspicions.values, ends)
        worst = by_person(innocents, queries[0].person)
        line = line_of(worst)
        table[name] = [float((values > line).mean()) for values in planted]
        own[name] = None if suspicions.own_line is None else float((worst > suspicions.own_line).mean())
        print(f"{name} is done", flush=True)
    _show(table, own, copies, options.innocents)


def _show(
    table: dict[str, list[float]], own: dict[str, float | None], copies: dict[str, Slices], innocents: int
) -> None:
    print(f"\n{TRAIN} people trained on, {HOLDOUT} held out; {innocents} innocent people, {SIDE} x {SIDE} pixels")
    print(f"% of copies found where {FALSE_POSITIVES:.0%} of innocent people are called copies")
    print(f"{'':24s}{'copies':>7s}" + "".join(f"{name:>10s}" for name in table))
    for row, (kind, made) in enumerate(copies.items()):
        print(f"{kind:24s}{len(made):7d}" + "".join(f"{shares[row]:10.0%}" for shares in table.values()))
    print(f"{'mean':24s}{'':7s}" + "".join(f"{np.mean(shares):10.0%}" for shares in table.values()))
    named = "".join(f"{'-' if share is None else f'{share:.0%}':>10s}" for share in own.values())
    print(f"{'innocents, own line':31s}{named}")
    if "synthkit" in table and len(table) > 1:
        ours, best = np.array(table["synthkit"]), np.max([table[name] for name in table if name != "synthkit"], axis=0)
        behind = [kind for kind, mine, theirs in zip(copies, ours, best, strict=True) if mine < theirs]
        print(f"synthkit finds 95 % or more in {(ours >= 0.95).sum()} of {len(ours)} kinds; some peer finds more of:")
        print("; ".join(behind) or "none")


if __name__ == "__main__":
    main()
