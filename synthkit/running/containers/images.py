"""Container images: what they are called, which are there, and what is in them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from synthkit.contract import CONTRACT_VERSION, Declaration
from synthkit.errors import (
    BackendUnavailableError,
    PluginError,
    SynthkitError,
    UsageError,
)
from synthkit.registry.registry import Registry, discover
from synthkit.registry.wheels import CORE, code_digest, normalised
from synthkit.running.containers import engine

REPOSITORY = "synthkit"
CONTRACT_LABEL, VERSION_LABEL, DECLARATIONS_LABEL = (
    f"{engine.LABEL}{n}" for n in ("contract", "version", "declarations")
)
DISTRIBUTION_LABEL, BASE_LABEL = f"{engine.LABEL}distribution", f"{engine.LABEL}base"
CODE_LABEL, CORE_CODE_LABEL = f"{engine.LABEL}code", f"{engine.LABEL}core-code"

#: Of each base: the image it starts from, and the package index that has its build of torch ("" is the usual one).
BASES = {
    "base": ("nvidia/cuda:13.0.1-base-ubuntu24.04", ""),
    "base-cpu": ("python:3.11-slim-bookworm", "https://download.pytorch.org/whl/cpu"),
}


@dataclass(frozen=True)
class Image:
    """A container image of synthkit's.

    Attributes
    ----------
    base : "base" or "base-cpu", itself or what it was built on; "" for something else.
    declarations : those of its plugins in JSON form, empty for a base.
    outdated : distributions that it has in another state than this environment, as far as that can be told.
    code : distribution -> digest of its code, of core and of the plugins' package.
    """

    name: str
    id: str
    bytes: int
    created: str
    contract: int
    version: str
    distribution: str
    base: str
    declarations: tuple[dict[str, Any], ...]
    repo_digests: tuple[str, ...]
    outdated: tuple[str, ...]
    code: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """JSON form, with the names of the plugins."""
        return {**asdict(self), "plugins": [declaration["name"] for declaration in self.declarations]}


def image_name(target: Declaration | str) -> str:
    """``synthkit/overlap:0.1.0`` for a declaration of synthkit-overlap, ``synthkit/base:0.1.0`` for "base".

    One image a distribution: all its plugins share it. Third parties' keep the whole name of the distribution.
    :class:`PluginError` for a declaration whose distribution is not installed.
    """
    if isinstance(target, str):
        if target not in BASES:
            raise UsageError(f"There is no base called {target!r}.", f"There are: {', '.join(BASES)}.")
        return f"{REPOSITORY}/{target}:{_tag(version(CORE))}"
    try:
        tag = _tag(version(target.distribution))
    except PackageNotFoundError as error:
        raise PluginError(
            f"{target.name} belongs to no installed package.",
            f"It declares the distribution {target.distribution!r}, and there is none of this name.",
            "Report it to the plugin's authors.",
        ) from error
    return f"{REPOSITORY}/{normalised(target.distribution).removeprefix('synthkit-')}:{tag}"


def _tag(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", text)  # a local version (1.0+cpu) is not a tag


def find_target(name: str, registry: Registry | None = None) -> Declaration | str:
    """What ``name`` builds: "base", "base-cpu", a plugin's name, or a distribution's with or without "synthkit-".

    Raises :class:`PluginError` that names the nearest plugin.
    """
    if name in BASES:
        return name
    registry = registry or discover()
    for declaration in registry.declarations.values():
        if declaration.distribution in (name, f"synthkit-{name}"):
            return declaration
    return registry.get(name)


# ------------------------------------------------------------------------------------------------------- looking


def list_images(client: Any | None = None) -> list[dict[str, Any]]:
    """All images of synthkit's that the engine has, by name; each as :meth:`Image.to_dict` gives it."""
    client = client or engine.connect()
    names = {tag for found in client.images(filters={"label": CONTRACT_LABEL}) for tag in found.get("RepoTags") or ()}
    named = sorted(name for name in names if not name.endswith((":<none>", ":latest")))
    return [find_image(name, client).to_dict() for name in named]


def inspect(target: Declaration | str, client: Any | None = None) -> dict[str, Any]:
    """The image of a plugin, or of "base" or "base-cpu", as :meth:`Image.to_dict` gives it.

    Raises :class:`BackendUnavailableError` if the engine does not have it or it is not one of synthkit's.
    """
    image = image_of(target, client) if isinstance(target, Declaration) else find_image(image_name(target), client)
    return image.to_dict()


def find_image(name: str, client: Any | None = None) -> Image:
    """The image called ``name`` (``synthkit/overlap:0.1.0``); :class:`BackendUnavailableError` if it is not there."""
    from docker.errors import ImageNotFound

    client = client or engine.connect()
    try:
        found = client.inspect_image(name)
    except ImageNotFound as error:
        raise BackendUnavailableError(
            f"The container image {name} is not there.",
            "It has not been built or pulled on this engine.",
            "Build it: synthkit containers build NAME.",
        ) from error
    return labelled_image(
        name,
        found["Config"].get("Labels") or {},
        id=found["Id"],
        bytes=int(found["Size"]),
        created=str(found["Created"]),
        repo_digests=tuple(found.get("RepoDigests") or ()),
    )


def labelled_image(name: str, labels: Mapping[str, str], **described: Any) -> Image:
    """What the labels of an image say, completed by ``described``, the attributes that no label has.

    Raises :class:`BackendUnavailableError` if they are not those of an image of synthkit's.
    """
    if CONTRACT_LABEL not in labels:
        raise BackendUnavailableError(
            f"{name} is not an image of synthkit's.",
            f"It has no label {CONTRACT_LABEL}.",
            "Build it with `synthkit containers build`, which labels it.",
        )
    return Image(
        name=name,
        contract=int(labels[CONTRACT_LABEL]),
        version=labels.get(VERSION_LABEL, ""),
        distribution=labels.get(DISTRIBUTION_LABEL, ""),
        base=labels.get(BASE_LABEL, ""),
        declarations=tuple(json.loads(labels.get(DECLARATIONS_LABEL) or "[]")),
        outdated=_outdated(_marks(labels)),
        code=_marks(labels),
        **described,
    )


def image_of(declaration: Declaration, client: Any | None = None) -> Image:
    """The image that runs ``declaration``; :class:`BackendUnavailableError` if there is none that can."""
    try:
        image = find_image(image_name(declaration), client)
    except BackendUnavailableError as error:
        fix = f"Build it: synthkit containers build {declaration.name}."
        raise BackendUnavailableError(error.what, error.why, fix) from error
    check_image(image, declaration)
    return image


def check_image(image: Image, declaration: Declaration) -> None:
    """:class:`BackendUnavailableError` if the image cannot run ``declaration``: too new, or without it."""
    if image.contract > CONTRACT_VERSION:
        raise BackendUnavailableError(
            f"The container image {image.name} is newer than this synthkit.",
            f"It has contract {image.contract}, this synthkit has {CONTRACT_VERSION}.",
            "Update synthkit-core, or build the image again: synthkit containers build " + declaration.name + ".",
        )
    if declaration.name not in {item["name"] for item in image.declarations}:
        raise BackendUnavailableError(
            f"The container image {image.name} does not have {declaration.name}.",
            "It was built from another state of the plugin.",
            f"Build it again: synthkit containers build {declaration.name}.",
        )


def outdated_warning(image: Image, declaration: Declaration) -> str | None:
    """What to say of an image that was built from other code than is installed here; None if it was not."""
    if not image.outdated:
        return None
    names = [image.base] if image.base and CORE in image.outdated else []
    return (
        f"The container image {image.name} was built from other code of {', '.join(image.outdated)} than is "
        f"installed here. Build it again: synthkit containers build {' '.join([*names, declaration.name])}."
    )


def _marks(labels: Mapping[str, str]) -> dict[str, str]:
    """Digests of the code in an image, by distribution."""
    marks = {CORE: labels.get(CORE_CODE_LABEL), labels.get(DISTRIBUTION_LABEL, CORE): labels.get(CODE_LABEL)}
    return {name: digest for name, digest in marks.items() if digest}


def _outdated(marks: Mapping[str, str]) -> tuple[str, ...]:
    outdated = []
    for name, digest in marks.items():
        try:
            if code_digest(name) != digest:
                outdated.append(name)
        except (SynthkitError, OSError):  # not installed here: nothing to compare with
            continue
    return tuple(outdated)
