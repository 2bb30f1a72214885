"""``synthkit verify``: equal runs are equal, tampered ones are found, a sample of a study is drawn fairly."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthkit.data.dataset import Dataset
from synthkit.errors import BackendUnavailableError, DataError, GateFailedError
from synthkit.registry.registry import Registry
from synthkit.reproduce import Drawn, How, Outcome, draw_runs, verify_run, verify_runs
from synthkit.reproduce.compare import dataset_digest
from synthkit.running import backends
from synthkit.running.backends.following import OnEvent
from synthkit.running.backends.recorded import check_sif, recorded_image
from synthkit.running.containers import images as containers
from synthkit.running.containers import sif
from synthkit.running.run import Input, Job, Run, create_run, file_digest, folder_digest
from synthkit.testing import data
from synthkit.testing.toys import GENERATOR, TOYS


def ignore(event: dict[str, Any]) -> None:
    pass


@contextlib.contextmanager
def following(name: str) -> Iterator[OnEvent]:
    yield ignore


class Lab:
    """Makes runs of the toys below a folder, in this process."""

    def __init__(self, folder: Path, registry: Registry) -> None:
        self.folder, self.registry = folder, registry
        self.real = folder / "data" / "real"
        shutil.copytree(data.real_dataset(2, 32).path, self.real)

    def make(self, name: str, job: Job) -> Run:
        run = create_run(self.folder / name, job)
        result = backends.get("inline").run(run, self.registry.get(job.plugins[0]), ignore)
        assert result["status"] == "succeeded", result["error"]
        return run

    def dataset(self, path: Path) -> Input:
        return Input("dataset", path, digest=Dataset(path).digest)

    def train(self, name: str = "g/train") -> Run:
        return self.make(name, Job("train", ("toy-generator",), inputs={"data": self.dataset(self.real)}))

    def generate(self, trained: Run, name: str = "g/samples", seeds: str = "0-5") -> Run:
        source = Input("checkpoint", trained.checkpoint, digest=folder_digest(trained.checkpoint))
        job = Job("generate", ("toy-generator",), inputs={"checkpoint": source}, options={"seeds": seeds})
        return self.make(name, job)

    def evaluate(self, generated: Run, name: str = "g/looks") -> Run:
        inputs = {"real": self.dataset(self.real), "synthetic": self.dataset(generated.dataset)}
        return self.make(name, Job("evaluate", ("toy-shift",), inputs=inputs))

    def study(self) -> tuple[Run, Run, Run]:
        trained = self.train()
        generated = self.generate(trained)
        return trained, generated, self.evaluate(generated)


@pytest.fixture
def lab(tmp_path: Path, install_plugins: Callable[..., Registry]) -> Lab:
    return Lab(tmp_path / "study", install_plugins(*TOYS))


def outcomes(folder: Path, n: int, how: How | None = None) -> dict[str, Outcome]:
    drawn = draw_runs(folder, n, seed=0)
    return {outcome.name: outcome for outcome in verify_runs(drawn, how or How(), following=following)}


def edit(run: Run, name: str, change: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads((run.path / name).read_text())
    change(document)
    (run.path / name).write_text(json.dumps(document))


# ------------------------------------------------------------------------------------------------------- one run


def test_a_run_is_equal_to_its_repetition(lab: Lab) -> None:
    for run in lab.study():
        comparison = verify_run(run.path, on_event=ignore)
        assert comparison.same and comparison.differences


def test_a_tampered_checkpoint_is_found(lab: Lab) -> None:
    run = lab.train()
    (run.checkpoint / "note.txt").write_text("not of the training")
    comparison = verify_run(run.path, on_event=ignore)
    assert [(d.what, d.kind) for d in comparison.differences if not d.same] == [("checkpoint", "files")]


def test_pixels_put_in_place_of_others_are_found_though_every_digest_on_file_is_the_old_one(lab: Lab) -> None:
    trained = lab.train()
    run, other = lab.generate(trained), lab.generate(trained, "other", seeds="6-11")
    assert dataset_digest(run.dataset) == Dataset(run.dataset).digest != Dataset(other.dataset).digest
    shutil.rmtree(run.dataset / "images")
    shutil.copytree(other.dataset / "images", run.dataset / "images")
    differences = verify_run(run.path, on_event=ignore).differences
    assert [(d.what, d.kind) for d in differences if not d.same] == [("dataset", "files")]


def test_a_tampered_score_and_a_tampered_digest_are_found(lab: Lab) -> None:
    run = lab.evaluate(lab.generate(lab.train()))
    edit(run, "result.json", lambda result: result["scores"][0].update(value=12.5))
    comparison = verify_run(run.path, on_event=ignore)
    assert [d.kind for d in comparison.differences if not d.same] == ["scores"]
    trained = Run(lab.folder / "g/train")
    edit(trained, "result.json", lambda result: result["outputs"]["checkpoint"].update(digest="sha256:0"))
    assert {d.kind for d in verify_run(trained.path, on_event=ignore).differences} == {"files", "digest"}


def test_a_changed_input_fails_and_a_lost_one_can_be_pointed_at(lab: Lab) -> None:
    run = lab.generate(lab.train())
    (lab.folder / "g/train").rename(lab.folder / "moved")
    with pytest.raises(DataError, match="--input checkpoint=PATH"):
        verify_run(run.path, on_event=ignore)
    checkpoint = lab.folder / "moved/outputs/checkpoint"
    assert verify_run(run.path, how=How(inputs={"checkpoint": checkpoint}), on_event=ignore).same
    (checkpoint / "note.txt").write_text("another")
    with pytest.raises(GateFailedError, match="has changed"):
        verify_run(run.path, how=How(inputs={"checkpoint": checkpoint}), on_event=ignore)


def test_a_memory_limit_of_a_container_does_not_keep_a_run_from_being_repeated_without_one(lab: Lab) -> None:
    run = lab.train()
    edit(run, "job.json", lambda job: job["resources"].update(memory_bytes=2**30))
    assert verify_run(run.path, on_event=ignore).same


@pytest.mark.parametrize(("asked", "recorded", "expected"), [(None, 3, 3), (2, 3, 2), (None, None, None)], ids=str)
def test_a_run_is_repeated_with_the_number_of_threads_that_it_had(
    lab: Lab, tmp_path: Path, asked: float | None, recorded: int | None, expected: float | None
) -> None:
    run = lab.train()
    edit(run, "job.json", lambda job: job["resources"].update(cpus=asked))
    edit(run, "result.json", lambda result: result["machine"].update(torch_threads=recorded))
    assert verify_run(run.path, keep=tmp_path / "again", on_event=ignore).same
    assert Run(tmp_path / "again").job().resources.cpus == expected


@pytest.mark.parametrize(
    ("recorded", "now", "expected"),
    [
        ("device=3", None, "1"),
        ("device=GPU-1f,GPU-2a", None, "2"),
        ("all", None, "all"),
        ("none", None, "none"),
        ("2", None, "2"),
        ("device=3", "none", "none"),
        ("2", "device=1", "device=1"),
    ],
)
def test_devices_of_the_machine_then_are_a_number_of_those_of_this_one(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorded: str, now: str | None, expected: str
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    run = lab.train()
    edit(run, "job.json", lambda job: job["resources"].update(gpus=recorded))
    assert verify_run(run.path, keep=tmp_path / "again", how=How(gpus=now), on_event=ignore).same
    assert Run(tmp_path / "again").job().resources.gpus == expected


def test_a_repetition_is_a_run_of_its_own(lab: Lab, tmp_path: Path) -> None:
    run = lab.train()
    edit(run, "job.json", lambda job: job.update(created="2020-01-01T00:00:00+00:00", spent_seconds=3600.0))
    assert verify_run(run.path, keep=tmp_path / "again", on_event=ignore).same
    again = Run(tmp_path / "again")
    assert again.seconds_spent() < 600 and again.job().created > run.job().created


# ----------------------------------------------------------------------------------------------------- many runs


def test_a_study_comes_out_the_same_after_a_move(lab: Lab, tmp_path: Path) -> None:
    lab.study()
    lab.folder.rename(tmp_path / "elsewhere")
    (tmp_path / "deeper").mkdir()
    moved = (tmp_path / "elsewhere").rename(tmp_path / "deeper" / "study")
    assert {name: o.word for name, o in outcomes(moved, 10).items()} == {
        "g/train": "same",
        "g/samples": "same",
        "g/looks": "same",
    }


def test_one_broken_run_is_named_and_the_rest_go_on(lab: Lab) -> None:
    trained, generated, _ = lab.study()
    second = lab.generate(trained, "h/samples")
    second.input("checkpoint").unlink()
    (lab.generate(trained, "i/samples").path / "result.json").write_text("{")
    edit(generated, "job.json", lambda job: job["options"].update(seeds="0-4"))
    found = outcomes(lab.folder, 10)
    assert {name: o.word for name, o in found.items()} == {
        "g/train": "same",
        "g/samples": "different",
        "g/looks": "same",
        "h/samples": "error",
        "i/samples": "error",
    }
    assert "The input checkpoint of" in found["h/samples"].detail


def test_changed_files_are_found_in_runs_that_were_not_drawn(lab: Lab) -> None:
    lab.study()
    (drawn,) = draw_runs(lab.folder, 1, seed=0).runs
    other = next(name for name in ("g/train", "g/samples") if name != drawn.name)
    kind = {"g/train": "checkpoint", "g/samples": "dataset"}[other]
    target = lab.folder / other / "outputs" / kind
    for file in target.rglob("*"):
        if file.is_file() and file.name != "dataset.json":
            file.write_bytes(b"\x00" * file.stat().st_size)
    found = outcomes(lab.folder, 1)
    assert found[other].word == "different"
    assert {d.kind for d in found[other].comparison.differences} == {"files"}  # type: ignore[union-attr]


def test_runs_that_did_not_succeed_are_named_and_not_drawn(lab: Lab) -> None:
    run = lab.train()
    failed, begun = lab.train("h/train"), lab.train("i/train")
    edit(failed, "result.json", lambda r: r.update(status="failed", exit_code=4, error={}))
    (begun.path / "result.json").unlink()
    drawn = draw_runs(lab.folder, 5, seed=0)
    assert [found.run.path for found in drawn.runs] == [run.path]
    assert sorted(drawn.unfinished) == ["h/train", "i/train"]
    with pytest.raises(DataError, match="There is no finished run of segment"):
        draw_runs(lab.folder, 5, seed=0, verbs=("segment",))


VERBS = ("train", "generate", "segment", "evaluate")


def plain_runs(folder: Path, counts: dict[str, int]) -> None:
    """Run folders with a job and a result, and nothing done."""
    for verb, n in counts.items():
        for i in range(n):
            run = create_run(folder / f"{verb}-{i}", Job(verb, ("toy-generator",)))  # type: ignore[arg-type]
            run.write_result({"status": "succeeded", "exit_code": 0, "error": None})


@settings(max_examples=25, deadline=None)
@given(st.tuples(*[st.integers(0, 4)] * 4).filter(any), st.integers(1, 12), st.integers(0, 5))
def test_no_verb_is_drawn_twice_as_often_as_another_that_has_runs_left(
    tmp_path_factory: pytest.TempPathFactory, counts: tuple[int, ...], n: int, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("runs")
    has = dict(zip(VERBS, counts, strict=True))
    plain_runs(folder, has)
    drawn = draw_runs(folder, n, seed)
    assert len(drawn.runs) == min(n, sum(counts)) == len({found.name for found in drawn.runs})
    assert len(drawn.runs) + len(drawn.others) == sum(counts)
    taken = {verb: sum(found.job.verb == verb for found in drawn.runs) for verb in VERBS}
    for one in VERBS:
        for other in VERBS:
            assert taken[one] <= taken[other] + 1 or taken[other] == has[other]


def test_the_seed_decides_and_a_copy_elsewhere_draws_the_same(tmp_path: Path) -> None:
    plain_runs(tmp_path / "a", dict.fromkeys(VERBS, 8))
    shutil.copytree(tmp_path / "a", tmp_path / "b" / "c")

    def names(drawn: Drawn) -> list[str]:
        return [found.name for found in drawn.runs]

    first = names(draw_runs(tmp_path / "a", 6, seed=0))
    assert first == names(draw_runs(tmp_path / "b" / "c", 6, seed=0))
    assert len({tuple(names(draw_runs(tmp_path / "a", 6, seed))) for seed in range(5)}) == 5


# -------------------------------------------------------------------------------------------------------- images


class Engine:
    """An engine's images by the references that lead to them."""

    def __init__(self, **images: str) -> None:
        self.images = {reference.replace("__", ":"): identity for reference, identity in images.items()}

    def inspect_image(self, name: str) -> dict[str, Any]:
        from docker.errors import ImageNotFound

        identity = self.images.get(name, name if name in self.images.values() else "")
        if not identity:
            raise ImageNotFound(name)
        labels = {"org.synthkit.contract": "1"}
        return {"Id": identity, "Size": 1, "Created": "", "Config": {"Labels": labels}}


CONTAINER = {"image": "synthkit/toy:1", "image_id": "sha256:old", "repo_digests": ["registry/toy@sha256:pushed"]}


def test_the_recorded_image_is_found_by_its_id_though_the_name_has_moved_on() -> None:
    engine = Engine(**{"synthkit/toy__1": "sha256:new", "untagged": "sha256:old"})
    assert recorded_image(CONTAINER, engine).id == "sha256:old"


def test_the_recorded_image_is_found_by_its_digest_in_a_registry() -> None:
    engine = Engine(**{"synthkit/toy__1": "sha256:new", "registry/toy@sha256__pushed": "sha256:same-content"})
    assert recorded_image(CONTAINER, engine).id == "sha256:same-content"


def test_an_image_that_is_gone_is_never_replaced_by_the_one_of_its_name() -> None:
    engine = Engine(**{"synthkit/toy__1": "sha256:new"})
    with pytest.raises(BackendUnavailableError, match="is not there: sha256:old") as error:
        recorded_image(CONTAINER, engine)
    assert "synthkit/toy:1 is sha256:new now" in error.value.why
    assert "docker pull registry/toy@sha256:pushed" in error.value.fix and "--current-image" in error.value.fix


def test_which_image_a_repetition_needs() -> None:
    result = {"backend": "docker", "container": CONTAINER}
    assert How().image_of(result) == CONTAINER
    assert How(current_image=True).image_of(result) is None
    assert How(backend="local").image_of(result) is None
    assert How(backend="docker").image_of({"backend": "local"}) is None
    assert How(backend="apptainer").image_of(result) is None


def test_a_sif_file_is_told_by_its_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNTHKIT_SIF_DIR", str(tmp_path))
    path = tmp_path / sif.file_name(containers.image_name(GENERATOR), ".sif")
    path.write_bytes(b"then")
    container = {"image": path.name, "image_id": file_digest(path)}
    check_sif(container, GENERATOR)
    path.write_bytes(b"now")
    with pytest.raises(BackendUnavailableError, match="SIF file that the run ran in is not there"):
        check_sif(container, GENERATOR)


# ------------------------------------------------------------------------------------------------------- command


def command(*arguments: object) -> tuple[int, dict[str, Any], str]:
    done = subprocess.run(
        [sys.executable, "-m", "synthkit", "verify", *map(str, arguments), "--json"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, json.loads(done.stdout), done.stderr


def test_a_dry_run_of_one_run_is_refused_as_its_repetition_is(lab: Lab, tmp_path: Path) -> None:
    generated = lab.generate(lab.train())
    before = sorted(lab.folder.rglob("*"))
    code, planned, _ = command(generated.path, "--dry-run")
    assert code == 0 and planned["runs"][0]["inputs"] == "found"
    assert sorted(lab.folder.rglob("*")) == before
    gone = lab.folder / "g" / "train"
    gone.rename(gone.with_name("elsewhere"))
    refused, planned_error = command(generated.path), command(generated.path, "--dry-run")
    assert refused[0] == planned_error[0] == 3 and planned_error[2].endswith(refused[2]) and refused[2]
    # In a sample the others are repeated all the same, so it is said in its row.
    code, planned, _ = command(lab.folder, "--dry-run")
    said = {run["run"]: run["inputs"] for run in planned["runs"]}
    assert code == 0 and "is gone" in said["g/samples"] and said["g/elsewhere"] == "found"
    for folder in (lab.folder / "data", tmp_path / "nowhere"):
        assert command(folder)[0] == command(folder, "--dry-run")[0] == 3


def test_the_command_on_a_study(lab: Lab, tmp_path: Path) -> None:
    lab.study()
    code, planned, _ = command(lab.folder, "--dry-run", "--verb", "evaluate", "--backend", "local")
    assert code == 0 and [(run["run"], run["backend"]) for run in planned["runs"]] == [("g/looks", "local")]
    code, document, _ = command(lab.folder, "--keep", tmp_path / "kept")
    assert code == 0 and document["same"] and document["finished"] == 3
    assert (tmp_path / "kept" / "g" / "looks" / "result.json").is_file()
    edit(Run(lab.folder / "g/looks"), "result.json", lambda result: result["scores"][0].update(value=12.5))
    code, document, message = command(lab.folder)
    assert code == 10 and not document["same"]
    assert {run["run"]: run["outcome"] for run in document["runs"]}["g/looks"] == "different"
    assert "Not the same: g/looks." in message
    assert command(lab.folder, "--input", "real")[0] == 2
    assert command(lab.folder, "--gpus", "some")[0] == 2
    assert command(lab.folder, "--keep", lab.folder / "kept")[0] == 2
