"""What errors advise is done as they say it, and helps.

Each case is an input, the command that refuses it, and what is then done: by default the options that the message
names are added to the command.
"""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from synthkit import cli
from synthkit.data.dataset import Dataset
from synthkit.errors import explain, reason_of
from synthkit.running.verbs.boundary import _plugin_error
from synthkit.testing.toys import GENERATOR

MakeSubject = Callable[..., Path]
ROOT = Path(__file__).parents[1]
SMALL = ("--size", "32", "--brain-fraction", "0.001")
NONE_HELD = ("--holdout", "0")


@dataclass
class World:
    """A folder to work in, and what makes subjects."""

    root: Path
    make: MakeSubject
    repair: list[Callable[[], object]] = field(default_factory=list)

    @property
    def subjects(self) -> Path:
        return self.root / "subjects"

    @property
    def out(self) -> Path:
        return self.root / "out"

    def prepare(self, *more: object) -> list[object]:
        return ["prepare", self.subjects, "-o", self.out, *more]

    def imported(self, *more: object) -> list[object]:
        return ["import", self.root / "pictures", "-o", self.out, *more]


def run(arguments: list[object], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    capsys.readouterr()
    code = 0
    try:
        code = cli.app([str(argument) for argument in arguments], standalone_mode=False) or 0
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException as error:
        known = explain(error)
        return int(known.exit_code), "\n".join([str(known), *known.details])
    printed = capsys.readouterr()
    return int(code), printed.err + printed.out


def advised(text: str) -> list[str]:
    """The options that a message names with their values; of the same option the first."""
    found: dict[str, list[str]] = {}
    for option, value in re.findall(
        r"(--[a-z][a-z-]+)(?:[ =]([A-Za-z0-9_.,=:/-]*[A-Za-z0-9_])(?=[\s,;:.)`]|$))?", text
    ):
        if option == "--skip-bad" or re.fullmatch(r"(?:without-labels|overwrite|resume)", option[2:]):
            value = ""
        found.setdefault(option, [option, *([value] if value else [])])
    return [part for parts in found.values() for part in parts]


# ------------------------------------------------------------------------------------------------------------ prepare


def _z_scores(world: World) -> list[object]:
    rng = np.random.default_rng(0)
    scores = np.zeros((24, 20, 4), np.float32)
    scores[2:-2, 2:-2] = rng.normal(size=(20, 16, 4))
    world.make(world.subjects, "A", **dict.fromkeys(("t1", "t1ce", "t2", "flair"), scores))
    return world.prepare(*SMALL, *NONE_HELD)


def _one_bad(world: World) -> list[object]:
    world.make(world.subjects, "A")
    (world.make(world.subjects, "B") / "B_t2.nii.gz").write_bytes(b"nothing")
    return world.prepare(*SMALL, *NONE_HELD)


def _two_of_one(world: World) -> list[object]:
    folder = world.make(world.subjects, "P01")
    shutil.copy(folder / "P01_t1.nii.gz", folder / "P01_again_t1.nii.gz")
    return world.prepare(*SMALL, *NONE_HELD)


def _too_small(world: World) -> list[object]:
    world.make(world.subjects, "A")
    return world.prepare("--size", "32", *NONE_HELD)


def _too_small_and_dark(world: World) -> list[object]:
    world.make(world.subjects, "A")
    return world.prepare("--size", "32", "--brain-threshold", "254.9", *NONE_HELD)


def _one_bright_voxel(world: World) -> list[object]:
    rng = np.random.default_rng(0)
    t1 = np.zeros((160, 160, 4), np.int16)
    t1[8:-8, 8:-8] = 100 + rng.integers(0, 50, (144, 144, 4))
    t1[80, 80, 1] = 5000
    empty = np.zeros(t1.shape, np.uint8)
    world.make(world.subjects, "A", shape=t1.shape, t1=t1, seg=empty)
    return world.prepare("--size", "32", *NONE_HELD)


def _dark_by_every_rule(world: World) -> list[object]:
    t1 = np.zeros((160, 160, 4), np.int16)
    t1[8:-8, 8:-8] = 10 + np.arange(144)[:, None, None] % 6
    t1[80:, 8:-8] += 190
    t1[-8:] = 0
    world.make(world.subjects, "A", shape=t1.shape, t1=t1, seg=np.zeros(t1.shape, np.uint8))
    return world.prepare("--size", "32", "--brain-fraction", "0.25", "--brain-threshold", "200", *NONE_HELD)


def _one_subject(world: World) -> list[object]:
    world.make(world.subjects, "A")
    return world.prepare(*SMALL)


def _all_held_out(world: World) -> list[object]:
    for name in "ABC":
        world.make(world.subjects, f"{name}")
    return world.prepare(*SMALL, "--holdout", "3")


def _open_patients(world: World) -> list[object]:
    for n, name in enumerate(("P012-1", "P012-2", "P013-1", "P014-1")):
        world.make(world.subjects, name, shape=(24, 20, 4 + n))
    return world.prepare(*SMALL, *NONE_HELD)


def _taken(world: World) -> list[object]:
    world.make(world.subjects, "A")
    assert cli.app([str(a) for a in world.prepare(*SMALL, *NONE_HELD)], standalone_mode=False) in (None, 0)
    return world.prepare(*SMALL, *NONE_HELD)


# ------------------------------------------------------------------------------------------------------------- import


def _pictures(world: World, folders: tuple[str, ...] = ("T1", "T1CE", "T2", "FLAIR", "Seg")) -> None:
    rng = np.random.default_rng(0)
    for folder in folders:
        (world.root / "pictures" / folder).mkdir(parents=True)
        for n in range(2):
            grey = rng.integers(0, 200, (32, 32), dtype=np.uint8)
            grey = np.where(grey > 150, 51 * 2, 0).astype(np.uint8) if folder == "Seg" else grey
            Image.fromarray(grey).save(world.root / "pictures" / folder / f"s{n}_{folder}.png")


def _no_labels(world: World) -> list[object]:
    _pictures(world, ("T1", "T1CE", "T2", "FLAIR"))
    return world.imported()


def _sixteen_bits(world: World) -> list[object]:
    _pictures(world)
    for n in range(2):
        grey = np.random.default_rng(n).integers(0, 4000, (32, 32)).astype(np.uint16)
        Image.fromarray(grey).save(world.root / "pictures" / "T1" / f"s{n}_T1.png")
    for folder in ("T1CE", "T2", "FLAIR"):
        shutil.rmtree(world.root / "pictures" / folder)
    return world.imported()


def _blurred_labels(world: World) -> list[object]:
    _pictures(world)
    for n in range(2):
        grey = np.random.default_rng(n).integers(0, 200, (32, 32)).astype(np.uint8)
        Image.fromarray(grey).save(world.root / "pictures" / "Seg" / f"s{n}_Seg.png")
    return world.imported("--label-levels", "0=0,1=51,2=102,4=204")


@dataclass(frozen=True)
class Case:
    make: Callable[[World], list[object]]
    says: str
    code: int = 3
    samples: int | None = None


CASES = [
    Case(_z_scores, r"--intensity p0\.5-p99\.5 reads it", samples=4),
    Case(_one_bad, r"--skip-bad goes on without them", samples=4),
    Case(_two_of_one, r"--names t1=\S+ takes the first", samples=4),
    Case(_too_small, r"The brain is small in them: --brain-fraction 0\.00\d+ keeps", samples=4),
    Case(_too_small_and_dark, r"--brain-fraction \S+ keeps", samples=4),
    Case(_one_bright_voxel, r"--intensity p99\.9 makes it brighter", samples=4),
    Case(_dark_by_every_rule, r"--brain-threshold \d+ keeps", samples=4),
    Case(_one_subject, r"hold nothing out: --holdout 0", code=2, samples=4),
    Case(_all_held_out, r"--holdout 2 at most", code=2, samples=12),
    Case(_open_patients, r"--patients one-per-subject", samples=22),
    Case(_taken, r"--overwrite", code=2, samples=4),
    Case(_no_labels, r"--without-labels", samples=2),
    Case(_sixteen_bits, r"--range \d+,\d+", samples=2),
    Case(_blurred_labels, r"--label-levels \S+,nearest", samples=2),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.make.__name__.strip("_"))
def test_what_an_error_advises_helps(
    case: Case, tmp_path: Path, make_subject: MakeSubject, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(tmp_path, make_subject)
    command = case.make(world)
    code, text = run(command, capsys)
    assert code == case.code, text
    assert re.search(case.says, text), text
    said = re.search(case.says, text)
    assert said
    # The words around the advice may name further options; what it says itself is done.
    options = advised(said[0])
    for option in options[::2] if len(options) > 1 else options:
        if option in command:  # replaces what was given
            del command[command.index(option) : command.index(option) + 2]
    code, text = run([*command, *options], capsys)
    assert code == 0, text
    if case.samples is not None:
        assert len(Dataset(world.out)) == case.samples


# ------------------------------------------------------------------------------------------- advice without options


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_tables_of_patients_are_read_or_refused_by_name(
    tmp_path: Path, make_subject: MakeSubject, capsys: pytest.CaptureFixture[str], encoding: str, delimiter: str
) -> None:
    world = World(tmp_path, make_subject)
    for name in ("A", "B"):
        make_subject(world.subjects, name, shape=(24, 20, 4 + (name == "B")))
    text = delimiter.join(("Subject", "Remark", "Patient")) + "\r\n"
    text += "".join(f"{name}{delimiter}für {name}, klein{delimiter}M\r\n".replace(", klein", " klein") for name in "AB")
    (tmp_path / "who.csv").write_bytes(text.encode(encoding))
    command = world.prepare(*SMALL, *NONE_HELD, "--patients", tmp_path / "who.csv")
    code, said = run(command, capsys)
    if encoding == "cp1252":
        assert code == 3 and "no text in UTF-8" in said and "Save it as CSV in UTF-8" in said
        (tmp_path / "who.csv").write_text(text, encoding="utf-8")
        code, said = run(command, capsys)
    assert code == 0, said
    assert {row.patient for row in Dataset(world.out).samples} == {"M"}


def test_a_workbook_is_no_table(tmp_path: Path, make_subject: MakeSubject, capsys: pytest.CaptureFixture[str]) -> None:
    world = World(tmp_path, make_subject)
    make_subject(world.subjects, "A")
    (tmp_path / "who.csv").write_bytes(b"PK\x03\x04\xff\xfe\x00\xd8")
    code, said = run(world.prepare(*SMALL, *NONE_HELD, "--patients", tmp_path / "who.csv"), capsys)
    assert code == 3 and "Excel workbook" in said


def test_advice_on_bad_subjects_is_only_what_helps(
    tmp_path: Path, make_subject: MakeSubject, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where none is good, --skip-bad leaves nothing; where no file is missing, names are not what is wrong."""
    world = World(tmp_path, make_subject)
    (make_subject(world.subjects, "A") / "A_t2.nii.gz").write_bytes(b"nothing")
    code, said = run(world.prepare(*SMALL, *NONE_HELD), capsys)
    assert code == 3 and "--skip-bad" not in said and "--names" not in said
    (world.subjects / "A" / "A_t2.nii.gz").rename(world.subjects / "A" / "A_odd.nii.gz")
    code, said = run(world.prepare(*SMALL, *NONE_HELD), capsys)
    assert code == 3 and "--names" in said and "A_odd.nii.gz" in said
    shutil.copy(world.subjects / "A" / "A_t1.nii.gz", world.subjects / "A" / "A_odd.nii.gz")
    code, said = run(world.prepare(*SMALL, *NONE_HELD, "--names", "t2=_odd"), capsys)
    assert code == 0, said


def test_a_contrast_that_nobody_has_is_not_a_matter_of_names(
    tmp_path: Path, make_subject: MakeSubject, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(tmp_path, make_subject)
    for name, shape in (("A", (24, 20, 4)), ("B", (24, 20, 5))):
        make_subject(world.subjects, name, shape=shape, t1=None, t1ce=None)
    code, said = run(world.prepare(*SMALL, *NONE_HELD), capsys)
    assert code == 3 and "If they have no t1 and t1ce, give --contrasts t2,flair." in said
    code, said = run(world.prepare(*SMALL, *NONE_HELD, "--contrasts", "t2,flair"), capsys)
    assert code == 0, said
    make_subject(world.subjects, "C", shape=(24, 20, 6))  # somebody has them: they are missing in the others
    code, said = run(world.prepare(*SMALL, *NONE_HELD, "--overwrite"), capsys)
    assert code == 3 and "--skip-bad" in said and "--names" in said and "--contrasts" not in said


# ---------------------------------------------------------------------------------------------- what must not be said


def test_torch_never_advises_to_run_a_files_code() -> None:
    error = RuntimeError(
        "Weights only load failed. This file can still be loaded, to do so you have two options, do those steps only "
        "if you trust the source of the checkpoint.\n\t(1) Re-running `torch.load` with `weights_only` set to `False`"
    )
    for text in (reason_of(error), str(explain(error))):
        assert "weights_only" not in text and "still be loaded" not in text and "never done" in text
    assert reason_of(ValueError("one\ntwo")) == "one" and reason_of(KeyError()) == "KeyError"


def _options_of_commands() -> set[str]:
    from typer.main import get_command

    found, waiting = set(), [get_command(cli.app)]
    while waiting:
        command = waiting.pop()
        found.update(option for item in command.params for option in (*item.opts, *item.secondary_opts))
        waiting += list(getattr(command, "commands", {}).values())
    return found


def _messages(*rooms: str) -> list[tuple[str, str]]:
    """File and text of every string that is an argument of an error, docstrings aside."""
    found = []
    for path in sorted(path for room in rooms for path in (ROOT / "synthkit" / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and re.search(r"Error$|_refused$", ast.unparse(node.func)):
                inside = (c.value for c in ast.walk(node) if isinstance(c, ast.Constant))
                found.append((path.name, "".join(value for value in inside if isinstance(value, str))))
    return found


def test_options_that_errors_name_exist() -> None:
    others = {"--help", "--mem", "--force-reinstall", "--no-deps"}  # of Slurm and pip
    there = _options_of_commands() | others
    messages = _messages("data", "running", "judging", "cli", "release", "study")
    named = {(name, option) for name, text in messages for option in re.findall(r"--[a-z][a-z-]*[a-z]", text)}
    assert len(named) > 30
    assert not [(name, option) for name, option in sorted(named) if option not in there]


def test_a_batch_size_is_named_only_where_there_is_one() -> None:
    @dataclass(frozen=True)
    class WithBatches:
        batch_size: int = 8

    error = RuntimeError("CUDA out of memory")
    plain = str(_plugin_error(GENERATOR, error))
    assert "batch_size" not in plain and "--size" in plain
    assert "-p batch_size" in str(_plugin_error(replace(GENERATOR, params=WithBatches), error))


HARMFUL = (r"lower the brain threshold", r"prepare without that", r"hold out more subjects", r"weights_only=False")


def test_no_message_advises_what_does_harm() -> None:
    found = []
    for path in sorted((ROOT / "synthkit").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found += [(path.name, p) for p in HARMFUL if re.search(p, node.value, re.IGNORECASE)]
    assert not found
