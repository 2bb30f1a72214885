"""The walls around a container: what is asked of the engine, and what it says is in force.

What is asked for follows from the job, this machine and what the engine says of itself. All of these hold together: no
network, read-only root, no capabilities, no new privileges, the caller's uid, an init process, a memory limit that swap
does not soften, a limit on processes, and of the machine's files only the run folder and its inputs, these read-only.
"""

from __future__ import annotations

import math
import os
import shlex
import stat
from collections.abc import Mapping
from typing import Any

from synthkit.contract import Declaration
from synthkit.errors import DataError
from synthkit.running.backends.gpus import visible_devices
from synthkit.running.backends.ownership import ORDINARY, is_root
from synthkit.running.containers import images as containers
from synthkit.running.containers.engine import Engine
from synthkit.running.exclusive import LOCK_NAME
from synthkit.running.run import JOB, Job, Resources, Run

FOLDER = "/job"

# Left to the machine when no limit is asked for: a run that wants all memory dies alone.
_DEFAULT_MEMORY_SHARE = 0.9
_SHM_BYTES = 8 << 30  # the default of 64 MB kills the workers of a data loader
PIDS = 4096  # processes and threads: enough for some data loaders' workers on a machine with many cores
# exec: torch and Triton load from there what they compile. It counts against the memory limit.
_TMPFS = {"/tmp": "rw,exec,nosuid,nodev,mode=1777", f"{FOLDER}/inputs": "ro,nosuid,nodev,noexec,size=64k"}

_ENVIRONMENT = {
    # An unknown uid has no home and no name, which Python's getpass (and so torch) needs.
    "HOME": "/tmp",
    "USER": "synthkit",
    "LOGNAME": "synthkit",
    "XDG_CACHE_HOME": "/tmp/.cache",
    "TORCHINDUCTOR_CACHE_DIR": "/tmp/torchinductor",
    "TRITON_CACHE_DIR": "/tmp/triton",
    "MPLCONFIGDIR": "/tmp/matplotlib",
    "PYTHONUNBUFFERED": "1",
    "OMP_WAIT_POLICY": "PASSIVE",  # as the local backend
    "PYTHONDONTWRITEBYTECODE": "1",
}


# ------------------------------------------------------------------------------------------- what is asked for


def wants_gpu(declaration: Declaration, job: Job) -> bool:
    return job.resources.gpus != "none" and declaration.gpu != "none"


def memory_limit(job: Job, described: Engine) -> int:
    """Bytes: what the job asks for, else most of the machine's memory; 0 if that is not known."""
    return job.resources.memory_bytes or int(described.memory_bytes * _DEFAULT_MEMORY_SHARE)


def user_of(described: Engine) -> str:
    """``uid:gid`` inside that owns what it writes as the caller does outside; for root an ordinary user's."""
    if described.rootless or not hasattr(os, "getuid"):
        return "0:0"  # a rootless engine maps it to the caller
    if is_root():
        return f"{ORDINARY}:{ORDINARY}"
    return f"{os.getuid()}:{os.getgid()}"


def groups_of(described: Engine) -> list[str]:
    """The caller's other groups: what a project's group may read, a run may read as well. None in a rootless engine."""
    if described.rootless or not hasattr(os, "getgroups"):
        return []
    return [str(group) for group in sorted({*os.getgroups()} - {os.getgid()}) if group or not is_root()]


def environment(declaration: Declaration, job: Job) -> dict[str, str]:
    """The whole environment of a container, apart from what its image sets."""
    variables = {**_ENVIRONMENT, **job.resources.threads}
    if wants_gpu(declaration, job):
        variables["NVIDIA_DRIVER_CAPABILITIES"] = "compute,utility"
    else:
        # CUDA images say "all", which the NVIDIA runtime obeys wherever it is the default one.
        variables["NVIDIA_VISIBLE_DEVICES"] = "void"
    return variables


def host_options(run: Run, job: Job, described: Engine, declaration: Declaration) -> dict[str, Any]:
    """Arguments of ``create_host_config``: isolation, limits, mounts."""
    from docker.types import LogConfig

    memory = memory_limit(job, described)
    options: dict[str, Any] = {
        "network_mode": "none",
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "group_add": groups_of(described),
        "init": True,  # reaps workers, and hands signals on
        "log_config": LogConfig(type="none"),  # log.txt is the log: what a run prints goes to no collector of logs
        "mem_limit": memory,
        "memswap_limit": memory,
        "pids_limit": PIDS,
        "shm_size": min(_SHM_BYTES, memory),
        "tmpfs": _TMPFS,
        "mounts": mounts(run, job, user_of(described)),
    }
    if "memory" not in described.limits:
        options.update(mem_limit=None, memswap_limit=None)
    if described.remapped:
        options["userns_mode"] = "host"  # else the caller's uid would be somebody else
    if described.selinux:
        # The other way, relabelling, would change the user's own files.
        options["security_opt"] = [*options["security_opt"], "label=disable"]
    if job.resources.cpus:
        # The engine refuses more than there are, where a run of a larger machine is repeated.
        options["nano_cpus"] = int(min(job.resources.cpus, described.cpus or math.inf) * 1e9)
    if wants_gpu(declaration, job):
        options["device_requests"] = [gpu_request(job.resources, described.gpu)]
    return options


def mounts(run: Run, job: Job, user: str) -> list[dict[str, Any]]:
    """The files that a container sees, in the engine's form: ``Source``, ``Target``, ``ReadOnly``.

    ``user`` is the ``uid:gid`` that reads them. Raises :class:`DataError` for an input that is not there, that it may
    not read or that has links out of itself.
    """
    from docker.types import Mount

    folder = run.path.resolve()
    found = [
        Mount(FOLDER, str(folder), type="bind"),
        Mount(f"{FOLDER}/{JOB}", str(folder / JOB), type="bind", read_only=True),
    ]
    if (folder / LOCK_NAME).is_file():  # a mount cannot be unlinked inside, where a second command would then find none
        found.append(Mount(f"{FOLDER}/{LOCK_NAME}", str(folder / LOCK_NAME), type="bind", read_only=True))
    for role in job.inputs:
        # The link itself would lead nowhere inside.
        source = run.input(role).resolve()
        if not source.exists():
            raise DataError(
                f"The input {role} of the run is not there.", f"{source} does not exist.", "Make the run again."
            )
        _check_files(role, str(source), user)
        found.append(Mount(f"{FOLDER}/inputs/{role}", str(source), type="bind", read_only=True))
    return found


def _check_files(role: str, root: str, user: str) -> None:
    """What the caller may not read, the run may not either; and links that lead out of an input (git-annex, folders of
    links) would dangle in the container."""
    for folder, folders, files in os.walk(root) if os.path.isdir(root) else [(root, (), ("",))]:  # noqa: PTH112
        for name in (*folders, *files):
            # The walk is the cost of this check; Path objects double it.
            path = os.path.join(folder, name).rstrip(os.sep)  # noqa: PTH118
            if not _may_read(path, user):
                whose = f"Runs of root are made as user {user.partition(':')[0]}, who has" if is_root() else "You have"
                fix = "Ask its owner for the right to read it (chmod g+r, and a group that you are in)."
                raise DataError(
                    f"The input {role} cannot be read.",
                    f"{whose} no right to read {path}.",
                    f"Give it: chmod -R o+rX {shlex.quote(root)}. Or make the run as an ordinary user."
                    if is_root()
                    else fix,
                )
            if os.path.islink(path) and not os.path.realpath(path).startswith(root + os.sep):  # noqa: PTH114
                raise DataError(
                    f"The input {role} has links that a container cannot follow.",
                    f"{path} leads out of {root}, and only that folder is shown to the run.",
                    "Give the folder with the files themselves, or use --backend local.",
                )


def _may_read(path: str, user: str) -> bool:
    """Whether a run of this ``uid:gid`` may read this; True for what is not there. Root in a container is no root."""
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return True
    wanted = 5 if stat.S_ISDIR(status.st_mode) else 4
    if not is_root():
        return os.access(path, wanted)
    uid, gid = map(int, user.split(":"))
    in_group = status.st_gid in {gid, *({*os.getgroups()} - {0})}
    shift = 6 if status.st_uid == uid else 3 if in_group else 0
    return (status.st_mode >> shift) & wanted == wanted


def engine_gpus(gpus: str) -> str:
    """``--gpus`` as an engine is to be asked: in a job of Slurm's, by the numbers of the job's devices on the machine.

    ``CUDA_VISIBLE_DEVICES`` counts within the job where the cluster confines it to its devices (ConstrainDevices). An
    engine is not part of the job and counts all of them, so that two jobs would both get the first.
    """
    granted = os.environ.get("CUDA_VISIBLE_DEVICES")
    if gpus == "none" or granted is None or "SLURM_JOB_ID" not in os.environ:
        return gpus
    inside = granted.split(",")
    outside = (os.environ.get("SLURM_STEP_GPUS") or os.environ.get("SLURM_JOB_GPUS") or granted).split(",")
    # Names (GPU-..., MIG-...) are the same everywhere; a list of another length tells nothing of this one.
    numbers = {a: b for a, b in zip(inside, outside, strict=False) if a.isdecimal() and len(inside) == len(outside)}
    chosen = (visible_devices(gpus) or "").split(",")
    return f"device={','.join(numbers.get(device, device) for device in chosen)}"


def gpu_request(resources: Resources, way: str) -> Any:
    """The engine's form of ``--gpus``. ``way`` is :attr:`Engine.gpu`."""
    from docker.types import DeviceRequest

    asked = engine_gpus(resources.gpus)
    devices = asked.removeprefix("device=").split(",") if asked.startswith("device=") else []
    if way == "cdi":
        names = devices or (["all"] if asked == "all" else [str(i) for i in range(int(asked))])
        return DeviceRequest(driver="cdi", device_ids=[f"nvidia.com/gpu={name}" for name in names])
    if devices:
        return DeviceRequest(device_ids=devices, capabilities=[["gpu"]])
    return DeviceRequest(count=-1 if asked == "all" else int(asked), capabilities=[["gpu"]])


# ------------------------------------------------------------------------------------------------- what was given


def describe_isolation(inspected: Mapping[str, Any], described: Engine) -> dict[str, Any]:
    """What the engine says is in force on a container; empty if the container never came to be."""
    if not inspected:
        return {}
    host = inspected["HostConfig"]
    inputs = [m for m in inspected["Mounts"] if m["Destination"].startswith(f"{FOLDER}/inputs/")]
    dropped = {name.upper() for name in host.get("CapDrop") or ()}
    memory = host.get("Memory") or None
    return {
        "network": host["NetworkMode"],
        "root_filesystem": "read-only" if host["ReadonlyRootfs"] else "writable",
        "inputs": "read-only" if not any(m["RW"] for m in inputs) else "not protected",
        "capabilities": "none" if "ALL" in dropped and not host.get("CapAdd") else "some",
        "no_new_privileges": any(o.startswith("no-new-privileges") for o in host.get("SecurityOpt") or ()),
        "memory_limit_bytes": memory,
        "swap": "none" if memory and host.get("MemorySwap") == memory and "swap" in described.limits else "not limited",
        "pids_limit": host.get("PidsLimit") or None,
        "cpus": (host.get("NanoCpus") or 0) / 1e9 or None,
        "user": inspected["Config"].get("User") or "of the image",
        "groups": [str(group) for group in host.get("GroupAdd") or ()],
        "rootless": described.rootless,
        "seccomp": described.seccomp and "seccomp=unconfined" not in (host.get("SecurityOpt") or ()),
        "init": bool(host.get("Init")),
        "shm_bytes": host.get("ShmSize"),
        "tmpfs": sorted(host.get("Tmpfs") or ()),
        "cgroup": described.cgroup,
    }


def docker_command(run: Run, declaration: Declaration, job: Job, described: Engine | None) -> str:
    """The ``docker run`` line that does the same. Without an engine its machine is taken to be this one."""
    described = described or this_machine()
    words = [
        "docker",
        "run",
        "--rm",
        "--init",
        "--log-driver",
        "none",
        "--network",
        "none",
        "--read-only",
        "--cap-drop",
        "ALL",
    ]
    memory = memory_limit(job, described)
    words += ["--security-opt", "no-new-privileges", "--user", user_of(described)]
    for group in groups_of(described):
        words += ["--group-add", group]
    if memory:
        words += ["--memory", f"{memory}", "--memory-swap", f"{memory}"]
    words += ["--pids-limit", f"{PIDS}", "--shm-size", f"{min(_SHM_BYTES, memory or _SHM_BYTES)}"]
    if job.resources.cpus:
        words += ["--cpus", f"{min(job.resources.cpus, described.cpus or math.inf):g}"]
    if wants_gpu(declaration, job):
        gpus = engine_gpus(job.resources.gpus)
        words += ["--gpus", f'"{gpus}"' if "," in gpus else gpus]
    for path, options in _TMPFS.items():
        words += ["--tmpfs", f"{path}:{options}"]
    folder = run.path.resolve()
    words += ["--mount", f"type=bind,src={folder},dst={FOLDER}"]
    words += ["--mount", f"type=bind,src={folder / JOB},dst={FOLDER}/{JOB},readonly"]
    for role, item in job.inputs.items():
        source = item.source.resolve() if item.source is not None else run.input(role).resolve()
        words += ["--mount", f"type=bind,src={source},dst={FOLDER}/inputs/{role},readonly"]
    for name, value in environment(declaration, job).items():
        words += ["--env", f"{name}={value}"]
    command = shlex.join([*words, "--workdir", "/tmp", containers.image_name(declaration), FOLDER])
    user = user_of(described)
    return f"chown -R {user} {shlex.quote(str(folder))} && {command}" if user.startswith(f"{ORDINARY}:") else command


def this_machine() -> Engine:
    """This machine in the form of an engine, as far as it is known without one."""
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    return Engine(
        name="Docker",
        version="",
        memory_bytes=pages,
        cpus=os.cpu_count() or 1,
        cgroup="",
        rootless=False,
        remapped=False,
        selinux=False,
        seccomp=True,
        gpu="",
        limits=frozenset(),
    )
