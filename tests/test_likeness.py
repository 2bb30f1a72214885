"""Datasets that are used together are looked at: channels, labels, size and the way that images lie."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from synthkit.contract import Samples
from synthkit.data.likeness import doubts_about
from synthkit.data.writer import DatasetWriter
from synthkit.errors import DataError, UsageError
from synthkit.judging.comparable import Training, check_comparable
from synthkit.running.listening import LoggingListener
from synthkit.running.verbs import inputs, train
from synthkit.schemes import BRATS
from synthkit.testing import InMemorySamples

SIDE = 64
Change = Callable[[np.ndarray], np.ndarray]


def heads(n: int = 24, seed: int = 0, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Egg-shaped heads with ventricles and a tumour that looks like one."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE]
    images, labels = np.zeros((n, 4, SIDE, SIDE), np.uint8), np.zeros((n, SIDE, SIDE), np.uint8)
    for i in range(n):
        a, b = scale * (24 + rng.uniform(-1, 1)), scale * (18 + rng.uniform(-1, 1))
        v, u = (y - 32) / a, (x - 32) / (b * (1 + 0.3 * (y - 32) / a))
        r = np.hypot(u, v)
        brain, csf = r < 1, (np.hypot(u * 3, (v + 0.3) * 2.5) < 0.8) & (r < 1)
        grey = brain & (r > 0.8)
        tumour = np.hypot((u - rng.uniform(-0.3, 0.3)) / 0.45, (v - 0.25) / 0.35)
        labels[i] = np.select([tumour < 0.5, tumour < 0.8, tumour < 1.1], [1, 4, 2]) * brain
        base = np.array([[140, 100, 40], [140, 105, 45], [100, 130, 250], [120, 140, 50]])
        parts = {1: (60, 70, 180, 120), 4: (110, 240, 150, 160), 2: (100, 100, 200, 230)}
        for k in range(4):
            image = np.select([csf, grey, brain], [base[k, 2], base[k, 1], base[k, 0]])
            for value, of in parts.items():
                image[labels[i] == value] = of[k]
            images[i, k] = np.clip(image + brain * rng.normal(0, 4, brain.shape), 0, 255)
    return images, labels


def samples(images: np.ndarray, labels: np.ndarray) -> Samples:
    return InMemorySamples(images, labels, contrasts=BRATS.contrast_names, scheme=BRATS)


def test_datasets_that_look_alike_are_not_doubted() -> None:
    assert doubts_about({"real": samples(*heads()), "syn": samples(*heads(seed=1))}) == []
    mirrored = [array[..., ::-1] for array in heads(seed=2)]
    assert doubts_about({"real": samples(*heads()), "syn": samples(*mirrored)}) == []


@pytest.mark.parametrize(
    ("turn", "said"),
    [
        (lambda a: a[..., ::-1, :], "lie upside down"),
        (lambda a: np.rot90(a, 2, axes=(-2, -1)), "lie upside down"),
        (lambda a: np.rot90(a, 1, axes=(-2, -1)), "lie turned by 90 degrees"),
        (lambda a: a.swapaxes(-2, -1), "lie turned by 90 degrees"),
    ],
)
def test_images_that_lie_another_way_are_told(turn: Change, said: str) -> None:
    other = samples(*(np.ascontiguousarray(turn(array)) for array in heads(seed=1)))
    (doubt,) = doubts_about({"real": samples(*heads()), "syn": other})
    assert said in doubt and "syn" in doubt and "real" in doubt


def test_heads_of_another_size_channels_and_labels_of_another_name_are_told() -> None:
    real = samples(*heads())
    (doubt,) = doubts_about({"real": real, "syn": samples(*heads(seed=1, scale=0.7))})
    assert "0.70 as wide" in doubt or "0.71 as wide" in doubt or "0.69 as wide" in doubt
    images, labels = heads(seed=1)
    found = doubts_about({"real": real, "syn": samples(images[:, [0, 1, 3, 2]], labels)})
    assert any("syn: " in text and "flair" in text and "t2" in text for text in found)
    swap = np.array([0, 2, 1, 3, 4], np.uint8)
    (doubt,) = doubts_about({"real": real, "syn": samples(images, swap[labels])})
    assert doubt.startswith("syn: its labels do not look like those of brats2018: NCR lies around ED")


@pytest.mark.parametrize("copied", [("t2", "flair"), ("t1", "t1ce", "t2", "flair")])
def test_contrasts_that_are_one_image_are_not_judged_by_their_looks(copied: tuple[str, ...]) -> None:
    images, labels = heads()
    channels = [BRATS.contrast_names.index(name) for name in copied]
    images[:, channels] = images[:, channels[-1:]]
    found = doubts_about({"real": samples(images, labels)})
    assert "real: t2 and flair are one image." in found and not any("looks like" in text for text in found)


def test_too_few_images_say_nothing_of_size_and_orientation() -> None:
    few = [array[:8, ..., ::-1, :] for array in heads(seed=1)]
    assert doubts_about({"real": samples(*heads()), "syn": samples(*few)}) == []
    blank = samples(np.zeros((20, 4, SIDE, SIDE), np.uint8), np.zeros((20, SIDE, SIDE), np.uint8))
    assert not any("lie" in text or "wide" in text for text in doubts_about({"real": blank, "syn": blank}))


class Listener:
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def note(self, text: str) -> None: ...

    def warning(self, text: str) -> None:
        self.warnings.append(text)


def written(path: Path, images: np.ndarray, labels: np.ndarray, kind: Any, protocol: Any = None) -> Path:
    contrasts = BRATS.contrast_names[: images.shape[1]]
    with DatasetWriter(
        path, contrasts=contrasts, scheme=BRATS, size=images.shape[2:], kind=kind, protocol=protocol
    ) as writer:
        of = {"split": "train" if kind == "real" else "synthetic"}
        rows = [{"id": f"{path.name}{i}", **of} for i in range(len(images))]
        if kind == "real":
            rows = [{**row, "subject": "s1", "slice": i} for i, row in enumerate(rows)]
        writer.append(images, labels, rows)
    return path


def test_what_a_training_gets_is_looked_at_before_a_run_is_made(tmp_path: Path, install_plugins: Any) -> None:
    from synthkit.testing.toys import SEGMENTER

    install_plugins(SEGMENTER)
    real = written(tmp_path / "real", *heads(), "real")
    turned = [array[..., ::-1, :] for array in heads(seed=1)]
    upside_down = written(tmp_path / "syn", *turned, "synthetic")
    listener = Listener()
    train.ask("toy-segmenter", [upside_down, real], listener=listener)  # type: ignore[arg-type]
    assert any("images of syn lie upside down, against those of real" in text for text in listener.warnings)
    images, labels = heads(seed=1)
    fewer = written(tmp_path / "fewer", images[:, :3], labels, "synthetic")
    with pytest.raises(DataError, match="contrasts differ"):
        train.ask("toy-segmenter", [real, fewer], listener=listener)  # type: ignore[arg-type]


def test_trainings_on_voxels_of_other_sizes_are_not_compared() -> None:
    def training(name: str, spacing: list[float] | None) -> Training:
        protocol = {"size": 64, **({"geometry": {"axes": "LPS", "spacing_mm": spacing}} if spacing else {})}
        metadata = {"plugin": "toy", "params": {}, "contrasts": ["t1"], "size": [64, 64], "protocol": protocol}
        return Training(name, {**metadata, "scheme": BRATS.to_dict(), "training_datasets": []})

    fine, coarse, unknown = training("fine", [1, 1, 1]), training("coarse", [2, 2, 1]), training("unknown", None)
    assert check_comparable([fine, fine, unknown]) == []
    with pytest.raises(UsageError, match="in fine and"):
        check_comparable([unknown, fine, coarse])
    with pytest.raises(UsageError, match="voxel_size is 1 x 1 x 1 mm in fine and 2 x 2 x 1 mm in coarse") as caught:
        check_comparable([fine, coarse])
    assert "--allow-different voxel_size" in caught.value.fix
    assert len(check_comparable([fine, coarse], ["voxel_size"])) == 1


def test_a_generated_dataset_is_called_by_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(path: str, kind: str) -> Any:
        return SimpleNamespace(path=tmp_path / path, kind=kind, training_part=lambda: None)

    monkeypatch.setattr(inputs, "doubts_about", list)
    datasets = [opened("syn/outputs/dataset", "synthetic"), opened("real", "real")]
    with pytest.warns(UserWarning):
        assert inputs.look_at(datasets, LoggingListener()) == ["real", "syn"]
