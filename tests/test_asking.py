"""Generators that are asked for more than seeds: what is asked is made, recorded and descended from, or refused."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

import synthkit
from synthkit import api
from synthkit.cli import app
from synthkit.contract import NoParams, Sample
from synthkit.data.dataset import Dataset
from synthkit.data.lineage import has_unknown_origin, lent_label_maps, original_digests, was_trained_on
from synthkit.data.mask_folders import MaskFolder
from synthkit.data.writer import DatasetWriter
from synthkit.errors import DataError, PluginError, SynthkitError, UsageError
from synthkit.registry.registry import problem_of
from synthkit.release.gate import AuditRun, check_samples, read_audit
from synthkit.release.samples import write_part
from synthkit.running.verbs.asking import parse_conditions
from synthkit.running.verbs.label_maps import spread
from synthkit.schemes import BRATS
from synthkit.testing import data
from synthkit.testing.toys import CONDITIONAL_GENERATOR, GENERATOR, SLICE_AUDIT, TOYS

TOY = CONDITIONAL_GENERATOR.name


@pytest.fixture(autouse=True)
def _toys(install_plugins: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    install_plugins(*TOYS)
    monkeypatch.setenv("SYNTHKIT_BACKEND", "inline")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # a run sets it; this sets it back


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return api.train(TOY, [data.real_dataset(4, 32).path], tmp_path / "model", params={"passes": 1}).run.path


def others(path: Path, subjects: Sequence[str] = ("q0", "q1"), **options: Any) -> Dataset:
    """Real slices of other people, four each, the last one held out."""
    images, labels = data.slices(4 * len(subjects), 4, options.pop("side", 32), seed=7)
    rows = [
        {"id": f"{name}_{z}", "split": "holdout" if name == subjects[-1] else "train", "subject": name, "slice": z}
        for name in subjects
        for z in range(4)
    ]
    options = {"contrasts": BRATS.contrast_names, "scheme": BRATS, "size": images.shape[2:], **options}
    with DatasetWriter(path, **options) as writer:
        writer.append(images[:, : len(options["contrasts"])], labels, rows)
    return Dataset(path)


def masks(folder: Path, n: int = 3) -> list[np.ndarray]:
    """Label maps in a folder, one in each of three formats."""
    folder.mkdir()
    maps = list(data.slices(n, 1, 32, seed=8)[1])
    for number, labels in enumerate(maps):
        Image.fromarray(labels).save(folder / f"m{number}.png")
    return maps


def asked_of(dataset: Dataset) -> list[dict[str, Any]]:
    return [json.loads(row.asked or "{}") for row in dataset.samples]


# ---------------------------------------------------------------------------------------------- what is made of it


def test_each_sample_has_the_label_map_of_its_seed(model: Path, tmp_path: Path) -> None:
    given = others(tmp_path / "others")
    made = Dataset(api.generate(model, "0-5,9", tmp_path / "made", labels=given.path).run.path)
    numbers = [asked["labels"] for asked in asked_of(made)]
    assert (made.read(range(7))[1] == given.training_part().read(numbers)[1]).all()
    assert sorted(numbers[:4]) == [0, 1, 2, 3] and numbers[4:] == [numbers[0], numbers[1], numbers[1]]
    assert "q0" not in (made.path / "samples.csv").read_text()  # ids of slices name people


def test_samples_are_the_same_in_shards_in_other_lists_and_in_a_process(model: Path, tmp_path: Path) -> None:
    given = others(tmp_path / "others").path
    whole = Dataset(api.generate(model, "0-9", tmp_path / "whole", labels=given, backend="local").run.path)
    shard = Dataset(api.generate(model, "0-9", tmp_path / "shard", labels=given, shard="2/3").run.path)
    other = Dataset(api.generate(model, "8,3", tmp_path / "other", labels=given).run.path)
    known = {row.seed: row for row in whole.samples}
    assert [known[row.seed] for row in (*shard.samples, *other.samples)] == [*shard.samples, *other.samples]
    assert len({(row.digest) for row in whole.samples}) == 10


def test_a_few_seeds_get_maps_of_many_people_wherever_these_are_stored(model: Path, tmp_path: Path) -> None:
    people = [f"q{k}" for k in range(6)]
    given = others(tmp_path / "others", people)
    made = Dataset(api.generate(model, "0-4", tmp_path / "made", labels=given.path).run.path)
    rows = given.training_part().samples
    assert {rows[asked["labels"]].subject for asked in asked_of(made)} == {*people[:-1]}
    assert made.lineage["asked"]["labels"]["n_people"] == 5 and made.lineage["asked"]["labels"]["n_maps"] == 20
    later = Dataset(api.generate(model, "5-9", tmp_path / "later", labels=given.path).run.path)
    assert {rows[asked["labels"]].subject for asked in asked_of(later)} == {*people[:-1]}


@settings(deadline=None)
@drawn(st.lists(st.integers(0, 4), min_size=1, max_size=30), st.randoms())
def test_seeds_go_round_the_people_in_whichever_order_their_slices_are_stored(owners: list[int], mixed: Any) -> None:
    samples = [Sample(f"x{n}", "train", f"p{who}", n, None, f"{n * 7919 % 101:03d}") for n, who in enumerate(owners)]
    order = spread(samples)
    assert sorted(order) == list(range(len(owners)))
    seen: Counter[int] = Counter()
    for number in order:  # nobody comes again while somebody else has slices left and has come less often
        who = owners[number]
        assert all(seen[who] <= seen[other] or seen[other] == owners.count(other) for other in owners)
        seen[who] += 1
    stored = list(samples)
    mixed.shuffle(stored)
    assert [stored[number] for number in spread(stored)] == [samples[number] for number in order]


def test_what_is_counted_is_what_the_samples_get(model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="synthkit")
    (tmp_path / "masks").mkdir()
    for number, value in enumerate((0, 4, 0, 0)):
        Image.fromarray(np.full((32, 32), value, np.uint8)).save(tmp_path / "masks" / f"m{number}.png")
    with pytest.warns(UserWarning, match="Whose masks"):
        made = Dataset(api.generate(model, "0-2,4", tmp_path / "made", labels=tmp_path / "masks").run.path)
    assert "The samples get 3 of 4 label maps: NCR in 0, ED in 0, ET in 1; 2 empty." in caplog.text
    counts = {"n_maps": 4, "n_used": 3, "n_empty": 2}
    assert counts.items() <= made.lineage["asked"]["labels"].items()
    api.generate(model, "0-1", tmp_path / "of people", labels=others(tmp_path / "others", ("q0", "q1", "q2")).path)
    assert "The samples get 2 of 8 label maps, of 2 people:" in caplog.text
    api.generate(model, "0", tmp_path / "of one", labels=tmp_path / "others")
    assert "The samples get 1 of 8 label maps, of 1 person:" in caplog.text
    api.generate(model, "0-1", tmp_path / "of phantoms", labels=phantoms(tmp_path / "phantoms").path)
    assert "The samples get 2 of 8 label maps, of 2 phantoms:" in caplog.text


def test_conditions_are_obeyed_and_recorded(model: Path, tmp_path: Path) -> None:
    wanted = {"radius": "0.2", "parts": "ET,NCR,ET"}
    made = Dataset(api.generate(model, "0-2", tmp_path / "made", conditions=wanted).run.path)
    assert asked_of(made) == [{"radius": 0.2, "parts": ["NCR", "ET"]}] * 3
    assert np.unique(made.read(range(3))[1]).tolist() == [0, 1, 4]
    assert made.lineage["asked"] == {"radius": 0.2, "parts": ["NCR", "ET"]}
    assert made.training_datasets == [data.real_dataset(4, 32).training_entry()]


def test_without_asking_nothing_changes(model: Path, tmp_path: Path) -> None:
    made = Dataset(api.generate(model, "0-1", tmp_path / "made").run.path)
    assert (made.path / "samples.csv").read_text().startswith("id,split,subject,slice,seed,digest,patient\n")
    assert "asked" not in made.lineage
    plain = api.train(GENERATOR.name, [data.real_dataset(4, 32).path], tmp_path / "plain", params={"passes": 1})
    same = Dataset(api.generate(plain.run.path, "0-1", tmp_path / "same").run.path)
    assert [row.digest for row in same.samples] == [row.digest for row in made.samples]


def test_what_was_asked_is_part_of_the_digest(model: Path, tmp_path: Path) -> None:
    one, other = (
        Dataset(api.generate(model, "0", tmp_path / name, conditions={"radius": radius}).run.path)
        for name, radius in (("one", 0.2), ("other", 0.2000001))
    )
    assert one.samples[0].digest == other.samples[0].digest and one.digest != other.digest


def test_a_run_is_resumed_only_with_what_it_asked_for(model: Path, tmp_path: Path) -> None:
    given = others(tmp_path / "others").path
    api.generate(model, "0-3", tmp_path / "made", labels=given)
    api.generate(model, "0-3", tmp_path / "made", labels=given, resume=True)
    for other in ({}, {"labels": data.real_dataset(4, 32).path}, {"conditions": {"radius": 0.1}}):
        with pytest.raises(UsageError, match="cannot be resumed"):
            api.generate(model, "0-3", tmp_path / "made", resume=True, **other)


# ------------------------------------------------------------------------------------------------------- descent


def test_samples_descend_from_those_whose_labels_they_have(model: Path, tmp_path: Path) -> None:
    given = others(tmp_path / "others")
    made = Dataset(api.generate(model, "0-3", tmp_path / "made", labels=given.path).run.path)
    counts = {"n_maps": 4, "n_used": 4, "n_empty": 0, "n_people": 1}
    assert made.lineage["asked"] == {"labels": {"kind": "real", "digest": given.digest, **counts}}
    assert original_digests(made.training_datasets) == [data.real_dataset(4, 32).digest, given.digest]
    assert was_trained_on("q0", made.training_datasets) and was_trained_on("s0", made.training_datasets)
    assert not was_trained_on("q1", made.training_datasets)  # held out
    again = Dataset(api.generate(model, "0", tmp_path / "again", labels=data.real_dataset(4, 32).path).run.path)
    assert len(again.training_datasets) == 1


def test_what_is_released_says_what_was_asked_and_of_whom_nothing(model: Path, tmp_path: Path) -> None:
    given = others(tmp_path / "others")
    made = Dataset(api.generate(model, "0-3", tmp_path / "made", labels=given.path).run.path)
    part = write_part(made, range(4), tmp_path / "part", public=False)
    assert part.digest == made.digest
    public = write_part(made, range(4), tmp_path / "public", public=True)
    assert public.lineage["asked"] == made.lineage["asked"] and [row.asked for row in public.samples] == [None] * 4
    assert "subject_keys" not in json.dumps(public.lineage)


def test_masks_of_a_folder_are_of_unknown_origin(model: Path, tmp_path: Path) -> None:
    maps = masks(tmp_path / "masks")
    with pytest.warns(UserWarning, match="Whose masks"):
        made = Dataset(api.generate(model, "0-3", tmp_path / "made", labels=tmp_path / "masks").run.path)
    assert (made.read(range(4))[1] == [*maps, maps[0]]).all()
    assert made.lineage["asked"]["labels"]["kind"] == "masks"
    assert has_unknown_origin([made.training_entry()])
    assert original_digests(made.training_datasets) == [data.real_dataset(4, 32).digest]


def phantoms(path: Path) -> Dataset:
    return others(path, ("Phantom_000", "Phantom_001", "Phantom_002"))


@pytest.mark.filterwarnings("ignore:Whose masks")
def test_whose_label_maps_samples_have_is_known_through_other_samples(model: Path, tmp_path: Path) -> None:
    masks(tmp_path / "masks")

    def lent(name: str, labels: Path | None) -> Any:
        return lent_label_maps(Dataset(api.generate(model, "0-1", tmp_path / name, labels=labels).run.path).lineage)

    assert lent("of people", others(tmp_path / "others", ("q0", "q1", "q2")).path) == {"whose": "people", "n_people": 2}
    assert lent("of masks", tmp_path / "masks") == {"whose": "unknown"}
    assert lent("free", None) is lent("of phantoms", phantoms(tmp_path / "phantoms").path) is None
    for name, of in (("of people", "people"), ("of masks", "unknown")):
        assert lent(f"again {name}", tmp_path / name)["whose"] == of
        assert lent(f"and again {name}", tmp_path / f"again {name}")["whose"] == of
    assert lent("again free", tmp_path / "free") is lent("again phantoms", tmp_path / "of phantoms") is None


def test_an_audit_does_not_pass_label_maps_of_people_without_a_word(model: Path, tmp_path: Path) -> None:
    given, drawn = others(tmp_path / "others"), phantoms(tmp_path / "phantoms")
    lax, allowing = tmp_path / "lax.toml", tmp_path / "allowing.toml"
    lax.write_text("required_power = []\n")
    allowing.write_text("required_power = []\nallow_lent_label_maps = true\n")

    def audited(name: str, labels: Dataset, policy: Path) -> tuple[Dataset, AuditRun]:
        made = api.generate(model, "0-3", tmp_path / f"made {name}", labels=labels.path).run.path
        run = api.audit_memorization(
            data.real_dataset(4, 32).path, made, tmp_path / name, also_train=[labels.path], policy=policy,
            metric=SLICE_AUDIT.name,
        ).run  # fmt: skip
        return Dataset(made), read_audit(run.path)

    refused = audited("real", given, lax)[1].verdict
    assert refused["outcome"] == "insufficient evidence" and refused["reasons"][0].startswith(
        "The label maps of these images are those of 1 real person, by request"
    )
    assert audited("phantom", drawn, lax)[1].passed  # as the reason advises
    made, audit = audited("allowed", given, allowing)
    assert audit.passed and "1 real person, by request" in audit.verdict["reasons"][0]
    assert "allow_lent_label_maps = true (default false)" in audit.verdict["weaker"][0]
    check_samples(made, audit)
    silent = replace(audit, job=replace(audit.job, options={"policy": {}}))  # of a version that did not ask
    with pytest.raises(DataError, match="does not say whose label maps"):
        check_samples(made, silent)


def test_an_audit_names_the_dataset_that_lent_labels_alone(model: Path, tmp_path: Path) -> None:
    given, real = others(tmp_path / "others"), data.real_dataset(4, 32)
    made = api.generate(model, "0-3", tmp_path / "made", labels=given.path).run.path
    with pytest.raises(DataError, match="label maps of 1 dataset more than were given") as caught:
        api.audit_memorization(real.path, made, tmp_path / "audit", metric=SLICE_AUDIT.name)
    assert "Nothing was trained on" in caught.value.why and given.digest[:19] in caught.value.why
    assert f"--also-train {given.path.resolve()}" in caught.value.fix
    command = re.search("`synthkit (.*)`", caught.value.fix)
    assert command
    arguments = command[1].replace("REAL", str(real.path)).replace("RUN", str(tmp_path / "audit")).split()
    done = CliRunner().invoke(app, [*arguments, "--metric", SLICE_AUDIT.name])  # as the message advises
    assert (tmp_path / "audit" / "audit.html").is_file(), done.output
    # Datasets that somebody did learn from are asked for as before, beside those that lent labels.
    both = {"training_datasets": [*Dataset(made).training_datasets, real.training_entry() | {"digest": "sha256:other"}]}
    copy = tmp_path / "copy"
    shutil.copytree(Dataset(made).path, copy)
    described = json.loads((copy / "dataset.json").read_text())
    (copy / "dataset.json").write_text(json.dumps({**described, "lineage": {**described["lineage"], **both}}))
    with pytest.raises(DataError, match=f"2 more training sets.*{given.digest[:19]} lent label maps alone"):
        api.audit_memorization(real.path, copy, tmp_path / "again", metric=SLICE_AUDIT.name)


# ------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"conditions": {"radus": "1"}}, ("cannot be asked for radus", "radius (0.05 to 0.4 sides of the image)")),
        ({"conditions": {"radius": "2"}}, ("must be at most 0.4",)),
        ({"conditions": {"radius": "nan"}}, ("must be a finite number",)),
        ({"conditions": {"radius": "none"}}, ("asks for nothing",)),
        ({"conditions": {"parts": ","}}, ("asks for nothing",)),
        ({"conditions": {"parts": "ED,WT"}}, ("It has no label WT; it has NCR, ED and ET",)),
        ({"conditions": {"parts": "background"}}, ("no label background",)),
    ],
)
def test_what_a_generator_does_not_take_is_refused_by_name(
    asked: Any, words: Sequence[str], model: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        api.generate(model, "0", tmp_path / "made", **asked)
    assert all(word in str(caught.value) for word in words), caught.value
    assert not (tmp_path / "made").exists()


def test_a_generator_that_offers_nothing_says_who_does(tmp_path: Path) -> None:
    plain = api.train(GENERATOR.name, [data.real_dataset(4, 32).path], tmp_path / "plain", params={"passes": 1})
    for asked in ({"labels": data.real_dataset(4, 32).path}, {"conditions": {"radius": 0.1}}):
        with pytest.raises(UsageError, match=f"nothing but seeds.*Generators here that offer it: .*{TOY}"):
            api.generate(plain.run.path, "0", tmp_path / "made", **asked)


@pytest.mark.parametrize("text", ["radius", "=3", "radius=", " = "])
def test_conditions_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="asks for nothing"):
        parse_conditions([text])
    with pytest.raises(UsageError, match="twice"):
        parse_conditions(["a-b=1", "a_b=2"])
    assert parse_conditions(["a-b=1", "c=ED, ET"]) == {"a_b": "1", "c": "ED, ET"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"side": 64}, "sides of images (y, x) are 32, 32; those of the dataset are 64, 64"),
        ({"contrasts": ("t1", "t2")}, "contrasts are t1, t1ce, t2, flair; those of the dataset are t1, t2"),
        ({"subjects": ("q0",)}, "Every sample is held out"),
        ({"protocol": {"geometry": {"spacing_mm": [2, 2, 2]}}}, "voxels of different sizes"),
        ({"protocol": {"geometry": {"axes": "RAS"}}}, "different orientations"),
    ],
)
def test_labels_that_do_not_fit_are_refused(options: Any, words: str, model: Path, tmp_path: Path) -> None:
    notes = model / "outputs" / "checkpoint" / "synthkit.json"
    known = json.loads(notes.read_text())
    geometry = {"geometry": {"axes": "LPS", "spacing_mm": [1, 1, 1]}}
    notes.write_text(json.dumps({**known, "protocol": {**known["protocol"], **geometry}}))
    given = others(tmp_path / "others", **options)
    with pytest.raises(DataError) as caught:
        api.generate(model, "0", tmp_path / "made", labels=given.path)
    assert words in str(caught.value)
    assert not (tmp_path / "made").exists()


def test_labels_go_by_their_names(model: Path, tmp_path: Path) -> None:
    images, labels = data.slices(2, 4, 32, seed=7)
    rows = [{"id": f"q{k}", "split": "train", "subject": f"q{k}", "slice": 0} for k in range(2)]
    other_values = replace(BRATS, labels=tuple(replace(x, value={4: 3}.get(x.value, x.value)) for x in BRATS.labels))
    other_names = replace(BRATS, labels=BRATS.labels[:2], nested=(), mean_of=())
    common: dict[str, Any] = {"contrasts": BRATS.contrast_names, "size": (32, 32)}
    with DatasetWriter(tmp_path / "values", scheme=other_values, **common) as writer:
        writer.append(images, np.where(labels == 4, 3, labels).astype(np.uint8), rows)
    made = Dataset(api.generate(model, "0-1", tmp_path / "made", labels=tmp_path / "values").run.path)
    assert (made.read(range(2))[1] == labels[[asked["labels"] for asked in asked_of(made)]]).all()
    with DatasetWriter(tmp_path / "names", scheme=other_names, **common) as writer:
        writer.append(images, np.where(labels == 4, 0, labels).astype(np.uint8), rows)
    with pytest.raises(DataError, match="The model's are NCR, ED and ET; those of the dataset are NCR and ED"):
        api.generate(model, "0", tmp_path / "refused", labels=tmp_path / "names")


# ---------------------------------------------------------------------------------------------------------- masks


@pytest.mark.filterwarnings("ignore:Whose masks")
def test_masks_in_any_file(model: Path, tmp_path: Path) -> None:
    maps = masks(tmp_path / "masks")
    np.save(tmp_path / "masks" / "n0.npy", maps[0].astype(np.float64))
    nib.save(nib.Nifti1Image(maps[1].T[..., None], np.eye(4)), tmp_path / "masks" / "n1.nii.gz")
    (tmp_path / "masks" / ".DS_Store").write_text("")
    made = Dataset(api.generate(model, "0-4", tmp_path / "made", labels=tmp_path / "masks").run.path)
    assert (made.read(range(5))[1] == [*maps, maps[0], maps[1]]).all()


def _as_greys(labels: np.ndarray) -> np.ndarray:
    return np.array([0, 85, 170, 0, 255], np.uint8)[labels]


@pytest.mark.filterwarnings("ignore:Whose masks")
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (_as_greys, "It holds 85, 170 and 255; the model's are 1 NCR, 2 ED, 4 ET"),
        (lambda labels: labels * 0.5, "It holds fractions"),
        (lambda labels: np.where(labels == 1, np.nan, labels), "It holds fractions"),
        (lambda labels: labels.astype(np.int16) - 1, "It holds -1"),
        (lambda labels: labels[:16], "32 x 16 pixels, the model makes 32 x 32"),
        (lambda labels: np.stack([labels] * 3), "holds 3 pictures"),
    ],
)
def test_masks_that_cannot_be_used_are_refused(wrong: Any, words: str, model: Path, tmp_path: Path) -> None:
    maps = masks(tmp_path / "masks")
    np.save(tmp_path / "masks" / "wrong.npy", wrong(maps[0]))
    with pytest.raises(DataError) as caught:
        api.generate(model, "0", tmp_path / "made", labels=tmp_path / "masks")
    assert "1 of 4 masks" in caught.value.what and words in str(caught.value)
    assert not (tmp_path / "made").exists()
    np.save(tmp_path / "masks" / "wrong.npy", maps[0])  # as the message advises
    api.generate(model, "0", tmp_path / "made", labels=tmp_path / "masks")


def test_folders_without_masks_are_refused(model: Path, tmp_path: Path, make_subject: Any) -> None:
    (tmp_path / "empty").mkdir()
    make_subject(tmp_path / "subjects")
    for folder, words in (
        (tmp_path / "nowhere", "There is no folder"),
        (tmp_path / "empty", "no label maps"),
        (tmp_path / "subjects", "no label maps.*synthkit prepare"),
        (tmp_path / "subjects" / "BraTS20_Training_001", "is a volume.*synthkit prepare"),
    ):
        with pytest.raises(DataError, match=words):
            api.generate(model, "0", tmp_path / "made", labels=folder)


@pytest.mark.filterwarnings("ignore:Whose masks")
def test_masks_of_ones_are_asked_about(model: Path, tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    Image.fromarray(np.eye(32, dtype=np.uint8)).save(tmp_path / "masks" / "a.png")
    with pytest.warns(UserWarning, match="the value 1 alone, which this model takes for NCR"):
        api.generate(model, "0", tmp_path / "made", labels=tmp_path / "masks")


@pytest.mark.filterwarnings("ignore:Whose masks")
def test_masks_that_changed_are_refused(model: Path, tmp_path: Path) -> None:
    maps = masks(tmp_path / "masks")
    api.generate(model, "0-1", tmp_path / "made", labels=tmp_path / "masks")
    Image.fromarray(maps[2]).save(tmp_path / "masks" / "m0.png")
    with pytest.raises(UsageError, match="Its input labels was another one"):
        api.generate(model, "0-1", tmp_path / "made", labels=tmp_path / "masks", resume=True)


def _as_bits(path: Path, mask: np.ndarray) -> None:
    Image.fromarray(mask).save(path.with_suffix(".png"))


@pytest.mark.filterwarnings("ignore:Whose masks")
@pytest.mark.parametrize("save", [np.save, _as_bits])
def test_truth_values_are_a_label_only_where_there_is_one(save: Any, model: Path, tmp_path: Path) -> None:
    masks(tmp_path / "masks")
    truth = np.eye(32, dtype=bool)
    save(tmp_path / "masks" / "truth.npy", truth)
    with pytest.raises(DataError, match="true and false; the model's labels are 1 NCR, 2 ED, 4 ET") as caught:
        api.generate(model, "0", tmp_path / "made", labels=tmp_path / "masks")
    assert str(caught.value).count("true and false") == 1 and not caught.value.details
    one = replace(BRATS, labels=BRATS.labels[2:], nested=(), mean_of=())
    (tmp_path / "one").mkdir()
    save(tmp_path / "one" / "truth.npy", truth)
    assert (MaskFolder(tmp_path / "one", one, (32, 32)).labels(0) == truth * 4).all()
    next((tmp_path / "masks").glob("truth.*")).unlink()
    np.save(tmp_path / "masks" / "truth.npy", np.where(truth, 2, 0))  # as the message advises
    api.generate(model, "0", tmp_path / "made", labels=tmp_path / "masks")


@pytest.mark.filterwarnings("ignore:Whose masks")
def test_what_is_no_mask_is_named(model: Path, tmp_path: Path) -> None:
    masks(tmp_path / "masks")
    (tmp_path / "masks" / "notes.txt").write_text("drawn by hand")
    (tmp_path / "masks" / "more").mkdir()
    with pytest.warns(UserWarning, match="no pictures: more/, notes.txt"):
        api.generate(model, "0", tmp_path / "made", labels=tmp_path / "masks")
    with pytest.raises(DataError, match=r"m0.png is a file.*by their folder.*Give .*/masks\."):
        api.generate(model, "0", tmp_path / "made", labels=tmp_path / "masks" / "m0.png")


# ----------------------------------------------------------------------------------------- methods and declarations


def test_a_sample_with_other_labels_is_not_taken(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from synthkit.testing.toys import conditional

    right = conditional.draw

    def turned(*args: Any) -> Any:
        image, labels = right(*args)
        return image, labels[::-1].copy()

    monkeypatch.setattr(conditional, "draw", turned)
    with pytest.raises(PluginError, match="The sample of seed 0 has other labels than it was asked for"):
        api.generate(model, "0-3", tmp_path / "made", labels=data.real_dataset(4, 32).path)


def test_what_a_method_does_not_combine_it_refuses(model: Path, tmp_path: Path) -> None:
    with pytest.raises(SynthkitError, match="says the radius and the parts already"):
        labels = data.real_dataset(4, 32).path
        api.generate(model, "0", tmp_path / "made", labels=labels, conditions={"radius": 0.1})


@dataclass(frozen=True)
class _Offers:
    """Every type of condition."""

    volume_ml: float | None = synthkit.param(None, "volume", minimum=0, maximum=300, unit="ml")
    level: int | None = synthkit.param(None, "slice level", minimum=0, maximum=10)
    enhancing: bool | None = synthkit.param(None, "whether it enhances")
    side: Literal["left", "right"] | None = synthkit.param(None, "hemisphere")
    grade: str | None = synthkit.param(None, "grade", choices=("low", "high"))
    parts: tuple[str, ...] | None = synthkit.param(None, "parts", choices="labels")


def _offering(**changes: tuple[Any, Any]) -> type:
    made = type("Offers", (), {"__annotations__": {k: v for k, (v, _) in changes.items()}})
    for name, (_, default) in changes.items():
        setattr(made, name, default)
    return dataclass(frozen=True)(made)


@pytest.mark.parametrize(("need", "problem"), [("", ""), ("passes", "label maps need 'passes'"), ("x", "need 'x'")])
def test_what_label_maps_need_is_a_parameter_that_is_true_or_false(need: str, problem: str) -> None:
    found = problem_of(replace(GENERATOR, label_maps=True, label_maps_need=need))
    assert problem in found and bool(problem) == bool(found)


@pytest.mark.parametrize(
    ("conditions", "problem"),
    [
        (_Offers, ""),
        (NoParams, ""),
        (None, "are not a dataclass"),
        (dataclass(type("Offers", (), {})), "are not frozen"),
        (_offering(volume=(float, 3.0)), "not of one type or None"),
        (_offering(volume=(float | None, 3.0)), "None by default"),
        (_offering(volume=(float | None, None)), "without a minimum and a maximum"),
        (_offering(grade=(str | None, None)), "without choices"),
        (_offering(labels=(bool | None, None)), "the name labels"),
        (_offering(sizes=(tuple[int, ...] | None, None)), "not offered"),
        (_offering(part=(str | None, synthkit.param(None, "part", choices="labels"))), "not a tuple"),
    ],
)
def test_conditions_are_declared_whole(conditions: Any, problem: str) -> None:
    found = problem_of(replace(GENERATOR, conditions=conditions))
    assert problem in found and bool(problem) == bool(found)
