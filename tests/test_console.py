"""What is printed, and where: results to standard output, all else to standard error, one JSON document at most."""

from __future__ import annotations

import json

import pytest

from synthkit.cli import console as module
from synthkit.cli.console import Console, LineView
from synthkit.contract import Citation
from synthkit.errors import DataError
from synthkit.running.listening import counted


@pytest.fixture(autouse=True)
def no_document_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Console, "_document_printed", False)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that progress sees, in a list of one number."""
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_one_document_is_printed_and_only_if_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    Console().document({"a": 1})
    assert capsys.readouterr().out == ""
    console = Console(json_output=True)
    console.document({"a": 1})
    console.document({"b": 2})
    Console(json_output=True).error(DataError("It broke."))  # of another object: still the same process
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"a": 1}
    assert "error: It broke." in captured.err


def test_a_document_is_strict_json() -> None:
    with pytest.raises(ValueError, match="JSON"):
        Console(json_output=True).document({"a": float("nan")})


def test_json_leaves_standard_output_to_the_document(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(json_output=True)
    console.print("text")
    console.table("title", ("a",), [(1,)])
    console.ending("synthkit next", [Citation(text="Somebody 2020")])
    console.note("by the way")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "by the way\n"


def test_an_error_says_what_details_why_and_what_to_try_in_this_order(capsys: pytest.CaptureFixture[str]) -> None:
    Console().error(DataError("It broke.", "A reason.", "Do [this].", ["subject 1: bad"]))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "error: It broke.",
        "  subject 1: bad",
        "  why: A reason.",
        "  try: Do [this].",
    ]


def test_an_error_in_json_has_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    error = DataError("It broke.", "A reason.", "Do this.")
    Console(json_output=True).error(error)
    assert json.loads(capsys.readouterr().out) == {"status": "failed", "exit_code": 3, "error": error.to_dict()}


def test_a_long_line_is_not_folded(capsys: pytest.CaptureFixture[str]) -> None:
    text = "word " * 100 + "[bold]end"
    Console().print(text)
    Console().note(text)
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [text] and captured.err.splitlines() == [text]


def test_numbers_align_to_the_right_and_words_to_the_left(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [("a", 5, 0.5, True), ("long name", 12345, None, False)]
    Console().table("Title", ("name", "count", "share", "good"), rows)
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines[0] == "Title"
    header, _, first, second = lines[1:]
    assert first.split() == ["a", "5", "0.500", "yes"]
    assert second.split() == ["long", "name", "12,345", "-", "no"]
    assert first.index("5") == second.index("12,345") + 5, "counts end in one column"
    assert first.index("0.500") + 4 == second.rindex("-"), "a missing number stands where numbers end"
    assert header.index("good") == first.index("yes") == second.rindex("no"), "words begin in one column"


def test_a_large_number_is_shown_without_decimals(capsys: pytest.CaptureFixture[str]) -> None:
    Console().table("", ("x",), [(1234.5678,), (-0.25,)])
    text = capsys.readouterr().out
    assert "1,235" in text and "-0.250" in text


def test_progress_is_plain_lines_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str], clock: list[float]
) -> None:
    with Console().progress("train") as view:
        assert isinstance(view, LineView)
        view.step(1, 10, "step", {"loss": 0.5})  # too early for a line
        clock[0] += 20
        view.step(5, 10, "step", {"loss": 0.25})
        view.step(6, 10, "step")
        clock[0] += 20
        view.event({"event": "progress", "step": 10, "total": 10, "unit": "step", "values": {}})
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "train: 5/10 steps, 20s so far, 25s left, loss 0.25",
        "train: 10/10 steps in 40s",
    ]
    assert "\r" not in captured.err and "\x1b" not in captured.err


def test_the_time_left_of_a_resumed_run_goes_by_what_it_did_itself(
    capsys: pytest.CaptureFixture[str], clock: list[float]
) -> None:
    with Console().progress("train") as view:
        view.step(900, 1000, "step")
        clock[0] += 30
        view.step(910, 1000, "step")
    assert capsys.readouterr().err == "train: 910/1,000 steps, 30s so far, 4m30s left\n"


def test_a_log_of_three_days_has_a_few_hundred_lines(capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    total = 3 * 24 * 360
    with Console().progress("train") as view:
        for step in range(1, total + 1):  # every 10 s
            clock[0] += 10
            view.step(step, total)
    lines = capsys.readouterr().err.splitlines()
    assert 200 < len(lines) < 500 and lines[0].startswith("train: 1/25,920 steps, 10s so far")


def test_progress_without_a_total_has_no_time_left(capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    with Console().progress("train") as view:
        clock[0] += 3700
        view.step(1500, None, "sample written")
    assert capsys.readouterr().err == "train: 1,500 samples written, 1h01m so far\n"


def test_messages_of_a_run_are_shown_and_warnings_marked(capsys: pytest.CaptureFixture[str]) -> None:
    with Console().progress("train") as view:
        view.event({"event": "message", "level": "info", "text": "resumed"})
        view.event({"event": "message", "level": "warning", "text": "odd"})
        view.event({"event": "of another version"})
    assert capsys.readouterr().err.splitlines() == ["resumed", "warning: odd"]


def test_quiet_keeps_results_warnings_and_errors_alone(capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    console = Console(quiet=True)
    with console.progress("train") as view:
        clock[0] += 100
        view.step(1, 1)
        view.say("hello", "warning")
    console.note("by the way")
    console.ending("synthkit next", [Citation(text="Somebody 2020")])
    console.print("result")
    console.error(DataError("It broke."))
    captured = capsys.readouterr()
    assert captured.out == "result\n"
    assert captured.err == "warning: hello\nerror: It broke.\n"


def test_a_command_ends_with_the_next_one_and_what_to_cite(capsys: pytest.CaptureFixture[str]) -> None:
    papers = [
        Citation(text="Somebody 2020", doi="10.1/2", url="https://example.org"),
        Citation(text="Other 2021", url="https://example.org"),
        Citation(text="Third 2022"),
    ]
    Console().ending("synthkit next", papers)
    assert capsys.readouterr().err.splitlines() == [
        "next: synthkit next",
        "cite: Somebody 2020 doi:10.1/2",
        "cite: Other 2021 https://example.org",
        "cite: Third 2022",
    ]


@pytest.mark.parametrize(("n", "text"), [(0, "0 subjects"), (1, "1 subject"), (1200, "1,200 subjects")])
def test_counted(n: int, text: str) -> None:
    assert counted(n, "subject") == text
