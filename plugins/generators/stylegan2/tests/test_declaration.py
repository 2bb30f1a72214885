"""The declaration: light, valid, and of the package it names."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import synthkit_stylegan2


def test_importing_the_declaration_loads_nothing_heavy() -> None:
    code = (
        "import sys, json, synthkit_stylegan2 as p; p.synthkit_declare();"
        "print(json.dumps([m for m in ('torch', 'numpy', 'scipy', 'safetensors') if m in sys.modules]))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(result.stdout) == []


def test_declaration_is_json_and_every_parameter_says_what_it_is() -> None:
    (declaration,) = synthkit_stylegan2.synthkit_declare()
    described = json.loads(json.dumps(declaration.to_dict()))
    assert described["kind"] == "generator"
    assert described["module"] == "synthkit_stylegan2.model"
    assert [item["name"] for item in described["params"]] == [f.name for f in dataclasses.fields(declaration.params)]
    assert all(len(item["help"]) > 10 for item in described["params"])
    assert dataclasses.is_dataclass(declaration.params()) and declaration.params.__dataclass_params__.frozen
