"""One file as numbers: exactly what is stored, or a refusal by name."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from synthkit.data.pictures import ending_of, read_picture, stem_of
from synthkit.errors import DataError


def png_of_16_bit_colours(path: Path, array: np.ndarray, colour_type: int) -> None:
    """Pillow cannot write one; array (y, x, channel)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    header = struct.pack(">IIBBBBB", array.shape[1], array.shape[0], 16, colour_type, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


@pytest.mark.parametrize(("channels", "colour_type"), [(2, 4), (3, 2), (4, 6)])
def test_16_bit_colours_are_not_cut_to_8(tmp_path: Path, channels: int, colour_type: int) -> None:
    png_of_16_bit_colours(tmp_path / "a.png", np.full((4, 5, channels), 300, np.uint16), colour_type)
    with pytest.raises(DataError, match="16 bits in each of several channels"):
        read_picture(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_greys_come_as_they_are(tmp_path: Path, suffix: str) -> None:
    array = np.arange(20, dtype=np.uint16).reshape(4, 5) * 3000
    Image.fromarray(array).save(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(read_picture(tmp_path / f"a{suffix}").planes, array[None])


@pytest.mark.parametrize("mode", ["1", "CMYK", "YCbCr"])
def test_modes_that_are_no_greys_are_named(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (5, 4)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match="black and white" if mode == "1" else f"mode is {mode}"):
        read_picture(tmp_path / "a.tif")


@pytest.mark.parametrize("name", ["a.png", "a.npy", "a.nii.gz"])
def test_a_file_that_was_not_fetched_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1")
    with pytest.raises(DataError, match=f"{name} cannot be read"):
        read_picture(tmp_path / name)
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to("nowhere")
    with pytest.raises(DataError, match=f"{name} cannot be read"):
        read_picture(tmp_path / name)


def test_names() -> None:
    assert [ending_of(Path(name)) for name in ("a.PNG", "b.nii.gz", "b.nii", "c.txt")] == [
        ".png",
        ".nii.gz",
        ".nii",
        None,
    ]
    assert [stem_of(Path(name)) for name in ("a.b.PNG", "b.nii.gz", "c")] == ["a.b", "b", "c"]
