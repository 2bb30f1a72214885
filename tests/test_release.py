"""A release holds exactly what may be shared: audited samples without the copies, and nobody's name."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthkit.cli.release import release
from synthkit.data.dataset import Dataset
from synthkit.data.lineage import original_digests, public_lineage, subject_key
from synthkit.data.writer import DatasetWriter
from synthkit.errors import DataError, GateFailedError, SynthkitError, UsageError
from synthkit.judging.policy import Policy
from synthkit.release import folder, layout
from synthkit.release.gate import AuditRun, choose_removal, read_audit
from synthkit.report.audit.protection import data_protection
from synthkit.running.backends.local import InlineBackend
from synthkit.running.run import RESULT, Input, Job, Run, create_run
from synthkit.schemes import BRATS
from synthkit.testing.toys import SLICE_AUDIT

N_CLEAN = 18
COPIES = ("seed00000018", "seed00000019")
LENIENT = {"required_power": ()}

pytestmark = pytest.mark.usefixtures("toy_audit")


def write(path: Path, images: Any, rows: list[dict[str, Any]], lineage: Any = None) -> Dataset:
    labels = np.zeros((len(images), 32, 32), np.uint8)
    labels[:, 4:8, 4:8] = 2
    kind: Any = "real" if rows[0]["split"] != "synthetic" else "synthetic"
    with DatasetWriter(path, contrasts=("t1", "t2"), scheme=BRATS, size=(32, 32), kind=kind, lineage=lineage) as writer:
        writer.append(images, labels, rows)
    return Dataset(path)


def real_and_synthetic(root: Path) -> tuple[Dataset, Dataset]:
    """Six training and four held-out patients; 18 new images and two copies."""
    rng = np.random.default_rng(0)
    train, others = np.split(rng.integers(0, 256, (20, 2, 32, 32), dtype=np.uint8), [12])
    rows = [
        {"id": f"Patient_{i // 2:03d}-{i % 2}", "split": "train" if i < 12 else "holdout",
         "subject": f"Patient_{i // 2:03d}", "slice": i % 2}
        for i in range(20)
    ]  # fmt: skip
    real = write(root / "real", np.concatenate([train, others]), rows)
    lineage = {
        "generator": "toy",
        "checkpoint_digest": "sha256:c0ffee",
        "training_datasets": [real.training_entry()],
        "from": str(root),
    }
    new = rng.integers(0, 256, (N_CLEAN, 2, 32, 32), dtype=np.uint8)
    seeds = [{"id": f"seed{i:08d}", "split": "synthetic", "seed": i} for i in range(N_CLEAN + 2)]
    return real, write(root / "synthetic", np.concatenate([new, train[[0, 5]]]), seeds, lineage)


def run_audit(path: Path, real: Dataset, synthetic: Dataset, **policy: Any) -> Path:
    job = Job(
        verb="audit-memorization",
        plugins=(SLICE_AUDIT.name,),
        params={"plants": 0},
        inputs={
            "train": Input("dataset", real.path, ("train",), real.digest),
            "holdout": Input("dataset", real.path, ("holdout",), real.digest),
            "synthetic": Input("dataset", synthetic.path, (), synthetic.digest),
        },
        options={"policy": asdict(Policy(**{**LENIENT, **policy})), "lineage": "known"},
    )
    result = InlineBackend().run(create_run(path, job), SLICE_AUDIT, lambda event: None)
    assert result["status"] == "succeeded", result["error"]
    return path


@pytest.fixture(scope="module")
def audited(toy_audit: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Dataset, Path]:
    """Real data, synthetic data with two copies among twenty, and the audit, which fails."""
    root = tmp_path_factory.mktemp("audited")
    real, synthetic = real_and_synthetic(root)
    return real, synthetic, run_audit(root / "audit", real, synthetic)


@pytest.fixture(scope="module")
def released(audited: tuple[Dataset, Dataset, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("released") / "out"
    release(
        audited[1].path, out, audit=audited[2], title="Test data", creator=["Doe, Jane", "A Group"],
        licence="CC-BY-4.0", contact="jane@example.org", quiet=True,
    )  # fmt: skip
    return out


@pytest.fixture(scope="module")
def clean(audited: tuple[Dataset, Dataset, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The samples without the copies, and their audit, which passes."""
    root = tmp_path_factory.mktemp("clean")
    images = audited[1].read(range(N_CLEAN))[0]
    rows = [{"id": row.id, "split": "synthetic", "seed": row.seed} for row in audited[1].samples[:N_CLEAN]]
    dataset = write(root / "data", images, rows, audited[1].lineage)
    return dataset.path, run_audit(root / "audit", audited[0], dataset)


# ------------------------------------------------------------------------------------------------- what comes out


def test_exactly_the_planted_copies_are_left_out(audited: tuple[Dataset, Dataset, Path], released: Path) -> None:
    removal = choose_removal(audited[1], read_audit(audited[2]))
    assert removal.copies == COPIES and removal.near == () and removal.kept == tuple(range(N_CLEAN))
    samples = (released / "samples.csv").read_text().splitlines()
    assert samples[0] == "id,seed,digest,labels" and len(samples) == N_CLEAN + 1
    assert samples[1] == f"seed00000000,0,{audited[1].samples[0].digest},ED"
    pictures = {path.name for path in (released / "images" / "T1").iterdir()}
    assert pictures == {f"seed{i:08d}_T1.png" for i in range(N_CLEAN)}


def test_the_second_audit_is_of_what_remains(audited: tuple[Dataset, Dataset, Path], released: Path) -> None:
    work = released.with_name("out-audit")
    remaining, again = Dataset(work / "remaining"), Run(work / "run")
    first = Run(audited[2]).job()
    assert [row.id for row in remaining.samples] == [f"seed{i:08d}" for i in range(N_CLEAN)]
    assert again.job().inputs["synthetic"].digest == remaining.digest != first.inputs["synthetic"].digest
    assert again.job().params == first.params and again.job().options == first.options
    document = json.loads((released / "audit.json").read_text())
    assert document["audited_digest"] == document["digest"] == remaining.digest
    assert document["verdict"]["outcome"] == "pass" and document["conditional_on_removal"]
    assert document["before_removal"]["outcome"] == "fail"
    sheet = (released / "datasheet.md").read_text()
    assert (
        "2 of 20 images were left out: 2 that an audit found nearer" in sheet and "conditional on the removal" in sheet
    )
    for heading in ("Motivation", "Composition", "Uses", "Distribution", "Maintenance", "Data protection"):
        assert f"# {heading}" in sheet


def test_checksums_cover_every_file_and_fail_on_a_change(released: Path) -> None:
    lines = [line.split("  ", 1) for line in (released / layout.CHECKSUMS).read_text().splitlines()]
    files = {p.relative_to(released).as_posix() for p in released.rglob("*") if p.is_file()} - {layout.CHECKSUMS}
    assert {name for _, name in lines} == files and len(lines) == len(files)
    for digest, name in lines:
        assert hashlib.sha256((released / name).read_bytes()).hexdigest() == digest


@pytest.mark.parametrize("format", ["png", "nifti", "nnunet", "dataset"])
def test_nobody_is_named_in_any_format(
    audited: tuple[Dataset, Dataset, Path], clean: tuple[Path, Path], released: Path, tmp_path: Path, format: str
) -> None:
    real = audited[0]
    out = released
    if format != "png":  # the released folder of the second audit has the most to hide
        out = tmp_path / "out"
        release(clean[0], out, audit=clean[1], format=format, quiet=True)
        assert not out.with_name("out-audit").exists()
    assert (out / ("dataset" if format == "dataset" else "images")).is_dir()
    secrets = {*real.subjects, *(row.digest for row in real.samples), str(real.path.parent)}
    secrets |= {subject_key(subject, real.digest) for subject in real.subjects}
    everything = [(p.name.encode(), p.read_bytes()) for p in out.rglob("*") if p.is_file()]
    found = [(name, s) for name, data in everything for s in secrets if s.encode() in name + data]
    assert not found
    assert b"sha256:c0ffee" in (out / "audit.json").read_bytes() and real.digest in (out / "audit.json").read_text()


def test_an_audit_that_passed_stands(clean: tuple[Path, Path], tmp_path: Path) -> None:
    release(clean[0], tmp_path / "out", audit=clean[1], format="dataset", quiet=True)
    made = Dataset(tmp_path / "out" / "dataset")
    assert made.digest == Dataset(clean[0]).digest and made.lineage["trained_on"][0]["n_subjects"] == 6
    assert not json.loads((tmp_path / "out" / "audit.json").read_text())["conditional_on_removal"]
    assert not (tmp_path / "out" / "CITATION.cff").exists()


def test_citation_file(released: Path) -> None:
    text = (released / "CITATION.cff").read_text()
    yaml = pytest.importorskip("yaml")
    data = yaml.safe_load(text)
    assert data["authors"] == [{"family-names": "Doe", "given-names": "Jane"}, {"name": "A Group"}]
    assert (data["title"], data["license"], data["type"]) == ("Test data", "CC-BY-4.0", "dataset")


def test_names_of_imported_files_become_numbers(
    audited: tuple[Dataset, Dataset, Path], clean: tuple[Path, Path], tmp_path: Path
) -> None:
    source = Dataset(clean[0])
    rows = [{"id": f"Jane_Doe_{i}", "split": "synthetic"} for i in range(N_CLEAN)]
    imported = write(tmp_path / "imported", source.read(range(N_CLEAN))[0], rows)
    audit = run_audit(tmp_path / "audit", audited[0], imported)
    release(imported.path, tmp_path / "out", audit=audit, format="nifti", quiet=True)
    names = [path.name for path in (tmp_path / "out").rglob("*")]
    assert "sample00000000" in names and not any("Jane" in name for name in names)


# ------------------------------------------------------------------------------------------------ what is refused


def copied(audited: tuple[Dataset, Dataset, Path], tmp_path: Path) -> Path:
    """The audit in another place, to be damaged."""
    run = tmp_path / "copy"
    shutil.copytree(audited[2], run, symlinks=True)
    for role in ("train", "holdout", "synthetic"):
        (run / "inputs" / role).unlink()
        (run / "inputs" / role).symlink_to((audited[2] / "inputs" / role).resolve())
    return run


def change_result(run: Path, **changes: Any) -> None:
    path = run / RESULT
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def refusal(dataset: Path, audit: Path, out: Path, **options: Any) -> SynthkitError:
    with pytest.raises(SynthkitError) as caught:
        release(dataset, out, audit=audit, quiet=True, **options)
    assert not out.exists() and not list(out.parent.glob(f".{out.name}*"))
    return caught.value


@pytest.mark.parametrize(
    ("damage", "kind", "message"),
    [
        (lambda run: (run / RESULT).unlink(), DataError, "has not finished"),
        (lambda run: change_result(run, status="failed"), DataError, "has not finished"),
        (lambda run: change_result(run, verdict={"outcome": "pass"}), DataError, "Changed since: the verdict"),
        (lambda run: change_result(run, outputs={}), DataError, "no table of matches"),
        (
            lambda run: (run / "outputs" / "matches.csv").write_text(
                (run / "outputs" / "matches.csv").read_text().replace("True", "False")
            ),
            DataError,
            "not the one that the audit wrote",
        ),
        (
            lambda run: (run / "job.json").write_text(
                (run / "job.json").read_text().replace("audit-memorization", "evaluate")
            ),
            UsageError,
            "is a run of evaluate",
        ),
    ],
)
def test_a_wrong_audit_is_refused(
    audited: tuple[Dataset, Dataset, Path], tmp_path: Path, damage: Any, kind: type, message: str
) -> None:
    run = copied(audited, tmp_path)
    damage(run)
    error = refusal(audited[1].path, run, tmp_path / "out")
    assert type(error) is kind and message in str(error)


def test_other_samples_than_the_audited_are_refused(audited: tuple[Dataset, Dataset, Path], tmp_path: Path) -> None:
    real, synthetic, audit = audited
    rows = [{"id": row.id, "split": "synthetic", "seed": row.seed} for row in synthetic.samples]
    images = synthetic.read(range(len(synthetic)))[0].copy()
    images[3, 0, 0, 0] ^= 1
    other = write(tmp_path / "other", images, rows, synthetic.lineage)
    assert "is not an audit of" in str(refusal(other.path, audit, tmp_path / "out"))
    # The audited description and table over pixels that are others.
    for name in ("dataset.json", "samples.csv"):
        shutil.copy(synthetic.path / name, other.path / name)
    error = refusal(other.path, audit, tmp_path / "out")
    assert isinstance(error, DataError) and "seed00000003" in str(error)
    assert isinstance(refusal(real.path, audit, tmp_path / "out"), UsageError)


def test_a_training_set_that_was_not_searched_is_refused(
    audited: tuple[Dataset, Dataset, Path], tmp_path: Path
) -> None:
    real, synthetic, _ = audited
    entries = [*synthetic.lineage["training_datasets"], {"digest": "sha256:other", "subject_keys": []}]
    assert original_digests(entries) == [real.digest, "sha256:other"]
    rows = [{"id": row.id, "split": "synthetic", "seed": row.seed} for row in synthetic.samples]
    images = synthetic.read(range(len(synthetic)))[0]
    more = write(tmp_path / "more", images, rows, {"generator": "toy", "training_datasets": entries})
    error = refusal(more.path, audited[2], tmp_path / "out")
    assert isinstance(error, GateFailedError) and "did not search all" in str(error)


def test_too_many_removed_or_too_little_evidence_is_refused(
    audited: tuple[Dataset, Dataset, Path], clean: tuple[Path, Path], tmp_path: Path
) -> None:
    real, synthetic, audit = audited
    strict = run_audit(tmp_path / "strict", real, synthetic, max_removed_rate=0.05)
    error = refusal(synthetic.path, strict, tmp_path / "out")
    assert isinstance(error, GateFailedError) and "2 of 20 images" in str(error) and "max_removed_rate" in str(error)
    unsure = run_audit(tmp_path / "unsure", real, Dataset(clean[0]), min_synthetic=1000)
    error = refusal(clean[0], unsure, tmp_path / "out")
    assert error.exit_code == 12 and "too little evidence" in str(error) and "1000" in str(error)
    assert isinstance(refusal(synthetic.path, audit, tmp_path / "out", max_quantile=2.0), UsageError)


class Near(AuditRun):
    """An audit in whose table the image of seed 3 has a match at the quantile 0.9, and no other has one above 0.8."""

    def rows(self, table: str) -> Any:
        for row in super().rows(table):
            near = row["synthetic_id"] == "seed00000003"
            yield {**row, "r_null_quantile": "0.9" if near else "0.8"}


def test_images_near_the_threshold_are_left_out_as_asked(audited: tuple[Dataset, Dataset, Path]) -> None:
    found = read_audit(audited[2])
    lenient = {**found.job.options["policy"], "max_removed_rate": 0.15}
    found.job.options["policy"] = lenient
    audit = Near(found.run, found.job, found.result)
    assert choose_removal(audited[1], audit, 0.95).near == ()
    removal = choose_removal(audited[1], audit, 0.9)
    assert removal.near == ("seed00000003",) and removal.copies == COPIES and removal.n_removed == 3
    lenient["max_removed_rate"] = 0.1
    with pytest.raises(GateFailedError, match="3 of 20 images"):
        choose_removal(audited[1], audit, 0.9)


def test_what_remains_has_to_pass(audited: tuple[Dataset, Dataset, Path], tmp_path: Path) -> None:
    """19 images are asked for: enough before the removal of two, and too few after it."""
    run = run_audit(tmp_path / "audit", audited[0], audited[1], min_synthetic=19)
    error = refusal(audited[1].path, run, tmp_path / "out")
    assert error.exit_code == 12 and "insufficient evidence" in str(error) and "18" in error.why


def test_the_output_must_be_empty_and_the_words_sound(clean: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(UsageError, match="not empty"):
        release(clean[0], tmp_path / "full", audit=clean[1], quiet=True)
    for options in ({"format": "tiff"}, {"licence": "my licence"}, {"title": "two\nlines"}):
        assert isinstance(refusal(clean[0], clean[1], tmp_path / "out", **options), UsageError)


def test_a_name_in_the_title_is_refused(clean: tuple[Path, Path], tmp_path: Path) -> None:
    assert "Patient_003" in str(refusal(clean[0], clean[1], tmp_path / "out", title="Like Patient_003"))


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_nothing_is_left_of_a_release_that_breaks_off(
    clean: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def broken(path: Path, out: Path, **options: Any) -> None:
        out.mkdir()
        raise error

    monkeypatch.setattr(folder, "export_dataset", broken)
    with pytest.raises(type(error)):
        release(clean[0], tmp_path / "out", audit=clean[1], quiet=True)
    assert list(tmp_path.iterdir()) == []


def test_dry_run_writes_nothing(audited: tuple[Dataset, Dataset, Path], tmp_path: Path, capsys: Any) -> None:
    release(audited[1].path, tmp_path / "out", audit=audited[2], dry_run=True, quiet=True)
    assert "Left out: 2 of 20 images (2 copies)" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------------- sentences


def test_lineage_keeps_numbers_and_no_keys() -> None:
    inner = {"digest": "d1", "kind": "real", "n_samples": 5, "phantom": False, "subject_keys": ["k1", "k2"]}
    outer = {"digest": "d2", "kind": "synthetic", "n_samples": 9, "subject_keys": [], "training_datasets": [inner]}
    public = public_lineage({"generator": "g", "checkpoint_digest": "c", "training_datasets": [outer], "path": "/x"})
    assert public["trained_on"][0]["trained_on"][0]["n_subjects"] == 2
    assert "k1" not in json.dumps(public) and "path" not in public
    assert public_lineage({}) == {}


def test_data_protection_says_what_was_measured() -> None:
    scores = [
        {"name": "n_synthetic", "value": 1000, "of": {}},
        {"name": "n_copies", "value": 0, "of": {}},
        {"name": "copied_rate", "value": 0.002, "low": 0.0002, "high": 0.0072, "of": {}},
        {"name": "n_copied_subjects", "value": 2, "of": {}},
        {"name": "n_holdout_copies", "value": 5, "of": {}},
        {"name": "n_train", "value": 400, "n": 50, "of": {}},
        {"name": "n_feature_flagged", "value": 3, "of": {"features": "network"}},
        {"name": "membership_auc", "value": 0.61, "low": 0.55, "high": 0.67, "of": {}},
        {"name": "power", "value": 1.0, "low": 0.94, "high": 1.0, "of": {"planted": "noise", "strength": "sd 5"}},
    ]
    single, link, inference = data_protection(scores, {"outcome": "pass"})
    assert [part["criterion"] for part in (single, link, inference)] == ["Singling out", "Linkability", "Inference"]
    assert any("0.20% (95% interval 0.02% to 0.72%)" in line for line in single["measured"])
    assert any("noise sd 5 100% (95% interval 94% to 100%)" in line for line in single["measured"])
    assert any("3 images stand out by the features" in line for line in single["measured"])
    assert any("5 are nearer to a held-out person" in line for line in single["measured"])
    assert "2 of 50 training patients" in link["measured"][0] and "better than by guessing" in link["conclusion"]
    assert "Copies can be linked" in link["conclusion"]
    other_way = [{"name": "membership_auc", "value": 0.01, "low": 0.0, "high": 0.1, "of": {}}]
    assert "better than by guessing" in data_protection(other_way, {"outcome": "pass"})[1]["conclusion"]
    assert "by membership" in inference["conclusion"] and "not excluded" in inference["conclusion"]
    few = [{"name": "membership_auc", "value": 0.9, "of": {}}]
    assert "is not known: its AUC has no interval" in data_protection(few, {"outcome": "pass"})[1]["conclusion"]
    nearer = [{"name": "closer_than_holdout", "value": 0.8, "low": 0.6, "high": 0.9, "of": {}}]
    assert "by closeness to the training images" in data_protection(nearer, {"outcome": "pass"})[2]["conclusion"]
    people = {"name": "n_train", "value": 12, "n": 6, "of": {}}
    unbounded = [people, {"name": "closer_to_train", "value": 0.75, "of": {}}]
    told = data_protection(unbounded, {"outcome": "pass"})[2]["conclusion"]
    assert "cannot be told with 6 training people" in told and "was not shown" not in told
    for whose, said in (("patients", "those of patients, byte for byte"), ("masks", "nobody knows whose")):
        lent = data_protection(scores, {"outcome": "pass"}, whose)
        assert all(said in part["measured"][0] and "not excluded" in part["conclusion"] for part in lent[:2])
        assert "isolates the record of a patient" not in lent[0]["conclusion"]
        assert "among the images, their label maps left out, show 2 of 50" in lent[1]["measured"][1]
    # Nothing measured is nothing concluded, and never a reassurance.
    single, link, inference = data_protection([], {"outcome": "insufficient evidence"})
    assert "too little evidence" in single["conclusion"] and "nothing is concluded" in link["conclusion"]
    assert inference["measured"] == ["Nothing."] and "not excluded" in inference["conclusion"]
