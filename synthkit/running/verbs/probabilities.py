"""Probabilities of labels, kept while subjects are segmented and written in the subjects' own grids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synthkit.data.nifti import write_probabilities
from synthkit.data.slices import SliceProtocol, to_native
from synthkit.data.subjects import SubjectVolumes
from synthkit.errors import PluginError

if TYPE_CHECKING:
    from synthkit.contract import Declaration, UInt8Array


class ProbabilityKeeper:
    """Collects the probabilities of slices, and writes those of a subject when it is complete.

    Parameters
    ----------
    folder : gets ``SUBJECT_LABEL.nii.gz`` for each label but background: uint8, which readers scale to 0..1.
    metadata : of the checkpoint; its labels and size are those expected.
    protocol : how the volumes were sliced.
    """

    def __init__(self, folder: Path, metadata: Mapping[str, Any], protocol: SliceProtocol) -> None:
        self._folder, self._protocol = folder, protocol
        self._names = [name for name, _ in sorted(metadata["labels"].items(), key=lambda item: int(item[1]))]
        self._shape = (len(self._names), *metadata["size"])
        self._slices: list[UInt8Array] = []
        folder.mkdir(parents=True, exist_ok=True)

    def take(self, answer: Any, declaration: Declaration) -> Any:
        """Keep the probabilities of a pair of labels and probabilities; returns the labels."""
        probabilities = np.asarray(answer[1]) if isinstance(answer, tuple) and len(answer) == 2 else None
        if probabilities is None or probabilities.shape != self._shape or probabilities.dtype != np.uint8:
            what = "something else" if probabilities is None else f"{probabilities.dtype} {probabilities.shape}"
            raise PluginError(
                f"{declaration.name} gave probabilities that do not fit.",
                f"Expected are labels and uint8 {self._shape}, got {what}.",
                f"Report it to the authors of {declaration.distribution}.",
            )
        self._slices.append(probabilities)
        return answer[0]

    def write(self, subject: str, volumes: SubjectVolumes, indices: Sequence[int]) -> None:
        """Write the volumes of a subject from its slices, the first that are kept, and forget these."""
        mine, self._slices = self._slices[: len(indices)], self._slices[len(indices) :]
        for number, name in enumerate(self._names[1:], start=1):
            native = to_native([pixels[number] for pixels in mine], indices, volumes.shape, self._protocol)
            write_probabilities(self._folder / f"{subject}_{name}.nii.gz", native, like=volumes)
