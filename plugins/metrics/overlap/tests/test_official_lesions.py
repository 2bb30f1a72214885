"""Lesion-wise scores equal those of the challenges' published code.

``official_lesions.json`` holds what that code answered for the pairs that :func:`pair` makes: for each seed the rules,
the sum of both label volumes (so that other random numbers are noticed), and of each region found, missed and false
lesions, Dice, HD95, and where the code has them the surface Dice at 1.0 and 0.5 mm. ``benchmarks/lesion_scores.py``
made it, with the functions of BraTS-2023-Metrics (43c9052) and BraTS-2024-Metrics (f1131e3), which are not part of
this repository; it makes it again for who has them. Names that newer NumPy, SciPy and pandas dropped were put back.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("scipy", reason="scipy is not installed")

from synthkit_overlap.lesion_rules import RULES  # noqa: E402
from synthkit_overlap.lesions import Wanted, lesion_scores, lesions_by_region  # noqa: E402

ANSWERS = Path(__file__).with_name("official_lesions.json")
N_PAIRS = 240
WANTED = Wanted(hd95=True, tolerances_mm=(1.0, 0.5))

GLIOMA = {"WT": (1, 2, 3), "TC": (1, 3), "NCR": (1,), "ED": (2,), "ET": (3,), "RC": (4,)}
PAEDIATRIC = {"WT": (1, 2, 3, 4), "TC": (1, 2, 3), "ET": (1,), "NET": (2,), "CC": (3,), "ED": (4,)}
#: Rules -> the regions that the challenge scores, in files of its own.
CHALLENGES = {
    "gli2024-as-run": GLIOMA,
    "gli2023": {name: GLIOMA[name] for name in ("WT", "TC", "ET")},
    "ped2024-as-run": PAEDIATRIC,
    "met2024-as-run": {name: GLIOMA[name] for name in ("WT", "TC", "NCR", "ET", "RC")},
    "men2024": {name: GLIOMA[name] for name in ("WT", "TC", "ET")},
    "men-rt2024-as-run": {"GTV": (1,)},
    "ssa2024-as-run": {name: GLIOMA[name] for name in ("WT", "TC", "NCR", "ET")},
    "met2023": {name: GLIOMA[name] for name in ("WT", "TC", "ET")},
}
SPACINGS_MM = ((1.0, 1.0, 1.0), (1.0, 1.0, 1.0), (0.75, 1.0, 2.5), (1.5, 0.5, 1.0))

Pair = tuple[np.ndarray, np.ndarray, tuple[float, float, float]]


def pair(seed: int) -> Pair:
    """Reference, prediction ``(x, y, z)`` with labels up to 4, and spacing in mm: one of eight kinds of mistakes."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(24, 44, 3).tolist())
    values = (2, 3, 1, 4) if seed % 3 == 0 else (2, 3, 1)
    reference = np.zeros(shape, dtype=np.uint8)
    for _ in range(rng.integers(1, 4)):
        _tumour(rng, reference, values)
    for _ in range(rng.integers(0, 7)):
        _blob(rng, reference, int(rng.choice(values)), 3)
    prediction = np.roll(reference, rng.integers(-2, 3, 3), (0, 1, 2))
    for _ in range(rng.integers(0, 7)):
        _blob(rng, prediction, int(rng.choice((0, *values))), 4)
    kind = seed % 8
    if kind == 1:  # lesions around the smallest volume that counts
        for labels in (reference, prediction):
            for _ in range(12):
                start, side = rng.integers(0, np.array(shape) - 4), rng.integers(1, 4, 3)
                labels[tuple(slice(a, a + n) for a, n in zip(start, side, strict=True))] = rng.choice(values)
    elif kind == 2:  # single voxels everywhere
        for labels in (reference, prediction):
            labels[rng.random(shape) < 0.002] = rng.choice(values)
    elif kind == 3:  # plates that touch, or nearly
        x = int(rng.integers(4, shape[0] - 10))
        for labels in (reference, prediction):
            for i, value in enumerate(rng.choice(values, 3)):
                labels[x + 2 * i : x + 2 * i + 2 + int(rng.integers(0, 2)), 4:14, 4 : 14 + int(rng.integers(0, 4))] = (
                    value
                )
    elif kind == 4:  # an empty side, or both
        (reference if rng.random() < 0.5 else prediction)[:] = 0
        if rng.random() < 0.2:
            reference[:], prediction[:] = 0, 0
    elif kind == 5:  # an empty region
        prediction[prediction == rng.choice(values)] = 0
        reference[reference == rng.choice(values)] = 0
    elif kind == 6:  # nothing to do with each other
        prediction[:] = 0
        for _ in range(6):
            _blob(rng, prediction, int(rng.choice(values)), 6)
    return reference, prediction, SPACINGS_MM[seed // 8 % 4]


def _tumour(rng: np.random.Generator, labels: np.ndarray, values: tuple[int, ...]) -> None:
    centre, stretch = rng.integers(6, np.array(labels.shape) - 6), rng.uniform(0.7, 1.4, 3)
    place = np.indices(labels.shape)
    distance = np.sqrt(sum(((place[i] - centre[i]) * stretch[i]) ** 2 for i in range(3)))
    radius = rng.uniform(4, 11)
    for value, share in zip(values, (1, 0.7, 0.4), strict=False):
        labels[distance <= radius * share] = value
    if len(values) > 3:
        labels[(distance <= radius * 0.55) & (place[0] > centre[0])] = values[3]


def _blob(rng: np.random.Generator, labels: np.ndarray, value: int, most: float) -> None:
    centre, radii = rng.integers(0, labels.shape), rng.uniform(1, most, 3)
    place = np.indices(labels.shape)
    labels[sum(((place[i] - centre[i]) / radii[i]) ** 2 for i in range(3)) <= 1] = value


def rules_of(seed: int) -> str:
    """The rules of a pair: all of them in turn, for every kind and spacing."""
    return list(CHALLENGES)[(seed + seed // 8) % len(CHALLENGES)]


def seen_by(rules: str, labels: np.ndarray) -> np.ndarray:
    """Labels as the challenge has them: one only in radiotherapy."""
    return np.isin(labels, (1, 3)).astype(np.uint8) if rules.startswith("men-rt") else labels


def ours(seed: int, rules: str) -> dict[str, list[float]]:
    """Region -> found, missed, false, Dice, HD95, surface Dice at 1.0 and 0.5 mm."""
    reference, prediction, spacing_mm = pair(seed)
    values = CHALLENGES[rules]
    # As NIfTI headers have it: 32 bits.
    spacing_mm = tuple(float(np.float32(value)) for value in spacing_mm)
    sides = seen_by(rules, reference), seen_by(rules, prediction)
    found = lesions_by_region(*sides, spacing_mm, values, values, RULES[rules], WANTED)
    answers = {}
    for region, lesions in found.items():
        scores = lesion_scores(lesions, RULES[rules], WANTED)
        answers[region] = [scores.found, scores.missed, scores.false, scores.dice, scores.hd95_mm, *scores.nsd]
    return answers


def test_equal_to_the_published_code() -> None:
    answers = json.loads(ANSWERS.read_text(encoding="utf-8"))
    assert len(answers) >= 200
    n = 0
    for number, answer in answers.items():
        seed, rules = int(number), answer["rules"]
        reference, prediction, _ = pair(seed)
        assert int(reference.sum()) + int(prediction.sum()) == answer["sum"], "NumPy draws other numbers than it did"
        mine = ours(seed, rules)
        for region, theirs in answer["regions"].items():
            assert mine[region][: len(theirs)] == pytest.approx(theirs, abs=1e-6), (seed, rules, region)
            n += 1
    assert n > 700


def test_every_challenge_and_kind_is_among_them() -> None:
    answers = json.loads(ANSWERS.read_text(encoding="utf-8"))
    seen = {(answer["rules"], int(seed) % 8) for seed, answer in answers.items()}
    assert len(seen) == 8 * len(CHALLENGES)
    cases = [theirs[:3] for answer in answers.values() for theirs in answer["regions"].values()]
    assert sum(case == [0, 0, 0] for case in cases) > 20
    assert all(sum(case[i] > 0 for case in cases) > 50 for i in range(3))
