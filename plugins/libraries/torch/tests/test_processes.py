"""Work in several processes: done together, ended by the first error, and errors that survive the journey."""

from __future__ import annotations

import os
import re
from typing import Any

import pytest
from synthkit_torch.processes import _portable, launch

from synthkit.errors import DataError, PluginError


class Deadly:
    """Ends the process that it is sent to."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (3,)


class TwoWordsError(Exception):
    """Can be pickled, but not be read again."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


def test_processes_work_and_come_back(capfd: pytest.CaptureFixture[str]) -> None:
    launch(print, "plan", 3)
    # print writes its arguments one by one, so that those of several processes may come between one another.
    printed = "".join(capfd.readouterr().out.split())
    meetings = re.findall(r"/[\w./-]*?/rendezvous", printed)
    assert len(meetings) == 3 and len(set(meetings)) == 1  # the file where they would find one another
    assert sorted(printed.replace(meetings[0], "")) == sorted("plan" * 3 + "012" + "3" * 3)


def test_an_error_comes_back() -> None:
    with pytest.raises(TypeError, match="divmod expected 2 arguments, got 4"):
        launch(divmod, 1, 2)


def test_a_process_that_ends_without_a_word_is_an_error() -> None:
    with pytest.raises(PluginError, match=r"exit code is 3; .*--resume"):
        launch(print, Deadly(), 2)


def test_errors_travel_whole_or_as_words() -> None:
    known = _portable(DataError("A shard is corrupt.", "Its length is wrong.", "Copy it again."))
    assert isinstance(known, DataError) and known.fix == "Copy it again."
    odd = _portable(TwoWordsError("no", "reason"))
    assert type(odd) is RuntimeError and str(odd) == "TwoWordsError: no reason"
