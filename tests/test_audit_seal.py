"""An audit is bound to what it was made of: an edit by hand is refused by release, found by verify, shown on pages."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from synthkit import api
from synthkit.cli import app
from synthkit.data.dataset import Dataset
from synthkit.data.writer import DatasetWriter
from synthkit.errors import SynthkitError, UsageError
from synthkit.running.run import JOB, RESULT, Run
from synthkit.running.seal import changes, datasets_at_hand, seal
from synthkit.schemes import BRATS

SIZE = 32
POLICY = "required_power = []\n"
PARAMS = {"plants": 0}

pytestmark = pytest.mark.usefixtures("toy_audit")


def write(path: Path, images: Any, rows: list[dict[str, Any]], kind: Any, lineage: Any = None) -> Dataset:
    labels = np.zeros((len(images), SIZE, SIZE), np.uint8)
    with DatasetWriter(
        path, contrasts=("t1", "t2"), scheme=BRATS, size=(SIZE, SIZE), kind=kind, lineage=lineage
    ) as writer:
        writer.append(images, labels, rows)
    return Dataset(path)


def audit(root: Path, *, policy: str = POLICY, fresh: int = 16, copies: int = 0, blank: int = 0, **params: Any) -> Run:
    """Six training and four held-out people; images of nobody, with copies of training images and blank ones."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 2, SIZE, SIZE), dtype=np.uint8)
    rows = [
        {"id": f"Person_{i // 2:03d}-{i % 2}", "split": "train" if i < 12 else "holdout",
         "subject": f"Person_{i // 2:03d}", "slice": i % 2}
        for i in range(20)
    ]  # fmt: skip
    real = write(root / "real", images[:20], rows, "real")
    made = np.concatenate([images[20 : 20 + fresh], images[:copies], np.zeros((blank, 2, SIZE, SIZE), np.uint8)])
    lineage = {"generator": "toy", "checkpoint_digest": "sha256:c0ffee", "training_datasets": [real.training_entry()]}
    seeds = [{"id": f"seed{i:08d}", "split": "synthetic", "seed": i} for i in range(len(made))]
    write(root / "synthetic", made, seeds, "synthetic", lineage)
    (root / "policy.toml").write_text(policy)
    return api.audit_memorization(
        root / "real", root / "synthetic", root / "audit", policy=root / "policy.toml", metric="toy-nearest",
        params={**PARAMS, **params}, backend="inline",
    ).run  # fmt: skip


def synthkit(*arguments: object) -> tuple[int, str]:
    """The exit code and all that the command says, in this process."""
    done = CliRunner().invoke(app, list(map(str, arguments)))
    if isinstance(done.exception, SynthkitError):
        error = done.exception
        return error.exit_code, "\n".join([done.output, str(error), *error.details])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


def release(root: Path) -> tuple[int, str]:
    return synthkit("release", root / "synthetic", "--audit", root / "audit", "-o", root / "out", "--backend", "inline")


@pytest.fixture(scope="module")
def passed(toy_audit: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An audit that passes, with its data, by relative links, so that a copy of the folder is whole."""
    root = tmp_path_factory.mktemp("passed")
    run = audit(root)
    assert run.result()["verdict"]["outcome"] == "pass"  # type: ignore[index]
    return root


@pytest.fixture
def root(passed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(passed, tmp_path / "root", symlinks=True))


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def test_what_was_not_edited_is_released(root: Path) -> None:
    job, result = Run(root / "audit").job(), Run(root / "audit").result()
    assert changes(job, datasets_at_hand(job, root / "audit"), result or {}) == []
    code, shown = release(root)
    assert code == 0, shown
    digest = (result or {})["seal"]["digest"]
    assert json.loads((root / "out" / "audit.json").read_text())["seal"]["digest"] == digest
    assert digest in (root / "out" / "datasheet.md").read_text() and digest in (root / "out" / "audit.html").read_text()


EDITS: list[tuple[str, str, Callable[[dict[str, Any]], object], str]] = [
    ("audit", JOB, lambda job: job["options"]["policy"].update(max_copies=5), "the policy (job.json): max_copies"),
    ("audit", JOB, lambda job: job["options"]["policy"].update(max_removed_rate=0.9), "policy (job.json): max_removed"),
    ("audit", JOB, lambda job: job["options"].pop("policy"), "the policy (job.json)"),
    ("audit", JOB, lambda job: job["options"].update(lineage="unknown"), "the options (job.json): lineage"),
    ("audit", JOB, lambda job: job["params"].update(plants=60), "the parameters (job.json): plants"),
    ("audit", JOB, lambda job: job["inputs"]["train"].update(splits=[]), "the inputs (job.json): train"),
    ("audit", RESULT, lambda result: result["verdict"].update(outcome="fail"), "the verdict (result.json)"),
    ("audit", RESULT, lambda result: result["verdict"].update(reasons=["All is well."]), "the verdict (result.json)"),
    ("audit", RESULT, lambda result: result["verdict"].update(not_proven=[]), "the verdict (result.json)"),
    ("audit", RESULT, lambda result: result["verdict"].update(weaker=[]), "the verdict (result.json)"),
    ("audit", RESULT, lambda result: result["scores"][0].update(value=5000), "the scores (result.json)"),
    ("audit", RESULT, lambda result: result.pop("seal"), "the seal is gone"),
    ("audit", RESULT, lambda result: result["versions"].update(numpy="9.9"), "computed with (result.json): versions"),
    ("audit", RESULT, lambda result: result.update(code={}), "computed with (result.json): code"),
    ("audit", RESULT, lambda result: result.update(backend="docker"), "computed with (result.json): backend"),
    ("audit", RESULT, lambda result: result["seal"]["policy"].update(max_copies=9), "the seal itself"),
    ("synthetic", "dataset.json", lambda data: data["lineage"].update(generator="better"),
     "the lineage of the synthetic dataset"),
    ("synthetic", "dataset.json", lambda data: data["lineage"].update(checkpoint_digest="sha256:0"),
     "the lineage of the synthetic dataset"),
    ("synthetic", "dataset.json", lambda data: data.pop("lineage"), "the lineage of the synthetic dataset"),
    ("synthetic", "dataset.json",
     lambda data: data["lineage"]["training_datasets"][0].update(n_samples=9999, subject_keys=[]),
     "the lineage of the synthetic dataset"),
    ("real", "dataset.json", lambda data: data.update(lineage={"training_datasets": []}, protocol={"size": 512}),
     "the description of the train dataset"),
]  # fmt: skip


@pytest.mark.parametrize(("folder", "file", "change", "named"), EDITS)
def test_an_edit_is_refused_and_named(
    root: Path, folder: str, file: str, change: Callable[[dict[str, Any]], object], named: str
) -> None:
    edit(root / folder / file, change)
    code, shown = release(root)
    assert code == 3 and named in shown and "make the audit again" in shown, shown
    assert not (root / "out").exists() and not list(root.glob(".out*"))
    # The page says it, too.
    synthkit("report", root / "audit", "-o", root / "report.html")
    page = (root / "report.html").read_text()
    assert "This audit is not as it was made." in page and named.split(" (")[0] in page


@pytest.mark.parametrize(
    ("folder", "file", "change", "named"),
    [EDITS[0], EDITS[7], EDITS[11], EDITS[15]],
    ids=["policy", "reasons", "no seal", "lineage"],
)
def test_an_edit_is_found_by_verify(
    root: Path, folder: str, file: str, change: Callable[[dict[str, Any]], object], named: str
) -> None:
    code, shown = synthkit("verify", root / "audit", "--backend", "inline")
    assert code == 0, shown
    edit(root / folder / file, change)
    code, shown = synthkit("verify", root / "audit", "--backend", "inline")
    assert code == 10 and named in shown, shown


def test_a_copy_of_the_samples_with_another_lineage_is_refused(root: Path) -> None:
    shutil.copytree(root / "synthetic", root / "other")
    edit(root / "other" / "dataset.json", lambda data: data["lineage"].update(generator="better"))
    code, shown = synthkit("release", root / "other", "--audit", root / "audit", "-o", root / "out")
    assert code == 3 and "the lineage of the synthetic dataset" in shown, shown


def test_the_verdict_is_derived_again_even_where_the_seal_was_made_anew(tmp_path: Path) -> None:
    """A forger who reckons the seal anew still has to forge scores, policy and verdict so that they agree."""
    run = audit(tmp_path, copies=3)
    assert run.result()["verdict"]["outcome"] == "fail"  # type: ignore[index]

    def forge(result: dict[str, Any]) -> None:
        result["verdict"]["outcome"] = "pass"
        result["seal"] = seal(run.job(), datasets_at_hand(run.job(), run.path), result)

    edit(run.path / RESULT, forge)
    code, shown = release(tmp_path)
    assert code == 3 and "does not follow from its scores" in shown, shown


def test_the_remedies_of_an_edited_audit(root: Path) -> None:
    """Restore it, or make the audit again: both end in a release."""
    kept = (root / "audit" / JOB).read_text()
    edit(root / "audit" / JOB, EDITS[0][2])
    assert release(root)[0] == 3
    (root / "audit" / JOB).write_text(kept)
    assert release(root)[0] == 0
    shutil.rmtree(root / "out")
    edit(root / "synthetic" / "dataset.json", lambda data: data["lineage"].update(generator="better"))
    assert release(root)[0] == 3
    api.audit_memorization(
        root / "real", root / "synthetic", root / "audit", policy=root / "policy.toml", metric="toy-nearest",
        params=PARAMS, backend="inline", overwrite=True,
    )  # fmt: skip
    assert release(root)[0] == 0 and "`better`" in (root / "out" / "datasheet.md").read_text()


# --------------------------------------------------------------------------- blank images, weak policies, exit codes


def test_blank_images_do_not_make_the_removed_share_small(tmp_path: Path) -> None:
    """Six of 22 images are copies, 27 %; with 200 blank ones they are 3 % of all."""
    audit(tmp_path, copies=6, blank=200)
    code, shown = release(tmp_path)
    assert code == 10 and "6 of 22 images that are not blank would have to be left out (27.3%)" in shown, shown


def test_blank_images_alone_reach_every_page(tmp_path: Path) -> None:
    run = audit(tmp_path, fresh=0, blank=20)
    assert run.result()["exit_code"] == 12  # type: ignore[index]
    synthkit("report", tmp_path / "audit", "-o", tmp_path / "report.html")
    for page in (tmp_path / "audit" / "audit.html", tmp_path / "report.html"):
        text = page.read_text()
        assert "20 of 20 synthetic images are blank" in text and "20 of them blank" in text
        assert "cannot be shown" not in text and "cannot be answered" not in text
    code, shown = release(tmp_path)
    assert code == 12 and "besides 20 blank ones" in shown


@pytest.mark.parametrize(("copies", "policy", "code"), [(0, "", 0), (3, "", 10), (0, "min_synthetic = 50\n", 12)])
def test_pass_fail_and_insufficient_evidence_have_exit_codes_of_their_own(
    tmp_path: Path, copies: int, policy: str, code: int
) -> None:
    run = audit(tmp_path, copies=copies, policy=POLICY + policy)
    given = [f"-p{name}={value}" for name, value in PARAMS.items()]
    found, shown = synthkit(
        "audit-memorization", tmp_path / "real", tmp_path / "synthetic", "--policy", tmp_path / "policy.toml",
        "-o", tmp_path / "again", "--metric", "toy-nearest", "--backend", "inline", *given,
    )  # fmt: skip
    assert found == code == (run.result() or {})["exit_code"], shown
    assert "12 insufficient evidence" in synthkit("--help")[1].replace("\n", " ")
    if code == 12:
        assert release(tmp_path)[0] == 12


def test_what_weakens_an_audit_is_said_first_everywhere(tmp_path: Path) -> None:
    policy = POLICY + "max_copies = 1\nmin_null_subjects = 2\nmin_likeness = 0.5\nmax_removed_rate = 0.2\n"
    audit(tmp_path, policy=policy)
    expected = (
        "max_copies = 1 (default 0)", "min_null_subjects = 2 (default 4)", "min_likeness = 0.5 (default 0.85)",
        "max_removed_rate = 0.2 (default 0.1)", "required_power lacks exact, noise, blur, intensity, flip",
        "plants = 0 (default 60)",
    )  # fmt: skip
    given = [f"-p{name}={value}" for name, value in PARAMS.items()]
    _, terminal = synthkit(
        "audit-memorization", tmp_path / "real", tmp_path / "synthetic", "--policy", tmp_path / "policy.toml",
        "-o", tmp_path / "again", "--metric", "toy-nearest", "--backend", "inline", *given,
    )  # fmt: skip
    synthkit("report", tmp_path / "audit", "-o", tmp_path / "report.html")
    code, released = release(tmp_path)
    assert code == 0, released
    places = {
        "terminal": (terminal, "Verdict:"),
        "terminal of the release": (released, "Verdict:"),
        "page": ((tmp_path / "audit" / "audit.html").read_text(), 'class="verdict'),
        "report": ((tmp_path / "report.html").read_text(), 'class="verdict'),
        "released page": ((tmp_path / "out" / "audit.html").read_text(), 'class="verdict'),
        "datasheet": ((tmp_path / "out" / "datasheet.md").read_text(), "## Motivation"),
    }
    for place, (text, then) in places.items():
        text = " ".join(text.split())
        for words in expected:
            assert f"Weaker than the default: {words}" in text, (place, words)
            assert text.index(words) < text.index(then), (place, words)


def test_nothing_is_said_of_an_audit_by_the_defaults(tmp_path: Path) -> None:
    audit(tmp_path, policy="", plants=60)
    assert Run(tmp_path / "audit").result()["verdict"]["weaker"] == []  # type: ignore[index]
    assert "Weaker" not in (tmp_path / "audit" / "audit.html").read_text()


@pytest.mark.parametrize(
    ("policy", "named", "remedy"),
    [
        ("min_power = 0\n", "min_power = 0", "required_power = []\n"),
        ("max_copies = 16\n", "max_copies = 16", "max_copies = 1\n"),
        ("max_flagged_rate = 0.1\n", "unknown key max_flagged_rate", ""),
    ],
)
def test_what_makes_an_audit_meaningless_is_refused(tmp_path: Path, policy: str, named: str, remedy: str) -> None:
    with pytest.raises(UsageError) as caught:
        audit(tmp_path / "weak", policy=policy)
    assert named in str(caught.value) and not (tmp_path / "weak" / "audit").exists()
    result = audit(tmp_path / "sound", policy=remedy).result()
    assert result is not None and result["status"] == "succeeded"


def test_no_share_beyond_all_is_printed(tmp_path: Path) -> None:
    """The laxest policy that is taken, in each text."""
    audit(tmp_path, policy="required_power = []\nmax_copies = 1\nmin_likeness = 0\nmax_removed_rate = 1\n", copies=1)
    texts = [json.dumps(Run(tmp_path / "audit").result()), (tmp_path / "audit" / "audit.html").read_text()]
    for text in texts:
        visible = re.sub(r"<style>.*?</style>|data:[^\"']*|style=\"[^\"]*\"", "", text, flags=re.DOTALL)
        assert not [share for share in re.findall(r"(\d+(?:\.\d+)?) ?%", visible) if float(share) > 100]
