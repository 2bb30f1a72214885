# ruff: noqa: E402 (imports follow the check for torch)
"""The checkpoint that comes with `synthkit demo`, and its weights of half precision."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from synthkit_edm import Params, model
from synthkit_generative.drawing import load
from synthkit_generative.testing import make_discs, stacked
from synthkit_torch.storage import load_tensors, save_tensors

from synthkit.cli import demo

SMALL = Params(kimg=0.032, batch_size=4, width=8, sampler_steps=3, gate_samples=8, checkpoint_kimg=0.012, warm_up=3)


def test_weights_of_half_precision_draw_the_same_in_float32(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    model.train(make_discs(16), tmp_path / "whole", SMALL)
    shutil.copytree(tmp_path / "whole", tmp_path / "half")
    file = tmp_path / "half" / "generator.safetensors"
    tensors, facts = load_tensors(file)
    save_tensors(file, {name: tensor.half() for name, tensor in tensors.items()}, facts)
    assert {tensor.dtype for tensor in load(tmp_path / "half")[1].values()} == {torch.float16}
    whole, half = (stacked(model.generate(tmp_path / name, range(4), SMALL))[0] for name in ("whole", "half"))
    difference = np.abs(whole.astype(int) - half.astype(int))
    assert whole.std() > 1 and difference.mean() < 1


def test_the_shipped_checkpoint_still_loads() -> None:
    images, labels = stacked(model.generate(demo.MEMORIZED, range(4), Params()))
    assert images.shape == (4, 4, demo.SIZE, demo.SIZE) and labels.any() and images.max() > 100
