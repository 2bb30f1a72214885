"""--overwrite: what is replaced stays whole until there is something in its place, whatever goes wrong before."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from synthkit import api
from synthkit.cli import demo
from synthkit.cli.console import Console
from synthkit.data import importing
from synthkit.data.dataset import Dataset
from synthkit.data.prepare import prepare
from synthkit.data.slices import SliceProtocol
from synthkit.data.writer import DatasetWriter, replacing
from synthkit.errors import DataError, InterruptedRunError, SynthkitError
from synthkit.files import EARLIER
from synthkit.running import launch
from synthkit.running.launch import RunOptions, carry_out
from synthkit.running.listening import WarningsOnly
from synthkit.running.request import Request
from synthkit.running.run import Input, Job, Run, find_runs
from synthkit.schemes import BRATS
from synthkit.testing.toys import GENERATOR

MakeSubject = Callable[..., Path]
SMALL = SliceProtocol(size=32, brain_fraction=0.001)


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# ---------------------------------------------------------------------------------------------------------------- runs


class Listener:
    def note(self, text: str) -> None: ...

    def warning(self, text: str) -> None: ...

    def progress(self, title: str) -> Any:
        import contextlib

        return contextlib.nullcontext(WarningsOnly(self))


class Backend:
    """Does what a test says in a run folder, and gives its result."""

    name = "test"

    def __init__(self, do: Callable[[Run], None], error: SynthkitError | BaseException | None) -> None:
        self._do, self._error = do, error

    def run(self, run: Run, declaration: object, follow: object) -> dict[str, Any]:
        self._do(run)
        if self._error is not None and not isinstance(self._error, SynthkitError):
            raise self._error
        error = None if self._error is None else self._error.to_dict()
        result = {"status": "failed" if error else "succeeded", "exit_code": 3, "error": error, "warnings": []}
        run.write_result(result)
        return result


@pytest.fixture
def attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    (tmp_path / "data").mkdir()

    def carried_out(do: Callable[[Run], None], error: Any = None, seed: int = 0, **options: bool) -> Run:
        monkeypatch.setattr(launch.backends, "choose", lambda *_: Backend(do, error))
        job = Job("train", ("toy",), {"seed": seed}, {"data": Input("dataset", source=tmp_path / "data")})
        request = Request(job, (GENERATOR,), "train")
        return carry_out(request, tmp_path / "run", RunOptions(**options), Listener()).run

    return carried_out


def makes(text: str) -> Callable[[Run], None]:
    def do(run: Run) -> None:
        (run.outputs / "deep").mkdir(exist_ok=True)
        (run.outputs / "deep" / "made").write_text(text)
        (run.path / "log.txt").write_text(text)

    return do


def logs(run: Run) -> None:
    (run.outputs / "empty").mkdir()
    (run.path / "log.txt").write_text("why it failed")


@pytest.mark.parametrize(
    "error",
    [
        DataError("A subject is bad.", fix="Repair it."),
        InterruptedRunError("Interrupted.", fix="Go on with --resume."),
        KeyboardInterrupt(),
        OSError("no space left"),
    ],
)
def test_a_run_that_fails_before_it_has_made_anything_leaves_the_earlier_one(
    tmp_path: Path, attempt: Callable[..., Run], error: BaseException
) -> None:
    run = attempt(makes("old"))
    before = content(run.path)
    with pytest.raises(type(error)) as caught:
        attempt(logs, error, seed=1, overwrite=True)
    assert content(run.path) == before and Run(run.path).job().params == {"seed": 0}
    if isinstance(caught.value, SynthkitError):
        assert any("the earlier run is as it was" in line for line in caught.value.details)
        assert not any("log:" in line for line in caught.value.details) and "--resume" not in caught.value.fix
    attempt(makes("new"), seed=1, overwrite=True)  # "Give the same command again."
    assert (run.outputs / "deep" / "made").read_text() == "new" and not (run.path / EARLIER).exists()


def test_a_run_that_fails_with_something_made_is_there_to_go_on_from(
    tmp_path: Path, attempt: Callable[..., Run]
) -> None:
    run = attempt(makes("old"))
    with pytest.raises(InterruptedRunError, match="--resume") as caught:
        attempt(makes("half"), InterruptedRunError("Interrupted.", fix="Go on with --resume."), seed=1, overwrite=True)
    assert f"log: {run.path / 'log.txt'}" in caught.value.details
    assert (run.outputs / "deep" / "made").read_text() == "half" and not (run.path / EARLIER).exists()
    attempt(lambda _: None, seed=1, resume=True)
    assert (run.outputs / "deep" / "made").read_text() == "half"


@pytest.mark.parametrize("made", [False, True])
def test_a_command_that_was_killed_loses_nothing(tmp_path: Path, attempt: Callable[..., Run], made: bool) -> None:
    """The folder as SIGKILL leaves it: the earlier run aside, the new one begun."""
    run = attempt(makes("old"))
    before = content(run.path)

    def killed(new: Run) -> None:
        (makes("new") if made else logs)(new)
        shutil.copytree(new.path, tmp_path / "left", symlinks=True)

    attempt(killed, seed=1, overwrite=True)
    shutil.rmtree(run.path)
    (tmp_path / "left").rename(run.path)
    assert [found.path for found in find_runs([tmp_path])] == [run.path]
    with pytest.raises(SynthkitError, match="not empty"):
        attempt(makes("third"), seed=2)
    assert (run.outputs / "deep" / "made").read_text() == ("new" if made else "old")
    assert made or content(run.path) == before


def test_a_link_in_place_of_the_earlier_run_is_not_followed(tmp_path: Path, attempt: Callable[..., Run]) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")

    def trap(run: Run) -> None:
        shutil.rmtree(run.path / EARLIER, ignore_errors=True)
        (run.path / EARLIER).symlink_to(tmp_path / "mine")

    with pytest.raises(DataError):
        attempt(trap, DataError("Bad."))
    with pytest.raises(DataError):
        attempt(trap, DataError("Bad."), overwrite=True)
    attempt(makes("new"), overwrite=True)
    assert content(tmp_path / "mine") == {"thesis.tex": b"years of work"}


def test_an_evaluation_that_is_refused_while_it_scores_leaves_the_earlier_one(
    tmp_path: Path, make_subject: MakeSubject
) -> None:
    pytest.importorskip("scipy", reason="scipy is not installed")
    for name in ("s1", "s2"):
        make_subject(tmp_path / "subjects", name)
        file = make_subject(tmp_path / "all", name) / f"{name}_seg.nii.gz"
        (tmp_path / "pred").mkdir(exist_ok=True)
        shutil.copy(file, tmp_path / "pred" / f"{name}.nii.gz")
    given = {"reference": tmp_path / "subjects", "prediction": tmp_path / "pred"}
    run = api.evaluate(["dice"], tmp_path / "run", **given, backend="inline")[0].run
    before = content(run.path)
    image = nib.load(tmp_path / "pred" / "s2.nii.gz")
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[:-1], image.affine), tmp_path / "pred" / "s2.nii.gz")
    with pytest.raises(DataError, match="s2"):
        api.evaluate(["dice"], tmp_path / "run", **given, backend="inline", overwrite=True)
    assert content(run.path) == before


# ------------------------------------------------------------------------------------------------------------ datasets


@pytest.fixture
def subjects(tmp_path: Path, make_subject: MakeSubject) -> Path:
    for name in ("s1", "s2"):
        make_subject(tmp_path / "subjects", name)
    return tmp_path / "subjects"


def test_subjects_that_change_while_they_are_prepared(
    tmp_path: Path, subjects: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    prepare(subjects, out, protocol=SMALL)
    before = content(out)

    def damage(stage: str, done: int, total: int) -> None:
        if (stage, done) == ("check", total):
            (subjects / "s1" / "s1_t1.nii.gz").write_bytes(b"gone")

    # Subjects too large to be kept from the first reading.
    monkeypatch.setattr("synthkit.data.prepare.MOST_BYTES", 0)
    with pytest.raises(DataError, match="Subject s1"):
        prepare(subjects, out, protocol=SMALL, holdout="1", overwrite=True, on_progress=damage)
    assert content(out) == before and Dataset(out)


def test_a_disk_that_is_full_leaves_the_earlier_dataset(
    tmp_path: Path, subjects: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    prepare(subjects, out, protocol=SMALL)
    before = content(out)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(DatasetWriter, "append", full)
    with pytest.raises(OSError, match="No space"):
        prepare(subjects, out, protocol=SMALL, holdout="1", overwrite=True)
    assert content(out) == before


def test_an_import_that_is_interrupted_while_it_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 1, 16, 16), dtype=np.uint8)
    for name in ("old", "new"):
        np.savez(tmp_path / f"{name}.npz", flair=images[:, 0], seg=np.zeros((4, 16, 16), np.uint8))
    out = tmp_path / "out"
    importing.import_images(tmp_path / "old.npz", out)
    before = content(out)

    def broken(*_: Any) -> None:
        raise DataError("A picture has changed.")

    monkeypatch.setattr(importing, "_batches", broken)
    with pytest.raises(DataError, match="has changed"):
        importing.import_images(tmp_path / "new.npz", out, overwrite=True)
    assert content(out) == before


def test_a_dataset_whose_replacement_was_killed_comes_back(tmp_path: Path, subjects: Path) -> None:
    out = tmp_path / "out"
    prepare(subjects, out, protocol=SMALL)
    before = content(out)
    with replacing(out, overwrite=True):
        begun = DatasetWriter(out, contrasts=["t1"], scheme=BRATS, size=(32, 32))
        assert begun.n_samples == 0
        shutil.copytree(out, tmp_path / "left")
    shutil.rmtree(out)
    (tmp_path / "left").rename(out)
    with pytest.raises(KeyboardInterrupt), replacing(out, overwrite=False):
        raise KeyboardInterrupt
    assert content(out) == before


def test_a_demo_that_fails_at_once_leaves_the_earlier_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "demo.json").write_text(json.dumps({"phantom": True}))
    before = content(tmp_path)

    def fails(*_: Any) -> None:
        raise DataError("No phantom.")

    monkeypatch.setattr(demo, "_check_installed", lambda: None)
    monkeypatch.setattr(demo, "_whole_job", fails)
    with pytest.raises(DataError):
        demo.run_demo(tmp_path, Console(quiet=True), overwrite=True)
    assert content(tmp_path) == before
