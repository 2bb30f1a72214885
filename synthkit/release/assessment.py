"""The findings for who must decide, under the questions of four texts, and what is left for people to answer.

- Article 29 Working Party, Opinion 05/2014 on anonymisation techniques (WP 216): singling out, linkability, inference;
- European Data Protection Board, Opinion 28/2024 on AI models: extraction, output, design, tests, documentation;
- TEHDAS2, Guideline for Health Data Access Bodies on data minimisation, pseudonymisation, anonymisation and synthetic
  data: who, what, when, where and how;
- Zamzmi et al., Scorecard for synthetic medical data evaluation, Communications Engineering 4:130 (2025): seven C's.

Questions are ours, in plain words, and no quotations. What synthkit knows is filled in; nothing is concluded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synthkit.judging.audit_scores import AuditScores
from synthkit.release.given_labels import made_again, origin_of_labels, question_of_masks, trained_on

#: What the line of an open question begins with.
LEFT = "For you to answer:"


@dataclass(frozen=True)
class Question:
    """What is asked, what is ``known`` (sentences), and what is left to answer; "" where nothing is."""

    asked: str
    known: tuple[str, ...] = ()
    left: str = ""


@dataclass(frozen=True)
class Part:
    """The questions of one text."""

    title: str
    source: str
    questions: tuple[Question, ...]


def assessment(facts: Mapping[str, Any], protection: Sequence[Mapping[str, Any]]) -> list[Part]:
    """The parts of the assessment.

    Parameters
    ----------
    facts : what ``audit.json`` holds.
    protection : of :func:`synthkit.report.audit.protection.data_protection`.
    """
    found = AuditScores(facts["scores"])
    return [
        _three_criteria(facts, protection),
        _ai_models(facts, found, protection),
        _minimisation(facts, protection),
        _seven_cs(facts, found),
    ]


def _three_criteria(facts: Mapping[str, Any], protection: Sequence[Mapping[str, Any]]) -> Part:
    questions = [
        Question(
            f"{section['criterion']}: {section['meaning']}",
            (origin_of_labels(facts), *section["measured"], section["conclusion"], f"Not covered: {section['open']}"),
            "is what was measured, and what is not covered, acceptable for these data and these readers?",
        )
        for section in protection
    ]
    return Part(
        "Singling out, linkability, inference",
        "Article 29 Working Party, Opinion 05/2014 on anonymisation techniques (WP 216).",
        tuple(questions),
    )


def _ai_models(facts: Mapping[str, Any], found: AuditScores, protection: Sequence[Mapping[str, Any]]) -> Part:
    single, link = protection[0], protection[1]
    generator = (facts["generation"] or {}).get("plugin")
    removal = facts["removal"]
    n_removed = removal["n_copies"] + removal["n_near"]
    removed = (
        f"{n_removed:,} of {removal['n_before']:,} images were left out, and the rest was audited again."
        if n_removed
        else "An audit searched every image for copies of training images; none had to be left out."
    )
    return Part(
        "The model behind the images",
        "European Data Protection Board, Opinion 28/2024 on certain data protection aspects related to the processing "
        "of personal data in the context of AI models.",
        (
            Question(
                "Could personal data be extracted from the model itself?",
                ("The generator is not part of this release. It was not attacked.",),
                "who else has the generator, or may ask it for images?",
            ),
            Question(
                "Could personal data come out of what the model is asked for?",
                (*single["measured"][:1], "More images of the same generator have to be audited anew."),
                "is the likelihood insignificant, all means considered that somebody may reasonably use?",
            ),
            Question(
                "Sources of the training data",
                trained_on(facts),
                "why these sources, on which legal basis, and were objections of patients honoured?"
                + question_of_masks(facts),
            ),
            Question(
                "Preparation and minimisation of the training data",
                (_what(facts),),
                "were the images pseudonymised, and faces or skulls removed, before the training?",
            ),
            Question(
                "Choices in the training that protect persons",
                (
                    (f"The generator is `{generator}`; its parameters are in `audit.json` (`generation`).",)
                    if generator
                    else ("How the images were made is not recorded.",)
                ),
                "is there a formal guarantee (differential privacy), or another measure against memorization?",
            ),
            Question("Measures on the output", (removed,), ""),
            Question(
                "Tests against attacks",
                (
                    "Regurgitation of training images was tested: the audit searched for copies.",
                    link["measured"][-1] if found.get("membership_auc") else "Membership inference was not tested.",
                    "Attribute inference, model inversion and reconstruction were not tested.",
                ),
                "are further attacks to be tested before these readers get the data?",
            ),
            Question(
                "Documentation",
                ("This folder: datasheet, audit with all scores, and the steward's signature over every file.",),
                "where are the data protection impact assessment and the advice of the data protection officer?",
            ),
        ),
    )


def _minimisation(facts: Mapping[str, Any], protection: Sequence[Mapping[str, Any]]) -> Part:
    return Part(
        "Minimisation, and synthetic data in secondary use",
        "TEHDAS2, Guideline for Health Data Access Bodies on data minimisation, pseudonymisation, anonymisation and "
        "synthetic data, doi:10.5281/zenodo.20269109.",
        (
            Question(
                "Who",
                trained_on(facts),
                f"which population is this, and is all of it needed for the purpose?{question_of_masks(facts)}",
            ),
            Question("What", (_what(facts),), "is each contrast and each label needed for the purpose?"),
            Question("When", (), "in which years were the patients scanned?"),
            Question("Where", (), "from which sites and scanners do the training images come?"),
            Question(
                "How",
                ("Images of a generator are shared in the place of those of patients.",),
                "would fewer images, or a secure processing environment, do for the purpose?",
            ),
            Question(
                "Remaining risk",
                tuple(section["conclusion"] for section in protection),
                "who has accepted it, and who is told if an image turns out to show a person?",
            ),
            Question(
                "Usefulness",
                ("Not part of this release: `synthkit utility` measures segmenters trained on the images.",),
                "for which use were the images tried, and with which result?",
            ),
        ),
    )


def _seven_cs(facts: Mapping[str, Any], found: AuditScores) -> Part:
    labels = ", ".join(f"{name} in {count:,}" for name, count in facts["labels"].items()) or "none"
    licence, outcome = facts["about"]["licence"], facts["verdict"]["outcome"]
    return Part(
        "Scorecard: seven C's",
        "Zamzmi et al., Scorecard for synthetic medical data evaluation, Communications Engineering 4:130, 2025, "
        "doi:10.1038/s44172-025-00450-1.",
        (
            Question(
                "Congruence: do they resemble patients' images in distribution?",
                ("Not part of this release: `synthkit evaluate fid kid label-realism` measures it.",),
                "which scores have they, with which feature network?",
            ),
            Question(
                "Coverage: do they show the variety that patients show?",
                _variety(found),
                "which kinds of patients are missing (recall and coverage: `synthkit evaluate prdc`)?",
            ),
            Question(
                "Constraint: do they keep to anatomy and physics?",
                (f"Not measured. {origin_of_labels(facts)}",),
                "has a radiologist looked at a sample of them?",
            ),
            Question(
                "Completeness: is all there that the use needs?",
                (f"{_what(facts)} Samples with labels: {labels}.",),
                "does the use need age, sex, outcome or volumes, which are not there?",
            ),
            Question(
                "Compliance: privacy, ethics, law",
                (f"Audit: {outcome}. Licence: {licence}." if licence else f"Audit: {outcome}. No licence was stated.",),
                "is there an approval of an ethics committee or of a data access body?",
            ),
            Question(
                "Comprehension: can a reader understand and use them?",
                ("In this folder: datasheet, card, how to read the files, Croissant metadata, what is not proven.",),
                "",
            ),
            Question(
                "Consistency: do they hold over time, sites and groups of patients?",
                (made_again(facts), "Groups of patients were not compared."),
                "do results differ between groups, sites or other samples of the same generator?",
            ),
        ),
    )


def _what(facts: Mapping[str, Any]) -> str:
    height, width = facts["size"]
    return f"Single slices of {width} x {height} pixels, 8 bit, of {', '.join(facts['contrasts'])}, with label maps."


def _variety(found: AuditScores) -> tuple[str, ...]:
    distinct, searched = found.count("n_distinct"), found.count("n_synthetic")
    if distinct is None or searched is None:
        return ("Not measured.",)
    return (f"Near-duplicates joined, {searched:,} images make {distinct:,} distinct groups.",)
