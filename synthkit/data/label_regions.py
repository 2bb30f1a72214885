"""Labels that a table gives as regions of several values, as nnU-Net 2 does to train on regions: what each value is.

nnU-Net lists regions by the values that they consist of, such as whole tumour: 1, 2, 3. Its predictions are painted one
region after the other, each with its value of ``regions_class_order`` (Isensee et al. 2021, doi
10.1038/s41592-020-01008-z, and the documentation of nnU-Net 2 on region-based training): so a value is what later
regions leave of the region that it stands for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

Values = Mapping[str, tuple[int, ...]]

_BACKGROUND = "background"


def parts_of_regions(
    named: Values, order: object, meant: Callable[[str], tuple[str, ...]]
) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[str, ...]]]:
    """Single labels from regions, and the regions of them.

    Parameters
    ----------
    named : region or label -> its values, in the order of the file.
    order : the ``regions_class_order`` beside them, if there is one.
    meant : name -> our labels that it speaks of.

    Returns
    -------
    label -> its one value, background first; and region -> its labels. No regions where they are the whole tumour, its
    core and the enhancing tumour: what is in one of them and not in the next has names of its own.

    Raises
    ------
    ValueError : what a value is stays open; the text says why, and begins a sentence.
    """
    regions = {name: values for name, values in named.items() if set(values) != {0}}
    by_value = _painted(regions, order)
    tumour = _parts_of_tumour(regions, meant)
    if tumour is not None:
        return {_BACKGROUND: (0,), **tumour}, {}
    if by_value is None:
        raise ValueError(
            "it has regions that are not whole tumour, core and ET inside one another, and no regions_class_order says "
            "what each value is"
        )
    return _rests(regions, by_value)


def _painted(regions: Values, order: object) -> dict[int, str] | None:
    """Value -> the region that it stands for; None without an order.

    Raises
    ------
    ValueError : the order does not give each region a value, or what it paints is not what the regions say.
    """
    if order is None:
        return None
    given = list(order) if isinstance(order, list | tuple) else []
    numbers = [value for value in given if isinstance(value, int) and not isinstance(value, bool)]
    if len(numbers) != len(given) or len(numbers) != len(regions) or len(set(numbers)) < len(numbers):
        raise ValueError(f"its regions_class_order {order} does not have one value for each region")
    by_value = dict(zip(numbers, regions, strict=True))
    for value in sorted({value for values in regions.values() for value in values}):
        last = [name for name, values in regions.items() if value in values][-1]
        if by_value.get(value) != last:
            stands = f"is that of {by_value[value]}" if value in by_value else "is not in it"
            raise ValueError(
                f"by its regions {value} is the rest of {last}, but in regions_class_order {given} it {stands}"
            )
    if strange := set(numbers) - {value for values in regions.values() for value in values}:
        raise ValueError(f"no region has the value {min(strange)} of regions_class_order")
    return by_value


def _parts_of_tumour(regions: Values, meant: Callable[[str], tuple[str, ...]]) -> dict[str, tuple[int, ...]] | None:
    """Oedema, necrosis and enhancing tumour from the nested regions of BraTS, with labels beside them; None for others.

    What is in the whole tumour and not in its core is oedema.
    """
    nested: dict[str, set[int]] = {}
    beside: dict[str, tuple[int, ...]] = {}
    for name, values in regions.items():
        labels = meant(name)
        is_core = not labels and re.search(r"tumou?r core|\btc\b", re.sub(r"[^a-z]+", " ", name.lower()))
        key = "TC" if is_core else labels[0] if labels in (("WT",), ("ET",)) else ""
        if key and key not in nested:
            nested[key] = set(values)
        elif not key and len(labels) == 1 and len(values) == 1:
            beside[name] = values
        else:
            return None
    if set(nested) != {"WT", "TC", "ET"} or not nested["ET"] < nested["TC"] < nested["WT"]:
        return None
    parts = {
        "oedema": nested["WT"] - nested["TC"],
        "necrosis": nested["TC"] - nested["ET"],
        "enhancing": nested["ET"],
    }
    if any(len(values) != 1 for values in parts.values()):
        raise ValueError("a part of its regions has several values")
    if any(value in nested["WT"] for values in beside.values() for value in values):
        raise ValueError("a value is a label of its own and in a region")
    return {**{name: tuple(values) for name, values in parts.items()}, **beside}


def _rests(
    regions: Values, by_value: Mapping[int, str]
) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[str, ...]]]:
    """Labels called as their regions, or as the rest of these, and the regions of several of them."""
    names = {value: name if len(regions[name]) == 1 else f"rest of {name}" for value, name in by_value.items()}
    labels: dict[str, tuple[int, ...]] = {_BACKGROUND: (0,), **{name: (value,) for value, name in names.items()}}
    several = {name: tuple(names[value] for value in values) for name, values in regions.items() if len(values) > 1}
    return labels, several
