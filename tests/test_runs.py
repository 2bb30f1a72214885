"""The run folder: making, refusing, resuming, moving and finding it; digests."""

from __future__ import annotations

import datetime
import errno
import fcntl
import json
import os
import re
import signal
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from synthkit.contract import CONTRACT_VERSION
from synthkit.errors import DataError, NotWritableError, UsageError
from synthkit.files import EARLIER
from synthkit.running import exclusive
from synthkit.running import run as runs_module
from synthkit.running.checkpoints import find_checkpoint, find_predictions, read_checkpoint_metadata
from synthkit.running.exclusive import locked
from synthkit.running.run import (
    Input,
    Job,
    Resources,
    Run,
    count_gpus,
    create_run,
    file_digest,
    find_runs,
    folder_digest,
    replaced_in,
    write_json,
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "real"
    folder.mkdir(parents=True)
    (folder / "x").write_text("x")
    return folder


def make_job(source: Path, **changes: object) -> Job:
    inputs = {"data": Input(kind="dataset", source=source, digest="sha256:1", splits=("train",))}
    fields = {"verb": "train", "plugins": ("toy",), "params": {"kimg": 1.0}, "inputs": inputs, "options": {"a": [1]}}
    return Job(**{**fields, **changes})  # type: ignore[arg-type]


def test_new_run_has_job_inputs_and_empty_outputs(tmp_path: Path, source: Path) -> None:
    run = create_run(tmp_path / "runs" / "a", make_job(source))
    assert sorted(p.name for p in run.path.iterdir()) == ["inputs", "job.json", "outputs"]
    assert (run.input("data") / "x").read_text() == "x"
    assert not list(run.outputs.iterdir())
    job = run.job()
    assert (job.verb, job.plugins, job.params, job.options) == ("train", ("toy",), {"kimg": 1.0}, {"a": [1]})
    assert job.inputs["data"] == Input(kind="dataset", source=None, splits=("train",), digest="sha256:1")
    assert job.created and job.synthkit and job.command and job.contract == CONTRACT_VERSION
    assert run.result() is None


def test_job_holds_relative_paths_only(tmp_path: Path, source: Path) -> None:
    run = create_run(tmp_path / "a", make_job(source, command=("synthkit", "train")))
    assert str(tmp_path) not in (run.path / "job.json").read_text()
    assert not run.input("data").readlink().is_absolute()


def test_folder_moved_with_its_neighbours_still_finds_them(tmp_path: Path, source: Path) -> None:
    create_run(tmp_path / "runs" / "a", make_job(source))
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (tmp_path / "runs").rename(moved / "runs")
    (tmp_path / "data").rename(moved / "data")
    run = Run(moved / "runs" / "a")
    assert (run.input("data") / "x").read_text() == "x"
    assert run.job().verb == "train"


def test_source_that_is_a_link_is_followed(tmp_path: Path, source: Path) -> None:
    (tmp_path / "link").symlink_to(source)
    run = create_run(tmp_path / "a", make_job(tmp_path / "link"))
    (tmp_path / "link").unlink()
    assert (run.input("data") / "x").read_text() == "x"


def test_full_folder_is_refused(tmp_path: Path, source: Path) -> None:
    create_run(tmp_path / "a", make_job(source))
    with pytest.raises(UsageError, match=r"is not empty.*or give --overwrite or --resume"):
        create_run(tmp_path / "a", make_job(source))
    with pytest.raises(UsageError, match="is not empty"):
        create_run(source, make_job(source))
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is not empty"):
        create_run(tmp_path / "file", make_job(source))
    (tmp_path / "empty").mkdir()
    create_run(tmp_path / "empty", make_job(source))


def test_overwrite_replaces_runs_only(tmp_path: Path, source: Path) -> None:
    run = create_run(tmp_path / "a", make_job(source))
    (run.outputs / "old").write_text("")
    create_run(tmp_path / "a", make_job(source, verb="generate"), overwrite=True)
    assert run.job().verb == "generate"
    assert not list(run.outputs.iterdir())
    assert (source / "x").exists(), "the input behind the link must survive"
    with pytest.raises(UsageError, match="not a run folder, so --overwrite does not remove it"):
        create_run(source, make_job(source), overwrite=True)
    assert (source / "x").exists()


def test_resume_keeps_the_outputs_and_forgets_the_result(tmp_path: Path, source: Path) -> None:
    run = create_run(tmp_path / "a", make_job(source))
    (run.outputs / "half").write_text("")
    run.write_result({"status": "failed"})
    again = create_run(tmp_path / "a", make_job(source, resources=Resources(timeout_seconds=3)), resume=True)
    assert (again.outputs / "half").exists()
    assert again.result() is None
    assert again.job().resources.timeout_seconds == 3
    create_run(tmp_path / "new", make_job(source), resume=True)


@pytest.mark.parametrize(
    "change",
    [{"verb": "generate"}, {"plugins": ("other",)}, {"params": {"kimg": 2.0}}, {"options": {"a": [2]}}],
    ids=lambda change: next(iter(change)),
)
def test_resume_of_another_job_is_refused(change: dict[str, object], tmp_path: Path, source: Path) -> None:
    create_run(tmp_path / "a", make_job(source))
    with pytest.raises(UsageError, match="cannot be resumed with this command"):
        create_run(tmp_path / "a", make_job(source, **change), resume=True)


def test_resume_with_other_data_is_refused(tmp_path: Path, source: Path) -> None:
    create_run(tmp_path / "a", make_job(source))
    changed = {"data": Input(kind="dataset", source=source, digest="sha256:2", splits=("train",))}
    with pytest.raises(UsageError, match="Its input data was another one"):
        create_run(tmp_path / "a", make_job(source, inputs=changed), resume=True)
    more = {**make_job(source).inputs, "more": Input(kind="dataset", source=source)}
    with pytest.raises(UsageError, match="Its input more was another one"):
        create_run(tmp_path / "a", make_job(source, inputs=more), resume=True)
    with pytest.raises(UsageError, match="Its input data was another one"):
        create_run(tmp_path / "a", make_job(source, inputs={}), resume=True)


def test_refused_resume_changes_nothing(tmp_path: Path, source: Path) -> None:
    run = create_run(tmp_path / "a", make_job(source))
    run.write_result({"status": "succeeded"})
    before = folder_digest(run.path, exclude=["inputs/data"])
    with pytest.raises(UsageError):
        create_run(tmp_path / "a", make_job(source, params={}), resume=True)
    assert folder_digest(run.path, exclude=["inputs/data"]) == before


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "is not a run folder"),
        ("{", "cannot be read"),
        ("[]", "not a JSON object"),
        ("{}", "is not a job"),
        ('{"contract": 1, "verb": "train"}', "is not a job"),
        ('{"contract": 99}', "was written for contract 99"),
        ('{"contract": 1, "verb": "train", "plugins": ["a"], "resources": {"gpu": 1}}', "is not a job"),
        ('{"contract": "one"}', "is not a job"),
        ('{"contract": 1, "verb": "dance", "plugins": ["a"]}', "the verb 'dance' is unknown"),
        ('{"contract": 1, "verb": "train", "plugins": ["a"], "inputs": []}', "is not a job"),
    ],
)
def test_damaged_job_is_a_data_error(text: str | None, why: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "job.json").write_text(text)
    with pytest.raises(DataError, match=why):
        Run(tmp_path).job()


def test_checkpoint_is_found_in_a_run_or_by_itself(tmp_path: Path, source: Path) -> None:
    run = create_run(tmp_path / "a", make_job(source))
    with pytest.raises(DataError, match="training has not finished"):
        find_checkpoint(run.path)
    run.checkpoint.mkdir()
    write_json(run.checkpoint / "synthkit.json", {"plugin": "toy"})
    with pytest.raises(DataError, match="training has not finished"):
        find_checkpoint(run.path)  # killed after its notes: the host has not taken them
    run.write_result({"status": "succeeded"})
    assert find_checkpoint(run.path) == find_checkpoint(run.checkpoint) == run.checkpoint
    assert read_checkpoint_metadata(run.checkpoint) == {"plugin": "toy"}
    with pytest.raises(DataError, match="It does not exist"):
        find_checkpoint(tmp_path / "none")
    with pytest.raises(DataError, match="not a run folder of `synthkit train`"):
        find_checkpoint(source)


def test_failed_training_has_no_checkpoint(tmp_path: Path, source: Path) -> None:
    run = create_run(tmp_path / "a", make_job(source))
    run.write_result({"status": "failed"})
    with pytest.raises(DataError, match="Its training did not succeed"):
        find_checkpoint(run.path)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_damaged_checkpoint_description_is_a_data_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "synthkit.json").write_text(text)
    with pytest.raises(DataError, match="cannot be read"):
        read_checkpoint_metadata(tmp_path)


def test_predictions_are_found_in_a_run_or_by_themselves(tmp_path: Path, source: Path) -> None:
    run = create_run(tmp_path / "a", make_job(source, verb="segment"))
    run.predictions.mkdir()
    assert find_predictions(run.path) == run.predictions
    assert find_predictions(source) == source


def test_runs_are_found_in_the_order_of_their_creation(tmp_path: Path, source: Path) -> None:
    runs = tmp_path / "runs"
    create_run(runs / "b", make_job(source, created="2024-01-01T00:00:00+00:00"))
    create_run(runs / "deep" / "a", make_job(source, created="2024-01-02T00:00:00+00:00"))
    create_run(runs / "b" / "outputs" / "inner", make_job(source, created="2023-01-01T00:00:00+00:00"))
    found = find_runs([runs, runs / "b"])
    assert [run.path for run in found] == [runs / "b", runs / "deep" / "a"]
    assert find_runs([source]) == []
    with pytest.raises(DataError, match="There is no folder"):
        find_runs([tmp_path / "none"])


def test_result_is_the_old_one_or_the_new_one(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.write_result({"status": "succeeded"})
    with pytest.raises(ValueError, match="JSON"):
        run.write_result({"status": float("nan")})
    with pytest.raises(TypeError):
        run.write_result({"status": object()})
    assert run.result() == {"status": "succeeded"}
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]


def test_digests_are_those_of_sha256sum(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert file_digest(tmp_path / "abc") == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_folder_digest_depends_on_names_and_contents_alone(tmp_path: Path) -> None:
    def folder(name: str, files: dict[str, str]) -> Path:
        for file, text in files.items():
            (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / file).write_text(text)
        return tmp_path / name

    one = folder("one", {"a": "1", "sub/b": "2"})
    assert folder_digest(one) == folder_digest(folder("two", {"sub/b": "2", "a": "1"}))
    others = [{"a": "1", "b": "2"}, {"a": "2", "sub/b": "1"}, {"a": "1"}, {"a": "1", "sub/b": "2", "c": ""}]
    digests = {folder_digest(folder(f"other{i}", files)) for i, files in enumerate(others)}
    assert len(digests | {folder_digest(one)}) == 5
    assert folder_digest(tmp_path / "other3", exclude=["c"]) == folder_digest(one)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(st.dictionaries(st.text(), json_values, max_size=3))
def test_job_survives_the_way_through_its_file(tmp_path: Path, values: dict[str, object]) -> None:
    job = Job(verb="train", plugins=("a", "b"), params=values, options=values, created="now", synthkit="1")
    write_json(tmp_path / "job.json", job.to_dict())
    assert Run(tmp_path).job() == job
    assert json.loads((tmp_path / "job.json").read_text())["resources"] == {
        "gpus": "none",
        "memory_bytes": None,
        "disk_bytes": None,
        "timeout_seconds": None,
        "cpus": None,
    }


def test_recorded_command_holds_no_folders_of_this_machine(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [
        "train",
        "unet",
        str(source),
        "data/rel",
        "-o",
        "/home/a b/runs/u",
        "--params=/etc/p.toml",
        "-p",
        "lr=1e-3",
    ]
    monkeypatch.setattr("sys.argv", ["/usr/bin/synthkit", *arguments])
    run = create_run(tmp_path / "run", make_job(source))
    expected = ["synthkit", "train", "unet", source.name, "data/rel", "-o", "u", "--params=p.toml", "-p", "lr=1e-3"]
    assert json.loads((run.path / "job.json").read_text())["command"] == expected


def test_folder_digest_leaves_out_what_a_killed_write_left_behind(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "model").write_text("weights")
    before = folder_digest(tmp_path)
    (tmp_path / ".state.partial").write_text("half")
    (tmp_path / "a" / ".model.7.tmp").write_text("half")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "x").write_text("x")
    assert folder_digest(tmp_path) == before
    (tmp_path / "a" / "more").write_text("")
    assert folder_digest(tmp_path) != before


# -------------------------------------------------------------------------------------- inputs, kills, two at once


def test_overwrite_never_removes_its_own_input(tmp_path: Path, source: Path) -> None:
    run = create_run(tmp_path / "runs" / "a", make_job(source))
    write_json(run.path / "outputs" / "mine.json", {})
    inside = run.outputs
    (tmp_path / "link").symlink_to(inside)
    for own in (run.path, inside, tmp_path / "link", tmp_path / "runs"):
        with pytest.raises(UsageError, match="would remove the run's own input data"):
            create_run(run.path, make_job(own), overwrite=True)
    assert (run.outputs / "mine.json").exists() and run.job().verb == "train"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_kill_while_a_run_is_made_leaves_one_to_take_up(
    overwrite: bool, tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever change to the file system is the last, --resume or --overwrite goes on from there."""

    class Kill(BaseException):
        pass

    for last in range(1, 30):
        path = tmp_path / str(last)
        if overwrite:
            for name in ("a", "z"):  # before and after job.json in any order of names
                write_json(create_run(path, make_job(source), resume=True).path / name, {})
        n = 0

        def counted(real: object, last: int = last) -> object:
            def call(*arguments: object, **options: object) -> object:
                nonlocal n
                n += 1
                if n > last:
                    raise Kill
                return real(*arguments, **options)  # type: ignore[operator]

            return call

        with monkeypatch.context() as patch:
            for name in ("mkdir", "symlink", "unlink", "rmdir", "rename"):
                patch.setattr(os, name, counted(getattr(os, name)))
            patch.setattr(runs_module, "write_json", counted(write_json))
            try:
                create_run(path, make_job(source), overwrite=overwrite)
                killed = False
            except Kill:
                killed = True
        if path.exists() and any(path.iterdir()):
            if overwrite:  # the earlier run is whole, in its place or aside
                replaced_in(path).recover()
                whole = path if (path / "z").exists() else path / EARLIER
                assert {p.name for p in whole.iterdir()} - {EARLIER} == {"a", "z", "inputs", "job.json", "outputs"}
            assert (path / "job.json").exists()
            create_run(path, make_job(source), overwrite=True)
        if not killed:
            break
    assert not killed and last > 3


def test_two_commands_in_one_folder_do_not_mix(tmp_path: Path, source: Path) -> None:
    path = tmp_path / "runs" / "a"
    with locked(path):
        create_run(path, make_job(source))
        with pytest.raises(NotWritableError, match="Another command is at work"), locked(path):
            pytest.fail("both hold it")
        create_run(path, make_job(source), overwrite=True)
        with pytest.raises(NotWritableError, match="Another command is at work"), locked(path):
            pytest.fail("both hold it")
    assert sorted(p.name for p in path.iterdir()) == [".earlier", "inputs", "job.json", "outputs"]
    with locked(path), locked(tmp_path / "other"):
        pass


def test_a_lock_that_its_owner_removed_is_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = fcntl.flock, 0

    def flock(descriptor: int, operation: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:  # between our opening and our locking, the owner ends
            (tmp_path / ".lock").unlink()
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with locked(tmp_path):
        assert calls == 2
        with pytest.raises(NotWritableError), locked(tmp_path):
            pytest.fail("both hold it")


def test_where_there_are_no_locks_the_run_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOSYS, "no locks here")

    monkeypatch.setattr(fcntl, "flock", flock)
    with locked(tmp_path / "a"):
        pass
    assert list((tmp_path / "a").iterdir()) == []


def test_what_an_earlier_run_has_left_running_is_named_and_nothing_is_made_beside_it(tmp_path: Path) -> None:
    """A process that was forked in the run and has left its session, when the command was killed."""
    reading, writing = os.pipe()
    runner = os.fork()
    if runner == 0:
        with exclusive.alive(tmp_path):
            child = os.fork()
            if child == 0:
                os.setsid()
                os.write(writing, b"there")
                time.sleep(60)
            os._exit(0)  # as if it was killed
    os.waitpid(runner, 0)
    os.read(reading, 5)
    with pytest.raises(NotWritableError, match="still at work") as caught, locked(tmp_path):
        raise AssertionError
    (left,) = map(int, re.findall(r"\d+", caught.value.fix.partition("-9")[2]))
    assert not (tmp_path / exclusive.LOCK_NAME).exists()
    os.kill(left, signal.SIGKILL)  # the remedy
    while exclusive._is_held(tmp_path / exclusive.ALIVE_NAME):
        time.sleep(0.01)
    with locked(tmp_path):
        assert not (tmp_path / exclusive.ALIVE_NAME).exists()
    assert list(tmp_path.iterdir()) == []


def test_a_refused_lock_leaves_the_owners(tmp_path: Path) -> None:
    with locked(tmp_path):
        with pytest.raises(NotWritableError), locked(tmp_path):
            pass
        assert (tmp_path / ".lock").exists()


# --------------------------------------------------------------------------------------------------- what it took


def at(seconds: float) -> str:
    """That long ago, as jobs say when they were made."""
    then = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=seconds)
    return then.isoformat()


def note_events(run: Run, *after_seconds: float) -> None:
    """Events so long after the job was made."""
    made = datetime.datetime.fromisoformat(run.job().created).timestamp()
    lines = [json.dumps({"time": made + seconds, "event": "progress", "step": 1}) for seconds in after_seconds]
    (run.path / "events.jsonl").write_text("\n".join([*lines, '{"time": 9']))


def test_all_attempts_count_those_that_were_killed_up_to_their_last_event(tmp_path: Path, source: Path) -> None:
    path = tmp_path / "a"
    run = create_run(path, make_job(source, created=at(9000)))
    assert run.seconds_spent() == 0
    run.write_result({"status": "failed", "seconds": 100})
    assert run.seconds_spent() == 100
    create_run(path, make_job(source, created=at(6000)), resume=True)
    note_events(run, 1, 50)
    assert run.seconds_spent() == pytest.approx(150)
    create_run(path, make_job(source, created=at(3000)), resume=True)
    note_events(run, 2)
    run.write_result({"status": "succeeded", "seconds": 7.5})
    assert run.seconds_spent() == pytest.approx(157.5)
    assert run.job().spent_seconds == pytest.approx(150)
    create_run(path, make_job(source), overwrite=True)
    assert run.seconds_spent() == 0


@pytest.mark.parametrize("created", ["", "yesterday"])
def test_a_run_that_does_not_say_when_it_began_took_what_its_result_says(
    created: str, tmp_path: Path, source: Path
) -> None:
    run = create_run(tmp_path / "a", make_job(source))
    write_json(run.path / "job.json", {**run.job().to_dict(), "created": created})
    (run.path / "events.jsonl").write_text('{"time": 5}\n')
    assert run.seconds_spent() == 0
    run.write_result({"seconds": 3})
    assert run.seconds_spent() == 3


@pytest.mark.parametrize("text", ["", "x", "[]", '{"time": "then"}', '{"time": NaN}', '{"time": 1e300}', "[" * 10_000])
def test_events_of_a_method_claim_no_more_than_the_time_that_has_passed(
    text: str, tmp_path: Path, source: Path
) -> None:
    run = create_run(tmp_path / "a", make_job(source, created=at(60)))
    (run.path / "events.jsonl").write_text(text)
    (run.path / "result.json").write_text('{"seconds": "many"}')
    assert 0 <= run.seconds_spent() < 120


def test_a_damaged_result_does_not_keep_a_run_from_being_resumed(tmp_path: Path, source: Path) -> None:
    run = create_run(tmp_path / "a", make_job(source, created=at(60)))
    note_events(run, 30)
    (run.path / "result.json").write_text("{")
    create_run(run.path, make_job(source), resume=True)
    assert run.job().spent_seconds == pytest.approx(30)
    assert run.result() is None


@pytest.mark.parametrize(
    ("gpus", "n"), [("none", 0), ("all", None), ("3", 3), ("device=3", 1), ("device=GPU-1f,GPU-2a", 2)]
)
def test_gpus_are_counted(gpus: str, n: int | None) -> None:
    assert count_gpus(gpus) == n


@pytest.mark.parametrize("gpus", ["0", "-1", "device=", "some", ""])
def test_what_is_no_number_of_gpus(gpus: str) -> None:
    with pytest.raises(UsageError, match="is not understood"):
        count_gpus(gpus)
