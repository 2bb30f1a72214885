# ruff: noqa: E402 (imports follow the check for torch)
"""The check of GPUs, with the CPU in both roles, and what it tells of drivers and builds by their numbers."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from synthkit_generative import preflight, resampling
from synthkit_generative.preflight import compare, has_code, look_at_comparison, look_at_driver, look_at_files

CPU = torch.device("cpu")


def test_a_cpu_computes_what_a_cpu_computes() -> None:
    comparison = compare(CPU)
    assert comparison["equal"] and not any(comparison["differences"].values())
    assert look_at_comparison("CPU", comparison)["state"] == "ok"


def test_bfloat16_passes_and_is_told_apart_from_float32() -> None:
    comparison = compare(CPU, torch.bfloat16)
    assert comparison["equal"] and comparison["differences"]["losses"] > 1e-5


@pytest.mark.parametrize("wrong", [1.02, float("nan")])
def test_a_wrong_operator_is_found(wrong: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a GPU would be wrong: the reference is computed first, then the operator errs."""
    right, calls = preflight.train_and_draw, []

    def train_and_draw(device, precision=torch.float32):
        calls.append(device)
        if len(calls) == 2:
            by = resampling.by_convolution
            monkeypatch.setattr(resampling, "by_convolution", lambda x, how: by(x, how) * wrong)
        return right(device, precision)

    monkeypatch.setattr(preflight, "train_and_draw", train_and_draw)
    comparison = compare(CPU)
    finding = look_at_comparison("GPU 0", comparison)
    json.dumps(comparison, allow_nan=False)
    assert not comparison["equal"] and finding["state"] == "broken" and "fused=false" in finding["remedy"]


@pytest.mark.parametrize(
    ("version", "cuda", "state"),
    [
        ("580.65.06", "13.0", "ok"),
        ("575.57.08", "13.0", "broken"),
        ("525.60.13", "12.6", "ok"),
        ("470.10", "12.6", "broken"),
        ("470.10", None, "ok"),
        ("", "13.0", "missing"),
        ("580.65.06", "99.0", "missing"),
    ],
)
def test_drivers(version: str, cuda: str | None, state: str) -> None:
    finding = look_at_driver(version, cuda)
    assert finding["state"] == state and bool(finding["remedy"]) == (state != "ok")


@pytest.mark.parametrize(
    ("capability", "architectures", "runs"),
    [
        ((8, 6), ["sm_80", "sm_90"], True),
        ((8, 0), ["sm_86"], False),
        ((7, 0), ["sm_75", "sm_80", "sm_90"], False),
        ((9, 0), ["sm_90a"], True),
        ((9, 1), ["sm_90a"], False),
        ((12, 1), ["sm_120"], True),
        ((12, 0), ["sm_90", "compute_90"], True),
        ((6, 1), ["compute_90", "nonsense"], False),
    ],
)
def test_which_code_runs_where(capability: tuple[int, int], architectures: list[str], runs: bool) -> None:
    assert has_code(capability, architectures) == runs


def test_device_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert look_at_files(tmp_path)["state"] == "missing"
    (tmp_path / "nvidia0").touch()
    (tmp_path / "nvidiactl").touch()
    assert look_at_files(tmp_path)["found"] == "nvidia0"
    monkeypatch.setattr(preflight.os, "access", lambda path, mode: False)
    finding = look_at_files(tmp_path)
    assert finding["state"] == "broken" and str((tmp_path / "nvidia0").stat().st_gid) in finding["remedy"]


def test_without_a_gpu_it_says_what_it_would_have_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    document = preflight.examine()
    planned = [item for item in document["findings"] if item["found"].startswith("not done")]
    assert len(planned) == len(preflight.PLAN) and document["gpus"] == []


def test_what_is_told_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the CPU as the GPU, which is one that has kernels, and one that has none."""
    facts = SimpleNamespace(name="Card", major=8, minor=6, total_memory=24 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: facts)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 2**30)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_80", "sm_90"])
    about, findings = preflight.look_at_gpu(0, CPU)
    json.dumps(about)
    assert {item["state"] for item in findings} == {"ok"}
    seen = {item["what"].removeprefix("GPU 0 (Card): "): item["found"] for item in findings}
    assert list(seen) == ["kernels", "first kernel", "own kernels", "float32"]
    assert "not an NVIDIA GPU" in seen["own kernels"]
    facts.major = 7
    about, findings = preflight.look_at_gpu(0, CPU)
    assert [item["state"] for item in findings] == ["broken"] and "12.6" in findings[0]["remedy"]
