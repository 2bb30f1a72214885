"""What a steward signs: an in-toto statement on a release, and whether a folder is what it says.

The statement (in-toto Attestation Framework, Statement v1) has as subject every file of the release with its SHA-256,
and as predicate what ``audit.json`` holds: verdict, policy and departures from the defaults, parameters, lineage
without names, versions, container images by digest. It needs nothing but the folder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthkit.errors import DataError, GateFailedError, SynthkitError, UsageError
from synthkit.files import open_inside, read_inside, write_atomically
from synthkit.judging.policy import policy_of
from synthkit.judging.verdict import verdict
from synthkit.release import signing
from synthkit.release.agreement import answers, flaws_of_documents, flaws_of_samples
from synthkit.release.assessment import LEFT
from synthkit.release.layout import ASSESSMENT, AUDIT, CHECKSUMS, SIGNATURE, sums
from synthkit.running.run import MAX_JSON_BYTES
from synthkit.running.seal import contradictions

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner, SSlibKey

OnProgress = Callable[[int, int], None]

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
#: A name, and no address: RFC 4151.
PREDICATE_TYPE = "tag:synthkit,2026:release/v1"

_MOST_BYTES = 2**30
_NO_FILE = "no file that can be read"
_DO_NOT_USE = "Do not use the data; ask the steward for the release again."


@dataclass(frozen=True)
class Checked:
    """A release that is what its steward signed: number of files, the predicate, and the key by name."""

    n_files: int
    predicate: dict[str, Any]
    key: str


def sign_release(folder: Path, signer: CryptoSigner, on_progress: OnProgress = lambda done, total: None) -> list[str]:
    """Sign a release as it lies there; its :data:`ASSESSMENT` may have been edited since it was made, nothing else.

    Returns the questions of the assessment that are left unanswered.

    Raises
    ------
    DataError : no release, or one whose files are not those that were written.
    UsageError : it is signed already.
    GateFailedError : its audit did not pass, or contradicts itself, its samples or its documents.
    """
    if os.path.lexists(folder / SIGNATURE):
        raise UsageError(
            f"{folder} is signed already.", "A second signature would replace the first.", f"Remove {SIGNATURE} first."
        )
    audit = _audit(folder)
    found = digests(folder, on_progress)
    listed = _listed(folder)
    differences = _differences({**listed, ASSESSMENT: found.get(ASSESSMENT, "")}, found, leave_out={CHECKSUMS})
    if differences:
        raise DataError(
            f"{folder} is not the release that was made.",
            f"Only {ASSESSMENT} may be edited before it is signed.",
            "Restore it, or make the release again.",
            differences,
        )
    if flaws := _flaws(audit) or _flaws_of_samples(folder, audit, found) or _flaws_of_documents(folder, audit):
        raise GateFailedError(f"{folder} cannot be signed.", " ".join(flaws), "Make the release again.")
    gone, left = answers(folder, audit)
    if gone:
        raise DataError(
            f"{ASSESSMENT} lacks what synthkit wrote into it.",
            f'Only the lines that begin with "{LEFT}" are replaced, each by an answer; all else stays.',
            "Put back what is gone, or make the release again.",
            gone,
        )
    own = sums({name: digest for name, digest in found.items() if name != CHECKSUMS})
    write_atomically(folder / CHECKSUMS, own.encode())
    found[CHECKSUMS] = _digest(folder, (CHECKSUMS,))
    write_atomically(folder / SIGNATURE, signing.enveloped(_statement(found, audit), signer))
    return left


def check_release(folder: Path, key: SSlibKey, on_progress: OnProgress = lambda done, total: None) -> Checked:
    """Whether a folder is, file by file, the release that was signed with a key.

    Raises
    ------
    DataError : there is no such folder.
    GateFailedError : not signed, signed with another key, or a file is changed, missing or too much, each by name.
    """
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}.", fix="Give the folder of a release.")
    payload = signing.opened(_signature(folder), key, folder)
    subject, predicate = _parsed(payload, folder)
    found = digests(folder, on_progress)
    if differences := _differences(subject, found):
        only_more = all(found.get(name) == digest for name, digest in subject.items())
        raise GateFailedError(
            f"{folder} is not what was signed.",
            f"{len(differences)} of its files are changed, missing or not part of it.",
            "All that was signed is as it was: remove what is not part of it (a file manager may have left it), then "
            "check again."
            if only_more
            else _DO_NOT_USE,
            differences,
        )
    flaws = _flaws(predicate) or _flaws_of_samples(folder, predicate, found)
    if predicate != _audit(folder):
        flaws.append(f"The statement says otherwise than {AUDIT}.")
    if flaws:
        raise GateFailedError(f"What was signed in {folder} contradicts itself.", " ".join(flaws), _DO_NOT_USE)
    return Checked(len(found), predicate, signing.key_name(key))


# --------------------------------------------------------------------------------------------------- the statement


def digests(folder: Path, on_progress: OnProgress = lambda done, total: None) -> dict[str, str]:
    """Name -> SHA-256 (hex) of all in a release but its signature, or words for what is no file; empty folders too."""
    names = []
    for here, folders, files in os.walk(folder):
        links = [name for name in folders if (Path(here) / name).is_symlink()]
        names += [(Path(here) / name).relative_to(folder).parts for name in (*files, *links)]
        if not files and not folders and Path(here) != folder:
            names.append(Path(here).relative_to(folder).parts)
    found = {}
    for number, parts in enumerate(sorted(names), start=1):
        if parts != (SIGNATURE,):
            found["/".join(parts)] = _digest(folder, parts)
        on_progress(number, len(names))
    return found


def _digest(folder: Path, parts: tuple[str, ...]) -> str:
    import hashlib

    try:
        with os.fdopen(open_inside(folder, *parts), "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return f"{_NO_FILE} ({error.strerror})"


def _statement(found: Mapping[str, str], audit: Mapping[str, Any]) -> bytes:
    subject = [{"name": name, "digest": {"sha256": digest}} for name, digest in sorted(found.items())]
    statement = {"_type": STATEMENT_TYPE, "subject": subject, "predicateType": PREDICATE_TYPE, "predicate": audit}
    return json.dumps(statement, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _signature(folder: Path) -> bytes:
    if not os.path.lexists(folder / SIGNATURE):
        raise GateFailedError(
            f"{folder} is not signed.",
            f"It has no {SIGNATURE}.",
            "Ask its steward for the signed release (`synthkit release sign FOLDER --key KEY` signs one).",
        )
    try:
        return read_inside(folder, SIGNATURE, max_bytes=_MOST_BYTES)
    except OSError as error:
        raise GateFailedError(
            f"The signature of {folder} cannot be read.", f"{error.strerror}.", _DO_NOT_USE
        ) from error


def _parsed(payload: bytes, folder: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """Subject (name -> SHA-256) and predicate of a statement whose signature holds."""
    try:
        data = json.loads(payload)
        if data["_type"] != STATEMENT_TYPE or data["predicateType"] != PREDICATE_TYPE:
            raise ValueError(f"its types are {data['_type']} and {data['predicateType']}")
        subject = {str(item["name"]): str(item["digest"]["sha256"]) for item in data["subject"]}
        if len(subject) != len(data["subject"]):
            raise ValueError("it names a file twice")
        return subject, dict(data["predicate"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise GateFailedError(
            f"What was signed in {folder} is no statement on a release.",
            f"{_words(error)}.",
            "It is of another tool, or of a newer synthkit: update synthkit.",
        ) from error


# -------------------------------------------------------------------------------------------------------- checking


def _differences(
    expected: Mapping[str, str], found: Mapping[str, str], leave_out: set[str] | frozenset[str] = frozenset()
) -> list[str]:
    """A line for each file that is not as expected, missing, or too much."""
    lines = []
    for name in sorted({*expected, *found} - leave_out):
        if name not in found:
            lines.append(f"{name}: missing")
        elif name not in expected:
            lines.append(f"{name}: not part of the release")
        elif found[name].startswith(_NO_FILE):
            lines.append(f"{name}: {found[name]}")
        elif found[name] != expected[name]:
            lines.append(f"{name}: changed")
    return lines


def _listed(folder: Path) -> dict[str, str]:
    """The checksums that were written with a release."""
    try:
        text = read_inside(folder, CHECKSUMS, max_bytes=_MOST_BYTES).decode()
        return {name: digest for digest, name in (line.split("  ", 1) for line in text.splitlines())}
    except (OSError, ValueError) as error:
        raise _no_release(folder, CHECKSUMS, error) from error


def _audit(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(read_inside(folder, AUDIT, max_bytes=MAX_JSON_BYTES)))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise _no_release(folder, AUDIT, error) from error


def _no_release(folder: Path, name: str, error: Exception) -> SynthkitError:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return DataError(
        f"{folder} is no release.", f"Its {name}: {reason}.", "Give a folder that `synthkit release ... -o` made."
    )


def _flaws(audit: Mapping[str, Any]) -> list[str]:
    """What of a published audit does not fit together: it has to have passed by its scores, and agree with its seal."""

    def found() -> list[str]:
        lent, told = audit["seal"]["options"].get("lent_label_maps"), audit["verdict"]
        judged = verdict(audit["scores"], policy_of({"policy": audit["policy"]}), lent=lent).outcome
        flaws = [f"Its audit says otherwise than its seal on {part}." for part in contradictions(audit)]
        if told["outcome"] != "pass":
            flaws.append(f"The verdict of its audit is {told['outcome']}.")
        if judged != told["outcome"]:
            flaws.append(f"By the policy, the scores give: {judged}.")
        return flaws

    return _or_lacking(found)


def _flaws_of_samples(folder: Path, audit: Mapping[str, Any], found: Mapping[str, str]) -> list[str]:
    return _or_lacking(lambda: flaws_of_samples(folder, audit, found))


def _flaws_of_documents(folder: Path, audit: Mapping[str, Any]) -> list[str]:
    from synthkit import __version__

    if audit.get("synthkit") != __version__:
        return [f"It was made by synthkit {audit.get('synthkit')}; this is {__version__}, whose documents are others."]
    return _or_lacking(lambda: flaws_of_documents(folder, audit))


def _or_lacking(look: Callable[[], list[str]]) -> list[str]:
    """What a look at a published audit finds, or that it lacks what the look needs."""
    try:
        return look()
    except (KeyError, TypeError, ValueError, AttributeError, OSError, SynthkitError) as error:
        return [f"Its audit lacks what a release has: {_words(error)}."]


def _words(error: Exception) -> str:
    """What was wrong with a table, not in the words of Python."""
    return f"there is no {error.args[0]}" if isinstance(error, KeyError) and error.args else str(error).rstrip(".")
