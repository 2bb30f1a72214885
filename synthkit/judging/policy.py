"""What a synthetic dataset must satisfy: the policy of an audit, which a data steward can read and change.

``--policy FILE``, TOML::

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
"""

from __future__ import annotations

import dataclasses
import math
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthkit.errors import UsageError


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
    confidence : of the intervals that the verdict computes, 0.5..1 (two-sided; see
        :func:`~synthkit.judging.intervals.clopper_pearson`). Those that the metric reports are 95 %.
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
        self._refuse_meaningless()

    def _refuse_meaningless(self) -> None:
        """Rules under which no audit could fail, or none would have to find anything."""
        if self.max_flagged_rate + self.max_explained_rate >= 1:
            raise UsageError(
                f"The audit policy sets max_flagged_rate = {self.max_flagged_rate:g} and max_explained_rate = "
                f"{self.max_explained_rate:g}.",
                "Together they tolerate all images, so no share of flagged images could fail.",
                "Their sum must be below 1; leave them out for 0 and 0.1.",
            )
        if self.required_power and self.min_power == 0:
            raise UsageError(
                "The audit policy sets min_power = 0.",
                "Planted copies would have to be searched for, and none of them found.",
                "Give a share such as 0.9; required_power = [] asks for no power test, and is said on every page.",
            )

    def check_number(self, n_synthetic: int) -> None:
        """:class:`UsageError` where so many copies are tolerated that these images could all be copies."""
        if self.max_copies >= max(1, n_synthetic):
            raise UsageError(
                f"The audit policy sets max_copies = {self.max_copies}, and there are {n_synthetic} images.",
                "All of them could be copies, and the audit would pass.",
                "Give a smaller number, or leave it out for 0.",
            )

    def weaker(self) -> list[str]:
        """Rules that let more pass than the default does, each with its default and what it lets pass."""
        default, lines = Policy(), []
        for name, (direction, effect) in _WEAKER.items():
            own, usual = getattr(self, name), getattr(default, name)
            if (own - usual) * direction > 0:
                lines.append(f"{name} = {own:g} (default {usual:g}): {effect}")
        if lacking := [kind for kind in default.required_power if kind not in self.required_power]:
            lines.append(
                f"required_power lacks {', '.join(lacking)}: the audit may pass without finding planted copies of "
                f"{'that kind' if len(lacking) == 1 else 'these kinds'}"
            )
        return lines


#: Rules, in which direction they let more pass, and what they let pass.
_WEAKER: dict[str, tuple[int, str]] = {
    "max_copies": (1, "copies of training images are tolerated"),
    "max_flagged_rate": (1, "more flagged images are tolerated than chance explains"),
    "max_explained_rate": (1, "thresholds may excuse more flagged images"),
    "min_null_subjects": (-1, "thresholds may rest on fewer real subjects"),
    "min_power": (-1, "fewer of the planted copies have to be found"),
    "max_removed_rate": (1, "a release may leave out more images and give out the rest"),
    "confidence": (1, "intervals are wider, so that fewer flagged shares fail"),
}


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
