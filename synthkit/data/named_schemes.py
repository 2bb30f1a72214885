"""The label schemes that have a name, and those that users write down in a TOML file.

Values and names are those of the challenges' own descriptions: BraTS to 2021 (Menze et al. 2015, doi
10.1109/TMI.2014.2377694; Baid et al. 2021, arXiv 2107.02314), adult glioma 2023 and post-treatment 2024 (de Verdier et
al. 2024, arXiv 2405.18368), paediatric (Kazerooni et al. 2023, arXiv 2305.17033), metastases (Moawad et al. 2023, arXiv
2306.00838), meningioma (LaBella et al. 2023, arXiv 2305.07642) and its radiotherapy (LaBella et al. 2024, arXiv
2405.18383), Sub-Saharan Africa (Adewole et al. 2023, arXiv 2305.19369), and the Medical Segmentation Decathlon
(Antonelli et al. 2022, doi 10.1038/s41467-022-30695-9), whose order nnU-Net's conversion of BraTS uses as well.

A label keeps its name where challenges renamed it: NCR is also the non-enhancing tumour core (NETC), ED also the
surrounding non-enhancing FLAIR hyperintensity (SNFH).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from synthkit.errors import UsageError
from synthkit.schemes import BRATS, FURTHER_COLOURS, Contrast, Label, Region, Scheme, enumerated

_COLOURS = {label.name: label.colour for label in BRATS.labels} | {
    "NET": "#0072b2",
    "CC": "#cc79a7",
    "RC": "#009e73",
    "WT": "#e69f00",
    "GTV": "#d55e00",
}
_MEANINGS = {
    "NCR": "necrotic and other non-enhancing tumour core (NETC)",
    "NET": "non-enhancing tumour",
    "CC": "cystic component",
    "ED": "oedema or other FLAIR hyperintensity around the tumour (SNFH)",
    "ET": "enhancing tumour",
    "RC": "resection cavity",
    "WT": "whole tumour",
    "GTV": "gross tumour volume",
}
_CORE = ("NCR", "NET", "CC", "ET")


def scheme_of_parts(name: str, family: str, labels: Mapping[str, int], contrasts: tuple[str, ...] = ()) -> Scheme:
    """One of parts of a tumour, name -> value; its nested regions are the core and the whole, where labels differ."""
    core = tuple(label for label in labels if label in _CORE)
    whole = tuple(label for label in labels if label in (*_CORE, "ED"))
    nested = (Region("TC", core, "tumour core"), Region("WT", whole, "whole tumour")) if len(whole) > 1 else ()
    return replace(
        BRATS,
        name=name,
        family=family,
        contrasts=tuple(c for c in BRATS.contrasts if not contrasts or c.name in contrasts),
        labels=tuple(Label(label, value, _MEANINGS[label], _COLOURS[label]) for label, value in labels.items()),
        nested=nested,
        mean_of=tuple(labels),
        brain_contrast=BRATS.brain_contrast if not contrasts else "",
        drawn_on=tuple(c for c in BRATS.drawn_on if not contrasts or c in contrasts),
    )


_GLI_2023 = {"NCR": 1, "ED": 2, "ET": 3}
_WITH_CAVITY = {**_GLI_2023, "RC": 4}
_DECATHLON = {"ED": 1, "NCR": 2, "ET": 3}

#: Name -> scheme.
SCHEMES: dict[str, Scheme] = {
    scheme.name: scheme
    for scheme in (
        BRATS,
        scheme_of_parts("brats2013", "BraTS 2012 to 2015", {"NCR": 1, "ED": 2, "NET": 3, "ET": 4}),
        replace(BRATS, name="brats2021", family="BraTS 2021"),
        scheme_of_parts("brats2023-gli", "BraTS 2023 (adult glioma)", _GLI_2023),
        scheme_of_parts("gli2024", "BraTS 2024 (glioma after treatment)", _WITH_CAVITY),
        scheme_of_parts("ped", "BraTS (paediatric)", {"ET": 1, "NET": 2, "CC": 3, "ED": 4}),
        scheme_of_parts("met", "BraTS (metastases)", _GLI_2023),
        scheme_of_parts("met2025", "BraTS 2025 (metastases after treatment)", _WITH_CAVITY),
        scheme_of_parts("men", "BraTS (meningioma)", _GLI_2023),
        replace(
            scheme_of_parts("men-rt", "BraTS (meningioma, radiotherapy)", {"GTV": 1}, ("t1ce",)),
            label_endings=("gtv", *BRATS.label_endings),
        ),
        scheme_of_parts("ssa", "BraTS (Sub-Saharan Africa)", _GLI_2023),
        scheme_of_parts("msd", "The Medical Segmentation Decathlon", _DECATHLON),
        scheme_of_parts("nnunet-brats", "nnU-Net's BraTS", _DECATHLON),
        scheme_of_parts("whole-tumour", "A mask of the whole tumour", {"WT": 1}),
    )
}


def scheme_named(given: str) -> Scheme:
    """The scheme that ``--labels`` names: one of :data:`SCHEMES`, or a TOML file.

    Raises
    ------
    UsageError : no such name and no such file, or a file that does not describe a scheme.
    """
    if given in SCHEMES:
        return SCHEMES[given]
    if given.endswith(".toml") or Path(given).is_file():
        return read_scheme(Path(given))
    raise UsageError(
        f"There is no label scheme {given!r}.",
        f"Known are {enumerated([*SCHEMES])}.",
        "Name one of them, or give a TOML file with a table [labels] of name = value.",
    )


def is_name(text: str) -> bool:
    """Whether this may be the name of a label, a region or a contrast: they become names of files."""
    return bool(_NAME.fullmatch(text))


# ------------------------------------------------------------------------------------------------- of users' own

_KEYS = {"name", "labels", "regions", "contrasts", "mean_of", "label_endings"}
_LABEL_KEYS = {"value", "meaning", "colour"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,31}")


def read_scheme(path: Path) -> Scheme:
    """A scheme from a TOML file::

        name = "heart"                                       # the file's name if not given
        [labels]                                             # name = value, or with what it means and its colour
        myocardium = 1
        blood = { value = 2, meaning = "blood pool", colour = "#d55e00" }
        [regions]                                            # labels that are scored together; none if not given
        heart = ["myocardium", "blood"]
        [contrasts]                                          # how names of files end; those of BraTS if not given
        cine = ["cine", "sa"]

    ``mean_of`` lists the regions that the mean is over (all labels if not given), ``label_endings`` how names of label
    files end ("seg").

    Raises
    ------
    UsageError : the file cannot be read, or does not describe a scheme.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        return _from_toml(data, path.stem)
    except (OSError, ValueError, TypeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(
            f"{path} does not describe a label scheme.",
            f"{reason}.",
            'Write a table [labels] of name = value, such as lesion = 1, and [contrasts] of name = ["ending"].',
        ) from error


def _from_toml(data: Mapping[str, Any], stem: str) -> Scheme:
    """ValueError and TypeError say what is wrong."""
    if unknown := sorted(set(data) - _KEYS):
        raise ValueError(f"it has {unknown[0]!r}; known are {', '.join(sorted(_KEYS))}")
    labels = _labels(_table(data, "labels"))
    regions = {str(name): _strings(of, f"region {name}") for name, of in _table(data, "regions").items()}
    stated = _table(data, "contrasts")
    endings = {str(name).lower(): _strings(of, f"contrast {name}") for name, of in stated.items()}
    if len(endings) < len(stated):
        raise ValueError("two contrasts have one name, in upper and lower case")
    if not labels:
        raise ValueError("it has no table [labels]")
    for name in (*(label.name for label in labels), *regions, *endings):
        if not is_name(name):
            raise ValueError(f"{name!r} cannot be a name: letters, digits and . _ + - only, at most 32")
    if "seg" in endings:
        raise ValueError("seg is what labels are called; how their files end is label_endings")
    contrasts = BRATS.contrasts
    if endings:
        contrasts = tuple(Contrast(name, name.upper(), _plain(of)) for name, of in endings.items())
    there = {contrast.name for contrast in contrasts}
    return Scheme(
        name=str(data.get("name", stem)),
        family=str(data.get("name", stem)),
        contrasts=contrasts,
        labels=labels,
        nested=tuple(Region(name, of, name) for name, of in regions.items()),
        mean_of=_strings(data["mean_of"], "mean_of") if "mean_of" in data else tuple(label.name for label in labels),
        label_endings=_plain(_strings(data["label_endings"], "label_endings"))
        if "label_endings" in data
        else BRATS.label_endings,
        brain_contrast=BRATS.brain_contrast if BRATS.brain_contrast in there else "",
        drawn_on=tuple(name for name in BRATS.drawn_on if name in there),
    )


def _plain(endings: tuple[str, ...]) -> tuple[str, ...]:
    """As :attr:`Contrast.endings` are written: "_sa.nii.gz" is "sa"."""
    return tuple(re.sub(r"\.nii(\.gz)?$", "", ending.lower()).strip("_-. ") for ending in endings)


def _table(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = data.get(key, {})
    if not isinstance(value, dict):
        raise ValueError(f"{key} is not a table")
    return value


def _strings(value: Any, what: str) -> tuple[str, ...]:
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not listed or not all(isinstance(item, str) and item for item in listed):
        raise ValueError(f"{what} is not a list of words")
    return tuple(listed)


def _labels(table: Mapping[str, Any]) -> tuple[Label, ...]:
    found = []
    colours = [label.colour for label in BRATS.labels] + [*FURTHER_COLOURS]
    for number, (name, given) in enumerate(table.items()):
        described = given if isinstance(given, dict) else {"value": given}
        if unknown := sorted(set(described) - _LABEL_KEYS):
            raise ValueError(f"the label {name} has {unknown[0]!r}; known are {', '.join(sorted(_LABEL_KEYS))}")
        value = described.get("value")
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"the value of the label {name} is not a whole number")
        if name.lower() == "background":
            if value:
                raise ValueError("background is not 0")
            continue
        colour = str(described.get("colour", _COLOURS.get(name, colours[number % len(colours)])))
        if not re.fullmatch(r"#[0-9a-fA-F]{6}", colour):
            raise ValueError(f"the colour of the label {name} is not #rrggbb")
        found.append(Label(name, value, str(described.get("meaning", _MEANINGS.get(name, name))), colour))
    return tuple(found)
