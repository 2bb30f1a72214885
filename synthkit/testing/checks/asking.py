"""What a generator promises that can be asked for more than seeds: for label maps, or for conditions by name."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from synthkit.contract import Asked, NoParams
from synthkit.testing.bench import SEEDS, PluginUnderTest, require, require_form, require_same
from synthkit.testing.checks.registry import check

if TYPE_CHECKING:
    from synthkit.contract import UInt8Array


@check("generator", asked=True)
def asked_labels_are_drawn(plugin: PluginUnderTest) -> None:
    """A sample has exactly the label map that it is asked for, wherever that has labels."""
    for asked in _label_maps(plugin) or ():
        made = plugin.generate(plugin.trained(), SEEDS, [asked] * len(SEEDS))
        require_form(made, len(SEEDS), 4, plugin.size)
        n_other = [int((labels != asked.labels).sum()) for _, labels in made]
        require(not any(n_other), f"{max(n_other)} pixels have another label than was asked for")


@check("generator", asked=True)
def what_is_asked_changes_the_sample(plugin: PluginUnderTest) -> None:
    """Whatever it can be asked for counts: with the same seeds another label map makes other images, and another value
    of a condition other samples."""
    for name, (one, other) in _alternatives(plugin).items():
        first, second = (plugin.generate(plugin.trained(), SEEDS, [asked] * len(SEEDS)) for asked in (one, other))
        # Label maps that it was given are other ones whatever it does: then the images count.
        n_arrays = 1 if name == "labels" else 2
        pairs = [(x, y) for a, b in zip(first, second, strict=True) for x, y in list(zip(a, b, strict=True))[:n_arrays]]
        require(not all(np.array_equal(x, y) for x, y in pairs), f"it ignores {name}")


@check("generator", asked=True)
def sample_belongs_to_its_seed_and_to_what_is_asked(plugin: PluginUnderTest) -> None:
    """A sample depends on its seed and on what it is asked for alone, not on what its neighbours are asked for."""
    for name, (one, other) in _alternatives(plugin).items():
        pairs = [(seed, (one, other)[k % 2]) for k, seed in enumerate(SEEDS)]
        reference = _made(plugin, pairs)
        for again, when in (
            (pairs[::-1], "in another order"),
            (pairs[3:4], "alone"),
            ([(seed, one) for seed in SEEDS], "among others that are asked for something else"),
        ):
            made = _made(plugin, again)
            common = [k for k, pair in enumerate(pairs) if pair in again]
            require_same(
                [reference[k] for k in common], [made[again.index(pairs[k])] for k in common], f"{when} ({name})"
            )


def _made(plugin: PluginUnderTest, pairs: Sequence[tuple[int, Asked]]) -> list[tuple[UInt8Array, ...]]:
    return plugin.generate(plugin.trained(), [seed for seed, _ in pairs], [asked for _, asked in pairs])


def _alternatives(plugin: PluginUnderTest) -> dict[str, tuple[Asked, Asked]]:
    """Of everything that the generator can be asked for, by name, two different things to ask for."""
    found = {"labels": maps} if (maps := _label_maps(plugin)) else {}
    conditions = _conditions_of(plugin)
    for name, hint in typing.get_type_hints(conditions).items():
        one, other = _extremes(plugin, name, typing.get_args(hint)[0])
        found[name] = Asked(None, conditions(**{name: one})), Asked(None, conditions(**{name: other}))
    return found


def _conditions_of(plugin: PluginUnderTest) -> Any:
    return getattr(plugin.declaration, "conditions", NoParams)


def _extremes(plugin: PluginUnderTest, name: str, kind: Any) -> tuple[Any, Any]:
    """Two values of a condition, as far apart as can be."""
    about = _conditions_of(plugin).__dataclass_fields__[name].metadata
    if kind is bool:
        return False, True
    if kind in (int, float):
        return kind(about["minimum"]), kind(about["maximum"])
    choices = typing.get_args(kind) if typing.get_origin(kind) is typing.Literal else about["choices"]
    if choices == "labels":
        choices = [label.name for label in plugin.dataset().scheme.labels]
    if typing.get_origin(kind) is tuple:
        return (choices[0],), (choices[-1],)
    return choices[0], choices[-1]


def _label_maps(plugin: PluginUnderTest) -> tuple[Asked, Asked] | None:
    """A label map of the training data, and one with a label in the corner, outside the head; None if it takes none."""
    if not getattr(plugin.declaration, "label_maps", False):
        return None
    labels = plugin.dataset().training_part().read([0])[1][0]
    corner = np.zeros_like(labels)
    corner[: plugin.size // 4, : plugin.size // 4] = plugin.dataset().label_values[-1]
    nothing = _conditions_of(plugin)()
    return Asked(labels, nothing), Asked(corner, nothing)
