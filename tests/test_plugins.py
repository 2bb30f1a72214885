"""Finding plugins: one that misbehaves is listed with the reason, and the others are there all the same."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from synthkit import ScoreDefinition, hookimpl, param
from synthkit.cli.doctor import _python
from synthkit.contract import CONTRACT_VERSION
from synthkit.errors import PluginError
from synthkit.registry.registry import BrokenPlugin, Registry, discover, load_module, problem_of
from synthkit.registry.reserved import RESERVED
from synthkit.testing.toys import GENERATOR, SEGMENTER, SLICE_METRIC, VOLUME_METRIC

GROUP = "synthkit.plugins"
GOOD = """
import synthkit
from synthkit.testing.toys import {toy}

@synthkit.hookimpl
def synthkit_declare():
    return [{toy}]
"""

#: Distributions that declare plugins.
OURS = {*RESERVED.values()}


@pytest.fixture
def entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], EntryPoint]:
    """Writes a module and returns an entry point to it."""
    monkeypatch.syspath_prepend(str(tmp_path))
    made: list[str] = []

    def make(name: str, code: str) -> EntryPoint:
        module = f"plugin_{name}_{tmp_path.name}".replace("-", "_")
        (tmp_path / f"{module}.py").write_text(code)
        made.append(module)
        return EntryPoint(name, module, GROUP)

    yield make
    for module in made:
        sys.modules.pop(module, None)


def declare(expression: str, prelude: str = "") -> str:
    return f"import synthkit\n{prelude}\n@synthkit.hookimpl\ndef synthkit_declare():\n    return {expression}\n"


MISBEHAVIOUR = {
    "raises": ("raise RuntimeError('no\\nluck')", "RuntimeError while loading: no luck"),
    "exits": ("import sys\nsys.exit(3)", "SystemExit while loading: 3"),
    "interrupts": ("raise KeyboardInterrupt", "KeyboardInterrupt while loading"),
    "wrong-syntax": ("def", "SyntaxError while loading"),
    "needs-more": ("import no_such_library", "ModuleNotFoundError while loading: No module named 'no_such_library'"),
    "raises-later": (declare("1 / 0"), "ZeroDivisionError while loading: division by zero"),
    "no-hook": ("x = 1", "it declares nothing"),
    "empty": (declare("[]"), "it declares nothing"),
    "nothing": (declare("None"), "it declares nothing"),
    "no-list": (declare("7"), "TypeError while loading"),
    "text": (declare("['generator']"), "it declares a str, not a Declaration"),
}


@pytest.mark.parametrize("name", MISBEHAVIOUR)
def test_plugin_that_misbehaves_is_listed_and_others_work(name: str, entry: Callable[[str, str], EntryPoint]) -> None:
    code, reason = MISBEHAVIOUR[name]
    first, last = entry("aaa", GOOD.format(toy="GENERATOR")), entry("zzz", GOOD.format(toy="SEGMENTER"))
    registry = discover([first, entry(name, code), last])
    assert registry.names() == ["toy-generator", "toy-segmenter"]
    (broken,) = registry.broken
    assert broken.name == name
    assert broken.reason.startswith(reason)
    with pytest.raises(PluginError, match=f"The plugin {name} is broken") as caught:
        registry.get(name)
    assert broken.reason in caught.value.why


def test_plugin_that_hangs_is_given_up(entry: Callable[[str, str], EntryPoint]) -> None:
    release = threading.Event()
    sys.modules["release_for_test"] = release  # type: ignore[assignment]
    try:
        hanging = entry("hangs", "import sys\nsys.modules['release_for_test'].wait()")
        registry = discover([hanging, entry("good", GOOD.format(toy="GENERATOR"))], timeout_seconds=0.5)
        assert registry.broken == [BrokenPlugin("hangs", "", "it did not finish loading within 0.5 s")]
        assert registry.names() == ["toy-generator"]
    finally:
        release.set()
        del sys.modules["release_for_test"]


def test_a_name_that_two_declare_is_nobodys(entry: Callable[[str, str], EntryPoint]) -> None:
    """Whichever entry point sorts first: the other could be the one that the user means."""
    both = [entry("b", GOOD.format(toy="GENERATOR")), entry("a", GOOD.format(toy="GENERATOR"))]
    registry = discover([*both, entry("c", GOOD.format(toy="SEGMENTER"))])
    assert registry.names() == ["toy-segmenter"]
    reason = "the name toy-generator is declared by a plugin and by a plugin: uninstall all but one"
    assert [b.reason for b in registry.broken] == [reason, reason]
    with pytest.raises(PluginError, match="uninstall all but one"):
        registry.get("toy-generator", "generator")


@pytest.mark.parametrize("name", ["memorization", "stylegan2", "dice"])
def test_names_of_our_own_are_reserved(name: str, install_plugins: Callable[..., Registry]) -> None:
    """Also where ours is not installed: nobody may judge a release under its name."""
    registry = install_plugins(replace(GENERATOR, name=name), SEGMENTER)
    assert registry.names() == ["toy-segmenter"]
    with pytest.raises(PluginError, match=f"the name {name} is reserved for synthkit-"):
        registry.get(name)


def test_our_packages_are_not_claimed_by_others(install_plugins: Callable[..., Registry]) -> None:
    """The package decides which container image runs."""
    registry = install_plugins(replace(GENERATOR, distribution="synthkit-memorization"), SEGMENTER)
    with pytest.raises(PluginError, match="it says that it is of synthkit-memorization, and is of synthkit-for-tests"):
        registry.get(GENERATOR.name)


def test_a_stolen_name_is_told_beside_the_plugin_that_has_it(install_plugins: Callable[..., Registry]) -> None:
    install_plugins(replace(GENERATOR, name="memorization"))
    registry = discover()
    if "memorization" not in registry.declarations:
        pytest.skip("memorization is not installed")
    assert registry.declarations["memorization"].kind == "metric"  # ours stays what it is
    told = next(finding for finding in _python() if finding.what == "plugin memorization")
    assert told.state == "broken" and "reserved for synthkit-memorization" in told.found
    assert "uninstall synthkit-for-tests" in told.remedy


def test_reserved_are_the_names_that_our_packages_declare() -> None:
    ours = {name: d.distribution for name, d in discover().declarations.items() if d.distribution in OURS}
    if {*ours.values()} != OURS:
        pytest.skip("not all packages of synthkit are installed")
    assert ours == RESERVED


def test_one_bad_declaration_spares_the_others_of_its_package(entry: Callable[[str, str], EntryPoint]) -> None:
    code = declare(
        "[replace(GENERATOR, contract=99), SEGMENTER]",
        "from dataclasses import replace\nfrom synthkit.testing.toys import *",
    )
    registry = discover([entry("mixed", code)])
    assert registry.names() == ["toy-segmenter"]
    assert [(b.name, b.reason) for b in registry.broken] == [
        ("toy-generator", f"it needs contract 99, this synthkit has {CONTRACT_VERSION}: update synthkit-core")
    ]


def test_installed_distribution_gives_its_version(install_plugins: Callable[..., Registry]) -> None:
    registry = install_plugins(GENERATOR)
    assert registry.versions == {"toy-generator": "1.0"}
    assert registry.get("toy-generator", "generator") == GENERATOR


@dataclass(frozen=True)
class _BadDefault:
    width: int = param(0, "width", minimum=1)


@dataclass
class _Thawed:
    width: int = param(1, "width")


@dataclass(frozen=True)
class _NoDefault:
    width: int


@dataclass(frozen=True)
class _OddType:
    shape: dict = param(None, "shape")  # type: ignore[type-arg]  # noqa: RUF009


@pytest.mark.parametrize(
    ("declaration", "problem"),
    [
        (replace(GENERATOR, name="Toy"), "its name 'Toy' is not lower-case"),
        (replace(GENERATOR, name="toy_x"), "its name 'toy_x' is not lower-case"),
        (replace(GENERATOR, name="toy\n"), "its name 'toy\\n' is not lower-case"),
        (replace(GENERATOR, name=""), "its name is not text"),
        (replace(GENERATOR, name=3), "its name is not text"),
        (replace(GENERATOR, module=None), "its module is not text"),
        (replace(GENERATOR, summary=""), "its summary is not text"),
        (replace(GENERATOR, contract=CONTRACT_VERSION + 1), "it needs contract"),
        (replace(GENERATOR, contract="1"), "it needs contract 1"),
        (replace(GENERATOR, params=dict), "its params are not a dataclass"),
        (replace(GENERATOR, params=_BadDefault()), "its params are not a dataclass"),
        (replace(GENERATOR, params=_Thawed), "its params are not frozen"),
        (replace(GENERATOR, params=_BadDefault), "the defaults of its params are not valid: width=0"),
        (replace(GENERATOR, params=_NoDefault), "the defaults of its params are not valid"),
        (replace(GENERATOR, params=_OddType), "the defaults of its params are not valid"),
        (replace(GENERATOR, minimum_size=512), "its sizes 512 to 256 are not a range"),
        (replace(SLICE_METRIC, roles=()), "its roles"),
        (replace(SLICE_METRIC, roles=("real", "reference")), "its roles"),
        (replace(SLICE_METRIC, optional_roles=("prediction",)), "its roles"),
        (replace(SLICE_METRIC, roles=("fake",)), "its roles ['fake', 'holdout'] are not of"),
        (replace(VOLUME_METRIC, scores=()), "it declares no scores"),
        (GENERATOR.to_dict(), "it declares a dict"),
    ],
    ids=str,
)
def test_nonsense_is_named(declaration: Any, problem: str) -> None:
    assert problem_of(declaration).startswith(problem)


@pytest.mark.parametrize("toy", [GENERATOR, SEGMENTER, SLICE_METRIC, VOLUME_METRIC], ids=lambda toy: toy.name)
def test_right_declarations_have_no_problem(toy: Any) -> None:
    assert problem_of(toy) == ""


@pytest.mark.parametrize(
    "nonsense", [{"sizes": "big"}, {"minimum_size": "32"}, {"scores": 3}, {"roles": 5}, {"params": _OddType}]
)
def test_declarations_of_any_nonsense_do_not_raise(
    nonsense: dict[str, Any], entry: Callable[[str, str], EntryPoint]
) -> None:
    toy = "SLICE_METRIC" if {"scores", "roles"} & nonsense.keys() else "GENERATOR"
    arguments = ", ".join(f"{k}={v!r}" if not isinstance(v, type) else f"{k}=dict" for k, v in nonsense.items())
    code = declare(
        f"[replace({toy}, {arguments})]", "from dataclasses import replace\nfrom synthkit.testing.toys import *"
    )
    registry = discover([entry("nonsense", code), entry("good", GOOD.format(toy="SEGMENTER"))])
    assert registry.names() == ["toy-segmenter"]
    assert len(registry.broken) == 1 and registry.broken[0].reason


def test_get_names_the_nearest_and_the_kind() -> None:
    registry = Registry({"toy-generator": GENERATOR, "toy-segmenter": SEGMENTER})
    with pytest.raises(PluginError, match="Did you mean toy-generator"):
        registry.get("toy-genrator", "generator")
    with pytest.raises(PluginError, match="toy-segmenter is a segmenter, not a generator"):
        registry.get("toy-segmenter", "generator")
    with pytest.raises(PluginError, match="Installed: toy-generator, toy-segmenter"):
        registry.get("zzz")
    with pytest.raises(PluginError, match="Installed: none"):
        Registry().get("zzz", "metric")
    assert registry.names("generator") == ["toy-generator"]


def test_method_that_cannot_be_imported_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "needs_torch_for_test.py").write_text("import no_such_torch")
    (tmp_path / "raises_for_test.py").write_text("1 / 0")
    (tmp_path / "half_for_test.py").write_text("def train(data, checkpoint, params): ...\ngenerate = 3")
    with pytest.raises(PluginError, match=r"No module named 'no_such_torch'.*synthkit-core\[runtime\]"):
        load_module(replace(GENERATOR, module="needs_torch_for_test"))
    with pytest.raises(PluginError, match="ZeroDivisionError"):
        load_module(replace(GENERATOR, module="raises_for_test"))
    with pytest.raises(PluginError, match="has no function generate"):
        load_module(replace(GENERATOR, module="half_for_test"))


def test_listing_imports_no_method(install_plugins: Callable[..., Registry]) -> None:
    before = set(sys.modules)
    install_plugins(replace(GENERATOR, module="no.such.module"))
    assert not {m for m in set(sys.modules) - before if m.startswith(("torch", "no."))}


def test_hook_is_the_one_of_the_package() -> None:
    @hookimpl
    def synthkit_declare() -> list[Any]:
        return []

    assert synthkit_declare.synthkit_impl["specname"] is None  # type: ignore[attr-defined]


def test_scores_have_directions() -> None:
    assert ScoreDefinition(name="a", summary="b", better="lower").unit == ""
