"""Small subjects that one pass has read, kept so that the next one need not read them again."""

from __future__ import annotations

import threading
from dataclasses import replace

from synthkit.data.geometry import ArrangedVolumes
from synthkit.data.label_reading import read_as
from synthkit.data.subject_files import Subject

#: Bytes of volumes that are kept: three subjects of BraTS, or many small ones.
MOST_BYTES = 2**28


class KeptVolumes:
    """Subjects in memory, as many as ``most_bytes`` hold; later ones are not kept. Several threads may use it."""

    def __init__(self, most_bytes: int) -> None:
        self._left = most_bytes
        self._volumes: dict[str, ArrangedVolumes] = {}
        self._lock = threading.Lock()

    def keep(self, volumes: ArrangedVolumes) -> None:
        """Keep a subject, its labels as stored, if there is room."""
        arrays = [*volumes.images.values(), *([] if volumes.labels is None else [volumes.labels])]
        size = sum(array.nbytes for array in arrays)
        with self._lock:
            if size <= self._left:
                self._left -= size
                self._volumes[volumes.id] = volumes

    def take(self, subject: Subject) -> ArrangedVolumes | None:
        """A subject that was kept, its labels read as it says; it is not kept any longer. None if it was not."""
        with self._lock:
            volumes = self._volumes.pop(subject.id, None)
        if volumes is None or volumes.labels is None or subject.label_values is None:
            return volumes
        return replace(volumes, labels=read_as(volumes.labels, volumes.stored_labels, subject.label_values))
