"""Runs in a hardened container: no network, read-only root, no capabilities, the caller's uid, limits on everything.

The container sees the run folder at ``/job`` (``job.json`` read-only), each input read-only at ``/job/inputs/ROLE`` and
a ``/tmp`` in memory; nothing else of this machine, and none of its environment. Its entry point is ``synthkit-run``.
"""

from __future__ import annotations

import os
import signal
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from synthkit.contract import Declaration
from synthkit.errors import (
    BackendUnavailableError,
    ContainerFailedError,
    GpuUnavailableError,
    InterruptedRunError,
    NotWritableError,
    OutOfMemoryError,
    SynthkitError,
)
from synthkit.running.backends.following import EventFollower, OnEvent
from synthkit.running.backends.gpus import check_granted
from synthkit.running.backends.isolation import (
    FOLDER,
    describe_isolation,
    docker_command,
    environment,
    gpu_request,
    host_options,
    user_of,
    wants_gpu,
)
from synthkit.running.backends.kept_log import KeptLog
from synthkit.running.backends.limits import Limits
from synthkit.running.backends.outcome import Attempt, log_tail
from synthkit.running.backends.ownership import lent
from synthkit.running.backends.recorded import recorded_image
from synthkit.running.containers import engine
from synthkit.running.containers import images as containers
from synthkit.running.containers.building import own_files
from synthkit.running.containers.engine import Engine, engine_info, remove_leftovers
from synthkit.running.run import LOG, Job, Resources, Run
from synthkit.running.signals import termination_as_interrupt

__all__ = ["DockerBackend", "engine_info", "remove_leftovers"]

_POLL_SECONDS = 0.05
_GRACE_SECONDS = 20.0
_CREATION_SECONDS = 2.0
_SIGKILL_STATUS = 128 + signal.SIGKILL


class DockerBackend:
    """A container on the engine that ``DOCKER_HOST`` names (Docker, rootless Docker, Podman).

    Without ``--memory`` a run may use 90 % of the engine's memory. Swap is never used on top of the limit.
    """

    name = "docker"
    lock_section = "images"

    def __init__(self) -> None:
        self._client: Any = None
        self._recorded: Mapping[str, Any] | None = None
        self._engine: Engine | None = None
        self._images: dict[str, containers.Image] = {}

    def check(self, declaration: Declaration, job: Job) -> None:
        if "SLURM_JOB_ID" in os.environ:
            check_granted(declaration, job)
        image = self._image(declaration)
        if wants_gpu(declaration, job) and not self._described().gpu:
            # Docker's oldest way needs no entry in the list of runtimes, so the only proof is to ask for one.
            self._probe_gpu(image, job.resources)

    def run(self, run: Run, declaration: Declaration, on_event: OnEvent) -> dict[str, Any]:
        job = run.job()
        image = self._image(declaration)
        settings = self._settings(run, declaration, job, image)
        left = self._remove_earlier(run)
        attempt = Attempt(run, declaration)
        follower = EventFollower(run, on_event)
        if left:
            follower.warnings.append(
                f"The container {', '.join(left)} of an earlier attempt, whose command was killed, was still there. It "
                "has been removed."
            )
        outdated = containers.outdated_warning(image, declaration)
        if outdated is not None:
            follower.warnings.append(outdated)
        watched = _Watched(self._client, attempt, settings, follower)
        with termination_as_interrupt(), lent(run.path, settings["user"]):
            error = watched.execute()
        container = {
            "image": image.name,
            "image_id": image.id,
            "repo_digests": list(image.repo_digests),
            "engine": f"{self._described().name} {self._described().version}",
        }
        isolation = describe_isolation(watched.inspected, self._described())
        warnings = list(dict.fromkeys(follower.warnings + watched.warnings))
        return attempt.finish(self.name, isolation, warnings, error=error, container=container, code=image.code)

    def command(self, run: Run, declaration: Declaration, job: Job) -> str:
        described = self._described() if self._client is not None else None
        return docker_command(run, declaration, job, described)

    def limits_memory(self) -> bool:
        return True

    def pin(self, container: Mapping[str, Any], declaration: Declaration) -> None:
        self._recorded = container

    def _image(self, declaration: Declaration) -> containers.Image:
        if self._client is None:
            self._client = engine.connect()
        if declaration.distribution not in self._images:
            if self._recorded is not None:
                image = recorded_image(self._recorded, self._client)
            else:
                image = containers.image_of(declaration, self._client)
            self._images[declaration.distribution] = image
        return self._images[declaration.distribution]

    def _described(self) -> Engine:
        if self._engine is None:
            self._engine = engine.describe(self._client)
        return self._engine

    def _settings(self, run: Run, declaration: Declaration, job: Job, image: containers.Image) -> dict[str, Any]:
        described = self._described()
        host_config = self._client.create_host_config(**host_options(run, job, described, declaration))
        return {
            "image": image.id,  # not the name: what was checked is what runs
            "name": f"synthkit-{uuid.uuid4().hex[:12]}",
            "user": user_of(described),
            "environment": environment(declaration, job),
            "working_dir": "/tmp",
            "command": [FOLDER],
            "labels": engine.labels(run.path.resolve()),
            "host_config": host_config,
            "use_config_proxy": False,  # the client would hand on this machine's proxies
            "stdin_open": False,
        }

    def _remove_earlier(self, run: Run) -> list[str]:
        """Remove containers that outlived a killed command in this folder: two would mix their outputs."""
        from docker.errors import DockerException, NotFound
        from requests.exceptions import RequestException

        removed = []
        try:
            for found in engine.find_leftovers(self._client):
                if found["run"] == str(run.path.resolve()):
                    removed.append(found["name"])
                    with suppress(NotFound):  # it ended meanwhile, or doctor was quicker
                        self._client.remove_container(found["id"], force=True, v=True)
        except (DockerException, RequestException, OSError) as error:
            raise engine.unavailable(error) from error
        return removed

    def _probe_gpu(self, image: containers.Image, resources: Resources) -> None:
        from docker.errors import APIError

        options = {"network_mode": "none", "cap_drop": ["ALL"], "device_requests": [gpu_request(resources, "")]}
        container = None
        try:
            container = self._client.create_container(
                image=image.id,
                entrypoint=["true"],
                host_config=self._client.create_host_config(**options),
                labels=engine.labels(own_files()),
            )["Id"]
            self._client.start(container)
        except APIError as error:
            raise start_error(error, gpu=True) from error
        finally:
            if container is not None:
                self._client.remove_container(container, force=True, v=True)


class _Watched:
    """One container from creation to removal."""

    def __init__(self, client: Any, attempt: Attempt, settings: dict[str, Any], follower: EventFollower) -> None:
        self._client, self._attempt, self._settings, self._follower = client, attempt, settings, follower
        self._name: str = settings["name"]
        self._run = attempt.run
        self._ended = threading.Event()
        self._created = self._started = False
        self.warnings: list[str] = []
        self.inspected: dict[str, Any] = {}

    def execute(self) -> SynthkitError | None:
        """Run the container to its end. Returns what the host knows of its end; None if the run's result stands."""
        from docker.errors import APIError, DockerException
        from requests.exceptions import RequestException

        try:
            try:
                return self._execute()
            except KeyboardInterrupt:
                return self._interrupted()
            except (DockerException, RequestException, OSError) as error:
                if isinstance(error, APIError) and not self._started:
                    return start_error(error, gpu=bool(self._settings["host_config"].get("DeviceRequests")))
                if self._attempt.result() is not None:
                    self.warnings.append(f"The container engine failed when the run had ended: {error}")
                    return None
                return ContainerFailedError(
                    "The container was lost during the run.",
                    f"The engine says: {error}.",
                    "Look after the engine (`synthkit doctor`), then run the same command with --resume.",
                    log_tail(self._run),
                )
        finally:
            self._remove()
            self._follower.drain()

    def _execute(self) -> SynthkitError | None:
        created = self._client.create_container(**self._settings)
        self._created = True
        self.warnings.extend(created.get("Warnings") or [])
        # Attached before the start: a container that dies at once leaves its log all the same.
        stream = self._client.attach(self._name, stdout=True, stderr=True, stream=True)
        # And opened before it: what the run lays in the log's place later is not what is written to.
        kept = KeptLog(self._run.path / LOG)
        limits = Limits(self._attempt, self._follower, kept)
        log = threading.Thread(target=self._copy_log, args=(stream, kept), daemon=True, name="container-log")
        log.start()
        self._client.start(self._name)
        threading.Thread(target=self._wait, daemon=True, name="container-wait").start()
        self._started = True
        self.inspected = self._client.inspect_container(self._name)
        while not self._ended.wait(_POLL_SECONDS):
            self._follower.poll()
            if limits.over():
                self._stop()
                break
        log.join(_GRACE_SECONDS)  # to the end of the stream: what was printed last is what matters
        kept.close()
        self.inspected = self._client.inspect_container(self._name)
        state = self.inspected["State"]
        if state["Running"]:  # the engine gave up waiting, or did not kill it
            return ContainerFailedError(
                "The engine lost the container.",
                "It would neither say when the run ends nor end it; the container is removed by force.",
                "Look after the engine (`synthkit doctor`), then run the same command with --resume.",
                log_tail(self._run),
            )
        return limits.error or self._ending(state)

    def _copy_log(self, stream: Iterator[bytes], kept: KeptLog) -> None:
        from docker.errors import DockerException
        from requests.exceptions import RequestException
        from urllib3.exceptions import HTTPError

        # When the engine goes, the main thread notices it too.
        with suppress(DockerException, RequestException, HTTPError, OSError, ValueError):
            for chunk in stream:
                kept.write(chunk)

    def _wait(self) -> None:
        try:
            self._client.wait(self._name)
        except Exception:  # whatever it is, the inspection that follows finds out
            pass
        finally:
            self._ended.set()

    def _stop(self) -> None:
        """SIGTERM, the grace, SIGKILL; following events meanwhile."""
        self._kill("SIGTERM")
        deadline = time.monotonic() + _GRACE_SECONDS
        while time.monotonic() < deadline and not self._ended.wait(_POLL_SECONDS):
            self._follower.poll()
        if not self._ended.is_set():
            self._kill("SIGKILL")
            self._ended.wait(_GRACE_SECONDS)

    def _kill(self, name: str) -> None:
        from docker.errors import APIError

        with suppress(APIError):  # not started yet, or ended meanwhile
            self._client.kill(self._name, name)

    def _interrupted(self) -> SynthkitError:
        from docker.errors import DockerException
        from requests.exceptions import RequestException

        # A container that was not started yet is only to be removed; an engine that fails now has been told enough.
        with suppress(DockerException, RequestException, OSError):
            try:
                if self._started:
                    self._stop()
            except KeyboardInterrupt:
                self._kill("SIGKILL")
        return InterruptedRunError(
            "Interrupted.", "The run was stopped; what it had finished is kept.", "Go on with --resume."
        )

    def _remove(self) -> None:
        """Whatever happened, no container stays; not even when the user presses Ctrl-C here as well."""
        from docker.errors import DockerException, NotFound
        from requests.exceptions import RequestException

        # Interrupted while asking for it: the engine may still be about to make it.
        patience = time.monotonic() + (0 if self._created else _CREATION_SECONDS)
        while True:
            try:
                self._client.remove_container(self._name, force=True, v=True)
            except KeyboardInterrupt:
                continue
            except NotFound:
                if time.monotonic() < patience:
                    time.sleep(_POLL_SECONDS)
                    continue
            except (DockerException, RequestException, OSError) as error:
                self.warnings.append(f"The container {self._name} could not be removed ({error}): synthkit doctor.")
            return

    def _ending(self, state: Mapping[str, Any]) -> SynthkitError | None:
        result = self._attempt.result()
        status = int(state["ExitCode"])
        tail = log_tail(self._run)
        if state.get("OOMKilled") and (result is None or result.get("status") != "succeeded"):
            limit = self.inspected["HostConfig"].get("Memory") or 0
            return OutOfMemoryError(
                "The run was killed for want of memory.",
                f"It reached its limit of {limit / 2**30:.1f} GiB, /tmp and shared memory included.",
                "Lower the batch size, or raise --memory.",
                tail,
            )
        if result is not None:
            return None
        if status == _SIGKILL_STATUS:
            return OutOfMemoryError(
                "The container was killed.",
                "Signal 9, sent neither by synthkit nor at the container's own memory limit: the kernel, for want of "
                "memory on the whole machine, or somebody.",
                "Lower the batch size, set --memory, or close other programs.",
                tail,
            )
        why = f"Signal {status - 128}." if 128 < status < 160 else f"Exit status {status}."
        if state.get("Error"):
            why = f"{why} {state['Error']}"
        return ContainerFailedError(
            "The container ended without a result.", why, f"The log may tell: {self._run.path / LOG}.", tail
        )


def start_error(error: Exception, *, gpu: bool) -> SynthkitError:
    """What an engine's refusal to create or start a container means."""
    reason = str(getattr(error, "explanation", "") or error).strip()
    lowered = reason.lower()
    if gpu and any(word in lowered for word in ("device driver", "nvidia", "cdi", "gpu")):
        return GpuUnavailableError(
            "The container engine cannot give a GPU.",
            f"{reason}.",
            "Install the NVIDIA driver and the NVIDIA Container Toolkit, then restart the engine; "
            "or run on the CPU with --gpus none. `synthkit doctor` tells more.",
        )
    if "bind source path does not exist" in lowered or "is not shared" in lowered:
        return BackendUnavailableError(
            "The container engine does not see this machine's files.",
            f"{reason}.",
            "Use an engine on this machine, and share the folder with it (Docker Desktop: Resources, File sharing).",
        )
    if "no space left on device" in lowered:
        return NotWritableError(
            "The container could not be started.",
            "The engine's disk is full.",
            "Free some space; `docker system df` shows what takes it.",
        )
    return ContainerFailedError(
        "The container could not be started.", f"{reason}.", "Look after the engine: `synthkit doctor`."
    )
