"""One person under two ids is found by what the images show, in `prepare` and in the audit; never on both sides."""

from __future__ import annotations

import csv
from collections.abc import Callable
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from synthkit.data.dataset import Dataset
from synthkit.data.exporting import export_dataset
from synthkit.data.importing import import_images
from synthkit.data.patients import Patients
from synthkit.data.phantom import make_subject as make_phantom
from synthkit.data.prepare import prepare
from synthkit.data.signatures import LIES, Signature, first_look, signature, turned
from synthkit.data.slices import SliceProtocol
from synthkit.data.subjects import find_subjects
from synthkit.data.twins import Twins, contrasts_to_compare, find_twins, settled, signatures_of
from synthkit.errors import DataError, UsageError
from synthkit.running.listening import LoggingListener
from synthkit.running.run import Input, Job, create_run
from synthkit.running.verbs import evaluate
from synthkit.running.verbs.audit_memorization import ask
from synthkit.running.verbs.people import patients_said, tell_apart, unlike_names

pytest.importorskip("nilearn", reason="nilearn brings the template of the phantom")

CONTRASTS = ("t1", "t2")
N_HEADS = 6
SMALL = SliceProtocol(contrasts=CONTRASTS, size=64, brain_threshold=20, brain_fraction=0.02)


@cache
def head(index: int, spacing_mm: float = 2.5) -> dict[str, np.ndarray]:
    """A phantom that no test changes."""
    shape = (int(176 / spacing_mm), int(216 / spacing_mm), int(156 / spacing_mm))
    return make_phantom(index, 0, shape=shape, spacing_mm=spacing_mm)


def looks(volumes: dict[str, np.ndarray] | list[np.ndarray]) -> Signature | None:
    return signature(volumes if isinstance(volumes, list) else [volumes[name] for name in CONTRASTS])


@cache
def people() -> dict[str, Signature | None]:
    return {f"person {index}": looks(head(index)) for index in range(1, N_HEADS + 1)}


def found(volumes: list[np.ndarray]) -> list[str]:
    """Whom a twin of somebody is taken for."""
    return [pair.one for pair in find_twins({**people(), "twin": looks(volumes)}) if pair.other == "twin"]


def moved(degrees: float, by: tuple[float, float, float]) -> Callable[[np.ndarray], np.ndarray]:
    angle = np.deg2rad(degrees)
    matrix = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1.0]])

    def turn(volume: np.ndarray) -> np.ndarray:
        middle = (np.array(volume.shape) - 1) / 2
        return ndimage.affine_transform(volume.astype(np.float32), matrix, middle - matrix @ middle + by, order=1)

    return turn


# ----------------------------------------------------------------------------------------------------- signatures


def test_heads_of_one_template_are_not_taken_for_one_person() -> None:
    assert None not in people().values()
    assert find_twins(people()) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v,
        lambda v: np.rint(v / v.max() * 255).astype(np.uint8),
        lambda v: v.astype(np.float64) * 1e-5,
        lambda v: (v / v.max()) ** 1.7,
        lambda v: np.where(v > 0, (v - v[v > 0].mean()) / v[v > 0].std(), 0),
        lambda v: (v - v.mean()) / v.std(),  # the background is below zero
        lambda v: v[::-1],
        lambda v: v.transpose(1, 0, 2)[:, ::-1],
        lambda v: v.transpose(2, 0, 1)[::-1, :, ::-1],
        lambda v: np.pad(v, ((9, 0), (0, 17), (4, 4))),
        lambda v: ndimage.zoom(v.astype(np.float32), 0.8, order=1),
        lambda v: ndimage.zoom(v.astype(np.float32), (1.25, 1.25, 0.7), order=3),  # rings, thick slices
        lambda v: np.abs(v + np.random.default_rng(0).normal(0, 0.05 * v.max(), v.shape)),
        lambda v: v[:, :, 10:],
        moved(5, (1.0, -2.0, 0.5)),
    ],
)
def test_a_twin_is_found_whatever_was_done_to_its_files(change: Callable[[np.ndarray], np.ndarray]) -> None:
    assert found([change(head(3)[name]) for name in CONTRASTS]) == ["person 3"]


@given(st.integers(1, N_HEADS), st.sampled_from(LIES))
@settings(max_examples=15, deadline=None)
def test_a_twin_is_found_however_its_array_lies(index: int, lie: Any) -> None:
    order, signs = lie
    twin = [head(index)[name].transpose(order)[:: signs[0], :: signs[1], :: signs[2]] for name in CONTRASTS]
    assert found(twin) == [f"person {index}"]


def test_the_first_look_is_the_best_over_all_ways_to_lie() -> None:
    """Even and odd parts give what turning every head in 48 ways gives."""
    rng = np.random.default_rng(0)
    heads = [Signature(np.zeros(0, np.int8), rng.normal(size=(2, 20, 20, 20)).astype(np.float32)) for _ in range(3)]
    best, which = first_look(heads[:2], heads)
    for row in range(2):
        for column in range(3):
            alike = [float((heads[row].coarse * turned(heads[column].coarse, lie)).sum()) for lie in LIES]
            assert best[row, column] == pytest.approx(max(alike), rel=1e-4)
            assert which[row, column] == int(np.argmax(alike))


def test_a_scan_of_another_day_is_found() -> None:
    """Turned, with another bias field, noise, tumour and brain extraction."""
    rng = np.random.default_rng(1)
    brain = ndimage.binary_erosion(head(2)["t1"] > 0, iterations=1)
    slope = np.linspace(0.7, 1.4, brain.shape[0])[:, None, None]
    grids = np.ogrid[tuple(slice(n) for n in brain.shape)]
    blob = np.exp(-sum((g - n * 0.4) ** 2 for g, n in zip(grids, brain.shape, strict=True)) / (2 * 6.0**2))
    scans = []
    for name, bright in zip(CONTRASTS, (300, 1500), strict=True):
        scan = (head(2)[name] * (1 - blob) + bright * blob) * brain * slope
        scan = moved(4, (1.5, -1.0, 1.0))(scan)
        scans.append(np.abs(scan + rng.normal(0, 0.03 * scan.max(), scan.shape)))
    assert found(scans) == ["person 2"]


def test_many_copies_of_one_person_are_all_named() -> None:
    copies = {f"copy {n}": looks([head(1)[name][::step] for name in CONTRASTS]) for n, step in enumerate((1, -1, 1))}
    pairs = find_twins({**people(), **copies})
    members = {"person 1", *copies}
    assert {name for pair in pairs for name in (pair.one, pair.other)} == members
    assert all({pair.one, pair.other} <= members for pair in pairs)


def test_pairs_between_two_groups_are_those_of_one_and_the_other() -> None:
    others = {"a": looks([head(4)[name][:, ::-1] for name in CONTRASTS]), "b": looks(head(7)), "tiny": None}
    (pair,) = find_twins(people(), others)
    assert (pair.one, pair.other) == ("person 4", "a")
    assert find_twins({}, others) == find_twins(people(), {}) == find_twins({"a": None, "b": None}) == []


def test_progress_is_reported_to_the_end() -> None:
    seen: list[tuple[int, int]] = []
    find_twins(people(), on_progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (N_HEADS, N_HEADS)


@pytest.mark.parametrize(
    "volume",
    [
        np.zeros((40, 40, 40), np.int16),
        np.full((40, 40, 40), 7, np.int16),
        np.ones((40, 40, 5), np.int16),
        np.pad(np.zeros((24, 24, 24)) + np.arange(24)[:, None, None] + 100, 8),  # a slope in a box
        np.pad(np.ones((1, 1, 1)), 20),
    ],
)
def test_what_shows_nothing_tells_nobody_apart(volume: np.ndarray) -> None:
    assert signature([volume, volume]) is None


def test_a_contrast_that_is_empty_or_flat_hides_nobody() -> None:
    flat = np.zeros_like(head(1)["t2"])
    known = {f"p{i}": looks([head(i)["t1"], head(i)["t2"]]) for i in (1, 2)}
    (pair,) = find_twins({**known, "twin": looks([head(1)["t1"], flat])})
    assert {pair.one, pair.other} == {"p1", "twin"}


def test_one_contrast_is_enough_where_another_was_swapped() -> None:
    swapped = looks([head(1)["t1"][::-1], head(2)["t2"][::-1]])
    pairs = find_twins({"p1": looks(head(1)), "p3": looks(head(3)), "twin": swapped})
    assert [(pair.one, pair.other) for pair in pairs] == [("p1", "twin")]


def test_parts_cut_out_of_heads_are_compared_too() -> None:
    """No voxel of them is background."""
    cut = tuple(slice(n // 4, n - n // 4) for n in head(1, 1.25)["t1"].shape)
    known = {f"p{n}": looks([head(n, 1.25)[name][cut] for name in CONTRASTS]) for n in (1, 2, 3)}
    twin = looks([head(2, 1.25)[name][cut][:, ::-1] / 9 for name in CONTRASTS])
    (pair,) = find_twins({**known, "twin": twin})
    assert {pair.one, pair.other} == {"p2", "twin"}


def test_the_contrasts_that_are_compared() -> None:
    assert contrasts_to_compare(("t1", "t1ce", "t2", "flair"), "t1") == ("t1", "t2")
    assert contrasts_to_compare(("flair", "t1"), "t1") == ("t1", "flair")
    assert contrasts_to_compare(("flair",), "flair") == ("flair",)


# ------------------------------------------------------------------------------------------------------ who is who

_IDS = [f"s{n}" for n in range(6)]


@given(st.lists(st.integers(0, 5), min_size=6, max_size=6), st.sets(st.sampled_from(list(combinations(_IDS, 2)))))
@settings(deadline=None)
def test_twins_are_one_patient_whatever_a_table_says(numbers: list[int], pairs: set[tuple[str, str]]) -> None:
    of = {name: f"p{number}" for name, number in zip(_IDS, numbers, strict=True)}
    twins = [Twins(one, other, 0.9) for one, other in sorted(pairs)]
    after = settled(Patients(of, "table"), twins)
    assert all(after.of[one] == after.of[other] for one, other in pairs)
    assert all(after.of[a] == after.of[b] for a, b in combinations(_IDS, 2) if of[a] == of[b])  # nobody is torn apart
    assert set(after.of.values()) <= set(of.values())
    assert settled(after, twins).of == after.of
    # Patients that no twin joins stay apart.
    n_groups = len(set(after.of.values()))
    assert n_groups >= len(set(of.values())) - len(pairs)


# -------------------------------------------------------------------------------------------------------- in prepare


def write(root: Path, name: str, index: int, change: Callable[[np.ndarray], np.ndarray] = lambda v: v) -> None:
    folder = root / name
    folder.mkdir(parents=True)
    for kind in (*CONTRASTS, "seg"):
        image = nib.Nifti1Image(np.ascontiguousarray(change(head(index)[kind])), np.diag([-2.5, -2.5, 2.5, 1]))
        nib.save(image, folder / f"{name}_{kind}.nii.gz")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four people under five ids: ``x9`` is ``k1``, mirrored and in floating point."""
    root = tmp_path / "subjects"
    for name, index in (("k1", 1), ("m4", 2), ("q7", 3), ("r3", 4)):
        write(root, name, index)
    write(root, "x9", 1, lambda v: v[::-1] if v.dtype == np.uint8 else v[::-1].astype(np.float32) / 7)
    return root


def table(path: Path, **patients: str) -> Path:
    path.write_text("subject,patient\n" + "".join(f"{name},{patient}\n" for name, patient in patients.items()))
    return path


def test_prepare_refuses_twins_and_both_remedies_help(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(DataError, match="1 pair of subjects with different ids shows one person") as caught:
        prepare(folder, tmp_path / "data", protocol=SMALL, holdout="2")
    assert len(caught.value.details) == 1 and caught.value.details[0].startswith("k1 and x9 (correlation ")
    assert caught.value.exit_code == 3 and not (tmp_path / "data").exists()

    said = table(tmp_path / "t.csv", k1="K", x9="K", m4="M", q7="Q", r3="R")
    for seed in range(4):
        summary = prepare(folder, tmp_path / "no", protocol=SMALL, holdout="2", seed=seed, patients=said, dry_run=True)
        splits = {subject.id: subject.split for subject in summary.subjects}
        assert splits["k1"] == splits["x9"]
    assert any("count twice: k1 and x9" in note for note in summary.notes)

    for file in (folder / "x9").iterdir():
        file.unlink()
    (folder / "x9").rmdir()
    assert not any("one person" in note for note in prepare(folder, tmp_path / "data", protocol=SMALL).notes)


@pytest.mark.parametrize("insisted", ["table", "one-per-subject"])
def test_twins_stay_on_one_side_whatever_is_insisted(tmp_path: Path, folder: Path, insisted: str) -> None:
    patients: Path | str = insisted
    if insisted == "table":
        patients = table(tmp_path / "t.csv", **{name: name.upper() for name in ("k1", "m4", "q7", "r3", "x9")})
    for seed in range(4):
        summary = prepare(
            folder, tmp_path / "no", protocol=SMALL, holdout="1", seed=seed, patients=patients, dry_run=True
        )
        of = {subject.id: subject for subject in summary.subjects}
        assert of["k1"].split == of["x9"].split and of["k1"].patient == of["x9"].patient
        (note,) = (note for note in summary.notes if "one by their images" in note)
        assert "k1 and x9 (correlation " in note
    with pytest.raises(UsageError, match="would be in train and in the holdout") as caught:
        prepare(folder, tmp_path / "data", protocol=SMALL, holdout="k1,", patients=patients)
    assert any("k1 and x9" in line for line in caught.value.details)
    prepare(folder, tmp_path / "data", protocol=SMALL, holdout="k1,x9", patients=patients)
    assert Dataset(tmp_path / "data").select("holdout").subjects == ("k1", "x9")


def test_scans_of_one_patient_by_their_names_are_as_they_should_be(tmp_path: Path) -> None:
    root = tmp_path / "subjects"
    write(root, "P012_tp1", 1)
    write(root, "P012_tp2", 1, lambda v: v[:, :, 6:])
    write(root, "P013_tp1", 2)
    assert len(prepare(root, tmp_path / "data", protocol=SMALL).subjects) == 3


# ---------------------------------------------------------------------------------------------------------- in import


def pictures_of(tmp_path: Path, folder: Path, **rows: tuple[str, str]) -> Path:
    """PNG of all subjects, and for each of ``rows`` its split and patient; no patient anywhere where one is ""."""
    prepare(folder, tmp_path / "data", protocol=SMALL, patients="one-per-subject")
    export_dataset(tmp_path / "data", tmp_path / "png", format="png")
    path = tmp_path / "png" / "samples.csv"
    with path.open(newline="") as file:
        table = list(csv.DictReader(file))
    for row in table:
        row["split"], patient = rows.get(row["subject"], ("train", row["subject"]))
        row["patient"] = patient if all(patient for _, patient in rows.values()) else ""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    return path.parent


def test_import_refuses_twins_on_both_sides_and_the_remedy_helps(tmp_path: Path, folder: Path) -> None:
    png = pictures_of(tmp_path, folder, x9=("holdout", "x9"))
    with pytest.raises(DataError, match="holdout and subjects to train on show one person") as caught:
        import_images(png, tmp_path / "out", kind="real")
    assert caught.value.details[0].startswith("k1 and x9 (correlation ") and not (tmp_path / "out").exists()
    assert "give both of a pair one split in samples.csv, and one patient" in caught.value.fix
    text = (png / "samples.csv").read_text()
    (png / "samples.csv").write_text(text.replace("holdout,x9", "train,x9").replace(",x9\n", ",k1\n"))
    summary = import_images(png, tmp_path / "out", kind="real")
    assert any("count twice: k1 and x9" in note for note in summary.notes)
    assert Dataset(tmp_path / "out").patients["x9"] == "k1"


def test_import_asks_about_twins_by_names_and_joins_those_of_a_table(tmp_path: Path, folder: Path) -> None:
    png = pictures_of(tmp_path, folder, x9=("train", ""), m4=("holdout", ""))
    with pytest.raises(DataError, match="1 pair of subjects with different ids shows one person") as caught:
        import_images(png, tmp_path / "out", kind="real")
    assert "one patient in a column patient of samples.csv" in caught.value.fix and not (tmp_path / "out").exists()
    with (png / "samples.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    for column in ("k1", "x9"):  # the second, who they say themselves to be, is not believed
        with (png / "samples.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(table[0]))
            writer.writeheader()
            writer.writerows({**row, "patient": column if row["subject"] == "x9" else row["subject"]} for row in table)
        summary = import_images(png, tmp_path / "out", kind="real", overwrite=True)
        assert Dataset(tmp_path / "out").patients["x9"] == "k1"
        assert any("k1 and x9 (correlation " in note for note in summary.notes)


# ------------------------------------------------------------------------------------------------------ in the audit


@pytest.fixture
def two_sets(tmp_path: Path, folder: Path) -> tuple[Path, Path]:
    """What was trained on, and a holdout prepared apart from it, with the same person in both."""
    held = tmp_path / "held"
    held.mkdir()
    for name in ("r3", "x9"):
        (folder / name).rename(held / name)
    prepare(folder, tmp_path / "train", protocol=SMALL)
    prepare(held, tmp_path / "holdout", protocol=SMALL)
    return tmp_path / "train", tmp_path / "holdout"


def test_slices_tell_people_as_volumes_do(two_sets: tuple[Path, Path]) -> None:
    train, holdout = (signatures_of(Dataset(path)) for path in two_sets)
    assert list(train) == ["k1", "m4", "q7"] and None not in train.values()
    (pair,) = find_twins(train, holdout)
    assert (pair.one, pair.other) == ("k1", "x9")


def test_the_audit_refuses_a_holdout_that_was_trained_on(
    tmp_path: Path, two_sets: tuple[Path, Path], folder: Path, install_plugins: Callable[..., Any]
) -> None:
    from synthkit.data.writer import DatasetWriter
    from synthkit.testing.toys import SLICE_AUDIT

    install_plugins(SLICE_AUDIT)
    real = Dataset(two_sets[0])
    images, labels = real.read([0, 1])
    like = {"contrasts": real.contrasts, "scheme": real.scheme, "size": real.size}
    with DatasetWriter(tmp_path / "syn", kind="synthetic", **like) as writer:
        writer.append(images, labels, [{"id": f"i{n}", "split": "synthetic", "seed": n} for n in range(2)])
    options = {"metric": SLICE_AUDIT.name, "listener": LoggingListener()}
    with pytest.raises(DataError, match=r"shows a person who was trained on: k1 of .*, x9 of ") as caught:
        ask(two_sets[0], tmp_path / "syn", holdout=two_sets[1], **options)
    assert caught.value.exit_code == 3 and len(caught.value.details) == 1
    # What it advises: prepared together, with a table.
    for name in ("r3", "x9"):
        (tmp_path / "held" / name).rename(folder / name)
    said = table(tmp_path / "t.csv", k1="K", x9="K", m4="M", q7="Q", r3="R")
    prepare(folder, tmp_path / "again", protocol=SMALL, holdout="2", patients=said)
    ask(tmp_path / "again", tmp_path / "syn", **options)


# ------------------------------------------------------------------------------------------------------ real subjects


def test_five_real_people_are_five(real_subjects: Path, tmp_path: Path) -> None:
    summary = prepare(real_subjects, tmp_path / "data", protocol=SliceProtocol(size=64), dry_run=True)
    assert len(summary.subjects) == 5


# ---------------------------------------------------------------------------------------------------- in the utility


def subjects_in(folder: Path) -> dict[str, Any]:
    return {subject.id: subject for subject in find_subjects(folder, contrasts=CONTRASTS)}


def training_on(path: Path, *datasets: Path) -> Path:
    inputs = {
        f"data{n}" if n > 1 else "data": Input("dataset", source=data, digest=Dataset(data).digest)
        for n, data in enumerate(datasets, start=1)
    }
    return create_run(path, Job(verb="train", plugins=("toy-segmenter",), inputs=inputs)).path


def test_utility_scores_nobody_who_was_trained_on_and_counts_a_person_once(
    tmp_path: Path, two_sets: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    listener: Any = LoggingListener()
    monkeypatch.setattr(listener, "warning", said.append)
    run, held = training_on(tmp_path / "run", two_sets[0]), tmp_path / "held"
    write(held, "s4", 6, lambda v: v[:, :, 6:])
    write(held, "t5", 6, lambda v: (v * 0.5).astype(np.int16))
    patients = tell_apart(subjects_in(held), [run, run, tmp_path / "nothing"], SMALL, None, listener)
    assert set(patients) == {"r3", "s4", "t5"} and patients["s4"] == patients["t5"] != patients["r3"]
    assert "1 of 4 subjects are left out" in said[0] and "x9 (k1 of train, correlation " in said[0]
    assert "s4 and t5" in said[1] and "count as one patient" in said[1]
    with pytest.raises(DataError, match="no subject to compare on") as caught:
        tell_apart({"x9": subjects_in(held)["x9"]}, [run], SMALL, None, listener)
    assert "people whom the trainings have learned from" in caught.value.why
    assert unlike_names(patients) == {"r3": "r3", "s4": "s4", "t5": "s4"}
    assert unlike_names({"r3": "R"}) == unlike_names({"P012_tp1": "K", "P012_tp2": "K"}) == {}


def test_utility_counts_the_patients_that_datasets_or_a_table_say(tmp_path: Path, folder: Path) -> None:
    said = table(tmp_path / "t.csv", k1="K", x9="K", m4="M", q7="Q", r3="M")
    prepare(folder, tmp_path / "data", protocol=SMALL, holdout="m4,r3", patients=said)
    run, listener = training_on(tmp_path / "run", tmp_path / "data"), LoggingListener()
    unseen = {name: subject for name, subject in subjects_in(folder).items() if name in ("m4", "r3")}
    assert tell_apart(unseen, [run], SMALL, None, listener) == {"m4": "M", "r3": "M"}
    # `evaluate` finds them through the run that segmented.
    (run / "outputs" / "checkpoint").mkdir(parents=True)
    (tmp_path / "seg" / "inputs").mkdir(parents=True)
    (tmp_path / "seg" / "inputs" / "checkpoint").symlink_to(run / "outputs" / "checkpoint")
    (behind,) = evaluate._datasets_behind(tmp_path / "seg" / "outputs" / "predictions")
    assert patients_said(["m4", "r3", "z"], [behind]) == {"m4": "M", "r3": "M"}
    assert evaluate._datasets_behind(tmp_path / "elsewhere" / "predictions") == []
    other = table(tmp_path / "u.csv", m4="A", r3="B")
    assert tell_apart(unseen, [run], SMALL, other, listener) == {"m4": "A", "r3": "B"}
    # Names that leave it open are asked about, and the table answers.
    renamed = {f"P{n}-{k}": subject for n, (k, subject) in zip((1, 1), enumerate(unseen.values()), strict=True)}
    with pytest.raises(DataError, match="leave open") as caught:
        tell_apart(renamed, [], SMALL, None, listener)
    assert "--patients TABLE.csv" in caught.value.fix
    answer = table(tmp_path / "v.csv", **{"P1-0": "A", "P1-1": "A"})
    assert tell_apart(renamed, [], SMALL, answer, listener) == {"P1-0": "A", "P1-1": "A"}
