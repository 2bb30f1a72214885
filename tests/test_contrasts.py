"""Contrasts are told apart by what they show: on made-up heads, on the phantom and on real subjects."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from synthkit.data import naming, phantom
from synthkit.data.dataset import Dataset
from synthkit.data.exporting import export_dataset
from synthkit.data.importing import import_images
from synthkit.data.named_schemes import SCHEMES
from synthkit.data.naming import (
    NAMES,
    NameFinding,
    Signatures,
    brain_mask,
    check_names,
    healthy_medians,
)
from synthkit.data.prepare import prepare
from synthkit.data.slices import SliceProtocol
from synthkit.data.writer import DatasetWriter
from synthkit.schemes import BRATS

#: Grey level of CSF, grey and white matter, necrotic core, oedema and enhancing tumour, by contrast.
_LEVELS = {
    "t1": (30, 90, 120, 70, 100, 95),
    "t1ce": (30, 90, 120, 70, 100, 190),
    "t2": (220, 100, 75, 180, 150, 140),
    "flair": (35, 110, 95, 130, 190, 170),
}
identify, signatures = (partial(of, scheme=BRATS) for of in (naming.identify, naming.signatures))
_PERMUTATIONS = list(permutations(range(4)))


def heads(n: int = 12, *, enhancing: bool = True, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """``n`` slices of a head with a ventricle, a cortex and a tumour, 64 x 64, in the order of ``NAMES``."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:64, :64] - 31.5
    images, labels = np.zeros((n, 4, 64, 64), np.uint8), np.zeros((n, 64, 64), np.uint8)
    for i in range(n):
        radius = np.hypot(x / rng.uniform(22, 26), y / rng.uniform(25, 29))
        tissue = np.select([np.hypot(x, y) < 5, radius < 0.75, radius < 0.95, radius < 1], [0, 2, 1, 0], -1)
        rings = np.hypot(x - 12, y - rng.uniform(-4, 4))
        for value, limit in ((2, 7.0), (4 if enhancing else 1, 4.5), (1, 2.5)):
            labels[i][rings < limit] = value
        index = np.select([labels[i] == 1, labels[i] == 2, labels[i] == 4], [3, 4, 5], tissue)
        for c, name in enumerate(NAMES):
            levels = np.array([*_LEVELS[name], 0], dtype=float)  # -1, outside, is the last one
            plane = levels[index] + (index >= 0) * rng.normal(0, 5, index.shape)
            images[i, c] = np.clip(plane, 0, 255)
    return images, labels


def wrong(findings: Sequence[NameFinding]) -> dict[str, str | None]:
    return {finding.contrasts[0]: finding.looks_like for finding in findings if finding.looks_like is not None}


def undecided(findings: Sequence[NameFinding]) -> set[tuple[str, ...]]:
    return {finding.contrasts for finding in findings if finding.looks_like is None}


def expected(order: Sequence[int]) -> dict[str, str]:
    """What is wrong if channel j, named ``NAMES[j]``, holds contrast ``NAMES[order[j]]``."""
    return {NAMES[j]: NAMES[k] for j, k in enumerate(order) if j != k}


def reordered(found: Signatures, order: Sequence[int]) -> Signatures:
    channels = list(order)
    return Signatures(
        found.quantiles[:, channels],
        found.oedema[:, channels],
        found.enhancing[:, channels],
        found.level[:, channels],
        found.rho[:, channels][:, :, channels],
    )


# ---------------------------------------------------------------------------------------------- made-up heads


def test_right_names_give_no_findings() -> None:
    assert identify(*heads(), NAMES) == []


@pytest.mark.parametrize("order", _PERMUTATIONS[1:])
def test_every_exchange_of_channels_is_found(order: tuple[int, ...]) -> None:
    images, labels = heads()
    findings = identify(images[:, list(order)], labels, NAMES)
    assert wrong(findings) == expected(order)
    assert not undecided(findings)


def test_the_order_of_the_channels_does_not_matter() -> None:
    images, labels = heads()
    assert identify(images[:, [3, 2, 0, 1]], labels, ("flair", "t2", "t1", "t1ce")) == []


@pytest.mark.parametrize("pair", [("t1", "t1ce"), ("t1", "t2"), ("t2", "flair"), ("t1ce", "flair")])
def test_two_contrasts_are_enough(pair: tuple[str, str]) -> None:
    images, labels = heads()
    channels = [NAMES.index(name) for name in pair]
    assert identify(images[:, channels], labels, pair) == []
    assert wrong(identify(images[:, channels[::-1]], labels, pair)) == {pair[0]: pair[1], pair[1]: pair[0]}


def test_without_enhancing_tumour_t1_and_t1ce_are_not_judged() -> None:
    images, labels = heads(enhancing=False)
    for order in ([0, 1, 2, 3], [1, 0, 2, 3]):
        findings = identify(images[:, order], labels, NAMES)
        assert wrong(findings) == {} and undecided(findings) == {("t1", "t1ce")}
        assert "enhancing" in findings[0].sentence
    assert wrong(identify(images[:, [0, 1, 3, 2]], labels, NAMES)) == {"t2": "flair", "flair": "t2"}


def test_three_channels_in_a_ring_are_not_named_beyond_the_evidence() -> None:
    """T1 and T1ce cannot be told from three enhancing slices; that T2 is elsewhere can."""
    images, labels = heads(enhancing=False)
    few, few_labels = heads(3, seed=1)
    ring = np.concatenate([images, few])[:, [1, 2, 0, 3]]
    findings = identify(ring, np.concatenate([labels, few_labels]), NAMES)
    assert wrong(findings) == {"t1ce": "t2", "t2": "t1ce"} and undecided(findings) == {("t1", "t1ce")}


def test_without_labels_t2_and_flair_are_still_found() -> None:
    images, labels = heads()
    findings = identify(images[:, [0, 1, 3, 2]], np.zeros_like(labels), NAMES)
    assert wrong(findings) == {"t2": "flair", "flair": "t2"}
    assert undecided(findings) == {("t1", "t1ce")}


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(0.4, 1.0), min_size=4, max_size=4))
def test_the_scale_of_a_channel_does_not_matter(factors: list[float]) -> None:
    images, labels = heads(10)
    scaled = (images * np.array(factors)[:, None, None]).astype(np.uint8)
    assert identify(scaled, labels, NAMES) == []


def test_images_that_show_nothing_are_not_judged() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (12, 4, 64, 64), dtype=np.uint8)
    empty = np.zeros((12, 64, 64), np.uint8)
    for images in (noise, np.zeros_like(noise), np.repeat(noise[:, :1], 4, axis=1)):
        findings = identify(images, empty, NAMES)
        assert wrong(findings) == {} and len(undecided(findings)) == 6
        assert all("cannot be told" in finding.sentence for finding in findings)


def test_too_few_images_are_not_judged() -> None:
    images, labels = heads(8)
    assert wrong(identify(images[:, [2, 1, 0, 3]], labels, NAMES)) == {}


def test_one_contrast_or_unknown_ones_have_nothing_to_be_compared_with() -> None:
    images, labels = heads()
    assert identify(images[:, :1], labels, ("t1",)) == []
    assert identify(images[:, :2], labels, ("adc", "t1")) == []
    assert identify(images[:, [0, 2, 3]], labels, ("t1", "pd", "flair")) == []


def test_a_sentence_names_both_contrasts_and_the_evidence() -> None:
    images, labels = heads()
    sentence = next(f.sentence for f in identify(images[:, [2, 1, 0, 3]], labels, NAMES) if f.contrasts == ("t1",))
    assert "named t1 looks like t2" in sentence and "100% of 12 images" in sentence


# ---------------------------------------------------------------------------------------------- what images show


def test_brain_leaves_out_a_background_that_is_not_quite_zero() -> None:
    images, _ = heads(3)
    truth = images.max(axis=1) > 10
    background = np.random.default_rng(0).integers(0, 5, images.shape, dtype=np.uint8)
    assert np.mean(brain_mask(np.maximum(images, background)) != truth) < 0.002
    assert not brain_mask(np.zeros_like(images)).any()


def test_signatures_agree_with_their_definitions() -> None:
    images, labels = heads(2)
    found = signatures(images, labels)
    for i in range(2):
        healthy = brain_mask(images)[i] & (labels[i] == 0)
        values = images[i][:, healthy].astype(float)
        median = np.quantile(values, 0.5, axis=1, method="inverted_cdf")
        np.testing.assert_array_equal(healthy_medians(images, labels)[i], median)
        np.testing.assert_allclose(found.level[i], np.log1p(median))
        bright = np.quantile(values, 0.99, axis=1, method="inverted_cdf")
        np.testing.assert_allclose(found.quantiles[i, :, -1], np.log1p(bright) - np.log1p(median))
        oedema = images[i][:, labels[i] == 2].mean(axis=1)
        np.testing.assert_allclose(found.oedema[i], np.log1p(oedema) - np.log1p(median))
        np.testing.assert_allclose(found.rho[i], stats.spearmanr(values.T).statistic, atol=1e-12)


def test_signatures_of_an_image_do_not_depend_on_the_others() -> None:
    images, labels = heads(4)
    together = signatures(images, labels)
    apart = Signatures.join([signatures(images[:1], labels[:1]), signatures(images[1:], labels[1:])])
    np.testing.assert_array_equal(together.quantiles, apart.quantiles)
    np.testing.assert_allclose(together.rho, apart.rho, atol=1e-12)


@pytest.mark.parametrize("exchanged", [False, True])
def test_an_import_judges_the_channels(tmp_path: Path, exchanged: bool) -> None:
    images, labels = heads()
    if exchanged:
        images = images[:, [0, 1, 3, 2]]
    with DatasetWriter(tmp_path / "made", contrasts=NAMES, scheme=BRATS, size=(64, 64), kind="synthetic") as writer:
        writer.append(images, labels, [{"id": f"i{k}", "split": "synthetic"} for k in range(len(images))])
    export_dataset(tmp_path / "made", tmp_path / "png", format="png")
    summary = import_images(tmp_path / "png", tmp_path / "imported")
    assert wrong(summary.contrast_findings) == ({"t2": "flair", "flair": "t2"} if exchanged else {})
    assert json.dumps(summary.to_dict())


# ------------------------------------------------------------------------------------ real anatomy, real subjects


def every_order(found: Signatures) -> Iterator[tuple[tuple[int, ...], list[NameFinding]]]:
    for order in _PERMUTATIONS:
        yield order, check_names(reordered(found, order), NAMES)


@pytest.mark.skipif(importlib.util.find_spec("nilearn") is None, reason="nilearn brings the template of the phantom")
def test_every_exchange_is_found_on_the_phantom() -> None:
    subject = phantom.make_subject(1, 3, shape=(120, 120, 78), spacing_mm=2.0)
    planes = np.stack([subject[name][:, :, 20:70].T / subject[name].max() * 255 for name in NAMES], axis=1)
    found = signatures(planes.astype(np.uint8), subject["seg"][:, :, 20:70].T)
    for order, findings in every_order(found):
        assert wrong(findings) == expected(order) and not undecided(findings)


@pytest.fixture(scope="module")
def real(real_subjects: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Signatures, list[str | None]]:
    """Signatures of the slices of the five real subjects, and whose slices they are."""
    folder = tmp_path_factory.mktemp("real") / "dataset"
    prepare(real_subjects, folder, protocol=SliceProtocol(size=128))
    dataset = Dataset(folder)
    parts = [signatures(images, labels) for images, labels in dataset.batches(64)]
    return Signatures.join(parts), [row.subject for row in dataset.samples]


def test_every_exchange_is_found_on_real_subjects(real: tuple[Signatures, list[str | None]]) -> None:
    for order, findings in every_order(real[0]):
        assert wrong(findings) == expected(order) and not undecided(findings)


def test_every_exchange_is_found_on_each_real_subject(real: tuple[Signatures, list[str | None]]) -> None:
    found, subjects = real
    for subject in sorted({name for name in subjects if name is not None}):
        rows = np.array([name == subject for name in subjects])
        own = Signatures(
            found.quantiles[rows], found.oedema[rows], found.enhancing[rows], found.level[rows], found.rho[rows]
        )
        enhances = np.count_nonzero(~np.isnan(own.enhancing[:, 0])) >= 9
        assert enhances == (subject != "TCGA-DU-7294")
        for order, findings in every_order(own):
            if enhances:
                assert wrong(findings) == expected(order), subject
            else:  # T1 and T1ce are one and the same then, but neither is taken for T2 or FLAIR
                assert undecided(findings) == {("t1", "t1ce")}
                assert without_t1ce(wrong(findings)) == without_t1ce(expected(order)), subject


def without_t1ce(seen: Mapping[str, str | None]) -> dict[str, str | None]:
    """T1 and T1ce under one name: what remains of the findings where they cannot be told apart."""
    merged = {name: "t1" if looks_like == "t1ce" else looks_like for name, looks_like in seen.items()}
    return {name: other for name, other in merged.items() if other != ("t1" if name == "t1ce" else name)}


def test_labels_are_known_by_name_and_other_labels_say_nothing() -> None:
    images, labels = heads()
    decathlon = np.select([labels == 1, labels == 2, labels == 4], [2, 1, 3], 0).astype(np.uint8)
    found = naming.signatures(images, decathlon, SCHEMES["msd"])
    np.testing.assert_array_equal(found.enhancing, signatures(images, labels).enhancing)
    mask = naming.signatures(images, (labels > 0).astype(np.uint8), SCHEMES["whole-tumour"])
    assert np.isnan(mask.oedema).all() and np.isnan(mask.enhancing).all() and np.isfinite(mask.rho).all()
    assert naming.can_judge(("t1", "flair", "adc")) and not naming.can_judge(("cine", "t1"))
