"""Every generator learns labels in every encoding that it is asked for, and draws labels of the scheme."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthkit.errors import UsageError
from synthkit.registry.parameters import make_params
from synthkit.registry.registry import discover
from synthkit.testing import InMemorySamples

pytest.importorskip("torch", reason="torch is not installed")


def declared(name: str, **params: Any) -> tuple[Any, Any]:
    """The module of a generator, and parameters of a few steps of a tiny network."""
    declaration = discover().declarations.get(name)
    if declaration is None:
        pytest.skip(f"the plugin {name} is not installed")
    quick = importlib.import_module(declaration.module.rpartition(".")[0]).CONFORMANCE_PARAMS
    return importlib.import_module(declaration.module), make_params(declaration, {**quick, **params})


def samples() -> InMemorySamples:
    """Eight slices with a tumour: necrosis in enhancing tumour in oedema."""
    random = np.random.default_rng(0)
    labels = np.zeros((8, 32, 32), dtype=np.uint8)
    for margin, value in ((8, 2), (11, 4), (14, 1)):
        labels[:, margin:-margin, margin:-margin] = value
    return InMemorySamples(random.integers(30, 200, (8, 2, 32, 32), dtype=np.uint8), labels)


@pytest.mark.parametrize("name", ["progan", "stylegan1", "stylegan2", "stylegan3", "diffusion"])
def test_nested_labels_are_learned_and_drawn(name: str, tmp_path: Path) -> None:
    module, params = declared(name, label_encoding="nested")
    module.train(samples(), tmp_path, params)
    said = json.loads((tmp_path / "config.json").read_text())["label_encoding"]
    assert said["name"] == "nested" and said["regions"] == [[1, 2, 4], [1, 4], [1]]
    ((image, labels),) = module.generate(tmp_path, [1], params)
    assert image.shape == (2, 32, 32) and labels.shape == (32, 32) and {*np.unique(labels)} <= {0, 1, 2, 4}


@pytest.mark.parametrize("name", ["stylegan2", "edm"])
def test_an_order_of_grey_levels_beside_another_encoding_is_refused(name: str, tmp_path: Path) -> None:
    module, params = declared(name, label_encoding="onehot", label_order="0,2,4,1")
    with pytest.raises(UsageError, match="label_order says nothing to label_encoding=onehot"):
        module.train(samples(), tmp_path, params)
    assert list(tmp_path.iterdir()) == []
