"""The declaration costs nothing to import and takes its parameters as text."""

from __future__ import annotations

import subprocess
import sys

import pytest
import synthkit_unet

from synthkit.errors import UsageError
from synthkit.registry.parameters import make_params


def test_importing_the_declaration_loads_nothing_heavy() -> None:
    code = "import sys, synthkit_unet; print({'torch', 'monai', 'numpy', 'safetensors'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "set()"


def test_hook_declares_the_segmenter() -> None:
    (declaration,) = synthkit_unet.synthkit_declare()
    assert (declaration.name, declaration.kind) == ("unet", "segmenter")
    assert declaration.to_dict()["params"][0]["name"] == "samples"


def test_parameters_from_text() -> None:
    given = {"samples": "3.2e7", "contrasts": "t1ce,flair", "augment": "off"}
    params = make_params(synthkit_unet.DECLARATION, given)
    assert params.samples == 32_000_000
    assert params.contrasts == ("t1ce", "flair")
    assert params.augment is False


@pytest.mark.parametrize(("name", "value"), [("depth", "2"), ("batch_size", "0"), ("validation_fraction", "1")])
def test_parameters_out_of_bounds_are_refused(name: str, value: str) -> None:
    with pytest.raises(UsageError, match=name):
        make_params(synthkit_unet.DECLARATION, {name: value})
