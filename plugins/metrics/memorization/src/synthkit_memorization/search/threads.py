"""Work shared by threads of our own, each with a linear algebra of one thread.

The products of the search are many and small. Handed to several threads each, they wait for one another, on a busy
machine for most of the time; the same threads with a part of the images each never do.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import cache
from typing import TypeVar

from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

Result = TypeVar("Result")

#: What the names of these threads begin with; work that one of them hands out it does itself.
NAME = "synthkit-search"


def n_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def for_each(function: Callable[[slice], Result], n: int, step: int, parts_a_core: int = 4) -> list[Result]:
    """Call ``function`` with consecutive slices of ``range(n)``, at most ``step`` long, in as many threads as cores.

    Few ``parts_a_core`` for work that is the same in all, more for work that differs.
    """
    step = max(16, min(step, -(-n // (parts_a_core * n_cores()))))
    parts = [slice(first, min(first + step, n)) for first in range(0, n, step)]
    with one_thread():
        if len(parts) < 2 or threading.current_thread().name.startswith(NAME):
            return [function(part) for part in parts]
        return list(_threads().map(function, parts))


@cache
def _threads() -> ThreadPoolExecutor:
    """Kept for the whole process: an audit hands out thousands of small works, and starting threads would cost more."""
    return ThreadPoolExecutor(n_cores(), thread_name_prefix=NAME)


# A forked process has none of the threads.
os.register_at_fork(after_in_child=_threads.cache_clear)


def one_thread() -> AbstractContextManager[object]:
    """Within it the linear algebra uses no threads."""
    limited: AbstractContextManager[object] = _controller().limit(limits=1, user_api="blas")
    return limited


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()
