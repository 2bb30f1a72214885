"""Whether a training step would leave the GPU: looked for without one, on torch's meta device. For tests.

Tensors on the meta device have shapes and types, but no numbers. A step that runs there reads no number back
(``.item()``, ``.tolist()``, a condition on a tensor: each would have the host wait for the GPU), and mixes no tensor of
the CPU into its arithmetic. What torch would do all the same, silently and slowly, is noted: arithmetic in float64, and
arrays that are uploaded anew in each step.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol
from unittest import mock

import torch
from torch import Tensor
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode

from synthkit_torch import streams

META = torch.device("meta")
#: So many numbers may be float64, as sums over an image are: a GPU has slow units for it, but has them.
FEW = 1000


class Steps(Protocol):
    """What is looked at: a training of networks on the meta device."""

    @property
    def optimisers(self) -> Mapping[str, torch.optim.Optimizer]: ...

    def training_step(self, real: Tensor) -> Mapping[str, Tensor]: ...


class Watch(TorchDispatchMode):
    """Notes operators whose result is an array of float64, or lies on the CPU and is more than a single number."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.faults: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in _pytree.tree_leaves(made):
            if isinstance(tensor, Tensor):
                if tensor.dtype is torch.float64 and tensor.numel() > FEW:
                    self.faults.append(f"{func} in float64")
                if tensor.device != META and tensor.dim() > 0:
                    self.faults.append(f"{func} on the CPU")
        return made


class _Stream(torch.Generator):
    """A random stream on the meta device, of which torch has none: it takes that of any other, and draws nothing."""

    device = META  # type: ignore[assignment]


@contextmanager
def nothing_drawn() -> Iterator[None]:
    """Random streams are of the meta device."""
    ours = [module for name, module in sys.modules.items() if name.startswith("synthkit")]
    users = [module for module in ours if getattr(module, "stream", None) is streams.stream]
    with ExitStack() as stack:
        for module in users:
            stack.enter_context(mock.patch.object(module, "stream", lambda device, *key: _Stream()))
        yield


def assert_stays_on_the_device(make: Callable[[torch.device], Steps], shape: tuple[int, ...], n_steps: int = 1) -> None:
    """The first steps of a training on ``shape``, ``(n, channel, y, x)``, need nothing of the host.

    ``make`` builds the training for a device. Optimisers do not step: their own operators are torch's.
    """
    with nothing_drawn(), ExitStack() as stack:
        training = make(META)
        for optimiser in training.optimisers.values():
            stack.enter_context(mock.patch.object(optimiser, "step"))
        real = torch.empty(shape, device=META)
        with Watch() as watch:
            for _ in range(n_steps):
                values = training.training_step(real)
        assert not watch.faults, sorted(set(watch.faults))
        assert all(value.device == META for value in values.values()), values
