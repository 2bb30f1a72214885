"""What a training may begin with instead of random weights: the checkpoint of another one (fine-tuning)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthkit_torch.storage import load_json, load_tensors
from torch import Tensor, nn

import synthkit
from synthkit.errors import DataError
from synthkit_generative.encodings import Encoding

_NETWORKS = ("generator", "network")  # of an adversarial training, and of diffusion


@dataclass(frozen=True)
class Initial:
    """A checkpoint of the same method, and the folder of its state where that was kept: then its discriminator, too."""

    checkpoint: Path
    state: Path | None = None

    @classmethod
    def of(cls, checkpoint: Path | None, state: Path | None) -> Initial | None:
        """As the arguments of a plugin's ``train`` have it."""
        return None if checkpoint is None else cls(Path(checkpoint), state)

    @property
    def architecture(self) -> dict[str, Any]:
        """What the shapes of its networks follow from, as ``config.json`` has it."""
        return dict(self._config["architecture"])

    @property
    def encoding(self) -> Encoding:
        """How its labels are coded; DataError if it does not say so as this version does."""
        try:
            return Encoding.of_config(self._config)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                "The training cannot begin with that checkpoint.",
                f"How its labels are coded is not known here: {error}.",
                "Begin with a checkpoint that this version made.",
            ) from error

    @property
    def imported(self) -> bool:
        """Whether it was, or began with, a network of another project, which no parameters describe."""
        return bool(self._config.get("imported"))

    @property
    def has_state(self) -> bool:
        """Whether the state that its training ended in was kept."""
        return len(self._files) > 1

    @property
    def digest(self) -> str:
        """sha256 of its weights, and of its state."""
        digest = hashlib.sha256()
        for path in self._files:
            digest.update(path.read_bytes())
        return digest.hexdigest()

    def check(self, config: Mapping[str, Any]) -> None:
        """DataError unless a training of this ``config.json`` can begin with it."""
        if (found := self._config)["label_values"] != config["label_values"]:
            raise DataError(
                "The training cannot begin with that checkpoint.",
                f"Its labels are, from dark to bright, {found['label_values']}; here {config['label_values']}.",
                "Give the same label_order, or none.",
            )
        own, here = self.encoding, Encoding.of_config(config)
        if own != here:
            raise DataError(
                "The training cannot begin with that checkpoint.",
                f"Its labels are coded as {own.in_words}, here as {here.in_words}.",
                f"Give label_encoding={own.name}.",
            )
        other = {
            key: (found["architecture"].get(key), value)
            for key, value in config["architecture"].items()
            if found["architecture"].get(key) != value
        }
        if other:
            raise DataError(
                "The training cannot begin with that checkpoint.",
                "; ".join(f"its {key} is {old}, here {new}" for key, (old, new) in other.items()) + ".",
                "Leave out the parameters that make another network.",
            )

    def weights(self) -> dict[str, Tensor]:
        """What generating needs, by name."""
        return load_tensors(self._files[0])[0]

    def state_tensors(self) -> dict[str, Tensor]:
        """The state that its training ended in; empty where it was not kept, which is said."""
        if self.has_state:
            (_, drawn), (tensors, facts) = (load_tensors(path) for path in self._files)
            if any(drawn.get(key) != facts.get(key) for key in ("job", "step")):
                raise DataError(
                    "The training cannot begin with that checkpoint.",
                    "The state beside it is of another training.",
                    "Give the run that it is of, or a copy of the checkpoint without a folder `state` beside it.",
                )
            return tensors
        synthkit.message("Of the checkpoint it begins with, the state was not kept: what is not in it begins anew.")
        return {}

    @property
    def _config(self) -> dict[str, Any]:
        return load_json(self.checkpoint / "config.json")

    @property
    def _files(self) -> list[Path]:
        state = self.state / "training.safetensors" if self.state is not None else None
        weights = self.checkpoint / "generator.safetensors"
        return [weights, state] if state is not None and state.is_file() else [weights]


def load_initial(modules: Mapping[str, nn.Module], weights: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Give networks (by the names of :func:`~synthkit_generative.weights.state_dict`) what another training learned.

    With its state each network as it was; without it the network that draws, and its average, have the average's
    weights, and a discriminator is as it was made. Optimisers begin anew, as does all that is counted.
    """
    drawn = {*modules["averaged"].state_dict()}
    for role, module in modules.items():
        prefix = f"{role}."
        if state:
            own = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
        elif role == "averaged" or role in _NETWORKS:
            own = {name: weights[name] for name in drawn}
        else:
            continue
        try:
            module.load_state_dict(own)
        except RuntimeError as error:
            raise DataError(
                "The training cannot begin with that checkpoint.",
                f"Its {role} is another network: {' '.join(str(error).split())[:200]}.",
                "Leave out the parameters that make another network.",
            ) from error
