"""The command as a user meets it: exit codes, one JSON document, one clear error, a light start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from synthkit.data.dataset import Dataset
from synthkit.data.writer import DatasetWriter

HEAVY = ("numpy", "torch", "docker", "nibabel", "sklearn", "scipy", "matplotlib", "jinja2", "pydantic", "synthkit_unet")


def synthkit(
    *arguments: object, env: dict[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "synthkit", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "SYNTHKIT_BACKEND": "local", **(env or {})},
        cwd=cwd,
        timeout=600,
    )


def document(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Standard output holds exactly one JSON document."""
    value = json.loads(done.stdout)
    assert isinstance(value, dict)
    return value


@pytest.fixture
def subjects(tmp_path: Path, make_subject: Callable[..., Path]) -> Path:
    for number in (1, 2, 3):
        make_subject(tmp_path / "subjects", f"BraTS20_Training_00{number}", shape=(140, 140, 3))
    return tmp_path / "subjects"


@pytest.fixture
def dataset(subjects: Path, tmp_path: Path) -> Path:
    done = synthkit("prepare", subjects, "-o", tmp_path / "data", "--size", 32, "--holdout", 1)
    assert done.returncode == 0, done.stderr
    return tmp_path / "data"


@pytest.fixture
def copies(dataset: Path, tmp_path: Path) -> Path:
    """The images of ``dataset`` as though a generator had made them."""
    real = Dataset(dataset)
    images, labels = real.read(range(len(real)))
    rows = [{"id": f"s{i}", "split": "synthetic", "seed": i} for i in range(len(real))]
    options: dict[str, Any] = {"contrasts": real.contrasts, "scheme": real.scheme, "size": real.size}
    options |= {"kind": "synthetic", "protocol": real.description["protocol"]}
    with DatasetWriter(tmp_path / "copies", **options) as writer:
        writer.append(images, labels, rows)
    return tmp_path / "copies"


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['synthkit', '--help']\n"
        "import synthkit.cli\n"
        "try: synthkit.cli.app()\n"
        "except SystemExit: pass\n"
        f"found = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "sys.stderr.write(','.join(found))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "audit-memorization" in done.stdout
    assert done.stderr == ""


def test_help_has_the_groups_and_the_exit_codes() -> None:
    text = synthkit("--help").stdout
    for group in ("Data:", "Models:", "Evaluation:", "Studies:", "Tools:"):
        assert group in text
    assert "10 gate failed" in text.replace("\n", " ").replace("  ", " ")


def test_no_argument_shows_help_with_code_2() -> None:
    assert synthkit().returncode == 2
    assert synthkit("--version").stdout.startswith("synthkit ")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("frobnicate",), 2),
        (("prepare", "nowhere", "-o", "out"), 3),
        (("train", "nonsense", "data", "-o", "out"), 4),
        (("train", "dice", "data", "-o", "out"), 2),
        (("generate", "nowhere", "--seeds", "0-3", "-o", "out"), 3),
        (("generate", "nowhere", "--seeds", "3-0", "-o", "out"), 2),
        (("evaluate", "dice", "-o", "out"), 2),
        (("verify", "nowhere"), 3),
        (("report", "nowhere"), 3),
        (("plugins", "show", "nonsense"), 4),
        (("import", "nowhere", "-o", "out"), 3),
        (("export", "nowhere", "-o", "out"), 3),
    ],
)
def test_errors_have_their_code_and_leave_nothing(arguments: tuple[str, ...], code: int, tmp_path: Path) -> None:
    done = synthkit(*arguments, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_error_in_json_is_one_document(tmp_path: Path) -> None:
    done = synthkit("prepare", tmp_path / "nowhere", "-o", tmp_path / "out", "--json")
    error = document(done)
    assert (done.returncode, error["exit_code"], error["error"]["type"]) == (3, 3, "DataError")
    assert error["error"]["what"] and error["error"]["fix"]


def test_prepare_prints_one_document_and_refuses_to_overwrite(subjects: Path, tmp_path: Path) -> None:
    arguments = (
        "prepare",
        subjects,
        "-o",
        tmp_path / "data",
        "--size",
        32,
        "--holdout",
        "BraTS20_Training_002",
        "--json",
    )
    first = document(synthkit(*arguments))
    assert first["splits"]["holdout"]["subjects"] == 1
    assert synthkit(*arguments).returncode == 2
    assert document(synthkit(*arguments, "--overwrite")) == first


def test_prepare_dry_run_writes_nothing(subjects: Path, tmp_path: Path) -> None:
    done = synthkit("prepare", subjects, "-o", tmp_path / "data", "--size", 32, "--holdout", 1, "--dry-run")
    assert done.returncode == 0
    assert not (tmp_path / "data").exists()


def test_dry_run_of_a_run_shows_job_and_command(dataset: Path, copies: Path, tmp_path: Path) -> None:
    done = synthkit(
        "audit-memorization", dataset, copies, "-o", tmp_path / "run", "--dry-run", "--json", "--backend", "local"
    )
    shown = document(done)
    assert shown["job"]["verb"] == "audit-memorization"
    assert set(shown["job"]["inputs"]) == {"train", "holdout", "synthetic"}
    assert "synthkit-run" in shown["command"]
    assert not (tmp_path / "run").exists()


def test_copies_fail_the_audit_whomever_they_show(real_subjects: Path, tmp_path: Path) -> None:
    """Real slices exported to PNG and imported as synthetic: every one is a copy, exit code 10."""
    holdout = "Brats18_CBICA_AAB_1,TCGA-FG-6692"
    done = synthkit("prepare", real_subjects, "-o", tmp_path / "data", "--size", 32, "--holdout", holdout, "-q")
    assert done.returncode == 0, done.stderr
    outcomes = {}
    for split in ("train", "holdout"):
        synthkit("export", tmp_path / "data", "--split", split, "-o", tmp_path / f"png-{split}")
        synthkit("import", tmp_path / f"png-{split}", "-o", tmp_path / f"syn-{split}")
        run = tmp_path / f"audit-{split}"
        audit = synthkit("audit-memorization", tmp_path / "data", tmp_path / f"syn-{split}", "-o", run, "--json")
        outcomes[split] = audit.returncode, document(audit)["result"]
    for split, copies, people in (
        ("train", "n_copies", ("n_copied_subjects", 3)),
        ("holdout", "n_holdout_copies", ("n_copied_holdout_subjects", 2)),
    ):
        code, result = outcomes[split]
        scores = {s["name"]: s["value"] for s in result["scores"] if not s["of"]}
        assert code == 10 and result["verdict"]["outcome"] == "fail"
        assert scores[copies] == scores["n_synthetic"] > 50 and scores[people[0]] == people[1]
    assert scores["n_copies"] == 0
    verified = synthkit("verify", tmp_path / "audit-train", "--json")
    assert verified.returncode == 0, verified.stderr
    assert document(verified)["same"] is True


def test_verify_sees_a_changed_score_and_a_changed_input(dataset: Path, copies: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert synthkit("audit-memorization", dataset, copies, "-o", run).returncode == 10
    result = json.loads((run / "result.json").read_text())
    genuine = json.dumps(result)
    score = next(s for s in result["scores"] if s["name"] == "n_synthetic")
    score["value"] += 1
    (run / "result.json").write_text(json.dumps(result))
    done = synthkit("verify", run)
    assert done.returncode == 10
    assert "n_synthetic" in done.stderr
    (run / "result.json").write_text(genuine)
    job = json.loads((run / "job.json").read_text())
    job["inputs"]["train"]["digest"] = "sha256:0"
    (run / "job.json").write_text(json.dumps(job))
    done = synthkit("verify", run)
    assert done.returncode == 10
    assert "has changed" in done.stderr


def test_a_synthetic_dataset_of_another_training_set_is_refused(dataset: Path, tmp_path: Path) -> None:
    synthkit("export", dataset, "-o", tmp_path / "png")
    synthkit("import", tmp_path / "png", "-o", tmp_path / "syn")
    description = json.loads((tmp_path / "syn" / "dataset.json").read_text())
    description["lineage"] = {"training_datasets": [{"digest": "sha256:other", "subject_keys": []}]}
    (tmp_path / "syn" / "dataset.json").write_text(json.dumps(description))
    done = synthkit("audit-memorization", dataset, tmp_path / "syn", "-o", tmp_path / "run")
    assert done.returncode == 3
    assert "was not made from" in done.stderr
    accepted = synthkit(
        "audit-memorization", dataset, tmp_path / "syn", "-o", tmp_path / "run", "--accept-other-training-set"
    )
    assert accepted.returncode == 10  # copies: the override audits them all the same


def test_without_an_engine_both_ways_out_are_named(dataset: Path, copies: Path, tmp_path: Path) -> None:
    done = synthkit(
        "audit-memorization", dataset, copies, "-o", tmp_path / "run",
        env={"SYNTHKIT_BACKEND": "", "DOCKER_HOST": "unix:///nowhere/docker.sock"},
    )  # fmt: skip
    assert done.returncode == 5
    assert "--backend local" in done.stderr
    assert not (tmp_path / "run").exists()


def test_gpu_that_is_not_there_is_code_9(dataset: Path, tmp_path: Path) -> None:
    if Path("/dev/nvidiactl").exists():
        pytest.skip("this machine has a GPU")
    done = synthkit("train", "unet", dataset, "-o", tmp_path / "run", "--gpus", "all")
    assert done.returncode == 9
    assert "--gpus none" in done.stderr


def test_evaluate_matches_subjects_by_name(subjects: Path, tmp_path: Path) -> None:
    predictions = tmp_path / "predictions"
    predictions.mkdir()
    for subject in sorted(subjects.iterdir())[:2]:
        (predictions / f"{subject.name}.nii.gz").write_bytes((subject / f"{subject.name}_seg.nii.gz").read_bytes())
    done = synthkit(
        "evaluate",
        "dice",
        "hausdorff",
        "--reference",
        subjects,
        "--prediction",
        predictions,
        "-o",
        tmp_path / "run",
        "--json",
    )
    assert done.returncode == 0, done.stderr
    result = document(done)["result"]
    values = {
        (s["name"], s["of"]["region"]): s["value"] for s in result["scores"] if s["name"] in ("dice_mean", "hd95_mean")
    }
    assert values["dice_mean", "WT"] == 1.0
    assert values["hd95_mean", "WT"] == 0.0
    assert result["isolation"]["network"] == "host"


def test_plugins_lists_all_and_shows_one() -> None:
    listed = document(synthkit("plugins", "--json"))
    names = {item["name"] for item in listed["plugins"]}
    assert {"stylegan2", "unet", "dice", "hausdorff", "memorization"} <= names
    shown = document(synthkit("plugins", "show", "stylegan2", "--json"))
    assert shown["kind"] == "generator"
    assert all(param["help"] for param in shown["params"])


def test_a_broken_plugin_is_listed_and_breaks_nothing(tmp_path: Path) -> None:
    info = tmp_path / "broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[synthkit.plugins]\nbroken = broken_plugin\n")
    (tmp_path / "broken_plugin.py").write_text("raise RuntimeError('this one is broken')\n")
    env = {"PYTHONPATH": str(tmp_path)}
    done = synthkit("plugins", env=env)
    assert done.returncode == 0
    assert "this one is broken" in done.stderr
    assert "stylegan2" in done.stdout
    asked = synthkit("plugins", "show", "broken", env=env)
    assert asked.returncode == 4
    assert "this one is broken" in asked.stderr


def test_doctor_reports_without_an_engine() -> None:
    done = synthkit("doctor", "--json", env={"DOCKER_HOST": "unix:///nowhere/docker.sock"})
    assert done.returncode == 0, done.stderr
    findings = {item["what"]: item for item in document(done)["findings"]}
    assert findings["container engine"]["state"] == "missing"
    assert findings["container engine"]["remedy"]
    assert findings["plugins"]["state"] == "ok"


# ------------------------------------------------------------------------------------------ interrupts, pipes, locks


def with_command(body: str, *arguments: str) -> list[str]:
    """A command line whose ``synthkit`` has one more command, ``stop``."""
    code = (
        "import os, signal, sys, time, typer\n"
        "import synthkit.cli as cli\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "@cli.app.command('stop')\n"
        "def stop(json: bool = typer.Option(False, '--json')) -> None:\n"
        f"    {body}\n"
        f"sys.argv = ['synthkit', 'stop', *{arguments!r}]\n"
        "cli.main()\n"
    )
    return [sys.executable, "-c", code]


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_command_that_is_interrupted_says_so(name: str) -> None:
    body = f"os.kill(os.getpid(), signal.{name}); time.sleep(60)"
    done = subprocess.run(with_command(body), capture_output=True, text=True, timeout=60)
    assert done.returncode == 130, done.stderr
    assert "error: Interrupted." in done.stderr and "--resume" in done.stderr
    done = subprocess.run(with_command(body, "--json"), capture_output=True, text=True, timeout=60)
    assert done.returncode == 130
    assert document(done)["error"]["type"] == "InterruptedRunError"


def test_a_reader_that_leaves_is_no_error() -> None:
    body = "print('begun', flush=True); [print('x' * 1000, flush=True) for _ in range(10_000)]"
    process = subprocess.Popen(with_command(body), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline() == "begun\n"
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(60) == 0


def test_a_run_folder_in_use_is_refused(dataset: Path, copies: Path, tmp_path: Path) -> None:
    from synthkit.running.exclusive import locked

    with locked(tmp_path / "run"):
        done = synthkit("audit-memorization", dataset, copies, "-o", tmp_path / "run")
    assert done.returncode == 11
    assert "Another command is at work" in done.stderr
    assert not (tmp_path / "run" / "job.json").exists()


@pytest.mark.parametrize("quiet", [False, True])
def test_warnings_of_the_backend_are_shown_once(
    quiet: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from synthkit.cli.console import Console
    from synthkit.running import backends
    from synthkit.running.launch import RunOptions, carry_out
    from synthkit.running.request import Request
    from synthkit.running.run import Job
    from synthkit.testing.toys import GENERATOR

    class Backend:
        def run(self, run: Any, declaration: Any, on_event: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
            on_event({"event": "message", "level": "warning", "text": "seen live"})
            return {"status": "succeeded", "warnings": ["the image is outdated", "seen live"]}

    monkeypatch.setattr(backends, "choose", lambda *arguments: Backend())
    job = Job("train", (GENERATOR.name,))
    request = Request(job, (GENERATOR,), "train")
    carry_out(request, tmp_path / "run", RunOptions(gpus="none"), Console(quiet=quiet))
    assert capsys.readouterr().err.splitlines() == ["warning: seen live", "warning: the image is outdated"]


def test_an_option_given_twice_is_refused(subjects: Path, tmp_path: Path) -> None:
    done = synthkit("prepare", subjects, "-o", tmp_path / "data", "--holdout", "1", "--holdout=2")
    assert done.returncode == 2
    assert "--holdout is given twice" in done.stderr
    assert not (tmp_path / "data").exists()


def test_a_command_line_that_is_not_understood_is_one_document_as_well() -> None:
    for arguments in (("prepare", "--json"), ("nosuch", "--json")):
        done = synthkit(*arguments)
        assert (done.returncode, document(done)["exit_code"]) == (2, 2)


def test_verify_says_that_the_code_has_changed(dataset: Path, copies: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert synthkit("audit-memorization", dataset, copies, "-o", run).returncode == 10
    result = json.loads((run / "result.json").read_text())
    result["code"]["synthkit-memorization"] = "sha256:old"
    result["scores"][0]["value"] = -1
    (run / "result.json").write_text(json.dumps(result))
    done = synthkit("verify", run)
    assert done.returncode == 10
    assert "The code of synthkit-memorization has changed since" in done.stderr


def test_evaluate_does_not_mind_a_bad_subject_that_nobody_predicted(
    subjects: Path, tmp_path: Path, make_subject: Callable[..., Path]
) -> None:
    make_subject(subjects, "BraTS20_Training_009", seg=None)
    predictions = tmp_path / "predictions"
    predictions.mkdir()
    name = "BraTS20_Training_001"
    (predictions / f"{name}.nii.gz").write_bytes((subjects / name / f"{name}_seg.nii.gz").read_bytes())
    done = synthkit("evaluate", "dice", "--reference", subjects, "--prediction", predictions, "-o", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert "2 of 3 references have no prediction" in done.stderr


def test_every_command_has_the_options_that_the_readme_names() -> None:
    from typer.main import get_command

    from synthkit.cli import app

    def leaves(command: Any, name: str) -> Iterator[tuple[str, set[str]]]:
        below = getattr(command, "commands", {})
        for word, found in below.items():
            yield from leaves(found, f"{name} {word}")
        own = getattr(command, "own", command)  # of a command with further ones below it
        if not below or own is not command:
            yield name, {option for item in own.params for option in item.opts}

    found = dict(leaves(get_command(app), "synthkit"))
    assert len(found) > 25
    assert {name: options for name, options in found.items() if not {"--json", "--quiet"} <= options} == {}
    one_run = ("train", "import-checkpoint", "generate", "segment", "evaluate", "audit-memorization")
    for name in (*one_run, "prepare", "import", "export", "phantom", "utility", "report", "verify", "study run"):
        assert "--dry-run" in found[f"synthkit {name}"], name
