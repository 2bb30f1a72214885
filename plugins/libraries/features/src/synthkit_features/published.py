"""Feature networks that others published, by name: their files and digests. Standard library only.

``--features radimagenet=FILE`` says what the file has to be, and a file of another digest is refused before anything in
it is read. A file of one of these digests that is given without a name is known all the same; any other state
dictionary is called after its architecture (``resnet50@...``), so that no score bears a name that its weights have not.

The digests are those that the publishers' pages show; none of the files was at hand when this was written.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from synthkit.errors import DataError, UsageError


@dataclass(frozen=True)
class Published:
    """A file of weights.

    Attributes
    ----------
    name : what a user calls it: ``radimagenet`` of ``--features radimagenet=FILE``.
    called : what its features are called, before the ``@`` and the digest.
    file : its name where it is published.
    publisher : who published it, in words.
    sha256 : of the file, hexadecimal.
    """

    name: str
    called: str
    file: str
    publisher: str
    sha256: str


_INCEPTION = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"

PUBLISHED = (
    Published(
        "inception",
        "inception-v3-fid",
        "pt_inception-2015-12-05-6726825d.pth",
        "pytorch-fid; weights-inception-2015-12-05-6726825d.pth of torch-fidelity is the same file",
        _INCEPTION,
    ),
    Published(
        "inception",
        "inception-v3-nvlabs",
        "inception-2015-12-05.pt",
        "NVlabs, StyleGAN2-ADA",
        "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4",
    ),
    Published(
        "torch-fidelity",
        "inception-v3-torch-fidelity",
        "weights-inception-2015-12-05-6726825d.pth",
        "torch-fidelity, whose resizing this name asks for",
        _INCEPTION,
    ),
    Published(
        "radimagenet",
        "radimagenet-resnet50",
        "ResNet50.pt",
        "BMEII-AI, RadImageNet for PyTorch",
        "08629f7e7bd3e29b8ee9522ca3f65ce4d010a7ddf74f0ea3c7e3f3d0bbab0734",
    ),
    Published(
        "radimagenet",
        "radimagenet-resnet50-keras",
        "RadImageNet-ResNet50_notop.pth",
        "Warvito and MONAI, from the Keras model of RadImageNet",
        "2457479b254569e5a81ba48fee6c5b2b84b7a729e507aaa2466101aedb8e5c37",
    ),
    Published(
        "radiodino",
        "radiodino-s16",
        "pytorch_model.bin",
        "Snarcy, RadioDino-s16",
        "e77a4fd67147536b3a569b9d2dd5937b84223d9dbd1542c04b845e481c1ea59c",
    ),
    Published(
        "radiodino",
        "radiodino-b16",
        "pytorch_model.bin",
        "Snarcy, RadioDino-base",
        "f2768f85e4d3a18438a77b7e9f44d68f754cd02c74520a3c64406b27e918c24b",
    ),
    Published(
        "medicalnet",
        "medicalnet-resnet10",
        "resnet_10_23dataset.pth",
        "Tencent MedicalNet",
        "afa8055f3e47f4a18239495d92a7abc587902c69c31c743de2b2784653b72605",
    ),
    Published(
        "medicalnet",
        "medicalnet-resnet50",
        "resnet_50_23dataset.pth",
        "Tencent MedicalNet",
        "ff48a62219073fb977fd3f4ddfb8dc1367f0ec156c8d6f6c37e205bd683a246e",
    ),
)

NAMES = tuple(dict.fromkeys(published.name for published in PUBLISHED))
#: In the place of a name: the file may be of any network.
ANY = "any"


def sha256_of(path: Path) -> str:
    """sha256 of a file's bytes, hexadecimal."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(
            f"The weights {path} cannot be read.", f"{error.strerror}.", "Give an existing file."
        ) from error


def known(sha256: str) -> Published | None:
    """The published file of this digest, by its first name; None for any other file."""
    return next((published for published in PUBLISHED if published.sha256 == sha256), None)


def identify(path: Path | None, network: str) -> Published | None:
    """What the file of weights is, where it is a published one.

    ``network`` is the name that it has to be of, or :data:`ANY`.

    Raises
    ------
    UsageError : no such name, or a name without a file.
    DataError : the file cannot be read, or is none of those published under this name.
    """
    if network != ANY and network not in NAMES:
        raise UsageError(f"{network} is not a feature network.", fix=f"Names are {', '.join(NAMES)}.")
    if path is None:
        if network != ANY:
            raise UsageError(f"{network} needs its file of weights.", fix=f"Give --features {network}=FILE.")
        return None
    digest = sha256_of(path)
    if network == ANY:
        return known(digest)
    files = [published for published in PUBLISHED if published.name == network]
    for published in files:
        if published.sha256 == digest:
            return published
    other = known(digest)
    instead = f"; it is {other.file} of {other.publisher}" if other else ""
    raise DataError(
        f"The file of --features is not {network}.",
        f"Its sha256 begins with {digest[:12]}{instead}. Published are "
        + ", ".join(f"{published.file} ({published.publisher}): {published.sha256[:12]}" for published in files)
        + ".",
        f"Give --features {other.name}=FILE."
        if other
        else f"Fetch it anew, or leave {network}= out: the features are then called after their architecture.",
    )
