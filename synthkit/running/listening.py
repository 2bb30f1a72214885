"""Who is told what happens while a command works: the terminal, a log, nobody."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol


class Follower(Protocol):
    """Is shown how one piece of work goes on.

    Attributes
    ----------
    warned : the warnings of the run that it has passed on.
    """

    warned: set[str]

    def event(self, event: dict[str, Any]) -> None:
        """One event of a run, as :mod:`synthkit.events` writes them."""
        ...

    def step(self, step: int, total: int | None, unit: str = "step") -> None:
        """``step`` of ``total`` units are done; a total of None is not known."""
        ...


class Listener(Protocol):
    """Takes what the library has to say. The console of the command line is one."""

    def note(self, text: str) -> None:
        """What is worth knowing along the way."""
        ...

    def warning(self, text: str) -> None:
        """What may make a result useless, or mislead."""
        ...

    def progress(self, title: str) -> AbstractContextManager[Follower]:
        """Follow one piece of work while the block runs."""
        ...


class LoggingListener:
    """For programs: notes go to the logger ``synthkit``, warnings are Python's, progress is not shown."""

    def note(self, text: str) -> None:
        logging.getLogger("synthkit").info(text)

    def warning(self, text: str) -> None:
        warnings.warn(text, stacklevel=3)

    @contextmanager
    def progress(self, title: str) -> Iterator[Follower]:
        yield WarningsOnly(self)


class WarningsOnly:
    """Passes the warnings of a run on to a listener, and nothing else."""

    def __init__(self, listener: Listener) -> None:
        self.warned: set[str] = set()
        self._listener = listener

    def event(self, event: dict[str, Any]) -> None:
        if event.get("event") == "message" and event.get("level") == "warning":
            text = str(event.get("text"))
            self.warned.add(text)
            self._listener.warning(text)

    def step(self, step: int, total: int | None, unit: str = "step") -> None:
        pass


def counted(n: int, noun: str) -> str:
    """``"1 subject"``, ``"1,200 subjects"``."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
