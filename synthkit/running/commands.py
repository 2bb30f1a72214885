"""The command that a user would type for what a program asks: shown, and recorded in ``job.json``."""

from __future__ import annotations

from typing import Any


def command_line(*words: Any, **options: Any) -> tuple[str, ...]:
    """``synthkit``, the words, then the options that have a value.

    An option is named like its argument in Python (``validate_on`` is ``--validate-on``); ``out`` is ``-o``, and
    ``params`` a table of parameters. True is a flag, a list is the option repeated; None and False are left out.
    """
    command = ["synthkit", *map(_text, words)]
    for name, value in options.items():
        if name == "params":
            command += [word for key, item in (value or {}).items() for word in ("-p", f"{key}={_text(item)}")]
            continue
        option = "-o" if name == "out" else f"--{name.replace('_', '-')}"
        if value is True:
            command.append(option)
        elif isinstance(value, list | tuple):
            command += [word for item in value for word in (option, _text(item))]
        elif value is not None and value is not False:
            command += [option, _text(value)]
    return tuple(command)


def _text(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(_text, value)) if isinstance(value, list | tuple) else str(value)
