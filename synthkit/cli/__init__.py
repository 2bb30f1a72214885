"""The command ``synthkit``. Commands import what they need inside themselves, so that ``--help`` stays light."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from synthkit.cli import audit, data, evaluate, models, release, reproduce, study, tools, utility
from synthkit.errors import ExitCode, SynthkitError, UsageError, explain_end, printable
from synthkit.running.signals import termination_as_interrupt

_MODULES: tuple[tuple[Any, str], ...] = (
    (data, "Data"),
    (models, "Models"),
    (evaluate, "Evaluation"),
    (utility, "Evaluation"),
    (audit, "Evaluation"),
    (release, "Evaluation"),
    (study, "Studies"),
    (reproduce, "Studies"),
    (tools, "Tools"),
)
_PANELS = tuple(dict.fromkeys(panel for _, panel in _MODULES))


class _ReaderLeftError(Exception):
    """Nobody reads our output any more (head, less)."""


@contextmanager
def _kept_from_typer() -> Iterator[None]:
    """Typer would end the process on these two, the first without a word and the second with an error."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise explain_end(error) from error
    except BrokenPipeError as error:
        raise _ReaderLeftError from error


class _Catalogue(dict[str, Any]):
    """Commands by name, each built from its function when it is first asked for: building all doubles ``--help``."""

    def __getitem__(self, name: str) -> Any:
        found = super().__getitem__(name)
        if isinstance(found, _Entry):
            found = self[name] = found.build()
        return found

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in self else default  # noqa: SIM401  (dict.get would not build)

    def items(self) -> Any:
        return [(name, self[name]) for name in self]

    def values(self) -> Any:
        return [self[name] for name in self]

    def line(self, name: str) -> tuple[str, str]:
        """Panel and summary of a command, without building it."""
        found = super().__getitem__(name)
        if isinstance(found, _Entry):
            return found.panel, found.summary
        return getattr(found, "rich_help_panel", None) or "", found.get_short_help_str(200)


@dataclass(frozen=True)
class _Entry:
    """A command, or a group of some, that is not built yet."""

    name: str
    panel: str
    source: Callable[..., None] | typer.Typer
    below: Mapping[str, Callable[..., None]]

    @property
    def summary(self) -> str:
        text = self.source.info.help if isinstance(self.source, typer.Typer) else self.source.__doc__
        return str(text).strip().partition("\n")[0]

    def build(self) -> Any:
        one = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)
        if isinstance(self.source, typer.Typer):
            one.add_typer(self.source, name=self.name, rich_help_panel=self.panel)
            return typer.main.get_group(one).commands[self.name]
        one.command(self.name, cls=_Command, rich_help_panel=self.panel)(self.source)
        command = typer.main.get_command(one)
        if not self.below:
            return command
        below = {name: _Entry(name, self.panel, source, {}).build() for name, source in self.below.items()}
        return _WithMore(command, name=self.name, commands=below, rich_help_panel=self.panel)


class _WithMore(TyperGroup):
    """A command of its own, with further ones below its name: `release DATASET ...`, and `release verify FOLDER`."""

    def __init__(self, own: Any, **options: Any) -> None:
        super().__init__(help=own.help, params=own.params, **options)
        self.own = own

    def make_context(self, info_name: str | None, args: list[str], *arguments: Any, **options: Any) -> Any:
        if args and args[0] in self.commands:
            below = self.commands[args[0]]
            return below.make_context(f"{info_name} {args[0]}", args[1:], *arguments, **options)
        return self.own.make_context(info_name, args, *arguments, **options)


class _Commands(TyperGroup):
    """Plain help (rich panels cost as much again as all the rest), its commands in groups."""

    def __init__(self, *, commands: Any = None, **options: Any) -> None:
        entries = {
            name: _Entry(name, panel, source, getattr(module, "BELOW", {}).get(name, {}))
            for module, panel in _MODULES
            for name, source in {**module.COMMANDS, **getattr(module, "GROUPS", {})}.items()
        }
        super().__init__(commands=_Catalogue(entries | dict(commands or {})), **options)

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, names = args[0] if args else "", self.list_commands(ctx)
        if name and not name.startswith("-") and name not in names:
            import difflib

            close = [n for n in names if n.startswith(name.lower())] or difflib.get_close_matches(
                name.lower(), names, n=2
            )
            raise UsageError(
                f"There is no command {name!r}.",
                f"Did you mean {' or '.join(close)}?" if close else "",
                "`synthkit --help` lists all commands.",
            )
        return super().resolve_command(ctx, args)

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        with _kept_from_typer():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        with _kept_from_typer():
            return super().invoke(ctx)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        names = self.list_commands(ctx)
        lines = {name: self.commands.line(name) for name in names}  # type: ignore[attr-defined]
        width = max(len(name) for name in names)
        for panel in _PANELS:
            rows = [(name.ljust(width), summary) for name, (belongs, summary) in lines.items() if belongs == panel]
            if rows:
                with formatter.section(panel):
                    formatter.write_dl(rows)


class _Command(TyperCommand):
    """Refuses an option given twice: the last one would win without a word (``--holdout A --holdout B``)."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given = args[: args.index("--")] if "--" in args else args
        for param in self.params:
            if (
                param.param_type_name != "option"
                or getattr(param, "multiple", False)
                or getattr(param, "is_flag", False)
            ):
                continue
            names = tuple(param.opts)
            if sum(word in names or word.startswith(tuple(f"{name}=" for name in names)) for word in given) > 1:
                raise UsageError(f"{names[-1]} is given twice.", "Only one would count.", "Give it once.")
        parsed: list[str] = super().parse_args(ctx, args)
        return parsed


app = typer.Typer(
    name="synthkit",
    cls=_Commands,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Synthetic labelled MR images: train generators, measure how useful they are, audit what they copy.",
    epilog=(
        "Exit codes: 0 ok, 1 bug, 2 usage, 3 invalid data, 4 plugin, 5 backend unavailable, 6 container failed, "
        "7 out of memory, 8 timeout, 9 GPU unavailable, 10 gate failed (audit, release, verify, lock), "
        "11 not writable, 12 insufficient evidence (audit, release), 130 interrupted."
    ),
)


def _version(wanted: bool) -> None:
    if wanted:
        from synthkit import __version__

        print(f"synthkit {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point. Turns every error into one message and the documented exit code."""
    from synthkit.cli.console import Console

    console = Console(json_output="--json" in sys.argv)
    try:
        with termination_as_interrupt():
            app()
    except SynthkitError as error:
        console.error(error)
        _leave(error.exit_code)
    except _ReaderLeftError:  # which is its right
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        _leave(ExitCode.OK)
    except SystemExit as end:
        if end.code == ExitCode.USAGE:  # said by the parser, in words only
            what = UsageError("The command line is not understood.", "Standard error says why.", "See --help.")
            console.document({"status": "failed", "exit_code": int(ExitCode.USAGE), "error": what.to_dict()})
        _leave(end.code if isinstance(end.code, int) else ExitCode.OK if end.code is None else ExitCode.USAGE)
    except Exception as error:
        known = explain_end(error)
        if known.exit_code == ExitCode.BUG:
            import traceback

            sys.stderr.write(printable(traceback.format_exc()))
        console.error(known)
        _leave(known.exit_code)


def _leave(code: int) -> None:
    """End the process now: a thread of a plugin that hangs on import must not hold the command."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        pass
    os._exit(int(code))
