"""A folder of label maps, a picture each, as somebody draws or makes them; no images belong to them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from synthkit.data.pictures import as_plane, ending_of, read_picture
from synthkit.data.scheme_questions import labels_in_words, values_in_words
from synthkit.errors import DataError
from synthkit.schemes import Scheme

if TYPE_CHECKING:
    from synthkit.contract import UInt8Array

_SHOWN = 20


class MaskFolder:
    """Label maps in the files of a folder, in the order of their names: PNG and the like, ``.npy``, a slice of NIfTI.

    They hold the label values themselves, so that nothing has to be guessed from greys.

    Parameters
    ----------
    folder : the folder; what lies deeper is not read, nor are names that begin with a dot. ``skipped`` names what else
        is not.
    scheme : what the values mean.
    size : (y, x) in pixels of all maps.

    Raises
    ------
    DataError : no such folder, or no picture in it.
    """

    def __init__(self, folder: Path, scheme: Scheme, size: tuple[int, int]) -> None:
        if folder.is_file():
            raise DataError(f"{folder} is a file.", "Masks are given by their folder.", f"Give {folder.parent}.")
        if not folder.is_dir():
            raise DataError(f"There is no folder {folder}.", fix="Give a dataset, or a folder of masks.")
        self.folder, self.scheme, self.size = folder, scheme, size
        inside = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        self.files = [path for path in inside if path.is_file() and ending_of(path)]
        self.order = range(len(self.files))
        self.skipped = [path.name + "/" * path.is_dir() for path in inside if path not in self.files]
        if not self.files:
            raise DataError(
                f"{folder} holds no label maps.",
                "It has no dataset.json, and no pictures of masks"
                + (f", but {', '.join(path.name for path in inside[:5])}." if inside else "."),
                "Give a dataset, or a folder with a mask a file (.png, .npy); volumes become a dataset by `synthkit "
                "prepare`.",
            )

    def __len__(self) -> int:
        return len(self.files)

    def labels(self, number: int) -> UInt8Array:
        """Label map (y, x) of a file, by its number from 0; DataError for another size or other values."""
        path = self.files[number]
        plane = as_plane(read_picture(path, as_labels=True), path)
        if plane.shape != self.size:
            raise DataError(
                f"The mask {path.name} does not fit.",
                f"It has {plane.shape[1]} x {plane.shape[0]} pixels, the model makes {self.size[1]} x {self.size[0]}.",
                "Draw masks of the size that the model makes.",
            )
        if plane.dtype == bool:
            if len(self.scheme.labels) > 1:
                raise DataError(
                    f"The mask {path.name} does not say which label it is of.",
                    f"It holds true and false; the model's labels are {labels_in_words(self.scheme)}.",
                    "Save the label values themselves, as whole numbers.",
                )
            return np.where(plane, self.scheme.labels[0].value, 0).astype(np.uint8)
        values = np.unique(plane)
        if unknown := [value for value in values.tolist() if value not in self.scheme.values]:
            found = values_in_words([int(v) for v in unknown]) if np.equal(np.mod(unknown, 1), 0).all() else "fractions"
            raise DataError(
                f"The mask {path.name} has labels that the model does not have.",
                f"It holds {found}; the model's are {labels_in_words(self.scheme)}.",
                "Save the label values themselves, and neither their colours nor their greys.",
            )
        return np.ascontiguousarray(plane, dtype=np.uint8)

    def check(self) -> None:
        """:class:`DataError` that names every file that cannot be used."""
        bad: list[tuple[Path, DataError]] = []
        for number, path in enumerate(self.files):
            try:
                self.labels(number)
            except DataError as error:
                bad.append((path, error))
        if bad:
            first = bad[0][1]
            more = [f"... and {len(bad) - _SHOWN} more"] if len(bad) > _SHOWN else []
            raise DataError(
                f"{len(bad)} of {len(self)} masks in {self.folder} cannot be used." if len(self) > 1 else first.what,
                f"{first.what} {first.why}" if len(self) > 1 else first.why,
                first.fix,
                [*(f"{path.name}: {error.why}" for path, error in bad[1:_SHOWN]), *more],
            )
