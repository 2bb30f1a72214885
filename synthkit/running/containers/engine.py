"""The container engine: finds it, describes it, and removes what a killed command left behind.

Any engine that speaks Docker's API will do (Docker, rootless Docker, Podman's socket). It is found like the ``docker``
command finds it: ``DOCKER_HOST``, else the current Docker context, else the standard socket.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from synthkit.errors import BackendUnavailableError

LABEL = "org.synthkit."
RUN_LABEL, HOST_LABEL, UID_LABEL, PID_LABEL, START_LABEL = (
    f"{LABEL}{name}" for name in ("run", "host", "host-uid", "host-pid", "host-start")
)

_TIMEOUT_SECONDS = 120


def connect() -> Any:
    """A low-level Docker client (``docker.APIClient``); :class:`BackendUnavailableError` if no engine answers."""
    import docker
    from docker.errors import DockerException

    host = os.environ.get("DOCKER_HOST") or _context_host()
    options = docker.utils.kwargs_from_env(environment={**os.environ, **({"DOCKER_HOST": host} if host else {})})
    try:
        return docker.APIClient(**options, version="auto", timeout=_TIMEOUT_SECONDS)
    except (DockerException, OSError, ValueError) as error:
        raise unavailable(error, host) from error


def unavailable(error: BaseException, host: str | None = None) -> BackendUnavailableError:
    """What to tell a user whose engine does not answer."""
    cause = _system_error(error)
    told = re.search(r"\[Errno -?\d+\] ([^'\")\]]+)", str(error))
    reason = cause.strerror if cause is not None else told[1] if told else str(error).strip().partition("\n")[0]
    reason = reason or type(error).__name__
    where = host or os.environ.get("DOCKER_HOST") or "its standard socket"
    if isinstance(cause, PermissionError):
        fix = "Join the group that may use the socket (docker), or use a rootless engine."
    elif host or os.environ.get("DOCKER_HOST"):
        fix = "Start the engine, or correct DOCKER_HOST."
    else:
        fix = "Install and start Docker or Podman, or set DOCKER_HOST to an engine's socket."
    return BackendUnavailableError(f"No container engine answers at {where}.", f"{reason.rstrip('.')}.", fix)


def _system_error(error: BaseException | None) -> OSError | None:
    """The operating system's word at the bottom of what the libraries wrapped around it."""
    seen: list[object] = [error]
    for item in seen:
        if isinstance(item, OSError) and item.strerror and item.errno:
            return item
        if isinstance(item, BaseException) and len(seen) < 20:
            seen += [item.__cause__, item.__context__, *item.args]
    return None


def _context_host() -> str | None:
    """Socket of the context chosen with ``docker context use``; None for the default one."""
    from docker.context import ContextAPI
    from docker.errors import DockerException

    try:
        context = ContextAPI.get_current_context()
        return str(context.Host) if context is not None and context.name != "default" else None
    except (DockerException, OSError, ValueError, KeyError, TypeError):  # a damaged configuration decides nothing
        return None


@dataclass(frozen=True)
class Engine:
    """What an engine says of itself.

    Attributes
    ----------
    name, version : "Docker" or "Podman", and its version.
    memory_bytes, cpus : of the machine that the engine runs on.
    rootless : its uid 0 is the caller, who has no rights beyond his own.
    remapped : Docker's ``userns-remap``: uids in a container are not those outside.
    selinux : containers are confined by SELinux, which refuses unlabelled bind mounts.
    gpu : how GPUs are asked for, "nvidia" (runtime), "cdi" (device names), or "" if the engine shows neither.
    limits : which limits the kernel lets it enforce: "memory", "swap", "pids", "cpus".
    """

    name: str
    version: str
    memory_bytes: int
    cpus: int
    cgroup: str
    rootless: bool
    remapped: bool
    selinux: bool
    seccomp: bool
    gpu: str
    limits: frozenset[str]

    @classmethod
    def of(cls, info: Mapping[str, Any], version: Mapping[str, Any]) -> Engine:
        options = " ".join(info.get("SecurityOptions") or ())
        components = " ".join(str(part.get("Name")) for part in version.get("Components") or ())
        podman = "podman" in components.lower()
        devices = [str(device.get("ID", "")) for device in info.get("DiscoveredDevices") or ()]
        if "nvidia" in (info.get("Runtimes") or {}):
            gpu = "nvidia"
        elif podman or any(device.startswith("nvidia.com/gpu") for device in devices):
            gpu = "cdi"
        else:
            gpu = ""
        flags = {"memory": "MemoryLimit", "swap": "SwapLimit", "pids": "PidsLimit", "cpus": "CpuCfsQuota"}
        return cls(
            name="Podman" if podman else "Docker",
            version=str(version.get("Version", "")),
            memory_bytes=int(info.get("MemTotal") or 0),
            cpus=int(info.get("NCPU") or 0),
            cgroup=f"v{info.get('CgroupVersion') or '1'}",
            rootless="name=rootless" in options,
            remapped="name=userns" in options,
            selinux="name=selinux" in options,
            seccomp="name=seccomp" in options,
            gpu=gpu,
            limits=frozenset(limit for limit, flag in flags.items() if info.get(flag)),
        )


def describe(client: Any) -> Engine:
    """Ask the engine what it is; :class:`BackendUnavailableError` if it stopped answering."""
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    try:
        return Engine.of(client.info(), client.version())
    except (DockerException, RequestException, OSError) as error:
        raise unavailable(error) from error


def engine_info() -> dict[str, Any]:
    """For ``synthkit doctor``: ``description`` of the engine in a line, ``nvidia``: how it gives GPUs, "" if not."""
    found = describe(connect())
    kind = "rootless " if found.rootless else ""
    missing = [limit for limit in ("memory", "swap", "pids", "cpus") if limit not in found.limits]
    short = f", cannot limit {', '.join(missing)}" if missing else ""
    memory = f"{found.memory_bytes / 2**30:.0f} GiB"
    return {
        **asdict(found),
        "limits": sorted(found.limits),
        "description": f"{kind}{found.name} {found.version}, {found.cpus} CPUs, {memory}, cgroup {found.cgroup}{short}",
        "nvidia": {"nvidia": "NVIDIA runtime", "cdi": "CDI devices"}.get(found.gpu, ""),
    }


# ------------------------------------------------------------------------------------------------------ leftovers


def labels(run: Path) -> dict[str, str]:
    """Labels of a container of this process, by which it can be found when the process is gone."""
    return {
        RUN_LABEL: str(run),
        HOST_LABEL: _host(),
        UID_LABEL: str(os.getuid()),
        PID_LABEL: str(os.getpid()),
        START_LABEL: _process_start(os.getpid()),
    }


def find_leftovers(client: Any) -> list[dict[str, str]]:
    """Containers whose ``synthkit`` command no longer runs: ``{"id", "name", "run", "state"}`` each.

    Containers that other machines or other users started on the same engine are left alone: their processes cannot
    be seen here (those of other users where /proc is mounted with hidepid).
    """
    found = []
    mine = [f"{HOST_LABEL}={_host()}", f"{UID_LABEL}={os.getuid()}"]
    for container in client.containers(all=True, filters={"label": mine}):
        marks = container["Labels"]
        pid = int(marks.get(PID_LABEL) or 0)
        if pid and _process_start(pid) != marks.get(START_LABEL):
            found.append(
                {
                    "id": container["Id"],
                    "name": container["Names"][0].lstrip("/"),
                    "run": marks.get(RUN_LABEL, ""),
                    "state": container["State"],
                }
            )
    return found


def remove_leftovers(*, dry_run: bool = False, client: Any | None = None) -> list[dict[str, str]]:
    """Remove, running or not, what :func:`find_leftovers` finds. Returns what was, or would be, removed."""
    from docker.errors import APIError

    client = client or connect()
    found = find_leftovers(client)
    if dry_run:
        return found
    removed = []
    for container in found:
        try:
            client.remove_container(container["id"], force=True, v=True)
        except APIError:  # gone meanwhile, or being removed by another doctor
            continue
        removed.append(container)
    return removed


@functools.cache
def _host() -> str:
    """This machine, without its name."""
    try:
        name = Path("/etc/machine-id").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        name = ""
    return hashlib.sha256(f"synthkit {name or platform.node()}".encode()).hexdigest()[:16]


def _process_start(pid: int) -> str:
    """When a process began, in the kernel's words, so that a reused number is another process; "" if there is none."""
    try:
        # Field 22 of proc(5); the command name before it is in parentheses and may hold spaces.
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        pass
    if Path("/proc/self/stat").exists():
        return ""
    try:  # no /proc (macOS): the number alone has to do
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "running"
