"""The command that a user would type for a call of :mod:`synthkit.api`: shown, and recorded in ``job.json``."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

#: By function: the arguments that are words of its command, in their order. All others are options.
_WORDS: Mapping[str, tuple[str, ...]] = {
    "phantom": (),
    "prepare": ("subjects",),
    "train": ("plugin", "datasets"),
    "import_checkpoint": ("plugin", "file"),
    "generate": ("model",),
    "segment": ("model", "subjects"),
    "evaluate": ("metrics",),
    "audit_memorization": ("real", "synthetic"),
    "report": ("runs",),
}
#: Options that are not called like their argument.
_SHORT = {"out": "-o", "number": "-n"}
#: Options that are given once for every item of a mapping.
_OF_NAMES = {"params": "-p", "conditions": "--condition"}
#: Lists that are one word, with commas; of other lists every item is an option, or a word, of its own.
_WITH_COMMAS = frozenset({"contrasts", "labels", "only"})


def command_of(function: str, arguments: Mapping[str, Any]) -> tuple[str, ...]:
    """``synthkit``, the name of the command, its words, then its options in the order of ``arguments``.

    ``validate_on`` becomes ``--validate-on``, an item of ``params`` ``-p name=value``, one of ``conditions``
    ``--condition name=value``. True is a flag; what is None or
    False is left out.
    """
    positional = _WORDS[function]
    command = ["synthkit", function.replace("_", "-")]
    for name in positional:
        value = arguments[name]
        command += map(_text, value) if isinstance(value, list | tuple) else [_text(value)]
    for name, value in arguments.items():
        if name not in positional:
            command += _option(name, value)
    return tuple(command)


def option_words(params: Mapping[str, Any]) -> str:
    """Parameters as options to read and to copy, ``-p samples=9 -p deep=true``."""
    return shlex.join(_option("params", params))


def _option(name: str, value: Any) -> list[str]:
    if value is None or value is False:
        return []
    if name in _OF_NAMES:
        return [word for key, item in value.items() for word in (_OF_NAMES[name], f"{key}={_text(item)}")]
    option = _SHORT.get(name) or f"--{name.replace('_', '-')}"
    if value is True:
        return [option]
    if isinstance(value, list | tuple) and name not in _WITH_COMMAS:
        return [word for item in value for word in (option, _text(item))]
    return [option, _text(value)]


def _text(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(_text, value)) if isinstance(value, list | tuple) else str(value)
