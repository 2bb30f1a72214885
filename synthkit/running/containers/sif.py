"""Images for Apptainer: one SIF file for each container image, in a folder that all nodes of a cluster see.

They are made of the images of a container engine, here or on another machine: ``synthkit containers export`` writes
archives, which ``apptainer build`` turns into SIF files. The labels of the image stay in the SIF.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from synthkit.contract import Declaration
from synthkit.errors import BackendUnavailableError, NotWritableError
from synthkit.registry.registry import Registry
from synthkit.running.containers import engine
from synthkit.running.containers import images as containers


def folder() -> Path:
    """Where SIF files are: ``SYNTHKIT_SIF_DIR``, else ``synthkit/sif`` in the user's folder of data."""
    given = os.environ.get("SYNTHKIT_SIF_DIR")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "synthkit" / "sif"


def file_name(image: str, suffix: str) -> str:
    """``unet_0.1.0.sif`` for ``synthkit/unet:0.1.0``, as Apptainer names what it pulls."""
    return image.rpartition("/")[2].replace(":", "_") + suffix


def path_of(declaration: Declaration) -> Path:
    """The SIF file that runs ``declaration``; :class:`BackendUnavailableError` if it is not there."""
    name = containers.image_name(declaration)
    path = folder() / file_name(name, ".sif")
    if path.is_file():
        return path
    raise BackendUnavailableError(
        f"There is no image for Apptainer of {declaration.name}.",
        f"{path} is not there.",
        f"Where there is an engine: synthkit containers export {declaration.name} -o FOLDER. "
        f"Then here: {build_line(name, Path('FOLDER'))}. SYNTHKIT_SIF_DIR names another folder.",
    )


def build_line(image: str, archives: Path) -> str:
    """The command that turns the archive of ``image`` into the SIF file that is looked for."""
    archive = archives / file_name(image, ".tar")
    return shlex.join(["apptainer", "build", str(folder() / file_name(image, ".sif")), f"docker-archive:{archive}"])


def export(
    names: Sequence[str], out: Path, *, registry: Registry | None = None, client: Any | None = None
) -> list[dict[str, str]]:
    """Write the images of plugins (names as for ``containers build``) to ``out``, one archive a distribution.

    Returns ``{"image", "archive", "build"}`` for each, the last the command that makes the SIF file of it.
    :class:`BackendUnavailableError` if the engine does not have one; nothing is written then.
    """
    client = client or engine.connect()
    images = dict.fromkeys(containers.image_name(containers.find_target(name, registry)) for name in names)
    for image in images:
        containers.find_image(image, client)
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for image in images:
        archive = out / file_name(image, ".tar")
        _save(client, image, archive)
        written.append({"image": image, "archive": str(archive), "build": build_line(image, out)})
    return written


def _save(client: Any, image: str, archive: Path) -> None:
    partial = archive.with_name(f"{archive.name}.partial")
    try:
        with partial.open("wb") as file:
            for chunk in client.get_image(image):
                file.write(chunk)
        partial.replace(archive)
    except OSError as error:
        raise NotWritableError(
            f"{archive} could not be written.", f"{error.strerror or error}.", "Choose another folder with -o."
        ) from error
    finally:
        partial.unlink(missing_ok=True)
