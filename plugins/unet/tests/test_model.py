"""Training and segmentation on a toy: a bright disc is label 1, the ring around it label 4."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("monai", reason="monai is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")

from synthkit_unet import UnetParams, feeding, model  # noqa: E402
from synthkit_unet.feeding import order_of, split_samples  # noqa: E402

from synthkit import events  # noqa: E402
from synthkit.contract import Sample  # noqa: E402
from synthkit.errors import DataError, OutOfMemoryError, PluginError, UsageError  # noqa: E402


class Toy:
    """Discs and rings of any place and radius, in memory; satisfies ``synthkit.contract.Samples``."""

    contrasts = ("t1", "t1ce", "t2")
    label_values = (0, 1, 4)

    def __init__(self, n: int, size: tuple[int, int] = (32, 32), *, n_subjects: int = 0, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.size = size
        y, x = np.mgrid[: size[0], : size[1]]
        self.labels = np.zeros((n, *size), np.uint8)
        self.images = rng.normal(60, 12, (n, 3, *size))
        for i in range(n):
            radius = rng.uniform(3, 5)
            distance = np.hypot(y - rng.uniform(8, size[0] - 8), x - rng.uniform(8, size[1] - 8))
            self.labels[i][distance < radius + 3] = 4
            self.labels[i][distance < radius] = 1
            self.images[i, 0][self.labels[i] == 1] += 90
            self.images[i, 1][self.labels[i] == 4] += 70
        self.images = self.images.clip(5, 255).astype(np.uint8)
        self.samples: Sequence[Sample] = [
            Sample(
                f"{i}", "train" if n_subjects else "synthetic", f"s{i % n_subjects}" if n_subjects else None, i, i, ""
            )
            for i in range(n)
        ]
        self.digest = f"toy-{n}-{size}-{n_subjects}-{seed}"

    def __len__(self) -> int:
        return len(self.samples)

    def read(self, indices: Any) -> tuple[np.ndarray, np.ndarray]:
        rows = np.asarray(indices, dtype=np.int64)
        return self.images[rows], self.labels[rows]

    def batches(self, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in range(0, len(self), batch_size):
            yield self.images[start : start + batch_size], self.labels[start : start + batch_size]


TINY = UnetParams(samples=48, batch_size=4, depth=3, filters=4, checkpoint_every=16, seed=3)


@pytest.fixture(autouse=True, scope="module")
def _cpu_with_one_thread() -> Iterator[None]:
    """These networks are so small that a second thread costs more than it gives."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "_device", lambda: torch.device("cpu"))
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def trained(_cpu_with_one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, UnetParams]:
    """A network that has learnt the toy."""
    folder = tmp_path_factory.mktemp("trained")
    params = UnetParams(samples=1600, batch_size=8, depth=3, filters=8, learning_rate=0.03, checkpoint_every=800)
    model.train(Toy(300), folder, params)
    return folder, params


def dice(found: np.ndarray, wanted: np.ndarray, label: int) -> float:
    return 2 * ((found == label) & (wanted == label)).sum() / ((found == label).sum() + (wanted == label).sum())


def test_learns_disc_and_ring(trained: tuple[Path, UnetParams]) -> None:
    fresh = Toy(40, seed=1)
    found = np.stack(list(model.segment(trained[0], iter(fresh.images), trained[1])))
    assert found.dtype == np.uint8
    assert set(np.unique(found)) <= {0, 1, 4}
    assert dice(found, fresh.labels, 1) > 0.9
    assert dice(found, fresh.labels, 4) > 0.9
    history = json.loads((trained[0] / "history.json").read_text())
    assert history["best_val_dice"] == max(entry["val_dice"] for entry in history["validations"]) > 0.9


def test_labels_do_not_depend_on_the_batch(trained: tuple[Path, UnetParams]) -> None:
    images = Toy(19, seed=2).images
    together = list(model.segment(trained[0], images, trained[1]))
    assert len(together) == 19
    for size in (1, 5):
        params = dataclasses.replace(trained[1], batch_size=size)
        for one, other in zip(together, model.segment(trained[0], images, params), strict=True):
            np.testing.assert_array_equal(one, other)


def test_sides_of_any_length_and_mixed_shapes_in_order(trained: tuple[Path, UnetParams]) -> None:
    toys = [Toy(1, size, seed=5) for size in ((37, 50), (32, 32), (37, 50), (61, 33))]
    found = list(model.segment(trained[0], (toy.images[0] for toy in toys), trained[1]))
    for labels, toy in zip(found, toys, strict=True):
        assert labels.shape == toy.size
        assert dice(labels, toy.labels[0], 1) > 0.8


def test_smaller_than_the_network_likes(trained: tuple[Path, UnetParams]) -> None:
    (labels,) = model.segment(trained[0], [np.full((3, 5, 7), 90, np.uint8)], trained[1])
    assert labels.shape == (5, 7)


def test_empty_slices_are_background(trained: tuple[Path, UnetParams]) -> None:
    images = [np.zeros((3, 32, 32), np.uint8), Toy(1, seed=9).images[0]]
    empty, full = model.segment(trained[0], images, trained[1])
    assert not empty.any()
    assert full.any()


def test_segment_streams(trained: tuple[Path, UnetParams]) -> None:
    taken = 0

    def endless() -> Iterator[np.ndarray]:
        nonlocal taken
        image = Toy(1).images[0]
        while True:
            taken += 1
            yield image

    labels = model.segment(trained[0], endless(), trained[1])
    next(labels)
    assert taken <= 20


def test_segment_checks_the_contrasts(trained: tuple[Path, UnetParams]) -> None:
    with pytest.raises(DataError, match="3, y, x"):
        list(model.segment(trained[0], [np.zeros((4, 32, 32), np.uint8)], trained[1]))


def test_segment_needs_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no checkpoint"):
        list(model.segment(tmp_path, [np.zeros((3, 32, 32), np.uint8)], TINY))


def weights_of(folder: Path) -> tuple[bytes, bytes]:
    return (folder / "model.safetensors").read_bytes(), (folder / "last.safetensors").read_bytes()


@pytest.mark.parametrize("stop_after", [6, 8, 11])
def test_resumed_training_equals_uninterrupted_bitwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_after: int
) -> None:
    data = Toy(20, n_subjects=5)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    model.train(data, whole, TINY)
    real_step, done = model._step, 0

    def failing_step(*arguments: Any) -> Any:
        nonlocal done
        if done == stop_after:
            raise KeyboardInterrupt
        done += 1
        return real_step(*arguments)

    monkeypatch.setattr(model, "_step", failing_step)
    with pytest.raises(KeyboardInterrupt):
        model.train(data, broken, TINY)
    steps: list[int] = []
    monkeypatch.setattr(model, "_step", lambda *a: steps.append(a[-1]) or real_step(*a))
    model.train(data, broken, TINY)
    assert steps[0] == stop_after // 4 * 4  # goes on from the last checkpoint (every 16 images), not from the start
    assert weights_of(broken) == weights_of(whole)
    assert (broken / "history.json").read_bytes() == (whole / "history.json").read_bytes()


def test_a_finished_training_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = Toy(12)
    model.train(data, tmp_path, TINY)
    before = weights_of(tmp_path)
    monkeypatch.setattr(model, "_step", None)
    model.train(data, tmp_path, TINY)
    assert weights_of(tmp_path) == before
    assert not list(tmp_path.glob(".*.part"))


def test_another_job_in_the_folder_is_refused(tmp_path: Path) -> None:
    model.train(Toy(12), tmp_path, TINY)
    with pytest.raises(PluginError, match="another job"):
        model.train(Toy(12), tmp_path, dataclasses.replace(TINY, learning_rate=0.02))


def test_same_seed_same_weights_other_seed_other_weights(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / name).mkdir()
        model.train(Toy(12), tmp_path / name, dataclasses.replace(TINY, samples=8, seed=seed))
    a, b, c = (weights_of(tmp_path / name) for name in "abc")
    assert a == b
    assert a != c


def test_contrasts_subset(tmp_path: Path) -> None:
    params = dataclasses.replace(TINY, samples=8, contrasts=("t2", "t1"))
    model.train(Toy(12), tmp_path, params)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["contrasts"] == ["t1", "t1ce", "t2"]
    assert config["channels"] == [2, 0]
    image = Toy(1).images[0]
    other = image.copy()
    other[1] = 255 - other[1]  # a contrast that the network does not see
    first, second = model.segment(tmp_path, [image, other], params)
    np.testing.assert_array_equal(first, second)


def test_unknown_contrast_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="flair"):
        model.train(Toy(4), tmp_path, dataclasses.replace(TINY, contrasts=("flair",)))


def test_holdout_samples_are_refused(tmp_path: Path) -> None:
    data = Toy(4, n_subjects=2)
    data.samples = [dataclasses.replace(row, split="holdout") for row in data.samples]
    with pytest.raises(DataError, match="holdout"):
        model.train(data, tmp_path, TINY)


def test_undeclared_labels_are_refused(tmp_path: Path) -> None:
    data = Toy(8)
    data.labels[:, 0, 0] = 7
    with pytest.raises(DataError, match=r"\[7\]"):
        model.train(data, tmp_path, TINY)


def test_divergence_names_the_last_good_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_step = model._step
    monkeypatch.setattr(model, "_step", lambda *a: real_step(*a) * (float("nan") if a[-1] >= 9 else 1.0))
    with pytest.raises(PluginError, match=r"last\.safetensors, at 32 samples"):
        model.train(Toy(12), tmp_path, TINY)


@pytest.mark.parametrize(
    "error", [torch.cuda.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate")]
)
def test_out_of_memory_says_what_to_lower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def explode(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(model, "_step", explode)
    with pytest.raises(OutOfMemoryError, match="Lower batch_size"):
        model.train(Toy(12), tmp_path, TINY)


def test_one_subject_trains_without_validation_and_warns(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").mkdir()
    with events.logging_to(tmp_path / "events.jsonl"):
        model.train(Toy(8, n_subjects=1), tmp_path / "checkpoint", TINY)
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [line for line in lines if line["event"] == "message" and line["level"] == "warning"]
    final = lines[-1]
    assert (final["step"], final["total"], final["unit"]) == (48, 48, "sample")
    best, last = weights_of(tmp_path / "checkpoint")
    assert len(best) > 1000
    assert best[-1000:] == last[-1000:]  # the last weights


def test_budget_is_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[int] = []
    real_step = model._step
    monkeypatch.setattr(model, "_step", lambda *a: shown.append(len(a[2])) or real_step(*a))
    model.train(Toy(10), tmp_path, dataclasses.replace(TINY, samples=11, checkpoint_every=100))
    assert shown == [4, 4, 3]


@settings(max_examples=60, deadline=None)
@given(
    subjects=st.lists(st.one_of(st.none(), st.sampled_from([f"s{i}" for i in range(9)])), max_size=60),
    fraction=st.floats(0, 0.9),
    seed=st.integers(0, 1000),
)
def test_split_is_disjoint_by_subject(subjects: list[str | None], fraction: float, seed: int) -> None:
    rows = [Sample(str(i), "train" if s else "synthetic", s, i, None, "") for i, s in enumerate(subjects)]
    training, validation = split_samples(rows, fraction, seed)
    assert sorted(training + validation) == list(range(len(rows)))
    real = {s for s in subjects if s}
    assert not {subjects[i] for i in training} & {subjects[i] for i in validation} & real
    n_synthetic = subjects.count(None)
    for units, kept in (
        (len(real), len({subjects[i] for i in validation} & real)),
        (n_synthetic, sum(subjects[i] is None for i in validation)),
    ):
        if fraction == 0 or units < 2:
            assert kept == 0
        else:
            assert 1 <= kept < units
            assert kept == pytest.approx(units * fraction, abs=1)


def test_scans_of_a_patient_are_on_one_side() -> None:
    names = [f"BraTS-GLI-{patient:05d}-{scan}" for patient in range(6) for scan in (100, 101, 102)]
    rows = [Sample(name, "train", name, 0, None, "") for name in names]
    for seed in range(20):
        training, validation = split_samples(rows, 0.34, seed)
        assert len(validation) == 6
        assert not {names[i][:15] for i in training} & {names[i][:15] for i in validation}


def test_config_names_no_subject(tmp_path: Path) -> None:
    data = Toy(12, n_subjects=4)
    model.train(data, tmp_path, dataclasses.replace(TINY, samples=4))
    text = (tmp_path / "config.json").read_text()
    assert not [row.subject for row in data.samples if row.subject and row.subject in text]
    assert json.loads(text)["validation_samples"] > 0


def test_order_shows_every_row_once_an_epoch() -> None:
    rows = [3, 5, 8, 13, 21]
    order = order_of(rows, 0, 0, 20)
    for epoch in range(4):
        assert sorted(order[5 * epoch : 5 * epoch + 5]) == rows
    assert order[:5] != order[5:10]
    assert order[3:17] == order_of(rows, 0, 3, 17)


def test_reading_error_reaches_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Any, rows: Any) -> Any:
        raise DataError("The shard is damaged.")

    monkeypatch.setattr(feeding.Reader, "read", broken)
    with pytest.raises(DataError, match="damaged"):
        model.train(Toy(12), tmp_path, TINY)
