"""Names that may be one person's, and nobody but their owner knows: which ones to ask about. Standard library only.

A question to somebody whose ids only count is as wrong as none to somebody who has scans of one person. So what counts
here is what varies from name to name: words of time, or a few small endings that come again behind other names.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from synthkit.data.scan_words import (
    DATE,
    SHORT_TIME,
    WHEN,
    has_date,
    plain,
    spelled,
    surely_says_when,
    with_number_for_day,
)

_Parts = tuple[str, ...]

# So many scans may be of one patient; larger groups of numbered ids are enumerations of patients.
_FEW_SCANS = 12
_FEW_WITHOUT_NUMBER = 5
# So much of all names is all of them but for a few that came from elsewhere.
_NEARLY_ALL = 0.8
# Hashes and UUIDs, letters and digits in turn: these say nothing.
OPAQUE = re.compile(r"(?=(?:.*?[a-f]\d){2})[0-9a-f-]{6,}", re.IGNORECASE)

# A letter and a number, or up to two numbers with letters glued to their ends.
_ENDINGS = re.compile(r"(?<![^\W_])[^\W\d_] ?\d+$|(?<!\d)\d[^\W_]*(?=(?: \d[^\W_]*)?$)")

#: Words that whole collections are called by; what follows counts or names people.
_OF_MANY = re.compile(
    "cases?|patients?|pat|pt|pid|subjects?|subj|sub|persons?|participants?|volunteers?|probands?|donors?|animals?|mouse"
    "|rat|fall|id|no|nr|numbers?|samples?|specimens?|records?|exams?|scans?|mri|mr|images?|img|study|series|data|dataset"
    "|vol|volumes?|files?|train|training|test|testing|val|validation|fold|set|groups?|grp|arm|cohort|sites?|center"
    "|centre|hospital|clinic|batch|part|controls?|ctrl|con|hc|nc|cn|ad|mci|ms|pd|hv|healthy|normal|brain|head|phantom"
    "|tumou?rs?|gliomas?|glioblastomas?|gbm|hgg|lgg|astrocytomas?|oligo|meningiomas?|men|mets?|metastas[ie]s|lesions?"
    "|stroke|brats|all|early|late"
)
#: What hospitals and archives are called by; short words that are somebody's name are left out.
_OF_CENTRES = re.compile(
    "uk(?:a|b|d|e|er|f|g|gm|hd|j|k|l|m|r|s|sh|t|u|w)|lmu|tum|kum|mhh|rwth|charite|akh|muw|usz|chuv|chu|aphp|umc|umcu|umcg"
    "|vumc|lumc|mumc|emc|uzl|uza|ucl|uclh|kcl|nhnn|mgh|bwh|bidmc|nih|nci|mdacc|mskcc|msk|ucsf|ucsd|ucla|upenn|cbica|tcia"
    "|jhu|jhh|whu|wustl|washu|nyu|uab|utsw|uhn|chla|chop"
)
#: Words that a number makes one of several collections.
_OF_PLACES = re.compile("study|data|dataset|set|group|grp|arm|cohort|site|center|centre|hospital|clinic|batch|fold")
# S1_P1, S1_P2, S2_P1: patients of a site, where they are counted from 1. M1_P7, M1_P14 are days of a mouse.
_SITES, _OF_A_SITE = ("s", "c"), ("p", "pt", "pat", "patient", "subj", "sub", "subject")
# BIDS gives a person one word: sub-r001s001 is the first of a site.
_BIDS = re.compile(r"sub [^\W_]+")
_ROMAN = re.compile("i{1,3}|i?v")


def alike(names: Iterable[str]) -> list[set[str]]:
    """Groups of two and more names that may be one person's; none holds another.

    One stem with (nearly) all of the names, ``sub-001``, ``sub-002`` ..., counts patients: nothing is unclear. Several
    stems with a few each, ``P012-1``, ``P012-2``, ``P013-1`` ..., may count scans: each such stem is a group. Names
    that differ in words of time alone, ``T0_Mueller``, ``T1_Mueller``, are a group whatever the others are.
    """
    texts = _with_short_times([name for name in names if not OPAQUE.fullmatch(name)])
    people: dict[str, list[str]] = defaultdict(list)
    for name, text in texts.items():
        people[_person(name, text)].append(name)
    parts = {person: tuple(re.findall(r"[^\W\d_]+|\d+", person)) for person in people}
    found = [{person} for person in people if _are_times_of_one(person, people[person], texts)]
    found += [
        *_numbered(parts),
        *_lettered(parts),
        *_behind_numbers(parts),
        *_again_and_again(parts),
        *_spelled_alike(parts),
    ]
    groups = {frozenset(name for person in group for name in people[person]) for group in found}
    holding: dict[str, list[frozenset[str]]] = defaultdict(list)
    for group in groups:
        for name in group:
            holding[name].append(group)
    return [set(group) for group in groups if not any(group < other for other in holding[next(iter(group))])]


def _person(name: str, text: str) -> str:
    """A text without its words of time; of nothing but such words, nobody, or the name where they are not sure."""
    rest = " ".join(text.replace(WHEN, " ").split())
    if rest or surely_says_when(name):
        return rest
    return plain(name)


def _with_short_times(names: list[str]) -> dict[str, str]:
    """Name -> its text as :func:`spelled`, its ending a time if all that stand in its place may be one."""
    texts = {name: _text(name) for name in names}
    ends = {name: [match.start() for match in _ENDINGS.finditer(text)] for name, text in texts.items()}
    numbered = {
        texts[name][:start]
        for name, starts in ends.items()
        for start in starts
        if not SHORT_TIME.fullmatch(texts[name], start)
    }
    for name, starts in ends.items():
        before = [texts[name][:start] for start in starts]
        texts[name] = next((f"{stem}{WHEN}" for stem in before if stem and stem not in numbered), texts[name])
    return texts


def _text(name: str) -> str:
    """A name as :func:`spelled`; behind what collections are called a day may as well be somebody's number."""
    text = spelled(name)
    is_of_many = WHEN in text and _is_of_many(text.replace(WHEN, " ").split())
    return (with_number_for_day(name) if is_of_many else "") or text


def _are_times_of_one(person: str, names: list[str], texts: Mapping[str, str]) -> bool:
    """Whether names that are alike but for words of time may be one person's."""
    if len(names) < 2 or (person and _is_of_many(tuple(person.split()))):
        return False
    if len({texts[name] for name in names}) == 1 and WHEN not in texts[names[0]]:
        return True  # P012 and P-012
    return len(names) <= _FEW_SCANS or (len(names) < _NEARLY_ALL * len(texts) and all(map(has_date, names)))


# --------------------------------------------------------------------------------------------- what else varies


def _numbered(parts: Mapping[str, _Parts]) -> list[set[str]]:
    """People behind a stem with a number in it: P012-1 and P012-2."""
    while len(parts) > 1 and len({p[-1:] for p in parts.values()}) == 1 and all(len(p) > 1 for p in parts.values()):
        parts = {person: p[:-1] for person, p in parts.items()}  # what all ids end with tells nobody apart
    by_stem: dict[_Parts, set[str]] = defaultdict(set)
    of_sites = _counted_at_sites(parts)
    for person, own in parts.items():
        if _is_numbered_name(own) or _BIDS.fullmatch(person) or person in of_sites:
            continue
        by_stem[own[:-1]].add(person)
        if number := re.match(r"\D*\d+(?= )", person):  # P012-x1 and P012-y2: the number may be the patient's
            by_stem[tuple(re.findall(r"[^\W\d_]+|\d+", number[0]))].add(person)
    for person, own in parts.items():
        if own in by_stem and own and own[-1].isdigit():  # P012 beside P012_2
            by_stem[own].add(person)
    return [
        members
        for stem, members in by_stem.items()
        if len(members) > 1 and _is_of_one(stem) and _may_be_scans(stem, members, parts)
    ]


def _counted_at_sites(parts: Mapping[str, _Parts]) -> set[str]:
    """People that are numbered at numbered sites, all of them from 1 on, if nobody is called otherwise."""
    numbers: dict[_Parts, set[int]] = defaultdict(set)
    for own in parts.values():
        is_at_site = len(own) == 4 and own[0] in _SITES and own[2] in _OF_A_SITE and own[1].isdigit()
        if not (is_at_site and own[3].isdigit()):
            return set()
        numbers[own[:3]].add(int(own[3]))
    run = all(found == set(range(1, len(found) + 1)) for found in numbers.values())
    return set(parts) if run and len(numbers) > 1 else set()


def _is_of_one(stem: _Parts) -> bool:
    """Whether a stem has a number that may be a patient's: not a day's, and not a site's."""
    numbers = [at for at, part in enumerate(stem) if part.isdigit()]
    of_places = all(at and _OF_PLACES.fullmatch(stem[at - 1]) for at in numbers)
    return bool(numbers) and not of_places and not re.fullmatch(DATE, "".join(stem))


def _may_be_scans(stem: _Parts, members: set[str], parts: Mapping[str, _Parts]) -> bool:
    """Whether a stem with a number in it, of these members among all names, is rather a patient than a collection."""
    lasts = [parts[person][-1] for person in members if len(parts[person]) > len(stem)]
    n_digits = min((len(last) if last.isdigit() else 0 for last in lasts), default=0)
    years = all(_is_year(last) for last in lasts)
    if n_digits >= 4 and not years and not stem[-1].isdigit():  # 002_S_0295: so long a number names a patient
        return False
    if n_digits >= 4 and not years and all(not parts[person][len(stem)].isdigit() for person in members):
        return False  # the same, seen from its first number
    if n_digits >= 2 and all(_is_year(part) for part in stem if part.isdigit()):  # GBM_2019_01: the cases of a year
        return False
    if len(members) >= _NEARLY_ALL * len(parts):  # P012-1 and P012-2 alone, or a numbered collection
        alone = len(members) <= _FEW_WITHOUT_NUMBER and stem[-1].isdigit() and not _is_year(stem[-1])
        return alone and n_digits < 3 and len({parts[person][: len(stem) + 1] for person in members}) > 1
    return len(members) <= _FEW_SCANS


def _lettered(parts: Mapping[str, _Parts]) -> list[set[str]]:
    """Names with a letter of their own, from A on: MuellerA and MuellerB, muellera and muellerb, A_Mueller."""
    apart: dict[_Parts, dict[str, str]] = defaultdict(dict)
    glued: dict[_Parts, dict[str, str]] = defaultdict(dict)
    for person, own in parts.items():
        if len(own) > 1 and re.fullmatch("[a-z]", own[-1]):
            apart[own[:-1]][own[-1]] = person
        elif own and re.fullmatch(r"[^\W\d_]{4,}[a-z]", own[-1]):
            glued[(*own[:-1], own[-1][:-1])][own[-1][-1]] = person
        if len(own) > 1 and re.fullmatch("[a-z]", own[0]) and all(map(str.isalpha, own)):
            apart[("", *own[1:])][own[0]] = person
    people = {own: person for person, own in parts.items()}
    for stem, found in apart.items():
        if stem in people:  # Mueller beside Mueller_b
            found[""] = people[stem]
    groups = [(stem, found) for stem, found in apart.items() if len(found) > 1 and max(found) <= "e"]  # no initials
    groups += [(stem, found) for stem, found in glued.items() if "".join(sorted(found)) in ("ab", "abc", "abcd")]
    return [set(found.values()) for stem, found in groups if not _is_of_many(stem)]


def _behind_numbers(parts: Mapping[str, _Parts]) -> list[set[str]]:
    """Names behind numbers that come again before others: 1_Anna, 2_Anna, 1_Bert. A number that runs counts people."""
    by_name: dict[_Parts, dict[str, str]] = defaultdict(dict)
    for person, own in parts.items():
        if _is_numbered_name(own):
            by_name[own[1:]][own[0]] = person
    times = Counter(number for found in by_name.values() for number in found)
    if max(times.values(), default=0) < 2 and all(own[0].isdigit() for own in parts.values() if own):
        return []
    return [set(found.values()) for found in by_name.values() if len(found) > 1]


def _is_numbered_name(own: _Parts) -> bool:
    """Whether it is a small number and a name behind it: 1_Anna."""
    return (
        len(own) > 1
        and own[0].isdigit()
        and len(own[0]) <= 2
        and all(map(str.isalpha, own[1:]))
        and not _is_of_many(own[1:])
    )


def _again_and_again(parts: Mapping[str, _Parts]) -> list[set[str]]:
    """Names without a number in them and a small one behind: Smith and Smith_2; AAB_1, AAB_2, ABC_1 ..."""
    by_stem: dict[_Parts, dict[str, str]] = defaultdict(dict)
    for person, own in parts.items():
        stem, end = own[:-1], own[-1:]
        is_code = len(stem) == 1 and len(stem[0]) < 4 and not person.startswith(f"{stem[0]} ")  # HC1, MS2
        if stem and not any(part.isdigit() for part in stem) and not _is_of_many(stem) and not is_code:
            by_stem[stem][end[0]] = person
    people = {own: person for person, own in parts.items() if not any(part.isdigit() for part in own)}
    few = {
        stem: ends for stem, ends in by_stem.items() if len(ends) <= _FEW_WITHOUT_NUMBER and all(map(_is_small, ends))
    }
    found = [{people[stem], *ends.values()} for stem, ends in few.items() if stem in people]
    # What larger stems count to: LMU_1 and LMU_2 beside UKE_1 to UKE_30 are patients of another place.
    counted = {end for stem, ends in by_stem.items() if stem not in few for end in ends}
    several = [ends for ends in few.values() if len(ends) > 1 and not ends.keys() <= counted]
    times = Counter(end for ends in few.values() for end in ends)
    is_running = len(few) > 1 and max(times.values()) == 1  # one number runs through all: UKE_1, UKE_2, LMU_3
    return found + [set(ends.values()) for ends in several if len(ends) < len(parts) and not is_running]


def _is_small(end: str) -> bool:
    return (end.isdigit() and len(end) <= 2) or bool(_ROMAN.fullmatch(end))


def _spelled_alike(parts: Mapping[str, _Parts]) -> list[set[str]]:
    """Names with the same letters and numbers, apart or together, with zeros in front or without: P012, P-12."""
    spellings: dict[_Parts, set[str]] = defaultdict(set)
    for person, own in parts.items():
        spellings[tuple(part.lstrip("0") or "0" if part.isdigit() else part for part in own)].add(person)
    return [people for people in spellings.values() if len(people) > 1]


def _is_of_many(stem: Iterable[str]) -> bool:
    """Whether a stem without a number is what whole collections are called, or too short for a name: C1, P-2."""
    words = [word for word in stem if word]
    if len(words) == 1 and len(words[0]) == 1:
        return not words[0].isdigit()
    return all(_OF_MANY.fullmatch(word) or _OF_CENTRES.fullmatch(word) for word in words)


def _is_year(part: str) -> bool:
    return re.fullmatch(r"(?:19|20)\d\d", part) is not None
