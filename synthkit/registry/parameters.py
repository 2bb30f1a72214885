"""From ``-p name=value``, TOML or JSON to the frozen parameter dataclass of a declaration, checked."""

from __future__ import annotations

import dataclasses
import difflib
import math
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from synthkit.contract import Declaration
from synthkit.errors import UsageError

#: What other tools call it -> how it may be called here.
_ALSO_CALLED = {
    **dict.fromkeys(("epoch", "epochs", "iterations", "iters", "steps", "max_steps"), ("kimg", "samples")),
    **dict.fromkeys(("lr", "rate"), ("learning_rate",)),
    **dict.fromkeys(("batch", "bs", "batchsize"), ("batch_size",)),
}
_TRUE, _FALSE = {"true", "yes", "on", "1"}, {"false", "no", "off", "0"}


def make_params(declaration: Declaration, given: Mapping[str, Any]) -> Any:
    """The parameter object of ``declaration`` with ``given`` over its defaults.

    Values may be of the field's type or strings of the command line. Raises :class:`UsageError` for an unknown
    name, a wrong type or a value out of bounds.
    """
    return make(declaration.params, given, declaration.name, f"`synthkit plugins show {declaration.name}`")


def make(kind: type, given: Mapping[str, Any], owner: str, reference: str) -> Any:
    """An object of the parameter class ``kind``; ``owner`` and ``reference`` are for what an error says."""
    fields = {item.name: item for item in dataclasses.fields(kind)}
    hints = typing.get_type_hints(kind)
    values: dict[str, Any] = {}
    for name, value in given.items():
        if name not in fields:
            close = [n for n in _ALSO_CALLED.get(name.lower(), ()) if n in fields]
            close = close or difflib.get_close_matches(name, fields, n=1)
            raise UsageError(
                f"{owner} has no parameter {name!r}.",
                f"Did you mean {close[0]!r}?" if close else f"It has: {', '.join(fields) or 'none'}.",
                f"See {reference}.",
            )
        try:
            values[name] = _convert(value, hints[name])
        except (ValueError, TypeError) as error:
            raise UsageError(f"{name}={value!r} does not suit {owner}.", f"It {error}.", f"See {reference}.") from error
        if problem := _out_of_bounds(values[name], fields[name].metadata):
            raise UsageError(f"{name}={values[name]} does not suit {owner}.", f"It {problem}.", f"See {reference}.")
    try:
        return kind(**values)
    except (ValueError, TypeError) as error:  # what the class itself checks in __post_init__
        raise UsageError(f"The parameters of {owner} do not fit together.", f"{error}.", f"See {reference}.") from error


def parse_assignments(assignments: Iterable[str], file: Path | None = None) -> dict[str, Any]:
    """``["kimg=200", "gamma=8"]``, over the top-level keys of a TOML file if one is given."""
    given: dict[str, Any] = {}
    if file is not None:
        try:
            given.update(tomllib.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:  # not TOML, or not UTF-8
            raise UsageError(
                f"The parameter file {file} cannot be read.", f"{error}.", "It is TOML: name = value."
            ) from error
    for assignment in assignments:
        name, separator, value = assignment.partition("=")
        if not separator or not name.strip():
            raise UsageError(f"-p {assignment} is not name=value.", fix="Write it like -p kimg=200.")
        given[name.strip().replace("-", "_")] = value.strip()
    return given


def params_to_dict(params: Any) -> dict[str, Any]:
    """JSON form of a parameter object."""
    return {key: list(v) if isinstance(v, tuple) else v for key, v in dataclasses.asdict(params).items()}


def resumable(declaration: Declaration) -> dict[str, str]:
    """Parameters with which a training may go on at another value, and which: "any", or only "more"."""
    found = {item.name: str(item.metadata.get("resume", "")) for item in dataclasses.fields(declaration.params)}
    return {name: how for name, how in found.items() if how}


def weakened(declaration: Declaration, params: Any) -> list[str]:
    """Parameters that make an audit weaker than its defaults do, each with its default and meaning."""
    lines = []
    for item in dataclasses.fields(declaration.params):
        own, usual, weaker = getattr(params, item.name), item.default, item.metadata.get("weaker", "")
        if weaker and own != usual and _is_weaker(own, usual, weaker):
            lines.append(f"{item.name} = {_shown(own)} (default {_shown(usual)}): {item.metadata['help']}")
    return lines


def _is_weaker(own: Any, usual: Any, weaker: str) -> bool:
    if weaker == "other":
        return True
    if isinstance(usual, tuple):
        return not set(usual) <= set(own)
    return bool(own > usual if weaker == "higher" else own < usual)


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)


def _convert(value: Any, hint: Any) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None or (isinstance(value, str) and value.lower() in ("none", "")):
            return None
        return _convert(value, next(a for a in arguments if a is not type(None)))
    if origin is typing.Literal:
        for choice in arguments:
            if value == choice or str(choice) == value:
                return choice
        raise ValueError(f"must be one of {', '.join(map(str, arguments))}")
    if origin is tuple:
        if not isinstance(value, (str, list, tuple)):
            raise ValueError(f"must be a list, such as [{str(value).lower()}]")
        items = [part for part in value.split(",") if part.strip()] if isinstance(value, str) else list(value)
        return tuple(_convert(item.strip() if isinstance(item, str) else item, arguments[0]) for item in items)
    if hint is bool:
        return _to_bool(value)
    if hint is int:
        return _to_int(value)
    if hint is float:
        return _to_float(value)
    if hint is str:
        if not isinstance(value, str):
            raise ValueError("must be text")
        return value
    raise TypeError(f"parameters of type {hint} are not supported")


def _to_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in _TRUE | _FALSE:
        return value.lower() in _TRUE
    raise ValueError("must be true or false")


def _to_int(value: Any) -> int:
    if isinstance(value, bool):
        raise ValueError("must be a whole number")
    if isinstance(value, int):
        return value
    if isinstance(value, str) and value.strip().lstrip("+-").isdecimal():
        return int(value)  # exact, where a float would round a long seed
    number = _to_float(value)
    if not number.is_integer():
        raise ValueError("must be a whole number")
    return int(number)


def _to_float(value: Any) -> float:
    try:
        if not isinstance(value, bool):
            return float(value)
    except (TypeError, ValueError):
        pass
    raise ValueError("must be a number")


def _out_of_bounds(value: Any, metadata: Mapping[str, Any]) -> str:
    """What is wrong with a value, as "must be ..."; empty if nothing."""
    low, high, choices = metadata.get("minimum"), metadata.get("maximum"), metadata.get("choices")
    for item in value if isinstance(value, tuple) else (value,):
        if item is None:
            continue
        if isinstance(item, float) and not math.isfinite(item):
            return "must be a finite number"
        if low is not None and item < low:
            return f"must be at least {low}"
        if high is not None and item > high:
            return f"must be at most {high}"
        if choices not in (None, "labels") and item not in choices:
            return f"must be one of {', '.join(map(str, choices))}"
    return ""
