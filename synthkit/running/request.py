"""A run that is asked for, before it is made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from synthkit.contract import Citation, Declaration
from synthkit.registry.parameters import make_params, params_to_dict
from synthkit.registry.registry import discover
from synthkit.running.run import Job


@dataclass(frozen=True)
class Request:
    """A run that may be made: what is asked for has been checked on this machine.

    Attributes
    ----------
    job : what the run is to do; what it may use is added when it is made.
    declarations : of its plugins; the first one decides what it runs in.
    title : of its progress.
    folder : below the output folder, for one of several runs that were asked for at once; empty for that itself.
    uses_gpu : False for what computes on none, whatever its plugin trains on.
    """

    job: Job
    declarations: tuple[Declaration, ...]
    title: str
    folder: str = ""
    uses_gpu: bool = True

    @classmethod
    def of(cls, job: Job, title: str) -> Request:
        """The request for a job that is there already, by the plugins that are installed here."""
        return cls(job, tuple(discover().get(name) for name in job.plugins), title)


def citations_of(plugins: Iterable[str]) -> list[Citation]:
    """What to cite for these plugins, once each; nothing for one that is not installed here."""
    known = discover().declarations
    found: dict[str, Citation] = {}
    for name in plugins:
        for citation in known[name].citations if name in known else ():
            found.setdefault(citation.text, citation)
    return list(found.values())


def departures(plugin: str, params: Mapping[str, Any]) -> list[str] | None:
    """Parameters of a plugin that are not at its defaults: ``plants = 0 (default 60)``; None if it is not installed."""
    declaration = discover().declarations.get(plugin)
    if declaration is None:
        return None
    usual = params_to_dict(make_params(declaration, {}))
    others = ((name, value, usual.get(name)) for name, value in params.items() if value != usual.get(name))
    return [f"{name} = {_said(value)} (default {_said(default)})" for name, value, default in others]


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    text = ", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)
    return text or "none"
