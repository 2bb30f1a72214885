"""What the user sees: live progress, tables, errors, the next step. rich is imported on first use.

With ``--json`` exactly one document goes to standard output; all else goes to standard error. Without it, results go
to standard output and progress to standard error: a bar on a terminal, plain lines otherwise.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from synthkit.errors import SynthkitError, printable

if TYPE_CHECKING:
    from rich.console import Console as RichConsole

    from synthkit.contract import Citation

# Between two lines of a log: a training of days writes a few hundred.
_SECONDS_BETWEEN_LINES, _MOST_SECONDS, _SHARE = 10.0, 900.0, 1 / 30
# Of one run: a method that writes more is heard no longer.
_MOST_MESSAGES = 200


class Console:
    """The output of one command.

    Parameters
    ----------
    json_output : print one JSON document at the end instead of text.
    quiet : print errors, warnings and results only.
    """

    # Of the process, not of one object: a command that has printed its result may still end with an error.
    _document_printed: ClassVar[bool] = False

    def __init__(self, *, json_output: bool = False, quiet: bool = False) -> None:
        self.json_output = json_output
        self.quiet = quiet

    # ------------------------------------------------------------------------------------------------- results

    def document(self, data: dict[str, Any]) -> None:
        """The result as JSON, if that is wanted; the one document of the command."""
        if self.json_output and not Console._document_printed:
            Console._document_printed = True
            sys.stdout.write(json.dumps(data, indent=1, allow_nan=False) + "\n")
            sys.stdout.flush()

    def print(self, text: str = "", *, style: str | None = None) -> None:
        """A line of the result."""
        if not self.json_output:
            self._out().print(printable(text), style=style, markup=False, highlight=False, soft_wrap=True)

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """A table of the result; columns of numbers are aligned to the right."""
        if self.json_output:
            return
        from rich import box
        from rich.table import Table
        from rich.text import Text

        body = [[_cell(value) for value in row] for row in rows]
        table = Table(
            title=Text(printable(title)) if title else None,
            box=box.SIMPLE_HEAD,
            title_justify="left",
            pad_edge=False,
            title_style="bold",
        )
        for i, column in enumerate(columns):
            numeric = bool(body) and all(_is_number(row[i]) for row in body)
            table.add_column(Text(printable(column)), justify="right" if numeric else "left", overflow="fold")
        for row in body:
            table.add_row(*(Text(cell) for cell in row))
        self._out().print(table)

    # ---------------------------------------------------------------------------------------------------- notes

    def note(self, text: str) -> None:
        """What is worth knowing along the way."""
        if not self.quiet:
            self._err().print(printable(text), markup=False, highlight=False, soft_wrap=True)

    def warning(self, text: str) -> None:
        shown = f"warning: {printable(text)}"
        self._err().print(shown, style="yellow", markup=False, highlight=False, soft_wrap=True)

    def error(self, error: SynthkitError) -> None:
        """What happened, why, what to try; the details; in JSON as well if that is wanted."""
        err = self._err()
        err.print(f"error: {printable(error.what)}", style="bold red", markup=False, highlight=False, soft_wrap=True)
        for line in error.details:
            err.print(f"  {printable(line)}", markup=False, highlight=False, soft_wrap=True)
        for label, text in (("why", error.why), ("try", error.fix)):
            if text:
                err.print(f"  {label}: {printable(text)}", markup=False, highlight=False, soft_wrap=True)
        self.document({"status": "failed", "exit_code": int(error.exit_code), "error": error.to_dict()})

    def ending(self, next_command: str = "", citations: Iterable[Citation] = ()) -> None:
        """The next command to run, and what to cite."""
        if self.quiet or self.json_output:
            return
        if next_command:
            self.note(f"next: {next_command}")
        for citation in citations:
            where = f" doi:{citation.doi}" if citation.doi else f" {citation.url}" if citation.url else ""
            self.note(f"cite: {citation.text}{where}")

    # ------------------------------------------------------------------------------------------------- progress

    @contextmanager
    def progress(self, title: str) -> Iterator[ProgressView]:
        """Show the events of a run, or any counted work, while the block runs."""
        err = self._err()
        view: ProgressView
        if self.quiet:
            yield ProgressView(title, self)
        elif err.is_terminal:
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

            bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=28),
                TextColumn("{task.fields[count]}", markup=False),
                TimeElapsedColumn(),
                TextColumn("so far,"),
                TimeRemainingColumn(),
                TextColumn("left"),
                TextColumn("{task.fields[values]}", markup=False),
                console=err,
                transient=True,
            )
            with bar:
                view = BarView(title, self, bar)
                yield view
        else:
            yield LineView(title, self)

    def _out(self) -> RichConsole:
        from rich.console import Console as RichConsole

        # A pipe or a file has no width of its own: 80 columns would fold every table.
        return RichConsole(file=sys.stdout, width=None if sys.stdout.isatty() else 140)

    def _err(self) -> RichConsole:
        from rich.console import Console as RichConsole

        return RichConsole(file=sys.stderr, stderr=True)


@dataclass(frozen=True)
class _Progress:
    """``step`` of ``total`` is done, with ``values`` by name; ``share`` of the work, where steps are not alike."""

    step: int
    total: int | None
    unit: str
    values: Mapping[str, float]
    share: float | None

    @property
    def is_done(self) -> bool:
        return self.total is not None and self.step >= self.total

    @property
    def part(self) -> float:
        """Of the work, 0 to 1; 0 where nobody knows."""
        return self.share if self.share is not None else self.step / self.total if self.total else 0.0

    @property
    def count(self) -> str:
        """In words: ``3/7 subjects``."""
        noun, _, rest = self.unit.partition(" ")
        words = f"{noun}{'' if (self.step if self.total is None else self.total) == 1 else 's'} {rest}".strip()
        return f"{self.step:,}/{self.total:,} {words}" if self.total is not None else f"{self.step:,} {words}"

    @property
    def said(self) -> str:
        """The values, behind what is said before them."""
        return "".join(f", {name} {value:.4g}" for name, value in self.values.items())


class ProgressView:
    """Takes events of a run; shows warnings only (``--quiet``).

    Attributes
    ----------
    warned : the warnings shown so far.
    """

    def __init__(self, title: str, console: Console) -> None:
        self.title = title
        self.console = console
        self.warned: set[str] = set()
        self._n_messages = 0

    def event(self, event: dict[str, Any]) -> None:
        """One line of ``events.jsonl``."""
        if event.get("event") == "progress":
            self.step(int(event["step"]), event.get("total"), str(event.get("unit", "step")), event.get("values") or {})
        elif event.get("event") == "message":
            self._n_messages += 1
            if self._n_messages > _MOST_MESSAGES:
                if self._n_messages == _MOST_MESSAGES + 1:
                    self.say(f"More than {_MOST_MESSAGES} messages: the rest are in the run's events.jsonl.", "warning")
                return
            text, level = str(event.get("text")), str(event.get("level"))
            if level == "warning":
                self.warned.add(text)
            self.say(text, level)

    def step(
        self,
        step: int,
        total: int | None,
        unit: str = "step",
        values: dict[str, float] | None = None,
        share: float | None = None,
    ) -> None:
        """``step`` of ``total`` is done; ``share`` of the work, where steps are not alike."""
        self._show(_Progress(step, total, unit, values or {}, share))

    def _show(self, now: _Progress) -> None:
        """How far it is: not shown here."""

    def say(self, text: str, level: str) -> None:
        """A message of the method."""
        if level == "warning":
            self.console.warning(text)


class LineView(ProgressView):
    """Plain lines for logs and for Slurm, every 10 s at first and every 15 minutes in the end."""

    def __init__(self, title: str, console: Console) -> None:
        super().__init__(title, console)
        self._start = self._last = time.monotonic()
        # When the first step was seen, and how much was done then: not nothing after a resume.
        self._first: tuple[float, float] | None = None
        self._ended: int | None = None

    def _show(self, now: _Progress) -> None:
        clock, done, part = time.monotonic(), now.is_done, now.part
        self._first = self._first or (clock, part)
        pause = min(max(_SECONDS_BETWEEN_LINES, (self._last - self._start) * _SHARE), _MOST_SECONDS)
        if (clock - self._last < pause and not done) or (done and self._ended == now.total):
            return
        self._ended = now.total if done else None
        self._last = clock
        spent = clock - self._start
        since, first = self._first
        left = f", {_duration((clock - since) / (part - first) * (1 - part))} left" if part > first and not done else ""
        time_taken = f" in {_duration(spent)}" if done else f", {_duration(spent)} so far"
        self.console.note(f"{self.title}: {now.count}{time_taken}{left}{now.said}")

    def say(self, text: str, level: str) -> None:
        (self.console.warning if level == "warning" else self.console.note)(text)


class BarView(ProgressView):
    """A bar on a terminal."""

    def __init__(self, title: str, console: Console, bar: Any) -> None:
        super().__init__(title, console)
        self._bar = bar
        self._task = bar.add_task(title, total=None, count="", values="")

    def _show(self, now: _Progress) -> None:
        shown, count = printable(now.said.removeprefix(", ")), printable(now.count)
        done, of = (now.step, now.total) if now.share is None else (now.share, 1.0)
        self._bar.update(self._task, completed=done, total=of, count=count, values=shown)

    def say(self, text: str, level: str) -> None:
        style = "yellow" if level == "warning" else None
        prefix = "warning: " if level == "warning" else ""
        self._bar.console.print(prefix + printable(text), style=style, markup=False, highlight=False)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, int):
        return f"{value:,}"
    return printable(str(value))


def _is_number(cell: str) -> bool:
    return cell == "-" or cell[:1].isdigit() or (cell[:1] == "-" and cell[1:2].isdigit())


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
