"""Words that say which scan it is, and not whose: dates, visits, before and after treatment, field strengths.

Ids of subjects and names of folders are full of them. Some leave no doubt (``SURE_STATE``, ``SURE_VISIT``; behind a
number ``SURE_COUNTED``, ``DATE``); the others may also be a part of somebody's name. Standard library only.
"""

from __future__ import annotations

import re

#: What stands between the parts of an id.
SEPARATOR = r"[-_. /\\]"

# ------------------------------------------------------------------------------------------------------------- dates

_YEAR, _MONTH, _DAY = r"(?:19|20)\d\d", r"(?:0[1-9]|1[0-2])", r"(?:0[1-9]|[12]\d|3[01])"
_ANY_MONTH, _ANY_DAY = r"(?:0?[1-9]|1[0-2])", r"(?:0?[1-9]|[12]\d|3[01])"
_MONTH_NAME = (
    r"(?:jan(?:uary|uar)?|feb(?:ruary|ruar)?|mar(?:ch)?|m(?:ä|ae)rz?|apr(?:il)?|ma[iy]|jun[ei]?|jul[iy]?"
    r"|aug(?:ust)?|sept?(?:ember)?|o[ck]t(?:ober)?|nov(?:ember)?|de[cz](?:ember)?)"
)
_CLOCK = r"(?:[T_ -]?(?:[01]\d|2[0-3])[-_:.h]?[0-5]\d(?:[-_:.]?[0-5]\d)?)?"


def _apart(*parts: str) -> str:
    """The parts with one separator all over, or none: ``01_Jan2019`` is number 01 in January."""
    return "|".join(mark.join(parts) for mark in ("", "-", "_", r"\.", " "))


#: A day, in full: 20190304, 2019-03-04, 04.03.2019, 03-04-2019, 04032019, 04Mar2019; with a time of day or without.
DATE = (
    rf"(?<!\d)(?:{_apart(_YEAR, _MONTH, _DAY)}|{_apart(_DAY, _MONTH, _YEAR)}|{_apart(_MONTH, _DAY, _YEAR)}"
    rf"|{_apart(_ANY_DAY, _MONTH_NAME, _YEAR)}|{_ANY_DAY}{_MONTH_NAME}{SEPARATOR}{_YEAR}"
    rf"|{_YEAR}{SEPARATOR}?{_MONTH_NAME}{SEPARATOR}?{_ANY_DAY}|{_MONTH_NAME}{SEPARATOR}?{_ANY_DAY}{SEPARATOR}{_YEAR})"
    rf"{_CLOCK}(?!\d)"
)
_PERIOD = (
    rf"(?:{_MONTH_NAME}|Q[1-4]|H[12]|[CK]?W[0-5]?\d|spring|summer|autumn|fall|winter|fr(?:ü|ue)h(?:ling|jahr)|sommer"
    r"|herbst)"
)
_MONTH_OF_YEAR = (
    rf"(?<![^\W_])(?:{_PERIOD}{SEPARATOR}?{_YEAR}|(?:{_MONTH_NAME}|Q[1-4])[-']?\d\d)(?!\d)"
    rf"|(?<!\d){_YEAR}{SEPARATOR}?{_PERIOD}(?![^\W_])"
)
_LOOSE_DATE = (
    rf"{DATE}|(?<!\d)(?:{_apart(_YEAR, _ANY_MONTH, _ANY_DAY)}|{_apart(_ANY_DAY, _ANY_MONTH, _YEAR)}"
    rf"|{_apart(_ANY_MONTH, _ANY_DAY, _YEAR)}|{_DAY}\.{_MONTH}\.\d\d|\d\d\.{_MONTH}\.{_DAY})(?!\d)|{_MONTH_OF_YEAR}"
)
#: Endings that may be a time, if all that stand in their place may: 2019, 2019 03, 190304, 12m, 6mo, m12, t1.
SHORT_TIME = re.compile(
    rf"{_YEAR}|{_YEAR} {_MONTH}|{_MONTH} {_YEAR}|\d\d{_MONTH}{_DAY}|{_DAY}{_MONTH}\d\d|{_MONTH}{_DAY}\d\d"
    r"|\d{1,4}(?:h|hrs?|hours?|std|d|days?|tage?|w|wks?|weeks?|wochen?|m|mos?|mon|months?|monate?|y|yrs?|years?|jahre?)"
    r"|[dmtvwy] ?\d{1,3}",
    re.IGNORECASE,
)

# -------------------------------------------------------------------------------------- words; ~ may be a separator

_OP = (
    r"(?:~(?:op|operative|operativ|surgery|surgical|surg|resection|treatment|treat|tx|therapy|chemo|rt|radiation"
    r"|biopsy|contrast))?"
)
_AROUND = rf"(?:pre|prae|prä|post|intra){_OP}"
# mid-RT, midtreatment; 2YearFollowUpYArm1 and baseline_year_1_arm_1 of ABCD.
_MID = r"mid~(?:rt|radiation|radiotherapy|treatment|treat|tx|therapy|chemo)"
_ARM = r"(?:~y?~arm~\d)?"
_YEARS = rf"(?:baseline~year~1{_ARM}|\d{{1,2}}~(?:year|yr|month|mo|week|wk|day)s?~(?:follow~up|fu){_ARM})"
_SURE_STATE = (
    rf"(?:{_YEARS}|{_MID}|baseline|bl|follow~up|fu|{_AROUND}|initial|recurrence|progression|relapse|rescan|retest"
    r"|vor~op|nach~op)"
)
_MAYBE_STATE = (
    r"(?:base|init|rec|recur|recurrent|prog|before|after|vor|nach|vorher|nachher|verlauf|first|second|third|1st|2nd|3rd"
    r"|erste|zweite|new|old|neu|alt|copy|kopie|repeat|rep|prior|current|final|early|late|mid|interim|acute|chronic"
    r"|admission|discharge)"
)
_VISIT = r"(?:ses|sess|session|visit|tp|time~point|week|wk|month)"
_SURE_VISIT = rf"(?:{_VISIT}|follow~up|fu)"
_SURE_COUNTED = rf"(?:{_SURE_VISIT}|baseline|bl|{_AROUND})"
_MAYBE_COUNTED = r"(?:vis|visite|time|scan|exam|mri?)"
_COUNTED_BEHIND = r"(?:mo|mon|monat|day|tag|woche|yr|year|jahr|study|run|rep|repeat|series|acq|messung)"

SURE_STATE, SURE_VISIT, SURE_COUNTED = (
    words.replace("~", f"{SEPARATOR}?") for words in (_SURE_STATE, _SURE_VISIT, _SURE_COUNTED)
)

#: The strength of the magnet: 1.5T, 3T.
FIELD = r"(?<!\d)(?:0\.\d+|1[-_.,p]5|1\.0|3(?:\.0)?|7(?:\.0)?|9\.4|10\.5|11\.7) ?T(?:esla)?(?![^\W_])"
#: The number that an archive gives an image: I13722.
_IMAGE = r"(?<![^\W_])I\d{4,8}(?![^\W_])"

# ----------------------------------------------------------------------------------------------------- telling apart

#: Stands for a time in a text of :func:`spelled`.
WHEN = "@"

_MARKS = re.compile(rf"(?P<date>{_LOOSE_DATE})|{FIELD}|{_IMAGE}", re.IGNORECASE)
_DAY_OR_NUMBER = re.compile(
    rf"([^\d]*[^\W\d_](?P<mark>[-_. ])\d\d?)(?P=mark)(?:{_MONTH_NAME}|{_ANY_MONTH})(?P=mark){_YEAR}", re.IGNORECASE
)
_CAMEL = re.compile(r"(?<=[a-zß-öø-ÿ])(?=[A-ZÀ-ÖØ-Þ])")
_END = r"(?![^\W_])"
_LETTERED = r"(?:ses|sess|session|visit|tp|time ?point|scan|time|exam) [a-e]"


def _words(pattern: str) -> str:
    return pattern.replace("~", " ?")


_SURE_WORDS = rf"(?:{_words(_SURE_COUNTED)} ?\d{{1,4}}[a-z]?|{_words(_SURE_STATE)}){_END}"
_FREE_WORDS = rf"(?:{_SURE_WORDS}|(?:{_MAYBE_COUNTED} ?\d{{1,2}}|{_LETTERED}){_END})"
_WORDS = re.compile(
    rf"(?<![^\W\d_]){_FREE_WORDS}"
    rf"|(?<![^\W\d_])[tv] ?\d{{1,2}}(?= )"  # last of all it may be one of several letters: SHORT_TIME
    r"|^[dmwy] ?\d{1,3}(?= (?:[^\W\d_]{3}|[^\W\d_]+ ?\d))"  # before somebody's name
    rf"|^{_COUNTED_BEHIND} ?\d{{1,3}}(?= [^\W\d_]{{3,}}$)"  # study1_P01 may be the first of another study
    rf"|^{_MAYBE_STATE}{_END}(?=.*[^\W\d_])"  # before a number alone it counts another cohort: early_01, late_01
    rf"|(?<=[ \d])(?:(?:{_MAYBE_STATE}|test){_END}|{_COUNTED_BEHIND} ?\d{{1,3}}{_END})"
)
# "pre_012" and "BL_01" are of patients 012 and 01, and three digits count more than visits.
_ONLY_SURE = re.compile(rf"(?:(?:{_words(_SURE_STATE)}\d{{0,2}}|{_words(_VISIT)} ?\d{{1,2}}){_END} ?)+")
_NOBODY = re.compile(rf"{WHEN}(?: {WHEN})*(?: \d{{1,2}})?")  # week-000-1
_WORD_ALONE = re.compile(rf"(?:{_words(_SURE_COUNTED)}|{_MAYBE_COUNTED}|{_COUNTED_BEHIND})(?: ?\d{{1,5}}[a-z]?)?")
# A counter of the day, 20190304_01, is nobody's number.
_OF_THE_DAY = re.compile(rf"{WHEN} ?\d{{1,2}}")


def plain(name: str) -> str:
    """A name in small letters, with one space for what separates its parts; a capital in a word separates too."""
    return " ".join(re.sub(r"[\W_]", " ", _CAMEL.sub(" ", name)).casefold().split())


def spelled(name: str) -> str:
    """A name as :func:`plain`, with ``WHEN`` for each word of time.

    >>> spelled("Anna_FU12"), spelled("subj01_1.5T"), spelled("visit1_P01"), spelled("MuellerA")
    ('anna @', 'subj01 @', '@ p01', 'mueller a')
    """
    marks = list(_MARKS.finditer(name))
    between = zip([0, *(m.end() for m in marks)], [*(m.start() for m in marks), len(name)], strict=True)
    text = " ".join(f" {WHEN} ".join(plain(name[start:end]) for start, end in between).split())
    if marks and _OF_THE_DAY.fullmatch(text):
        return plain(name)
    return " ".join(_WORDS.sub(f" {WHEN} ", text).split())


def with_number_for_day(name: str) -> str:
    """The other way to spell a name that ends with a date: of ``MRI_01_Jan_2019`` ``mri 01 @``; "" of other names."""
    match = _DAY_OR_NUMBER.fullmatch(name)
    return f"{plain(match[1])} {WHEN}" if match else ""


def has_date(name: str) -> bool:
    """Whether a day or a month of a year is in a name."""
    return any(match["date"] for match in _MARKS.finditer(name))


def says_when(name: str) -> bool:
    """Whether a name is nothing but words of time, as of a folder: a visit, a date, a field strength, ``T1``, study."""
    text = spelled(name)
    return bool(_NOBODY.fullmatch(text) or SHORT_TIME.fullmatch(text) or _WORD_ALONE.fullmatch(plain(name)))


def surely_says_when(name: str) -> bool:
    """Whether a name is nothing but words that surely mean a time: ``baseline``, ``visit_2``; not ``T1``."""
    return bool(_ONLY_SURE.fullmatch(plain(name)))
