"""What a run of a metric keeps for others: made once, given to those that score, refused where it is another."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthkit import Kept, api
from synthkit.errors import DataError, PluginError, UsageError
from synthkit.reproduce.repeat import verify_run
from synthkit.study.config import Study
from synthkit.study.plan import make_plan
from synthkit.testing import data
from synthkit.testing.toys import KEEPING_METRIC, SLICE_METRIC, keeping_metric

KEPT = Path("outputs", "kept", "arrays.npz")


@pytest.fixture(autouse=True)
def _toys(install_plugins: Callable[..., Any]) -> None:
    install_plugins(KEEPING_METRIC, SLICE_METRIC)


@pytest.fixture
def real() -> Path:
    return data.real_dataset(4, 32).path


def evaluate(out: Path, metric: str = "toy-distance", **given: Any) -> dict[str, Any]:
    return api.evaluate([metric], out, **{"backend": "inline", "gpus": "none", **given})[0].result


def test_a_run_that_keeps_and_one_that_is_given_it(tmp_path: Path, real: Path, monkeypatch: Any) -> None:
    synthetic = data.synthetic_dataset(4, 32).path
    kept = evaluate(tmp_path / "kept", real=real, keep=True)
    assert kept["scores"] == [] and list(kept["outputs"]) == ["kept"]
    plain = evaluate(tmp_path / "plain", real=real, synthetic=synthetic)
    means: list[Any] = []
    monkeypatch.setattr(
        keeping_metric, "_mean", lambda source, mean=keeping_metric._mean: means.append(1) or mean(source)
    )
    given = evaluate(tmp_path / "given", real=real, synthetic=synthetic, kept=tmp_path / "kept")
    assert given["scores"] == plain["scores"] and len(means) == 1  # of the synthetic images
    job = json.loads((tmp_path / "given" / "job.json").read_text())
    assert "--kept" in job["command"] and job["inputs"]["kept"]["digest"].startswith("sha256:")
    assert (tmp_path / "given" / "inputs" / "kept").resolve() == (tmp_path / "kept" / KEPT).resolve()
    for name in ("kept", "given"):
        assert verify_run(tmp_path / name, on_event=lambda event: None).same


def test_what_is_kept_of_other_images_or_changed_is_refused(tmp_path: Path, real: Path) -> None:
    synthetic = data.synthetic_dataset(4, 32).path
    evaluate(tmp_path / "kept", real=data.constant_dataset(3, 4, 32, "train").path, keep=True)
    with pytest.raises(DataError, match="of other images"):
        evaluate(tmp_path / "a", real=real, synthetic=synthetic, kept=tmp_path / "kept")
    # What the message advises.
    evaluate(tmp_path / "b", real=real, keep=True)
    assert evaluate(tmp_path / "c", real=real, synthetic=synthetic, kept=tmp_path / "b")["scores"]
    with np.load(tmp_path / "b" / KEPT) as arrays:
        np.savez(tmp_path / "b" / KEPT, **{**arrays, "mean": arrays["mean"] + 1})
    with pytest.raises(DataError, match="has changed"):
        evaluate(tmp_path / "d", real=real, synthetic=synthetic, kept=tmp_path / "b")
    with pytest.raises(DataError, match="keeps nothing for toy-distance"):
        evaluate(tmp_path / "e", real=real, synthetic=synthetic, kept=tmp_path / "c")
    assert not (tmp_path / "d").exists() and not (tmp_path / "e").exists()


def test_options_that_do_not_go_together(tmp_path: Path, real: Path) -> None:
    synthetic = data.synthetic_dataset(4, 32).path
    for metric, given, words in (
        ("toy-distance", {"synthetic": synthetic, "keep": True}, "do not go together"),
        ("toy-shift", {"keep": True}, "toy-shift keeps nothing"),
        ("toy-shift", {"synthetic": synthetic, "kept": tmp_path}, "takes nothing that other runs kept"),
        ("toy-distance", {}, "compares real and synthetic"),
    ):
        with pytest.raises(UsageError, match=words):
            evaluate(tmp_path / "run", metric, real=real, **given)
    assert not (tmp_path / "run").exists()


def test_objects_are_not_kept(tmp_path: Path, real: Path, monkeypatch: Any) -> None:
    def score(**given: Any) -> Iterator[Kept]:
        yield Kept(arrays={"who": np.array([{}])})

    monkeypatch.setattr(keeping_metric, "score", score)
    with pytest.raises(PluginError, match="keeps objects in who"):
        evaluate(tmp_path / "kept", real=real, keep=True)


def test_a_study_looks_at_its_real_slices_once(tmp_path: Path) -> None:
    text = '[data]\nphantom = 4\n[generators.progan]\n[segmenters.unet]\n[metrics]\nfidelity = ["toy-distance"]\n'
    plans = []
    for more in ("", "[generators.stylegan2]\n"):
        (tmp_path / "study.toml").write_text(text + more)
        plans.append({step.name: step for step in make_plan(Study.load(tmp_path)).steps})
    assert plans[0]["fidelity-progan"] == plans[1]["fidelity-progan"]  # another generator changes no step of this one
    assert plans[1]["keep-real"].after == ("phantom", "prepare")
    for name in ("progan", "stylegan2"):
        step = plans[1][f"fidelity-{name}"]
        assert "keep-real" in step.after and step.arguments["kept"] == "data/kept"
