"""What a generator promises about its samples."""

from __future__ import annotations

import io
import itertools
import os
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from synthkit.errors import DataError
from synthkit.testing.bench import SEEDS, PluginUnderTest, require, require_form, require_known_labels, require_same
from synthkit.testing.checks.registry import check

_TOO_MANY_AHEAD = 2048


@check("generator")
def samples_have_the_right_form(plugin: PluginUnderTest) -> None:
    """One sample a seed: uint8 image (contrast, y, x) and uint8 labels (y, x) that hold known values only."""
    require_form(plugin.outputs(), len(SEEDS), 4, plugin.size)
    require_known_labels(plugin.outputs(), plugin.dataset().label_values)


@check("generator")
def sample_belongs_to_its_seed(plugin: PluginUnderTest) -> None:
    """A sample depends on its seed alone: neither on its place in the list, nor on its neighbours, nor on the batch.

    Images of another order or another batch may differ by one grey level, since floats are added in another order.
    """
    reference = dict(zip(SEEDS, plugin.outputs(), strict=True))
    for seeds, when in (
        (SEEDS[::-1], "in another order"),
        (SEEDS[3:4], "alone"),
        ((99, *SEEDS[1:3], 98), "among others"),
    ):
        made = dict(zip(seeds, plugin.generate(plugin.trained(), seeds), strict=True))
        common = [seed for seed in seeds if seed in reference]
        require_same([reference[s] for s in common], [made[s] for s in common], when)


@check("generator")
def seeds_make_different_samples(plugin: PluginUnderTest) -> None:
    """Different seeds make different samples, those beyond 32 bits included."""
    made = dict(zip(SEEDS, plugin.outputs(), strict=True))
    # Two more that equal others in their low or high half.
    twins = (SEEDS[1] + 2**32, SEEDS[0] + 2**40)
    made |= dict(zip(twins, plugin.generate(plugin.trained(), twins), strict=True))
    for a, b in itertools.combinations(made, 2):
        require(
            not all(np.array_equal(x, y) for x, y in zip(made[a], made[b], strict=True)),
            f"the seeds {a} and {b} make the same sample",
        )


@check("generator")
def samples_come_as_they_are_made(plugin: PluginUnderTest) -> None:
    """The first sample comes before all seeds are read, so that a million samples need no more memory than ten."""
    taken = 0

    def endless() -> Iterator[int]:
        nonlocal taken
        for seed in itertools.count():
            taken = seed + 1
            require(taken <= _TOO_MANY_AHEAD, f"it reads more than {_TOO_MANY_AHEAD} seeds before the first sample")
            yield seed

    made = iter(plugin.module.generate(plugin.trained(), endless(), plugin.params))
    next(made)
    if hasattr(made, "close"):
        made.close()


@check("generator")
def foreign_files_are_not_executed(plugin: PluginUnderTest) -> None:
    """Importing a file of another project runs nothing that is stored in it; what is wrong with it is a DataError."""
    if not getattr(plugin.declaration, "imports", ()):
        return  # it reads no files of other projects
    folder, module = plugin.folder(), plugin.module
    made = folder / "made"
    for number, (what, content) in enumerate(_foreign_files(made)):
        file, checkpoint = folder / f"foreign{number}", folder / f"checkpoint{number}"
        checkpoint.mkdir()
        file.write_bytes(content)
        try:
            module.import_checkpoint(
                file, checkpoint, contrasts=("t1", "t2"), label_values=(0, 4), params=plugin.params
            )
            reason = "took it for a checkpoint"
        except DataError:
            reason = ""
        except Exception as error:
            reason = f"raised {type(error).__name__}, which is not a DataError"
        require(not made.exists(), f"{what}: it executed code that is stored in the file")
        require(not reason, f"{what}: it {reason}")


class _MakesFolder:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def _foreign_files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Files that make ``folder`` where they are executed: a pickle, and one as torch packs it; then damaged ones."""
    hostile = pickle.dumps({"G_ema": _MakesFolder(folder)}, protocol=2)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("archive/data.pkl", hostile)
        archive.writestr("archive/version", b"3\n")
        archive.writestr("archive/byteorder", b"little")
    yield "a hostile pickle", hostile
    yield "a hostile file of torch", packed.getvalue()
    yield "a truncated pickle", hostile[:20]
    yield "an empty file", b""
    yield "a text", b"weights"
