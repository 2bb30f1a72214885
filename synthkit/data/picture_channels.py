"""Samples that are one picture each, whose channels only the user can name: colour planes, mosaics and frames."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthkit.data.channel_names import SEG
from synthkit.data.channel_options import SKIPPED, Channels, unnamed
from synthkit.data.picture_arrays import ARRAYS, find_arrays
from synthkit.data.picture_layouts import BESIDE, RawSample, Source, call_folders, files_in, folded
from synthkit.data.pictures import Picture, as_plane, ending_of, read_picture, stem_of
from synthkit.errors import DataError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def find_unnamed(root: Path, channels: Channels) -> Source:
    """Pictures that are one sample each, or arrays, in a file or anywhere below a folder.

    Raises
    ------
    DataError : nothing to read, two pictures of one name, shapes that do not fit.
    UsageError : channels that are not named, or an array that may be read in two ways.
    """
    inside = [root] if root.is_file() else [*files_in(root)]
    pictures = [path for path in inside if ending_of(path) and ending_of(path) != ".npy"]
    arrays = [path for path in inside if path.suffix.lower() in ARRAYS]
    base = root.parent if root.is_file() else root
    known = {*pictures, *arrays}
    left_out = [p.relative_to(base).as_posix() for p in inside if p not in known and p.name not in BESIDE]
    if pictures and arrays:
        raise DataError(
            f"{root} holds both pictures and arrays.",
            f"{len(pictures):,} pictures, {len(arrays):,} arrays: which are meant cannot be told.",
            "Import the folder, or the file, that holds the ones.",
        )
    if not pictures and not arrays:
        raise DataError(
            f"{root} holds no pictures.",
            f"It has: {', '.join(folded(left_out, 10)) or 'nothing'}.",
            "Name folders T1, T1CE, T2, FLAIR and Seg, or give pictures or arrays and --channels.",
        )
    source = find_arrays(root, arrays, channels) if arrays else _pictures(root, pictures, channels)
    if not channels.without_labels and not source.has_labels:
        raise DataError(
            f"{root} has no labels.",
            "The label channel is missing.",
            "Name it among --channels, or give --without-labels to import images alone (all labels background).",
        )
    notes = [f"{path.name} is not read." for path in inside if path.name == "dataset.json"][:1]
    return replace(source, left_out=left_out, notes=[*source.notes, *notes])


def _pictures(root: Path, paths: list[Path], channels: Channels) -> Source:
    paths, labels = _labels_apart(root, paths, channels)
    ids = [stem_of(path) for path in paths]
    if twice := sorted(name for name, n in Counter(ids).items() if n > 1):
        raise DataError(
            f"{root} has pictures of one name in several folders.",
            "Samples are named after their pictures.",
            call_folders(root),
            folded(twice),
        )
    first = read_picture(paths[0])
    shape = f"{first.planes.shape[2]} x {first.planes.shape[1]} pixels and {first.planes.shape[0]} channels"
    if channels.names is None:
        raise unnamed(root, f"{paths[0].name} has {shape}, and no part of its name or folder is a channel's")
    if channels.last is not None:
        raise UsageError("Pictures have no last axis.", fix="--channels-last is for arrays; leave it out.")
    k = len(channels.names)
    grid = channels.mosaic
    notes = []
    if grid is None and first.planes.shape[0] != k and k > 1:
        grid = _grid_of(paths[0], first, k)
        notes.append(f"Pictures are read as mosaics of {grid[0]} x {grid[1]} tiles (rows x columns), row by row.")
    if grid is None and k > 1 and first.is_colour:
        notes.append(f"The {k} planes of each picture are read as its channels, alpha included.")
        _refuse_grey(root, paths, k)

    def read(index: int) -> RawSample:
        path = paths[index]
        picture = read_picture(path)
        if grid is None and k > 1:
            if picture.planes.shape[0] != k:
                raise _wrong_number(path, picture, k)
            return channels.sample([*picture.planes], are_values=picture.are_values)
        plane = as_plane(picture, path)
        planes = [plane] if grid is None else _tiles(path, plane, grid, k)
        return channels.sample(planes, are_values=picture.are_values)

    def read_both(index: int) -> RawSample:
        sample, path = read(index), labels[ids[index]]
        picture = read_picture(path, as_labels=True)
        return RawSample(sample.planes, as_plane(picture, path), picture.are_values)

    if not labels:
        return Source("a picture a sample", channels.contrasts, channels.has_labels, ids, read, notes)
    if missing := [f"{name}: no labels" for name in ids if name not in labels] + [
        f"{name}: no image" for name in sorted(labels) if name not in set(ids)
    ]:
        raise DataError(
            f"{len(missing):,} picture{'s are' if len(missing) > 1 else ' is'} missing in {root}.",
            "Every image needs labels of its name.",
            "Add them or remove their counterparts.",
            folded(missing),
        )
    return Source("a picture a sample, labels in a folder", channels.contrasts, True, ids, read_both, notes)


def _labels_apart(root: Path, paths: list[Path], channels: Channels) -> tuple[list[Path], dict[str, Path]]:
    """Images, and the labels by stem that lie in a folder of their own (``labels``, ``masks``, ...)."""
    folders = (
        [child for child in root.iterdir() if child.is_dir() and channels.known.channel_of(child.name) == SEG]
        if root.is_dir()
        else []
    )
    if len(folders) != 1:
        return paths, {}
    inside = [path for path in paths if path.is_relative_to(folders[0])]
    images = [path for path in paths if not path.is_relative_to(folders[0])]
    if not images or channels.without_labels:
        return images or paths, {}
    if SEG in (channels.names or ()):
        raise UsageError(
            f"{root} has labels in the folder {folders[0].name}.",
            "--channels names them again.",
            "Leave them out of --channels.",
        )
    return images, {stem_of(path): path for path in inside}


def _wrong_number(path: Path, picture: Picture, k: int) -> DataError:
    return DataError(
        f"{path} has {picture.planes.shape[0]} channels, and --channels names {k}.",
        f"It is {picture.planes.shape[2]} x {picture.planes.shape[1]} pixels.",
        "Name all of its channels, - for one to leave out; for a mosaic give --mosaic ROWSxCOLUMNS.",
    )


def _refuse_grey(root: Path, paths: list[Path], k: int) -> None:
    """Colour planes that are all one picture, in pictures from all over: a grey picture was saved in colour."""
    some = [read_picture(path).planes for path in paths[:: max(1, len(paths) // 16)]]
    equal = all((planes[:3] == planes[:1]).all() and (planes[3:] == 255).all() for planes in some)
    if k in (3, 4) and equal and any(planes[:3].any() for planes in some):
        grids = [f"--mosaic {rows}x{k // rows}" for rows in range(1, k + 1) if k % rows == 0]
        raise DataError(
            f"The pictures of {root} are grey, saved in colour.",
            f"Their colour planes are equal, and {k} channels cannot be one picture.",
            f"If channels are tiles of the picture (rows x columns), give {' or '.join(grids)}.",
        )


def _grid_of(path: Path, picture: Picture, k: int) -> tuple[int, int]:
    """The only grid of k equal squares that fills a picture."""
    height, width = picture.planes.shape[1:]
    fitting = [(rows, k // rows) for rows in range(1, k + 1) if k % rows == 0 and height * (k // rows) == width * rows]
    grids = [(rows, columns) for rows, columns in fitting if height % rows == 0 and width % columns == 0]
    if (picture.planes.shape[0] > 1 and not picture.is_colour) or not grids:
        raise _wrong_number(path, picture, k)
    return grids[0]


def _tiles(path: Path, plane: NDArray[Any], grid: tuple[int, int], k: int) -> list[NDArray[Any]]:
    (rows, columns), (height, width) = grid, plane.shape
    if height % rows or width % columns or rows * columns < k:
        raise DataError(
            f"{path} cannot be a mosaic of {rows} x {columns} tiles.",
            f"It has {width} x {height} pixels, and {k} channels are named.",
            "Give the rows and columns that it has: --mosaic ROWSxCOLUMNS.",
        )
    tiled = plane.reshape(rows, height // rows, columns, width // columns).swapaxes(1, 2)
    tiles = [*tiled.reshape(rows * columns, height // rows, width // columns)]
    if any(tile.any() for tile in tiles[k:]):
        raise DataError(
            f"{path} has more tiles than --channels has names.",
            f"{rows} x {columns} tiles, {k} names, and a tile without a name is not black.",
            f"Name all tiles, {SKIPPED} for one to leave out.",
        )
    return tiles[:k]
