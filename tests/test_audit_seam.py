"""Any audit that yields what the seam asks for goes all the way: verdict, pages, release. Nothing else is let in."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from synthkit.cli import app
from synthkit.contract import Declaration, ScoreDefinition
from synthkit.data.dataset import Dataset
from synthkit.errors import ExitCode, SynthkitError, UsageError
from synthkit.judging import audit_scores
from synthkit.judging.audit_scores import SCORES, AuditScores, definitions
from synthkit.judging.audit_tables import (
    HOLDOUT_SUBJECTS,
    HOLDOUT_TWINS,
    MATCHES,
    NAMES_OF_REAL,
    NULL,
    PAIRS,
    SUBJECTS,
    TABLES,
    AuditTable,
)
from synthkit.registry.registry import Registry, problem_of
from synthkit.report.audit import numbers, tables
from synthkit.study.results import AUDIT_SCORES
from synthkit.testing import data
from synthkit.testing.toys import SLICE_AUDIT, SLICE_METRIC

COPIED = (0, 5, 10)
#: With six planted copies little is known; the toy has to be allowed to pass.
POLICY = 'required_power = ["exact"]\nmin_power = 0.5\nmax_removed_rate = 0.5\n'


def synthkit(*arguments: object) -> tuple[int, str]:
    """The exit code and all that the command says, in this process."""
    done = CliRunner().invoke(app, list(map(str, arguments)))
    if isinstance(done.exception, SynthkitError):
        return done.exception.exit_code, f"{done.output}\n{done.exception} {done.exception.why} {done.exception.fix}"
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


# --------------------------------------------------------------------------------------------------- who is let in


def test_a_metric_that_is_not_an_audit_is_refused_by_name() -> None:
    registry = Registry({"toy-nearest": SLICE_AUDIT, "toy-shift": SLICE_METRIC})
    assert registry.audit("toy-nearest") is SLICE_AUDIT
    with pytest.raises(UsageError) as caught:
        registry.audit("toy-shift")
    assert "toy-shift is not an audit" in str(caught.value) and "Installed audits: toy-nearest." in str(caught.value)
    with pytest.raises(UsageError, match="Installed audits: none"):
        Registry({"toy-shift": SLICE_METRIC}).audit("toy-shift")


def test_the_commands_tell_audits_from_other_metrics(install_plugins: Callable[..., Registry], tmp_path: Path) -> None:
    install_plugins(SLICE_AUDIT, SLICE_METRIC)
    real, synthetic = data.real_dataset(4, 32).path, data.dataset_with_copies(4, 32, COPIED).path
    code, shown = synthkit("audit-memorization", real, synthetic, "--metric", "toy-shift", "-o", tmp_path / "run")
    assert code == ExitCode.USAGE and "toy-shift is not an audit" in shown and "toy-nearest" in shown
    code, shown = synthkit("evaluate", "toy-nearest", "--real", real, "--synthetic", synthetic, "-o", tmp_path / "run")
    assert code == ExitCode.USAGE and "toy-nearest is an audit" in shown
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("declaration", "problem"),
    [
        (SLICE_AUDIT, ""),
        (replace(SLICE_AUDIT, roles=("real", "synthetic")), "are not train and synthetic"),
        (replace(SLICE_AUDIT, audit=False), "only an audit is given"),
        (replace(SLICE_METRIC, optional_roles=("train",)), "only an audit is given"),
    ],
)
def test_audits_and_nothing_else_take_training_images(declaration: Declaration, problem: str) -> None:
    found = problem_of(declaration)
    assert problem in found and bool(found) == bool(problem)


# ---------------------------------------------------------------------------------------------------- all the way


def test_another_audit_reaches_verdict_pages_and_release(
    install_plugins: Callable[..., Registry], tmp_path: Path
) -> None:
    install_plugins(SLICE_AUDIT)
    real, synthetic = data.real_dataset(4, 32), data.dataset_with_copies(4, 32, COPIED)
    run, out, policy = tmp_path / "audit", tmp_path / "release", tmp_path / "policy.toml"
    policy.write_text(POLICY)
    audit = ("audit-memorization", real.path, synthetic.path, "--metric", "toy-nearest", "--policy", policy)
    code, shown = synthkit(*audit, "-o", run, "--backend", "inline")
    assert code == ExitCode.GATE_FAILED, shown
    assert "Verdict: fail" in shown and "3 synthetic images are identical to a training image" in shown
    assert "3 synthetic images are copies of 3 training people (tolerated: 0)" in shown
    page = (run / "audit.html").read_text()
    assert (
        "copies of training people" in page
        and "smallest margin to training people" in page
        and "Most similar pairs" in page
        and "toy-nearest" in page
    )
    for number in range(len(COPIED)):
        assert f"copy{COPIED[number]}" in page

    code, shown = synthkit("report", run, "-o", tmp_path / "report.html")
    assert code == ExitCode.OK, shown
    assert "could not be" not in (tmp_path / "report.html").read_text().lower()

    code, shown = synthkit(
        "release", synthetic.path, "--audit", run, "-o", out, "--format", "dataset", "--backend", "inline"
    )
    assert code == ExitCode.OK, shown
    released = Dataset(out / "dataset")
    copies = {row["synthetic_id"] for row in _rows(run) if row["copy"] == "True"}
    assert {f"copy{i}" for i in COPIED} == copies and len(released) == len(synthetic) - len(copies)
    document = json.loads((out / "audit.json").read_text())
    assert document["metric"] == ["toy-nearest"] and document["verdict"]["outcome"] == "pass"
    sheet = (out / "datasheet.md").read_text()
    assert "What can be signed: none of" in sheet
    assert "nearer to a training person than chance allows (copies)" in (out / "assessment.md").read_text()


def test_a_release_leaves_out_copies_that_were_tolerated(
    install_plugins: Callable[..., Registry], tmp_path: Path
) -> None:
    install_plugins(SLICE_AUDIT)
    real, synthetic = data.real_dataset(4, 32), data.dataset_with_copies(4, 32, COPIED)
    run, out, policy = tmp_path / "audit", tmp_path / "release", tmp_path / "policy.toml"
    policy.write_text(f"max_copies = 3\n{POLICY}")
    audit = ("audit-memorization", real.path, synthetic.path, "--metric", "toy-nearest", "--policy", policy)
    code, shown = synthkit(*audit, "-o", run, "--backend", "inline")
    assert code == ExitCode.OK, shown
    assert "all but 3 of 19 synthetic images are no copies of 6 training people" in shown
    code, shown = synthkit(
        "release", synthetic.path, "--audit", run, "-o", out, "--format", "dataset", "--backend", "inline"
    )
    assert code == ExitCode.OK and "Left out: 3 of 19 images (3 copies)" in shown, shown
    assert not [row.id for row in Dataset(out / "dataset").samples if row.id.startswith("copy")]


def test_copies_of_held_out_people_are_never_released(install_plugins: Callable[..., Registry], tmp_path: Path) -> None:
    install_plugins(SLICE_AUDIT)
    real, synthetic = data.real_dataset(4, 32), data.dataset_with_copies(4, 32, COPIED, "holdout")
    policy = tmp_path / "policy.toml"
    for tolerated, verdict in ((0, ExitCode.GATE_FAILED), (3, ExitCode.OK)):
        run = tmp_path / f"audit-{tolerated}"
        policy.write_text(f"max_copies = {tolerated}\n{POLICY}")
        audit = ("audit-memorization", real.path, synthetic.path, "--metric", "toy-nearest", "--policy", policy)
        code, shown = synthkit(*audit, "-o", run, "--backend", "inline")
        assert code == verdict and "3 synthetic images are copies of 3 held-out people" in shown, shown
        code, shown = synthkit("release", synthetic.path, "--audit", run, "-o", tmp_path / "out", "--backend", "inline")
        assert code == ExitCode.GATE_FAILED and "3 images are copies of held-out people" in shown, shown
        assert not (tmp_path / "out").exists()
    # The remedy: other images. Those that copy nobody are released.
    other = data.synthetic_dataset(4, 32)
    audit = ("audit-memorization", real.path, other.path, "--metric", "toy-nearest", "--policy", policy)
    assert synthkit(*audit, "-o", tmp_path / "other", "--backend", "inline")[0] == ExitCode.OK
    code, shown = synthkit("release", other.path, "--audit", tmp_path / "other", "-o", tmp_path / "out")
    assert code == ExitCode.OK, shown


def _rows(run: Path) -> list[dict[str, str]]:
    return list(tables._rows(run / "outputs" / MATCHES.file))


def test_a_release_needs_every_column_of_the_matches(install_plugins: Callable[..., Registry], tmp_path: Path) -> None:
    """An audit that passes no conformance check is refused by what it lacks, and not by a KeyError."""
    method = (
        "from dataclasses import replace\n"
        "from synthkit import Row\n"
        "from synthkit.testing.toys import slice_audit\n"
        "def score(**given):\n"
        "    for answer in slice_audit.score(**given):\n"
        "        if isinstance(answer, Row):\n"
        "            kept = {k: v for k, v in answer.values.items() if k != 'train_subject'}\n"
        "            answer = replace(answer, values=kept)\n"
        "        yield answer\n"
    )
    install_plugins(replace(SLICE_AUDIT, module="synthkit_for_tests"), code=method)
    real, synthetic = data.real_dataset(4, 32), data.dataset_with_copies(4, 32, COPIED)
    run, policy = tmp_path / "audit", tmp_path / "policy.toml"
    policy.write_text(POLICY)
    audit = ("audit-memorization", real.path, synthetic.path, "--metric", "toy-nearest", "--policy", policy)
    synthkit(*audit, "-o", run, "--backend", "inline")
    code, shown = synthkit("release", synthetic.path, "--audit", run, "-o", tmp_path / "out")
    assert code == ExitCode.INVALID_DATA and "lacks train_subject" in shown and "toy-nearest" in shown


# --------------------------------------------------------------------------------------------- one name, one meaning


def test_nothing_outside_reads_a_score_that_the_seam_does_not_declare() -> None:
    lines = [line for group in numbers.GROUPS.values() for line in group]
    shown = {line.name for line in lines} | {line.baseline for line in lines if isinstance(line.baseline, str)}
    shown |= {*numbers.BY_COLUMN, *numbers._SEARCHED, *numbers._TAILS}
    shown |= {name for name, _, _ in numbers.BY_FAMILY}
    assert shown <= set(SCORES)
    assert set(AUDIT_SCORES) <= set(SCORES)
    for name in ("n_copied", "control_max"):
        with pytest.raises(KeyError):
            AuditScores([]).get(name)
        with pytest.raises(KeyError):
            AuditScores([]).each(name, "quantile")
        with pytest.raises(KeyError):
            AuditScores([]).by_family(name)


def test_scores_are_read_by_what_they_are_of() -> None:
    found = AuditScores(
        [
            {"name": "n_copies", "value": 999, "of": {"contrast": "t1", "rule": "pearson"}},
            {"name": "n_copies", "value": 3, "of": {}, "low": 1},
            {"name": "n_copies", "value": 2, "of": {"family": "labels"}},
            {"name": "n_holdout_copies", "value": None, "of": {}, "note": "no null"},
            {"name": "least_margin", "value": 0.5, "of": {"family": "labels"}},
            {"name": "least_margin", "value": 0.9, "of": {"family": "labels", "side": "holdout"}},
            {"name": "least_margin", "value": None, "of": {"family": "frame"}},
            {"name": "power", "value": 0.5, "of": {"planted": "noise", "strength": "sd 5"}},
            {"name": "power", "value": None, "of": {"planted": "blur", "strength": ""}},
            {"name": "of its own", "value": 1, "of": {}},
        ]
    )
    assert found.count("n_copies") == 3 and found.low("n_copies") == 1 and found.low("n_holdout_copies") is None
    assert found.get("n_holdout_copies") is None and found.value("c_t") is None
    assert found.by_family("n_copies") == {"labels": 2} and found.by_family("least_margin") == {"labels": 0.5}
    assert found.by_family("least_margin", side="holdout") == {"labels": 0.9}
    assert [audit_scores.planted_name(score) for score in found.planted] == ["noise sd 5"]


def test_definitions_always_hold_what_is_required() -> None:
    required = {name for name, score in SCORES.items() if score.required}
    assert {d.name for d in definitions("power")} == {*required, "power"}
    assert [d.name for d in definitions()] == list(SCORES)
    assert all(isinstance(d, ScoreDefinition) and d.summary for d in definitions())
    with pytest.raises(KeyError, match="powers"):
        definitions("powers")


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)
def test_the_reader_of_a_table_needs_its_columns_and_no_others(table: AuditTable, tmp_path: Path) -> None:
    path = tmp_path / table.file
    measured = ("r", "best_r", "threshold", "margin")
    cells: dict[str, Any] = {name: "0.5" for name in table.columns if name.startswith(measured)}
    row = {name: cells.get(name, "3" if name.startswith("n_") else name) for name in table.columns}
    row |= {name: value for name, value in (("rule", "pearson"), ("copy", "True")) if name in row}
    path.write_text(f"{','.join(row)}\n{','.join(row.values())}\n")
    readers: dict[str, Callable[[], Any]] = {
        MATCHES.name: lambda: tables.read_matches(path).nearest,
        NULL.name: lambda: tables.read_null(path),
        PAIRS.name: lambda: tables.read_pairs(path),
        SUBJECTS.name: lambda: tables.read_subjects(path),
        HOLDOUT_SUBJECTS.name: lambda: tables.read_subjects(path, "holdout"),
        HOLDOUT_TWINS.name: lambda: tables.read_twins(path),
    }
    assert readers[table.name]()
    assert set(tables.named_in(tmp_path)) == set(table.columns) & set(NAMES_OF_REAL)


def test_declaring_an_audit_is_light() -> None:
    code = (
        "import sys, synthkit.judging.audit_scores; print([m for m in ('numpy', 'scipy', 'typer') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_the_example_of_the_documentation_is_an_audit() -> None:
    text = (Path(__file__).parents[1] / "docs" / "plugins.md").read_text()
    (example,) = re.findall(r"```python\n((?:(?!```).)*audit=True.*?)```", text, flags=re.DOTALL)
    names: dict[str, Any] = {}
    exec(example, names)
    assert problem_of(names["AUDIT"]) == "" and names["AUDIT"].audit
    assert {"power", "membership_auc", "n_copies"} <= {score.name for score in names["AUDIT"].scores}
