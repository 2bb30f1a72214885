"""From the numbers of a memorization audit to a verdict: pass, fail or insufficient evidence.

The metric ``memorization`` measures; this module decides, by a policy that a data steward can read and change
(``--policy FILE``, TOML)::

    max_copies = 0             # copies of training images tolerated
    max_flagged_rate = 0.0     # share of flagged images tolerated beyond what the null explains
    max_explained_rate = 0.1   # share of flagged images that the null may explain before it says too little
    min_null_subjects = 2      # real subjects that the thresholds must rest on
    require_holdout = false    # true: they must be held-out subjects
    min_synthetic = 1          # synthetic images that must have been searched
    min_power = 0.9            # share of planted copies that must be found: lower bound of its 95 % interval
    required_power = ["exact","noise","blur","intensity","flip"]  # of these: "kind" (mildest strength), "kind strength"
    max_membership_auc = 1.0   # lower bound of the membership attack's AUC (chance: 0.5) that is tolerated; 1: any
    max_removed_rate = 0.1     # share of the images that a release may leave out
    confidence = 0.95          # of the intervals that the verdict computes

Order: evidence of copying fails whatever else is missing; then missing evidence makes the verdict insufficient; only
then can it be a pass. An audit that would not have found copies is missing evidence: finding nothing means nothing
then. A pass says what it does not prove.
"""

from __future__ import annotations

import dataclasses
import itertools
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
    min_power : smallest recall (0..1) of planted copies that makes their absence evidence; compared with the lower
        bound of the recall. With every planted copy found, 0.9 takes 29 of them (0.05^(1/29) = 0.902).
    required_power : what must have been planted and found, each ``"kind"`` (its mildest strength, the first that the
        power test lists) or ``"kind strength"``. Empty: an audit without power test can pass.
    max_membership_auc : largest tolerated lower bound (0.5..1) of the membership attack's AUC. By default any is
        tolerated: the attack needs a person's scan, and no value is agreed on as harmless.
    max_removed_rate : largest share (0..1) of the images that ``synthkit release`` may leave out. A generator that
        memorizes more than that hides more just below the thresholds, and removal is not a remedy.
    confidence : of the intervals computed here, 0.5..1 (two-sided; see :func:`clopper_pearson`). Those that the metric
        reports are 95 %.
    """

    max_copies: int = 0
    max_flagged_rate: float = 0.0
    max_explained_rate: float = 0.1
    min_null_subjects: int = 2
    require_holdout: bool = False
    min_synthetic: int = 1
    min_power: float = 0.9
    required_power: tuple[str, ...] = ("exact", "noise", "blur", "intensity", "flip")
    max_membership_auc: float = 1.0
    max_removed_rate: float = 0.1
    confidence: float = 0.95

    def __post_init__(self) -> None:
        object.__setattr__(self, "required_power", tuple(self.required_power))  # a list where it comes from JSON
        for name, low, high in (
            ("max_copies", 0, math.inf),
            ("max_flagged_rate", 0, 1),
            ("max_explained_rate", 0, 1),
            ("min_null_subjects", 1, math.inf),
            ("min_synthetic", 1, math.inf),
            ("min_power", 0, 1),
            ("max_membership_auc", 0.5, 1),
            ("max_removed_rate", 0, 1),
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
    if kind is tuple and isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    if type(value) is not kind:
        raise UsageError(
            f"The audit policy {path} sets {key} = {value!r}.",
            f"It must be {'a list of strings' if kind is tuple else f'of type {kind.__name__}'}.",
            "Correct the policy file, or leave the key out for its default.",
        )
    return value


# ------------------------------------------------------------------------------------------------- the verdict


def verdict(scores: Iterable[Mapping[str, Any]], policy: Policy | None = None) -> Verdict:
    """Judge the scores of the metric ``memorization`` (``scores`` of ``result.json``) by a policy.

    Used are scores of the whole dataset (empty ``of``), among them explained_flag_rate, the rate of false flags that
    the null explains; and ``power``, the recall of each kind and strength of planted copies. Fails

    - when an image is identical to a training image, up to brightness and contrast (needs no null), or
    - when there are more copies than tolerated, or
    - when the lower bound of the flagged share exceeds the explained rate plus ``max_flagged_rate``, or
    - when the lower bound of the membership attack's AUC exceeds ``max_membership_auc``.
    """
    policy, scores = policy or Policy(), list(scores)
    found = _Found({str(score["name"]): score for score in scores if not score.get("of")}, _power_of(scores), policy)
    against, missing, open_questions = found.against(), found.missing(), found.not_proven()
    if against:
        return Verdict("fail", (*against, *missing), open_questions)
    if missing:
        return Verdict("insufficient evidence", tuple(missing), open_questions)
    copies = f"{_images(found.count('n_copies') or 0)} a copy of a training image."
    return Verdict("pass", (found.flagged_share()[0], copies, *found.power_sentences()), open_questions)


def _power_of(scores: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Scores of the power test by "kind strength", and the first of a kind, its mildest strength, by "kind" as well."""
    power: dict[str, Mapping[str, Any]] = {}
    for score in scores:
        of = score.get("of") or {}
        if score["name"] == "power" and "planted" in of and score.get("value") is not None:
            power.setdefault(str(of["planted"]), score)
            power.setdefault(planted_name(score), score)
    return power


def planted_name(score: Mapping[str, Any]) -> str:
    """What a score ``power`` is of, as policies and sentences name it: "noise sd 5"."""
    return f"{score['of']['planted']} {score['of'].get('strength', '')}".strip()


@dataclass(frozen=True)
class _Found:
    """The numbers of one audit and the policy that they are judged by."""

    whole: Mapping[str, Mapping[str, Any]]
    power: Mapping[str, Mapping[str, Any]]
    policy: Policy

    def count(self, name: str) -> int | None:
        value = self.whole.get(name, {}).get("value")
        return None if value is None else int(value)

    @property
    def explained(self) -> float | None:
        value = self.whole.get("explained_flag_rate", {}).get("value")
        return None if value is None else float(value)

    def flagged_share(self) -> tuple[str, bool]:
        """The share of flagged images in a sentence, and whether it is more than tolerated; "" where undefined."""
        n, flagged, explained = self.count("n_synthetic"), self.count("n_flagged"), self.explained
        if not n or flagged is None or explained is None:
            return "", False
        low, high = clopper_pearson(flagged, n, self.policy.confidence)
        allowed = explained + self.policy.max_flagged_rate
        sentence = (
            f"{flagged} of {n} synthetic images are closer to a training image than unrelated real images are: "
            f"{flagged / n:.2%}, {self.policy.confidence:.0%} interval {low:.2%} to {high:.2%}; allowed {allowed:.2%}."
        )
        return sentence, low > allowed

    def against(self) -> list[str]:
        """Evidence of copying, in sentences."""
        identical, copies = self.count("n_identical"), self.count("n_copies")
        lines = []
        if identical is not None and identical > self.policy.max_copies:
            lines.append(f"{_images(identical)} identical to a training image, up to brightness and contrast.")
        if copies is not None and copies > self.policy.max_copies:
            copied = self.count("n_copied_subjects")
            whose = f" They come from {copied} training subject{'s' * (copied != 1)}." if copied else ""
            lines.append(f"{_images(copies)} a copy of a training image (tolerated: {self.policy.max_copies}).{whose}")
        sentence, too_many = self.flagged_share()
        if too_many:
            lines.append(sentence)
        low = self.whole.get("membership_auc", {}).get("low")
        if low is not None and low > self.policy.max_membership_auc:
            lines.append(
                f"Whether a person was trained on can be told from the synthetic images with an AUC of at least "
                f"{low:.3f} (chance: 0.5; tolerated: {self.policy.max_membership_auc:g})."
            )
        return lines

    def missing(self) -> list[str]:
        """What the policy asks for and the audit does not give, in sentences."""
        n, policy = self.count("n_synthetic"), self.policy
        lines = []
        if n is None or n < policy.min_synthetic:
            lines.append(f"{n or 0} synthetic images were searched; the policy asks for {policy.min_synthetic}.")
        lines += self._missing_null()
        if policy.require_holdout and not self.count("n_holdout"):
            lines.append("The policy asks for held-out subjects (require_holdout) and there are none.")
        if self.count("n_holdout_copies"):
            lines.append("Images are copies of held-out ones: the generator has seen these, so they set no threshold.")
        if self.count("n_copies") is None or self.count("n_identical") is None:
            lines.append("The copies were not counted.")
        if policy.max_membership_auc < 1 and self.whole.get("membership_auc", {}).get("low") is None:
            lines.append("The policy limits the membership attack (max_membership_auc), and it was not measured.")
        return lines + self._missing_power()

    def _missing_null(self) -> list[str]:
        subjects, policy, explained = self.count("n_null_subjects"), self.policy, self.explained
        if not subjects or self.count("n_flagged") is None:
            why = "no real subject whose images could be compared with those of other subjects in the training set"
            return [f"There is no valid null: {why}, so no threshold."]
        if explained is None:
            return ["The thresholds rest on one real subject; how often others exceed them is unknown. Hold out more."]
        if subjects < policy.min_null_subjects:
            asked = f"the policy asks for {policy.min_null_subjects} (min_null_subjects)"
            return [f"The thresholds rest on {subjects} real subject{'s' * (subjects != 1)}; {asked}."]
        if explained > policy.max_explained_rate:
            return [
                f"Without memorization, {explained:.1%} of the images could be flagged, more than "
                f"{policy.max_explained_rate:.0%} (max_explained_rate): the thresholds are too uncertain. "
                "Hold out more subjects."
            ]
        return []

    def _missing_power(self) -> list[str]:
        """Planted copies that the policy asks for and that were not planted, or not found often enough."""
        if self.policy.required_power and not self.power:
            return [
                "Whether this audit would find copies is unknown: the power test was not made, and the policy asks "
                f"for it (required_power: {', '.join(self.policy.required_power)})."
            ]
        lines = []
        for name in self.policy.required_power:
            score = self.power.get(name)
            if score is None:
                lines.append(f"No copies of the kind {name!r} were planted; the policy asks for them (required_power).")
            elif not self._powerful(score):
                lines.append(
                    f"Of planted copies ({planted_name(score)}) the audit found {with_interval(score)}; the policy "
                    f"asks for a lower bound of {self.policy.min_power:.0%} (min_power)."
                )
        return lines

    def _powerful(self, score: Mapping[str, Any]) -> bool:
        return score.get("low") is not None and float(score["low"]) >= self.policy.min_power

    def planted(self) -> list[tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]]:
        """Of each kind of planted copies, mildest first, those found reliably up to the first that are not; the rest.

        A change that is found where a milder one is not shows no power that one could rely on.
        """
        kinds: dict[str, list[Mapping[str, Any]]] = {}
        for name, score in self.power.items():
            if name == planted_name(score):
                kinds.setdefault(str(score["of"]["planted"]), []).append(score)
        result = []
        for scores in kinds.values():
            reliable = list(itertools.takewhile(self._powerful, scores))
            result.append((reliable, scores[len(reliable) :]))
        return result

    def power_sentences(self) -> list[str]:
        """What planted copies the audit finds reliably, in at most one sentence."""
        named = []
        for reliable, _ in self.planted():
            if reliable:
                up_to = "up to " if len(reliable) > 1 else ""
                share = min(float(score["value"]) for score in reliable)
                kind, strength = reliable[-1]["of"]["planted"], reliable[-1]["of"].get("strength", "")
                named.append(f"{kind} {up_to}{strength} ({share:.0%})".replace("  ", " "))
        bound = f"each at least {self.policy.min_power:.0%} by its interval"
        return [f"The audit finds planted copies ({bound}): {', '.join(named)}."] if named else []

    def not_proven(self) -> tuple[str, ...]:
        """What the audit leaves open, whatever its outcome."""
        n, flagged, subjects = self.count("n_synthetic"), self.count("n_flagged"), self.count("n_null_subjects")
        lines = []
        if n and flagged is not None:
            high = clopper_pearson(flagged, n, self.policy.confidence)[1]
            lines.append(
                f"That fewer images than this are flagged: {flagged} of {n} flagged is compatible with up to "
                f"{high:.2%} of all images that the generator could make ({self.policy.confidence:.0%})."
            )
        lines.append(self._other_forms())
        if subjects is not None and subjects < FEW_SUBJECTS:
            lines.append(
                f"That the thresholds would be the same with other subjects: they rest on {subjects} "
                f"subject{'s' * (subjects != 1)}, fewer than {FEW_SUBJECTS}."
            )
        if subjects and not self.count("n_holdout"):
            lines.append(
                "That the thresholds hold for subjects outside the training set: without held-out subjects they come "
                "from comparing training subjects with each other, which is weaker."
            )
        lines.append(
            "That a person cannot be inferred: membership of a subject in the training set, or an attribute of a "
            "subject, may be inferred from synthetic images without any of them being a copy."
        )
        return tuple(lines)

    def _other_forms(self) -> str:
        """That nothing was memorized in another form than the audit finds; by the power test, where it was made."""
        if not self.power:
            return (
                "That nothing was memorized in another form: mirrored, shifted, rotated, warped or recombined copies, "
                "and copies of a part of an image (a tumour, say), can stay below the threshold; how much a copy may "
                "be changed and still be found was not measured."
            )
        parts = ["That nothing was memorized in another form."]
        weak = [f"{planted_name(rest[0])} {with_interval(rest[0])}" for _, rest in self.planted() if rest]
        if weak:
            named = "; ".join(weak)
            parts.append(f"Of these planted copies, and stronger changes, the audit finds too few: {named}.")
        return " ".join([*parts, "Copies changed in other ways than those planted were not tried."])


def with_interval(score: Mapping[str, Any]) -> str:
    """A share with its interval: "92% (95% interval 81% to 97%)"."""
    low, high = score.get("low"), score.get("high")
    bounds = "" if low is None or high is None else f" (95% interval {low:.0%} to {high:.0%})"
    return f"{score['value']:.0%}{bounds}"


def _images(count: int) -> str:
    return "1 synthetic image is" if count == 1 else f"{count or 'No'} synthetic image{'s are' if count else ' is'}"


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
