"""Datasets from pictures that others made, in any layout that :func:`find_source` knows.

Every picture is read twice: once to see that all fit and how values and labels are coded, once to be written. So what
is refused leaves nothing behind, and nothing is decided from the first few pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synthkit.data.channel_options import Channels
from synthkit.data.dataset import Dataset
from synthkit.data.format import is_described, is_safe_name
from synthkit.data.grey_values import GreyValues, parse_range
from synthkit.data.imported_people import people_of_table, settled_by_pictures, with_patients
from synthkit.data.label_counts import LabelCounts
from synthkit.data.label_levels import LabelLevels, parse_levels, whole_labels
from synthkit.data.named_schemes import scheme_named
from synthkit.data.naming import NameFinding, identify
from synthkit.data.picture_channels import find_unnamed
from synthkit.data.picture_layouts import RawSample, Source, find_named, folded, names_say, refuse_channels
from synthkit.data.picture_schemes import (
    Looks,
    in_other_order,
    looks_otherwise,
    other_order,
    scheme_beside,
    schemes_by_ids,
)
from synthkit.data.png_folders import SCHEME, ChannelNames
from synthkit.data.sample_tables import rows_for, table_of
from synthkit.data.shards import map_threads
from synthkit.data.writer import DatasetWriter, check_replaceable, remove_dataset, replacing
from synthkit.errors import DataError, SynthkitError, UsageError
from synthkit.schemes import BRATS, Scheme, enumerated

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from synthkit.contract import UInt8Array

#: ``(stage, done, total)``, where the stage is "check", "compare" (subjects of real samples) or "write".
OnProgress = Callable[[str, int, int], None]
#: What is counted in each stage.
PROGRESS = {"check": "sample checked", "compare": "subject compared", "write": "sample written"}

_BATCH = 32
# Images by which imported channels are judged, from all over the dataset.
_N_JUDGED = 128


@dataclass
class ImportSummary:
    """What came in.

    Attributes
    ----------
    n_samples, contrasts, size : of the dataset; size (y, x) in pixels.
    layout : how the pictures lay, in words.
    off_level_pixels, off_level_samples : pixels between the grey levels of two labels, as blurred edges of generated
        labels are, and samples that have such.
    label_pixels, label_samples : of each label, pixels and samples that have any; empty without labels.
    notes : what was concluded from names, shapes and values, a line each.
    warnings : what may mislead: contrasts that are nearly black, labels that are all background.
    left_out : files and folders that were not imported.
    contrast_findings : which channels look like another contrast, or cannot be told from one.
    labels_are_elsewhere : labels fit the images better mirrored or turned.
    """

    n_samples: int
    contrasts: tuple[str, ...]
    size: tuple[int, int]
    layout: str = ""
    off_level_pixels: int = 0
    off_level_samples: int = 0
    label_pixels: dict[str, int] = field(default_factory=dict)
    label_samples: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    contrast_findings: list[NameFinding] = field(default_factory=list)
    labels_are_elsewhere: bool = False

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def find_source(path: Path, channels: Channels, scheme: Scheme | None = None) -> Source:
    """The pictures at a path, a folder or one file, by the first layout that fits: names before ``channels``.

    ``scheme`` is that of the labels, where it is said.

    Raises
    ------
    DataError : nothing there, or names and shapes that do not fit.
    UsageError : channels that are not named, or are although names of folders say them.
    """
    if not path.exists():
        raise DataError(f"There is no folder {path}.", fix="Check the path.")
    named = None
    if path.is_dir() and (channels.names is None or names_say(path, channels.known)):
        named = find_named(path, channels.without_labels, channels.known, scheme)
    if named is None:
        return find_unnamed(path, channels)
    refuse_channels(path, named, channels.given)
    return named


def import_images(
    path: Path,
    out: Path,
    *,
    kind: str = "synthetic",
    channels: Channels | None = None,
    value_range: str | None = None,
    labels: str | None = None,
    label_levels: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
    on_progress: OnProgress = lambda stage, done, total: None,
) -> ImportSummary:
    """Import pictures as a dataset.

    All pictures are read and judged before anything is written.

    Parameters
    ----------
    path : a folder of pictures, or one file of arrays.
    out : folder of the dataset.
    kind : "real" takes subjects, slices and splits from the ``samples.csv`` that :func:`export_dataset` wrote beside
        the pictures; "synthetic" ignores them.
    channels : which channel is which, where names do not say it; and whether labels are left out.
    value_range : the values that become 0 and 255, ``"0,4095"``, for images that are not 8-bit greys; images with
        others are refused.
    labels : the label scheme, a name or a TOML file as :func:`synthkit.data.named_schemes.scheme_named` takes it; by
        default what the pictures' own description says, else what their ids say, else that of BraTS up to 2020 for its
        grey levels.
    label_levels : how labels are written, see :func:`synthkit.data.label_levels.parse_levels`; None for the grey levels
        of exports, or label values in arrays and volumes.
    overwrite : replaces a dataset at ``out``, and nothing else, once all pictures are found to fit and are written.
    dry_run : judges all pictures and writes nothing.

    Raises
    ------
    DataError : missing, damaged or ambiguous pictures, sizes that differ, values that are no greys and no labels; of
        real samples, a picture without a row in the table, a row whose split is neither train nor holdout, or subjects
        that are one person by their ids or pictures, as :mod:`synthkit.data.imported_people` says.
    UsageError : ``out`` holds something that may not be replaced, or the options do not fit the layout.
    """
    if kind not in ("real", "synthetic"):
        raise UsageError(f"--as {kind} is not understood.", fix="Write synthetic or real.")
    if is_described(path):
        raise UsageError(
            f"{path} is a dataset already.",
            "Pictures become one by an import.",
            "Use it as it is: `synthkit train NAME DATASET`, or as REAL or SYNTHETIC of an evaluation.",
        )
    _check_out(out, resume, overwrite)
    greys_asked = parse_range(value_range) if value_range else None
    described = None if labels else scheme_beside(path)
    said = scheme_named(labels) if labels else described[0] if described else None
    known = ChannelNames(said or BRATS, described[1] if described else ())
    channels = (channels or Channels()).with_known(known)
    source = find_source(path, channels, said)
    if unsafe := [name for name in source.ids if not is_safe_name(name)]:
        raise DataError(
            f"{unsafe[0]!r} cannot be the name of a sample.",
            "Exports name files after it.",
            "Rename the picture: no dot in front, at most 200 bytes.",
        )
    table = rows_for(table_of(path), source.ids) if kind == "real" else {}
    people = people_of_table(table_of(path), {name: table[name] for name in source.ids}) if table else None
    greys = GreyValues(source.contrasts, greys_asked)
    ways, looks = _ways_of(path, source, said, label_levels), Looks(source.contrasts, len(source.ids))
    size = _check_all(source, greys, ways, looks, on_progress)
    counts = min(ways, key=lambda way: way.n_off)  # of equal ones the first, which has fewer labels
    scheme = counts.scheme
    summary = ImportSummary(len(source.ids), source.contrasts, size, source.layout, left_out=source.left_out)
    summary.notes = [*source.notes, *greys.check(str(path))]
    if described:
        summary.notes.append(f"Labels and contrasts are those that {SCHEME} names ({scheme.name or 'without a name'}).")
    if strange := [name for name in source.contrasts if name not in known.named]:
        summary.notes.append(f"Nothing is known of the contrast{'s' * (len(strange) > 1)} {enumerated(strange)}.")
    if kind == "synthetic" and table_of(path).is_file():
        summary.notes.append("samples.csv is not read: the samples count as synthetic (--as real reads it).")
    levels = _judge_labels(str(path), source, counts, looks, summary)
    summary.warnings += greys.warnings()
    if people:
        compared = partial(on_progress, "compare")
        people = settled_by_pictures(table_of(path), table, people, source, greys, scheme, compared)
        summary.notes += people.notes
        table = with_patients(table, people)
    if dry_run:
        return summary
    was_empty_folder = out.is_dir() and not any(out.iterdir())
    with replacing(out, overwrite and not resume):
        try:
            rows = [table.get(name) or {"id": name, "split": "synthetic"} for name in source.ids]
            with _writer(out, source, scheme, size, kind, greys, levels, resume) as writer:
                done = {row.id for row in writer.samples}
                todo = [i for i, name in enumerate(source.ids) if name not in done]
                for batch, images, own in _batches(source, todo, greys, levels):
                    writer.append(images, own, [rows[i] for i in batch])
                    on_progress("write", writer.n_samples, len(source.ids))
        except SynthkitError:
            if not resume:  # a picture has changed since it was checked: no half of a dataset is left
                remove_dataset(out)
                if was_empty_folder:
                    out.mkdir()
            raise
    judged = np.linspace(0, len(source.ids) - 1, min(len(source.ids), _N_JUDGED)).round().astype(np.intp)
    images, maps = Dataset(out).read(judged)
    if summary.labels_are_elsewhere:  # they would tell wrong contrasts
        maps = np.zeros_like(maps)
    summary.contrast_findings = identify(images, maps, source.contrasts, scheme)
    return summary


def _check_out(out: Path, resume: bool, overwrite: bool) -> None:
    """Before the long reading; the writer looks again."""
    if overwrite:
        check_replaceable(out)
    elif not resume and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(
            f"The output {out} is {'not empty' if out.is_dir() else 'not a folder'}.",
            "Nothing is overwritten unasked.",
            "Choose another folder; a dataset is replaced by --overwrite, and continued by --resume.",
        )


def _ways_of(path: Path, source: Source, said: Scheme | None, levels: str | None) -> list[LabelCounts]:
    """Counts of labels by each scheme that they may have: of several, ids leave open whether there is a label 4."""
    stated = source.scheme or said
    schemes, by_ids = schemes_by_ids(path, source.ids) if stated is None and source.has_labels else ([], "")
    schemes = [stated] if stated else schemes or [BRATS]
    ways: list[LabelCounts] = []
    problem: UsageError | None = None
    for k, scheme in enumerate(schemes):
        try:
            asked = parse_levels(levels, scheme) if levels else source.levels
        except UsageError as error:  # a label that only one of them has
            problem = problem or error
            continue
        is_said, is_newer = stated is not None, source.style == "new"
        ways.append(LabelCounts(asked, scheme, is_said=is_said, by_ids=by_ids, by_a_four=k > 0, is_newer=is_newer))
    if problem and not ways:
        raise problem
    return ways


def _check_all(
    source: Source, greys: GreyValues, ways: Sequence[LabelCounts], looks: Looks, on_progress: OnProgress
) -> tuple[int, int]:
    """Read every sample; returns the size (y, x) that all have."""
    first = source.read(0).planes[0].shape
    for start in range(0, len(source.ids), _BATCH):
        batch = range(start, min(start + _BATCH, len(source.ids)))
        for i, sample in zip(batch, map_threads(source.read, batch), strict=True):
            _check_size(source.ids[i], source, sample, first)
            greys.add(source.ids[i], sample.planes)
            if sample.labels is not None:
                labels = whole_labels(source.ids[i], sample.labels)
                for counts in ways:
                    counts.add(source.ids[i], labels, are_values=sample.labels_are_values)
                looks.add(i, sample.planes, labels)
        on_progress("check", batch.stop, len(source.ids))
    return int(first[0]), int(first[1])


def _check_size(name: str, source: Source, sample: RawSample, first: tuple[int, ...]) -> None:
    planes = dict(zip(source.contrasts, sample.planes, strict=True))
    if sample.labels is not None:
        planes["label"] = sample.labels
    for channel, plane in planes.items():
        if plane.shape != first:
            shape = " x ".join(map(str, plane.shape[::-1]))
            raise DataError(
                f"The {channel} picture of {name} has {shape} pixels.",
                f"The first picture, {source.contrasts[0]} of {source.ids[0]}, has {first[1]} x {first[0]}.",
                "All pictures of a dataset have one size.",
            )


def _judge_labels(
    where: str, source: Source, counts: LabelCounts, looks: Looks, summary: ImportSummary
) -> LabelLevels | None:
    if not source.has_labels:
        summary.notes.append("Images are imported alone: all labels are background.")
        return None
    levels, notes = counts.decide(where)
    summary.notes += notes
    summary.label_pixels, summary.label_samples = counts.pixels(levels), counts.samples(levels)
    summary.off_level_pixels, summary.off_level_samples = counts.off_level(levels)
    if not any(pixels for name, pixels in summary.label_pixels.items() if counts.scheme.label_values[name]):
        summary.warnings.append("All labels are background: no pixel is of any other label.")
    why, known = looks.contradiction(where, levels.table, counts.scheme)
    summary.labels_are_elsewhere = known.places is not None and known.places.are_elsewhere
    if why and counts.by_ids:
        raise looks_otherwise(why, known, counts.scheme, counts.by_ids)
    if why and not (counts.is_said or levels.by_name) and (order := other_order(known, counts.scheme)):
        raise in_other_order(why, known, counts.scheme, order, levels)
    if why:
        summary.warnings.append(f"Labels do not look like those of {counts.scheme.name or 'their names'}: {why}.")
    return levels


def _writer(
    out: Path,
    source: Source,
    scheme: Scheme,
    size: tuple[int, int],
    kind: str,
    greys: GreyValues,
    levels: LabelLevels | None,
    resume: bool,
) -> DatasetWriter:
    return DatasetWriter(
        out,
        contrasts=source.contrasts,
        scheme=scheme,
        size=size,
        kind="real" if kind == "real" else "synthetic",
        provenance={
            "imported_from": "arrays" if source.layout == "arrays" else "pictures",
            "layout": source.layout,
            "range": list(greys.given) if greys.given else None,
            "label_levels": {str(grey): label for grey, label in levels.levels.items()} if levels else None,
            "labels": source.has_labels,
        },
        resume=resume,
    )


def _batches(
    source: Source, todo: list[int], greys: GreyValues, levels: LabelLevels | None
) -> Iterator[tuple[list[int], UInt8Array, UInt8Array]]:
    def load(i: int) -> tuple[UInt8Array, UInt8Array]:
        sample = source.read(i)
        images = np.stack([greys.greys(plane) for plane in sample.planes])
        if sample.labels is None or levels is None:
            return images, np.zeros(images.shape[1:], np.uint8)
        labels: NDArray[Any] = whole_labels(source.ids[i], sample.labels)
        return images, levels.table[labels]

    for start in range(0, len(todo), _BATCH):
        batch = todo[start : start + _BATCH]
        loaded = map_threads(load, batch)
        yield batch, np.stack([images for images, _ in loaded]), np.stack([labels for _, labels in loaded])


def left_out_lines(summary: ImportSummary) -> list[str]:
    """What is left out, in a line for the user; the first twenty names."""
    if not summary.left_out:
        return []
    return [f"Left out ({len(summary.left_out):,}): {', '.join(folded(summary.left_out))}."]
