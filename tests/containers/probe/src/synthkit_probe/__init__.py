"""A metric that measures its container instead of its data (declaration only)."""

from __future__ import annotations

from dataclasses import dataclass

import synthkit
from synthkit import Declaration, MetricDeclaration, ScoreDefinition, param


@dataclass(frozen=True)
class Params:
    """What to do."""

    action: str = param(
        "look",
        "what to do inside",
        choices=(
            *("look", "allocate", "sleep", "stubborn", "exit", "crash", "hush"),
            *("forge", "traps", "fill", "flood", "attach"),
        ),
    )
    megabytes: int = param(16, "memory to fill", unit="MB", minimum=1)
    seconds: float = param(600.0, "how long to sleep", unit="s", minimum=0)


@synthkit.hookimpl
def synthkit_declare() -> list[Declaration]:
    return [
        MetricDeclaration(
            name="probe",
            summary="what a container is like from inside",
            module="synthkit_probe.method",
            distribution="synthkit-probe",
            params=Params,
            roles=("reference",),
            scores=(ScoreDefinition(name="done", summary="1 if the action ended", better="higher"),),
        )
    ]
