"""What makes a training step slow on a GPU is found without one: a fault of each kind, planted in a step."""

from __future__ import annotations

from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch")
from synthkit_torch.on_device import assert_stays_on_the_device  # noqa: E402
from torch import Tensor, nn  # noqa: E402


class Training:
    """A layer that learns to give 0, and a fault beside it."""

    def __init__(self, device: torch.device, fault: Callable[[Tensor], Tensor]) -> None:
        self.layer, self.fault = nn.Conv2d(2, 2, 3).to(device), fault
        self.optimisers = {"layer": torch.optim.Adam(self.layer.parameters())}

    def training_step(self, real: Tensor) -> dict[str, Tensor]:
        loss = self.fault(self.layer(real)).square().mean()
        loss.backward()
        self.optimisers["layer"].step()
        return {"loss": loss.detach()}


def look(fault: Callable[[Tensor], Tensor]) -> None:
    assert_stays_on_the_device(lambda device: Training(device, fault), (4, 2, 34, 34))


def test_a_step_without_fault() -> None:
    look(lambda images: images)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (lambda images: images * torch.ones(32), "CPU|meta"),
        (lambda images: images * torch.from_numpy(torch.ones(32).numpy()).to(images.device), "on the CPU"),
        (lambda images: images * images.double(), "float64"),
        (lambda images: images * images.mean().item(), "meta"),
        (lambda images: images if images.mean() > 0 else -images, "meta"),
        (lambda images: images * float(len(images.sum(dim=(1, 2, 3)).tolist())), "meta"),
    ],
    ids=["left on the CPU", "uploaded in each step", "float64", "item", "a condition", "tolist"],
)
def test_a_fault_is_found(fault: Callable[[Tensor], Tensor], said: str) -> None:
    with pytest.raises((AssertionError, RuntimeError, NotImplementedError), match=said):
        look(fault)
