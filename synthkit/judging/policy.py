"""What a synthetic dataset must satisfy: the policy of an audit, which a data steward can read and change.

``--policy FILE``, TOML::

    max_copies = 0             # copies of training people tolerated, and of held-out people
    min_null_subjects = 4      # real people, training and held-out together, that the cut must rest on
    require_holdout = false    # true: there must be held-out people
    min_likeness = 0.85        # without these: how little the images under audit may lower the cut that judges them
    min_synthetic = 1          # synthetic images that must have been searched
    min_power = 0.9            # share of planted copies that must be found: lower bound of its 95 % interval
    required_power = ["exact","noise","blur","intensity","flip"]  # of these: "kind" (mildest strength), "kind strength"
    max_membership_auc = 1.0   # AUC of the membership attack (chance: 0.5) tolerated, and as far below 0.5; 1: any
    max_removed_rate = 0.1     # share of the images that a release may leave out
    allow_lent_label_maps = false  # true: asked for with label maps of real people, or of nobody knows whom, may pass
"""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthkit.errors import DataError, UsageError


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What a synthetic dataset must satisfy.

    Attributes
    ----------
    max_copies : tolerated number of copies of training people, of images identical to a training image, and of copies
        of held-out people, each. A release leaves out the copies that were tolerated.
    min_null_subjects : real people whom the cut must rest on. Four: with fewer, how much people differ is a guess.
    require_holdout : whether people outside the training set must be among them.
    min_likeness : smallest likeness (0..1) of the family picture with which an audit without held-out people can pass.
        The cut is scaled by the likeness, which is then measured on the images under audit: many weak copies among
        them could lower the cut by which they are judged.
    min_synthetic : synthetic images that must have been searched.
    min_power : smallest recall (0..1) of planted copies that makes their absence evidence; compared with the lower
        bound of the recall. With every planted copy found, 0.9 takes 29 of them (0.05^(1/29) = 0.902).
    required_power : what must have been planted and found, each ``"kind"`` (its mildest strength, the first that the
        power test lists) or ``"kind strength"``. Empty: an audit without power test can pass.
    max_membership_auc : largest tolerated lower bound (0.5..1) of the membership attack's AUC; its upper bound must
        reach 1 - that, since who is told by being farther is told as well. By default any is tolerated: the attack
        needs a person's scan, and no value is agreed on as harmless.
    max_removed_rate : largest share (0..1) of the images that ``synthkit release`` may leave out. A generator that
        memorizes more than that hides more just beyond the cut, and removal is not a remedy.
    allow_lent_label_maps : whether images can pass that were asked for with label maps of real people, or with masks of
        nobody knows whom. They have these label maps to the pixel, be they too small for the audit to compare.
    """

    max_copies: int = 0
    min_null_subjects: int = 4
    require_holdout: bool = False
    min_likeness: float = 0.85
    min_synthetic: int = 1
    min_power: float = 0.9
    required_power: tuple[str, ...] = ("exact", "noise", "blur", "intensity", "flip")
    max_membership_auc: float = 1.0
    max_removed_rate: float = 0.1
    allow_lent_label_maps: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "required_power", tuple(self.required_power))  # a list where it comes from JSON
        for name, low, high in (
            ("max_copies", 0, math.inf),
            ("min_null_subjects", 1, math.inf),
            ("min_likeness", 0, 1),
            ("min_synthetic", 1, math.inf),
            ("min_power", 0, 1),
            ("max_membership_auc", 0.5, 1),
            ("max_removed_rate", 0, 1),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise UsageError(
                    f"The audit policy sets {name} = {value}.",
                    f"It must lie between {low:g} and {high:g}.",
                    "Correct the policy file, or leave the key out for its default.",
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

    def departures(self) -> list[str]:
        """Every rule that is not at its default, weaker or stricter: ``max_copies = 1 (default 0)``."""
        default = Policy()
        rules = (
            (item.name, getattr(self, item.name), getattr(default, item.name)) for item in dataclasses.fields(self)
        )
        return [f"{name} = {_said(own)} (default {_said(usual)})" for name, own, usual in rules if own != usual]

    def weaker(self) -> list[str]:
        """Rules that let more pass than the default does, each with its default and what it lets pass."""
        default, lines = Policy(), []
        for name, (direction, effect) in _WEAKER.items():
            own, usual = getattr(self, name), getattr(default, name)
            if (own - usual) * direction > 0:
                lines.append(f"{name} = {_said(own)} (default {_said(usual)}): {effect}")
        if lacking := [kind for kind in default.required_power if kind not in self.required_power]:
            lines.append(
                f"required_power lacks {', '.join(lacking)}: the audit may pass without finding planted copies of "
                f"{'that kind' if len(lacking) == 1 else 'these kinds'}"
            )
        return lines


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join(value) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


#: Rules, in which direction they let more pass, and what they let pass.
_WEAKER: dict[str, tuple[int, str]] = {
    "max_copies": (1, "copies of real people are tolerated"),
    "min_null_subjects": (-1, "the cut may rest on fewer real people"),
    "min_likeness": (-1, "without held-out people, the images under audit may lower the cut by which they are judged"),
    "min_power": (-1, "fewer of the planted copies have to be found"),
    "max_removed_rate": (1, "a release may leave out more images and give out the rest"),
    "allow_lent_label_maps": (1, "images may have label maps of real people, or of nobody knows whom"),
}


def policy_of(options: Mapping[str, Any]) -> Policy:
    """The policy that the job of an audit was made with (its ``options``); :class:`DataError` if it has other rules."""
    rules = dict(options.get("policy", {}))
    if unknown := sorted(set(rules) - {item.name for item in dataclasses.fields(Policy)}):
        raise DataError(
            f"The audit was made with a policy that has {', '.join(unknown)}.",
            "This version of synthkit judges by other rules.",
            "Make the audit again.",
        )
    return Policy(**rules)


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
