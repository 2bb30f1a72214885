"""Features of all sets, by one pass through a network; those of real images may come from an earlier run.

What is kept says of which images it is (their digests, in order), of which network (the digest of its weights), and how
images were prepared: the first images of every set go through the network again, and have to come out as they did.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from synthkit_features import Extractor

import synthkit
from synthkit.contract import Samples
from synthkit.errors import DataError
from synthkit_fidelity import Params
from synthkit_fidelity.sets import FeatureSet, Indices, draw, groups_of

#: Samples read at a time, and as many are compared with what was kept of them.
READ = 32
#: What features of the same image may differ by: batches, threads and processors round differently.
SAME = 1e-4

#: Of one role: features and logits (None if nobody asks for them, or the network has none) of each contrast.
Arrays = dict[str, tuple[NDArray[np.float32], NDArray[np.float32] | None]]


def feature_sets(
    given: Mapping[str, Samples], network: Extractor, params: Params, *, with_logits: bool, kept: Path | None = None
) -> dict[str, dict[str, FeatureSet]]:
    """Features of each role and contrast, at most ``params.max_images`` of each; of ``kept``, where it has the role.

    Raises :class:`DataError` where what was kept is not of these images, network and parameters.
    """
    chosen = chosen_images(given, params)
    known = {} if kept is None else _read(kept, given, chosen, network, with_logits)
    work = {role: indices[:READ] if role in known else indices for role, (indices, _) in chosen.items()}
    total, done = sum(map(len, work.values())), 0
    found = {}
    for role, samples in given.items():
        arrays = _extract(samples, work[role], network, with_logits, (done, total))
        done += len(work[role])
        if role in known:
            _check_same(known[role], arrays, role)
            arrays = known[role]
        indices, group = chosen[role]
        numbered = np.unique(group[indices], return_inverse=True)[1].astype(np.int64)
        found[role] = {contrast: FeatureSet(values, numbered, logits) for contrast, (values, logits) in arrays.items()}
    return found


def chosen_images(given: Mapping[str, Samples], params: Params) -> dict[str, tuple[Indices, Indices]]:
    """Which images of each role are scored, and the patient of all."""
    chosen = {}
    for role, samples in given.items():
        # A generator each: what is drawn of one set does not depend on which others there are.
        group, rng = groups_of(samples.samples), np.random.default_rng([params.seed, *role.encode()])
        chosen[role] = draw(group, params.max_images, rng), group
    return chosen


def _extract(
    samples: Samples, indices: Indices, network: Extractor, with_logits: bool, progress: tuple[int, int]
) -> Arrays:
    values: dict[str, list[NDArray[np.float32]]] = {contrast: [] for contrast in samples.contrasts}
    logits: dict[str, list[NDArray[np.float32]]] = {contrast: [] for contrast in samples.contrasts}
    done, total = progress
    for start in range(0, len(indices), READ):
        images, _ = samples.read(indices[start : start + READ])
        for number, contrast in enumerate(samples.contrasts):
            of_images, of_classes = network.with_logits(images[:, number])
            values[contrast].append(of_images)
            if with_logits and of_classes is not None:
                logits[contrast].append(of_classes)
        done += len(images)
        synthkit.progress(done, total, unit="sample")
    return {
        contrast: (np.concatenate(parts), np.concatenate(logits[contrast]) if logits[contrast] else None)
        for contrast, parts in values.items()
    }


# ----------------------------------------------------------------------------------------------- for later runs


def to_keep(
    sets: Mapping[str, Mapping[str, FeatureSet]], given: Mapping[str, Samples], network: Extractor, params: Params
) -> dict[str, NDArray[Any]]:
    """The arrays of :class:`synthkit.contract.Kept`."""
    arrays: dict[str, NDArray[Any]] = {"network": np.array(network.sha256)}
    for role, (indices, _) in chosen_images(given, params).items():
        arrays[f"{role}/images"] = _digests(given[role], indices)
        for contrast, one in sets[role].items():
            arrays[f"{role}/{contrast}"] = one.values
            if one.logits is not None:
                arrays[f"{role}/{contrast}/logits"] = one.logits
    return arrays


def _digests(samples: Samples, indices: Indices) -> NDArray[np.str_]:
    rows = samples.samples
    return np.array([rows[index].digest for index in indices.tolist()])


def _read(
    kept: Path,
    given: Mapping[str, Samples],
    chosen: Mapping[str, tuple[Indices, Indices]],
    network: Extractor,
    with_logits: bool,
) -> dict[str, Arrays]:
    """Of each role but the synthetic one."""
    found: dict[str, Arrays] = {}
    with np.load(kept, allow_pickle=False) as file:
        if str(file["network"]) != network.sha256:
            raise _other("the feature network", "Its weights were another file.")
        for role, (indices, _) in chosen.items():
            if role == "synthetic":
                continue
            samples, images = given[role], f"{role}/images"
            if images not in file.files or not np.array_equal(file[images], _digests(samples, indices)):
                raise _other(f"the {role} images", "Dataset, split, max_images and seed have to be those of that run.")
            logits = {contrast: f"{role}/{contrast}/logits" for contrast in samples.contrasts}
            if (
                with_logits
                and network.n_classes is not None
                and not all(name in file.files for name in logits.values())
            ):
                raise _other("the metrics", "It has not kept what the Inception score needs.")
            found[role] = {
                contrast: (file[f"{role}/{contrast}"], file[name] if with_logits and name in file.files else None)
                for contrast, name in logits.items()
            }
    return found


def _check_same(kept: Arrays, again: Arrays, role: str) -> None:
    for contrast, pairs in again.items():
        for old, new in zip(kept[contrast], pairs, strict=True):
            if old is None or new is None:
                continue
            first = old[: len(new)]
            if first.shape != new.shape or np.abs(first - new).max() > SAME * max(float(np.abs(new).max()), 1e-30):
                raise _other("the features", f"The first {role} images have others now: the method, or a library, is.")


def _other(what: str, why: str) -> DataError:
    return DataError(
        f"What --kept gives is not of this run: {what} differ{'' if what.endswith('s') else 's'}.",
        why,
        "Make it again with --keep, from the same metrics, --real, --features and parameters; or leave --kept out.",
    )
