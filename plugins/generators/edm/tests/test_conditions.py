# ruff: noqa: E402 (imports follow the check for torch)
"""What samples are asked for: read from labels in any encoding, told or hidden, clamped, guided."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from synthkit_edm import Conditions, Params, conditions, drawing, model
from synthkit_generative import testing
from synthkit_generative.encodings import Encoding

import synthkit
from synthkit.contract import Asked
from synthkit.errors import UsageError

PARAMS = Params(kimg=0.16, batch_size=4, width=8, sampler_steps=3, gate_samples=0, warm_up=0, background_zero=False)
ENCODINGS = [
    Encoding("grey", (0, 2, 4, 1)),
    Encoding("onehot", (0, 1, 2, 4), ((1,), (2,), (4,))),
    Encoding("nested", (0, 1, 2, 4), ((1, 2, 4), (1, 4), (1,))),
    Encoding("distance", (0, 1, 2, 4), reach=2),
]


@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda encoding: encoding.name)
def test_area_and_parts_are_read_from_labels_in_any_encoding(encoding: Encoding) -> None:
    labels = np.zeros((3, 8, 8), dtype=np.uint8)
    labels[1, :4, :4], labels[1, 6, 6] = 2, 4
    labels[2, :, :4] = 1
    area, parts = conditions.present(torch.from_numpy(encoding.encode(labels)), conditions.codes(encoding))
    assert area.tolist() == pytest.approx([0, 17 / 64, 0.5])
    assert parts.tolist() == [[0, 0, 0], [0, 1, 1], [1, 0, 0]]  # of 1, 2 and 4


def test_what_is_hidden_is_not_told() -> None:
    area, parts = torch.tensor([0.25, 0.25]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    told = conditions.told(area, parts, torch.tensor([[1.0, 1.0], [0.0, 0.0]]))
    assert told.tolist() == [[1, 2, 1, 1, -1], [0, 0, 0, 0, 0]]
    assert told.shape[1] == conditions.numbers(2)
    torch.testing.assert_close(conditions.asked_of(0.25, [True, False], 2, torch.device("cpu")), told[:1])
    assert not conditions.asked_of(None, None, 2, torch.device("cpu")).any()
    assert conditions.asked_of(0.0, None, 2, torch.device("cpu")).any()  # no labels are asked for, too


def test_half_of_the_images_are_told_nothing_and_a_tenth_of_the_labels_is_hidden() -> None:
    shown, given = conditions.draw_shown(20_000, torch.Generator().manual_seed(0))
    assert shown.any(dim=1).float().mean() == pytest.approx(0.5 * (1 - 0.25**2), abs=0.02)
    assert shown.all(dim=1).float().mean() == pytest.approx(0.5 * 0.75**2, abs=0.02)
    assert given.mean() == pytest.approx(0.9, abs=0.01)


@pytest.fixture(scope="module", params=["joint", "labels first"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Params]:
    folder = tmp_path_factory.mktemp("checkpoint")
    params = dataclasses.replace(PARAMS, labels_first=request.param == "labels first")
    model.train(testing.make_discs(12), folder, params)
    return folder, params


def drawn(folder: Path, params: Params, *asked: Asked) -> np.ndarray:
    return testing.stacked(model.generate(folder, range(len(asked)), params, asked=asked))[0]


def test_guidance_exaggerates_what_is_asked(trained: tuple[Path, Params]) -> None:
    folder, params = trained
    params = dataclasses.replace(params, label_offsets=False)
    one = Asked(None, Conditions(area_percent=1.0))
    free = drawn(folder, params, Asked(None, Conditions())).astype(float)
    away = []
    for guidance in (0.0, 1.0, 20.0):
        made = drawn(folder, dataclasses.replace(params, guidance=guidance), one).astype(float)
        away.append(np.abs(made - free).mean())
    assert away[1] < away[2]
    assert params.labels_first or away[0] == 0  # with labels first the contrasts follow theirs, guided too


def test_an_area_beyond_those_of_training_is_the_largest_of_these_and_said(
    trained: tuple[Path, Params], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, params = trained
    said = []
    monkeypatch.setattr(synthkit, "message", lambda text, **_: said.append(text))
    most = 100 * float(drawing.load(folder)[1]["largest_area"])
    assert 0 < most < 50
    large = drawn(folder, params, Asked(None, Conditions(area_percent=90.0)))
    assert any(
        f"area_percent=90 is more than any training image has; samples are asked for {most:.2g}" in t for t in said
    )
    said.clear()
    np.testing.assert_array_equal(large, drawn(folder, params, Asked(None, Conditions(area_percent=most))))
    assert not any("more than any" in text for text in said)


def test_a_label_map_and_conditions_at_once_are_refused(trained: tuple[Path, Params]) -> None:
    folder, params = trained
    if params.labels_first:
        asked = Asked(np.zeros((32, 32), np.uint8), Conditions(area_percent=1.0))
        with pytest.raises(UsageError, match="says its area and its parts already"):
            drawn(folder, params, asked)


@pytest.mark.slow
def test_larger_areas_are_drawn_larger(tmp_path: Path) -> None:
    """Of discs of many sizes, after a training of a minute: areas asked and drawn go together."""
    data = testing.make_discs(64)
    params = dataclasses.replace(PARAMS, kimg=6.4, batch_size=16, width=16, sampler_steps=9)
    model.train(data, tmp_path, params)
    areas = np.quantile((data.read(range(64))[1] != 0).mean(axis=(1, 2)), [0.1, 0.9]) * 100
    means = []
    for area in areas:
        asked = [Asked(None, Conditions(area_percent=float(area)))] * 24
        labels = testing.stacked(model.generate(tmp_path, range(24), params, asked=asked))[1]
        means.append((labels != 0).mean() * 100)
    assert means[0] < means[1]
