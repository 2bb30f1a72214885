"""The training loop: exact resumption, exact budget, and errors that say what to do."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")

from synthkit_segmentation import feeding, training  # noqa: E402
from synthkit_segmentation.prediction import segment  # noqa: E402
from synthkit_segmentation.testing import Toy, ToyParams, toy_recipe  # noqa: E402
from synthkit_segmentation.training import fit  # noqa: E402

from synthkit import events  # noqa: E402
from synthkit.errors import DataError, OutOfMemoryError, PluginError, UsageError  # noqa: E402

TINY = ToyParams()
forgetful_recipe = functools.partial(toy_recipe, dropout=0.3)


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
    fit(forgetful_recipe, data, whole, TINY)
    real_step, done = training._step, 0

    def failing_step(*arguments: Any) -> Any:
        nonlocal done
        if done == stop_after:
            raise KeyboardInterrupt
        done += 1
        return real_step(*arguments)

    monkeypatch.setattr(training, "_step", failing_step)
    with pytest.raises(KeyboardInterrupt):
        fit(forgetful_recipe, data, broken, TINY)
    first_images: list[int] = []
    monkeypatch.setattr(training, "_step", lambda *a: first_images.append(a[-1][0]) or real_step(*a))
    fit(forgetful_recipe, data, broken, TINY)
    assert first_images[0] == stop_after // 4 * 16  # goes on from the last checkpoint, not from the start
    assert weights_of(broken) == weights_of(whole)
    assert (broken / "history.json").read_bytes() == (whole / "history.json").read_bytes()


def test_a_finished_training_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = Toy(12)
    fit(toy_recipe, data, tmp_path, TINY)
    before = weights_of(tmp_path)
    monkeypatch.setattr(training, "_step", None)
    fit(toy_recipe, data, tmp_path, TINY)
    assert weights_of(tmp_path) == before
    assert not list(tmp_path.glob(".*.partial"))


def test_another_job_in_the_folder_is_refused(tmp_path: Path) -> None:
    fit(toy_recipe, Toy(12), tmp_path, TINY)
    with pytest.raises(PluginError, match="another job"):
        fit(toy_recipe, Toy(12), tmp_path, dataclasses.replace(TINY, learning_rate=0.02))


def test_same_seed_same_weights_other_seed_other_weights(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / name).mkdir()
        fit(forgetful_recipe, Toy(12), tmp_path / name, dataclasses.replace(TINY, samples=8, seed=seed))
    a, b, c = (weights_of(tmp_path / name) for name in "abc")
    assert a == b
    assert a != c
    assert torch.equal(torch.get_rng_state(), before)


def test_contrasts_subset(tmp_path: Path) -> None:
    params = dataclasses.replace(TINY, samples=8, contrasts=("t2", "t1"))
    fit(toy_recipe, Toy(12), tmp_path, params)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["contrasts"] == ["t1", "t1ce", "t2"]
    assert config["channels"] == [2, 0]
    image = Toy(1).images[0]
    other = image.copy()
    other[1] = 255 - other[1]  # a contrast that the network does not see
    first, second = segment(toy_recipe, tmp_path, [image, other], params)
    np.testing.assert_array_equal(first, second)


def test_unknown_contrast_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="flair"):
        fit(toy_recipe, Toy(4), tmp_path, dataclasses.replace(TINY, contrasts=("flair",)))


def test_pretrained_weights_are_refused_by_a_segmenter_without(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="takes no pretrained"):
        fit(toy_recipe, Toy(4), tmp_path, TINY, pretrained=tmp_path / "weights")


def test_undeclared_labels_are_refused(tmp_path: Path) -> None:
    data = Toy(8)
    data.labels[:, 0, 0] = 7
    with pytest.raises(DataError, match=r"\[7\]"):
        fit(toy_recipe, data, tmp_path, TINY)


def test_divergence_names_the_last_good_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_step = training._step
    monkeypatch.setattr(training, "_step", lambda *a: real_step(*a) * (float("nan") if a[-1][0] >= 36 else 1.0))
    with pytest.raises(PluginError, match=r"last\.safetensors, at 32 samples"):
        fit(toy_recipe, Toy(12), tmp_path, TINY)


def test_out_of_memory_says_what_to_lower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "_step", lambda *_: torch.empty(2**50))
    with pytest.raises(OutOfMemoryError, match=r"batch_size 4 at 32x32 pixels needs more .* Lower batch_size"):
        fit(toy_recipe, Toy(12), tmp_path, TINY)


def test_one_subject_trains_without_validation_and_warns(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").mkdir()
    with events.logging_to(tmp_path / "events.jsonl"):
        fit(toy_recipe, Toy(8, n_subjects=1), tmp_path / "checkpoint", TINY)
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [line for line in lines if line["event"] == "message" and line["level"] == "warning"]
    final = lines[-1]
    assert (final["step"], final["total"], final["unit"]) == (48, 48, "sample")
    best, last = weights_of(tmp_path / "checkpoint")
    assert len(best) > 1000
    assert best[-1000:] == last[-1000:]  # the last weights


def test_budget_is_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[int] = []
    real_step = training._step
    monkeypatch.setattr(training, "_step", lambda *a: shown.append(len(a[2])) or real_step(*a))
    fit(toy_recipe, Toy(10), tmp_path, dataclasses.replace(TINY, samples=11, checkpoint_every=100))
    assert shown == [4, 4, 3]


def test_config_names_no_subject(tmp_path: Path) -> None:
    data = Toy(12, n_subjects=4)
    fit(toy_recipe, data, tmp_path, dataclasses.replace(TINY, samples=4))
    text = (tmp_path / "config.json").read_text()
    assert not [row.subject for row in data.samples if row.subject and f'"{row.subject}"' in text]
    assert json.loads(text)["validation_samples"] > 0


def test_reading_error_reaches_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Any, rows: Any) -> Any:
        raise DataError("The shard is damaged.")

    monkeypatch.setattr(feeding.Reader, "read", broken)
    with pytest.raises(DataError, match="damaged"):
        fit(toy_recipe, Toy(12), tmp_path, TINY)


def test_a_run_keeps_statistics_and_their_curves(tmp_path: Path) -> None:
    """As of a generator, one line a checkpoint; none of it is in the checkpoint."""
    outputs = tmp_path / "outputs"
    (outputs / "checkpoint").mkdir(parents=True)
    with events.logging_to(tmp_path / "events.jsonl"):
        fit(toy_recipe, Toy(20, n_subjects=5), outputs / "checkpoint", TINY)
    lines = [json.loads(line) for line in (outputs / "stats.jsonl").read_text().splitlines()]
    assert lines[-1]["images"] == TINY.samples and lines[-1]["eta_seconds"] == 0
    assert {"kimg", "seconds", "seconds_per_kimg", "loss", "learning_rate", "val_dice"} <= lines[-1].keys()
    assert lines[-1]["learning_rate"] < lines[0]["learning_rate"] and (outputs / "progress.png").is_file()
