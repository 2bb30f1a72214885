"""Samples seen in another way: some rows of a source, several sources one after another. Nothing is copied."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from synthkit.contract import Sample, Samples
from synthkit.data.format import content_digest
from synthkit.data.patients import patient_behind
from synthkit.errors import DataError
from synthkit.schemes import Scheme, enumerated

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from synthkit.contract import UInt8Array


class Readable:
    """What every source of samples shares; a subclass sets the attributes below and defines ``read``."""

    contrasts: tuple[str, ...]
    scheme: Scheme
    label_values: tuple[int, ...]
    size: tuple[int, int]
    samples: Sequence[Sample]

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def digest(self) -> str:
        return content_digest(self.contrasts, self.scheme, self.size, self.samples)

    @property
    def subjects(self) -> tuple[str, ...]:
        """Real subjects among the samples, sorted."""
        return tuple(sorted({row.subject for row in self.samples if row.subject is not None}))

    @property
    def patients(self) -> dict[str, str]:
        """Subject -> patient, of the real subjects among the samples."""
        return {row.subject: patient for row in self.samples if row.subject and (patient := patient_behind(row))}

    def read(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> tuple[UInt8Array, UInt8Array]:
        raise TypeError("a source of samples defines read")

    def batches(self, batch_size: int) -> Iterator[tuple[UInt8Array, UInt8Array]]:
        for start in range(0, len(self), batch_size):
            yield self.read(range(start, min(start + batch_size, len(self))))


class View(Readable):
    """Some rows of a source, in a given order. Reads go through to the source."""

    def __init__(self, source: Samples, indices: Sequence[int]) -> None:
        self.source = source
        self.indices = np.asarray(indices, dtype=np.int64)
        self.contrasts = source.contrasts
        self.scheme = source.scheme
        self.label_values = source.label_values
        self.size = source.size
        self.samples = [source.samples[i] for i in self.indices]

    def read(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> tuple[UInt8Array, UInt8Array]:
        wanted = np.asarray(indices, dtype=np.int64)
        if wanted.size and wanted.min() < 0:
            raise IndexError(f"sample {wanted.min()} of {len(self)}")
        return self.source.read(self.indices[wanted])


class _Renumbered(Readable):
    """A source whose labels are read with the values of another scheme, of the same names."""

    def __init__(self, source: Samples, scheme: Scheme, values: Mapping[int, int]) -> None:
        self.source = source
        self.contrasts, self.size, self.samples = source.contrasts, source.size, source.samples
        self.scheme, self.label_values = scheme, scheme.values
        self._table = np.zeros(256, dtype=np.uint8)
        self._table[list(values)] = list(values.values())

    def read(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> tuple[UInt8Array, UInt8Array]:
        images, labels = self.source.read(indices)
        return images, self._table[labels]


def with_scheme(source: Samples, scheme: Scheme) -> Samples:
    """The source with labels by the values of ``scheme``; itself where it writes them so.

    Raises
    ------
    DataError : its labels have other names.
    """
    if source.scheme.label_values == scheme.label_values:
        return source
    values = scheme.reads(source.scheme)
    if values is None or len(values) < len(scheme.values):
        names = [enumerated([*one.label_values][1:]) or "no labels" for one in (scheme, source.scheme)]
        raise DataError(
            "The datasets have different labels.",
            f"One has {names[0]}, another {names[1]}.",
            "Use datasets of the same labels; if files were read by a wrong label scheme, prepare or import them with "
            "--labels.",
        )
    return _Renumbered(source, scheme, values)


class Joined(Readable):
    """Several sources one after another; contrasts, names of labels and size must agree.

    Labels have the values of the first source's scheme.
    """

    def __init__(self, sources: Sequence[Samples]) -> None:
        first = sources[0]
        for other in sources[1:]:
            for what in ("contrasts", "size"):
                if getattr(other, what) != getattr(first, what):
                    raise DataError(
                        "The datasets cannot be joined.",
                        f"Their {what.replace('_', ' ')} differ: {getattr(first, what)} and {getattr(other, what)}.",
                        "Prepare them with the same contrasts and size.",
                    )
        self.sources = [with_scheme(source, first.scheme) for source in sources]
        self.contrasts, self.size = first.contrasts, first.size
        self.scheme, self.label_values = first.scheme, first.label_values
        self.samples = [row for source in sources for row in source.samples]
        self._starts = np.cumsum([0, *(len(source) for source in sources)])

    def read(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> tuple[UInt8Array, UInt8Array]:
        wanted = np.asarray(indices, dtype=np.int64)
        images = np.empty((len(wanted), len(self.contrasts), *self.size), dtype=np.uint8)
        labels = np.empty((len(wanted), *self.size), dtype=np.uint8)
        owner = np.searchsorted(self._starts, wanted, side="right") - 1
        for number in np.unique(owner):
            here = np.flatnonzero(owner == number)
            images[here], labels[here] = self.sources[number].read(wanted[here] - self._starts[number])
        return images, labels
