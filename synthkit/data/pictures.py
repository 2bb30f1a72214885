"""One picture file as numbers, exactly as stored: PNG, TIFF, JPEG and the like, ``.npy``, or one slice of NIfTI.

Nothing is scaled, clipped or reduced here. What a reader would change without a word (16-bit colours, palettes in
colour, transparency) is refused by name.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synthkit.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image as PilImage

#: Endings of the names of files that are read, in lower case.
ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".npy", ".nii", ".nii.gz")

_GREY = ("L", "I", "F", "I;16", "I;16B", "I;16L")
_COLOUR = ("RGB", "RGBA", "LA")


@dataclass(frozen=True, eq=False)
class Picture:
    """What a file holds.

    Attributes
    ----------
    planes : numbers (channel, y, x) of the file's own type.
    are_values : the numbers are no greys of a picture, but indices of a palette, or of an array or a volume.
    is_colour : the planes are red, green and blue, or grey with alpha.
    has_alpha : the last plane is transparency, unless it is taken as a channel.
    """

    planes: NDArray[Any]
    are_values: bool = False
    is_colour: bool = False
    has_alpha: bool = False


def ending_of(path: Path) -> str | None:
    """Which of :data:`ENDINGS` a file has."""
    name = path.name.lower()
    return next((ending for ending in reversed(ENDINGS) if name.endswith(ending)), None)


def stem_of(path: Path) -> str:
    """Name of a file without its ending."""
    return path.name[: -len(ending_of(path) or path.suffix) or None]


def read_picture(path: Path, *, as_labels: bool = False) -> Picture:
    """All planes of a file. ``as_labels`` reads a palette in colour as its indices, which else is refused.

    Raises
    ------
    DataError : damaged, of a type that is not read exactly, a volume of several slices, or an array of Python objects.
    """
    ending = ending_of(path)
    try:
        if ending == ".npy":
            return Picture(_checked(path, np.load(path, allow_pickle=False)), are_values=True)
        if ending in (".nii", ".nii.gz"):
            return Picture(_checked(path, _read_slice(path)), are_values=True)
        return _read_image(path, as_labels)
    except DataError:
        raise
    except Exception as error:  # every library has its own ways to say that a file is damaged
        reason = f"{error}".strip() or type(error).__name__
        raise DataError(
            f"{path} cannot be read.", f"{reason}.", "The file is damaged or not what its name says; replace it."
        ) from error


def as_plane(picture: Picture, path: Path) -> NDArray[Any]:
    """The one plane (y, x) of a grey picture, also of one that was saved in colour or with an opaque alpha."""
    planes = picture.planes
    if picture.are_values and planes.ndim == 3 and planes.shape[0] != 1 and planes.shape[-1] == 1:
        planes = np.moveaxis(planes, -1, 0)
    if picture.has_alpha:
        if (planes[-1] != 255).any():
            raise DataError(
                f"{path} is partly transparent.",
                "Its grey depends on what lies behind it.",
                "Save it without an alpha channel; where alpha is a channel of its own, name all: --channels LIST.",
            )
        planes = planes[:-1]
    if picture.is_colour and (planes != planes[:1]).any():
        raise DataError(
            f"{path} is a colour picture.",
            "A contrast has one grey a pixel; labels have one too, or indices of a palette.",
            "Convert it to grey, or name all of its channels where each is one: --channels LIST.",
        )
    if planes.shape[0] != 1 and not picture.is_colour:
        raise DataError(
            f"{path} holds {planes.shape[0]} pictures.", "One is expected here.", "Save each in a file of its own."
        )
    plane: NDArray[Any] = planes[0]
    return plane


def _checked(path: Path, array: NDArray[Any]) -> NDArray[Any]:
    check_numbers(path, array)
    return array[None] if array.ndim == 2 else array


def check_numbers(path: Path | str, array: NDArray[Any]) -> None:
    """:class:`DataError` unless the array holds numbers or truth values, and something at all."""
    if array.dtype.kind not in "biuf":
        raise DataError(f"{path} does not hold numbers.", f"Its type is {array.dtype}.", "Save it as numbers.")
    if 0 in array.shape or array.ndim < 2:
        shape = " x ".join(map(str, array.shape)) or "one number"
        raise DataError(f"{path} is not a picture.", f"Its shape is {shape}.", "Check how it was saved.")


def _read_slice(path: Path) -> NDArray[Any]:
    """A slice (x, y), (x, y, 1) or (x, y, 1, channel) as (channel, y, x), as stored: the affine turns nothing."""
    import nibabel

    stored = path.read_bytes()
    content = gzip.decompress(stored) if stored[:2] == b"\x1f\x8b" else stored
    image: Any = nibabel.Nifti1Image.from_bytes(content)  # type: ignore[no-untyped-call]
    array: NDArray[Any] = np.asarray(image.dataobj)
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim not in (3, 4) or array.shape[2] != 1:
        raise DataError(
            f"{path} is a volume.",
            f"Its shape is {' x '.join(map(str, array.shape))}, where one slice a file is expected.",
            "Volumes become slices by `synthkit prepare`.",
        )
    return array.transpose(2, 1, 0) if array.ndim == 3 else array[:, :, 0].transpose(2, 1, 0)


def _read_image(path: Path, as_labels: bool) -> Picture:
    from PIL import Image

    with Image.open(path) as picture:
        frames = []
        for k in range(getattr(picture, "n_frames", 1)):
            picture.seek(k)
            picture.load()
            frames.append(_read_frame(path, picture, as_labels))
    if len(frames) == 1:
        return frames[0]
    if any(frame.planes.shape[0] != 1 or frame.planes.shape != frames[0].planes.shape for frame in frames):
        raise DataError(f"{path} holds {len(frames)} pictures.", "They are not grey or not of one size.", "Split it.")
    return Picture(np.concatenate([frame.planes for frame in frames]), frames[0].are_values)


def _read_frame(path: Path, picture: PilImage, as_labels: bool) -> Picture:
    mode = picture.mode
    if mode == "P":
        return _read_palette(picture, as_labels)
    if mode in _COLOUR:
        if _bits(path, picture) > 8:
            raise DataError(
                f"{path} is not an 8-bit picture.",
                "It has 16 bits in each of several channels, of which only 8 would be read.",
                "Save each channel as a grey picture of its own, or all as .npy.",
            )
        array = np.asarray(picture)
        return Picture(np.moveaxis(array, -1, 0), is_colour=True, has_alpha=mode != "RGB")
    if mode in _GREY:
        return Picture(np.asarray(picture)[None])
    if mode == "1" and as_labels:
        return Picture(np.asarray(picture)[None], are_values=True)
    reason = "It is black and white" if mode == "1" else f"Its mode is {mode}"
    raise DataError(f"{path} is not an 8-bit picture.", f"{reason}.", "Convert it to 8-bit grey.")


def _read_palette(picture: PilImage, as_labels: bool) -> Picture:
    """A palette of greys is the greys that it shows; one in colour is its indices for labels, and colours else."""
    indices = np.asarray(picture)
    colours = np.zeros((256, 3), np.uint8)
    stored = np.asarray(picture.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
    colours[: len(stored)] = stored
    used = colours[np.unique(indices)]
    if as_labels and (used != used[:, :1]).any():
        return Picture(indices[None], are_values=True)
    return Picture(np.moveaxis(colours[indices], -1, 0), is_colour=True)


def _bits(path: Path, picture: PilImage) -> int:
    """Bits of a channel as stored; Pillow reads 16-bit colours as 8 bits without a word."""
    if picture.format == "PNG":
        with path.open("rb") as file:
            return file.read(25)[24]
    tags: Any = getattr(picture, "tag_v2", None)
    return int(max(tags.get(258, (8,)))) if tags else 8
