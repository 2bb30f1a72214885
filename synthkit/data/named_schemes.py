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

import difflib
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from synthkit.errors import UsageError
from synthkit.schemes import BACKGROUND, BRATS, FURTHER_COLOURS, MEAN, Contrast, Label, Region, Scheme, enumerated

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


def is_of_tumours(scheme: Scheme) -> bool:
    """Whether all labels are parts of a tumour, or what is left of one, by the names of :data:`SCHEMES`."""
    return all(label.name in _MEANINGS for label in scheme.labels)


def is_name(text: str) -> bool:
    """Whether this may be the name of a label, a region or a contrast: they become names of files."""
    return bool(_NAME.fullmatch(text))


# ------------------------------------------------------------------------------------------------- of users' own

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
    UsageError : the file cannot be read, or does not describe a scheme; with the right form of the key that is wrong.
    """
    try:
        return _from_toml(tomllib.loads(path.read_text(encoding="utf-8-sig")), path.stem)
    except _FaultError as fault:
        why, fix = str(fault), fault.form
    except OSError as error:
        why, fix = f"{error.strerror}", f"Check the path, or name a known scheme: {enumerated([*SCHEMES])}."
    except UnicodeDecodeError:
        why, fix = "its text is not UTF-8", "Save it as UTF-8."
    except tomllib.TOMLDecodeError as error:
        why = f"it is not TOML: {error}"
        fix = "Correct that line; tables are `[labels]`, below it each name once, `lesion = 1`, and words in quotes."
    except ValueError as error:
        why, fix = str(error), f"Correct it there. {_form_of('labels')}"
    raise UsageError(f"{path} does not describe a label scheme.", f"{why[:1].upper()}{why[1:]}.", fix)


class _FaultError(ValueError):
    """What is wrong with a key, and the right form of it."""

    def __init__(self, why: str, form: str) -> None:
        super().__init__(why)
        self.form = form


_FORMS = {
    "name": 'name = "heart"',
    "labels": "[labels]`, below it `lesion = 1",
    "regions": '[regions]`, below it `whole = ["LABEL", "LABEL"]',
    "contrasts": '[contrasts]`, below it `cine = ["cine", "sa"]',
    "mean_of": 'mean_of = ["LABEL"]',
    "label_endings": 'label_endings = ["seg"]',
}


def _form_of(key: str, form: str = "") -> str:
    return f"The form of {key} is `{form or _FORMS[key]}`."


def _from_toml(data: Mapping[str, Any], stem: str) -> Scheme:
    if unknown := sorted(set(data) - {*_FORMS}):
        values = {key: data[key] for key in unknown if type(data[key]) is int}
        if values and len(values) == len(unknown):
            lines = ", ".join(f"`{key} = {value}`" for key, value in values.items())
            raise _FaultError(
                f"{enumerated([*values])} stand outside of [labels]", f"Write a line `[labels]`, and below it {lines}."
            )
        raise _FaultError(f"it has {unknown[0]!r}", _instead(unknown[0], [*_FORMS]))
    if not isinstance(name := data.get("name", stem), str) or not name:
        raise _FaultError("name is not a word", _form_of("name"))
    labels = _labels(_table(data, "labels"))
    there = [label.name for label in labels]
    contrasts = _contrasts(_table(data, "contrasts"))
    regions = _regions(_table(data, "regions"), there)
    mean_of = _strings(data["mean_of"], "mean_of") if "mean_of" in data else tuple(there)
    known = [*there, *(region.name for region in regions)]
    if wrong := [word for word in mean_of if word not in known or mean_of.count(word) > 1]:
        why = "stands there twice" if wrong[0] in known else "is no label and no region"
        some = ", ".join(f'"{word}"' for word in dict.fromkeys(w for w in mean_of if w in known)) or f'"{known[0]}"'
        form = f"{_form_of('mean_of', f'mean_of = [{some}]')} There are {enumerated(known)}."
        raise _FaultError(f"in mean_of {wrong[0]!r} {why}", form)
    label_endings = BRATS.label_endings
    if "label_endings" in data:
        label_endings = _plain(_strings(data["label_endings"], "label_endings"))
    _check_endings(contrasts, label_endings)
    names = {contrast.name for contrast in contrasts}
    return Scheme(
        name=name,
        family=name,
        contrasts=contrasts,
        labels=labels,
        nested=regions,
        mean_of=mean_of,
        label_endings=label_endings,
        brain_contrast=BRATS.brain_contrast if BRATS.brain_contrast in names else "",
        drawn_on=tuple(name for name in BRATS.drawn_on if name in names),
    )


def _instead(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word.lower(), known, n=1)
    instead = f"Write {close[0]} for it, or leave it out" if close else "Leave it out"
    return f"{instead}; known are {enumerated(known)}."


def _plain(endings: tuple[str, ...]) -> tuple[str, ...]:
    """As :attr:`Contrast.endings` are written: "_sa.nii.gz" is "sa"."""
    return tuple(re.sub(r"\.nii(\.gz)?$", "", ending.lower()).strip("_-. ") for ending in endings)


def _table(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = data.get(key, {})
    if not isinstance(value, dict):
        raise _FaultError(f"{key} is not a table", _form_of(key))
    return value


def _strings(value: Any, key: str, form: str = "") -> tuple[str, ...]:
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not listed or not all(isinstance(item, str) and item for item in listed):
        raise _FaultError(f"{key} is not a list of words", _form_of(key, form))
    return tuple(listed)


def _check_name(name: str, of: str) -> None:
    if name in (BACKGROUND, MEAN):
        form = f"Call the {of} otherwise: {name} means something else."
        raise _FaultError(f"a {of} is called {name}", form)
    if not is_name(name):
        plain = re.sub(r"[^A-Za-z0-9_.+-]+", "_", name).strip("_.+-")[:32] or "lesion"
        raise _FaultError(
            f"{name!r} cannot be a name: letters, digits and . _ + - only, at most 32", f"Call the {of} `{plain}`."
        )


def _contrasts(table: Mapping[str, Any]) -> tuple[Contrast, ...]:
    found: dict[str, Contrast] = {}
    for key, of in table.items():
        name = str(key).lower()
        if name == "seg":
            raise _FaultError(
                "seg is what labels are called", f"How their files end has the form `{_FORMS['label_endings']}`."
            )
        _check_name(str(key), "contrast")
        if name in found:
            raise _FaultError(f"the contrast {name} stands there twice, in upper and lower case", "Leave one out.")
        found[name] = Contrast(name, name.upper(), _plain(_strings(of, f"contrast {key}", f'{key} = ["{name}"]')))
    return tuple(found.values()) or BRATS.contrasts


def _check_endings(contrasts: Sequence[Contrast], of_labels: Sequence[str]) -> None:
    pairs = [(ending, contrast.name) for contrast in contrasts for ending in contrast.endings]
    pairs += [(ending, "label_endings") for ending in of_labels]
    seen: dict[str, str] = {}
    for ending, key in pairs:
        if not ending:
            form = (
                f'An ending is what stands before .nii, as in `{key} = ["{key if key != "label_endings" else "seg"}"]`.'
            )
            raise _FaultError(f"{key} has an ending without a letter", form)
        if ending in seen:
            both = key if seen[ending] == key else f"{seen[ending]} and {key}"
            raise _FaultError(f"the ending {ending} stands twice, in {both}", "Leave one of them out.")
        seen[ending] = key


def _regions(table: Mapping[str, Any], labels: Sequence[str]) -> tuple[Region, ...]:
    found = []
    some = ", ".join(f'"{label}"' for label in labels[:2])
    for key, of in table.items():
        name, form = str(key), f"{key} = [{some}]"
        _check_name(name, "region")
        parts = _strings(of, f"region {name}", form)
        if name in labels:
            raise _FaultError(
                f"the region {name} is called as a label", "Leave it out: a label is a region of its own."
            )
        if wrong := [part for part in parts if part not in labels or parts.count(part) > 1]:
            why = f"has {wrong[0]} twice" if wrong[0] in labels else f"is made of {wrong[0]!r}, which is no label"
            raise _FaultError(
                f"the region {name} {why}", f"{_form_of(f'region {name}', form)} Labels are {enumerated(labels)}."
            )
        found.append(Region(name, parts, name))
    return tuple(found)


def _labels(table: Mapping[str, Any]) -> tuple[Label, ...]:
    found: dict[int, Label] = {}
    colours = [label.colour for label in BRATS.labels] + [*FURTHER_COLOURS]
    for number, (name, given) in enumerate(table.items()):
        described = given if isinstance(given, dict) else {"value": given}
        if unknown := sorted(set(described) - _LABEL_KEYS):
            raise _FaultError(f"the label {name} has {unknown[0]!r}", _instead(unknown[0], sorted(_LABEL_KEYS)))
        stated = described.get("value")
        value = stated if isinstance(stated, int) and not isinstance(stated, bool) else None
        if name.lower() == BACKGROUND:
            if value != 0:
                raise _FaultError(
                    "background is not 0", f"Leave it out, or write `{name} = 0`: 0 is the background of all files."
                )
            continue
        _check_name(name, "label")
        if value is not None and value > 255:
            used = {d.get("value") if isinstance(d, dict) else d for d in table.values()}
            free = next(number for number in range(1, 256) if number not in used)
            raise _FaultError(
                f"the value of the label {name} is {value}, and datasets hold values of 1 to 255",
                f"Write a smaller one into the label files (`array[array == {value}] = {free}`), and here "
                f"`{name} = {free}`.",
            )
        if value is None or value < 1:
            why = "is not a whole number" if value is None else "is not 1 to 255"
            raise _FaultError(
                f"the value of the label {name} {why}",
                f"{_form_of(f'the label {name}', f'{name} = 1')} The number is what its voxels are in the files.",
            )
        if value in found:
            raise _FaultError(
                f"the labels {found[value].name} and {name} both have the value {value}",
                "Leave one out, or give each the number that its voxels have in the files.",
            )
        colour = str(described.get("colour", _COLOURS.get(name, colours[number % len(colours)])))
        if not re.fullmatch(r"#[0-9a-fA-F]{6}", colour):
            form = f'{name} = {{ value = {value}, colour = "#d55e00" }}'
            raise _FaultError(f"the colour of the label {name} is not #rrggbb", _form_of(f"the label {name}", form))
        found[value] = Label(name, value, str(described.get("meaning", _MEANINGS.get(name, name))), colour)
    if not found:
        raise _FaultError("it has no label in a table [labels]", _form_of("labels"))
    return tuple(found.values())
