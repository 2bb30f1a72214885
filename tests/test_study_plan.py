"""study.toml and its plan: what is refused, what is run, what depends on what."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from synthkit.errors import DataError, PluginError, SynthkitError, UsageError
from synthkit.study.config import Study
from synthkit.study.plan import Plan, check_sizes, make_plan
from synthkit.study.presets import PRESETS, write_preset

SMALL = """
[data]
phantom = 4
size = 32
[generators.stylegan2]
params = { kimg = 1.0 }
[generators.sg3-r]
plugin = "stylegan3"
params = { config = "r" }
training_patients = [2, 1]
[segmenters.unet]
[run]
gpus = 0
"""


def study(folder: Path, text: str = SMALL) -> Study:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.toml").write_text(text)
    return Study.load(folder)


# ------------------------------------------------------------------------------------------------------------- the file


def test_defaults(tmp_path: Path) -> None:
    found = study(tmp_path / "mine")
    assert found.name == "mine"
    assert found.arms == ("real", "stylegan2", "sg3-r", "real+stylegan2", "real+sg3-r")
    assert found.augmentation == ("augmented",)
    assert found.generators["sg3-r"].plugin == "stylegan3"
    assert found.segmenters["unet"].seeds == (0, 1, 2)
    assert found.metrics.overlap == ("dice", "lesion-dice", "lesion-f1", "surface-dice", "hausdorff")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("phantom = 4", "phantom = 4\nsubjects = 'x'"), "either subjects or phantom"),
        (("phantom = 4", ""), "either subjects or phantom"),
        (("size = 32", "siez = 32"), "Did you mean 'size'?"),
        (("size = 32", "size = 48"), "must be one of 32, 64, 128, 256"),
        (("[run]", "[runn]"), "Did you mean run?"),
        (("gpus = 0", "gpus = -1"), "must be at least 0"),
        (("{ kimg = 1.0 }", "{ kimgs = 1.0 }"), "stylegan2 has no parameter 'kimgs'"),
        (("{ kimg = 1.0 }", "{ kimg = -1.0 }"), "must be at least 0"),
        (("{ kimg = 1.0 }", "1"), "is not a table"),
        (("[generators.sg3-r]", "[generators.real]"), "the arm of real images"),
        (("[generators.sg3-r]", "[generators.'a/b']"), "name of a folder"),
        (("[segmenters.unet]", "[segmenters.unet]\nparams = { seed = 3 }"), "by seeds in [arms]"),
        (("[segmenters.unet]", "[segmenters.unet]\nparams = { augment = true }"), "by augmentation in [arms]"),
        (("[run]", "[metrics]\noverlap = ['hausdorff']\n[run]"), "overlap needs dice"),
        (("[run]", "[arms]\nreal = false\nsynthetic = false\nboth = false\n[run]"), "no arm is left"),
        (("[run]", "[arms]\naugmentation = [true, true]\n[run]"), "augmentation is"),
        (("[run]", "[run"), "cannot be read"),
        (("[run]", "[run]\nbackend = 'dokcer'"), "must be one of"),
        (("[run]", "[metrics]\nfidelity = ['dice']\n[run]"), "dice cannot be one of fidelity"),
        (("[run]", "[metrics]\noverlap = ['dice', 'kid']\n[run]"), "kid cannot be one of overlap"),
        (("[run]", "[audit]\npolicy = 'nowhere.toml'\n[run]"), "nowhere.toml cannot be read"),
        (("size = 32", "contrasts = ['t1', 't3']"), "t3"),
        (("size = 32", "intensity = 'p200'"), "p200"),
        (("size = 32", "holdout = '-1'"), "-1"),
        (("phantom = 4", "subjects = '-s'"), "hyphen"),
        (("[2, 1]", "2"), "must be a list, such as [2]"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, change: tuple[str, str], words: str) -> None:
    assert change[0] in SMALL
    with pytest.raises(UsageError) as caught:
        study(tmp_path, SMALL.replace(*change))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        ("[2, 1]", "[2, 2]"),
        ("[generators.stylegan2]", "[generators.sg3-r-2]\nplugin = 'stylegan2'"),
        # unet, stylegan2-sg3-r and unet-stylegan2, sg3-r
        (
            "[segmenters.unet]",
            "[generators.stylegan2-sg3-r]\nplugin = 'stylegan2'\n"
            "[segmenters.unet]\n[segmenters.unet-stylegan2]\nplugin = 'unet'",
        ),
    ],
)
def test_steps_that_would_have_one_name(tmp_path: Path, change: tuple[str, str]) -> None:
    with pytest.raises(UsageError, match="steps of the study would be called"):
        make_plan(study(tmp_path, SMALL.replace(*change)))


def test_a_number_or_a_fraction_to_hold_out(tmp_path: Path) -> None:
    assert study(tmp_path / "a", SMALL.replace("size = 32", "holdout = 0.25")).data.holdout == "0.25"
    assert study(tmp_path / "b", SMALL.replace("size = 32", "holdout = 1")).data.holdout == "1"


def test_a_preset_takes_any_path(tmp_path: Path) -> None:
    subjects = tmp_path / 'sub"j\u00e4\U0001f600 x'
    subjects.mkdir()
    write_preset("akbar2024", tmp_path / "study", subjects)
    assert Study.load(tmp_path / "study").data.subjects == f"../{subjects.name}"


def test_a_plugin_that_is_not_there_is_named_with_its_table(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"\[generators.stylegan9\]") as caught:
        study(tmp_path, SMALL.replace("stylegan2", "stylegan9"))
    assert "stylegan" in caught.value.why
    with pytest.raises(PluginError, match="is a generator, not a segmenter"):
        study(tmp_path, SMALL.replace("segmenters.unet", "segmenters.progan"))
    with pytest.raises(PluginError, match="nonesuch"):
        study(tmp_path, SMALL + "[metrics]\nfidelity = ['nonesuch']\n")


def test_nothing_to_compare_and_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="compares nothing"):
        study(tmp_path, "[data]\nphantom = 3\n")
    with pytest.raises(DataError, match="There is no study"):
        Study.load(tmp_path / "nowhere")


def test_a_segmenter_without_augmentation_or_seed(tmp_path: Path, install_plugins: Callable[..., Any]) -> None:
    from synthkit.testing.toys import SEGMENTER

    install_plugins(SEGMENTER)
    text = SMALL.replace("segmenters.unet", "segmenters.toy-segmenter")
    found = study(tmp_path, text)
    assert found.segmenters["toy-segmenter"].settings == ("seed",)
    trainings = [step.command for step in make_plan(found).steps if step.kind == "train segmenter"]
    assert not any(word.startswith("augment=") for command in trainings for word in command)
    with pytest.raises(UsageError, match="has no parameter augment"):
        study(tmp_path, text + "[arms]\naugmentation = [true, false]\n")


def test_presets(tmp_path: Path) -> None:
    assert write_preset("demo", tmp_path / "demo") == tmp_path / "demo" / "study.toml"
    assert len(Study.load(tmp_path / "demo").generators) == 6
    (tmp_path / "BraTS").mkdir()
    write_preset("akbar2024", tmp_path / "studies" / "akbar", tmp_path / "BraTS")
    assert Study.load(tmp_path / "studies" / "akbar").data.subjects == "../../BraTS"
    for name, subjects in (("nonesuch", None), ("akbar2024", None), ("demo", tmp_path), ("akbar2024", tmp_path / "no")):
        with pytest.raises(UsageError):
            write_preset(name, tmp_path / "other", subjects)
    assert not (tmp_path / "other").exists()
    with pytest.raises(UsageError, match="is there already"):
        write_preset("demo", tmp_path / "demo")
    assert PRESETS == ("demo", "week", "akbar2024")


def test_orientation_and_spacing_reach_prepare(tmp_path: Path) -> None:
    text = SMALL.replace("[data]\n", '[data]\norientation = "as-stored"\nspacing = "1,1,5"\n')
    step = make_plan(study(tmp_path, text)).of_kind()["prepare"][0]
    assert "--orientation as-stored --spacing 1,1,5" in " ".join(step.command)
    for wrong in ('orientation = "RAS"', 'spacing = "x"'):
        with pytest.raises(UsageError):
            study(tmp_path, SMALL.replace("[data]\n", f"[data]\n{wrong}\n"))


# ------------------------------------------------------------------------------------------------------------- the plan


def test_a_week_of_one_gpu_is_planned_as_one(tmp_path: Path) -> None:
    (tmp_path / "BraTS").mkdir()
    file = write_preset("week", tmp_path / "study", tmp_path / "BraTS")
    wanted = Study.load(tmp_path / "study")
    steps = make_plan(wanted).steps
    hours = sum(step.gpu_hours or 0 for step in steps)
    assert 150 < hours <= 7 * 24 and f"says {hours:.0f} hours" in file.read_text()
    assert wanted.n_samples == 10_000 and wanted.generators["diffusion"].params["sampler_steps"] == 25
    assert {step.kind for step in steps} >= {"audit", "fidelity", "train segmenter"}


def test_counts_of_the_published_study(tmp_path: Path) -> None:
    (tmp_path / "BraTS").mkdir()
    write_preset("akbar2024", tmp_path / "study", tmp_path / "BraTS")
    kinds = make_plan(Study.load(tmp_path / "study")).of_kind()
    assert "--orientation as-stored" in " ".join(kinds["prepare"][0].command)  # bit for bit the study's
    unet = [step for step in kinds["train segmenter"] if step.command[1] == "unet"]
    assert len(unet) == (1 + 5 + 5) * 2 * 10
    assert sum(step.gpu_hours or 0 for step in unet) == 220 * 72
    assert {kind: len(steps) for kind, steps in kinds.items()} == {
        "prepare": 1, "keep": 1, "train generator": 5, "generate": 5, "fidelity": 5, "audit": 5,
        "train segmenter": 440, "segment": 440, "evaluate": 440,
    }  # fmt: skip
    # Five channels of 256 x 256 bytes, a fifth of that when compressed.
    assert kinds["generate"][0].disk_bytes == pytest.approx(100_000 * 5 * 65536 / 5)


def test_commands(tmp_path: Path) -> None:
    steps = {step.name: step for step in make_plan(study(tmp_path)).steps}
    assert steps["train-stylegan2"].command == (
        "train", "stylegan2", "data/real", "-p", "kimg=1.0", "-o", "generators/stylegan2/train",
    )  # fmt: skip
    assert steps["prepare-2"].command[-2:] == ("--training-patients", "2")
    told = make_plan(study(tmp_path / "told", SMALL.replace("size = 32", "size = 32\npatients = 'who.csv'"))).steps
    prepared = next(step.command for step in told if step.name == "prepare-2")
    assert prepared[prepared.index("--patients") + 1] == "who.csv" and prepared[-2:] == ("--training-patients", "2")
    assert steps["train-sg3-r-2"].command[:3] == ("train", "stylegan3", "data/real-2")
    assert steps["audit-sg3-r-2"].command[1:3] == ("data/real-2", "generators/sg3-r/sizes/2/samples")
    both = steps["train-unet-real+sg3-r-augmented-seed-1"]
    assert both.command[:4] == ("train", "unet", "data/real", "generators/sg3-r/samples")
    assert both.command[-6:-2] == ("-p", "augment=true", "-p", "seed=1")
    alone = steps["train-unet-sg3-r-augmented-seed-1"]
    assert alone.command[:3] == ("train", "unet", "generators/sg3-r/samples")
    assert all(step.gpus == 0 and step.gpu_hours == 0 for step in steps.values())  # gpus = 0 in [run]


def test_what_depends_on_a_generator(tmp_path: Path) -> None:
    plan = make_plan(study(tmp_path))
    dependent = plan.depending_on(["train-stylegan2"])
    assert dependent == {step.name for step in plan.steps if "stylegan2" in step.name}
    changed = make_plan(study(tmp_path, SMALL.replace("kimg = 1.0", "kimg = 2.0")))
    assert changed_steps(plan, changed) == {"train-stylegan2"}


def changed_steps(one: Plan, other: Plan) -> set[str]:
    before = {step.name: step.command for step in one.steps}
    return {step.name for step in other.steps if before.get(step.name) != step.command}


def test_a_size_that_a_generator_cannot_make(tmp_path: Path) -> None:
    assert check_sizes(study(tmp_path)) == []


@settings(max_examples=40, deadline=None)
@given(
    generators=st.lists(st.sampled_from(["progan", "stylegan1", "stylegan2", "diffusion"]), unique=True, max_size=3),
    segmenters=st.lists(st.sampled_from(["unet", "swin"]), unique=True, max_size=2),
    arms=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    augmentation=st.sampled_from(["[true]", "[false]", "[true, false]"]),
    seeds=st.integers(1, 3),
    sizes=st.lists(st.integers(1, 9), unique=True, max_size=2),
)
def test_every_plan_can_be_done(
    tmp_path_factory: pytest.TempPathFactory,
    generators: list[str],
    segmenters: list[str],
    arms: tuple[bool, bool, bool],
    augmentation: str,
    seeds: int,
    sizes: list[int],
) -> None:
    names = dict(zip(("real", "synthetic", "both"), (str(arm).lower() for arm in arms), strict=True))
    text = "[data]\nphantom = 9\nsize = 32\n[arms]\n" + "".join(f"{key} = {value}\n" for key, value in names.items())
    text += f"augmentation = {augmentation}\nseeds = {seeds}\n"
    text += "".join(f"[generators.{name}]\ntraining_patients = {sizes}\n" for name in generators)
    text += "".join(f"[segmenters.{name}]\n" for name in segmenters)
    try:
        plan = make_plan(study(tmp_path_factory.mktemp("study"), text))
    except SynthkitError:
        assert not any(arms) or not (generators or segmenters)
        return
    made: dict[str, str] = {}
    for step in plan.steps:
        assert step.name not in made and "/" not in step.name
        before = {made[name] for name in step.after}  # what comes before is there already
        read = [word for word in step.command[1:-2] if word.startswith(("data/", "generators/", "segmenters/"))]
        assert set(read) - {str(step.out)} <= before
        made[step.name] = str(step.out)
    outs = [Path(out) for out in made.values()]
    assert len(set(outs)) == len(outs)
    assert not any(one != other and one.is_relative_to(other) for one in outs for other in outs)


@pytest.mark.parametrize("command", [("plan",), ("run", "--dry-run")])
def test_a_plan_says_where_snakemake_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    from synthkit.cli import app
    from synthkit.cli.console import Console
    from synthkit.study import workflow

    monkeypatch.setattr(Console, "_document_printed", False)  # once a process
    study(tmp_path / "s", SMALL)
    monkeypatch.setattr(workflow, "find_spec", lambda name: None)
    done = CliRunner().invoke(app, ["study", command[0], str(tmp_path / "s"), *command[1:], "--json"])
    assert done.exit_code == 0 and "synthkit-core[study]" in done.stderr
    assert json.loads(done.stdout)["steps"]
