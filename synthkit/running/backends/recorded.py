"""The container image that a run ran in: by its id, or by its digest in a registry, never by a name that moves on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from synthkit.contract import Declaration
from synthkit.errors import BackendUnavailableError
from synthkit.running.containers import images as containers
from synthkit.running.containers import sif
from synthkit.running.run import file_digest


def recorded_image(container: Mapping[str, Any], client: Any) -> containers.Image:
    """The image of ``container`` (``image``, ``image_id``, ``repo_digests``) on this engine.

    Raises :class:`BackendUnavailableError` that says what to try if the engine does not have it.
    """
    name = str(container.get("image") or "synthkit")
    digests = [str(digest) for digest in container.get("repo_digests") or ()]
    for reference in (str(container["image_id"]), *digests):
        try:
            return replace(containers.find_image(reference, client), name=name)
        except BackendUnavailableError:  # not there, or another engine's way to number images
            continue
    try:
        now = f"{name} is {containers.find_image(name, client).id[:19]} now"
    except BackendUnavailableError:
        now = f"there is no {name} either"
    fetch = f"Fetch it: docker pull {digests[0]}." if digests else "Fetch it from where it is kept (docker load)."
    raise BackendUnavailableError(
        f"The container image that the run ran in is not there: {str(container['image_id'])[:19]}.",
        f"This engine does not have it; {now}.",
        f"{fetch} Or repeat with what is here: --current-image, or --backend local.",
    )


def check_sif(container: Mapping[str, Any], declaration: Declaration) -> None:
    """Raise :class:`BackendUnavailableError` unless Apptainer's file of the plugin is the one of ``container``."""
    path = sif.path_of(declaration)
    now = file_digest(path)
    if now != container["image_id"]:
        raise BackendUnavailableError(
            f"The SIF file that the run ran in is not there: {str(container['image_id'])[:19]}.",
            f"{path} is {now[:19]} now.",
            "Put the file of then there, or name its folder by SYNTHKIT_SIF_DIR. Or repeat with what is here: "
            "--current-image.",
        )
