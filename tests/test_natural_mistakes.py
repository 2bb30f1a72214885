"""What people type when they know other tools: the message names what they meant."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from synthkit.cli import app
from synthkit.cli.options import seconds_of
from synthkit.errors import DataError, ExitCode, PluginError, SynthkitError, UsageError
from synthkit.registry.parameters import make_params
from synthkit.registry.registry import Registry
from synthkit.running.run import Job, create_run, write_json
from synthkit.testing import data
from synthkit.testing.toys import GENERATOR, SEGMENTER, SLICE_AUDIT, SLICE_METRIC

NAMES = ("stylegan1", "stylegan2", "stylegan3", "fid")
REGISTRY = Registry({**{d.name: d for d in (GENERATOR, SEGMENTER, SLICE_METRIC)}, **dict.fromkeys(NAMES, GENERATOR)})


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("stylegan", "Did you mean stylegan1 or stylegan2 or stylegan3?"),
        ("StyleGAN2", "Did you mean stylegan2?"),
        ("FID", "Did you mean fid?"),
        ("toy-generater", "Did you mean toy-generator?"),
        ("data/real", "It looks like a path."),
        ("runs/unet.old", "It looks like a path."),
        ("nothing-like-it", "Installed: "),
    ],
)
def test_names_of_plugins(typed: str, why: str) -> None:
    with pytest.raises(PluginError, match=re.escape(f"called {typed!r}")) as caught:
        REGISTRY.get(typed)
    assert caught.value.why.startswith(why)


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ({"epochs": "3"}, "Did you mean 'passes'?"),
        ({"passes": "many"}, "It must be a number."),
        ({"passes": "2.5"}, "It must be a whole number."),
    ],
)
def test_parameters(typed: dict[str, str], why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules["synthkit.registry.parameters"]._ALSO_CALLED, "epochs", ("kimg", "passes"))
    with pytest.raises(UsageError) as caught:
        make_params(GENERATOR, typed)
    assert caught.value.why == why


@pytest.mark.parametrize(
    ("typed", "seconds"),
    [("90", 90), ("45s", 45), ("90m", 5400), ("1.5h", 5400), ("12h", 43200), ("3d", 259_200), (" 2 H ", 7200)],
)
def test_times(typed: str, seconds: float) -> None:
    assert seconds_of(typed) == seconds


@pytest.mark.parametrize("typed", ["1w", "h", "", "-1h", "0", "1h30m", "nan", "inf"])
def test_what_is_not_a_time(typed: str) -> None:
    with pytest.raises(UsageError, match="is not a time"):
        seconds_of(typed)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["audit", "data"], "Did you mean audit-memorization?"),
        (["Prepare", "data"], "Did you mean prepare?"),
        (["trian", "unet"], "Did you mean train"),
        (["frobnicate"], "`synthkit --help` lists all commands"),
    ],
)
def test_commands(typed: list[str], said: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "synthkit", *typed], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2 and f"There is no command {typed[0]!r}" in done.stderr and said in done.stderr


# ------------------------------------------------------------------------------------------ data in the wrong place


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
    (run.outputs / "half.csv").write_text("made")
    write_json(run.path / "result.json", {"error": DataError("It is broken.").to_dict()})
    with pytest.raises(UsageError, match=r"a run that failed: It is broken\. --overwrite makes room"):
        create_run(run.path, job)
    create_run(run.path, job, overwrite=True)
    (run.path / "result.json").write_text("{")
    with pytest.raises(UsageError, match="Nothing is overwritten unasked"):
        create_run(run.path, job)


def test_a_run_that_failed_and_made_nothing_is_not_in_the_way(tmp_path: Path) -> None:
    def job(seed: int) -> Job:
        return Job(verb="train", plugins=("toy",), params={"seed": seed}, inputs={})

    failed = {"status": "failed", "error": UsageError("kimg is too small.").to_dict()}
    run = create_run(tmp_path / "run", job(1))
    run.checkpoint.mkdir()
    write_json(run.checkpoint / "synthkit.json", {"plugin": "toy", "unfinished": True})
    write_json(run.path / "result.json", failed)
    assert create_run(run.path, job(2)).job().params == {"seed": 2}  # the corrected command, as it is
    assert run.result() is None and not run.checkpoint.exists()
    with pytest.raises(UsageError, match="not empty"):  # one that may still go on
        create_run(run.path, job(3))
    write_json(run.path / "result.json", failed)
    (run.path / "notes.txt").write_text("a user's own")
    with pytest.raises(UsageError, match="not empty"):
        create_run(run.path, job(3))


@pytest.mark.parametrize("change", [{"size": [64, 64]}, {"contrasts": ["t1", "t2", "flair", "t1ce"]}])
def test_other_sizes_and_contrasts_are_refused_before_a_run_is_made(
    change: dict[str, object], install_plugins: Callable[..., Registry], tmp_path: Path
) -> None:
    install_plugins(SLICE_METRIC, GENERATOR)
    real, synthetic = data.real_dataset(4, 32).path, tmp_path / "synthetic"
    shutil.copytree(data.dataset_with_copies(4, 32, (0,)).path, synthetic)
    described = json.loads((synthetic / "dataset.json").read_text())
    if "contrasts" in change:
        described["channel_names"] = dict(enumerate(change["contrasts"]))  # type: ignore[call-overload]
    else:
        described |= change
    write_json(synthetic / "dataset.json", described)
    out = tmp_path / "run"
    code, said = synthkit("evaluate", SLICE_METRIC.name, "--real", real, "--synthetic", synthetic, "-o", out)
    assert code == ExitCode.INVALID_DATA and "cannot be compared" in said and not out.exists()


def test_a_size_that_a_generator_cannot_make_is_refused_before_a_run_is_made(
    install_plugins: Callable[..., Registry], tmp_path: Path
) -> None:
    install_plugins(dataclasses.replace(GENERATOR, minimum_size=64))
    real = data.real_dataset(4, 32).path
    code, said = synthkit("train", GENERATOR.name, real, "-o", tmp_path / "run", "--backend", "inline")
    assert code == ExitCode.INVALID_DATA and "cannot make images of 32 x 32" in said and not (tmp_path / "run").exists()
