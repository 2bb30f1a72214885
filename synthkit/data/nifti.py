"""One NIfTI volume: read fast and whole, or write labels in another volume's grid.

nibabel parses every header and owns every unusual file (scaled, big-endian, with extensions, NIfTI-2). For the common
one, the gzip stream is decoded in a single call into its final array, by libdeflate where it is at hand, which is
several times faster than a file-like decoder and lets other threads run. Both ways give the same array.
"""

from __future__ import annotations

import ctypes
import gzip
import io
import logging
import struct
import threading
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synthkit.data.fetched import not_fetched, pointer_in
from synthkit.data.metaimage import is_metaimage, read_metaimage
from synthkit.errors import DataError
from synthkit.files import write_atomically

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from synthkit.contract import UInt8Array

_GZIP_MAGIC = b"\x1f\x8b"
_HEADER_BYTES = 352  # 348 of header and 4 that say whether extensions follow
#: Units of length that NIfTI has besides mm. Others are taken as mm, as is a header that names none.
_MM = {"meter": 1000.0, "micron": 0.001}
# Beyond these no head was scanned: the unit is wrong.
_SMALLEST_MM, _LARGEST_MM = 0.02, 100.0
# Affine and pixdim say the same size within this part; both are stored in single precision.
_TWO_SIZES = 0.02

Spacing = tuple[float, float, float]

_DEFLATE_MAX_RATIO = 1032  # the most that one byte of a deflate stream can stand for (RFC 1951)


class VolumeError(DataError):
    """A file is not a volume that can be used: ``reason`` is the cause in a few words, ``shape`` that of its array."""

    def __init__(self, path: Path, reason: str, fix: str = "Restore or replace the file.", shape: Any = ()) -> None:
        super().__init__(f"{path} cannot be used.", f"{reason[:1].upper()}{reason[1:]}.", fix)
        self.reason, self.shape = reason, tuple(shape)


@dataclass(frozen=True, eq=False)
class Volume:
    """A scalar volume as stored on disk.

    Attributes
    ----------
    data : (x, y, z) in the file's own type and array order, scaled if the header asks for it. May be read-only.
    affine : (4, 4) voxel indices -> mm, whatever unit the header names.
    spacing_mm : voxel size along each array axis, by the affine.
    header : nibabel's header, for writing something in the same grid. Volumes may share it: a copy is to be changed.
    """

    data: NDArray[Any]
    affine: NDArray[np.float64]
    spacing_mm: tuple[float, float, float]
    header: Any


def read_volume(path: Path | str) -> Volume:
    """Read a ``.nii`` or ``.nii.gz`` file, compressed or not as its content says, or with SimpleITK a ``.mha``.

    Raises
    ------
    VolumeError : not there (a link to nothing, a pointer), unreadable, truncated or corrupt, not NIfTI, not 3-D (a
        fourth axis of length 1 is passed over), or not scalar.
    """
    volume = _read(Path(path))
    data = volume.data
    while data.ndim > 3 and data.shape[-1] == 1:
        data = data[..., 0]
    if data.ndim != 3 or 0 in data.shape:
        shape = "x".join(map(str, data.shape))
        reason = f"it is {data.ndim}-D ({shape}) where one 3-D volume a file is expected"
        raise VolumeError(Path(path), reason, shape=data.shape)
    return Volume(data, volume.affine, volume.spacing_mm, volume.header)


def read_channels(path: Path | str, n_channels: int) -> list[Volume]:
    """The channels of a 4-D file, (x, y, z, channel), as volumes on one grid; a 3-D file is one channel.

    Raises
    ------
    VolumeError : as :func:`read_volume`, or another number of channels than ``n_channels``.
    """
    volume = _read(Path(path))
    data = volume.data[..., None] if volume.data.ndim == 3 else volume.data
    if data.ndim != 4 or 0 in data.shape or data.shape[3] != n_channels:
        shape = "x".join(map(str, data.shape))
        raise VolumeError(Path(path), f"it is {shape} where a 4-D image of {n_channels} channels is expected")
    return [Volume(data[..., k], volume.affine, volume.spacing_mm, volume.header) for k in range(n_channels)]


def _read(path: Path) -> Volume:
    try:
        stored = path.read_bytes()
    except OSError as error:
        reason = f"it is {why}" if (why := not_fetched(path)) else f"it cannot be read ({error.strerror or error})"
        raise VolumeError(path, reason) from error
    try:
        if stored and is_metaimage(path):
            data, header = read_metaimage(path)
            sizes: Sequence[float] = header.get_zooms()[:3]
        else:
            data, header, sizes = _decode(stored)
        if data.dtype.kind not in "iuf":
            raise ValueError(f"its voxels are {data.dtype} where numbers are expected")
        if data.ndim < 3:
            shape = "x".join(map(str, data.shape))
            raise ValueError(f"it is {data.ndim}-D ({shape}) where one 3-D volume a file is expected")
        return Volume(data, *_grid(header, sizes), header)
    except ValueError as error:
        why = pointer_in(stored) if stored else None
        raise VolumeError(path, f"it is {why}" if why else str(error)) from error


def read_grid(path: Path) -> tuple[tuple[int, ...], NDArray[np.float64], Spacing]:
    """Shape in voxels, affine (4, 4) voxel indices -> mm, and voxel size in mm; from the header alone where it can.

    Raises
    ------
    VolumeError : as :func:`read_volume`, which reads what is not plain.
    """
    try:
        with path.open("rb") as file:
            stored = file.read(4 * _HEADER_BYTES)
        head = _head(stored) if stored[:2] == _GZIP_MAGIC else stored[:_HEADER_BYTES]
        plain = _plain_header(head)
    except (OSError, _UnusableError):
        plain = None
    found = None
    if plain is not None:
        with suppress(ValueError):
            found = plain[2], *_grid(plain[0], _sizes_in(head))
    if found is None:
        volume = _read(path)
        found = volume.data.shape, volume.affine, volume.spacing_mm
    shape, affine, spacing_mm = found
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    return shape, affine, spacing_mm


def unit_named(header: Any) -> str:
    """Unit of length in a header: ``mm``, ``meter``, ``micron`` or ``unknown``."""
    try:
        return str(header.get_xyzt_units()[0])
    except KeyError:  # a code that NIfTI does not have
        return "unknown"


def _grid(header: Any, sizes: Sequence[float]) -> tuple[NDArray[np.float64], Spacing]:
    """Affine and voxel size in mm; ValueError says what is wrong. ``sizes`` are ``pixdim`` as stored.

    nibabel makes 1 of a size of 0 and drops a sign, without a word.
    """
    if not all(np.isfinite(size) and size > 0 for size in sizes):
        raise ValueError(f"its voxel size ({' x '.join(f'{size:g}' for size in sizes)}) is not a real one")
    affine = np.asarray(header.get_best_affine(), dtype=np.float64).copy()
    if not np.isfinite(affine).all() or np.linalg.det(affine[:3, :3]) == 0:
        raise ValueError("its affine is not a real grid")
    by_affine = np.linalg.norm(affine[:3, :3], axis=0)
    if (np.abs(by_affine - sizes) > _TWO_SIZES * np.asarray(sizes)).any():
        one, other = (" x ".join(f"{size:g}" for size in several) for several in (by_affine, sizes))
        raise ValueError(f"its header names two voxel sizes, {one} in its affine and {other} in pixdim")
    unit = unit_named(header)
    factor = _MM.get(unit, 1.0)
    affine[:3] *= factor
    x, y, z = (float(size) * factor for size in by_affine)
    if not all(_SMALLEST_MM <= size <= _LARGEST_MM for size in (x, y, z)):
        said = f"the header's unit is {unit}" if unit != "unknown" else "the header names no unit"
        off = f"wrong by a factor of {10 ** max(1, abs(round(np.log10(x * y * z) / 3)))}"
        raise ValueError(f"its voxels of {x:g} x {y:g} x {z:g} mm are not those of a head ({said}): {off}")
    return affine, (x, y, z)


def _sizes_in(raw: bytes) -> Sequence[float]:
    """The three voxel sizes of a header as they are stored, in its own unit."""
    for order in "<>":
        if raw[:4] == struct.pack(order + "i", 540):
            return struct.unpack_from(order + "3d", raw, 112)
        if raw[:4] == struct.pack(order + "i", 348):
            return struct.unpack_from(order + "3f", raw, 80)
    return (0.0, 0.0, 0.0)


def write_probabilities(path: Path | str, probabilities: UInt8Array, like: Any) -> None:
    """As :func:`write_labels`, for probabilities of which 255 is 1; readers scale them to 0..1."""
    _write(Path(path), probabilities, like, slope=1 / 255)


def write_labels(path: Path | str, labels: UInt8Array, like: Any) -> None:
    """Write labels as uint8 NIfTI in the grid of another volume, atomically.

    Parameters
    ----------
    path : ``.nii.gz`` or ``.nii``.
    labels : uint8 (x, y, z), of the shape of ``like``.
    like : whatever has nibabel's header as ``header`` (a :class:`Volume`, a subject's volumes). Affine, sform and
        qform with their codes, and units are taken over unchanged.

    Raises
    ------
    DataError : the shape or type does not fit.
    """
    _write(Path(path), labels, like)


def _write(path: Path, voxels: UInt8Array, like: Any, slope: float | None = None) -> None:
    import nibabel as nib

    header = like.header.copy()
    expected = tuple(int(n) for n in header.get_data_shape()[:3])
    if voxels.dtype != np.uint8 or voxels.shape != expected:
        raise DataError(
            f"Labels for {path.name} do not fit.",
            f"They are {voxels.dtype} {voxels.shape}, the grid to write them in is uint8 {expected}.",
            "Check the plugin that made them.",
        )
    header.set_data_dtype(np.uint8)
    header.set_slope_inter(1, 0)
    header["cal_min"] = header["cal_max"] = 0
    header.extensions.clear()  # they describe the image that lent its grid
    kind = nib.Nifti2Image if header["sizeof_hdr"] == 540 else nib.Nifti1Image
    stored: bytes = kind(voxels, None, header).to_bytes()  # type: ignore[no-untyped-call]
    if slope is not None:
        # scl_slope by hand: nibabel writes that of its own scaling, and would scale the voxels back.
        code, at = ("d", 176) if kind is nib.Nifti2Image else ("f", 112)
        packed = struct.pack(header.endianness + code, slope)
        stored = stored[:at] + packed + stored[at + len(packed) :]
    # No name and no time in the gzip header: equal labels give equal files.
    write_atomically(path, gzip.compress(stored, 6, mtime=0) if path.name.lower().endswith(".gz") else stored)


class _UnusableError(ValueError):
    """Why these bytes are not a volume, in a few words."""


def _decode(stored: bytes) -> tuple[NDArray[Any], Any, Sequence[float]]:
    """Voxels, nibabel's header and the voxel sizes in it as stored, of a file's bytes."""
    compressed = stored[:2] == _GZIP_MAGIC
    head = _head(stored) if compressed else stored[:_HEADER_BYTES]
    plain = _plain_header(head)
    if plain is None:
        everything = _gunzip(stored) if compressed else stored
        return *_decode_any(everything), _sizes_in(everything)
    header, dtype, shape = plain
    n_bytes = _HEADER_BYTES + dtype.itemsize * int(np.prod(shape, dtype=object))
    raw: Any = stored
    if compressed:
        raw = _gunzip_once(stored, n_bytes)
        if raw is None:
            raw = _gunzip(stored)
    if len(raw) < n_bytes:
        raise _UnusableError(f"it is truncated ({len(raw)} of {n_bytes} bytes)")
    count = (n_bytes - _HEADER_BYTES) // dtype.itemsize
    return np.frombuffer(raw, dtype, count, _HEADER_BYTES).reshape(shape, order="F"), header, _sizes_in(head)


@lru_cache(maxsize=64)  # the files of a subject often have one header, and all are read twice
def _plain_header(head: bytes) -> tuple[Any, np.dtype[Any], tuple[int, ...]] | None:
    """Header, voxel type and shape if nothing about the file is unusual, else None."""
    import nibabel as nib

    if len(head) < _HEADER_BYTES or head[:4] != struct.pack("<i", 348) or head[344:348] != b"n+1\0":
        return None
    if head[348] != 0 or struct.unpack_from("<f", head, 108)[0] not in (0.0, _HEADER_BYTES):
        return None
    try:
        header = nib.Nifti1Header.from_fileobj(io.BytesIO(head))  # type: ignore[no-untyped-call]
        slope_inter = header.get_slope_inter()
        dtype, shape = header.get_data_dtype(), tuple(int(n) for n in header.get_data_shape())
    except Exception:  # nibabel's own reading, which follows, says what is wrong
        return None
    if dtype.kind not in "iuf" or not dtype.isnative or slope_inter not in ((None, None), (1.0, 0.0)):
        return None
    return header, dtype, shape


def _decode_any(raw: bytes) -> tuple[NDArray[Any], Any]:
    """The same for every file that nibabel understands."""
    import nibabel as nib

    if not raw:
        raise _UnusableError("it is empty")
    kind = nib.Nifti2Image if raw[:4] in (struct.pack("<i", 540), struct.pack(">i", 540)) else nib.Nifti1Image
    nib.imageglobals.logger.setLevel(logging.CRITICAL)  # what it logs of a header it raises as well
    try:
        image = kind.from_bytes(raw)
    except Exception as error:  # nibabel's parsers raise whatever the bytes make them stumble over
        raise _UnusableError(f"it is not NIfTI ({error})") from error
    try:
        return np.asanyarray(image.dataobj), image.header
    except Exception as error:
        raise _UnusableError(f"its voxels cannot be read, it may be truncated ({error})") from error


def _head(stored: bytes) -> bytes:
    try:
        return zlib.decompressobj(wbits=31).decompress(stored, _HEADER_BYTES)
    except zlib.error as error:
        raise _UnusableError(f"its gzip stream is corrupt ({error})") from error


def _gunzip(stored: bytes) -> bytes:
    """Any gzip file: of several members, padded, with a length field that means nothing. Checks every checksum."""
    try:
        return gzip.decompress(stored)
    except EOFError as error:
        raise _UnusableError(f"its gzip stream is truncated ({len(stored)} bytes are there)") from error
    except (OSError, zlib.error) as error:
        raise _UnusableError(f"its gzip stream is corrupt ({error})") from error


def _gunzip_once(stored: bytes, size: int) -> UInt8Array | bytes | None:
    """The common gzip file, of one member that decodes to exactly ``size`` bytes, in one call; None if it is another.

    The length in the last four bytes is never trusted alone: memory is taken only if the header of the volume says the
    same and the stream can hold as much.
    """
    if size % 2**32 != int.from_bytes(stored[-4:], "little") or size > _DEFLATE_MAX_RATIO * len(stored):
        return None
    library = _libdeflate()
    if library is None:
        try:
            raw = zlib.decompress(stored, wbits=31, bufsize=size)
        except zlib.error:
            return None
        return raw if len(raw) == size else None
    if not hasattr(_local, "decompressor"):
        _local.decompressor = _Decompressor(library)
    return _local.decompressor.gunzip(stored, size)  # type: ignore[no-any-return]


_local = threading.local()


@cache
def _libdeflate() -> ctypes.CDLL | None:
    """The libdeflate inside the wheel ``deflate``, called without the interpreter lock that its own module keeps."""
    try:  # nothing is imported, which other threads would see half done
        where = getattr(PathFinder.find_spec("deflate"), "submodule_search_locations", [])
        library = ctypes.CDLL(getattr(PathFinder.find_spec("_deflate", where), "origin", "no such file"))
        if not hasattr(library, "libdeflate_gzip_decompress_ex"):
            return None
    except (ImportError, OSError):
        return None
    library.libdeflate_alloc_decompressor.restype = ctypes.c_void_p
    library.libdeflate_free_decompressor.argtypes = (ctypes.c_void_p,)
    size, sizes = ctypes.c_size_t, ctypes.POINTER(ctypes.c_size_t)
    library.libdeflate_gzip_decompress_ex.argtypes = (
        *(ctypes.c_void_p, ctypes.c_char_p, size),
        *(ctypes.c_void_p, size, sizes, sizes),
    )
    return library


class _Decompressor:
    """libdeflate's decoder state; one a thread."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self._state = ctypes.c_void_p(library.libdeflate_alloc_decompressor())
        if not self._state:
            raise MemoryError("libdeflate")

    def gunzip(self, stored: bytes, size: int) -> UInt8Array | None:
        result = np.empty(size, dtype=np.uint8)
        n_read, n_written = ctypes.c_size_t(), ctypes.c_size_t()
        status = self._library.libdeflate_gzip_decompress_ex(
            self._state,
            stored,
            len(stored),
            result.ctypes.data,
            size,
            ctypes.byref(n_read),
            ctypes.byref(n_written),
        )
        return result if status == 0 and n_written.value == size and n_read.value == len(stored) else None

    def __del__(self) -> None:
        if getattr(self, "_state", None):
            self._library.libdeflate_free_decompressor(self._state)
