"""Which trainings may be compared: those that differ in their data and their seed alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synthkit.errors import UsageError


@dataclass(frozen=True)
class Training:
    """What must be alike in all trainings of a comparison: notes of a checkpoint (``synthkit.json``)."""

    name: str
    metadata: Mapping[str, Any]

    @property
    def settings(self) -> dict[str, Any]:
        """By the name that allows a difference: segmenter, contrasts, size, protocol, each parameter but the seed.

        A budget in passes over the data is as large as the data: then their number is a setting too.
        """
        params = {key: value for key, value in self.metadata["params"].items() if key != "seed"}
        if params.get("epochs"):
            params["n_samples"] = sum(entry["n_samples"] for entry in self.metadata["training_datasets"])
        contrasts = params.pop("contrasts", None) or list(self.metadata["contrasts"])
        return {
            "segmenter": self.metadata["plugin"],
            "contrasts": list(contrasts),
            "size": list(self.metadata["size"]),
            # What the images were like, and not how they were to be made: imported ones do not record it.
            "protocol": {key: v for key, v in (self.metadata.get("protocol") or {}).items() if key != "geometry"},
            **params,
        }


def check_comparable(trainings: Sequence[Training], allowed: Sequence[str] = ()) -> list[str]:
    """Refuse trainings that differ in anything but their data and seed.

    Returns
    -------
    a sentence for each difference that ``allowed`` names.

    Raises
    ------
    UsageError : a difference that is not allowed, or an allowed name that nothing has.
    """
    names = list(dict.fromkeys(key for training in trainings for key in training.settings))
    if unknown := sorted(set(allowed) - set(names)):
        raise UsageError(
            f"There is nothing called {', '.join(unknown)} to differ in.",
            f"The trainings have {', '.join(names)}.",
            "Correct --allow-different.",
        )
    differences = find_differences(trainings)
    if refused := [(name, text) for name, text in differences if name not in allowed]:
        raise UsageError(
            "The trainings cannot be compared.",
            " ".join(text for _, text in refused[:5]),
            "Train every arm with the same settings, or name what may differ: "
            + " ".join(f"--allow-different {name}" for name, _ in refused)
            + ".",
        )
    return [text for _, text in differences]


def find_differences(trainings: Sequence[Training]) -> list[tuple[str, str]]:
    """Settings in which trainings differ from the first: their name and a sentence, once each."""
    names = dict.fromkeys(key for training in trainings for key in training.settings)
    found = []
    for name in names:
        mine = trainings[0].settings.get(name)
        for training in trainings[1:]:
            other = training.settings.get(name)
            if mine != other:
                found.append((name, f"{name} is {mine} in {trainings[0].name} and {other} in {training.name}."))
                break
    return found
