"""What the user says about the channels of pictures and arrays: ``--channels``, ``--mosaic``, ``--channels-last``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthkit.data.channel_names import SEG
from synthkit.data.picture_layouts import RawSample
from synthkit.data.png_folders import ChannelNames
from synthkit.errors import UsageError
from synthkit.schemes import BRATS

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: A channel that is not imported, in ``--channels``.
SKIPPED = "-"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,31}")

_EXAMPLE = ",".join([*BRATS.contrast_names, "labels"])


@dataclass(frozen=True)
class Channels:
    """What the user says about channels.

    Attributes
    ----------
    names : contrasts, :data:`synthkit.data.channel_names.SEG` for labels, :data:`SKIPPED`; in order; None if not said.
    mosaic : (rows, columns) of tiles, filled row by row.
    last : whether the channel is an array's last axis; None to see it from the shape.
    without_labels : leave out the labels.
    known : what names stand for.
    """

    names: tuple[str, ...] | None = None
    mosaic: tuple[int, int] | None = None
    last: bool | None = None
    without_labels: bool = False
    known: ChannelNames = field(default_factory=ChannelNames, compare=False)

    @classmethod
    def parsed(cls, channels: str | None, mosaic: str | None, last: bool | None, without_labels: bool) -> Channels:
        """From what the command line has; :class:`UsageError` for what is not understood."""
        names = None if channels is None else parse_channels(channels, ChannelNames())
        return cls(names, None if mosaic is None else parse_mosaic(mosaic), last, without_labels)

    def with_known(self, known: ChannelNames) -> Channels:
        """The same, by other names; :class:`UsageError` where two then are one channel."""
        names = None if self.names is None else parse_channels(",".join(self.names), known)
        return replace(self, names=names, known=known)

    @property
    def contrasts(self) -> tuple[str, ...]:
        return tuple(name for name in self.names or () if name not in (SEG, SKIPPED))

    @property
    def has_labels(self) -> bool:
        return SEG in (self.names or ()) and not self.without_labels

    @property
    def given(self) -> dict[str, object]:
        """Values of the options, by their names on the command line; None where one was not given."""
        return {"--channels": self.names, "--mosaic": self.mosaic, "--channels-last": self.last}

    def sample(
        self, planes: Sequence[NDArray[Any]], *, are_values: bool, labels: NDArray[Any] | None = None
    ) -> RawSample:
        """Planes in the order of the names, with labels that are kept apart if there are."""
        assert self.names is not None
        named = dict(zip(self.names, planes, strict=True))
        found = named[SEG] if self.has_labels else labels
        return RawSample([named[name] for name in self.contrasts], found, are_values)


def parse_channels(text: str, known: ChannelNames) -> tuple[str, ...]:
    """``t1,flair,labels`` as names, in any spelling that is known; ``-`` is a channel to leave out.

    Other names are those of contrasts that nothing is known of.

    Raises
    ------
    UsageError : what cannot be a name, one that comes twice, or no image at all.
    """
    words = [word.strip() for word in text.split(",")]
    names = [SKIPPED if word == SKIPPED else known.channel_of(word) or word for word in words]
    used = [name for name in names if name != SKIPPED]
    wrong = [word for word in words if not _NAME.fullmatch(word) and word != SKIPPED]
    if wrong or len(set(used)) < len(used) or not set(used) - {SEG}:
        why = (
            f"{wrong[0]!r} cannot be the name of a channel."
            if wrong
            else "A channel comes twice, or there is no image."
        )
        some = ", ".join([*known.order, "labels"])
        fix = f"Name each channel once ({some}, or others of letters and digits), or - to skip one."
        raise UsageError(f"--channels {text} is not understood.", why, fix)
    return tuple(names)


def parse_mosaic(text: str) -> tuple[int, int]:
    """``RxC`` as rows and columns."""
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.strip().isdecimal() and int(part) for part in parts):
        raise UsageError(
            f"--mosaic {text} is not understood.", "It is rows x columns of tiles.", "Write it as in --mosaic 1x5."
        )
    return int(parts[0]), int(parts[1])


def unnamed(root: Path, seen: str) -> UsageError:
    """The refusal of channels that nobody has named; ``seen`` says what there is."""
    return UsageError(
        f"{root} does not say which channel is which.",
        f"{seen}.",
        f"Name the channels in their order, as in --channels {_EXAMPLE} (- skips one).",
    )
