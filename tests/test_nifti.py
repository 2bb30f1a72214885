"""The fast reader gives what nibabel gives; broken files say what they are."""

from __future__ import annotations

import gzip
import struct
import sys
from pathlib import Path
from types import ModuleType

import nibabel as nib
import numpy as np
import pytest

from synthkit.data import nifti
from synthkit.data.nifti import VolumeError, read_volume, write_labels
from synthkit.errors import DataError

AFFINE = np.array([[-1.0, 0, 0, 3], [0, -1.5, 0, 239], [0, 0, 2, -7], [0, 0, 0, 1]])


def _values(dtype: str, shape: tuple[int, ...] = (7, 5, 3)) -> np.ndarray:
    values = np.random.default_rng(0).integers(0, 100, shape)
    return values.astype(dtype)


def _same_as_nibabel(path: Path) -> nifti.Volume:
    image = nib.load(path)
    expected = np.asanyarray(image.dataobj)
    volume = read_volume(path)
    assert volume.data.dtype == expected.dtype
    np.testing.assert_array_equal(volume.data, expected)
    np.testing.assert_array_equal(volume.affine, image.affine)
    assert volume.spacing_mm == tuple(float(s) for s in image.header.get_zooms()[:3])
    return volume


@pytest.fixture(params=["libdeflate", "zlib"])
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of decoding gzip, where both are there."""
    if request.param == "zlib":
        monkeypatch.setattr(nifti, "_libdeflate", lambda: None)
    elif nifti._libdeflate() is None:
        pytest.skip("libdeflate is not installed (pip install deflate)")
    return str(request.param)


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "f4", "f8"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_common_files(tmp_path: Path, decoder: str, dtype: str, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    nib.save(nib.Nifti1Image(_values(dtype), AFFINE), path)
    _same_as_nibabel(path)


def test_common_file_takes_the_fast_path(tmp_path: Path, decoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.nii.gz"
    nib.save(nib.Nifti1Image(_values("i2"), AFFINE), path)

    def slow(*_: object) -> None:
        raise AssertionError("the slow path was taken")

    monkeypatch.setattr(nifti, "_gunzip", slow)
    monkeypatch.setattr(nifti, "_decode_any", slow)
    read_volume(path)


def test_scaled_file(tmp_path: Path, decoder: str) -> None:
    path = tmp_path / "a.nii.gz"
    image = nib.Nifti1Image(_values("f8") / 7, AFFINE)
    image.set_data_dtype(np.int16)  # nibabel stores slope and intercept
    nib.save(image, path)
    assert read_volume(path).data.dtype == np.float64
    _same_as_nibabel(path)


def test_slope_one_intercept_nonzero(tmp_path: Path, decoder: str) -> None:
    path = tmp_path / "a.nii"
    nib.save(nib.Nifti1Image(_values("i2"), AFFINE), path)
    raw = bytearray(path.read_bytes())
    struct.pack_into("<ff", raw, 112, 1.0, 10.0)
    path.write_bytes(raw)
    assert _same_as_nibabel(path).data.min() >= 10


def test_big_endian_file(tmp_path: Path, decoder: str) -> None:
    path = tmp_path / "a.nii.gz"
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    nib.save(nib.Nifti1Image(_values(">i2"), AFFINE, header), path)
    _same_as_nibabel(path)


def test_extension_and_nifti2(tmp_path: Path, decoder: str) -> None:
    image = nib.Nifti1Image(_values("i2"), AFFINE)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"x" * 5000))
    nib.save(image, tmp_path / "a.nii.gz")
    _same_as_nibabel(tmp_path / "a.nii.gz")
    nib.save(nib.Nifti2Image(_values("f4"), AFFINE), tmp_path / "b.nii.gz")
    _same_as_nibabel(tmp_path / "b.nii.gz")


@pytest.mark.parametrize("cut", [10, 352, 400])
def test_gzip_of_several_members(tmp_path: Path, decoder: str, cut: int) -> None:
    plain = tmp_path / "a.nii"
    nib.save(nib.Nifti1Image(_values("i2"), AFFINE), plain)
    raw = plain.read_bytes()
    path = tmp_path / "b.nii.gz"
    path.write_bytes(gzip.compress(raw[:cut]) + gzip.compress(raw[cut:]))
    _same_as_nibabel(path)


def test_several_members_whose_last_has_the_length_of_the_whole(tmp_path: Path, decoder: str) -> None:
    # The length field of the file, and the header, agree on a size that the first member does not have.
    plain = tmp_path / "a.nii"
    nib.save(nib.Nifti1Image(_values("i2"), AFFINE), plain)
    raw = plain.read_bytes()
    path = tmp_path / "b.nii.gz"
    path.write_bytes(gzip.compress(raw[:360]) + gzip.compress(raw[360:] + b"\0" * 360))
    assert int.from_bytes(path.read_bytes()[-4:], "little") == len(raw)
    _same_as_nibabel(path)


def test_compressed_file_named_nii_and_the_reverse(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(_values("i2"), AFFINE), tmp_path / "a.nii")
    raw = (tmp_path / "a.nii").read_bytes()
    (tmp_path / "b.nii").write_bytes(gzip.compress(raw))
    (tmp_path / "c.nii.gz").write_bytes(raw)
    for name in ("b.nii", "c.nii.gz"):
        np.testing.assert_array_equal(read_volume(tmp_path / name).data, _values("i2"))


def test_real_files_are_read_as_nibabel_reads_them(real_subjects: Path, decoder: str) -> None:
    files = sorted(real_subjects.glob("*/*.nii.gz"))
    assert len(files) == 25
    for path in files:
        _same_as_nibabel(path)


# ------------------------------------------------------------------------------------------------------- broken files


def _stored(tmp_path: Path, shape: tuple[int, ...] = (30, 30, 30)) -> bytes:
    path = tmp_path / "good.nii.gz"
    nib.save(nib.Nifti1Image(_values("i2", shape), AFFINE), path)
    return path.read_bytes()


def _reason(tmp_path: Path, content: bytes) -> str:
    path = tmp_path / "bad.nii.gz"
    path.write_bytes(content)
    with pytest.raises(VolumeError) as caught:
        read_volume(path)
    assert str(path) in caught.value.what and caught.value.fix
    return caught.value.reason


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.99])
def test_truncated_gzip(tmp_path: Path, decoder: str, keep: float) -> None:
    stored = _stored(tmp_path)
    assert "gzip stream is truncated" in _reason(tmp_path, stored[: int(len(stored) * keep)])


def test_truncated_gzip_of_which_only_the_checksum_is_missing(tmp_path: Path, decoder: str) -> None:
    assert "gzip stream is truncated" in _reason(tmp_path, _stored(tmp_path)[:-8])


def test_flipped_byte_in_gzip(tmp_path: Path, decoder: str) -> None:
    stored = bytearray(_stored(tmp_path))
    stored[len(stored) // 2] ^= 0xFF
    assert "gzip stream is corrupt" in _reason(tmp_path, bytes(stored))


def test_wrong_checksum(tmp_path: Path, decoder: str) -> None:
    stored = bytearray(_stored(tmp_path))
    stored[-6] ^= 0xFF
    assert "CRC check failed" in _reason(tmp_path, bytes(stored))


def test_wrong_length_field(tmp_path: Path, decoder: str) -> None:
    stored = _stored(tmp_path)[:-4] + (2**31).to_bytes(4, "little")
    assert "gzip stream is corrupt" in _reason(tmp_path, stored)


def test_header_that_promises_more_than_there_is(tmp_path: Path, decoder: str) -> None:
    raw = bytearray(gzip.decompress(_stored(tmp_path)))
    struct.pack_into("<3h", raw, 42, 30_000, 30_000, 30_000)
    assert "truncated (54352 of" in _reason(tmp_path, gzip.compress(bytes(raw)))
    assert "truncated (54352 of" in _reason(tmp_path, bytes(raw))


@pytest.mark.parametrize("content", [b"", b"not an image at all" * 40, gzip.compress(b"nor this" * 100, mtime=0)])
def test_not_nifti(tmp_path: Path, content: bytes) -> None:
    assert "not NIfTI" in _reason(tmp_path, content) or not content


def test_empty_file(tmp_path: Path) -> None:
    assert _reason(tmp_path, b"") == "it is empty"


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match="No such file"):
        read_volume(tmp_path / "absent.nii.gz")


@pytest.mark.parametrize(("shape", "text"), [((4, 4, 3, 2), "4-D (4x4x3x2)"), ((4, 4), "2-D (4x4)")])
def test_not_three_dimensional(tmp_path: Path, shape: tuple[int, ...], text: str) -> None:
    assert text in _reason(tmp_path, _stored(tmp_path, shape))


def test_not_scalar(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    nib.save(nib.Nifti1Image(_values("c8"), AFFINE), path)
    with pytest.raises(VolumeError, match="complex64 where numbers are expected"):
        read_volume(path)


def test_voxel_size_of_nothing(tmp_path: Path) -> None:
    raw = bytearray(gzip.decompress(_stored(tmp_path)))
    struct.pack_into("<12f", raw, 280, *[0.0] * 12)  # an sform that maps everything to the origin
    assert "not a real grid" in _reason(tmp_path, bytes(raw))


# ------------------------------------------------------------------------------------------------------ write_labels


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_labels_keep_the_grid(tmp_path: Path, suffix: str) -> None:
    source = nib.Nifti1Image(_values("i2"), None)
    source.set_sform(AFFINE, code=4)
    source.set_qform(AFFINE, code=1)
    source.header.set_xyzt_units("mm", "sec")
    source.header["cal_max"] = 900
    nib.save(source, tmp_path / "image.nii.gz")
    labels = _values("u1") % 3
    write_labels(tmp_path / f"labels{suffix}", labels, like=read_volume(tmp_path / "image.nii.gz"))
    written, image = nib.load(tmp_path / f"labels{suffix}"), nib.load(tmp_path / "image.nii.gz")
    np.testing.assert_array_equal(np.asanyarray(written.dataobj), labels)
    assert written.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(written.affine, image.affine)
    for field in ("sform_code", "qform_code", "srow_x", "srow_y", "srow_z", "quatern_b", "qoffset_x", "pixdim"):
        np.testing.assert_array_equal(written.header[field], image.header[field])
    assert written.header.get_xyzt_units() == ("mm", "sec")
    assert written.header["cal_max"] == 0


def test_labels_like_a_scaled_image_are_not_scaled(tmp_path: Path) -> None:
    image = nib.Nifti1Image(_values("f8") / 7, AFFINE)
    image.set_data_dtype(np.int16)
    nib.save(image, tmp_path / "image.nii.gz")
    labels = _values("u1") % 5
    write_labels(tmp_path / "labels.nii.gz", labels, like=read_volume(tmp_path / "image.nii.gz"))
    _same_as_nibabel(tmp_path / "labels.nii.gz")
    np.testing.assert_array_equal(read_volume(tmp_path / "labels.nii.gz").data, labels)


def test_equal_labels_give_equal_files_and_nothing_else(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(_values("i2"), AFFINE), tmp_path / "image.nii.gz")
    like, labels = read_volume(tmp_path / "image.nii.gz"), _values("u1")
    (tmp_path / "out").mkdir()
    write_labels(tmp_path / "out" / "a.nii.gz", labels, like=like)
    write_labels(tmp_path / "out" / "b.nii.gz", labels, like=like)
    assert (tmp_path / "out" / "a.nii.gz").read_bytes() == (tmp_path / "out" / "b.nii.gz").read_bytes()
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.nii.gz", "b.nii.gz"]


def test_labels_of_another_shape_or_type_are_refused(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(_values("i2"), AFFINE), tmp_path / "image.nii.gz")
    like = read_volume(tmp_path / "image.nii.gz")
    for labels in (np.zeros((5, 7, 3), np.uint8), np.zeros((7, 5, 3), np.int16)):
        with pytest.raises(DataError, match=r"uint8 \(7, 5, 3\)"):
            write_labels(tmp_path / "labels.nii.gz", labels, like=like)
    assert not (tmp_path / "labels.nii.gz").exists()


def test_libdeflate_is_found_while_another_thread_imports_its_module(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("deflate")
    for name in ("deflate", "deflate._deflate"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))  # half done: without a spec
    assert nifti._libdeflate.__wrapped__() is not None
