"""From the numbers of a memorization audit to a verdict: pass, fail or insufficient evidence.

The metric ``memorization`` measures; this module decides, by a policy that a data steward can read and change
(``--policy FILE``, TOML)::

    max_copies = 0             # copies of training images tolerated
    max_flagged_rate = 0.0     # share of flagged images tolerated beyond what the null explains
    max_explained_rate = 0.1   # share of flagged images that the null may explain before it says too little
    min_null_subjects = 2      # real subjects that the thresholds must rest on
    require_holdout = false    # true: they must be held-out subjects
    min_synthetic = 1          # synthetic images that must have been searched
    confidence = 0.95          # of every interval used here

Order: evidence of copying fails whatever else is missing; then missing evidence makes the verdict insufficient; only
then can it be a pass. A pass says what it does not prove.
"""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from synthkit.errors import ExitCode, UsageError

Outcome = Literal["pass", "fail", "insufficient evidence"]

#: Below this many subjects a null says little about its own tail; the verdict then says so.
FEW_SUBJECTS = 20


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What a synthetic dataset must satisfy.

    Attributes
    ----------
    max_copies : tolerated number of copies (flagged, and r with a training image at least the metric's ``copy_r``).
    max_flagged_rate : tolerated share (0..1) of flagged images on top of the false flags that the null explains.
    max_explained_rate : largest share (0..1) of images that unrelated subjects may have above the thresholds. With few
        null subjects that share is large or badly known, and an audit that would excuse so many flags supports no pass.
    min_null_subjects : subjects that the thresholds must rest on. Two, because one subject says nothing about how
        much subjects differ; thresholds then have no error to state.
    require_holdout : whether a null from within the training set (leave-subject-out) is not enough.
    min_synthetic : synthetic images that must have been searched.
    confidence : of the intervals, 0.5..1 (two-sided; see :func:`clopper_pearson`).
    """

    max_copies: int = 0
    max_flagged_rate: float = 0.0
    max_explained_rate: float = 0.1
    min_null_subjects: int = 2
    require_holdout: bool = False
    min_synthetic: int = 1
    confidence: float = 0.95

    def __post_init__(self) -> None:
        for name, low, high in (
            ("max_copies", 0, math.inf),
            ("max_flagged_rate", 0, 1),
            ("max_explained_rate", 0, 1),
            ("min_null_subjects", 1, math.inf),
            ("min_synthetic", 1, math.inf),
            ("confidence", 0.5, 0.999999),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise UsageError(
                    f"The audit policy sets {name} = {value}.",
                    f"It must lie between {low:g} and {high:g}.",
                    "Correct the policy file, or leave the key out for its default.",
                )


@dataclass(frozen=True)
class Verdict:
    """The decision and what it rests on, in sentences: ``reasons`` for it, and what it leaves open."""

    outcome: Outcome
    reasons: tuple[str, ...]
    not_proven: tuple[str, ...]

    @property
    def exit_code(self) -> ExitCode:
        return ExitCode.OK if self.outcome == "pass" else ExitCode.GATE_FAILED

    def to_dict(self) -> dict[str, Any]:
        return {"outcome": self.outcome, "reasons": list(self.reasons), "not_proven": list(self.not_proven)}


def load_policy(path: Path) -> Policy:
    """The policy of a TOML file; keys left out have their defaults.

    Raises
    ------
    UsageError : no such file, not TOML, an unknown key, or a value of the wrong type or range.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"The audit policy {path} cannot be read.", f"{error.strerror or error}.", "Give the path of a TOML file."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(
            f"The audit policy {path} is not TOML.", f"{error}.", "Write one `key = value` a line."
        ) from error
    defaults = {item.name: item.default for item in dataclasses.fields(Policy)}
    unknown = sorted(set(data) - set(defaults))
    if unknown:
        raise UsageError(
            f"The audit policy {path} has the unknown key {', '.join(unknown)}.",
            "A key that nothing reads would look like a rule that holds.",
            f"Known keys: {', '.join(defaults)}.",
        )
    values = {key: _typed(path, key, value, type(defaults[key])) for key, value in data.items()}
    return Policy(**values)


def _typed(path: Path, key: str, value: Any, kind: type) -> Any:
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise UsageError(
            f"The audit policy {path} sets {key} = {value!r}.",
            f"It must be of type {kind.__name__}.",
            "Correct the policy file, or leave the key out for its default.",
        )
    return value


# ------------------------------------------------------------------------------------------------- the verdict


def verdict(scores: Iterable[Mapping[str, Any]], policy: Policy | None = None) -> Verdict:
    """Judge the scores of the metric ``memorization`` (``scores`` of ``result.json``) by a policy.

    Used are the scores of the whole dataset (empty ``of``): n_synthetic, n_flagged, n_copies, n_identical,
    n_memorized_subjects, n_null_subjects, n_holdout and explained_flag_rate, the rate of false flags that the null
    explains. Fails

    - when an image is identical to a training image, up to brightness and contrast (needs no null), or
    - when there are more copies than tolerated, or
    - when the lower bound of the flagged share exceeds the explained rate plus ``max_flagged_rate``.
    """
    policy = policy or Policy()
    numbers = {str(score["name"]): score for score in scores if not score.get("of")}

    def count(name: str) -> int | None:
        value = numbers.get(name, {}).get("value")
        return None if value is None else int(value)

    n, flagged, copies = count("n_synthetic"), count("n_flagged"), count("n_copies")
    identical, memorized, subjects = count("n_identical"), count("n_memorized_subjects"), count("n_null_subjects")
    explained = numbers.get("explained_flag_rate", {}).get("value")

    against: list[str] = []
    missing: list[str] = []
    if identical is not None and identical > policy.max_copies:
        against.append(f"{_images(identical)} identical to a training image, up to brightness and contrast.")
    if copies is not None and copies > policy.max_copies:
        whose = f" They come from {memorized} training subject{'s' * (memorized != 1)}." if memorized else ""
        against.append(f"{_images(copies)} a copy of a training image (tolerated: {policy.max_copies}).{whose}")
    if n and flagged is not None and explained is not None:
        low, high = clopper_pearson(flagged, n, policy.confidence)
        allowed = float(explained) + policy.max_flagged_rate
        measured = (
            f"{flagged} of {n} synthetic images are closer to a training image than unrelated real images are: "
            f"{flagged / n:.2%}, {policy.confidence:.0%} interval {low:.2%} to {high:.2%}; allowed {allowed:.2%}."
        )
        if low > allowed:
            against.append(measured)
    else:
        measured = ""

    if n is None or n < policy.min_synthetic:
        missing.append(f"{n or 0} synthetic images were searched; the policy asks for {policy.min_synthetic}.")
    if not subjects or flagged is None:
        missing.append(
            "There is no valid null: no real subject whose images could be compared with those of other subjects "
            "in the training set, so no threshold."
        )
    elif explained is None:
        missing.append(
            "The thresholds rest on one real subject: how often images of other unrelated subjects would exceed them "
            "is unknown. Hold out two subjects or more."
        )
    elif subjects < policy.min_null_subjects:
        missing.append(
            f"The thresholds rest on {subjects} real subject{'s' * (subjects != 1)}; the policy asks for "
            f"{policy.min_null_subjects} (min_null_subjects)."
        )
    elif float(explained) > policy.max_explained_rate:
        missing.append(
            f"Unrelated subjects would have {float(explained):.1%} of their images flagged, more than "
            f"{policy.max_explained_rate:.0%} (max_explained_rate): the thresholds are too uncertain. "
            "Hold out more subjects."
        )
    if policy.require_holdout and not count("n_holdout"):
        missing.append("The policy asks for held-out subjects (require_holdout) and there are none.")
    if copies is None or identical is None:
        missing.append("The copies were not counted.")

    open_questions = _not_proven(n, flagged, subjects, bool(count("n_holdout")), policy)
    if against:
        return Verdict("fail", (*against, *missing), open_questions)
    if missing:
        return Verdict("insufficient evidence", tuple(missing), open_questions)
    return Verdict("pass", (measured, f"{_images(copies or 0)} a copy of a training image."), open_questions)


def _images(count: int) -> str:
    return "1 synthetic image is" if count == 1 else f"{count or 'No'} synthetic image{'s are' if count else ' is'}"


def _not_proven(
    n: int | None, flagged: int | None, subjects: int | None, holdout: bool, policy: Policy
) -> tuple[str, ...]:
    """What the audit leaves open, whatever its outcome."""
    lines = []
    if n and flagged is not None:
        high = clopper_pearson(flagged, n, policy.confidence)[1]
        lines.append(
            f"That fewer images than this are flagged: {flagged} of {n} flagged is compatible with up to {high:.2%} "
            f"of all images that the generator could make ({policy.confidence:.0%})."
        )
    lines.append(
        "That nothing was memorized in another form: the search compares whole images in place, by Pearson "
        "correlation. Mirrored, shifted, rotated, warped or recombined copies, and copies of a part of an image (a "
        "tumour, say), can stay below the threshold; how strong they must be to be found was not measured."
    )
    if subjects is not None and subjects < FEW_SUBJECTS:
        lines.append(
            f"That the thresholds would be the same with other subjects: they rest on {subjects} "
            f"subject{'s' * (subjects != 1)}, fewer than {FEW_SUBJECTS}."
        )
    if subjects and not holdout:
        lines.append(
            "That the thresholds hold for subjects outside the training set: without held-out subjects they come from "
            "comparing training subjects with each other, which is weaker."
        )
    lines.append(
        "That a person cannot be inferred: membership of a subject in the training set, or an attribute of a subject, "
        "may be inferred from synthetic images without any of them being a copy."
    )
    return tuple(lines)


# ---------------------------------------------------------------------------------------- an exact interval


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Exact interval of a proportion (Clopper and Pearson, Biometrika 26:404, 1934).

    Two-sided, except that at 0 (or all) successes, where one bound is 0 (or 1) by necessity, the other bound takes
    all of the error: 0 of n gives 1 - 0.05^(1/n), the exact form of the "rule of three" (about 3 / n).

    Returns
    -------
    lower and upper bound, 0..1; (0, 1) without trials.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes of {trials} trials")
    error = 1.0 - confidence
    if trials == 0:
        return 0.0, 1.0
    if successes == 0:
        return 0.0, 1.0 - error ** (1.0 / trials)
    if successes == trials:
        return error ** (1.0 / trials), 1.0
    from scipy.special import betaincinv

    lower = float(betaincinv(successes, trials - successes + 1, error / 2))
    upper = float(betaincinv(successes + 1, trials - successes, 1 - error / 2))
    return lower, upper
