"""What people type when they do not know better yet is refused, or doubted, in words that lead on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from synthkit.cli import app
from synthkit.errors import DataError, ExitCode, SynthkitError, UsageError
from synthkit.registry.registry import Registry
from synthkit.running.run import Job, create_run, write_json
from synthkit.testing import data
from synthkit.testing.toys import SLICE_AUDIT, SLICE_METRIC


def synthkit(*arguments: object) -> tuple[int, str]:
    """The exit code and all that the command says, in this process."""
    done = CliRunner().invoke(app, list(map(str, arguments)))
    if isinstance(done.exception, SynthkitError):
        return done.exception.exit_code, f"{done.output}\n{done.exception}"
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


def test_real_images_are_not_audited_as_a_generators(install_plugins: Callable[..., Registry], tmp_path: Path) -> None:
    install_plugins(SLICE_AUDIT)
    real, synthetic = data.real_dataset(4, 32).path, data.dataset_with_copies(4, 32, (0,)).path
    options = ("--metric", SLICE_AUDIT.name, "-o", tmp_path / "run", "--backend", "local", "--dry-run")
    code, said = synthkit("audit-memorization", synthetic, real, *options)
    assert code == ExitCode.INVALID_DATA and f"`synthkit audit-memorization {real} {synthetic}`" in said
    assert synthkit("audit-memorization", real, synthetic, *options)[0] == ExitCode.OK  # as it advises
    code, said = synthkit("audit-memorization", real, real, *options)
    assert code == ExitCode.INVALID_DATA and "holds real images" in said and "`synthkit generate`" in said


def test_images_that_are_not_what_they_are_given_as_are_doubted(
    install_plugins: Callable[..., Registry], tmp_path: Path
) -> None:
    install_plugins(SLICE_METRIC)
    real, synthetic = data.real_dataset(4, 32).path, data.dataset_with_copies(4, 32, (0,)).path
    options = ("-o", tmp_path / "run", "--backend", "local", "--dry-run")
    code, said = synthkit("evaluate", SLICE_METRIC.name, "--real", synthetic, "--synthetic", real, *options)
    assert code == ExitCode.OK
    assert f"{synthetic} was given as --real and holds synthetic images" in said
    assert f"{real} was given as --synthetic and holds real images" in said
    said = synthkit("evaluate", SLICE_METRIC.name, "--real", real, "--synthetic", synthetic, *options)[1]
    assert "was given as" not in said


def test_pictures_and_datasets_are_no_subjects(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    for name, grey in (("a_t1.png", 40), ("a_labels.png", 0)):
        Image.new("L", (32, 32), grey).save(tmp_path / "pictures" / name)
    code, said = synthkit("prepare", tmp_path / "pictures", "-o", tmp_path / "out")
    advice = f"synthkit import {tmp_path / 'pictures'}"
    assert code == ExitCode.INVALID_DATA and f"`{advice}`" in said
    assert synthkit(*advice.split()[1:], "-o", tmp_path / "out", "--dry-run")[0] == ExitCode.OK
    real = data.real_dataset(4, 32).path
    code, said = synthkit("prepare", real, "-o", tmp_path / "out")
    assert code == ExitCode.INVALID_DATA and "It is a dataset" in said
    code, said = synthkit("import", real, "-o", tmp_path / "out")
    assert code == ExitCode.USAGE and "is a dataset already" in said


def test_a_file_or_a_dataset_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "network.pkl").write_text("123")
    code, said = synthkit("generate", tmp_path / "network.pkl", "--seeds", "0-3", "-o", tmp_path / "out")
    assert code == ExitCode.INVALID_DATA and "`synthkit import-checkpoint`" in said
    real = data.real_dataset(4, 32).path
    code, said = synthkit("segment", real, tmp_path, "-o", tmp_path / "out")
    assert code == ExitCode.INVALID_DATA and "It is a dataset. The model comes first" in said


def test_a_run_that_failed_says_how_to_make_room(tmp_path: Path) -> None:
    job = Job(verb="train", plugins=("toy",), params={}, inputs={})
    run = create_run(tmp_path / "run", job)
    write_json(run.path / "result.json", {"error": DataError("It is broken.").to_dict()})
    with pytest.raises(UsageError, match=r"a run that failed: It is broken\. --overwrite makes room"):
        create_run(run.path, job)
    create_run(run.path, job, overwrite=True)
    (run.path / "result.json").write_text("{")
    with pytest.raises(UsageError, match="Nothing is overwritten unasked"):
        create_run(run.path, job)
