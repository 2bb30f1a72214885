"""The RO-Crate of a study: every run an action with versions and digests, and nothing of a patient in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from synthkit.errors import DataError, UsageError
from synthkit.running.lock import write_lock
from synthkit.running.run import Input, Job, Run, create_run
from synthkit.study.crate import write_crate
from synthkit.study.deidentify import Deidentifier, subjects_of
from synthkit.testing import data

PATIENTS = ("TCGA-DU-7294", "TCGA-DU-72")
CONTAINER = {"image": "synthkit/toy:0.1.0", "image_id": "sha256:" + "a" * 64, "repo_digests": ["r/toy@sha256:b"]}
PICTURE = "data:image/png;base64,iVBORw0KGgo="


def result_of(**more: Any) -> dict[str, Any]:
    return {
        "status": "succeeded",
        "exit_code": 0,
        "error": None,
        "started": "2026-01-02T03:04:05+00:00",
        "seconds": 60.0,
        "versions": {"python": "3.11.9", "synthkit-core": "0.1.0", "numpy": "2.1.0"},
        "code": {"synthkit-core": "sha256:" + "c" * 64},
        "backend": "docker",
        "container": CONTAINER,
        **more,
    }


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A training, its predictions and their scores; the report shows a picture and names a patient."""
    folder = tmp_path / "study"
    real = data.real_dataset(2, 32)
    train = create_run(
        folder / "s/train",
        Job(
            "train",
            ("toy-segmenter",),
            params={"passes": 4, "sides": [1, 2]},
            inputs={"data": Input("dataset", real.path, digest=real.digest)},
        ),
    )
    train.checkpoint.mkdir()
    (train.checkpoint / "weights.bin").write_bytes(b"secret weights")
    train.write_result(result_of(outputs={"checkpoint": {"kind": "checkpoint", "digest": "sha256:weights"}}))
    checkpoint = Input("checkpoint", train.checkpoint, digest="sha256:weights")
    job = Job("segment", ("toy-segmenter",), inputs={"checkpoint": checkpoint}, options={"subjects": list(PATIENTS)})
    segment = create_run(folder / "s/segment", job)
    segment.predictions.mkdir()
    for name in PATIENTS:
        (segment.predictions / f"{name}.nii.gz").write_bytes(b"secret labels")
    segment.write_result(result_of(outputs={"predictions": {"kind": "labels", "digest": "sha256:labels"}}))
    evaluate = create_run(
        folder / "s/evaluate",
        Job("evaluate", ("toy-overlap",), inputs={"prediction": Input("labels", segment.predictions)}),
    )
    (evaluate.outputs / "overlap.csv").write_text(
        "subject,slice,dice\n" + "".join(f"{name},7294,0.72\n" for name in PATIENTS)
    )
    scores = [{"name": "overlap", "value": 0.72, "of": {"subject": name}} for name in PATIENTS]
    table = {"overlap": {"kind": "table", "digest": "sha256:table"}}
    evaluate.write_result(result_of(outputs=table, scores=scores, warnings=[f"{PATIENTS[1]} lacks t2"]))
    failed = create_run(folder / "s/failed", Job("train", ("toy-segmenter",)))
    error = {"what": f"No memory for {folder.resolve()}.", "why": "", "fix": "", "type": "OutOfMemoryError"}
    failed.write_result({"status": "failed", "exit_code": 7, "error": error})
    create_run(folder / "s/waiting", Job("train", ("toy-segmenter",)))
    (folder / "study.toml").write_text(f'[study]\nname = "Toy study"\n[data]\nholdout = "{PATIENTS[0]}"\n')
    (folder / "report.html").write_text(f'<p>{PATIENTS[0]}_085</p><img src="{PICTURE}"><svg></svg>')
    (folder / "tables").mkdir()
    (folder / "tables" / "dice.csv").write_text("arm,dice\nreal,0.72\n")
    write_lock(folder / "synthkit.lock", {"lock": 1})
    return folder


def graph_of(metadata: Path) -> dict[str, dict[str, Any]]:
    return {entity["@id"]: entity for entity in json.loads(metadata.read_text())["@graph"]}


def test_every_run_with_a_result_is_an_action(study: Path, tmp_path: Path) -> None:
    graph = graph_of(write_crate(study, tmp_path / "crate"))
    actions = {entity["@id"]: entity for entity in graph.values() if entity["@type"] == "CreateAction"}
    assert set(actions) == {f"#run/s/{name}" for name in ("train", "segment", "evaluate", "failed")}
    assert {item["@id"] for item in graph["./"]["mentions"]} == set(actions)
    train = actions["#run/s/train"]
    assert (train["startTime"], train["endTime"]) == ("2026-01-02T03:04:05+00:00", "2026-01-02T03:05:05+00:00")
    assert train["actionStatus"].endswith("CompletedActionStatus")
    image = graph[train["containerImage"]["@id"]]
    assert (image["name"], image["tag"], image["sha256"]) == ("synthkit/toy", "0.1.0", "a" * 64)
    passes = graph["#run/s/train/params/passes"]
    assert (passes["name"], passes["value"], graph["#run/s/train/params/sides"]["value"]) == ("passes", 4, "[1, 2]")
    failed = actions["#run/s/failed"]
    assert failed["actionStatus"].endswith("FailedActionStatus") and failed["error"] == "No memory for .."


def test_the_output_of_a_run_is_the_input_of_the_next(study: Path, tmp_path: Path) -> None:
    graph = graph_of(write_crate(study, tmp_path / "crate"))

    def ids(run: str, key: str) -> set[str]:
        return {item["@id"] for item in graph[f"#run/s/{run}"][key]}

    assert "#sha256:weights" in ids("train", "result") & ids("segment", "object")
    assert graph["#sha256:weights"]["@type"] == "CreativeWork"  # described, not a part of the crate
    real = data.real_dataset(2, 32)
    assert graph[f"#{real.digest}"]["identifier"] == real.digest


def test_nothing_of_a_patient_is_in_it(study: Path, tmp_path: Path) -> None:
    out = tmp_path / "crate"
    write_crate(study, out)
    files = {path.relative_to(out).as_posix(): path.read_text() for path in out.rglob("*") if path.is_file()}
    assert set(files) == {
        "ro-crate-metadata.json",
        "study.toml",
        "synthkit.lock",
        "report.html",
        "tables/dice.csv",
        *(f"s/{run}/{file}.json" for run in ("train", "segment", "evaluate", "failed") for file in ("job", "result")),
        "s/evaluate/outputs/overlap.csv",
    }
    text = "\n".join(files.values())
    assert "secret" not in text and PICTURE not in text and str(study.resolve()) not in text
    assert not [
        name for name in (*PATIENTS, *data.real_dataset(2, 32).subjects) if f'"{name}"' in text or f"{name}_" in text
    ]
    assert not any(name in text for name in PATIENTS)
    numbers = [line.split(",") for line in files["s/evaluate/outputs/overlap.csv"].splitlines()[1:]]
    assert [row[1:] for row in numbers] == [["7294", "0.72"]] * 2  # a number is not a name
    # One patient has one name in every file, and the name that another begins with is another's.
    first = numbers[0][0]
    assert (
        first != numbers[1][0]
        and f'holdout = "{first}"' in files["study.toml"]
        and f"<p>{first}_085" in files["report.html"]
    )
    assert json.loads(files["s/segment/job.json"])["options"]["subjects"] == [row[0] for row in numbers]


def test_folders_out_of_the_study_are_cut(study: Path, tmp_path: Path) -> None:
    text = (study / "study.toml").read_text()
    (study / "study.toml").write_text(
        f'{text}subjects = "/srv/hospital x/neurology/brats"\ndataset = "../../ward/real"  # was /srv/older/real\n'
        f'[audit]\npolicy = "{Path.home()}/hospital/policy.toml"\nnotes = "1 / 2 and/or https://example.org/a/b"\n'
    )
    (study / "report.html").write_text(f"<title>t</title><pre>{(study / 'study.toml').read_text()}</pre>")
    failed = Run(study / "s/failed")
    error = {
        "what": f"/srv/hospital/a.nii is not {failed.path.resolve()}/b.",
        "why": "",
        "fix": "",
        "type": "DataError",
    }
    failed.write_result({"status": "failed", "exit_code": 7, "error": error})
    out = tmp_path / "crate"
    write_crate(study, out)
    assert not [path for path in out.rglob("*.*") if "hospital" in path.read_text() or "/srv" in path.read_text()]
    shown = (out / "study.toml").read_text()
    assert (
        'subjects = "brats"' in shown and 'dataset = "real"  # was real' in shown and 'policy = "policy.toml"' in shown
    )
    assert "1 / 2 and/or https://example.org/a/b" in shown
    page = (out / "report.html").read_text()
    assert page == f"<title>t</title><pre>{shown}</pre>"
    assert json.loads((out / "s/failed/result.json").read_text())["error"]["what"] == "a.nii is not ./s/failed/b."


@pytest.mark.parametrize("home", ["/", ""])
def test_a_machine_without_homes(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    monkeypatch.setenv("HOME", home)
    write_crate(study, tmp_path / "crate", subject_names=True)
    assert (tmp_path / "crate/tables/dice.csv").is_file()
    assert (tmp_path / "crate/report.html").read_text().startswith(f"<p>{PATIENTS[0]}_085</p><img")


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("/data/study/runs/a", "./runs/a"),
        ("No memory for /data/study.", "No memory for .."),
        ("/data/study-2/runs/a", "a"),
        ("/data/study.old/a", "a"),
        ("--reference=/data/study/a", "--reference=./a"),
        ("/mnt/data/study", "study"),
        ("runs/data/study", "runs/data/study"),
        ("(../../other/place)", "(place)"),
        ("<a href='x'>/</a> 12px/1.2 docs.org//a", "<a href='x'>/</a> 12px/1.2 docs.org//a"),
    ],
)
def test_folders_are_whole_names(text: str, cut: str) -> None:
    assert Deidentifier({}, {"/data/study": ".", "/": "~"}).text(text) == cut


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("CC0-1.0", "https://spdx.org/licenses/CC0-1.0"),
        ("https://creativecommons.org/licenses/by/4.0/", "https://creativecommons.org/licenses/by/4.0/"),
        ("", "#licence"),
    ],
)
def test_licence_by_name_or_address(study: Path, tmp_path: Path, given: str, address: str) -> None:
    graph = graph_of(write_crate(study, tmp_path / "crate", licence=given))
    assert graph["./"]["license"] == {"@id": address} and graph[address]["@type"] == "CreativeWork"


def test_names_are_kept_where_they_are_public(study: Path, tmp_path: Path) -> None:
    write_crate(study, tmp_path / "crate", subject_names=True)
    table = (tmp_path / "crate/s/evaluate/outputs/overlap.csv").read_text()
    assert table == (study / "s/evaluate/outputs/overlap.csv").read_text()


def test_payloads_are_referred_to_where_they_are_kept(study: Path, tmp_path: Path) -> None:
    graph = graph_of(
        write_crate(study, tmp_path / "crate", payloads_at="https://data.example.org/s", licence="CC0-1.0")
    )
    address = "https://data.example.org/s/s/train/outputs/checkpoint/"
    assert graph[address]["@type"] == "Dataset" and {"@id": address} in graph["./"]["hasPart"]
    assert not list((tmp_path / "crate").rglob("weights.bin"))
    assert graph["./"]["license"] == {"@id": "https://spdx.org/licenses/CC0-1.0"}


def test_the_crate_is_one_to_its_own_library(study: Path, tmp_path: Path) -> None:
    rocrate = pytest.importorskip("rocrate.rocrate", reason="rocrate is not installed")
    out = tmp_path / "crate"
    write_crate(study, out)
    crate = rocrate.ROCrate(out)
    assert crate.name == "Toy study"
    assert crate.root_dataset["conformsTo"].id == "https://w3id.org/ro/wfrun/process/0.5"
    actions = {action["name"]: action for action in crate.get_by_type("CreateAction")}
    action = actions["evaluate toy-overlap: s/evaluate"]
    assert action["instrument"].type == "SoftwareApplication" and action["instrument"]["name"] == "toy-overlap"
    assert {item["name"] for item in action["result"]} == {"s/evaluate/result.json", "s/evaluate/outputs/overlap.csv"}
    files = crate.get_by_type("File")
    assert files and all((out / file.id).is_file() for file in files)
    identities = {entity.id for entity in crate.get_entities()}
    for entity in json.loads((out / "ro-crate-metadata.json").read_text())["@graph"]:
        for value in entity.values():
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, dict) and not item["@id"].startswith("https://"):
                    assert item["@id"] in identities, f"{entity['@id']} refers to {item['@id']}"


def test_a_folder_with_no_study_file_will_do(study: Path, tmp_path: Path) -> None:
    (study / "study.toml").unlink()
    assert graph_of(write_crate(study / "s" / "train", tmp_path / "crate"))["./"]["name"] == "train"
    assert (tmp_path / "crate" / "job.json").is_file()


def test_what_cannot_be_exported(study: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="lies in"):
        write_crate(study, study / "crate")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").touch()
    with pytest.raises(UsageError, match="is not empty"):
        write_crate(study, tmp_path / "full")
    with pytest.raises(DataError, match="no run with a result"):
        write_crate(study / "s" / "waiting", tmp_path / "crate")


def test_where_subjects_are_looked_for(study: Path) -> None:
    assert subjects_of(Run(study / "s/train")) == set(data.real_dataset(2, 32).subjects)
    assert subjects_of(Run(study / "s/segment")) == subjects_of(Run(study / "s/evaluate")) == set(PATIENTS)


def test_a_name_of_digits_is_replaced_where_it_is_a_name_and_never_in_a_number(tmp_path: Path) -> None:
    deidentifier = Deidentifier({"17": "subject-001"}, {})
    (tmp_path / "a.csv").write_text("subject,n\n17,17\n")
    assert deidentifier.clean(tmp_path / "a.csv") == b"subject,n\nsubject-001,17\n"
    (tmp_path / "a.json").write_text('{"n": 17, "subject": "17", "subject_keys": ["x"]}')
    assert json.loads(deidentifier.clean(tmp_path / "a.json") or b"") == {"n": 17, "subject": "subject-001"}
    (tmp_path / "a.html").write_text("17 subjects")
    assert deidentifier.clean(tmp_path / "a.html") is None  # not to be told which it is
    (tmp_path / "b.html").write_text("170 subjects")
    assert deidentifier.clean(tmp_path / "b.html") == b"170 subjects"
