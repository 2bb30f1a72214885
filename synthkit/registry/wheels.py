"""Wheels of what is installed here, so that a container image holds the same code as this environment.

A distribution installed from a wheel is packed again from its list of files (binary distribution format, PyPA); one
installed editable is built from its sources by pip.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
import zipfile
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from synthkit.errors import ContainerFailedError, PluginError

CORE = "synthkit-core"
FAMILY = "synthkit-"

# What the installer adds, and the launchers it makes anew from entry_points.txt.
_MADE_BY_INSTALLER = frozenset({"INSTALLER", "REQUESTED", "RECORD", "direct_url.json"})
_EPOCH = (1980, 1, 1, 0, 0, 0)  # equal content gives equal wheels, which the engine's build cache recognises


def make_wheel(name: str, folder: Path) -> Path:
    """The wheel of the installed distribution ``name``, written into ``folder``."""
    found = _find(name)
    source = _editable_source(found)
    return _build(name, source, folder) if source is not None else _repack(found, folder)


def code_digest(name: str) -> str:
    """``sha256:...`` over the files of an installed distribution's packages, the same for its wheel and its sources.

    Tells whether an image was built from the code that is installed here. Only Python files count, named relative to
    the folder that holds their packages: those of the distribution and of its :func:`companions`.
    """
    digest = _own_code_digest(_find(name), name)
    shared = companions(name)
    if shared:
        digest = hashlib.sha256(
            json.dumps([digest, *(_own_code_digest(_find(n), n) for n in shared)]).encode()
        ).hexdigest()
    return f"sha256:{digest}"


def companions(name: str) -> list[str]:
    """Distributions of this family, the core apart, that ``name`` requires, directly or by another, with any extra.

    They hold what several plugins share, and go into an image as they are installed here.
    """
    found: list[str] = []
    waiting = [name]
    while waiting:
        for requirement in _find(waiting.pop()).requires or ():
            other = normalised(re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0])
            if other.startswith(FAMILY) and other not in (normalised(CORE), normalised(name), *found):
                found.append(other)
                waiting.append(other)
    return sorted(found)


def _own_code_digest(found: Distribution, name: str) -> str:
    source = _editable_source(found)
    if source is None:
        files = [(str(file), Path(str(found.locate_file(file)))) for file in _packed(found)]
    else:
        root = source / "src" if (source / "src").is_dir() else source
        packages = _top_level(found, name)
        files = [(p.relative_to(root).as_posix(), p) for package in packages for p in (root / package).rglob("*.py")]
    digest = hashlib.sha256()
    for relative, path in sorted(files):
        if relative.endswith(".py"):
            digest.update(json.dumps([relative, hashlib.sha256(path.read_bytes()).hexdigest()]).encode())
    return digest.hexdigest()


def normalised(name: str) -> str:
    """Name of a distribution as indexes compare it (PEP 503); also for the first part of a wheel's file name."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _find(name: str) -> Distribution:
    try:
        return distribution(name)
    except PackageNotFoundError as error:
        raise PluginError(
            f"The distribution {name} is not installed.",
            "An image is built from what is installed here.",
            f"Install it first: pip install {name}.",
        ) from error


def _top_level(found: Distribution, name: str) -> list[str]:
    """The packages of an editable distribution: those that its entry points name."""
    packages = sorted({entry.module.partition(".")[0] for entry in found.entry_points})
    return packages or [name.replace("-", "_")]


def _editable_source(found: Distribution) -> Path | None:
    """The source folder of an editable install (PEP 610), else None."""
    try:
        origin = json.loads(found.read_text("direct_url.json") or "{}")
    except ValueError:
        return None
    if not origin.get("dir_info", {}).get("editable"):
        return None
    return Path(urllib.request.url2pathname(urllib.parse.urlsplit(origin["url"]).path))


def _build(name: str, source: Path, folder: Path) -> Path:
    # Without isolation first: an editable install has its build backend at hand, and needs no package index then.
    problem = ""
    for isolation in (["--no-build-isolation"], []):
        # Into a folder of its own: in ``folder`` there may be another wheel of the same distribution.
        with tempfile.TemporaryDirectory(prefix=".wheel-", dir=folder) as empty:
            command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", *isolation, "-w", empty]
            done = subprocess.run([*command, str(source)], capture_output=True, text=True, check=False)
            wheels = sorted(Path(empty).glob("*.whl"))
            if done.returncode == 0 and wheels:
                return wheels[0].replace(folder / wheels[0].name)
        problem = problem or (done.stderr or done.stdout)
    raise ContainerFailedError(
        f"No wheel of {name} could be made.",
        f"pip could not build {source}.",
        f"Try `pip wheel --no-deps {source}`.",
        problem.strip().splitlines()[-8:],
    )


def _packed(found: Distribution) -> list[str]:
    """Files of the distribution that belong into its wheel, relative to where it is installed."""
    return sorted(
        str(file)
        for file in found.files or ()
        if file.parts[0] != ".."
        and not Path(str(file)).is_absolute()
        and "__pycache__" not in file.parts
        and not (file.parts[0].endswith(".dist-info") and file.name in _MADE_BY_INSTALLER)
    )


def _repack(found: Distribution, folder: Path) -> Path:
    files = _packed(found)
    info = next((file.partition("/")[0] for file in files if file.partition("/")[0].endswith(".dist-info")), None)
    if info is None or found.read_text("WHEEL") is None:
        raise ContainerFailedError(
            f"No wheel of {found.name} could be made.",
            "It was not installed from a wheel.",
            "Install it with a current pip, which always installs wheels.",
        )
    tags = [line.partition(":")[2].strip() for line in (found.read_text("WHEEL") or "").splitlines() if "Tag:" in line]
    wheel = folder / f"{info.removesuffix('.dist-info')}-{_compressed(tags)}.whl"
    record = io.StringIO()
    rows = csv.writer(record, lineterminator="\n")
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            content = Path(str(found.locate_file(file))).read_bytes()
            archive.writestr(_entry(file), content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
            rows.writerow([file, f"sha256={digest}", len(content)])
        rows.writerow([f"{info}/RECORD", "", ""])
        archive.writestr(_entry(f"{info}/RECORD"), record.getvalue())
    return wheel


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    return entry


def _compressed(tags: list[str]) -> str:
    """``py3-none-any``, or compressed tag sets (PEP 425) such as ``py2.py3-none-any``."""
    parts = [tag.split("-", 2) for tag in tags]
    return "-".join(".".join(dict.fromkeys(part[i] for part in parts)) for i in range(3))
