"""The one object that says what contrasts, labels and regions are: BraTS as it is, and what any scheme promises."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthkit.schemes import BRATS, FURTHER_COLOURS, Contrast, Label, Region, Scheme, enumerated

# Two labels and one contrast, of no study: the values are neither in order nor next to each other.
LIVER = Scheme(
    name="liver",
    family="Liver",
    contrasts=(Contrast("ct", "CT", ("ct", "venous")),),
    labels=(Label("vessel", 7, "vessels", "#112233"), Label("lesion", 3, "lesion", "#c0ffee")),
    nested=(Region("all", ("lesion", "vessel"), "everything drawn"),),
    mean_of=("vessel", "all"),
)

names = st.text("abcdefghij", min_size=1, max_size=6)


@st.composite
def schemes(draw: st.DrawFn) -> Scheme:
    """Any number of contrasts and labels, a nested region of some of them, a mean of some regions."""
    used = draw(st.lists(names.filter(lambda name: name != "mean"), unique=True, min_size=3, max_size=12))
    n_contrasts = draw(st.integers(1, len(used) - 2))
    labelled = used[n_contrasts:-1]
    values = draw(st.lists(st.integers(1, 255), unique=True, min_size=len(labelled), max_size=len(labelled)))
    colours = st.integers(0, 0xFFFFFF).map(lambda number: f"#{number:06x}")
    inner = draw(st.lists(st.sampled_from(labelled), unique=True, min_size=1))
    return Scheme(
        name="made-up",
        family="Made-up",
        contrasts=tuple(Contrast(name, name.upper(), (f"{name}-ending",)) for name in used[:n_contrasts]),
        labels=tuple(Label(n, v, f"the {n}", draw(colours)) for n, v in zip(labelled, values, strict=True)),
        nested=(Region(used[-1], tuple(inner), "some"),),
        mean_of=tuple(draw(st.lists(st.sampled_from([*labelled, used[-1]]), unique=True))),
    )


def test_brats_is_what_the_study_used() -> None:
    assert BRATS.contrast_names == ("t1", "t1ce", "t2", "flair")
    assert BRATS.label_values == {"background": 0, "NCR": 1, "ED": 2, "ET": 4} and BRATS.values == (0, 1, 2, 4)
    assert BRATS.label_names == {0: "background", 1: "NCR", 2: "ED", 4: "ET"}
    assert BRATS.region_values == {"NCR": (1,), "ED": (2,), "ET": (4,), "TC": (1, 4), "WT": (1, 2, 4)}
    assert BRATS.scored == ("NCR", "ED", "ET", "TC", "WT", "mean")
    assert BRATS.meanings["TC"] == "tumour core: NCR and ET" and BRATS.meanings["mean"] == "mean of NCR, ED and ET"
    assert BRATS.endings["t2f"] == "flair" and BRATS.endings["t1n"] == "t1" and BRATS.endings["segm"] == "seg"
    assert BRATS.colours(BRATS.label_values) == {"NCR": "#56b4e9", "ED": "#f0e442", "ET": "#d55e00"}


def test_labels_are_drawn_over_the_contrast_that_shows_most() -> None:
    assert BRATS.base_contrast(("t1", "flair", "t1ce")) == 2
    assert BRATS.base_contrast(("flair", "t2")) == 0
    assert BRATS.base_contrast(("t1", "t2")) == 1


def test_another_anatomy() -> None:
    assert LIVER.values == (0, 3, 7) and LIVER.contrast_names == ("ct",)
    assert LIVER.region_values == {"vessel": (7,), "lesion": (3,), "all": (3, 7)}
    assert LIVER.scored == ("vessel", "lesion", "all", "mean")
    assert LIVER.meanings == {
        "vessel": "vessels",
        "lesion": "lesion",
        "all": "everything drawn: lesion and vessel",
        "mean": "mean of vessel and all",
    }
    assert LIVER.endings == {"ct": "ct", "venous": "ct", "seg": "seg"}
    assert LIVER.rgb(LIVER.values) == {3: (0xC0, 0xFF, 0xEE), 7: (0x11, 0x22, 0x33)}
    assert LIVER.base_contrast(("ct",)) == 0


@settings(deadline=None)
@given(schemes())
def test_regions_names_values_and_colours_of_any_convention_agree(made: Scheme) -> None:
    assert list(made.label_values) == ["background", *(label.name for label in made.labels)]
    assert made.values == tuple(sorted(made.label_values.values())) and made.values[0] == 0
    # Every label is a region first, in the order of the labels, and regions hold nothing but labels above background.
    assert list(made.region_values)[: len(made.labels)] == [label.name for label in made.labels]
    assert all(made.region_values[label.name] == (label.value,) for label in made.labels)
    assert all(values and set(values) <= set(made.values) - {0} for values in made.region_values.values())
    assert made.scored == (*made.region_values, "mean") and set(made.meanings) == set(made.scored)
    assert set(made.mean_of) <= set(made.region_values)
    # A label has one colour, whether it is asked for by name or by value.
    by_name, by_value = made.colours(made.label_values), made.rgb(made.values)
    assert set(by_name) == {label.name for label in made.labels} and set(by_value) == set(made.values) - {0}
    for label in made.labels:
        assert by_name[label.name] == label.colour == "#" + bytes(by_value[label.value]).hex()
    assert set(made.endings.values()) == {*made.contrast_names, "seg"}
    assert hash(made) == hash(replace(made))


def test_labels_of_other_conventions_take_further_colours_in_turn() -> None:
    found = BRATS.colours({"background": 0, "cavity": 4, "ET": 3, "a": 5, "b": 6, "c": 7})
    assert found["ET"] == "#d55e00" and "background" not in found
    assert [found[name] for name in ("cavity", "a", "b", "c")] == [*FURTHER_COLOURS, FURTHER_COLOURS[0]]
    assert not set(FURTHER_COLOURS) & {label.colour for label in BRATS.labels}
    assert list(BRATS.rgb((0, 4, 200))) == [4, 200]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"contrasts": LIVER.contrasts * 2}, "the contrast ct twice"),
        ({"label_endings": ("ct",)}, "the file ending ct twice"),
        ({"labels": (*LIVER.labels, Label("tumour", 3, "", "#000000"))}, "the label value 3 twice"),
        ({"labels": (*LIVER.labels, Label("tumour", 0, "", "#000000"))}, "the label value 0 twice"),
        ({"labels": (*LIVER.labels, Label("tumour", 256, "", "#000000"))}, "tumour of liver is not 1 to 255"),
        ({"labels": (*LIVER.labels, Label("mean", 1, "", "#000000"))}, "called mean, which means something else"),
        ({"nested": (Region("lesion", ("vessel",), ""),)}, "the region lesion twice"),
        ({"nested": (Region("all", ("bone",), ""),)}, "the region all of liver"),
        ({"nested": (Region("all", (), ""),)}, "the region all of liver"),
        ({"mean_of": ("bone",)}, "no region bone"),
        ({"drawn_on": ("t1",)}, "no contrast t1"),
        ({"brain_contrast": "t1"}, "no contrast t1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_convention_that_contradicts_itself_is_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        replace(LIVER, **changes)


@pytest.mark.parametrize("listed", [((), ""), (("a",), "a"), (("a", "b"), "a and b"), (("a", "b", "c"), "a, b and c")])
def test_names_in_a_sentence(listed: tuple[tuple[str, ...], str]) -> None:
    assert enumerated(listed[0]) == listed[1]


def test_importing_conventions_costs_nothing() -> None:
    code = "import sys, synthkit.schemes; assert not {'numpy', 'torch', 'nibabel'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_nothing_else_defines_what_a_convention_says() -> None:
    """The tuples of contrasts, of averaged labels and of label values stand in the scheme alone; tests may say."""
    root = Path(__file__).parents[1]
    sources = [*root.glob("synthkit/**/*.py"), *root.glob("synthkit/**/*.j2"), *root.glob("benchmarks/*.py")]
    sources += root.glob("plugins/*/*/src/**/*.py")
    repeated = re.compile(
        r"""["']t1["'], ["']t1ce["'], ["']t2["'], ["']flair["']|["']NCR["'], ["']ED["'], ["']ET["']|\(0, 1, 2, 4\)"""
        r"|t1,t1ce,t2,flair|0,1,2,4|[\"']mean of NCR"
    )
    found = {
        f"{path.relative_to(root)}: {line.strip()}"
        for path in sources
        for line in path.read_text(encoding="utf-8").splitlines()
        if repeated.search(line) and not line.lstrip().startswith(("#", "contrasts : "))
    }
    allowed = {"synthkit/schemes.py", "synthkit/data/phantom_tumour.py"}
    assert len(sources) > 100
    assert not {line for line in found if line.split(":")[0] not in allowed}
