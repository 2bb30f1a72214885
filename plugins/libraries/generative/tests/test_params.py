"""The parameters that all generators have: where a method's own come, and what stays of those that it changes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from synthkit_generative.params import FirstParams, FusedParams, LastParams, wants_fused
from synthkit_torch.params import changed

import synthkit
from synthkit.contract import describe_params


@dataclass(frozen=True)
class MethodParams(FirstParams):
    gamma: float = synthkit.param(8.0, "weight of the R1 penalty")
    kimg: float = changed(FirstParams, "kimg", 10.0)


@dataclass(frozen=True)
class Params(LastParams, MethodParams):
    psi: float = synthkit.param(1.0, "generate: truncation")
    seed: int = changed(LastParams, "seed", 3, "seed of all noise")


def test_a_methods_own_parameters_come_in_between() -> None:
    names = [item.name for item in dataclasses.fields(Params)]
    first, last = ([item.name for item in dataclasses.fields(params)] for params in (FirstParams, LastParams))
    assert names == [*first, "gamma", *last, "psi"]


def test_a_changed_parameter_is_the_same_but_for_what_is_changed() -> None:
    found = {item["name"]: item for item in describe_params(Params)}
    common = {item["name"]: item for params in (FirstParams, LastParams) for item in describe_params(params)}
    assert (Params().kimg, Params().seed, FirstParams().kimg) == (10.0, 3, 25000.0)
    assert found["kimg"] == {**common["kimg"], "default": 10.0}
    assert found["seed"] == {**common["seed"], "default": 3, "help": "seed of all noise"}
    assert all(found[name] == item for name, item in common.items() if name not in ("kimg", "seed"))


def test_who_wants_fused_operators() -> None:
    """A method without such operators has no parameter that would do nothing."""
    assert not hasattr(LastParams(), "fused") and wants_fused(LastParams())
    assert wants_fused(FusedParams()) and not wants_fused(FusedParams(fused=False))
