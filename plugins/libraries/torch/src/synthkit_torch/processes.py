"""One piece of work in several processes of this machine: started here, watched, and stopped together.

For methods that train on several GPUs, one process a GPU. The processes find one another through a file, as there is
one machine and a run has no network. Their errors come back as they are; what they report goes to the run's
``events.jsonl`` by the process of rank 0.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from synthkit import events
from synthkit.errors import PluginError, SynthkitError

#: ``work(plan, rank, n, rendezvous)``: what the process ``rank`` of ``n`` does; ``rendezvous`` is a path for all of
#: them, where there is no file yet.
Work = Callable[[Any, int, int, Path], None]


def launch(work: Work, plan: Any, n: int) -> None:
    """Do ``work`` in ``n`` fresh processes and return when all are done. The first error of one ends all and is raised.

    ``work`` and ``plan`` can be pickled.
    """
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        ends = [context.Pipe(duplex=False) for _ in range(n)]
        workers = [
            context.Process(
                target=_work, args=(work, plan, rank, n, Path(folder) / "rendezvous", events.outputs(), ends[rank][1])
            )
            for rank in range(n)
        ]
        try:
            for worker, (_, theirs) in zip(workers, ends, strict=True):
                worker.start()
                theirs.close()
            _watch(dict(zip((ours for ours, _ in ends), workers, strict=True)))
        finally:
            for worker in workers:
                if worker.is_alive():
                    worker.kill()  # it may wait for one that is gone, and would wait on
                if worker.pid is not None:
                    worker.join()


def _watch(workers: dict[Any, Any]) -> None:
    """Wait until every worker has said that it is done; raise the first error."""
    while workers:
        reports = [_report(connection, workers.pop(connection)) for connection in wait(list(workers))]
        if errors := [error for error in reports if error is not None]:
            # What one process found wrong, rather than that another lost the connection to it.
            raise next((error for error in errors if isinstance(error, SynthkitError)), errors[0])


def _report(connection: Any, worker: Any) -> BaseException | None:
    try:
        error: BaseException | None = connection.recv()
    except EOFError:
        worker.join()
        return PluginError(
            "A process of the training ended without a word.",
            f"Its exit code is {worker.exitcode}; -9 means that it was killed, most often for want of memory.",
            "Run the same command with --resume, with fewer GPUs (--gpus) or more memory (--memory).",
        )
    return error


def _work(work: Work, plan: Any, rank: int, n: int, rendezvous: Path, outputs: Path | None, reports: Any) -> None:
    # Without a network there is the loopback device alone, which neither library would choose by itself.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")
    try:
        with _reporting(outputs if rank == 0 else None):
            work(plan, rank, n, rendezvous)
    except BaseException as error:
        reports.send(_portable(error))
        return
    reports.send(None)


@contextmanager
def _reporting(outputs: Path | None) -> Iterator[None]:
    if outputs is None:
        yield
        return
    with events.logging_to(outputs.parent / "events.jsonl"):
        yield


def _portable(error: BaseException) -> BaseException:
    """The error, without what cannot travel between processes."""
    error.__traceback__ = None
    try:
        pickle.loads(pickle.dumps(error))  # an exception may be written and yet not read
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
