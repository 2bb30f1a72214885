"""What the name of a file says: the contrast that it holds, or labels, and the subject that stands before that.

By the endings of :mod:`synthkit.data.channel_names`, the entities of BIDS, and the endings that a user gives
(``--names``), which win over all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from synthkit.data.channel_names import SEG, Ending, endings_of_files
from synthkit.data.metaimage import contrast_of_vsd
from synthkit.errors import UsageError
from synthkit.schemes import BRATS, Scheme

_NIFTI_NAME = re.compile(r"(.+?)\.(?:nii(?:\.gz)?|mha|mhd)", re.IGNORECASE)

_Known = tuple[tuple[str, re.Pattern[str], int], ...]


def _compiled(endings: Iterable[Ending]) -> _Known:
    return tuple((e.content, re.compile(rf"(?:(.*?)[-_. ])?({e.expression})", re.IGNORECASE), e.rank) for e in endings)


_KNOWN = _compiled(endings_of_files())
_BIDS = re.compile(r"(sub-[a-z0-9]+(?:_ses-[a-z0-9]+)?)((?:_[a-z0-9]+-[a-z0-9+.]+)*)(?:_([a-z0-9]+))?", re.IGNORECASE)
# What says of a T1w that it may show contrast agent, or may not; and of labels that they are not of a tumour.
_MAY_BE_ENHANCED = re.compile(r"_(?:acq|desc|rec)-[a-z0-9]*(?:ce|gd|gad|contrast|post)", re.IGNORECASE)
_OF_THE_BRAIN = re.compile(r"_(?:label|desc|atlas)-[a-z0-9]*(?:brain|head|tissue|aseg|aparc|gm|wm|csf)", re.IGNORECASE)
# Words between the subject and the contrast that say how an image was made, not whose it is.
_MADE_BY = re.compile(r"[-_](?:brain|stripped|bet)$", re.IGNORECASE)


@dataclass(frozen=True)
class NamedFile:
    """A file whose name says what it holds.

    Attributes
    ----------
    stem : what stands before the ending: the subject, in BIDS with its session. May be empty.
    content : a contrast, or :data:`SEG`.
    rank : of several files of one content that of the lowest rank is taken.
    """

    path: Path
    stem: str
    content: str
    rank: int = 0


@dataclass
class Names:
    """How files are told by their names: endings that a user gives, by content, then those that are known.

    Attributes
    ----------
    given : (content, ending) in the order given. An ending with a slash names the folder too: ``labels/`` is any file
        in a folder ``labels``.
    used : those that a file was found for.
    known : content, pattern of a name and rank, of the scheme.
    """

    given: tuple[tuple[str, str], ...] = ()
    used: set[tuple[str, str]] = field(default_factory=set)
    known: _Known = _KNOWN

    @classmethod
    def parse(cls, texts: Iterable[str], wanted: Sequence[str] = BRATS.contrast_names, scheme: Scheme = BRATS) -> Names:
        """Read ``t1ce=_T1GD,seg=_segm``; UsageError for anything else, or one ending for two contents.

        Parameters
        ----------
        wanted : contrasts that are looked for; with none, endings may be given to any.
        scheme : whose endings are known.
        """
        contents = dict.fromkeys((*scheme.contrast_names, *BRATS.contrast_names, *wanted, SEG))
        found: list[tuple[str, str]] = []
        for part in (part.strip() for text in texts for part in text.split(",")):
            if not part:
                continue
            content, equals, ending = (piece.strip() for piece in part.partition("="))
            content = content.lower()
            if not equals or not ending or not content or (wanted and content not in contents):
                raise UsageError(
                    f"--names {part} is not understood.",
                    f"On the left stands one of {', '.join(name for name in contents if name != SEG)} and {SEG}, on "
                    "the right how its files end.",
                    "Write for example --names t1ce=_T1GD,seg=_segm.",
                )
            match = _NIFTI_NAME.fullmatch(ending)
            ending = match[1] if match else ending
            if any(other == ending.lower() and name != content for name, other in found):
                raise UsageError(
                    f"--names gives the ending {ending} to two contents.",
                    fix="Give each ending to one contrast, or to seg.",
                )
            found.append((content, ending.lower()))
        named = {content for content, _ in found}
        endings = endings_of_files(scheme, [name for name in wanted if name not in named])
        return cls(tuple(dict.fromkeys(found)), known=_compiled(endings))

    @property
    def contents(self) -> set[str]:
        """Contents that are found by these endings alone."""
        return {content for content, _ in self.given}

    def match(self, path: PurePath, base: str) -> tuple[str, str, int] | None:
        """Content, stem and length of the longest ending that a file has; ``base`` is its name before ``.nii``."""
        best: tuple[str, str, int] | None = None
        for content, ending in self.given:
            folder, slash, tail = ending.rpartition("/")
            if slash and not f"/{path.parent.as_posix().lower()}".endswith(f"/{folder.strip('/')}"):
                continue
            stem = base[: len(base) - len(tail)]
            if not base.lower().endswith(tail) or (tail[:1].isalnum() and stem[-1:].isalnum()):
                continue
            # A folder is as explicit as can be: it wins over every known ending.
            length = len(ending) + (1000 if slash else 0)
            if best is None or length > best[2]:
                best = (content, stem.rstrip("-_. ") if tail else stem, length)
                self.used.add((content, ending))
        return best

    def channel(self, text: str) -> str | None:
        """The contrast that a channel of this name holds, by the endings given."""
        for content, ending in self.given:
            if ending.lstrip("-_. ") == text.strip().lower() and content != SEG:
                self.used.add((content, ending))
                return content
        return None

    def refuse_unused(self) -> None:
        """UsageError that names the endings no file was found for."""
        if unused := [f"{content}={ending}" for content, ending in self.given if (content, ending) not in self.used]:
            raise UsageError(
                f"--names {','.join(unused)} fits no file.",
                "No name of a volume ends so, or those that do have a longer ending of another content.",
                "Write the ending as the files have it.",
            )


def base_name(name: str) -> str | None:
    """The name of a volume without ``.nii``, ``.nii.gz``, ``.mha`` or ``.mhd``; None for any other file."""
    match = _NIFTI_NAME.fullmatch(name)
    return match[1] if match else None


def named_file(path: Path, names: Names | None = None, finished: str | None = None) -> NamedFile | None:
    """What the name of a volume says; None where it says nothing, or less than the endings given ask for.

    Parameters
    ----------
    names : endings that win over the known ones: a content that they name is found by them alone.
    finished : the name that an unfinished download will have.
    """
    base = base_name(finished or path.name)
    if base is None:
        return None
    vsd = contrast_of_vsd(base)
    known = (vsd, "", 0) if vsd else _known(base, names.known if names else _KNOWN)
    given = names.match(path, base) if names else None
    if given and (known is None or given[2] >= len(base) - len(known[1]) - 1):
        bids = _BIDS.fullmatch(base)  # an ending that holds the session does not take it from the subject
        return NamedFile(path, bids[1] if bids else _subject(given[1]), given[0])
    if known is None or (names and known[0] in names.contents):
        return None
    return NamedFile(path, _subject(known[1]), known[0], known[2])


def content_named(text: str, names: Names | None = None) -> str | None:
    """The contrast that a channel called ``text`` holds (``t1gd``, ``T2w``); None if that is not known."""
    if names and (content := names.channel(text)):
        return content
    plain = re.sub(r"\s+", "_", text.strip())
    found = next(
        (
            content
            for content, pattern, _ in (names.known if names else _KNOWN)
            if (m := pattern.fullmatch(plain)) and not m[1]
        ),
        None,
    )
    return None if found == SEG or (names and found in names.contents) else found


def ending_that_chooses(path: Path, others: Sequence[Path]) -> str:
    """An ending for ``--names`` that one file has and the others have not."""
    base, rest = base_name(path.name) or path.name, [base_name(p.name) or p.name for p in others]
    if base in rest:
        return f"{path.parent.name}/{base[_last_mark(base, len(base)) :]}"
    start = min(_common(base, other) for other in rest)
    start = start if base[start : start + 1] in tuple("-_. ") else _last_mark(base, start)
    while start and any(other.lower().endswith(base[start:].lower()) for other in rest):
        start = _last_mark(base, start)
    return base[start:]


def _common(one: str, other: str) -> int:
    return next((k for k, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _last_mark(base: str, before: int) -> int:
    return max(base.rfind("_", 0, before), 0)


def entity_of(path: Path, key: str) -> str | None:
    """What an entity of a BIDS name says, ``SRI24`` of ``space-SRI24``; None where it has none of that key."""
    match = re.search(rf"_{key}-([a-z0-9+]+)(?=_|\.)", path.name, re.IGNORECASE)
    return match[1] if match and path.name.lower().startswith("sub-") else None


def is_bids(stem: str) -> bool:
    """Whether a stem is the subject, with or without session, of a BIDS name."""
    return bool((match := _BIDS.fullmatch(stem)) and match[3] is None and not match[2])


def _subject(stem: str) -> str:
    """The stem without what says how a file was made: entities of BIDS, "brain"."""
    if (match := _BIDS.fullmatch(stem)) and match[3] is None:
        return match[1]
    return _MADE_BY.sub("", stem)


def _known(base: str, endings: _Known) -> tuple[str, str, int] | None:
    """Content, stem and rank by the known endings; the longest ending counts."""
    if (match := _BIDS.fullmatch(base)) and match[3]:
        entities, suffix = match[2], match[3].lower()
        if suffix == "t1w":
            if re.search(r"_ce-", entities, re.IGNORECASE):
                return "t1ce", match[1], 0
            return None if _MAY_BE_ENHANCED.search(entities) else ("t1", match[1], 0)
        if suffix in ("dseg", "mask"):
            return None if _OF_THE_BRAIN.search(entities) else (SEG, match[1], int(suffix == "mask"))
    best: tuple[str, str, int] | None = None
    for content, pattern, rank in endings:
        if (match := pattern.fullmatch(base)) and (best is None or len(match[1] or "") < len(best[1])):
            best = (content, match[1] or "", rank)
    return best
