"""What a method may lay in its run folder, and the host must not fall for: links, pipes, nonsense."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from synthkit.cli.console import Console
from synthkit.data.dataset import Dataset
from synthkit.errors import DataError, ExitCode, error_from_dict, printable
from synthkit.files import create_exclusively, discard, open_untrusted, read_untrusted, write_atomically
from synthkit.running.backends.docker import _Watched
from synthkit.running.backends.following import EventFollower
from synthkit.running.backends.outcome import Attempt, log_tail
from synthkit.running.proof import signed, take_secret
from synthkit.running.run import Input, Job, Run, create_run, file_digest
from synthkit.testing import data
from synthkit.testing.toys import GENERATOR
from synthkit.testing.toys import SLICE_METRIC as METRIC

GOOD = {"contract": 1, "status": "succeeded", "exit_code": 0, "error": None, "outputs": {}, "scores": []}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return create_run(tmp_path / "run", Job("evaluate", (METRIC.name,)))


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Path]:
    """A file of the user's that no run may read or change."""
    file = tmp_path / "victim"
    file.write_text('{"secret": 1}\n')
    yield file
    assert file.read_text() == '{"secret": 1}\n'


@pytest.fixture
def attempt(run: Run) -> Attempt:
    return Attempt(run, METRIC)


def ending(attempt: Attempt) -> dict[str, Any]:
    result = attempt.finish("local", {}, [])
    assert result == attempt.run.result()
    return result


def leave(run: Run, content: dict[str, Any]) -> None:
    """Leave a result as the runner does."""
    run.write_result(signed(content, take_secret(run.path)))


# ----------------------------------------------------------------------------------------------------- the files


def test_write_does_not_follow_a_link_of_a_name_that_can_be_guessed(run: Run, victim: Path) -> None:
    (run.path / f".result.json.{os.getpid()}.tmp").symlink_to(victim)
    (run.path / "result.json").symlink_to(victim)
    write_atomically(run.path / "result.json", b"{}")
    assert (run.path / "result.json").read_bytes() == b"{}" and not (run.path / "result.json").is_symlink()


def test_write_that_fails_leaves_the_old_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError("disk full")

    file = tmp_path / "file"
    write_atomically(file, b"old")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(file, b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"] and file.read_bytes() == b"old"


def test_new_file_is_new(tmp_path: Path, victim: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("victim", "link"):
        with pytest.raises(FileExistsError):
            create_exclusively(tmp_path / name)
    assert not (tmp_path / "nowhere").exists()


def test_only_regular_files_of_a_size_are_read(tmp_path: Path, victim: Path) -> None:
    (tmp_path / "link").symlink_to(victim)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("link", "pipe", "folder", "absent"):
        with pytest.raises(OSError):
            open_untrusted(tmp_path / name)
    assert read_untrusted(victim, 14) == victim.read_bytes()
    with pytest.raises(OSError, match="larger than 13 bytes"):
        read_untrusted(victim, 13)


# -------------------------------------------------------------------------------------------- traps in the folder


def lay(trap: str, path: Path, victim: Path) -> None:
    if trap == "link":
        path.symlink_to(victim)
    elif trap == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
        (path / "inside").symlink_to(victim)


@pytest.mark.parametrize("trap", ["link", "pipe", "folder"])
def test_a_trap_in_place_of_a_file_is_seen_and_replaced(trap: str, attempt: Attempt, victim: Path) -> None:
    run = attempt.run
    for name in ("result.json", "log.txt", "events.jsonl"):
        lay(trap, run.path / name, victim)
    assert log_tail(run) == []
    follower = EventFollower(run, lambda event: pytest.fail("an event from nowhere"))
    follower.drain()
    with pytest.raises(DataError, match="cannot be read"):
        run.result()
    result = ending(attempt)
    assert (result["status"], result["exit_code"]) == ("failed", ExitCode.CONTAINER_FAILED)
    assert "secret" not in json.dumps(result)
    Attempt(run, METRIC)
    assert sorted(path.name for path in run.path.iterdir()) == [".secret", "inputs", "job.json", "outputs"]


SOUND = {"a": "content", "folder/b": "more", "folder/inner/c": ""}


def lay_output(kind: str, path: Path, victim: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "link to a file":
        path.symlink_to(victim)
    elif kind == "link to a folder":
        path.symlink_to(victim.parent)
    elif kind == "dangling link":
        path.symlink_to("nowhere")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listening, contextlib.chdir(path.parent):
            listening.bind(path.name)
    else:
        with path.open("wb") as file:
            file.truncate(8 * 2**40)


KINDS = ("link to a file", "link to a folder", "dangling link", "pipe", "socket", "hole")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", ["trap", "folder/inner/trap", "other/trap"])
def test_outputs_that_are_no_files_are_removed_and_fail_the_run(
    kind: str, place: str, attempt: Attempt, victim: Path
) -> None:
    run = attempt.run
    for name, text in SOUND.items():
        (run.outputs / name).parent.mkdir(parents=True, exist_ok=True)
        (run.outputs / name).write_text(text)
    lay_output(kind, run.outputs / place, victim)
    leave(run, GOOD)
    result = ending(attempt)
    assert (result["status"], result["exit_code"]) == ("failed", ExitCode.CONTAINER_FAILED)
    (detail,) = result["error"]["details"]
    assert detail.startswith(f"{place}: a ") and kind.split()[-1 if kind == "dangling link" else 0] in detail
    assert not os.path.lexists(run.outputs / place)
    assert {name: (run.outputs / name).read_text() for name in SOUND} == SOUND
    # What is left is sound: the run made again ends well.
    again = Attempt(run, METRIC)
    leave(run, GOOD)
    assert ending(again)["status"] == "succeeded"


def test_outputs_that_are_a_link_are_replaced_by_a_folder(attempt: Attempt, victim: Path) -> None:
    run = attempt.run
    run.outputs.rmdir()
    run.outputs.symlink_to(victim.parent)
    leave(run, GOOD)
    assert ending(attempt)["status"] == "failed"
    assert run.outputs.is_dir() and not run.outputs.is_symlink() and not any(run.outputs.iterdir())


def test_outputs_get_the_rights_of_new_files(attempt: Attempt) -> None:
    run = attempt.run
    (run.outputs / "folder").mkdir()
    shell, table = run.outputs / "shell", run.outputs / "folder" / "table.csv"
    for path, mode in ((shell, 0o6755), (table, 0o600)):
        path.write_text("x")
        path.chmod(mode)
    (run.outputs / "folder").chmod(0o700)
    leave(run, GOOD)
    assert ending(attempt)["status"] == "succeeded"
    new = run.path / "new"
    new.write_text("x")
    assert shell.stat().st_mode == table.stat().st_mode == new.stat().st_mode
    assert stat.S_IMODE((run.outputs / "folder").stat().st_mode) == stat.S_IMODE(run.path.stat().st_mode)


def test_a_second_name_of_a_users_file_changes_nothing_there(attempt: Attempt, victim: Path) -> None:
    victim.chmod(0o600)
    os.link(victim, attempt.run.outputs / "table.csv")
    leave(attempt.run, GOOD)
    ending(attempt)
    assert stat.S_IMODE(victim.stat().st_mode) == 0o600


def test_a_dataset_of_pipes_is_refused_and_holds_nobody(tmp_path: Path) -> None:
    for name in ("dataset.json", "samples.csv", "images/c/0/0/0/0"):
        copied = tmp_path / name.replace("/", "-")
        shutil.copytree(data.real_dataset(4, 32).path, copied)
        (copied / name).unlink()
        os.mkfifo(copied / name)
        with pytest.raises(DataError):
            Dataset(copied).read([0])
    with pytest.raises(OSError, match="not a regular file"):
        file_digest(tmp_path / "samples.csv" / "samples.csv")


@pytest.mark.parametrize("name", ["dataset.json", "samples.csv", "images", "labels/c/0/0/0"])
def test_a_dataset_of_links_is_refused_and_a_copy_is_not(name: str, tmp_path: Path) -> None:
    kept, linked = tmp_path / "kept", tmp_path / "linked"
    for folder in (kept, linked):
        shutil.copytree(data.real_dataset(4, 32).path, folder)
    discard(linked / name)
    (linked / name).symlink_to(kept / name)
    with pytest.raises(DataError) as caught:
        Dataset(linked).read([0])
    words = caught.value.fix.partition("to: ")[2].removesuffix(".").split()
    assert words[:2] == ["cp", "-rL"]
    subprocess.run([*words[:2], linked, tmp_path / "copy"], check=True)  # what is advised helps
    Dataset(tmp_path / "copy").read([0])
    (tmp_path / "by another name").symlink_to(kept)  # where a dataset lies is the user's business
    Dataset(tmp_path / "by another name").read([0])


def test_words_of_a_method_cannot_draw_on_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    hostile = "\x1b[2J\x1b[31mFAKE: audit passed\x1b[0m\x9b1m \u202edessap"
    console = Console()
    console.note(hostile)
    console.warning(hostile)
    console.print(hostile)
    console.table(hostile, [hostile], [[hostile]])
    console.error(DataError(hostile, hostile, hostile, [hostile]))
    with console.progress(hostile) as view:
        view.event({"event": "message", "level": "warning", "text": hostile})
        view.event({"event": "progress", "step": 1, "total": 1, "unit": hostile, "values": {hostile: 1.0}})
    printed = "".join(capfd.readouterr())
    assert not set(printed) & {"\x1b", "\x9b", "\u202e"} and printed.count(r"\x1b[2J") >= 10
    assert "Größe 3 µm – ja\n" in printable("Größe 3 µm – ja\n")  # words of every language stay as they are


def test_a_flood_of_messages_is_cut(capfd: pytest.CaptureFixture[str]) -> None:
    with Console().progress("train") as view:
        for number in range(10_000):
            view.event({"event": "message", "level": "warning", "text": f"warning {number}"})
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 201 and "events.jsonl" in lines[-1]


def test_resume_does_not_work_where_a_link_leads(run: Run, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "data").write_text("mine")
    (run.path / "inputs").rmdir()
    (run.path / "inputs").symlink_to(elsewhere)
    job = Job("train", ("toy",), inputs={"data": Input("labels", tmp_path)})
    (run.path / "job.json").write_text(json.dumps(job.to_dict()))
    with pytest.raises(DataError, match="is a link"):
        create_run(run.path, job, resume=True)
    assert (elsewhere / "data").read_text() == "mine"


def test_log_of_a_container_goes_to_no_file_that_was_there_before(run: Run, victim: Path) -> None:
    class Client:
        """An engine whose container is quick: its trap lies there before the log is opened."""

        def create_container(self, **settings: Any) -> dict[str, Any]:
            return {}

        def attach(self, name: str, **options: Any) -> Iterator[bytes]:
            (run.path / "log.txt").symlink_to(victim)
            return iter([b"pwned\n"])

        def start(self, name: str) -> None:
            pass

        def wait(self, name: str) -> None:
            pass

        def inspect_container(self, name: str) -> dict[str, Any]:
            return {"State": {"Running": False, "ExitCode": 1}, "HostConfig": {}}

        def remove_container(self, name: str, **options: Any) -> None:
            pass

    follower = EventFollower(run, lambda event: None)
    watched = _Watched(Client(), Attempt(run, METRIC), {"name": "x", "host_config": {}}, follower)
    assert watched.execute() is not None
    for thread in threading.enumerate():
        if thread.name == "container-log":
            thread.join()


# ------------------------------------------------------------------------------------------------------- nonsense

NONSENSE = [
    "[1]",
    "7",
    "null",
    "{}",
    '{"event": ["progress"]}',
    '{"event": "progress"}',
    '{"event": "progress", "step": "x"}',
    '{"event": "progress", "step": -1}',
    '{"event": "progress", "step": true}',
    '{"event": "progress", "step": 1.5}',
    '{"event": "progress", "step": 1, "total": "many"}',
    '{"event": "progress", "step": 1' + 400 * "0" + "}",
    '{"event": "progress", "step": 1, "values": [1]}',
    '{"event": "progress", "step": 1, "values": {"loss": "x"}}',
    '{"event": "progress", "step": 1, "values": {"loss": 1' + 400 * "0" + "}}",
    '{"event": "message"}',
    '{"event": "message", "text": "without a level"}',
    100_000 * "[",
    "\ufffd",
]


@pytest.mark.parametrize("view", ["quiet", "lines"])
def test_lines_that_are_no_events_are_passed_over(view: str, run: Run) -> None:
    last = {"event": "progress", "step": 3, "total": 4, "values": {"loss": 0.5, "other": float("nan")}}
    (run.path / "events.jsonl").write_text("\n".join([*NONSENSE, json.dumps(last)]) + "\n")
    seen: list[dict[str, Any]] = []
    with Console(quiet=view == "quiet").progress("train") as shown:

        def follow(event: dict[str, Any]) -> None:
            seen.append(event)
            shown.event(event)

        EventFollower(run, follow).drain()
    assert [(event["step"], event["total"], event["unit"]) for event in seen] == [(3, 4, "step")]


def test_a_flood_of_events_is_read_in_parts_and_all_of_a_modest_one(run: Run) -> None:
    lines = 30_000
    line = json.dumps({"event": "message", "level": "info", "text": 60 * "x"}) + "\n"
    (run.path / "events.jsonl").write_text(3 * 2**20 * "y" + "\n" + lines * line)
    seen: list[dict[str, Any]] = []
    follower = EventFollower(run, seen.append)
    assert follower.poll() and seen == []
    follower.drain()
    assert len(seen) == lines


BAD_RESULTS: dict[str, Any] = {
    "a list": [],
    "empty": {},
    "no status": {"exit_code": 0, "error": None},
    "own status": {**GOOD, "status": "great"},
    "code in words": {**GOOD, "exit_code": "0"},
    "unknown code": {**GOOD, "exit_code": 99},
    "success with an error": {**GOOD, "error": {"type": "DataError"}},
    "success with another code": {**GOOD, "exit_code": 3},
    "failure without error": {**GOOD, "status": "failed", "exit_code": 3},
    "failure with code 0": {**GOOD, "status": "failed", "error": DataError("x").to_dict()},
    "error in numbers": {**GOOD, "status": "failed", "exit_code": 3, "error": {**DataError("x").to_dict(), "what": 1}},
    "outputs": {**GOOD, "outputs": {"dataset": 1}},
    "scores": {**GOOD, "scores": [{"name": "dice", "value": "high"}]},
    "infinite score": {**GOOD, "scores": [{"name": "dice", "value": float("inf")}]},
    "verdict": {**GOOD, "verdict": "pass"},
}


@pytest.mark.parametrize("content", BAD_RESULTS.values(), ids=BAD_RESULTS.keys())
def test_a_result_that_makes_no_sense_is_a_failure(content: Any, attempt: Attempt) -> None:
    (attempt.run.path / "result.json").write_text(json.dumps(content))
    result = ending(attempt)
    assert (result["status"], result["exit_code"]) == ("failed", ExitCode.CONTAINER_FAILED)
    assert error_from_dict(result["error"]).exit_code == ExitCode.CONTAINER_FAILED
    assert result["backend"] == "local" and "scores" not in result


@pytest.mark.parametrize("text", ["", "{", 100_000 * "[", "\x00"])
def test_a_result_that_is_no_json_is_a_failure(text: str, attempt: Attempt) -> None:
    (attempt.run.path / "result.json").write_text(text)
    assert ending(attempt)["exit_code"] == ExitCode.CONTAINER_FAILED


SCORE = {"name": METRIC.scores[0].name, "of": {}}


@pytest.mark.parametrize(
    "content",
    [
        GOOD,
        {**GOOD, "scores": [{**SCORE, "value": None}, {**SCORE, "value": 3, "low": 0.5}]},
        {**GOOD, "status": "failed", "exit_code": 3, "error": DataError("x").to_dict()},
    ],
)
def test_a_sound_result_stands(content: dict[str, Any], attempt: Attempt) -> None:
    assert attempt.result() is None
    leave(attempt.run, content)
    told = {
        key: content[key] for key in content if content["status"] == "succeeded" or key not in ("outputs", "scores")
    }
    assert ending(attempt) == {**told, "backend": "local", "isolation": {}, "warnings": []}


# --------------------------------------------------------------------------------------- what a run says of itself


def test_a_result_that_a_method_wrote_is_not_taken(attempt: Attempt) -> None:
    take_secret(attempt.run.path)  # the runner has it
    attempt.run.write_result({**GOOD, "proof": 64 * "0"})
    result = ending(attempt)
    assert (result["status"], result["exit_code"]) == ("failed", ExitCode.CONTAINER_FAILED)
    assert "runner did not write" in result["error"]["what"]


def test_a_result_that_was_changed_after_it_was_signed_is_not_taken(attempt: Attempt) -> None:
    leave(attempt.run, {**GOOD, "scores": [{**SCORE, "value": 0.5}]})
    told = attempt.run.result()
    assert told is not None and attempt.result() is not None
    told["scores"][0]["value"] = 0.9
    attempt.run.write_result(told)
    assert ending(attempt)["exit_code"] == ExitCode.CONTAINER_FAILED


def test_what_nobody_asked_for_is_not_in_a_result(attempt: Attempt) -> None:
    leave(attempt.run, {**GOOD, "contract": 99, "container": "trusted", "isolation": "complete", "exit_code": 10})
    expected = {**GOOD, "backend": "local", "isolation": {}, "warnings": []}
    assert ending(attempt) == expected
    again = Attempt(attempt.run, METRIC)
    leave(again.run, {**GOOD, "scores": [{"name": "undeclared", "value": 1.0, "of": {}}]})
    assert "undeclared" in ending(again)["error"]["why"]


def test_a_job_and_inputs_that_a_method_changed_are_put_back(tmp_path: Path, victim: Path) -> None:
    job = Job("evaluate", (METRIC.name,), inputs={"reference": Input("labels", tmp_path / "labels")})
    (tmp_path / "labels").mkdir()
    run = create_run(tmp_path / "run", job)
    attempt, before = Attempt(run, METRIC), (run.path / "job.json").read_bytes()
    (run.path / "job.json").unlink()
    (run.path / "job.json").symlink_to(victim)
    run.input("reference").unlink()
    run.input("reference").symlink_to(victim)
    leave(run, GOOD)
    result = ending(attempt)
    assert "job.json, inputs/reference" in result["error"]["why"]
    assert (run.path / "job.json").read_bytes() == before and not (run.path / "job.json").is_symlink()
    assert run.input("reference").resolve() == tmp_path / "labels"


def test_a_whole_run_of_traps_ends_with_code_6(
    tmp_path: Path, victim: Path, install_plugins: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from synthkit.running import backends

    code = f"""
def train(data, checkpoint, params):
    import os, pathlib
    folder = checkpoint.parent.parent
    (folder / "events.jsonl").write_text('[1]\\n{{"event": "progress", "step": "x"}}\\n')
    (folder / "result.json").symlink_to({str(victim)!r})
    (folder / "log.txt").unlink()
    os.mkfifo(folder / "log.txt")
    os._exit(0)

def generate(checkpoint, seeds, params):
    return iter(())
"""
    declaration = replace(GENERATOR, module="synthkit_for_tests", imports=())
    install_plugins(declaration, code=code)
    dataset = data.real_dataset(1, 32)
    job = Job("train", (declaration.name,), inputs={"data": Input("dataset", dataset.path, digest=dataset.digest)})
    run = create_run(tmp_path / "run", job)
    result = backends.get("local").run(run, declaration, lambda event: None)
    assert result["exit_code"] == ExitCode.CONTAINER_FAILED
    assert not (run.path / "result.json").is_symlink()
