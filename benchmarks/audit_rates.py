"""Whole audits, from images to verdict: of innocents, of a few copies, of images of nobody, and of misleading ones.

    python benchmarks/audit_rates.py [--cache pool.npz] [--audits 20] [--only innocents,copies,...] [-p NAME=VALUE]

Every audit draws its people anew from a pool of phantoms: training people, held-out people, donors of copies, and the
people whose images stand for a generator's. The metric ``memorization`` runs on them in this process, and its scores
are judged as a run's are. Counted are verdicts, by setting, beside what is wanted and in how many audits at least.
Audits of one pool share people, so the intervals are a little too narrow.

innocents  unseen people: 40, 20, 6 and no held-out people; images of 4, 20 and 80 people. The verdict's stated rate of
           false fails is 5 %
copies     10 copies of each kind (planted_copies.py) among 990 images of innocents, 20 people held out
nobody     images that no generator had to copy to make: random combinations of principal components of the training
           images, means of people, unseen people blurred or at half the resolution
decoys     copies of held-out images, alone and beside copies of training images
blanks     blank images, alone and beside copies of training images
twins      a training person is among the held-out under another id

An audit takes half a minute of processor time, and 5 to 15 s without planted copies (``-p plants=0``), which do not
change what is called a copy; all of them take hours, ``--audits 1 --only blanks --pool 200 -p plants=0`` a minute.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from phantom_people import SLICES, People, Slices, joined, make_people
from planted_copies import KINDS, Kind, changed, kind_of, plant
from synthkit_memorization import DECLARATION
from synthkit_memorization.metrics import score

from synthkit import Score
from synthkit.errors import SynthkitError
from synthkit.judging.intervals import clopper_pearson
from synthkit.judging.policy import Policy
from synthkit.judging.verdict import verdict
from synthkit.registry.parameters import make_params, parse_assignments

#: People trained on and, where a setting says nothing else, held out; donors; innocents beside copies; and copies.
TRAIN, HOLDOUT, DONORS, BESIDE, COPIES = 40, 20, 20, 83, 10

#: Held-out people of the setting that has most; images of nobody in one audit.
MOST_HOLDOUT, NOBODY = 40, 240

REFUSED = "refused"
OUTCOMES = ("pass", "fail", "insufficient evidence", REFUSED)


# ----------------------------------------------------------------------------------------------------- the audit


def audit(train: Slices, holdout: Slices | None, synthetic: Slices, params: Any) -> tuple[str, tuple[str, ...]]:
    """Outcome of the verdict, or "refused", and the reasons; without planted copies no power is asked for."""
    sides = {"train": train.dataset("train"), "synthetic": synthetic.dataset()}
    if holdout is not None:
        sides["holdout"] = holdout.dataset("holdout")
    try:
        found = list(score(metrics=(DECLARATION.name,), params=params, **sides))
        policy = Policy() if params.plants else Policy(required_power=())
        judged = verdict([item.to_dict() for item in found if isinstance(item, Score)], policy)
    except SynthkitError as error:
        return REFUSED, (str(error),)
    return judged.outcome, judged.reasons


# ----------------------------------------------------------------------------------------------------- the settings


class Draw:
    """The people of one audit, drawn without replacement, and its random numbers."""

    def __init__(self, people: People, seed: int, n_train: int, n_holdout: int) -> None:
        self.people, self.rng, self.seed = people, np.random.default_rng(seed), seed
        order = self.rng.permutation(len(people))
        parts = np.split(order, np.cumsum([n_train, n_holdout, DONORS]))
        self._train, self._holdout, self._donors, self._unseen = parts

    @property
    def train(self) -> Slices:
        return self.people.slices(self._train)

    @property
    def holdout(self) -> Slices | None:
        return self.people.slices(self._holdout) if len(self._holdout) else None

    def innocents(self, n: int) -> Slices:
        """All slices of n unseen people."""
        return self.people.slices(self._unseen[:n])

    def copies(self, kind: Kind, n: int = COPIES, of: Sequence[int] | None = None) -> Slices:
        """Copies of training people, or of those given."""
        return plant(kind, self.people, self._train if of is None else of, self._donors, n, self.seed)

    def copies_of_holdout(self, kind: Kind, n: int) -> Slices:
        return self.copies(kind, n, self._holdout)

    def beside(self, *others: Slices) -> Slices:
        """These images and enough of innocents to make 1,000."""
        innocents = self.innocents(BESIDE)
        return joined([*others, first(innocents, max(0, 1000 - sum(map(len, others))))])

    def with_twin(self, kind: Kind) -> tuple[Slices, Slices, int]:
        """Training images; held-out images, the first person among them a training person; and that person."""
        person = int(self._train[0])
        others = self.people.slices(self._holdout[1:])
        twin = changed(kind, self.people.slices([person]), self.seed)
        return self.train, joined([twin, others]), person


Sides = tuple[Slices, Slices | None, Slices]


def first(slices: Slices, n: int) -> Slices:
    return Slices(slices.images[:n], slices.labels[:n], slices.person[:n])


def of_nobody(images: NDArray[np.floating]) -> Slices:
    """Images ``(n, contrast, y, x)`` without labels."""
    pixels = np.clip(np.rint(images), 0, 255).astype(np.uint8)
    return Slices(pixels, np.zeros((len(pixels), *pixels.shape[2:]), np.uint8), np.full(len(pixels), -1))


def components(train: Slices, n_components: int, n: int, rng: np.random.Generator) -> Slices:
    """The mean training image and its first principal components, each times a normal number of its variance."""
    flat = train.images.reshape(len(train), -1).astype(np.float64)
    mean = flat.mean(axis=0)
    _, lengths, directions = np.linalg.svd(flat - mean, full_matrices=False)
    drawn = rng.normal(size=(n, n_components)) * lengths[:n_components] / np.sqrt(len(train))
    return of_nobody((mean + drawn @ directions[:n_components]).reshape(n, *train.images.shape[1:]))


def means(slices: Slices, n_people: int, n: int, rng: np.random.Generator) -> Slices:
    """Means of the same slice of n_people people, drawn anew for each."""
    by_person = slices.images.reshape(-1, SLICES, *slices.images.shape[1:])
    made = [by_person[rng.choice(len(by_person), n_people, replace=False), i % SLICES].mean(axis=0) for i in range(n)]
    return of_nobody(np.stack(made))


@dataclass(frozen=True)
class Setting:
    """What is audited. ``wanted``: verdicts that are right; of all audits at least this share should end so."""

    group: str
    name: str
    make: Callable[[Draw], Sides]
    wanted: tuple[str, ...]
    least: float | None = 0.95
    n_holdout: int = HOLDOUT
    default_audits: int = 20


NOT_FAIL = ("pass", "insufficient evidence", REFUSED)
NOT_PASS = ("fail", "insufficient evidence", REFUSED)


def _plain(make: Callable[[Draw], Slices]) -> Callable[[Draw], Sides]:
    return lambda draw: (draw.train, draw.holdout, make(draw))


def _innocents() -> Iterator[Setting]:
    for held in (MOST_HOLDOUT, HOLDOUT, 6, 0):
        for people in (4, 20, 80):
            name = f"{held or 'nobody'} held out, {people} people"
            make = _plain(partial(Draw.innocents, n=people))
            yield Setting("innocents", name, make, NOT_FAIL, n_holdout=held, default_audits=100)
    few = _plain(lambda draw: first(draw.innocents(7), 80))
    yield Setting("innocents", "20 held out, 80 images", few, ("pass",), least=0.9, default_audits=100)


def _copies() -> Iterator[Setting]:
    for kind in KINDS:
        make = _plain(lambda draw, kind=kind: draw.beside(draw.copies(kind)))
        yield Setting("copies", kind.name, make, ("fail",))


def _nobody() -> Iterator[Setting]:
    def setting(name: str, make: Callable[[Draw], Slices], wanted: tuple[str, ...] = NOT_FAIL) -> Setting:
        return Setting("nobody", name, _plain(make), wanted, least=0.95 if wanted == NOT_FAIL else None)

    for n in (8, 20, 60):
        yield setting(f"{n} principal components", lambda d, n=n: components(d.train, n, NOBODY, d.rng))
    for n in (2, 3, 5):
        yield setting(f"means of {n} unseen people", lambda d, n=n: means(d.innocents(BESIDE), n, NOBODY, d.rng))
    for name in ("blur 1 px", "half resolution"):
        yield setting(f"unseen people, {name}", lambda d, k=kind_of(name): changed(k, d.innocents(20), d.seed))
    # Each is half of a training image, or less: where this begins to be a copy is not for a benchmark to say.
    for n in (2, 3, 5):
        yield setting(f"means of {n} training people", lambda d, n=n: means(d.train, n, NOBODY, d.rng), OUTCOMES)


def _decoys() -> Iterator[Setting]:
    noisy, copied = kind_of("noise 25"), kind_of("elastic, at most 3 px")
    for n in (6, 18, 60):
        alone = _plain(lambda d, n=n: d.beside(d.copies_of_holdout(noisy, n)))
        yield Setting("decoys", f"{n} noisy copies of held-out images", alone, ("fail",))
        both = _plain(lambda d, n=n: d.beside(d.copies_of_holdout(noisy, n), d.copies(copied, 40)))
        yield Setting("decoys", f"{n} and 40 copies, {copied.name}", both, ("fail",))


def _blanks() -> Iterator[Setting]:
    def blank(draw: Draw, n: int) -> Slices:
        return of_nobody(np.zeros((n, *draw.people.images.shape[2:])))

    yield Setting("blanks", "20 alone", _plain(lambda d: blank(d, 20)), ("insufficient evidence", REFUSED))
    noisy = kind_of("noise 10")
    both = _plain(lambda d: joined([blank(d, 2720), d.copies(noisy, 80)]))
    yield Setting("blanks", f"2,720 and 80 copies, {noisy.name}", both, ("fail",))


def _twins() -> Iterator[Setting]:
    def sides(draw: Draw, kind: Kind, copies: int) -> Sides:
        train, holdout, person = draw.with_twin(kind)
        planted = [draw.copies(kind_of("noise 10"), copies, [person])] if copies else []
        return train, holdout, draw.beside(*planted)

    for name in ("exact", "noise 10", "shift 1 px", "gamma 1.5"):
        kind = kind_of(name)
        yield Setting("twins", f"{name}, innocents", partial(sides, kind=kind, copies=0), NOT_FAIL)
        yield Setting("twins", f"{name}, 12 copies of the twin", partial(sides, kind=kind, copies=12), NOT_PASS)


def settings() -> list[Setting]:
    return [*_innocents(), *_copies(), *_nobody(), *_decoys(), *_blanks(), *_twins()]


# -------------------------------------------------------------------------------------------------- many audits

_AT_HAND: dict[str, Any] = {}


def _begin(people: People, params: Any, cores: Any) -> None:
    """A worker keeps to one core, so that the search starts one thread."""
    _AT_HAND.update(people=people, params=params, settings=settings())
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {cores.get()})


def _one(task: tuple[int, int, int]) -> tuple[str, tuple[str, ...], float]:
    which, seed, n_train = task
    setting: Setting = _AT_HAND["settings"][which]
    start = time.monotonic()
    draw = Draw(_AT_HAND["people"], seed, n_train, setting.n_holdout)
    outcome, reasons = audit(*setting.make(draw), params=_AT_HAND["params"])
    return outcome, reasons, time.monotonic() - start


def outcomes(people: People, params: Any, tasks: Sequence[tuple[int, int, int]], workers: int) -> Iterable[Any]:
    context = get_context("fork")  # the people are shared, not copied
    cores = context.SimpleQueue()
    available = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    for worker in range(workers):
        cores.put(available[worker % len(available)])
    with ProcessPoolExecutor(workers, context, _begin, (people, params, cores)) as pool:
        yield from pool.map(_one, tasks)


def row(setting: Setting, found: list[tuple[str, tuple[str, ...], float]], reasons: bool) -> str:
    """A line of the table, and below it why audits ended otherwise, if asked for."""
    counts, n = Counter(outcome for outcome, _, _ in found), len(found)
    right = sum(counts[outcome] for outcome in setting.wanted)
    low, high = clopper_pearson(right, n)
    wanted = {NOT_FAIL: "not fail", NOT_PASS: "not pass", OUTCOMES: "any"}.get(setting.wanted, setting.wanted[0])
    least = "" if setting.least is None else f"{setting.least:.0%}"
    measured = "" if setting.least is None else f"{right / n:4.0%} ({low:.0%} to {high:.0%})"
    missed = "" if setting.least is None or right >= setting.least * n else "  MISSED"
    line = f"{setting.name:40s}" + "".join(f"{counts[outcome]:8d}" for outcome in OUTCOMES)
    lines = [f"{line}  {wanted:21s}{least:>5s}  {measured}{missed}"]
    if reasons:
        others = Counter(f"{o}: {why[0]}" for o, why, _ in found if o not in setting.wanted and why)
        lines += [f"    {times} x {text}" for text, times in others.most_common(3)]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, help="a file that the phantom people are kept in")
    parser.add_argument("--pool", type=int, default=600, help="phantom people to draw from")
    parser.add_argument("--seed", type=int, default=20, help="of the people; audits count on from here")
    parser.add_argument("--train", type=int, default=TRAIN, help="people trained on")
    parser.add_argument("--audits", type=int, help="of each setting; by default 100 of innocents, 20 of the others")
    parser.add_argument("--only", default="", help="groups, with commas between")
    parser.add_argument(
        "--names", default="", help="regular expression in the names of settings: `20 held out` or `shift|crop`"
    )
    parser.add_argument("--reasons", action="store_true", help="say why audits end as is not wanted")
    parser.add_argument("-p", dest="params", action="append", default=[], metavar="NAME=VALUE", help="of the metric")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    known = list(dict.fromkeys(setting.group for setting in settings()))
    groups = options.only.split(",") if options.only else known
    if unknown := set(groups) - set(known):
        parser.error(f"there is no group {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    chosen = [i for i, s in enumerate(settings()) if s.group in groups and re.search(options.names, s.name)]
    if not chosen:
        parser.error(f"no setting of {', '.join(groups)} has {options.names!r} in its name")
    if options.pool < (least := options.train + MOST_HOLDOUT + DONORS + BESIDE):
        parser.error(f"audits of {options.train} training people take a pool of {least}")
    counts = [options.audits or settings()[i].default_audits for i in chosen]
    tasks = [(i, options.seed + k, options.train) for i, n in zip(chosen, counts, strict=True) for k in range(n)]
    people = make_people(options.pool, options.seed, options.cache, options.workers)
    params = make_params(DECLARATION, parse_assignments(options.params))
    results = iter(outcomes(people, params, tasks, options.workers))
    seconds, group = [], ""
    for i, n in zip(chosen, counts, strict=True):
        setting = settings()[i]
        if setting.group != group:
            group = setting.group
            named = "".join(f"{name:>8s}" for name in ("pass", "fail", "insuff.", REFUSED))
            print(f"\n{group:40s}{named}  {'wanted':18s}at least  measured")
        found = [next(results) for _ in range(n)]
        seconds += [each[2] for each in found]
        print(row(setting, found, options.reasons), flush=True)
    print(f"\n{len(seconds)} audits; median {np.median(seconds):.1f} s each", file=sys.stderr)


if __name__ == "__main__":
    main()
