"""Work shared by threads of our own, each with a linear algebra of one thread.

The products of the search are many and small. Handed to several threads each, they wait for one another, on a busy
machine for most of the time; the same threads with a part of the images each never do.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import cache
from typing import TypeVar

from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

Result = TypeVar("Result")


def n_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def for_each(function: Callable[[slice], Result], n: int, step: int, parts_a_core: int = 4) -> list[Result]:
    """Call ``function`` with consecutive slices of ``range(n)``, at most ``step`` long, in as many threads as cores.

    Few ``parts_a_core`` for work that is the same in all, more for work that differs.
    """
    step = max(16, min(step, -(-n // (parts_a_core * n_cores()))))
    with one_thread(), ThreadPoolExecutor(n_cores()) as pool:
        return list(pool.map(function, (slice(first, min(first + step, n)) for first in range(0, n, step))))


def one_thread() -> AbstractContextManager[object]:
    """Within it the linear algebra uses no threads."""
    limited: AbstractContextManager[object] = _controller().limit(limits=1, user_api="blas")
    return limited


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()
