"""HD95 and surface Dice of real rater pairs: an Euclidean distance transform (MedPy's formula), MedPy, MONAI."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

np = pytest.importorskip("numpy")
nibabel = pytest.importorskip("nibabel", reason="nibabel is not installed")
ndimage = pytest.importorskip("scipy.ndimage", reason="scipy is not installed")

from synthkit_overlap.surfaces import hausdorff, surface_dice, surface_distances  # noqa: E402

from synthkit.schemes import BRATS  # noqa: E402

DATA = Path(os.environ.get("SYNTHKIT_TEST_DATA") or Path(__file__).resolve().parents[5] / "shared" / "data")
pytestmark = pytest.mark.skipif(
    not (DATA / "brats-mini-raters").is_dir(), reason="real subjects not found, set SYNTHKIT_TEST_DATA"
)

RATED = ("TCGA-FG-6692", "TCGA-DU-7294")
SPACINGS_MM = ((1.0, 1.0, 1.0), (0.9, 1.0, 5.0))


def load(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj).astype(np.uint8)


def pairs(subject: str) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Name, reference and prediction of each region that neither the fusion nor the algorithm lacks."""
    fusion = load(DATA / "brats-mini" / subject / f"{subject}_seg.nii.gz")
    for path in sorted((DATA / "brats-mini-raters" / subject).glob("*_seg_*.nii.gz")):
        rater = load(path)
        for region, values in BRATS.region_values.items():
            reference, prediction = np.isin(fusion, values), np.isin(rater, values)
            if reference.any() and prediction.any():
                yield f"{path.name} {region}", reference, prediction


def by_distance_transform(
    reference: np.ndarray, prediction: np.ndarray, spacing_mm: tuple[float, float, float]
) -> tuple[float, float]:
    """MedPy's recipe: border = mask minus erosion, distances read from a distance transform; both percentiles."""
    used = np.argwhere(reference | prediction)
    box = tuple(slice(low, high + 1) for low, high in zip(used.min(axis=0), used.max(axis=0), strict=True))
    face = ndimage.generate_binary_structure(3, 1)
    borders = [mask ^ ndimage.binary_erosion(mask, face) for mask in (reference[box], prediction[box])]
    first, second = (
        ndimage.distance_transform_edt(~other, sampling=spacing_mm)[own] for own, other in (borders, borders[::-1])
    )
    pooled = np.percentile(np.hstack((first, second)), 95)
    return float(pooled), float(max(np.percentile(first, 95), np.percentile(second, 95)))


@pytest.mark.parametrize("spacing_mm", SPACINGS_MM)
@pytest.mark.parametrize("subject", RATED)
def test_equals_distance_transform(subject: str, spacing_mm: tuple[float, float, float]) -> None:
    n = 0
    for name, reference, prediction in pairs(subject):
        result = hausdorff(reference, prediction, spacing_mm)
        expected = by_distance_transform(reference, prediction, spacing_mm)
        assert (result.pooled_mm, result.directed_mm) == pytest.approx(expected, abs=1e-9), name
        n += 1
    assert n >= 20


def test_whole_tumour_of_expert_and_algorithm() -> None:
    """The conventions differ on one real pair: 3.16 mm pooled, 5.39 mm by the larger directed percentile."""
    subject = "Brats18_CBICA_AAB_1"
    expert = load(DATA / "brats-mini-raters" / subject / f"{subject}_wt.nii.gz") > 0
    algorithm = load(DATA / "brats-mini" / subject / f"{subject}_seg.nii.gz") > 0
    result = hausdorff(expert, algorithm, (1.0, 1.0, 1.0))
    assert result.pooled_mm == pytest.approx(np.sqrt(10), abs=1e-9)
    assert result.directed_mm == pytest.approx(np.sqrt(29), abs=1e-9)


def test_equals_medpy() -> None:
    medpy = pytest.importorskip("medpy.metric.binary", reason="medpy is not installed")
    for name, reference, prediction in list(pairs("TCGA-FG-6692"))[:5]:
        # A box of the pair: MedPy takes seconds for a whole volume, and its answer does not depend on it.
        used = np.argwhere(reference | prediction)
        box = tuple(slice(low, high + 1) for low, high in zip(used.min(axis=0), used.max(axis=0), strict=True))
        for spacing_mm in SPACINGS_MM:
            expected = medpy.hd95(prediction[box], reference[box], voxelspacing=spacing_mm)
            assert hausdorff(reference, prediction, spacing_mm).pooled_mm == pytest.approx(expected, abs=1e-6), name


def test_equals_monai() -> None:
    """Same border voxels and the larger directed percentile.

    MONAI's distances are float32, and so is the rank of its percentile: between two order statistics that
    differ, that shifts its number (1.4e-5 mm on one of these pairs). Its own distances with a float64 rank agree.
    """
    torch = pytest.importorskip("torch", reason="torch is not installed")
    monai_metrics = pytest.importorskip("monai.metrics", reason="monai is not installed")
    monai_utils = pytest.importorskip("monai.metrics.utils", reason="monai is not installed")
    for name, reference, prediction in list(pairs("TCGA-FG-6692"))[:5]:
        ours, theirs = (torch.from_numpy(np.ascontiguousarray(mask)) for mask in (reference, prediction))
        for spacing_mm in SPACINGS_MM:
            directed_mm = hausdorff(reference, prediction, spacing_mm).directed_mm
            _, distances, _ = monai_utils.get_edge_surface_distance(theirs, ours, spacing=spacing_mm, symmetric=True)
            exact = max(np.percentile(item.numpy().astype(np.float64), 95) for item in distances)
            assert directed_mm == pytest.approx(exact, rel=1e-6), name
            published = monai_metrics.compute_hausdorff_distance(
                theirs[None, None], ours[None, None], include_background=True, percentile=95, spacing=spacing_mm
            )
            assert directed_mm == pytest.approx(float(published), abs=1e-4), name


def test_surface_dice_equals_monai() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    monai_metrics = pytest.importorskip("monai.metrics", reason="monai is not installed")
    for name, reference, prediction in list(pairs("TCGA-FG-6692"))[:5]:
        ours, theirs = (torch.from_numpy(np.ascontiguousarray(mask))[None, None] for mask in (reference, prediction))
        for tolerance_mm in (1.0, 2.5):
            published = monai_metrics.compute_surface_dice(
                theirs, ours, class_thresholds=[tolerance_mm], include_background=True, spacing=(1.0, 1.0, 1.0)
            )
            both_ways = surface_distances(reference, prediction, (1.0, 1.0, 1.0))
            assert surface_dice(*both_ways, tolerance_mm) == pytest.approx(float(published), abs=1e-6), name
