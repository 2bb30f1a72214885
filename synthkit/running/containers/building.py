"""Container images, built from what is installed here.

Two bases hold Python, torch and synthkit: ``base`` (CUDA) and ``base-cpu``. Each plugin distribution has one image on
top, made by the Dockerfile inside its package. The build context is assembled in a temporary folder::

    Dockerfile
    wheels/            of the plugin, and those of --find-links (for a base: the latter only, and synthkit/ beside it)
    requirements.txt   what to install
    torch.txt          torch, and for a base the package index that has its build of it; nothing else is asked there
    constraints.txt    the versions that synthkit is tested with
    pip.conf           this machine's package index; used in a stage that is thrown away, so it stays out of the image
    certificates.crt   extra authorities for the index; may be empty

Only the classic builder's syntax is used, so that every engine that speaks Docker's API can build.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any

from synthkit.contract import CONTRACT_VERSION, Declaration
from synthkit.errors import (
    BackendUnavailableError,
    ContainerFailedError,
    NotWritableError,
    PluginError,
    SynthkitError,
    UsageError,
)
from synthkit.registry.registry import Registry, discover
from synthkit.registry.wheels import CORE, code_digest, companions, make_wheel, normalised
from synthkit.running.containers import engine
from synthkit.running.containers.images import (
    BASE_LABEL,
    BASES,
    CODE_LABEL,
    CONTRACT_LABEL,
    CORE_CODE_LABEL,
    DECLARATIONS_LABEL,
    DISTRIBUTION_LABEL,
    VERSION_LABEL,
    find_image,
    find_target,
    image_name,
)


def build_all(
    names: Sequence[str], *, base_image: str | None = None, registry: Registry | None = None, **options: Any
) -> list[dict[str, str]]:
    """Build several images: bases first, then each plugin's distribution once, on the last base named.

    ``base_image`` and the other options are those of :func:`build`; where a base is among ``names``, ``base_image`` is
    what that base starts from. Returns ``{"image", "id"}`` for each.
    """
    registry = registry or discover()
    targets = {image_name(target): target for target in (find_target(name, registry) for name in names)}
    bases = [target for target in targets.values() if isinstance(target, str)]
    client = options.pop("client", None) or engine.connect()
    before, built = _nameless(client), []
    for name, target in sorted(targets.items(), key=lambda item: isinstance(item[1], Declaration)):
        start = base_image if isinstance(target, str) or not bases else bases[-1]
        built.append(
            {"image": name, "id": build(target, base_image=start, registry=registry, client=client, **options)}
        )
    left = len(_nameless(client) - before)
    if left and "on_line" in options:
        options["on_line"](
            f"note: {left} images without a name are left of this build: stages that the next one is quicker by, "
            "and images that were replaced. `docker image prune` removes them; runs made in a replaced one can then "
            "not be repeated in it."
        )
    return built


def _nameless(client: Any) -> set[str]:
    """Ids of the engine's images that no name leads to."""
    return {str(found["Id"]) for found in client.images(filters={"dangling": True})}


def build(
    target: Declaration | str,
    *,
    base_image: str | None = None,
    find_links: Path | None = None,
    torch_index: str | None = None,
    ca_bundle: Path | None = None,
    network: str | None = None,
    on_line: Callable[[str], None] = lambda line: None,
    registry: Registry | None = None,
    client: Any | None = None,
) -> str:
    """Build the image of a plugin, or "base" or "base-cpu". Returns the image's id.

    Parameters
    ----------
    base_image : for a base, the image to start from (Debian or Ubuntu, or any with Python and venv); for a plugin,
        "base", "base-cpu" or another image (the default: the one of the two that is there, else "base"); one of the
        two is built first if it is missing.
    find_links : folder of wheels that pip may take before asking the index.
    torch_index : package index that a base's torch is looked for in, besides the usual one; "" for none. By default the
        one of :data:`BASES`, unless ``find_links`` has torch. Nothing but torch is asked for there.
    ca_bundle : PEM file of authorities for the package index; the default is the one that pip is told to use here.
    network : network of the build, as in ``docker build --network``.
    on_line : gets the build's output, a line at a time.

    Raises
    ------
    ContainerFailedError
        with the last lines, if a step fails.
    NotWritableError
        if the engine's disk is full.
    """
    client = client or engine.connect()
    options: dict[str, Any] = {
        "find_links": find_links,
        "torch_index": torch_index,
        "ca_bundle": ca_bundle,
        "network": network,
    }
    if isinstance(target, Declaration):
        base_image = base_image or next((base for base in BASES if _is_there(image_name(base), client)), "base")
        if base_image in BASES:
            name = image_name(base_image)
            if not _is_there(name, client):
                build(base_image, **options, on_line=on_line, client=client)
            elif find_image(name, client).outdated:
                on_line(f"note: {name} has another state of {CORE} than is installed here; build {base_image} again")
            base_image = name
        distribution = target.distribution
    else:
        image_name(target)
        base_image = base_image or BASES[target][0]
        distribution = CORE
    with tempfile.TemporaryDirectory(prefix="synthkit-build-") as folder:
        context = Path(folder)
        _assemble(context, target, find_links, ca_bundle, torch_index)
        labels = _labels(target, distribution, registry or discover())
        on_line(f"building {image_name(target)} from {base_image}")
        image_id = _build(client, context, image_name(target), base_image, labels, network, on_line)
    repository, _, _ = image_name(target).rpartition(":")
    client.tag(image_id, repository, "latest")  # what the Dockerfiles name where nothing is said
    return image_id


def _is_there(name: str, client: Any) -> bool:
    try:
        find_image(name, client)
    except BackendUnavailableError:
        return False
    return True


def _labels(target: Declaration | str, distribution: str, registry: Registry) -> dict[str, str]:
    declarations = [d for d in registry.declarations.values() if d.distribution == distribution]
    if isinstance(target, Declaration) and target.name not in {d.name for d in declarations}:
        declarations.append(target)
    # A plugin's image inherits these two from its base.
    core = {} if isinstance(target, Declaration) else {CORE_CODE_LABEL: code_digest(CORE), BASE_LABEL: target}
    return {
        CONTRACT_LABEL: str(CONTRACT_VERSION),
        VERSION_LABEL: version(distribution),
        DISTRIBUTION_LABEL: distribution,
        DECLARATIONS_LABEL: json.dumps([d.to_dict() for d in sorted(declarations, key=lambda d: d.name)]),
        CODE_LABEL: code_digest(distribution),
        **core,
    }


def _assemble(
    context: Path,
    target: Declaration | str,
    find_links: Path | None,
    ca_bundle: Path | None,
    torch_index: str | None = None,
) -> None:
    """Write the build context of ``target`` into the empty folder ``context``."""
    wheels = context / "wheels"
    wheels.mkdir()
    if find_links is not None and not find_links.is_dir():
        raise UsageError(f"There is no folder {find_links}.", fix="--find-links names a folder of wheels.")
    # What is installed here goes into the image, not an older or newer wheel of it that lies among the others.
    left_out = {normalised(CORE)}
    if isinstance(target, Declaration):
        shared = companions(target.distribution)
        left_out |= {normalised(target.distribution), *shared, "torch"}  # torch is large, and in the base already
    for wheel in sorted(find_links.glob("*.whl")) if find_links is not None else ():
        if normalised(wheel.name.partition("-")[0]) not in left_out:
            shutil.copyfile(wheel, wheels / wheel.name)
    ours = own_files()
    if isinstance(target, Declaration):
        own = make_wheel(target.distribution, wheels)
        for name in shared:
            make_wheel(name, wheels)
        requirements = [f"{target.distribution}[runtime] @ file:///build/wheels/{own.name}"]
        dockerfile = _dockerfile(target)
    else:
        (context / "synthkit").mkdir()
        make_wheel(CORE, context / "synthkit")
        requirements = ["torch", *(item for item in requires(CORE) or () if "extra ==" not in item)]
        dockerfile = ours / "base" / "Dockerfile"
        _write_torch(context, target, torch_index)
    shutil.copyfile(dockerfile, context / "Dockerfile")
    shutil.copyfile(_constraints(ours), context / "constraints.txt")
    (context / "requirements.txt").write_text("\n".join(requirements) + "\n", encoding="utf-8")
    settings = _pip_settings()
    ca_bundle = ca_bundle or (Path(settings["cert"]) if settings.get("cert") else None)
    if ca_bundle is not None and not ca_bundle.is_file():
        raise UsageError(f"There is no file {ca_bundle}.", fix="--ca-bundle names a PEM file.")
    (context / "certificates.crt").write_bytes(ca_bundle.read_bytes() if ca_bundle is not None else b"")
    (context / "pip.conf").write_text(_pip_conf(settings, ca_bundle is not None), encoding="utf-8")


def _write_torch(context: Path, base: str, index: str | None) -> None:
    """``torch.txt``: an index that has torch alone answers slowly, or behind a mirror never, for everything else."""
    if index is None:
        index = "" if list((context / "wheels").glob("torch-*.whl")) else BASES[base][1]
    lines = [f"--extra-index-url {index}"] if index else []
    (context / "torch.txt").write_text("\n".join([*lines, "torch"]) + "\n", encoding="utf-8")


def own_files() -> Path:
    """The folder ``containers``: inside the installed package, or beside it in the source tree."""
    package = Path(__file__).parents[2]
    for folder in (package / "_containers", package.parent / "containers"):
        if (folder / "base" / "Dockerfile").is_file():
            return folder
    raise ContainerFailedError(
        "The Dockerfile of the base is missing.",
        "This installation of synthkit-core is not whole.",
        "Install it again: pip install --force-reinstall --no-deps synthkit-core.",
    )


def _constraints(ours: Path) -> Path:
    inside = ours / "constraints.txt"
    return inside if inside.is_file() else ours.parent / "constraints.txt"


def _dockerfile(declaration: Declaration) -> Path:
    # Found without importing the plugin's module.
    spec = importlib.util.find_spec(declaration.module.partition(".")[0])
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        path = Path(folder) / declaration.dockerfile
        if path.is_file():
            return path
    raise PluginError(
        f"{declaration.name} has no {declaration.dockerfile}.",
        "The package that its module belongs to does not bring one, so no image can be built.",
        f"Use --backend local, or ask the authors of {declaration.distribution} for one.",
    )


def _pip_settings() -> dict[str, str]:
    """How pip reaches its index on this machine: from its files and environment, local paths apart."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    settings: dict[str, str] = {}
    for line in done.stdout.splitlines():
        key, _, value = line.partition("=")
        name = key.strip().rpartition(".")[2].lower().replace("_", "-")
        if name in ("index-url", "extra-index-url", "trusted-host", "cert", "default-timeout", "timeout"):
            value = value.strip().strip("'\"")
            if name.endswith("index-url"):  # a folder of this machine is not there in the build
                value = " ".join(url for url in value.replace("\\n", " ").split() if not url.startswith("file:"))
            if value and (key.startswith(":env:") or name not in settings):
                settings["timeout" if name == "default-timeout" else name] = value
    return settings


def _pip_conf(settings: dict[str, str], certificates: bool) -> str:
    lines = {
        "index-url": settings.get("index-url"),
        "extra-index-url": settings.get("extra-index-url"),
        "trusted-host": settings.get("trusted-host"),
        "timeout": settings.get("timeout"),
        "cert": "/build/certificates.crt" if certificates else None,
        "find-links": "/build/wheels",
        "no-cache-dir": "true",
        "disable-pip-version-check": "true",
        "root-user-action": "ignore",
    }
    body = "".join(f"{key} = {value}\n" for key, value in lines.items() if value)
    return f"[global]\n{body}\n[install]\nconstraint = /build/constraints.txt\n"


def _build(
    client: Any,
    context: Path,
    name: str,
    base_image: str,
    labels: dict[str, str],
    network: str | None,
    on_line: Callable[[str], None],
) -> str:
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    # Proxies are predefined arguments: the engine keeps them out of the image's history.
    proxies = {key: os.environ[key] for key in _PROXIES if os.environ.get(key)}
    lines: list[str] = []
    try:
        for part in client.build(
            path=str(context),
            tag=name,
            buildargs={"BASE_IMAGE": base_image, **proxies},
            labels=labels,
            network_mode=network,
            rm=True,
            forcerm=True,
            decode=True,
        ):
            for line in (part.get("stream") or part.get("error") or part.get("status") or "").splitlines():
                if line.strip() and not part.get("progressDetail") and not line.startswith(_NOISE):
                    lines.append(line.rstrip())
                    on_line(line.rstrip())
            if part.get("error"):
                raise _build_error(name, lines)
        return str(client.inspect_image(name)["Id"])
    except (DockerException, RequestException, OSError) as error:
        lines.append(str(error))
        raise _build_error(name, lines) from error


_NOISE = ("Requirement already satisfied", " ---> Running in", "Removing intermediate container")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


def _build_error(name: str, lines: list[str]) -> SynthkitError:
    tail = lines[-12:]
    if any("no space left on device" in line.lower() for line in tail):
        return NotWritableError(
            f"The container image {name} could not be built.",
            "The engine's disk is full.",
            "Free some space (`docker system df` shows what takes it), then build again.",
            tail,
        )
    return ContainerFailedError(
        f"The container image {name} could not be built.",
        f"{lines[-1] if lines else 'The engine gave no reason.'}",
        "See the lines below. Without a way to the index: --network host, --find-links, --ca-bundle, --torch-index.",
        tail,
    )
