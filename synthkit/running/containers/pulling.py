"""Container images from a registry, in the place of building them: what is pulled is checked before it is used."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from synthkit.contract import Declaration
from synthkit.errors import BackendUnavailableError, GateFailedError, SynthkitError, UsageError
from synthkit.registry.registry import Registry, discover
from synthkit.registry.wheels import CORE
from synthkit.running.containers import engine
from synthkit.running.containers.images import REPOSITORY, check_image, find_image, find_target, image_name

_SOURCE = re.compile(r"[a-z0-9][a-z0-9.-]*(:\d+)?(/[a-z0-9][a-z0-9._-]*)*")


def pull_all(
    names: Sequence[str],
    source: str,
    *,
    locked: Mapping[str, Mapping[str, Any]] | None = None,
    registry: Registry | None = None,
    client: Any | None = None,
    on_line: Callable[[str], None] = lambda line: None,
) -> list[dict[str, str]]:
    """Pull the images of plugins (or of a base) and name them as built ones are.

    Parameters
    ----------
    source : registry and name before that of an image: ``registry.example.org/synthkit`` has ``.../unet:0.1.0``.
    locked : distribution -> image (``id``, ``repo_digests``) of a lock. Where it knows the digest that the source has,
        that is pulled, whatever the tag says now; another image than the locked one is refused.
    on_line : gets what is pulled, a line an image.

    Returns ``{"image", "id", "digest"}`` for each.

    Raises
    ------
    UsageError : no such source can be.
    BackendUnavailableError : no engine, no such image there, or one that is not the plugin's.
    GateFailedError : another image than the locked one.
    """
    if not _SOURCE.fullmatch(source):
        raise UsageError(f"--from {source} is not a registry.", fix="Write it like registry.example.org/synthkit.")
    registry, client = registry or discover(), client or engine.connect()
    targets = {image_name(target): target for target in (find_target(name, registry) for name in names)}
    return [_pull(name, target, source, locked or {}, client, on_line) for name, target in targets.items()]


def _pull(
    name: str,
    target: Declaration | str,
    source: str,
    locked: Mapping[str, Mapping[str, Any]],
    client: Any,
    on_line: Callable[[str], None],
) -> dict[str, str]:
    distribution = target.distribution if isinstance(target, Declaration) else CORE
    short, _, tag = name.removeprefix(f"{REPOSITORY}/").rpartition(":")
    repository = f"{source}/{short}"
    wanted = locked.get(distribution, {}) if isinstance(target, Declaration) else {}
    pins = [
        str(text).partition("@")[2] for text in wanted.get("repo_digests") or () if text.startswith(f"{repository}@")
    ]
    reference = f"{repository}@{pins[0]}" if pins else f"{repository}:{tag}"
    on_line(f"pulling {reference}")
    _fetch(client, repository, pins[0] if pins else tag, reference)
    try:
        image = find_image(reference, client)
        if isinstance(target, Declaration):
            check_image(image, target)
        if wanted and image.id != wanted.get("id"):
            raise GateFailedError(
                f"{reference} is not the image that synthkit.lock names.",
                f"It is {image.id[:19]}, the lock has {str(wanted.get('id'))[:19]}.",
                "Ask who keeps the registry; if the new one is meant, write the lock anew: SYNTHKIT_LOCK=off synthkit "
                "containers pull ..., then synthkit lock.",
            )
    except SynthkitError:
        with suppress(Exception):  # a container uses it, say: it has no name that a run would take
            client.remove_image(reference)
        raise
    repository_here, _, tag_here = name.rpartition(":")
    client.tag(image.id, repository_here, tag_here)
    client.tag(image.id, repository_here, "latest")
    digest = next((text for text in image.repo_digests if text.startswith(f"{repository}@")), "")
    return {"image": name, "id": image.id, "digest": digest.partition("@")[2]}


def _fetch(client: Any, repository: str, tag: str, reference: str) -> None:
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    try:
        failed = [
            part["error"] for part in client.pull(repository, tag=tag, stream=True, decode=True) if "error" in part
        ]
    except (DockerException, RequestException, OSError) as error:
        failed = [str(getattr(error, "explanation", "") or error)]
    if failed:
        raise BackendUnavailableError(
            f"{reference} cannot be pulled.",
            f"The engine says: {failed[-1].strip().rstrip('.')}.",
            "Check the name, and log in where the registry asks for it (docker login); or build the image.",
        )
