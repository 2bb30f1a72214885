"""The conformance suite itself: right toys pass every check, and each wrong toy fails its check and no other."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from synthkit.contract import Declaration
from synthkit.errors import PluginError, UsageError
from synthkit.registry.registry import BrokenPlugin, Registry
from synthkit.testing import (
    PluginUnderTest,
    check_generator,
    check_metric,
    check_segmenter,
    checks_for,
    parametrize_with_checks,
    run_checks,
)
from synthkit.testing.bench import CheckFailedError, require_form, require_same, stray, watched_writes
from synthkit.testing.checks import CHECKS
from synthkit.testing.checks.registry import perform
from synthkit.testing.toys import GENERATOR, SEGMENTER, SLICE_METRIC, TOYS, VOLUME_METRIC
from synthkit.testing.toys.wrong.catalogue import WRONG, Wrong

JOBS = {item.name for item in CHECKS if item.stage == "job"}


@parametrize_with_checks(*TOYS)
def test_right_toys_pass_every_check(check: Callable[[], None]) -> None:
    check()


@parametrize_with_checks(replace(SEGMENTER, name="toy-probabilistic-segmenter", probabilities=True))
def test_right_probabilities_pass_every_check(check: Callable[[], None]) -> None:
    check()


def test_a_segmenter_takes_the_roles_that_it_declares() -> None:
    plugin = PluginUnderTest(replace(SEGMENTER, optional_roles=("validation",)))
    results = {r.name: r for r in (perform(item, plugin) for item in checks_for(plugin.declaration))}
    assert results["module_has_its_functions"].status == "failed"
    assert "validation" in results["module_has_its_functions"].reason


@pytest.mark.parametrize("wrong", [w for w in WRONG if w.check not in JOBS], ids=lambda w: f"{w.check}: {w.what}")
def test_wrong_toy_fails_its_check_and_no_other(wrong: Wrong, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)  # some write where they stand
    plugin = PluginUnderTest(wrong.declaration, module=wrong.module)
    results = [perform(item, plugin) for item in checks_for(wrong.declaration)]
    assert {r.name: r.reason for r in results if r.status == "failed"}.keys() == {wrong.check}


@pytest.mark.parametrize("wrong", [w for w in WRONG if w.check in JOBS], ids=lambda w: w.check)
def test_toy_that_depends_on_its_process_fails_as_a_job_only(
    wrong: Wrong, install_plugins: Callable[..., Registry]
) -> None:
    registry = install_plugins(wrong.declaration)
    seen: list[tuple[str, int, int]] = []
    results = run_checks(
        wrong.declaration.name,
        backend="local",
        registry=registry,
        on_check=lambda result, done, total: seen.append((result.name, done, total)),
    )
    assert [r.name for r in results if r.status == "failed"] == [wrong.check], results
    assert seen == [(r.name, number, len(results)) for number, r in enumerate(results, start=1)]


@pytest.mark.parametrize("toy", TOYS, ids=lambda toy: toy.name)
def test_right_toy_passes_as_a_job(toy: Declaration, install_plugins: Callable[..., Registry]) -> None:
    results = run_checks(toy.name, backend="local", registry=install_plugins(toy))
    assert {r.status for r in results} <= {"passed", "skipped"}, [r for r in results if r.status == "failed"]
    assert [r.status for r in results if r.name in JOBS] == ["passed"]


def test_every_check_has_a_promise_and_a_wrong_toy() -> None:
    assert {item.name for item in CHECKS} == {wrong.check for wrong in WRONG}
    assert all(item.promise.endswith(".") and item.kinds for item in CHECKS)
    assert len({item.name for item in CHECKS}) == len(CHECKS)
    assert len({wrong.what for wrong in WRONG if wrong.check not in JOBS}) >= len(CHECKS) - len(JOBS)


def test_run_checks_inline_leaves_the_jobs_out() -> None:
    results = run_checks("toy-generator", registry=Registry({"toy-generator": GENERATOR}))
    assert {r.status for r in results} == {"passed"}
    assert not JOBS & {r.name for r in results}
    assert all(r.seconds >= 0 and r.promise for r in results)


def test_unknown_plugin_is_an_error() -> None:
    with pytest.raises(PluginError, match="toy-generatr"):
        run_checks("toy-generatr", registry=Registry({"toy-generator": GENERATOR}))


def test_backend_that_is_not_there_is_no_fault_of_the_plugin() -> None:
    with pytest.raises(UsageError, match="There is no backend 'dokcer'"):
        run_checks("toy-generator", backend="dokcer", registry=Registry({"toy-generator": GENERATOR}))


def test_check_functions_list_what_failed() -> None:
    assert {r.status for r in check_generator(GENERATOR)} == {"passed"}
    with pytest.raises(
        AssertionError, match=r"toy-segmenter fails 1 of \d+ checks\nlicence_and_citation_are_declared: "
    ):
        check_segmenter(replace(SEGMENTER, licence=""))
    with pytest.raises(AssertionError, match="toy-overlap fails 1 of"):
        check_metric(replace(VOLUME_METRIC, licence=""))


def test_method_that_cannot_be_imported_here_is_skipped_and_says_why(tmp_path: Path, monkeypatch) -> None:
    package = tmp_path / "needs_more"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "Dockerfile").write_text("ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\n")
    (package / "model.py").write_text("import no_such_library\n")
    (package / "broken.py").write_text("import needs_more.absent\n")
    monkeypatch.syspath_prepend(tmp_path)
    results = check_generator(replace(GENERATOR, module="needs_more.model"))
    assert {r.reason for r in results if r.status == "skipped"} == {"no_such_library is not installed"}
    assert [r.name for r in results if r.status == "passed"] == [c.name for c in CHECKS if c.stage == "declaration"][
        :-1
    ]
    # What is missing from the plugin's own package is the plugin's fault.
    with pytest.raises(AssertionError, match="cannot be imported"):
        check_generator(replace(GENERATOR, module="needs_more.broken"))


def test_quick_parameters_come_from_the_package_and_from_the_call(tmp_path: Path, monkeypatch) -> None:
    package = tmp_path / "quick_plugin"
    package.mkdir()
    (package / "__init__.py").write_text("CONFORMANCE_PARAMS = {'passes': 2, 'seed': 5}\n")
    monkeypatch.syspath_prepend(tmp_path)
    declaration = replace(GENERATOR, module="quick_plugin.model", imports=())
    params = PluginUnderTest(declaration, params={"seed": 6}).params
    assert (params.passes, params.seed) == (2, 6)
    assert PluginUnderTest(GENERATOR).params == GENERATOR.params(passes=2)


def test_form_and_sameness() -> None:
    image, labels = np.zeros((2, 8, 8), np.uint8), np.zeros((8, 8), np.uint8)
    require_form([(image, labels)] * 3, 3, 2, 8)
    for made in ([(image, labels)] * 2, [(image[:1], labels)] * 3, [(image.astype(float), labels)] * 3):
        with pytest.raises(CheckFailedError):
            require_form(made, 3, 2, 8)
    require_same([(image, labels)], [(image + 1, labels)], "then")
    with pytest.raises(CheckFailedError, match="not the same to the byte then"):
        require_same([(image, labels)], [(image + 1, labels)], "then", bitwise=True)
    with pytest.raises(CheckFailedError, match="2 grey levels"):
        require_same([(image, labels)], [(image + 2, labels)], "then")
    with pytest.raises(CheckFailedError, match=r"labels of number 0 differ in 100.0 %"):
        require_same([(image, labels)], [(image, labels + 1)], "then")


def test_writes_are_seen(tmp_path: Path) -> None:
    allowed = tmp_path / "checkpoint"
    with watched_writes() as paths:
        allowed.mkdir()
        (allowed / "a.json").write_text("{}")
        Path("b").mkdir()
        Path("c").symlink_to("b")
        (tmp_path / "read").exists()
    assert {Path(p).name for p in stray(paths, allowed)} >= {"b"}
    assert not [p for p in stray(paths, allowed) if "a.json" in p or "read" in p]
    with watched_writes() as paths:
        pass
    assert not paths


def test_plugin_that_is_not_installed_is_skipped_and_a_broken_one_fails(monkeypatch) -> None:
    broken = BrokenPlugin("damaged", "synthkit-damaged", "it raises")
    monkeypatch.setattr("synthkit.testing.checks.discover", lambda: Registry(broken=[broken]))
    absent, damaged = parametrize_with_checks("no-such-plugin", "damaged").args[1]
    (mark,) = absent.marks
    assert (mark.name, mark.kwargs) == ("skip", {"reason": "the plugin no-such-plugin is not installed"})
    with pytest.raises(PluginError, match="it raises"):
        damaged.values[0]()


def test_importing_the_suite_is_light() -> None:
    code = "import sys, json, synthkit.testing; print(json.dumps([m for m in ('numpy', 'pytest') if m in sys.modules]))"
    assert json.loads(subprocess.check_output([sys.executable, "-c", code])) == []
    code = "import sys, synthkit.testing.checks; assert 'pytest' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_slice_metric_needs_no_optional_role() -> None:
    names = [r.name for r in check_metric(SLICE_METRIC) if r.status == "skipped"]
    assert names == ["kept_changes_no_score", "perfect_prediction_scores_best"]
