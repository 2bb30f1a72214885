"""Sets are drawn by patient; and the classifier score."""

from __future__ import annotations

import numpy as np
import pytest
from synthkit_fidelity.classifier import classifier_score, classifier_spread
from synthkit_fidelity.sets import FeatureSet, draw, groups_of, joined

from synthkit.contract import Sample


def sample(name: str, subject: str | None) -> Sample:
    return Sample(name, "train" if subject else "synthetic", subject, 0 if subject else None, None, name)


def test_scans_of_one_patient_are_one_group_and_synthetic_images_one_each() -> None:
    subjects = ["BraTS-GLI-00001-100", "BraTS-GLI-00002-100", "BraTS-GLI-00001-101", None, None]
    assert groups_of([sample(str(i), s) for i, s in enumerate(subjects)]).tolist() == [0, 1, 0, 2, 3]


def test_patients_that_the_dataset_names_are_one_group() -> None:
    rows = [
        Sample(name, "train", name, 0, None, name, patient) for name, patient in (("x", "1"), ("y", "2"), ("z", "1"))
    ]
    assert groups_of(rows).tolist() == [0, 1, 0]


def test_draws_are_of_whole_patients() -> None:
    group = np.repeat(np.arange(10), 4)
    drawn = draw(group, 14, np.random.default_rng(0))
    assert len(drawn) == 14 and (np.diff(drawn) > 0).all()
    assert sorted(np.bincount(group[drawn], minlength=10))[-4:] == [2, 4, 4, 4]
    assert draw(group, 99, np.random.default_rng(0)).tolist() == list(range(40))


def test_joint_features_are_those_of_every_contrast() -> None:
    parts = [FeatureSet(np.full((3, d), d, np.float32), np.array([0, 0, 1])) for d in (2, 5)]
    assert joined(parts).dimension == 7 and joined(parts).n_groups == 2


# ----------------------------------------------------------------------------------------------- classifier score


def test_certain_and_even_classes_give_their_number_and_no_classes_give_1() -> None:
    certain = np.tile(np.eye(4, dtype=np.float32) * 1000, (10, 1))
    assert classifier_score(certain, 10) == pytest.approx(4.0)
    assert classifier_score(np.zeros((20, 4), np.float32), 10) == pytest.approx(1.0)
    # In parts of one class each nothing tells the images apart: the parts are consecutive.
    assert classifier_score(certain[np.argsort(np.tile(np.arange(4), 10), kind="stable")], 4) == pytest.approx(1.0)


def test_classifier_score_by_definition() -> None:
    logits = np.random.default_rng(0).normal(size=(30, 5)).astype(np.float32)
    p = np.exp(logits.astype(float)) / np.exp(logits.astype(float)).sum(axis=1, keepdims=True)
    parts = [np.exp(np.mean(np.sum(q * np.log(q / q.mean(axis=0)), axis=1))) for q in (p[:15], p[15:])]
    assert classifier_score(logits, 2) == pytest.approx(np.mean(parts))


def test_classifier_spread_is_that_of_repeated_experiments() -> None:
    scores, variances = [], []
    for seed in range(200):
        logits = np.random.default_rng(seed).normal(0, 2, size=(150, 6)).astype(np.float32)
        scores.append(classifier_score(logits, 1))
        images = FeatureSet(np.zeros((150, 1), np.float32), np.arange(150), logits)
        variances.append(classifier_spread(images, scores[-1]).variance)
    assert 0.85 < np.sqrt(np.mean(variances)) / np.std(scores) < 1.2
