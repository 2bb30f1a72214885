"""From the command line to a parameter object."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthkit import GeneratorDeclaration, param
from synthkit.errors import UsageError
from synthkit.registry.parameters import make_params, params_to_dict, parse_assignments
from synthkit.registry.presets import presets_of, purpose, read_preset
from synthkit.registry.registry import discover


@dataclass(frozen=True)
class Params:
    kimg: float = param(200.0, "length", minimum=0)
    batch_size: int = param(32, "images a step", minimum=1, maximum=64)
    augment: bool = param(False, "whether")
    mode: str = param("fast", "which", choices=("fast", "exact"))
    rule: Literal["a", "b"] = param("a", "which rule")
    weights: tuple[float, ...] = param((1.0, 0.5), "of each level", minimum=0)
    limit: int | None = param(None, "how many", minimum=2)
    name: str = param("", "what it is called")

    def __post_init__(self) -> None:
        if self.augment and self.mode == "exact":
            raise ValueError("exact and augment exclude one another")


PLUGIN = GeneratorDeclaration(
    name="plugin", summary="s", module="plugin.model", distribution="synthkit-plugin", params=Params
)


def test_nothing_given_means_defaults() -> None:
    assert make_params(PLUGIN, {}) == Params()


@pytest.mark.parametrize(
    ("name", "given_value", "value"),
    [
        ("kimg", "0.5", 0.5),
        ("kimg", 3, 3.0),
        ("kimg", "1e3", 1000.0),
        ("batch_size", "8", 8),
        ("batch_size", "1e1", 10),
        ("batch_size", 8.0, 8),
        ("augment", "yes", True),
        ("augment", "OFF", False),
        ("augment", True, True),
        ("mode", "exact", "exact"),
        ("rule", "b", "b"),
        ("weights", "1, 0.5,0.25", (1.0, 0.5, 0.25)),
        ("weights", [1, 2], (1.0, 2.0)),
        ("weights", "", ()),
        ("limit", "none", None),
        ("limit", "7", 7),
        ("limit", 2**60 + 1, 2**60 + 1),
        ("limit", str(2**60 + 1), 2**60 + 1),
        ("limit", None, None),
        ("name", "a=b c", "a=b c"),
    ],
)
def test_values_are_converted(name: str, given_value: object, value: object) -> None:
    params = make_params(PLUGIN, {name: given_value})
    assert getattr(params, name) == value
    assert type(getattr(params, name)) is type(value)
    assert params == replace(Params(), **{name: value})


@pytest.mark.parametrize(
    ("name", "given_value", "why"),
    [
        ("kimg", "long", "must be a number"),
        ("kimg", "nan", "must be a finite number"),
        ("kimg", "inf", "must be a finite number"),
        ("kimg", True, "must be a number"),
        ("kimg", "-1", "at least 0"),
        ("batch_size", "2.5", "whole number"),
        ("batch_size", True, "whole number"),
        ("batch_size", "65", "at most 64"),
        ("augment", "perhaps", "true or false"),
        ("augment", 1, "true or false"),
        ("mode", "slow", "one of fast, exact"),
        ("rule", "c", "one of a, b"),
        ("weights", "1,-1", "at least 0"),
        ("weights", 3, "does not suit"),
        ("limit", "1", "at least 2"),
        ("name", 3, "must be text"),
    ],
)
def test_unsuitable_values_are_usage_errors(name: str, given_value: object, why: str) -> None:
    with pytest.raises(UsageError, match=why) as caught:
        make_params(PLUGIN, {name: given_value})
    assert name in caught.value.what and "plugin" in caught.value.what


@pytest.mark.parametrize("text", ["inf", "-inf", "1e999", "nan"])
def test_whole_numbers_are_finite(text: str) -> None:
    with pytest.raises(UsageError):
        make_params(PLUGIN, {"batch_size": text})


def test_unknown_name_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="Did you mean 'batch_size'"):
        make_params(PLUGIN, {"batchsize": 3})
    with pytest.raises(UsageError, match="It has: kimg, batch_size"):
        make_params(PLUGIN, {"zzz": 3})


def test_what_the_class_refuses_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="exclude one another"):
        make_params(PLUGIN, {"augment": True, "mode": "exact"})


def test_assignments_go_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "params.toml"
    file.write_text('kimg = 1.5\nmode = "exact"\nweights = [1, 2]\n')
    assert parse_assignments(["kimg=2", "batch-size = 4"], file) == {
        "kimg": "2",
        "mode": "exact",
        "weights": [1, 2],
        "batch_size": "4",
    }
    assert parse_assignments(["name=a=b"]) == {"name": "a=b"}


@pytest.mark.parametrize("assignment", ["kimg", "=3", " =3"])
def test_assignment_without_name_or_value_is_a_usage_error(assignment: str) -> None:
    with pytest.raises(UsageError, match="is not name=value"):
        parse_assignments([assignment])


def test_unreadable_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        parse_assignments([], tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("kimg = = 3")
    with pytest.raises(UsageError, match="cannot be read"):
        parse_assignments([], tmp_path / "bad.toml")
    (tmp_path / "latin.toml").write_bytes(b'name = "\xe9"')
    with pytest.raises(UsageError, match="cannot be read"):
        parse_assignments([], tmp_path / "latin.toml")


params_strategy: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "kimg": st.floats(0, 1e6),
        "batch_size": st.integers(1, 64),
        "augment": st.booleans(),
        "rule": st.sampled_from(["a", "b"]),
        "weights": st.lists(st.floats(0, 9), max_size=3).map(tuple),
        "limit": st.none() | st.integers(2, 99),
    },
)


@given(params_strategy)
def test_json_round_trip_is_exact(values: dict[str, Any]) -> None:
    params = make_params(PLUGIN, values)
    assert make_params(PLUGIN, json.loads(json.dumps(params_to_dict(params)))) == params


def test_properties_have_no_deadline() -> None:
    assert settings().deadline is None


@given(params_strategy)
def test_text_of_the_command_line_means_the_same(values: dict[str, Any]) -> None:
    texts = {k: ",".join(map(repr, v)) if isinstance(v, tuple) else str(v) for k, v in values.items()}
    assert make_params(PLUGIN, texts) == make_params(PLUGIN, values)


# ------------------------------------------------------------------------------------------------------- presets


@pytest.fixture
def preset_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GeneratorDeclaration:
    folder = tmp_path / "plugin_with_presets" / "presets"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").touch()
    (folder / "cpu.toml").write_text("# Small,\n# for a CPU.\nkimg = 2 # minutes\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return replace(PLUGIN, module="plugin_with_presets.model")


def test_a_preset_is_found_beside_the_declaration(preset_plugin: GeneratorDeclaration) -> None:
    (file,) = presets_of(preset_plugin).values()
    assert purpose(file) == "Small, for a CPU."
    assert make_params(preset_plugin, read_preset(preset_plugin, "cpu")) == Params(kimg=2.0)


def test_a_preset_that_is_not_there_is_refused_with_those_that_are(preset_plugin: GeneratorDeclaration) -> None:
    with pytest.raises(UsageError, match="no preset 'gpu'") as refused:
        read_preset(preset_plugin, "gpu")
    assert refused.value.why == "It has: cpu."
    for module in ("json", "there_is_none", "there_is_none.below.model"):
        with pytest.raises(UsageError, match="It has: none"):
            read_preset(replace(PLUGIN, module=module), "cpu")


@pytest.mark.parametrize("name", ["progan", "stylegan1", "stylegan2", "stylegan3", "diffusion", "edm", "unet", "swin"])
def test_every_method_brings_the_three_presets(name: str) -> None:
    declarations = discover().declarations
    if name not in declarations:
        pytest.skip(f"the plugin {name} is not installed")
    assert set(presets_of(declarations[name])) >= {"cpu", "small", "study"}
    for file in presets_of(declarations[name]).values():
        make_params(declarations[name], parse_assignments((), file))


def test_the_preset_study_is_the_studys_length() -> None:
    declarations = discover().declarations
    lengths = {"progan": 15000, "stylegan1": 16526, "stylegan2": 25000, "stylegan3": 25000, "diffusion": 10000}
    for name in lengths.keys() & declarations.keys():
        assert make_params(declarations[name], read_preset(declarations[name], "study")).kimg == lengths[name]
