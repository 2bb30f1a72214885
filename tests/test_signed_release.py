"""Who receives a release can check it with nothing but the folder and a key; every tampering is refused by name."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from synthkit import api
from synthkit.cli import app
from synthkit.cli.console import Console
from synthkit.data.writer import DatasetWriter
from synthkit.errors import GateFailedError, SynthkitError, UsageError
from synthkit.release.layout import ASSESSMENT, AUDIT, CARD, CHECKSUMS, CROISSANT, DATASHEET, SIGNATURE, sums
from synthkit.release.statement import digests
from synthkit.schemes import BRATS

pytest.importorskip("securesystemslib.dsse", reason="the extra release is not installed")
pytest.importorskip("cryptography")
pytestmark = pytest.mark.usefixtures("toy_audit")

SIZE = 32
PROTOCOL = {"name": "akbar2024", "contrasts": ["t1", "t2"], "size": SIZE, "intensity": "max",
            "geometry": {"axes": "LPS", "spacing_mm": [1.0, 1.0, 1.0]}}  # fmt: skip


def openssl(*arguments: object) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def make_keys(folder: Path, name: str) -> tuple[Path, Path]:
    """A pair of keys, by the commands of the documentation."""
    private, public = folder / f"{name}.key", folder / f"{name}.pub"
    openssl("genpkey", "-algorithm", "ed25519", "-out", private)
    openssl("pkey", "-in", private, "-pubout", "-out", public)
    return private, public


def synthkit(*arguments: object) -> tuple[int, str]:
    """The exit code and all that the command says, in this process."""
    Console._document_printed = False  # a process prints one
    done = CliRunner().invoke(app, list(map(str, arguments)))
    if isinstance(done.exception, SynthkitError):
        error = done.exception
        return error.exit_code, "\n".join([done.output, str(error), *error.details])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


def dataset(path: Path, images: Any, rows: list[dict[str, Any]], kind: Any, **described: Any) -> Path:
    labels = np.zeros((len(images), SIZE, SIZE), np.uint8)
    labels[:, 4:8, 4:8] = 4
    with DatasetWriter(
        path, contrasts=("t1", "t2"), scheme=BRATS, size=(SIZE, SIZE), kind=kind, protocol=PROTOCOL, **described
    ) as writer:
        writer.append(images, labels, rows)
    return path


@pytest.fixture(scope="module")
def audited(toy_audit: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six training and four held-out people, twelve images of nobody, and their audit, which passes."""
    root = tmp_path_factory.mktemp("audited")
    images = np.random.default_rng(0).integers(0, 256, (32, 2, SIZE, SIZE), dtype=np.uint8)
    rows = [
        {"id": f"Person_{i // 2:03d}-{i % 2}", "split": "train" if i < 12 else "holdout",
         "subject": f"Person_{i // 2:03d}", "slice": i % 2}
        for i in range(20)
    ]  # fmt: skip
    dataset(root / "real", images[:20], rows, "real")
    from synthkit.data.dataset import Dataset

    lineage = {"generator": "toy", "checkpoint_digest": "sha256:c0ffee",
               "training_datasets": [Dataset(root / "real").training_entry()]}  # fmt: skip
    seeds = [{"id": f"seed{i:08d}", "split": "synthetic", "seed": i} for i in range(12)]
    made = {"plugin": "toy-noise", "params": {}}
    dataset(root / "synthetic", images[20:], seeds, "synthetic", lineage=lineage, provenance=made)
    (root / "policy.toml").write_text("required_power = []\nmin_synthetic = 5\n")
    api.audit_memorization(
        root / "real", root / "synthetic", root / "audit", policy=root / "policy.toml", metric="toy-nearest",
        params={"plants": 0}, backend="inline",
    )  # fmt: skip
    make_keys(root, "steward")
    make_keys(root, "other")
    return root


def release(root: Path, out: Path, *more: object) -> tuple[int, str]:
    return synthkit(
        "release", root / "synthetic", "--audit", root / "audit", "-o", out, "--backend", "inline",
        "--creator", "Doe, Jane", "--licence", "CC-BY-4.0", *more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def signed(audited: Path) -> Path:
    code, shown = release(audited, audited / "signed", "--sign", audited / "steward.key")
    assert code == 0, shown
    return audited / "signed"


@pytest.fixture
def copy(signed: Path, tmp_path: Path) -> Path:
    """The release where its reader has it: no run, no data and no key beside it."""
    return Path(shutil.copytree(signed, tmp_path / "received"))


def verify(folder: Path, key: Path) -> tuple[int, str]:
    return synthkit("release", "verify", folder, "--key", key)


# ------------------------------------------------------------------------------------------------------- round trip


def test_a_release_is_checked_elsewhere_by_a_process_that_knows_nothing_else(audited: Path, copy: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "synthkit",
        "release",
        "verify",
        ".",
        "--key",
        str(audited / "steward.pub"),
        "--json",
    ]
    done = subprocess.run(
        command, cwd=copy, capture_output=True, text=True, env={**os.environ, "HOME": str(copy.parent)}
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    predicate = told["predicate"]
    assert told["n_files"] == len(digests(copy)) and predicate == json.loads((copy / AUDIT).read_text())
    assert predicate["verdict"]["outcome"] == "pass" and predicate["policy"]["min_synthetic"] == 5
    assert predicate["departures"]["policy"][0] == "min_synthetic = 5 (default 1)"
    assert predicate["departures"]["audit"] == ["plants = 0 (default 60)"]
    assert predicate["lineage"]["trained_on"][0]["n_subjects"] == 6 and "subject_keys" not in json.dumps(predicate)
    assert predicate["runs"][0]["versions"]["python"]


def test_the_statement_is_in_toto_and_names_every_file(signed: Path) -> None:
    from securesystemslib.dsse import Envelope

    envelope = Envelope.from_dict(json.loads((signed / SIGNATURE).read_text()))
    statement = json.loads(envelope.payload)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert envelope.payload_type == "application/vnd.in-toto+json"
    names = {item["name"]: item["digest"]["sha256"] for item in statement["subject"]}
    files = {p.relative_to(signed).as_posix() for p in signed.rglob("*") if p.is_file()} - {SIGNATURE}
    assert set(names) == files and names == digests(signed)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def edited(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    told = json.loads(path.read_text())
    change(told)
    path.write_text(json.dumps(told, indent=1) + "\n")


PICTURE = "images/T1/seed00000003_T1.png"

TAMPERINGS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a flipped byte": (lambda path: flip(path / PICTURE), f"{PICTURE}: changed"),
    "a missing file": (lambda path: (path / PICTURE).unlink(), f"{PICTURE}: missing"),
    "another file": (lambda path: (path / "images" / "more.png").touch(), "images/more.png: not part of the release"),
    "a hidden file": (lambda path: (path / ".more").touch(), ".more: not part of the release"),
    "a renamed file": (lambda path: (path / PICTURE).rename(path / "images/T1/a.png"), f"{PICTURE}: missing"),
    "a verdict": (lambda path: edited(path / AUDIT, lambda a: a["verdict"].update(reasons=[])), f"{AUDIT}: changed"),
    "a policy": (lambda path: edited(path / AUDIT, lambda a: a["policy"].update(max_copies=9)), f"{AUDIT}: changed"),
    "a datasheet": (lambda path: (path / DATASHEET).write_text("All is well."), f"{DATASHEET}: changed"),
    "an answer": (lambda path: (path / ASSESSMENT).write_text("All is well."), f"{ASSESSMENT}: changed"),
    "checksums": (lambda path: (path / CHECKSUMS).write_text(""), f"{CHECKSUMS}: changed"),
    "a link in the place of a file": (
        lambda path: ((path / DATASHEET).unlink(), (path / DATASHEET).symlink_to(path / CARD)), f"{DATASHEET}: no file",
    ),
    "a link to a folder": (lambda path: (path / "more").symlink_to("/etc"), "more: not part of the release"),
    "a pipe in the place of a file": (
        lambda path: ((path / DATASHEET).unlink(), os.mkfifo(path / DATASHEET)), f"{DATASHEET}: no file",
    ),
    "an empty folder": (lambda path: (path / "images" / "more").mkdir(), "images/more: not part of the release"),
    "an envelope without a signature": (
        lambda path: edited(path / SIGNATURE, lambda e: e.update(signatures=[])), "has no signature",
    ),
    "a second signature": (
        lambda path: edited(path / SIGNATURE, lambda e: e["signatures"].append({"keyid": "a", "sig": "YWJj"})),
        "has 2 signatures",
    ),
    "an envelope of nothing": (lambda path: (path / SIGNATURE).write_text("{}"), "no DSSE envelope as"),
    "no signature": (lambda path: (path / SIGNATURE).unlink(), "is not signed"),
    "a damaged signature": (lambda path: (path / SIGNATURE).write_text("[]"), "is damaged"),
    "a signature that is a link": (
        lambda path: ((path / SIGNATURE).unlink(), (path / SIGNATURE).symlink_to("/dev/zero")), "cannot be read",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TAMPERINGS)
def test_tampering_is_refused_by_name(audited: Path, copy: Path, name: str) -> None:
    tamper, said = TAMPERINGS[name]
    tamper(copy)
    code, shown = verify(copy, audited / "steward.pub")
    assert code == 10 and said in shown, shown


def test_what_a_file_manager_leaves_is_refused_and_its_removal_helps(audited: Path, copy: Path) -> None:
    (copy / "images" / ".DS_Store").touch()
    code, shown = verify(copy, audited / "steward.pub")
    assert code == 10 and "remove what is not part of it" in shown and "Do not use" not in shown
    (copy / "images" / ".DS_Store").unlink()
    assert verify(copy, audited / "steward.pub")[0] == 0


def test_what_the_statement_says_cannot_be_changed(audited: Path, copy: Path) -> None:
    """Neither in the envelope, nor by signing it anew with another key."""
    import base64

    def soften(envelope: dict[str, Any]) -> None:
        payload = base64.b64decode(envelope["payload"]).replace(b'"min_synthetic":5', b'"min_synthetic":9')
        envelope["payload"] = base64.b64encode(payload).decode()

    edited(copy / SIGNATURE, soften)
    code, shown = verify(copy, audited / "steward.pub")
    assert code == 10 and "does not fit its statement" in shown
    (copy / SIGNATURE).unlink()
    assert synthkit("release", "sign", copy, "--key", audited / "other.key")[0] == 0
    code, shown = verify(copy, audited / "steward.pub")
    assert code == 10 and "was not signed with this key" in shown
    assert verify(copy, audited / "other.pub")[0] == 0


def test_the_audit_of_another_release_is_refused(audited: Path, copy: Path, tmp_path: Path) -> None:
    code, shown = release(audited, tmp_path / "second", "--title", "Another", "--sign", audited / "steward.key")
    assert code == 0, shown
    for name in (AUDIT, SIGNATURE):
        kept = (copy / name).read_bytes()
        shutil.copyfile(tmp_path / "second" / name, copy / name)
        code, shown = verify(copy, audited / "steward.pub")
        assert code == 10 and f"{AUDIT}: changed" in shown, shown
        (copy / name).write_bytes(kept)


# ---------------------------------------------------------------------------------------------------------- signing


def test_the_steward_answers_then_signs_and_nothing_else_may_have_changed(audited: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, shown = release(audited, out)
    assert code == 0 and not (out / SIGNATURE).exists() and verify(out, audited / "steward.pub")[0] == 10
    asked = (out / ASSESSMENT).read_text()
    assert "For you to answer: in which years" in asked
    answered = re.sub(r"^For you to answer: .*$", "Answered by the steward.", asked, flags=re.MULTILINE)
    kept = (out / DATASHEET).read_text()
    (out / DATASHEET).write_text("All is well.")
    code, shown = synthkit("release", "sign", out, "--key", audited / "steward.key")
    assert code == 3 and f"{DATASHEET}: changed" in shown and not (out / SIGNATURE).exists()
    (out / DATASHEET).write_text(kept)
    (out / ASSESSMENT).unlink()
    (out / ASSESSMENT).symlink_to(audited / "steward.key")
    code, shown = synthkit("release", "sign", out, "--key", audited / "steward.key")
    assert code == 3 and f"{ASSESSMENT}: no file" in shown
    (out / ASSESSMENT).unlink()
    (out / ASSESSMENT).write_text(answered)
    code, shown = synthkit("release", "sign", out, "--key", audited / "steward.key", "--json", "--quiet")
    assert code == 0 and json.loads(shown)["unanswered"] == []
    assert verify(out, audited / "steward.pub")[0] == 0
    subprocess.run(["sha256sum", "-c", "--quiet", "--strict", CHECKSUMS], cwd=out, check=True)
    code, shown = synthkit("release", "sign", out, "--key", audited / "steward.key")
    assert code == 2 and "is signed already" in shown
    (out / SIGNATURE).unlink()  # the remedy
    assert synthkit("release", "sign", out, "--key", audited / "steward.key")[0] == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda audit: audit["policy"].update(max_copies=9), "says otherwise than its seal on the policy"),
        (lambda audit: audit["verdict"].update(weaker=[]), "says otherwise than its seal on the verdict"),
        (lambda audit: audit["params"].update(plants=60), "says otherwise than its seal on the parameters"),
        (lambda audit: audit["seal"].update(scores="sha256:0"), "says otherwise than its seal on itself"),
        (lambda audit: audit["lineage"]["trained_on"][0].update(n_subjects=1000), "seal on the lineage"),
        (lambda audit: audit["scores"][0].update(note="All is well."), "seal on the scores"),
        (lambda audit: audit["runs"][0]["versions"].update(numpy="9.9"), "seal on the versions"),
        (lambda audit: audit["runs"][0].update(code={}), "seal on the code"),
        (lambda audit: audit["verdict"].update(outcome="fail"), "verdict of its audit is fail"),
        (lambda audit: audit.pop("seal"), "lacks what a release has"),
        (
            lambda audit: next(s for s in audit["scores"] if s["name"] == "n_copies").update(value=3),
            "scores give: fail",
        ),
    ],
)
def test_an_audit_that_was_edited_with_its_checksum_is_not_signed(
    audited: Path, copy: Path, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    (copy / SIGNATURE).unlink()
    edited(copy / AUDIT, change)
    (copy / CHECKSUMS).write_text(sums({name: d for name, d in digests(copy).items() if name != CHECKSUMS}))
    code, shown = synthkit("release", "sign", copy, "--key", audited / "steward.key")
    assert code == 10 and said in shown and not (copy / SIGNATURE).exists(), shown


def relisted(folder: Path) -> None:
    """Checksums reckoned anew, as who edits a file can do."""
    (folder / CHECKSUMS).write_text(sums({name: d for name, d in digests(folder).items() if name != CHECKSUMS}))


def swapped(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


EDITS: dict[str, tuple[Callable[[Path], object], str]] = {
    "an image in the place of another": (
        lambda path: shutil.copyfile(path / "images/T1/seed00000004_T1.png", path / PICTURE), "seed00000003",
    ),
    "a label map in the place of an image": (
        lambda path: shutil.copyfile(path / "images/Seg/seed00000003_Seg.png", path / PICTURE), "seed00000003",
    ),
    "a picture that is none": (lambda path: (path / PICTURE).write_text("no picture"), "seed00000003"),
    "a missing image": (lambda path: (path / PICTURE).unlink(), "Images are not those of samples.csv: seed00000003"),
    "an image of no sample": (
        lambda path: shutil.copyfile(path / PICTURE, path / "images/T1/a.png"), "Of no sample, and no document: images",
    ),
    "the table of the export": (
        lambda path: swapped(path / "images/samples.csv", "seed00000003,", "seed3,"), "lists them: images/samples.csv",
    ),
    "the table of samples": (
        lambda path: swapped(path / "samples.csv", "seed00000003,3,", "seed00000003,4,"), "does not give the digest",
    ),
    "labels in the table": (lambda path: swapped(path / "samples.csv", "ET", "ED"), "counts other labels"),
    "the datasheet without what weakens": (
        lambda path: swapped(path / DATASHEET, "Weaker than", "As"), f"{DATASHEET} says otherwise than {AUDIT}",
    ),
    "more samples in the datasheet": (
        lambda path: swapped(path / DATASHEET, "| samples | 12,", "| samples | 6,000,"), f"{DATASHEET} says otherwise",
    ),
    "the card": (lambda path: swapped(path / CARD, "| ET | 204", "| ET | 102"), f"{CARD} says otherwise"),
    "the catalogue": (lambda path: swapped(path / CROISSANT, "12 synthetic", "99 synthetic"), f"{CROISSANT} says"),
    "the page": (lambda path: swapped(path / "audit.html", "Weaker", "Better"), "lists them: audit.html"),
    "the number of samples": (lambda path: edited(path / AUDIT, lambda a: a.update(n_samples=6000)), "counts 6000"),
    "the title": (lambda path: edited(path / AUDIT, lambda a: a.update(title="Better")), f"{DATASHEET} says otherwise"),
    "the digest": (
        lambda path: edited(path / AUDIT, lambda a: a.update(digest="sha256:0")), "does not give the digest",
    ),
    "the audited digest": (
        lambda path: edited(path / AUDIT, lambda a: a.update(audited_digest="sha256:0")), "not that of the sealed",
    ),
    "what was left out": (
        lambda path: edited(path / AUDIT, lambda a: a["removal"].update(n_copies=1)), "before and after the removal",
    ),
    "departures": (
        lambda path: edited(path / AUDIT, lambda a: a["departures"].update(policy=[])), "departures from the default",
    ),
    "data protection": (
        lambda path: edited(path / AUDIT, lambda a: a["data_protection"].pop()), "on data protection does not follow",
    ),
    "the legend": (
        lambda path: edited(path / AUDIT, lambda a: a["reading"]["labels"][1].update(stored=9)), "numbers or meanings",
    ),
    "another version": (lambda path: edited(path / AUDIT, lambda a: a.update(synthkit="9")), "made by synthkit 9"),
    "half an audit": (lambda path: edited(path / AUDIT, lambda a: a.pop("scheme")), "lacks what a release has"),
}  # fmt: skip


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_that_contradicts_the_audit_is_not_signed(audited: Path, copy: Path, name: str) -> None:
    edit, said = EDITS[name]
    (copy / SIGNATURE).unlink()
    edit(copy)
    relisted(copy)
    code, shown = synthkit("release", "sign", copy, "--key", audited / "steward.key")
    assert code == 10 and said in shown and not (copy / SIGNATURE).exists(), shown


def test_samples_of_another_dataset_are_not_signed(audited: Path, copy: Path) -> None:
    """Images, table and digest that agree with one another, and not with the seal."""
    from synthkit.contract import Sample
    from synthkit.data.format import content_digest

    (copy / SIGNATURE).unlink()
    rows = (copy / "samples.csv").read_text().splitlines()
    (copy / "samples.csv").write_text("\n".join(rows[:-1]) + "\n")
    kept = [Sample(i, "synthetic", None, None, int(seed), d) for i, seed, d, _ in (r.split(",") for r in rows[1:-1])]
    digest = content_digest(("t1", "t2"), BRATS, (SIZE, SIZE), kept)
    edited(copy / AUDIT, lambda a: a.update(n_samples=11, digest=digest, audited_digest=digest))
    relisted(copy)
    code, shown = synthkit("release", "sign", copy, "--key", audited / "steward.key")
    assert code == 10 and "not those that the sealed audit searched" in shown


@pytest.mark.parametrize("format", ["nifti", "nnunet", "dataset"])
def test_images_of_every_format_are_compared(audited: Path, tmp_path: Path, format: str) -> None:
    out = tmp_path / "out"
    code, shown = release(audited, out, "--format", format, "--sign", audited / "steward.key")
    assert code == 0 and verify(out, audited / "steward.pub")[0] == 0, shown
    (out / SIGNATURE).unlink()
    files = [path for path in out.rglob("*" if format == "dataset" else "*seed00000003*") if path.is_file()]
    largest = max((path for path in files if path.suffix != ".html"), key=lambda path: path.stat().st_size)
    other = next(out.rglob(largest.name.replace("00003", "00004")))
    largest.write_bytes(b"no shard" if format == "dataset" else other.read_bytes())
    relisted(out)
    code, shown = synthkit("release", "sign", out, "--key", audited / "steward.key")
    assert code == 10 and ("Images are not those" in shown or "lists them: dataset" in shown), shown


def test_what_contradicts_itself_is_refused_by_readers_too(
    audited: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signed by whoever has the key, and not by `release sign`."""
    from synthkit.release import statement

    (copy / SIGNATURE).unlink()
    shutil.copyfile(copy / "images/T1/seed00000004_T1.png", copy / PICTURE)
    relisted(copy)
    with monkeypatch.context() as patched:
        patched.setattr(statement, "flaws_of_samples", lambda *_: [])
        assert synthkit("release", "sign", copy, "--key", audited / "steward.key")[0] == 0
    code, shown = verify(copy, audited / "steward.pub")
    assert code == 10 and "contradicts itself" in shown and "seed00000003" in shown


@pytest.mark.parametrize(
    ("change", "gone"),
    [
        (lambda text: "", "### Who"),
        (lambda text: text.replace("### When\n", ""), "### When"),
        (lambda text: text.replace("0 (0.00%", "0 (0%"), "Of 12 synthetic images, 0"),
        (lambda text: re.sub(r"\*\*Weaker.*\*\*\n", "", text), "Weaker than the default"),
    ],
)
def test_an_assessment_without_its_questions_is_not_signed(
    audited: Path, copy: Path, change: Callable[[str], str], gone: str
) -> None:
    (copy / SIGNATURE).unlink()
    kept = (copy / ASSESSMENT).read_text()
    (copy / ASSESSMENT).write_text(change(kept))
    code, shown = synthkit("release", "sign", copy, "--key", audited / "steward.key")
    assert code == 3 and f"{ASSESSMENT} lacks" in shown and gone in shown and not (copy / SIGNATURE).exists(), shown
    (copy / ASSESSMENT).write_text(kept)  # the remedy
    assert synthkit("release", "sign", copy, "--key", audited / "steward.key")[0] == 0


def test_a_question_that_is_deleted_is_not_answered_and_broken_lines_do_not_count(audited: Path, copy: Path) -> None:
    (copy / SIGNATURE).unlink()
    text = (copy / ASSESSMENT).read_text()
    n_asked = text.count("\nFor you to answer:")
    text = re.sub(r"^For you to answer: (in which years|from which sites).*$", "", text, flags=re.MULTILINE)
    text = text.replace("- Not covered: ", "- Not\n  covered:   ").replace(
        "For you to answer: has a radiologist looked at a sample of them?", "Yes.\n\n#### When\n\nIn May."
    )
    (copy / ASSESSMENT).write_text(text)
    code, shown = synthkit("release", "sign", copy, "--key", audited / "steward.key", "--json", "--quiet")
    left = json.loads(shown[shown.index("{") :])["unanswered"]
    assert code == 0 and len(left) == n_asked - 1 and any("in which years" in line for line in left)


def test_signing_at_once_says_what_is_not_answered(audited: Path, tmp_path: Path) -> None:
    code, shown = release(audited, tmp_path / "out", "--sign", audited / "steward.key")
    n_asked = (tmp_path / "out" / ASSESSMENT).read_text().count("\nFor you to answer:")
    said = " ".join(shown.split())
    assert code == 0 and f"{n_asked} questions of assessment.md are not answered" in said, shown
    assert "Signed" in said and "with the key" in said
    code, shown = release(audited, tmp_path / "other", "--sign", audited / "steward.key", "--json", "--quiet")
    assert code == 0, shown
    told = json.loads(shown[shown.index("{") :])
    assert code == 0 and len(told["unanswered"]) == n_asked and told["key"]


def test_keys_that_do_not_serve_are_refused_before_anything_is_written(audited: Path, tmp_path: Path) -> None:
    openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", tmp_path / "rsa.key")
    openssl("pkey", "-in", tmp_path / "rsa.key", "-pubout", "-out", tmp_path / "rsa.pub")
    (tmp_path / "ssh.key").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    (tmp_path / "noise.key").write_bytes(os.urandom(64))
    wrong = {"rsa.key": "no Ed25519 key", "ssh.key": "key of OpenSSH", "noise.key": "cannot be opened",
             "none.key": "cannot be read", str(audited / "steward.pub"): "is a public key"}  # fmt: skip
    for name, said in wrong.items():
        code, shown = release(audited, tmp_path / "out", "--sign", tmp_path / name)
        assert code == 2 and said in shown and not (tmp_path / "out").exists(), shown
    wrong = {
        "rsa.pub": "no Ed25519 key",
        "noise.key": "cannot be opened",
        str(audited / "steward.key"): "a private key",
    }
    for name, said in wrong.items():
        code, shown = verify(audited / "signed", tmp_path / name)
        assert code == 2 and said in shown, shown


def test_an_encrypted_key_asks_for_its_passphrase(
    audited: Path, signed: Path, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from synthkit.release.signing import PASSPHRASE, load_private

    key = tmp_path / "steward.key"
    openssl("pkey", "-in", audited / "steward.key", "-aes256", "-passout", "pass:secret words", "-out", key)
    (copy / SIGNATURE).unlink()
    code, shown = synthkit("release", "sign", copy, "--key", key)
    assert code == 2 and "is encrypted" in shown and PASSPHRASE in shown
    assert load_private(key, lambda question: "secret words").public_key.keyid
    with pytest.raises(UsageError, match="passphrase is wrong") as caught:
        load_private(key, lambda question: "other words")
    assert f"Check {PASSPHRASE}" in str(caught.value)
    monkeypatch.setenv(PASSPHRASE, "secret words")
    assert synthkit("release", "sign", copy, "--key", key)[0] == 0
    assert verify(copy, audited / "steward.pub")[0] == 0


def test_what_is_no_release_is_neither_signed_nor_checked(audited: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder, code in ((tmp_path / "empty", 10), (tmp_path / "nothing", 3)):
        assert verify(folder, audited / "steward.pub")[0] == code
        assert synthkit("release", "sign", folder, "--key", audited / "steward.key")[0] == 3


def test_a_statement_of_another_tool_is_refused(audited: Path, copy: Path) -> None:
    from synthkit.release import signing

    signer = signing.load_private(audited / "steward.key")
    for payload in (b"{}", b"[]", b'{"_type": "x", "predicateType": "y"}', b"\xff"):
        (copy / SIGNATURE).write_bytes(signing.enveloped(payload, signer))
        code, shown = verify(copy, audited / "steward.pub")
        assert code == 10 and "no statement on a release" in shown
    with pytest.raises(GateFailedError, match="is damaged"):
        signing.opened(b'{"payload": "", "payloadType": "x", "signatures": [1]}', signer.public_key, copy)


# -------------------------------------------------------------------------------------------------------- documents


def test_the_datasheet_begins_with_verdict_policy_and_departures(signed: Path) -> None:
    begin = (signed / DATASHEET).read_text().partition("## Motivation")[0]
    for words in ("**pass**", "max_copies = 0", "min_synthetic = 5 (default 1)", "plants = 0 (default 60)", "Weaker"):
        assert words in begin, words


def test_the_card_says_how_to_read_the_files(signed: Path) -> None:
    card = (signed / CARD).read_text()
    for words in ("| ET | 204 | enhancing tumour |", "LPS: columns run towards the patient's left", "8 x 8 mm",
                  "255 was the maximum", "whether it was removed is not recorded", 'license: "cc-by-4.0"'):  # fmt: skip
        assert words in card, words
    yaml = pytest.importorskip("yaml")
    assert yaml.safe_load(card.split("---")[1])["task_categories"] == ["image-segmentation"]


def test_the_assessment_fills_what_is_known_and_asks_the_rest(signed: Path) -> None:
    text = (signed / ASSESSMENT).read_text()
    for words in ("05/2014", "28/2024", "TEHDAS2", "Singling out", "Linkability", "Inference", "12 real images of 6",
                  "Of 12 synthetic images, 0", "Membership inference was not tested"):  # fmt: skip
        assert words in text, words
    for criterion in (
        "Congruence",
        "Coverage",
        "Constraint",
        "Completeness",
        "Compliance",
        "Comprehension",
        "Consistency",
    ):
        assert f"### {criterion}" in text, criterion


def nodes(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, dict):
        return [value, *(node for inner in value.values() for node in nodes(inner))]
    return [node for inner in value for node in nodes(inner)] if isinstance(value, list) else []


@pytest.mark.parametrize("format", ["png", "nifti", "nnunet", "dataset"])
def test_croissant_metadata_are_of_this_folder(audited: Path, tmp_path: Path, format: str) -> None:
    out = tmp_path / "out"
    code, shown = release(audited, out, "--format", format)
    assert code == 0, shown
    found = json.loads((out / CROISSANT).read_text())
    assert found["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    assert found["license"] == "https://spdx.org/licenses/CC-BY-4.0.html"
    graph = nodes({key: value for key, value in found.items() if key != "@context"})
    defined = [node["@id"] for node in graph if "@type" in node and "@id" in node]
    assert len(set(defined)) == len(defined) and {n["@id"] for n in graph if "@id" in n} == set(defined)
    (table,) = (node for node in graph if node.get("@type") == "cr:FileObject")
    assert table["sha256"] == digests(out)[table["contentUrl"]]
    patterns = [node["includes"] for node in graph if node.get("@type") == "cr:FileSet"]
    assert all(list(out.glob(pattern)) for pattern in patterns)


def test_mlcroissant_loads_and_validates_the_metadata(signed: Path) -> None:
    mlcroissant = pytest.importorskip("mlcroissant")
    loaded = mlcroissant.Dataset(str(signed / CROISSANT))
    assert not loaded.metadata.ctx.issues.errors and not loaded.metadata.ctx.issues.warnings
    samples = list(loaded.records(record_set="samples"))
    assert len(samples) == 12 and samples[3]["samples/id"] == b"seed00000003" and samples[3]["samples/seed"] == 3
    labels = {row["labels/name"]: row["labels/stored"] for row in loaded.records(record_set="labels")}
    assert labels == {"background": 0, "NCR": 51, "ED": 102, "ET": 204}
    pictures = list(loaded.records(record_set="pictures/Seg"))
    assert len(pictures) == 12 and pictures[0]["pictures/Seg/picture"].size == (SIZE, SIZE)


@pytest.mark.parametrize(("phantom", "whose"), [(False, "patients"), (True, "phantoms")])
def test_label_maps_that_were_lent_are_said_to_be_their_lenders(
    audited: Path, tmp_path: Path, phantom: bool, whose: str
) -> None:
    """Twelve seeds ask for eight maps of lenders; each is in the release as it was given."""
    from synthkit.data.dataset import Dataset

    real = Dataset(audited / "real")
    rng = np.random.default_rng(1)
    name = "Phantom_" if phantom else "Lender_"
    rows = [{"id": f"{name}{i:03d}-0", "split": "train", "subject": f"{name}{i:03d}", "slice": 0} for i in range(8)]
    images = rng.integers(0, 256, (20, 2, SIZE, SIZE), dtype=np.uint8)
    lent = Dataset(dataset(tmp_path / "lent", images[:8], rows, "real"))
    entries = [real.training_entry(), {**lent.training_entry(), "used": "labels"}]
    lineage = {"generator": "toy", "checkpoint_digest": "sha256:c0ffee", "training_datasets": entries,
               "asked": {"labels": {"kind": "real", "digest": lent.digest, "n_maps": 8}}}  # fmt: skip
    seeds = [
        {"id": f"seed{i:08d}", "split": "synthetic", "seed": i, "asked": json.dumps({"labels": i % 8})}
        for i in range(12)
    ]
    dataset(tmp_path / "synthetic", images[8:], seeds, "synthetic", lineage=lineage)
    policy = tmp_path / "policy.toml"
    allowed = "" if phantom else "allow_lent_label_maps = true\n"
    policy.write_text((audited / "policy.toml").read_text() + allowed)
    api.audit_memorization(
        real.path, tmp_path / "synthetic", tmp_path / "audit", policy=policy, metric="toy-nearest",
        params={"plants": 0}, backend="inline", also_train=[lent.path],
    )  # fmt: skip
    out = tmp_path / "out"
    code, shown = release(tmp_path, out, "--sign", audited / "steward.key")
    assert code == 0 and verify(out, audited / "steward.pub")[0] == 0, shown
    text, sheet = (out / ASSESSMENT).read_text(), (out / DATASHEET).read_text()
    assert f"Lent label maps alone: those of 8 {'phantom' if phantom else 'real'} images of 8 {whose}." in text
    assert "Trained on 12 real images of 6 patients." in text and "8 of 8 maps, 8 of them not empty" in text
    assert f"samples of 8 {whose}, of which only the label maps were used" in sheet
    assert "without those maps it cannot be made again" in text
    told = "those of patients, byte for byte"
    for page in (text, (out / "audit.html").read_text(), (out / AUDIT).read_text()):
        assert (told in page) is not phantom and ("isolates the record of a patient" in page) is phantom
    assert ("of real people" in text) is not phantom and ("With what right are label maps" in text) is not phantom


def test_masks_of_nobody_knows_whom_are_asked_about() -> None:
    from synthkit.release.given_labels import made_again, question_of_masks, trained_on

    entry = {"digest": "d", "kind": "real", "n_samples": 809, "n_subjects": 10, "phantom": True}
    facts = {"lineage": {"asked": {"labels": {"kind": "masks", "n_maps": 3}}, "trained_on": [entry]}}
    assert trained_on(facts) == (
        "Trained on 809 phantom images of 10 phantoms.",
        "Lent label maps: a folder of 3 masks; whose they are is not recorded.",
    )
    assert "Whose are the masks" in question_of_masks(facts) and "cannot be made again" in made_again(facts)


@pytest.mark.parametrize(
    ("lineage", "said"),
    [
        ({}, "Where the labels are from is not recorded"),
        ({"generator": "toy"}, "generated together with the images"),
        (
            {"generator": "toy", "asked": {"labels": {"kind": "real", "n_maps": 1200}}},
            "of 1,200 maps, 2 of them not empty. They are of real people",
        ),
        ({"generator": "toy", "asked": {"labels": {"kind": "masks", "n_maps": 3}}}, "nobody knows whose"),
        ({"generator": "toy", "asked": {"grade": "4"}}, "generated together with the images"),
    ],
)
def test_whose_the_labels_are_is_said(lineage: dict[str, Any], said: str) -> None:
    from synthkit.release.given_labels import origin_of_labels

    maps = {"n_given": 1200, "n_used": 3, "n_not_empty": 2} if lineage.get("asked", {}).get("labels") else None
    assert said in origin_of_labels({"lineage": lineage, "label_maps": maps})
