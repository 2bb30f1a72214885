"""From the numbers of a memorization audit to a verdict: pass, fail or insufficient evidence.

An audit measures (what it must yield is in :mod:`synthkit.judging.audit_scores`); this module decides, by a
:class:`~synthkit.judging.policy.Policy`.

Order: copies fail whatever else is missing; then missing evidence makes the verdict insufficient; only then can it be a
pass. An audit that would not have found copies is missing evidence: finding nothing means nothing then. A pass says
what can be signed, and what it does not prove. Reasons name the strongest evidence first, then what is missing and with
what that would be better (:mod:`synthkit.judging.advice`), then what was left out.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from synthkit.errors import ExitCode, GateFailedError, InsufficientEvidenceError, SynthkitError
from synthkit.judging import advice, by_label_map
from synthkit.judging.audit_scores import FAMILIES, AuditScores, ScoreDict, planted_name, with_interval
from synthkit.judging.audit_tables import HOLDOUT_TWINS
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
    defaults, which is said before everything else. ``label_maps`` says whose label maps the images have by request; ""
    where that is nobody.
    """

    outcome: Outcome
    reasons: tuple[str, ...]
    not_proven: tuple[str, ...]
    weaker: tuple[str, ...] = ()
    label_maps: str = ""

    @property
    def exit_code(self) -> ExitCode:
        return ExitCode.OK if self.outcome == "pass" else ENDS[self.outcome].exit_code

    def to_dict(self) -> dict[str, Any]:
        return {
            "outcome": self.outcome,
            "reasons": list(self.reasons),
            "not_proven": list(self.not_proven),
            "weaker": list(self.weaker),
            **({"label_maps": self.label_maps} if self.label_maps else {}),
        }


def verdict(
    scores: Iterable[ScoreDict],
    policy: Policy | None = None,
    weaker_parameters: Iterable[str] = (),
    *,
    lent: Mapping[str, Any] | None = None,
) -> Verdict:
    """Judge the scores of an audit (``scores`` of its ``result.json``) by a policy.

    ``weaker_parameters`` are those of the method that make it weaker than its defaults, in words
    (:func:`synthkit.registry.parameters.weakened`). ``lent`` says whose label maps the images were asked to have
    (:func:`synthkit.data.lineage.lent_label_maps`): none passes unless the policy allows it.

    Fails where there are more of these than ``max_copies``: images identical to a training image up to brightness and
    contrast, which needs no null; copies of training people; copies of held-out people, who are patients too. And where
    the interval of the membership attack's AUC lies above ``max_membership_auc``, or below 1 - that.
    """
    policy = policy or Policy()
    told = advice.label_maps(lent)
    found = _Found(AuditScores(scores), policy, bool(lent))
    weaker = tuple(f"Weaker than the default: {line}." for line in (*policy.weaker(), *weaker_parameters))
    against, tolerated = found.evidence()
    missing, remarks, open_questions = found.missing(), found.remarks(), found.not_proven()
    first = [told] if told else []
    outcome: Outcome
    if against:
        outcome, reasons = "fail", [*against, *first, *tolerated, *missing, *remarks]
    elif missing or (told and not policy.allow_lent_label_maps):
        first = first if policy.allow_lent_label_maps else [advice.lent_label_maps(line) for line in first]
        outcome = "insufficient evidence"
        reasons = [*first, *tolerated, *found.nobody_back(), *found.unjudged(), *missing, *remarks]
    else:
        signed = [found.signed(), *found.nobody_back()]
        outcome, reasons = "pass", [*first, *signed, *tolerated, *found.power_sentences(), *remarks]
    return Verdict(outcome, tuple(reasons), open_questions, weaker, told)


@dataclass(frozen=True)
class _Found:
    """The numbers of one audit and the policy that they are judged by; whether the images have label maps of others."""

    scores: AuditScores
    policy: Policy
    lent: bool = False

    def count(self, name: str) -> int | None:
        return self.scores.count(name)

    # ------------------------------------------------------------------------------------------------ who is copied

    def evidence(self) -> tuple[list[str], list[str]]:
        """Sentences on copies, strongest evidence first: those beyond what the policy tolerates, and tolerated ones."""
        identical, copies, of_others = map(self.count, ("n_identical", "n_copies", "n_holdout_copies"))
        limit, found = self.policy.max_copies, list[tuple[int, str]]()
        if identical:
            what = _images(identical, "identical", "identical")
            found.append(
                (identical, f"{what} to a training image, up to brightness and contrast (tolerated: {limit}).")
            )
        if copies:
            whom = _people(self.count("n_copied_subjects"), "training")
            what = f"{_images(copies, 'a copy', 'copies')} of {whom} (tolerated: {limit})"
            found.append((copies, f"{what}{self._by_families()}."))
        if back := by_label_map.n_returning(self.scores):
            found += [(back, line) for line in by_label_map.outcome(self.scores)]
        if of_others:
            whom = _people(self.count("n_copied_holdout_subjects"), "held-out")
            what = f"{_images(of_others, 'a copy', 'copies')} of {whom} (tolerated: {limit})"
            too = "They are patients as well, and the generator has seen them."
            found.append((of_others, f"{what}{self._by_families(side='holdout')}. {too}"))
        against = [line for number, line in found if number > limit]
        against += self._membership() + by_label_map.told_apart(self.scores, self.policy)
        return against, [line for number, line in found if number <= limit]

    def _by_families(self, **side: str) -> str:
        """The families that show copies, the strongest first: ": by tumour 2, smallest margin 0.31, cut 0.70"."""
        margins, cuts = self.scores.by_family("least_margin", **side), self.scores.by_family("cut", **side)
        numbers = {} if side else self.scores.by_family("n_copies")
        parts = []
        for name in sorted(set(margins) & set(cuts), key=lambda name: _relative(margins[name], cuts[name])):
            if margins[name] <= cuts[name]:
                number = f" {numbers[name]:.0f}" if name in numbers else ""
                parts.append(f"by {name}{number}, smallest margin {margins[name]:.2f}, cut {cuts[name]:.2f}")
        return f": {'; '.join(parts)}" if parts else ""

    def _membership(self) -> list[str]:
        """That who was trained on can be told, by being nearer than others or by being farther."""
        score, limit = self.scores.get("membership_auc") or {}, self.policy.max_membership_auc
        low, high = score.get("low"), score.get("high")
        what = "Whether a person was trained on can be told from the synthetic images with an AUC of at"
        if low is not None and low > limit:
            return [f"{what} least {low:.3f} (chance: 0.5; tolerated: up to {limit:g})."]
        if high is not None and high < 1 - limit:
            return [
                f"{what} most {high:.3f} (chance: 0.5; tolerated: from {1 - limit:g}): held-out people are nearer to "
                "the images than training people are, as if the generator had seen them."
            ]
        return []

    def nobody_back(self) -> list[str]:
        """That nobody comes back who was asked for by label map; where somebody does, that is evidence."""
        return [] if by_label_map.n_returning(self.scores) else by_label_map.outcome(self.scores)

    def unjudged(self) -> list[str]:
        """Where there is no cut: how near the nearest images come all the same."""
        tails = self.scores.each("best_r_quantile", "quantile")
        if self.count("n_copies") is not None or not tails:
            return []
        most = max(tails, key=lambda score: (float(score["of"]["quantile"]), float(score["value"])))
        column = f"{most['of'].get('contrast')}, {most['of'].get('rule')}, quantile {most['of']['quantile']}"
        return [
            f"The nearest synthetic images reach r {most['value']:.4f} with a training image ({column}); whether that "
            "is more than chance is not known."
        ]

    def remarks(self) -> list[str]:
        """What was left out: people who are on both sides, and blank images."""
        twins, blank, lines = self.count("n_holdout_twins"), self.count("n_blank"), list[str]()
        if twins:
            who = "1 held-out person is a training person"
            who = who if twins == 1 else f"{twins} held-out people are training people"
            lines.append(
                f"{who} under another id, as near as scans of one person, and left out of the held-out side "
                f"({HOLDOUT_TWINS.file} says who is who)."
            )
        if blank:
            of = f"{blank} of {self.count('n_synthetic')} synthetic images"
            lines.append(f"{of} are blank (constant, or hardly any brain) and do not count as searched.")
        return lines

    def signed(self) -> str:
        """What a pass says, in a sentence."""
        n, copies = self.scores.n_searched, self.count("n_copies") or 0
        margins, cuts = self.scores.by_family("least_margin"), self.scores.by_family("cut")
        whom = _people((self.scores.get("n_train") or {}).get("n"), "training")
        if self.count("n_holdout") and self.count("n_holdout_copies") == 0:
            whom += f" and of {_people((self.scores.get('n_holdout') or {}).get('n'), 'held-out')}"
        which = (
            f"none of {n:,} synthetic images is" if not copies else f"all but {copies:,} of {n:,} synthetic images are"
        )
        nearest = min(set(margins) & set(cuts), key=lambda name: _relative(margins[name], cuts[name]), default=None)
        how = f" The nearest, by {nearest}: margin {margins[nearest]:.2f}, cut {cuts[nearest]:.2f}." if nearest else ""
        what = "a copy" if not copies else "no copies"
        if self.lent:
            which, what = f"{which},", f"apart from {'its label map' if not copies else 'their label maps'}, {what}"
        return f"What can be signed: {which} {what} of {whom}.{how}"

    # ---------------------------------------------------------------------------------------------- what is missing

    def missing(self) -> list[str]:
        """What the policy asks for and the audit does not give, in sentences; each with what would help."""
        n, policy = self.scores.n_searched, self.policy
        lines = [advice.few_images(n, self.count("n_blank") or 0, policy)] if n < policy.min_synthetic else []
        lines += advice.null(self.scores, policy)
        if self.count("n_identical") is None:
            lines.append("Identical images were not counted.")
        if policy.max_membership_auc < 1 and self.scores.low("membership_auc") is None:
            lines.append(advice.membership(self.scores))
        lines += by_label_map.missing(self.scores, policy)
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
                lines.append(advice.power(score, self.scores, self.policy))
        return lines

    # --------------------------------------------------------------------------------------- what it would have found

    @property
    def power(self) -> dict[str, ScoreDict]:
        """Scores of the power test by "kind strength", and the first of a kind, its mildest strength, by "kind" too."""
        power: dict[str, ScoreDict] = {}
        for score in self.scores.planted:
            power.setdefault(str(score["of"]["planted"]), score)
            power.setdefault(planted_name(score), score)
        return power

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

    # ------------------------------------------------------------------------------------------- what is left open

    def not_proven(self) -> tuple[str, ...]:
        """What the audit leaves open, whatever its outcome."""
        n, copies, subjects = self.scores.n_searched, self.count("n_copies"), self.count("n_null_subjects")
        lines = []
        if n and copies is not None:
            n = max(n, copies)
            lines.append(
                f"That fewer images than this are copies: {copies} of {n} is compatible with up to "
                f"{clopper_pearson(copies, n)[1]:.2%} of all images that the generator could make (95%)."
            )
        if subjects:
            lines.append(self._rate(subjects))
        lines += self._nobody_else(subjects)
        lines += [self._other_forms(), *by_label_map.open_questions(self.scores)]
        lines.append(
            "That a person cannot be inferred: membership of a person in the training set, or an attribute of a "
            "person, may be inferred from synthetic images without any of them being a copy."
        )
        return tuple(lines)

    def _rate(self, subjects: int) -> str:
        """By which argument chance and copies are told apart, and what it rests on."""
        rate = self.scores.value("false_fail_rate")
        what = "That chance and copies are told apart"
        if rate is not None:
            what = f"That a dataset of this size which copies nobody fails in at most {rate:.0%} of audits"
        few = f", fewer than {FEW_SUBJECTS}" if subjects < FEW_SUBJECTS else ""
        people = "1 real person" if subjects == 1 else f"{subjects} real people"
        return (
            f"{what}, whatever people are like: the cut is extrapolated from the tail of {people}{few}. Without an "
            f"assumption on that tail they show only that 1 in {subjects + 1} further people may come nearer than all "
            "of them."
        )

    def _nobody_else(self, subjects: int | None) -> list[str]:
        """Whom, and what of an image, it does not speak of."""
        lines, cuts = [], self.scores.by_family("cut")
        if subjects and not self.count("n_holdout"):
            lines.append(
                "That nobody outside the training set is copied, and that the cut holds for people outside it: nobody "
                "is held out, and the cut comes from comparing training people with each other."
            )
        elif self.count("n_holdout") and self.count("n_holdout_copies") is None:
            lines.append("That no held-out person is copied: this audit did not count that.")
        if lacking := [name for name in FAMILIES if cuts and name not in cuts and name != by_label_map.FAMILY]:
            lines.append(
                f"That nothing was copied that only these would show, which were not compared: {', '.join(lacking)}."
            )
        if blind := [name for name, cut in cuts.items() if cut == 0]:
            lines.append(
                "That nothing was copied that only these would show; they find hardly anything, as people here are too "
                f"few, or differ too much, for a cut above 0: {', '.join(blind)}."
            )
        return lines

    def _other_forms(self) -> str:
        """That nothing was memorized in another form than the audit finds; by the power test, where it was made."""
        if not self.power:
            return (
                "That nothing was memorized in another form: how much copies may be moved, turned, warped or "
                "recombined and still be found, or be of a part of an image (a tumour, say), was not measured."
            )
        parts = ["That nothing was memorized in another form."]
        weak = [f"{planted_name(rest[0])} {with_interval(rest[0])}" for _, rest in self.planted() if rest]
        if weak:
            named = "; ".join(weak)
            parts.append(f"Of these planted copies, and stronger changes, it is not shown to find enough: {named}.")
        return " ".join([*parts, "Copies changed in other ways than those planted were not tried."])


def _images(number: int, one: str, several: str) -> str:
    return f"1 synthetic image is {one}" if number == 1 else f"{number:,} synthetic images are {several}"


def _people(number: float | None, side: str) -> str:
    """ "4 training people"; without a number, of any."""
    return f"{number:,.0f} {side} {'person' if number == 1 else 'people'}" if number else f"{side} people"


def _relative(margin: float, cut: float) -> float:
    """A margin in units of its cut: the smaller, the stronger the evidence."""
    return margin / cut if cut else math.inf
