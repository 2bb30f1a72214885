"""Run folders that somebody has changed in any way: never a hang, a crash, or a file from outside of the folder."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from synthkit.data.dataset import Dataset
from synthkit.data.exporting import export_dataset
from synthkit.data.receiving import pixel_digests
from synthkit.errors import ExitCode, SynthkitError, explain_end
from synthkit.registry.registry import Registry
from synthkit.report.report import write_report
from synthkit.reproduce.compare import changed_files
from synthkit.running.backends.outcome import Attempt, result_left_by
from synthkit.running.checkpoints import find_checkpoint, read_checkpoint_metadata
from synthkit.running.run import Input, Job, Run, create_run, folder_digest
from synthkit.running.verbs.execute import execute
from synthkit.testing import data
from synthkit.testing.toys import GENERATOR

SECRET = "a name from outside of the folder"
NASTY: tuple[Any, ...] = (
    None,
    -1,
    0,
    2**62,
    1e308,
    "",
    SECRET[:3],
    "../../x",
    [],
    {},
    [[]],
    {"0": "/etc/passwd"},
    True,
)
EXAMPLES = int(os.environ.get("SYNTHKIT_MUTATIONS", "25"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A finished run of ``train`` and one of ``generate``, and beside them what must not be read."""
    folder = tmp_path_factory.mktemp("runs")
    registry = Registry({GENERATOR.name: GENERATOR})
    real = data.real_dataset(4, 32)
    jobs = {"train": Job("train", (GENERATOR.name,), inputs={"data": Input("dataset", real.path, digest=real.digest)})}
    (folder / "outside").mkdir()
    (folder / "outside" / "secret.csv").write_text(f"{SECRET}\n")
    shutil.copytree(real.path, folder / "outside" / "dataset")
    for name in ("train", "generate"):
        attempt = Attempt(create_run(folder / name, jobs[name]), GENERATOR)
        execute(attempt.run.path, registry)
        assert attempt.finish("local", {}, [])["status"] == "succeeded"
        checkpoint = Input("checkpoint", attempt.run.checkpoint, digest=folder_digest(attempt.run.checkpoint))
        jobs["generate"] = Job(
            "generate", (GENERATOR.name,), inputs={"checkpoint": checkpoint}, options={"seeds": "0-3"}
        )
    yield folder


# ------------------------------------------------------------------------------------------------------- mutations


def mutate(run: Path, outside: Path, chance: random.Random) -> str:
    """Change one thing in a run folder; says what."""
    there = sorted(path for path in run.rglob("*") if not (path.is_symlink() and path.parent.name == "inputs"))
    path = chance.choice(there)
    files = [item for item in there if item.is_file() and not item.is_symlink() and item.stat().st_size < 2**25]
    kind = chance.choice(["link", "link", "pipe", "socket", "hole", "cut", "bytes", "json", "json", "rename", "gone"])
    if kind in ("cut", "bytes", "json", "rename") and files:
        path = chance.choice([item for item in files if kind != "json" or item.suffix == ".json"] or files)
    elif kind in ("cut", "bytes", "json", "rename"):
        kind = "gone"
    what = f"{kind} {path.relative_to(run)}"
    if kind == "json":
        _edit_json(path, chance)
    elif kind == "cut":
        os.truncate(path, chance.randrange(1 + path.stat().st_size))
    elif kind == "bytes":
        path.write_bytes(chance.randbytes(chance.choice([0, 10, 5000])))
    elif kind == "rename":
        path.rename(path.with_name(chance.choice(["\x1b[2J", ".hidden", "samples.csv", "x" * 200, "-rf"])))
    else:
        _replace(path, kind, outside, chance)
    return what


def _edit_json(path: Path, chance: random.Random) -> None:
    try:
        content = json.loads(path.read_text())
        key = chance.choice(sorted(content))
    except (ValueError, IndexError, TypeError, UnicodeDecodeError):
        return
    if chance.random() < 0.2:
        del content[key]
    elif isinstance(content[key], dict) and content[key] and chance.random() < 0.5:
        content[key][chance.choice(sorted(content[key]))] = chance.choice(NASTY)
    else:
        content[key] = chance.choice(NASTY)
    path.write_text(json.dumps(content))


def _replace(path: Path, kind: str, outside: Path, chance: random.Random) -> None:
    relative = path.relative_to(next(p for p in path.parents if (p.parent / "outside").is_dir()))
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
    if kind == "link":
        alike = outside / Path(*relative.parts[1:])  # outputs/dataset/images of the run: dataset/images outside
        path.symlink_to(alike if alike.exists() else chance.choice([outside / "secret.csv", outside, Path("nowhere")]))
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listening, chdir(path.parent):
            listening.bind("s")
            Path("s").rename(path.name)
    elif kind == "hole":
        with path.open("wb") as file:
            file.truncate(chance.choice([2**26, 8 * 2**40]))


# ------------------------------------------------------------------------------------------------------ what reads it


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    def late(number: int, frame: object) -> None:
        pytest.fail(f"it hangs: {seconds} s have passed")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def readers(run: Run, out: Path) -> dict[str, Callable[[], Any]]:
    """What the host does with a run folder that it is given."""
    return {
        "job": run.job,
        "result": lambda: result_left_by(run),
        "checkpoint": lambda: read_checkpoint_metadata(find_checkpoint(run.path)),
        "digest": lambda: folder_digest(find_checkpoint(run.path)),
        "dataset": lambda: list(pixel_digests(Dataset(run.path))),
        "files": lambda: changed_files(run, result_left_by(run) or {}),
        "export": lambda: export_dataset(run.path, out / "png", format="png"),
        "report": lambda: write_report([run.path], out / "report"),
        "resume": lambda: create_run(run.path, run.job(), resume=True),
    }


def leaked(out: Path) -> bool:
    return any(SECRET in path.read_text(errors="replace") for path in out.rglob("*") if path.is_file())


@pytest.mark.filterwarnings("ignore")
@given(seed=st.integers(0, 2**32))
@settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
def test_a_mutated_run_is_read_or_refused(runs: Path, seed: int) -> None:
    chance = random.Random(seed)
    copied, out = runs / "copied", runs / "out"
    for folder in (copied, out):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(runs / chance.choice(["train", "generate"]), copied, symlinks=True)
    done = [mutate(copied, runs / "outside", chance) for _ in range(chance.choice([1, 1, 2, 4]))]
    out.mkdir()
    secret = set(pixel_digests(Dataset(runs / "outside" / "dataset")))
    for name, read in readers(Run(copied), out).items():
        with at_most(60):
            try:
                found = read()
            except (SynthkitError, OSError, MemoryError) as error:
                assert explain_end(error).exit_code != ExitCode.BUG, (name, done)
            except Exception as error:
                raise AssertionError(f"{name} crashes: {done}") from error
            else:
                assert name != "dataset" or secret.isdisjoint(found), done
    assert not leaked(out), done
    assert (runs / "outside" / "secret.csv").read_text() == f"{SECRET}\n"
