"""Where fused operators are used."""

from __future__ import annotations

import sys
from unittest import mock

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
from synthkit_torch import fused  # noqa: E402
from synthkit_torch.fused import fused_operators, is_fused  # noqa: E402


def test_a_cpu_has_none() -> None:
    assert not is_fused(torch.ones(2))


@pytest.mark.parametrize(("capability", "has"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_from_ampere_on(capability: tuple[int, int], has: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setitem(sys.modules, "triton.runtime", mock.MagicMock())
    for there in (True, False):
        monkeypatch.setattr(fused.importlib.util, "find_spec", lambda name, there=there: there or None)
        assert fused.has_kernels.__wrapped__(torch.device("cuda", 0)) == (has and there)


def test_without_a_c_compiler_plain_torch_is_used_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime, said = mock.MagicMock(), []
    runtime.driver.active.get_current_target.side_effect = RuntimeError("Failed to find C compiler.\nMore.")
    monkeypatch.setitem(sys.modules, "triton.runtime", runtime)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(fused.importlib.util, "find_spec", lambda name: True)
    monkeypatch.setattr(fused.synthkit, "message", said.append)
    assert not fused.has_kernels.__wrapped__(torch.device("cuda", 0))
    assert fused.why_none(torch.device("cpu")) == "not an NVIDIA GPU"
    assert len(said) == 1 and "Failed to find C compiler.)" in said[0] and "More" not in said[0]


def test_a_parameter_turns_them_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "has_kernels", lambda device: True)
    x = torch.ones(2)
    assert is_fused(x) and not is_fused(x.double())
    with fused_operators(False):
        with fused_operators(True):
            assert is_fused(x)
        assert not is_fused(x)
    assert is_fused(x)
