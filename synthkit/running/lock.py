"""``synthkit.lock``: what a study is made with, written down, and a drift from it refused before a run is made.

The lock holds versions and code digests of synthkit and of the installed plugins, versions of Python (3.11, not its
patch release) and of the libraries that decide numbers, the ids of the container images and the digests of SIF files.
It is JSON with sorted keys, to be kept under version control. It is looked for in the working directory, and, where
that lies in a study, in its parents up to the folder of ``study.toml``; ``SYNTHKIT_LOCK`` names another file, or is
``off``.

A run is held to what it uses: synthkit, its plugin, what that shares with other plugins, and either the libraries
that these require (local runs) or the container image, which has its own.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from synthkit.contract import Declaration
from synthkit.errors import BackendUnavailableError, DataError, PluginError, UsageError
from synthkit.files import write_atomically
from synthkit.registry import provenance
from synthkit.registry.wheels import CORE, companions, normalised
from synthkit.running.run import file_digest

LOCK_FILE = "synthkit.lock"
VARIABLE = "SYNTHKIT_LOCK"
#: Version of the file. A newer one is refused.
LOCK_VERSION = 1
NOTHING = "nothing"

_STUDY_FILE = "study.toml"


@dataclass(frozen=True)
class Drift:
    """Something that is not as it was locked; ``locked`` or ``now`` is :data:`NOTHING` where there is none."""

    what: str
    locked: str
    now: str
    fix: str

    def __str__(self) -> str:
        return f"{self.what}: {_short(self.locked)} in the lock, {_short(self.now)} now"

    def to_dict(self) -> dict[str, str]:
        """JSON form."""
        return dict(vars(self))


# ------------------------------------------------------------------------------------------------------- writing


def make_lock(declarations: Iterable[Declaration]) -> dict[str, Any]:
    """What is installed here, for these plugins, as the file holds it; ``images`` is absent if no engine answers."""
    used = tuple(declarations)
    lock: dict[str, Any] = {
        "lock": LOCK_VERSION,
        "python": _python(),
        "distributions": _distributions(used),
        "libraries": _libraries(used),
    }
    images, sifs = _images(used), _sifs(used)
    return {**lock, **({} if images is None else {"images": images}), **({"sif": sifs} if sifs else {})}


def write_lock(path: Path, lock: Mapping[str, Any]) -> None:
    """Write it, sorted, replacing the one that was there."""
    write_atomically(path, (json.dumps(lock, indent=1, sort_keys=True) + "\n").encode())


def _python() -> str:
    return ".".join(provenance.versions()["python"].split(".")[:2])


def _distributions(declarations: Sequence[Declaration]) -> dict[str, dict[str, Any]]:
    """Version and code digest of synthkit, of the plugins' distributions and of what these share."""
    from synthkit.errors import SynthkitError
    from synthkit.registry.wheels import code_digest

    plugins_of: dict[str, list[str]] = {name: [] for name in _family(declarations)}
    for declaration in declarations:
        plugins_of.setdefault(declaration.distribution, []).append(declaration.name)
    found: dict[str, dict[str, Any]] = {}
    for name, plugins in plugins_of.items():
        try:
            found[name] = {"version": version(name), "code": code_digest(name), "plugins": sorted(plugins)}
        except (PackageNotFoundError, SynthkitError, OSError):  # declared in a notebook: nothing to be held to
            continue
    return found


def _family(declarations: Sequence[Declaration]) -> list[str]:
    names = [CORE]
    for distribution in {declaration.distribution for declaration in declarations}:
        try:
            names += [distribution, *companions(distribution)]
        except PluginError:  # no installed distribution
            continue
    return sorted(set(names))


def _libraries(declarations: Sequence[Declaration]) -> dict[str, str]:
    """Versions of the libraries that decide numbers, as far as these plugins or synthkit itself require them."""
    required: set[str] = set()
    for name in _family(declarations):
        lines = requires(name) or []
        # The extras of synthkit serve its plugins, which name what they need themselves.
        wanted = [line for line in lines if name != CORE or "extra ==" not in line]
        required |= {normalised(re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0]) for line in wanted}
    watched = provenance.versions()
    return {name: watched[name] for name in watched if name in required and name != CORE}


def _images(declarations: Sequence[Declaration]) -> dict[str, dict[str, Any]] | None:
    from synthkit.running.containers import engine

    try:
        client = engine.connect()
    except BackendUnavailableError:
        return None
    found = {}
    for declaration in {d.distribution: d for d in declarations}.values():
        image = _image(declaration, client)
        if image is not None:
            found[declaration.distribution] = image
    return found


def _sifs(declarations: Sequence[Declaration]) -> dict[str, dict[str, Any]]:
    """Digests of the files that Apptainer runs."""
    from synthkit.running.containers import sif

    found = {}
    for declaration in {d.distribution: d for d in declarations}.values():
        try:
            path = sif.path_of(declaration)
        except (BackendUnavailableError, PluginError):
            continue
        found[declaration.distribution] = {"name": path.name, "id": file_digest(path), "repo_digests": []}
    return found


def _image(declaration: Declaration, client: Any = None) -> dict[str, Any] | None:
    from synthkit.running.containers import images as containers

    try:
        image = containers.image_of(declaration, client)
    except (BackendUnavailableError, PluginError):
        return None
    return {"name": image.name, "id": image.id, "repo_digests": list(image.repo_digests)}


# ------------------------------------------------------------------------------------------------------ checking


def find_lock(start: Path | None = None) -> Path | None:
    """The lock that holds in the folder ``start`` (the working directory); None if there is none or it is off."""
    named = os.environ.get(VARIABLE)
    if named:
        return None if named == "off" else Path(named)
    here = (start or Path()).resolve()
    study = next((folder for folder in (here, *here.parents) if (folder / _STUDY_FILE).is_file()), here)
    within = [here, *(folder for folder in here.parents if folder.is_relative_to(study))]
    return next((folder / LOCK_FILE for folder in within if (folder / LOCK_FILE).is_file()), None)


def read_lock(path: Path) -> dict[str, Any]:
    """The lock in a file; :class:`DataError` if it is none."""
    try:
        lock = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(lock, dict) or not isinstance(lock.get("lock"), int):
            raise ValueError("it is not a lock")
        if not all(isinstance(lock.get(key), dict) for key in ("distributions", "libraries")):
            raise ValueError("it lacks distributions or libraries")
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read.",
            f"{error}.",
            f"Write it with `synthkit lock`, or go without: {VARIABLE}=off.",
        ) from error
    if lock["lock"] > LOCK_VERSION:
        raise DataError(f"{path} has version {lock['lock']}.", "It is newer than this synthkit.", "Update synthkit.")
    return lock


def compare_locks(lock: Mapping[str, Any], now: Mapping[str, Any], *, whole: bool) -> list[Drift]:
    """What is not as it was locked: all that is in ``lock``, if ``whole``, else what is in ``now``.

    Sections that ``now`` does not have are not compared.
    """
    found: list[Drift] = []
    if "python" in now and lock.get("python") != now["python"]:
        found.append(Drift("Python", str(lock.get("python")), now["python"], f"Use Python {lock.get('python')}."))
    sections: dict[str, Callable[[str, Any, Any], list[Drift]]] = {
        "libraries": _of_library,
        "distributions": _of_distribution,
        "images": _of_image,
        "sif": _of_sif,
    }
    for section, compare in sections.items():
        if section in now:
            locked = lock.get(section) or {}
            for name in sorted(locked if whole else now[section]):
                found += compare(name, locked.get(name), now[section].get(name))
    return found


def make_lock_of_run(declarations: Sequence[Declaration], backend: str) -> dict[str, Any]:
    """What a run of these plugins uses on the backend of this name, as :func:`make_lock` has it."""
    from synthkit.running import backends

    used: dict[str, Any] = {"distributions": _distributions(declarations)}
    section = backends.get(backend).lock_section
    if not section:
        return {**used, "python": _python(), "libraries": _libraries(declarations)}
    if section not in ("images", "sif"):
        raise UsageError(
            f"A lock cannot hold what the backend {backend} runs.",
            f"It names the section {section!r}; there are images and sif.",
            f"Use another backend, or go without a lock: {VARIABLE}=off.",
        )
    files = _images(declarations) if section == "images" else _sifs(declarations)
    return used if files is None else {**used, section: files}


def check_lock(path: Path, declarations: Sequence[Declaration], backend: str) -> None:
    """Refuse a run of these plugins on this backend if something that it uses has drifted from the lock.

    Raises :class:`UsageError` that names what has drifted, and what to try; :class:`DataError` for a damaged lock.
    """
    found = compare_locks(read_lock(path), make_lock_of_run(declarations, backend), whole=False)
    if found:
        raise UsageError(
            f"What is installed has drifted from {path}.",
            f"{'; '.join(map(str, found))}.",
            f"{advice(found)} Or accept what is installed: synthkit lock -o {path}. Or once: {VARIABLE}=off.",
        )


def advice(found: Sequence[Drift]) -> str:
    """How to get back what was locked."""
    return " ".join(dict.fromkeys(drift.fix for drift in found))


def _of_library(name: str, locked: str | None, now: str | None) -> list[Drift]:
    if locked == now:
        return []
    fix = f"Install that one: pip install {name}=={locked}." if locked else "Lock it: synthkit lock."
    return [Drift(name, locked or NOTHING, now or NOTHING, fix)]


def _of_distribution(name: str, locked: Mapping[str, Any] | None, now: Mapping[str, Any] | None) -> list[Drift]:
    versions = (locked or {}).get("version"), (now or {}).get("version")
    if drifted := _of_library(name, *versions):
        return drifted
    codes = str((locked or {}).get("code")), str((now or {}).get("code"))
    if codes[0] == codes[1]:
        return []
    fix = f"Install {name} {versions[0]} as it was then, or check out its code of then."
    return [Drift(f"code of {name}", *codes, fix)]


def _of_image(distribution: str, locked: Mapping[str, Any] | None, now: Mapping[str, Any] | None) -> list[Drift]:
    what = f"container image of {distribution}"
    if locked is None:
        return [] if now is None else [Drift(what, NOTHING, now["id"], "Lock it: synthkit lock.")]
    if now is not None and (locked["id"] == now["id"] or set(locked["repo_digests"]) & set(now["repo_digests"])):
        return []
    return [Drift(what, locked["id"], NOTHING if now is None else now["id"], _fetch(locked))]


def _of_sif(distribution: str, locked: Mapping[str, Any] | None, now: Mapping[str, Any] | None) -> list[Drift]:
    if locked is None:  # locked where there was none: a SIF file is made from the image, and is another one each time
        return []
    if now is not None and locked["id"] == now["id"]:
        return []
    fix = f"Put the file of then back in its place: {locked['name']}."
    return [Drift(f"SIF file of {distribution}", locked["id"], NOTHING if now is None else now["id"], fix)]


def _fetch(image: Mapping[str, Any]) -> str:
    if image["repo_digests"]:
        return f"Fetch that one: docker pull {image['repo_digests'][0]}; docker tag it {image['name']}."
    return f"Tag that one again: docker tag {image['id']} {image['name']}."


def _short(value: str) -> str:
    return value[:19] if value.startswith("sha256:") else value
