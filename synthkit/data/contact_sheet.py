"""A picture of every subject of a dataset, to look at before anything is trained: sides, contrasts, labels.

One slice a subject: the one with most tumour, else the one with most brain. It shows subjects and their ids, and lies
in the folder of real datasets only; no export or release takes it along.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synthkit.data.orientation import edge_marks
from synthkit.data.reducing import reduce_image
from synthkit.schemes import Scheme

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

    from synthkit.contract import UInt8Array

#: Subjects on one page.
PER_PAGE = 40

_NAME = re.compile(r"contact-sheet(-\d+)?\.png")
_SIDE, _GAP, _LINE, _COLUMNS = 128, 2, 14, 2
_OPACITY = 0.45
_INK, _SOFT = (235, 235, 235), (150, 150, 150)


@dataclass(frozen=True)
class _Tile:
    caption: str
    images: UInt8Array
    labels: UInt8Array


class ContactSheet:
    """Collects one slice of each subject, and draws them.

    Parameters
    ----------
    contrasts : names of the channels.
    scheme : colours of the labels.
    axes : where the axes of the slices lead, for marks at their edges; None for none.
    """

    def __init__(self, contrasts: Sequence[str], scheme: Scheme, axes: str | None) -> None:
        self._contrasts, self._scheme, self._marks = tuple(contrasts), scheme, edge_marks(axes)
        self._tiles: dict[str, _Tile] = {}

    def has(self, subject: str) -> bool:
        return subject in self._tiles

    def add(self, subject: str, split: str, numbers: Sequence[int], images: UInt8Array, labels: UInt8Array) -> None:
        """Take one of a subject's slices.

        Parameters
        ----------
        numbers : index of each slice.
        images, labels : uint8 (n, contrast, y, x) and (n, y, x), at least one.
        """
        tumour = [np.count_nonzero(slice_) for slice_ in labels]  # faster than along axes
        best = int(np.argmax(tumour if any(tumour) else [np.count_nonzero(image[0]) for image in images]))
        self._tiles[subject] = _Tile(
            f"{subject}  {split}  slice {numbers[best]}", _sized(images[best]), _sized_labels(labels[best])
        )

    def write(self, folder: Path, order: Sequence[str]) -> tuple[Path, ...]:
        """Write ``contact-sheet.png``, or numbered pages of :data:`PER_PAGE` subjects, in this order; their paths."""
        from synthkit.files import write_atomically

        tiles = [self._tiles[name] for name in order if name in self._tiles]
        for path in folder.iterdir():
            if is_contact_sheet(path.name):
                path.unlink()
        pages = [tiles[start : start + PER_PAGE] for start in range(0, len(tiles), PER_PAGE)]
        paths = []
        for number, page in enumerate(pages, start=1):
            path = folder / ("contact-sheet.png" if len(pages) == 1 else f"contact-sheet-{number:02d}.png")
            write_atomically(path, self._drawn(page))
            paths.append(path)
        return tuple(paths)

    def _drawn(self, tiles: Sequence[_Tile]) -> bytes:
        import io

        from PIL import Image, ImageDraw

        names = [*self._contrasts, "labels"]
        width = len(names) * (_SIDE + _GAP) + 4 * _GAP
        height = _SIDE + _LINE + _GAP
        n_columns = min(_COLUMNS, len(tiles))
        n_rows = -(-len(tiles) // n_columns)
        sheet = Image.new("RGB", (n_columns * width, n_rows * height + _LINE))
        draw = ImageDraw.Draw(sheet)
        for column in range(n_columns):
            for k, name in enumerate(names):
                draw.text((column * width + k * (_SIDE + _GAP) + 2, 1), name, _SOFT)
        for number, tile in enumerate(tiles):
            left, top = number // n_rows * width, number % n_rows * height + _LINE
            draw.text((left + 2, top + 1), _fitting(draw, tile.caption, width), _INK)
            overlay = self._overlay(tile)
            for k, picture in enumerate([*tile.images, overlay]):
                place = left + k * (_SIDE + _GAP), top + _LINE
                sheet.paste(Image.fromarray(picture), place)
                self._mark(draw, place)
        file = io.BytesIO()
        sheet.save(file, "PNG", compress_level=1)
        return file.getvalue()

    def _overlay(self, tile: _Tile) -> UInt8Array:
        grey = tile.images[self._scheme.base_contrast(self._contrasts)]
        picture = np.repeat(grey[..., None], 3, axis=2).astype(np.float32)
        for value, colour in self._scheme.rgb(self._scheme.values).items():
            mask = tile.labels == value
            picture[mask] = picture[mask] * (1 - _OPACITY) + np.asarray(colour, np.float32) * _OPACITY
        drawn: UInt8Array = picture.astype(np.uint8)
        return drawn

    def _mark(self, draw: ImageDraw, place: tuple[int, int]) -> None:
        x, y = place
        at = {
            "left": (x + 2, y + _SIDE // 2 - 6),
            "right": (x + _SIDE - 9, y + _SIDE // 2 - 6),
            "top": (x + _SIDE // 2 - 3, y + 1),
            "bottom": (x + _SIDE // 2 - 3, y + _SIDE - 13),
        }
        for edge, letter in self._marks.items():
            draw.text(at[edge], letter, _INK)


def is_contact_sheet(name: str) -> bool:
    """Whether a file of a dataset's folder is a page of its contact sheet."""
    return _NAME.fullmatch(name) is not None


def complete_from(sheet: ContactSheet, dataset: Any, splits: Mapping[str, str]) -> None:
    """Add the subjects that are in a dataset already and not in the sheet."""
    rows: dict[str, list[int]] = {}
    for number, sample in enumerate(dataset.samples):
        if sample.subject in splits and not sheet.has(sample.subject):
            rows.setdefault(sample.subject, []).append(number)
    for subject, numbers in rows.items():
        slices = [dataset.samples[number].slice or 0 for number in numbers]
        sheet.add(subject, splits[subject], slices, *dataset.read(numbers))


def _fitting(draw: ImageDraw, text: str, width: int) -> str:
    """As much of a text as fits; what the font cannot draw becomes a question mark."""
    text = text.encode("latin-1", "replace").decode("latin-1")
    while draw.textlength(text) > width - 8:
        text = text[:-4] + "..."
    return text


def _sized(images: UInt8Array) -> UInt8Array:
    """Images (contrast, y, x) of 128 pixels: by the mean of blocks, or by repetition."""
    factor = images.shape[-1] // _SIDE
    if factor > 1:
        return np.stack([reduce_image(image, factor) for image in images])
    return images.repeat(_SIDE // images.shape[-1], axis=-2).repeat(_SIDE // images.shape[-1], axis=-1)


def _sized_labels(labels: UInt8Array) -> UInt8Array:
    """Labels (y, x) of 128 pixels: the largest value of each block, so that the smallest part is seen."""
    factor = labels.shape[-1] // _SIDE
    if factor > 1:
        largest: UInt8Array = labels.reshape(_SIDE, factor, _SIDE, factor).max(axis=(1, 3))
        return largest
    return labels.repeat(_SIDE // labels.shape[-1], axis=-2).repeat(_SIDE // labels.shape[-1], axis=-1)
