"""The declaration takes its parameters as text."""

from __future__ import annotations

import pytest
import synthkit_swin

from synthkit.errors import UsageError
from synthkit.registry.parameters import make_params


def test_hook_declares_the_segmenter() -> None:
    (declaration,) = synthkit_swin.synthkit_declare()
    assert (declaration.name, declaration.kind) == ("swin", "segmenter")


def test_parameters_from_text() -> None:
    params = make_params(synthkit_swin.DECLARATION, {"backbone": "tiny", "epochs": "25", "contrasts": "t1ce,flair"})
    assert (params.backbone, params.epochs, params.contrasts) == ("tiny", 25, ("t1ce", "flair"))


@pytest.mark.parametrize(("name", "value"), [("backbone", "large"), ("batch_size", "1"), ("drop_path", "1")])
def test_parameters_out_of_bounds_are_refused(name: str, value: str) -> None:
    with pytest.raises(UsageError, match=name):
        make_params(synthkit_swin.DECLARATION, {name: value})
