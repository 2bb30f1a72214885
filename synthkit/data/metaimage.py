"""MetaImage, ``.mha`` and ``.mhd``: the volumes of BraTS 2012 to 2015, read by SimpleITK where it is installed.

ITK counts millimetres to the patient's left and back, NIfTI to the right and front: the first two rows of the affine
change their sign, and nothing else does.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SUFFIXES = (".mha", ".mhd")

# "VSD.Brain.XX.O.MR_Flair.54512", "VSD.Brain_3more.XX.XX.OT.54517", as the Virtual Skeleton Database names them.
_VSD = re.compile(r"VSD\.Brain\w*(?:\.\w+)*\.(?:MR_(flair|t1c|t1|t2)|(OT))(?:\.\d+)?", re.IGNORECASE)
_CONTRASTS = {"t1": "t1", "t1c": "t1ce", "t2": "t2", "flair": "flair"}


def is_metaimage(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def contrast_of_vsd(base: str) -> str | None:
    """The contrast that a name of the Virtual Skeleton Database says, ``seg`` for its OT; None for another name."""
    match = _VSD.fullmatch(base)
    return None if match is None else "seg" if match[2] else _CONTRASTS[match[1].lower()]


def folder_of_subject(path: Path) -> Path:
    """The folder of the subject that a file belongs to: of the Virtual Skeleton Database each has one of its own."""
    own = contrast_of_vsd(path.stem) is not None and contrast_of_vsd(path.parent.name) is not None
    return path.parent.parent if own else path.parent


def is_data_of_mhd(path: Path) -> bool:
    """Whether a file holds the voxels of an ``.mhd`` beside it."""
    return path.suffix.lower() in (".raw", ".zraw") and path.with_suffix(".mhd").exists()


def read_metaimage(path: Path) -> tuple[NDArray[Any], Any]:
    """Voxels (x, y, z) in the file's own type, and nibabel's header of the same grid.

    Raises ValueError, in a few words that follow the name of the file: SimpleITK is not there, or does not read it.
    """
    import nibabel as nib

    try:
        sitk: Any = importlib.import_module("SimpleITK")  # partly typed, and optional
    except ImportError:
        raise ValueError("it is a MetaImage, which needs SimpleITK (`pip install SimpleITK`)") from None
    reader = sitk.ImageFileReader()
    reader.SetImageIO("MetaImageIO")
    reader.SetFileName(str(path))
    try:
        image = reader.Execute()
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise ValueError(f"SimpleITK does not read it ({lines[-1] if lines else 'no reason given'})") from error
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise ValueError(f"its voxels are {image.GetPixelIDTypeAsString()}s where numbers are expected")
    n = min(3, image.GetDimension())
    directions = np.eye(3)
    directions[:n, :n] = np.array(image.GetDirection()).reshape(image.GetDimension(), -1)[:n, :n]
    affine = np.eye(4)
    affine[:3, :3] = directions * [*image.GetSpacing()[:n], *[1.0] * (3 - n)]
    affine[:n, 3] = image.GetOrigin()[:n]
    affine[:2] *= -1
    data = sitk.GetArrayFromImage(image).T
    header = nib.Nifti1Header()  # type: ignore[no-untyped-call]
    header.set_data_shape(data.shape)  # type: ignore[no-untyped-call]
    header.set_zooms([*image.GetSpacing()])  # type: ignore[no-untyped-call]
    header.set_sform(affine, 1)  # type: ignore[no-untyped-call]
    header.set_qform(affine, 1)  # type: ignore[no-untyped-call]
    header.set_xyzt_units("mm")  # type: ignore[no-untyped-call]
    return data, header
