"""The cases of the peers' own test suites, run through synthkit-overlap: equal, another convention, or wrong.

    python benchmarks/peer_suites.py FOLDER

FOLDER holds clones of the peers, as many as are wanted; nothing of them is part of synthkit:

    git clone https://github.com/google-deepmind/surface-distance
    git clone https://github.com/Project-MONAI/MONAI
    git clone https://github.com/Project-MONAI/MetricsReloaded
    git clone https://github.com/BrainLesion/panoptica
    git clone https://github.com/loli/medpy

and their suites need ``pip install absl-py parameterized scikit-image connected-components-3d ruamel.yaml plotly``.

Each suite runs as it is, while every call of a measure that we have (Dice, Hausdorff distance, its 95th percentile,
surface Dice) is written down with its masks and its answer. MedPy's suite calls none of them, so MedPy is asked about
the cases of all others. Our number is that of the setting that does as the peer does (``hausdorff_rule``, ``borders``).

Where it differs, a convention must explain the difference: either a mask is empty and so nothing is defined, or our
own distances, taken by the convention, give the peer's number. What nothing explains is wrong; the exit code says so.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import importlib.util
import inspect
import io
import math
import pickle
import subprocess
import sys
import tempfile
import unittest
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from synthkit_overlap.comparison import dice
from synthkit_overlap.surfaces import Hausdorff, border_pair, surface_dice, surface_distances
from synthkit_overlap.surfels import SurfaceElements, surface_elements, surfel_dice, surfel_hausdorff

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]

PEERS = ("surface-distance", "MONAI", "MetricsReloaded", "panoptica", "medpy")
#: Files of the suites that call what we have; MedPy's own has none.
SUITES = {
    "surface-distance": ["surface_distance_test.py"],
    "MONAI": [
        "tests/metrics/test_hausdorff_distance.py",
        "tests/metrics/test_surface_dice.py",
        "tests/metrics/test_compute_meandice.py",
    ],
    "MetricsReloaded": ["test/test_metrics/test_pairwise_measures.py"],
    "panoptica": ["unit_tests/test_metrics.py"],
}
#: MONAI computes in single precision, also the rank of its percentile.
CLOSE = {"MONAI": 1e-4}
# Slices of a picture are so thick that what is nearest lies in the same one.
_THICK_MM = 1e6


@dataclass(frozen=True)
class Case:
    """One answer of a peer. ``measure`` is dice, hd, hd95 or nsd; masks have two or three axes, as the peer got them.

    ``percentile`` is of hd95 and ``tolerance_mm`` of nsd; ``rule`` and ``borders`` are our settings that do as the peer
    does; ``special`` names what it was asked for that we do not offer.
    """

    peer: str
    measure: str
    reference: Mask
    prediction: Mask
    theirs: float
    spacing_mm: tuple[float, ...] = ()
    rule: str = "directed-max"
    borders: str = "voxels"
    tolerance_mm: float = 0.0
    special: str = ""
    directed: bool = False

    @property
    def spacing(self) -> tuple[float, ...]:
        return self.spacing_mm or (1.0,) * self.reference.ndim

    @property
    def key(self) -> str:
        masks = self.reference.tobytes() + self.prediction.tobytes()
        rest = [
            self.measure,
            self.reference.shape,
            self.spacing,
            self.rule,
            self.borders,
            self.tolerance_mm,
            self.special,
        ]
        return f"{self.peer} {rest} {hash(masks)}"


# ------------------------------------------------------------------------------------------------- our numbers


def solid(case: Case) -> tuple[Mask, Mask, tuple[float, ...]]:
    """The masks as volumes: a picture is one slice, a row one line of it."""
    missing = 3 - case.reference.ndim
    masks = [np.ascontiguousarray(m).reshape(*m.shape, *(1,) * missing) for m in (case.reference, case.prediction)]
    return masks[0], masks[1], (*case.spacing, *(1.0,) * missing)


def number(measure: str, rule: str, surface: Hausdorff, near: float) -> float:
    if measure == "nsd":
        return near
    if measure == "hd":
        return surface.maximum_mm
    return surface.pooled_mm if rule == "pooled" else surface.directed_mm


def ours(case: Case) -> float | None:
    """By the setting that does as the peer does; None where nothing is defined."""
    reference, prediction, spacing_mm = solid(case)
    if case.measure == "dice":
        return dice(reference, prediction)
    if not reference.any() or not prediction.any():
        # The metric gives a missed or false region the surface Dice 0; a distance is not defined.
        return 0.0 if case.measure == "nsd" and (reference.any() or prediction.any()) else None
    if case.borders == "surfels":
        elements = surface_elements(reference, prediction, spacing_mm)
        return number(case.measure, case.rule, surfel_hausdorff(*elements), surfel_dice(*elements, case.tolerance_mm))
    return of_voxels(case, *surface_distances(reference, prediction, spacing_mm))


def of_voxels(case: Case, first: Floats, second: Floats) -> float:
    return number(case.measure, case.rule, Hausdorff.of(first, second), surface_dice(first, second, case.tolerance_mm))


# ------------------------------------------------------------------------------------------------- conventions


def in_the_plane(case: Case) -> tuple[Floats, Floats]:
    """Distances of pixels of which a neighbour in the plane is outside. Of a volume of one slice all are."""
    axes = range(case.reference.ndim)

    def border_of(box: Mask) -> Mask:
        inside = box.copy()
        for axis in axes:  # thanks to the margin nothing comes around
            inside &= np.roll(box, 1, axis) & np.roll(box, -1, axis)
        border: Mask = box & ~inside
        return border

    return border_pair(*solid(case), border_of).distances_mm()


def contours(case: Case) -> tuple[SurfaceElements, SurfaceElements]:
    """Elements of the outline of a picture, by length: what three very thick slices of it have more than two.

    One slice between others: its faces are not among them, and what is nearest lies in it.
    """
    masks, spacing_mm = solid(case)[:2], (*solid(case)[2][:2], _THICK_MM)
    two, three = (surface_elements(*(np.repeat(mask, n, axis=2) for mask in masks), spacing_mm) for n in (2, 3))
    sides = []
    for less, more in zip(two, three, strict=True):
        distances = np.round(np.concatenate((more.distances_mm, less.distances_mm)), 9)
        distances, which = np.unique(distances, return_inverse=True)
        areas = np.bincount(which, np.concatenate((more.areas_mm2, -less.areas_mm2)))
        there = areas > 1e-6 * _THICK_MM
        sides.append(SurfaceElements(distances[there], areas[there]))
    return sides[0], sides[1]


def by_convention(case: Case) -> Iterator[tuple[str, float]]:
    """Names of conventions, and what our own distances give by each."""
    reference, prediction, spacing_mm = solid(case)
    first, second = surface_distances(reference, prediction, spacing_mm)
    flat = case.reference.ndim < 3
    sources = [("", (first, second))]
    if flat and case.borders == "voxels":
        sources.insert(0, ("borders in the plane", in_the_plane(case)))
        yield "borders in the plane", of_voxels(case, *sources[0][1])
    for borders, (one, other) in sources:
        for name, value in reductions(case, one, other):
            yield " and ".join(part for part in (borders, name) if part), value
    elements = surface_elements(reference, prediction, spacing_mm)
    yield (
        "surface elements",
        number(case.measure, "directed-max", surfel_hausdorff(*elements), surfel_dice(*elements, case.tolerance_mm)),
    )
    if flat:
        outline = contours(case)
        yield (
            "elements of the outline in the plane",
            number(case.measure, case.rule, surfel_hausdorff(*outline), surfel_dice(*outline, case.tolerance_mm)),
        )


def reductions(case: Case, to_prediction: Floats, to_reference: Floats) -> Iterator[tuple[str, float]]:
    """What others make of the distances."""
    if case.measure == "nsd":
        shares = [float((side <= case.tolerance_mm).mean()) for side in (to_prediction, to_reference)]
        yield "mean of the shares of both borders", sum(shares) / 2
    elif case.directed and case.measure == "hd":
        for side in (to_prediction, to_reference):
            yield "one direction alone", float(side.max())
    elif case.directed:
        for side in (to_prediction, to_reference):
            yield "one direction alone", float(np.percentile(side, 95))


def verdict(case: Case) -> str:
    """Equal, the convention that explains the difference, or wrong."""
    close, value = CLOSE.get(case.peer, 1e-6), ours(case)
    if value is not None and math.isclose(value, case.theirs, abs_tol=close):
        return "equal"
    if not case.reference.any() or not case.prediction.any():
        both = not case.reference.any() and not case.prediction.any()
        return f"{'both masks are' if both else 'a mask is'} empty: {case.theirs:g} there, {told(value)} here"
    if case.measure != "dice":
        for name, other in by_convention(case):
            if math.isclose(other, case.theirs, abs_tol=close):
                return name
    return case.special or "wrong"


def told(value: float | None) -> str:
    return "not defined, both_empty and hausdorff_one_empty decide" if value is None else f"{value:g}"


# ---------------------------------------------------------------------------------------------- listening to a suite

Call = Callable[[Mapping[str, Any], Any], Iterator[Case]]


def listen(owner: Any, name: str, cases: list[Case], heard: Call) -> None:
    """Have the calls of a function or method written down; what cannot be read as masks is not."""
    original = getattr(owner, name)
    signature = inspect.signature(original)

    @functools.wraps(original)
    def called(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        cases.extend(heard(bound.arguments, result))
        return result

    setattr(owner, name, called)


def mask_of(array: Any) -> Mask:
    return np.array(array).astype(bool)


def surface_distance_suite(root: Path, cases: list[Case]) -> None:
    spec = importlib.util.spec_from_file_location(
        "surface_distance", root / "__init__.py", submodule_search_locations=[str(root)]
    )
    assert spec is not None and spec.loader is not None
    peer = importlib.util.module_from_spec(spec)
    sys.modules["surface_distance"] = peer
    spec.loader.exec_module(peer)
    asked: dict[int, Mapping[str, Any]] = {}
    kept = []  # so that no other dictionary gets the same id

    def masks(call: Mapping[str, Any], result: Any) -> Iterator[Case]:
        asked[id(result)] = dict(call)
        kept.append(result)
        return iter(())

    def case(call: Mapping[str, Any], measure: str, theirs: float, tolerance_mm: float = 0.0) -> Iterator[Case]:
        if (of := asked.get(id(call["surface_distances"]))) is None:  # distances that the suite wrote down itself
            return
        both = mask_of(of["mask_gt"]), mask_of(of["mask_pred"])
        spacing = tuple(float(value) for value in of["spacing_mm"])
        yield Case("surface-distance", measure, *both, theirs, spacing, borders="surfels", tolerance_mm=tolerance_mm)

    def robust(call: Mapping[str, Any], result: Any) -> Iterator[Case]:
        yield from case(call, {100: "hd", 95: "hd95"}[call["percent"]], float(result))

    def near(call: Mapping[str, Any], result: Any) -> Iterator[Case]:
        yield from case(call, "nsd", float(result), float(call["tolerance_mm"]))

    def overlap(call: Mapping[str, Any], result: Any) -> Iterator[Case]:
        yield Case("surface-distance", "dice", mask_of(call["mask_gt"]), mask_of(call["mask_pred"]), float(result))

    listen(peer, "compute_surface_distances", cases, masks)
    listen(peer, "compute_robust_hausdorff", cases, robust)
    listen(peer, "compute_surface_dice_at_tolerance", cases, near)
    listen(peer, "compute_dice_coefficient", cases, overlap)


def monai_suite(root: Path, cases: list[Case]) -> None:
    distance, near, overlap = (
        importlib.import_module(f"monai.metrics.{name}") for name in ("hausdorff_distance", "surface_dice", "meandice")
    )

    def each(call: Mapping[str, Any], result: Any) -> Iterator[tuple[int, Mask, Mask, float, tuple[float, ...]]]:
        """Channel, reference, prediction, answer, spacing."""
        first = 0 if call["include_background"] or call["y"].shape[1] == 1 else 1
        spacing = call["spacing"]
        for image, answers in enumerate(np.asarray(result, np.float64)):
            one = spacing[image] if isinstance(spacing, (list, tuple)) and np.ndim(spacing) == 2 else spacing
            for channel, theirs in enumerate(answers.tolist()):
                masks = [mask_of(call[name][image, first + channel].cpu()) for name in ("y", "y_pred")]
                n = masks[0].ndim
                mm = () if one is None else tuple(np.broadcast_to(np.asarray(one, float), n).tolist())
                yield channel, masks[0], masks[1], theirs, mm

    def special(call: Mapping[str, Any]) -> str:
        metric = call["distance_metric"]
        return "" if metric == "euclidean" else f"not offered here: {metric} distance"

    def hausdorff(call: Mapping[str, Any], result: Any) -> Iterator[Case]:
        percentile = call["percentile"]
        other = "" if percentile in (None, 95, 100) else f"not offered here: percentile {percentile:g}"
        measure = "hd95" if percentile == 95 else "hd"
        for _, reference, prediction, theirs, mm in each(call, result):
            yield Case(
                "MONAI",
                measure,
                reference,
                prediction,
                theirs,
                mm,
                special=other or special(call),
                directed=call["directed"],
            )

    def surface(call: Mapping[str, Any], result: Any) -> Iterator[Case]:
        for channel, reference, prediction, theirs, mm in each(call, result):
            tolerance, borders = float(call["class_thresholds"][channel]), "voxels"
            borders = "surfels" if call["use_subvoxels"] else "voxels"
            yield Case(
                "MONAI", "nsd", reference, prediction, theirs, mm,
                borders=borders, tolerance_mm=tolerance, special=special(call),
            )  # fmt: skip

    def channel(call: Mapping[str, Any], result: Any) -> Iterator[Case]:
        yield Case("MONAI", "dice", mask_of(call["y"].cpu()), mask_of(call["y_pred"].cpu()), float(result))

    listen(distance, "compute_hausdorff_distance", cases, hausdorff)
    listen(near, "compute_surface_dice", cases, surface)
    listen(overlap.DiceHelper, "compute_channel", cases, channel)


def metrics_reloaded_suite(root: Path, cases: list[Case]) -> None:
    measures = importlib.import_module("MetricsReloaded.metrics.pairwise_measures").BinaryPairwiseMeasures

    def heard(measure: str) -> Call:
        def call(arguments: Mapping[str, Any], result: Any) -> Iterator[Case]:
            peer = arguments["self"]
            tolerance, percentile = peer.dict_args.get("nsd", 1), peer.dict_args.get("hd_perc", 95)
            other = f"not offered here: percentile {percentile}" if measure == "hd95" and percentile != 95 else ""
            both = mask_of(peer.ref), mask_of(peer.pred)
            spacing = () if peer.pixdim is None else tuple(map(float, peer.pixdim))
            yield Case(
                "MetricsReloaded", measure, *both, float(result), spacing,
                tolerance_mm=float(tolerance), special=other,
            )  # fmt: skip

        return call

    listen(measures, "dsc", cases, heard("dice"))
    listen(measures, "normalised_surface_distance", cases, heard("nsd"))
    listen(measures, "measured_hausdorff_distance", cases, heard("hd"))
    listen(measures, "measured_hausdorff_distance_perc", cases, heard("hd95"))


def panoptica_suite(root: Path, cases: list[Case]) -> None:
    names = {
        "dice": ("dice", "_compute_dice_coefficient"),
        "hd": ("hausdorff_distance", "_compute_hausdorff_distance"),
        "hd95": ("hausdorff_distance", "_compute_hausdorff_distance95"),
        "nsd": ("normalized_surface_dice", "_compute_normalized_surface_dice"),
    }

    def heard(measure: str) -> Call:
        def call(arguments: Mapping[str, Any], result: Any) -> Iterator[Case]:
            both = mask_of(arguments["reference"]), mask_of(arguments["prediction"])
            given = arguments.get("voxelspacing")
            spacing = () if given is None else tuple(np.broadcast_to(np.asarray(given, float), both[0].ndim).tolist())
            tolerance = arguments.get("threshold")
            if tolerance is None:
                tolerance = min(spacing) if spacing else 0.5
            special = "" if arguments.get("connectivity", 1) == 1 else "not offered here: borders by more neighbours"
            if max(np.max(arguments[name], initial=0) for name in ("reference", "prediction")) > 1:
                special = "label maps given as masks: values are added up there"
            yield Case(
                "panoptica", measure, *both, float(result), spacing,
                rule="pooled", tolerance_mm=float(tolerance), special=special,
            )  # fmt: skip

        return call

    for measure, (module, name) in names.items():
        listen(importlib.import_module(f"panoptica.metrics.{module}"), name, cases, heard(measure))


LISTEN = {
    "surface-distance": surface_distance_suite,
    "MONAI": monai_suite,
    "MetricsReloaded": metrics_reloaded_suite,
    "panoptica": panoptica_suite,
}


def run_suite(peer: str, root: Path, answers: Path) -> int:
    """Run a suite in this process and write down its cases."""
    sys.path.insert(0, str(root))
    cases: list[Case] = []
    LISTEN[peer](root, cases)
    n_run = n_failed = 0
    for number, name in enumerate(SUITES[peer]):
        spec = importlib.util.spec_from_file_location(f"peer_tests_{number}", root / name)
        assert spec is not None and spec.loader is not None
        tests = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = tests
        spec.loader.exec_module(tests)
        suite = unittest.defaultTestLoader.loadTestsFromModule(tests)
        functions = [
            value for key, value in vars(tests).items() if key.startswith("test_") and inspect.isfunction(value)
        ]
        suite.addTests(unittest.FunctionTestCase(function) for function in functions)
        done = unittest.TextTestRunner(stream=io.StringIO()).run(suite)
        n_run, n_failed = n_run + done.testsRun, n_failed + len(done.failures) + len(done.errors)
        for test, text in (*done.failures, *done.errors):
            print(f"{test}: {text.strip().splitlines()[-1]}", file=sys.stderr)
    print(f"{n_run} tests, {n_failed} do not pass as they are")
    unique = {case.key: case for case in cases}
    answers.write_bytes(pickle.dumps(list(unique.values())))
    return 0


def asked_of_medpy(root: Path, cases: Sequence[Case]) -> Iterator[Case]:
    """MedPy's answers to the cases of the others."""
    sys.path.insert(0, str(root))
    binary = importlib.import_module("medpy.metric.binary")
    masks = {(case.reference.tobytes(), case.prediction.tobytes(), case.spacing): case for case in cases}
    for case in masks.values():
        both = case.prediction, case.reference
        yield Case("medpy", "dice", case.reference, case.prediction, float(binary.dc(*both)))
        if case.reference.any() and case.prediction.any():
            for measure, function in (("hd", binary.hd), ("hd95", binary.hd95)):
                theirs = float(function(*both, voxelspacing=case.spacing))
                yield Case("medpy", measure, case.reference, case.prediction, theirs, case.spacing, rule="pooled")


# ---------------------------------------------------------------------------------------------------- the result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="holds clones of the peers")
    parser.add_argument("--suite", choices=tuple(SUITES), help=argparse.SUPPRESS)
    parser.add_argument("--answers", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.suite:
        return run_suite(options.suite, (options.folder / options.suite).resolve(), options.answers)
    here = [peer for peer in PEERS if (options.folder / peer).is_dir()]
    if not here:
        parser.error(f"{options.folder} holds none of {', '.join(PEERS)}")
    cases: list[Case] = []
    for peer in here:
        if peer in SUITES:
            cases += heard_from(peer, options.folder)
    if "medpy" in here:
        cases += asked_of_medpy((options.folder / "medpy").resolve(), cases)
    for peer in PEERS:
        if peer not in here:
            print(f"{peer}: not in {options.folder}, left out")
    return report(here, cases)


def heard_from(peer: str, folder: Path) -> list[Case]:
    """The cases of a suite, run in a process of its own: suites have modules of the same names."""
    with tempfile.TemporaryDirectory() as scratch:
        answers = Path(scratch) / "answers"
        command = [sys.executable, __file__, str(folder), "--suite", peer, "--answers", str(answers)]
        done = subprocess.run(command, capture_output=True, text=True)
        if not answers.exists():
            sys.exit(f"{peer}: its suite cannot be run\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        lines = [line for line in done.stdout.splitlines() if line.strip()]
        print(f"{peer}: {lines[-1].strip('= ')}")
        found: list[Case] = pickle.loads(answers.read_bytes())
        return found


def report(peers: Sequence[str], cases: Sequence[Case]) -> int:
    n_wrong = 0
    for peer in peers:
        verdicts = [(case.measure, verdict(case)) for case in cases if case.peer == peer]
        counts = Counter(verdicts)
        equal = sum(n for (_, text), n in counts.items() if text == "equal")
        wrong = sum(n for (_, text), n in counts.items() if text == "wrong")
        n_wrong += wrong
        print(
            f"\n{peer}: {len(verdicts)} cases, {equal} equal, {len(verdicts) - equal - wrong} convention, {wrong} wrong"
        )
        for (measure, text), n in sorted(counts.items()):
            print(f"  {measure:5s}{n:5d}  {text}")
    print(f"\n{len(cases)} cases, {n_wrong} wrong")
    return int(n_wrong > 0)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    sys.modules["peer_suites"] = sys.modules["__main__"]
    sys.exit(main())
