"""What people type when they know other tools: the message names what they meant."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from synthkit.cli.options import seconds_of
from synthkit.errors import PluginError, UsageError
from synthkit.registry.parameters import make_params
from synthkit.registry.registry import Registry
from synthkit.testing.toys import GENERATOR, SEGMENTER, SLICE_METRIC

NAMES = ("stylegan1", "stylegan2", "stylegan3", "fid")
REGISTRY = Registry({**{d.name: d for d in (GENERATOR, SEGMENTER, SLICE_METRIC)}, **dict.fromkeys(NAMES, GENERATOR)})


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("stylegan", "Did you mean stylegan1 or stylegan2 or stylegan3?"),
        ("StyleGAN2", "Did you mean stylegan2?"),
        ("FID", "Did you mean fid?"),
        ("toy-generater", "Did you mean toy-generator?"),
        ("data/real", "It looks like a path."),
        ("runs/unet.old", "It looks like a path."),
        ("nothing-like-it", "Installed: "),
    ],
)
def test_names_of_plugins(typed: str, why: str) -> None:
    with pytest.raises(PluginError, match=re.escape(f"called {typed!r}")) as caught:
        REGISTRY.get(typed)
    assert caught.value.why.startswith(why)


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ({"epochs": "3"}, "Did you mean 'passes'?"),
        ({"passes": "many"}, "It must be a number."),
        ({"passes": "2.5"}, "It must be a whole number."),
    ],
)
def test_parameters(typed: dict[str, str], why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules["synthkit.registry.parameters"]._ALSO_CALLED, "epochs", ("kimg", "passes"))
    with pytest.raises(UsageError) as caught:
        make_params(GENERATOR, typed)
    assert caught.value.why == why


@pytest.mark.parametrize(
    ("typed", "seconds"),
    [("90", 90), ("45s", 45), ("90m", 5400), ("1.5h", 5400), ("12h", 43200), ("3d", 259_200), (" 2 H ", 7200)],
)
def test_times(typed: str, seconds: float) -> None:
    assert seconds_of(typed) == seconds


@pytest.mark.parametrize("typed", ["1w", "h", "", "-1h", "0", "1h30m", "nan", "inf"])
def test_what_is_not_a_time(typed: str) -> None:
    with pytest.raises(UsageError, match="is not a time"):
        seconds_of(typed)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["audit", "data"], "Did you mean audit-memorization?"),
        (["Prepare", "data"], "Did you mean prepare?"),
        (["trian", "unet"], "Did you mean train"),
        (["frobnicate"], "`synthkit --help` lists all commands"),
    ],
)
def test_commands(typed: list[str], said: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "synthkit", *typed], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2 and f"There is no command {typed[0]!r}" in done.stderr and said in done.stderr
