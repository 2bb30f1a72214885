"""From the numbers of a memorization audit to a verdict: pass, fail or insufficient evidence.

An audit measures (what it must yield is in :mod:`synthkit.judging.audit_scores`); this module decides, by a
:class:`~synthkit.judging.policy.Policy`.

Order: evidence of copying fails whatever else is missing; then missing evidence makes the verdict insufficient; only
then can it be a pass. An audit that would not have found copies is missing evidence: finding nothing means nothing
then. A pass says what it does not prove. Reasons name the strongest evidence first, then what is missing, and with what
that would be better (:mod:`synthkit.judging.advice`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from synthkit.errors import ExitCode, GateFailedError, InsufficientEvidenceError, SynthkitError
from synthkit.judging import advice
from synthkit.judging.audit_scores import AuditScores, ScoreDict, planted_name, with_interval
from synthkit.judging.intervals import FEW_SUBJECTS, clopper_pearson
from synthkit.judging.policy import Policy

Outcome = Literal["pass", "fail", "insufficient evidence"]

#: What a command ends with where the verdict is not pass.
ENDS: Mapping[str, type[SynthkitError]] = {
    "fail": GateFailedError,
    "insufficient evidence": InsufficientEvidenceError,
}


@dataclass(frozen=True)
class Verdict:
    """The decision and what it rests on, in sentences.

    ``reasons`` for it, what it leaves open (``not_proven``), and what makes policy or parameters ``weaker`` than the
    defaults, which is said before everything else.
    """

    outcome: Outcome
    reasons: tuple[str, ...]
    not_proven: tuple[str, ...]
    weaker: tuple[str, ...] = ()

    @property
    def exit_code(self) -> ExitCode:
        return ExitCode.OK if self.outcome == "pass" else ENDS[self.outcome].exit_code

    def to_dict(self) -> dict[str, Any]:
        return {
            "outcome": self.outcome,
            "reasons": list(self.reasons),
            "not_proven": list(self.not_proven),
            "weaker": list(self.weaker),
        }


def verdict(
    scores: Iterable[ScoreDict], policy: Policy | None = None, weaker_parameters: Iterable[str] = ()
) -> Verdict:
    """Judge the scores of an audit (``scores`` of its ``result.json``) by a policy.

    ``weaker_parameters`` are those of the method that make it weaker than its defaults, in words
    (:func:`synthkit.registry.parameters.weakened`).

    Used are scores of the whole dataset (empty ``of``), among them explained_flag_rate, the rate of false flags that
    the null explains; and ``power``, the recall of each kind and strength of planted copies. Fails

    - when an image is identical to a training image, up to brightness and contrast (needs no null), or
    - when there are more copies than tolerated, or
    - when the lower bound of the flagged share exceeds the explained rate plus ``max_flagged_rate``, or
    - when the lower bound of the membership attack's AUC exceeds ``max_membership_auc``.
    """
    policy = policy or Policy()
    found = _Found(AuditScores(scores), policy)
    weaker = tuple(f"Weaker than the default: {line}." for line in (*policy.weaker(), *weaker_parameters))
    against, missing, open_questions = found.against(), found.missing(), found.not_proven()
    if against:
        return Verdict("fail", (*against, *found.blank(), *missing), open_questions, weaker)
    if missing:
        reasons = (*found.unjudged(), *missing, *found.blank())
        return Verdict("insufficient evidence", reasons, open_questions, weaker)
    copies = f"{_images(found.count('n_copies') or 0)} a copy of a training image."
    reasons = (found.flagged_share()[0], copies, *found.blank(), *found.power_sentences())
    return Verdict("pass", reasons, open_questions, weaker)


@dataclass(frozen=True)
class _Found:
    """The numbers of one audit and the policy that they are judged by."""

    scores: AuditScores
    policy: Policy

    def count(self, name: str) -> int | None:
        return self.scores.count(name)

    @property
    def explained(self) -> float | None:
        return self.scores.value("explained_flag_rate")

    @property
    def power(self) -> dict[str, ScoreDict]:
        """Scores of the power test by "kind strength", and the first of a kind, its mildest strength, by "kind" too."""
        power: dict[str, ScoreDict] = {}
        for score in self.scores.planted:
            power.setdefault(str(score["of"]["planted"]), score)
            power.setdefault(planted_name(score), score)
        return power

    def flagged_share(self) -> tuple[str, bool]:
        """The share of flagged images in a sentence, and whether it is more than tolerated; "" where undefined."""
        measured, explained = self._measured_share(), self.explained
        if measured is None or explained is None:
            return "", False
        sentence, low = measured
        allowed = min(1.0, explained + self.policy.max_flagged_rate)
        return f"{sentence}; allowed {allowed:.2%}.", low > allowed

    def _measured_share(self) -> tuple[str, float] | None:
        """The beginning of a sentence on the share of flagged images, and its lower bound; None where undefined."""
        n, flagged = self.scores.n_searched, self.count("n_flagged")
        if not n or flagged is None:
            return None
        n = max(n, flagged)
        low, high = clopper_pearson(flagged, n, self.policy.confidence)
        blank = " that are not blank" if self.count("n_blank") else ""
        return (
            f"{flagged} of {n} synthetic images{blank} are closer to a training image than unrelated real images are: "
            f"{flagged / n:.2%}, {self.policy.confidence:.0%} interval {low:.2%} to {high:.2%}",
            low,
        )

    def unjudged(self) -> list[str]:
        """Flagged images that no conclusion is drawn from: first among the reasons of an insufficient verdict.

        None where no more are flagged than the null explains.
        """
        measured, flagged, explained = self._measured_share(), self.count("n_flagged"), self.explained
        if measured is None or not flagged:
            return []
        people = self.count("n_memorized_subjects")
        whose = f" They match {people} training subject{'s' * (people != 1)}." if people else ""
        if explained is None:
            return [f"{measured[0]}; how many chance explains is not known.{whose}"]
        more = flagged / max(self.scores.n_searched, flagged) > explained
        return [f"{self.flagged_share()[0]}{whose}"] if more else []

    def blank(self) -> list[str]:
        """That blank images were left out of the count."""
        blank = self.count("n_blank")
        if not blank:
            return []
        return [
            f"{blank} of {self.count('n_synthetic')} synthetic images are blank (constant, or hardly any brain) and do "
            "not count as searched."
        ]

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
        low = self.scores.low("membership_auc")
        if low is not None and low > self.policy.max_membership_auc:
            lines.append(
                f"Whether a person was trained on can be told from the synthetic images with an AUC of at least "
                f"{low:.3f} (chance: 0.5; tolerated: {self.policy.max_membership_auc:g})."
            )
        return lines

    def missing(self) -> list[str]:
        """What the policy asks for and the audit does not give, in sentences; each with what would help."""
        n, policy = self.scores.n_searched, self.policy
        lines = []
        if n < policy.min_synthetic:
            lines.append(advice.few_images(n, self.count("n_blank") or 0, policy))
        lines += advice.null(self.scores, policy) if n else []
        if policy.require_holdout and not self.count("n_holdout"):
            lines.append(
                f"The policy asks for held-out subjects (require_holdout) and there are none. {advice.HOLD_OUT}"
            )
        if copied := self.count("n_holdout_copies"):
            lines.append(
                f"{_images(copied)} a copy of a held-out one: the generator has seen these, so they set no threshold. "
                "Give real subjects that it has never seen (--holdout DATASET)."
            )
        if self.count("n_copies") is None or self.count("n_identical") is None:
            lines.append("The copies were not counted.")
        if policy.max_membership_auc < 1 and self.scores.low("membership_auc") is None:
            lines.append("The policy limits the membership attack (max_membership_auc), and it was not measured.")
        return lines + self._missing_power()

    def _missing_power(self) -> list[str]:
        """Planted copies that the policy asks for and that were not planted, or not found often enough."""
        if self.policy.required_power and not self.power:
            return [
                "Whether this audit would find copies is unknown: the power test was not made, and the policy asks "
                f"for it (required_power: {', '.join(self.policy.required_power)})."
            ]
        lines, power = [], self.power
        for name in self.policy.required_power:
            score = power.get(name)
            if score is None:
                lines.append(f"No copies of the kind {name!r} were planted; the policy asks for them (required_power).")
            elif not self._powerful(score):
                lines.append(
                    f"Of planted copies ({planted_name(score)}) the audit found {with_interval(score)}; the policy "
                    f"asks for a lower bound of {self.policy.min_power:.0%} (min_power). "
                    + advice.power(score, self.policy)
                )
        return lines

    def _powerful(self, score: ScoreDict) -> bool:
        return score.get("low") is not None and float(score["low"]) >= self.policy.min_power

    def planted(self) -> list[tuple[list[ScoreDict], list[ScoreDict]]]:
        """Of each kind of planted copies, mildest first, those found reliably up to the first that are not; the rest.

        A change that is found where a milder one is not shows no power that one could rely on.
        """
        kinds: dict[str, list[ScoreDict]] = {}
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
        n, flagged, subjects = self.scores.n_searched, self.count("n_flagged"), self.count("n_null_subjects")
        lines = []
        if n and flagged is not None:
            n = max(n, flagged)
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


def _images(count: int) -> str:
    return "1 synthetic image is" if count == 1 else f"{count or 'No'} synthetic image{'s are' if count else ' is'}"
