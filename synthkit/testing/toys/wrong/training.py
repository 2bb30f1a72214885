"""Wrong trainings and checkpoints, for the generator and, where it makes a difference, for the segmenter."""

from __future__ import annotations

import itertools
import json
import pickle
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import synthkit
from synthkit.contract import Samples
from synthkit.testing.toys import GENERATOR, SEGMENTER, generator, segmenter
from synthkit.testing.toys.statistics import STATE, learn, load
from synthkit.testing.toys.wrong.wrong import Wrong, method

#: Their trainings take nothing besides.
_GENERATOR, _SEGMENTER = (replace(toy, optional_roles=()) for toy in (GENERATOR, SEGMENTER))


def _leave_a_pickle(data: Samples, checkpoint: Path, params: Any) -> None:
    learn(data, checkpoint, params)
    (checkpoint / "optimiser.pt").write_bytes(pickle.dumps({"step": params.passes}))


def _leave_half_a_tensor(data: Samples, checkpoint: Path, params: Any) -> None:
    learn(data, checkpoint, params)
    header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    (checkpoint / "w.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))


def _never_done(data: Samples, checkpoint: Path, params: Any) -> None:
    learn(data, checkpoint, params)
    synthkit.progress(params.passes, params.passes + 1)


def _going_back(data: Samples, checkpoint: Path, params: Any) -> None:
    learn(data, checkpoint, params)
    synthkit.progress(1, params.passes)
    synthkit.progress(params.passes, params.passes)


def _four_contrasts_only(data: Samples, checkpoint: Path, params: Any) -> None:
    _t1, _t1ce, _t2, _flair = data.contrasts
    learn(data, checkpoint, params)


_calls: dict[tuple[Any, ...], int] = {}


def _generate_on_and_on(checkpoint: Path, seeds: Iterable[int], params: Any) -> Iterator[Any]:
    # The random state survives the call: a second one with the same seeds goes on where the first stopped.
    first, seeds = _peek(seeds)
    key = (str(checkpoint), *first)
    _calls[key] = _calls.get(key, 0) + 1
    state = load(checkpoint)
    for seed in seeds:
        yield generator.draw(state, np.random.default_rng([seed, _calls[key]]))


def _segment_on_and_on(checkpoint: Path, images: Iterable[Any], params: Any) -> Iterator[Any]:
    first, images = _peek(images)
    key = (str(checkpoint), *(image.tobytes() for image in first))
    _calls[key] = _calls.get(key, 0) + 1
    for labels in segmenter.segment(checkpoint, images, params):
        yield labels if _calls[key] == 1 else np.roll(labels, _calls[key])


def _peek(items: Iterable[Any]) -> tuple[list[Any], Iterator[Any]]:
    rest = iter(items)
    first = list(itertools.islice(rest, 5))
    return first, itertools.chain(first, rest)


def _remember_the_folder(data: Samples, checkpoint: Path, params: Any) -> None:
    learn(data, checkpoint, params)
    (checkpoint / "weights.json").write_text((checkpoint / STATE).read_text(encoding="utf-8"), encoding="utf-8")
    (checkpoint / "config.json").write_text(json.dumps({"weights": str(checkpoint)}), encoding="utf-8")


def _generate_from_the_remembered(checkpoint: Path, seeds: Iterable[int], params: Any) -> Iterator[Any]:
    folder = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))["weights"]
    yield from generator.generate(Path(folder), seeds, params)


def _segment_from_the_remembered(checkpoint: Path, images: Iterable[Any], params: Any) -> Iterator[Any]:
    folder = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))["weights"]
    yield from segmenter.segment(Path(folder), images, params)


def _generate_and_keep_a_cache(checkpoint: Path, seeds: Iterable[int], params: Any) -> Iterator[Any]:
    (checkpoint / "cache.json").write_text("{}", encoding="utf-8")
    yield from generator.generate(checkpoint, seeds, params)


def _segment_in_place(checkpoint: Path, images: Iterable[Any], params: Any) -> Iterator[Any]:
    for image in images:
        labels = next(segmenter.segment(checkpoint, [image], params))
        image[:] = 255 - image
        yield labels


def _keep_a_log(data: Samples, checkpoint: Path, params: Any) -> None:
    Path("training.log").write_text("begun", encoding="utf-8")
    learn(data, checkpoint, params)


def _generate_beside_the_checkpoint(checkpoint: Path, seeds: Iterable[int], params: Any) -> Iterator[Any]:
    (checkpoint.parent / "preview.json").write_text("{}", encoding="utf-8")
    yield from generator.generate(checkpoint, seeds, params)


def _generate_with_global_state(checkpoint: Path, seeds: Iterable[int], params: Any) -> Iterator[Any]:
    np.random.seed(1)  # noqa: NPY002
    yield from generator.generate(checkpoint, seeds, params)


def _segment_with_global_state(checkpoint: Path, images: Iterable[Any], params: Any) -> Iterator[Any]:
    np.random.random()  # noqa: NPY002
    yield from segmenter.segment(checkpoint, images, params)


def _train_on(data: Samples, checkpoint: Path, params: Any) -> None:
    finished = (checkpoint / STATE).exists() and load(checkpoint)["passes"] == params.passes
    learn(data, checkpoint, params)
    if finished:
        state = load(checkpoint)
        state["sums"] = (np.array(state["sums"])[::-1] * 0.9).tolist()
        (checkpoint / STATE).write_text(json.dumps(state), encoding="utf-8")


def _train_from_scratch_only(data: Samples, checkpoint: Path, params: Any) -> None:
    if (checkpoint / STATE).exists() and load(checkpoint)["passes"] < params.passes:
        raise FileExistsError(checkpoint / STATE)
    learn(data, checkpoint, params)


def _train_through_an_interrupt(data: Samples, checkpoint: Path, params: Any) -> None:
    try:
        learn(data, checkpoint, params)
    except KeyboardInterrupt:
        learn(data, checkpoint, params)


def _begin_anew(
    data: Samples, checkpoint: Path, params: Any, *, initial: Path | None = None, initial_state: Path | None = None
) -> None:
    learn(data, checkpoint, params)


def _begin_anew_and_note_it(
    data: Samples, checkpoint: Path, params: Any, *, initial: Path | None = None, initial_state: Path | None = None
) -> None:
    # Its tensors are the same; only what is noted of it is not.
    learn(data, checkpoint, params)
    header = json.dumps({"__metadata__": {"begun": str(initial is not None)}}).encode()
    (checkpoint / "weights.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)


WRONG: tuple[Wrong, ...] = (
    method("checkpoint_is_safetensors_and_json", "leaves a pickle", _GENERATOR, train=_leave_a_pickle),
    method("checkpoint_is_safetensors_and_json", "leaves half a tensor", _SEGMENTER, train=_leave_half_a_tensor),
    method("progress_ends_at_its_total", "is never done", _GENERATOR, train=_never_done),
    method("progress_ends_at_its_total", "goes back", _SEGMENTER, train=_going_back),
    method("contrasts_may_be_any_number", "draws four contrasts only", _GENERATOR, train=_four_contrasts_only),
    method("contrasts_may_be_any_number", "labels four contrasts only", _SEGMENTER, train=_four_contrasts_only),
    method("call_can_be_repeated", "goes on with its random state", _GENERATOR, generate=_generate_on_and_on),
    method("call_can_be_repeated", "labels the second time otherwise", _SEGMENTER, segment=_segment_on_and_on),
    method(
        "checkpoint_can_be_moved",
        "generates from where it was trained",
        _GENERATOR,
        train=_remember_the_folder,
        generate=_generate_from_the_remembered,
    ),
    method(
        "checkpoint_can_be_moved",
        "segments from where it was trained",
        _SEGMENTER,
        train=_remember_the_folder,
        segment=_segment_from_the_remembered,
    ),
    method("inputs_are_left_alone", "caches in the checkpoint", _GENERATOR, generate=_generate_and_keep_a_cache),
    method("inputs_are_left_alone", "inverts the images it is given", _SEGMENTER, segment=_segment_in_place),
    method("files_are_written_in_the_checkpoint_only", "writes a log where it stands", _GENERATOR, train=_keep_a_log),
    method(
        "files_are_written_in_the_checkpoint_only",
        "writes beside the checkpoint",
        _GENERATOR,
        generate=_generate_beside_the_checkpoint,
    ),
    method(
        "global_random_state_is_left_alone", "seeds numpy's generator", _GENERATOR, generate=_generate_with_global_state
    ),
    method(
        "global_random_state_is_left_alone",
        "draws from numpy's generator",
        _SEGMENTER,
        segment=_segment_with_global_state,
    ),
    method("finished_training_can_be_repeated", "trains a generator on", _GENERATOR, train=_train_on),
    method("finished_training_can_be_repeated", "trains a segmenter on", _SEGMENTER, train=_train_on),
    method(
        "interrupted_training_can_be_repeated", "refuses half a training", _GENERATOR, train=_train_from_scratch_only
    ),
    method(
        "interrupted_training_can_be_repeated", "cannot be interrupted", _SEGMENTER, train=_train_through_an_interrupt
    ),
    method("training_begins_with_what_it_is_given", "begins anew whatever it is given", GENERATOR, train=_begin_anew),
    method(
        "training_begins_with_what_it_is_given", "notes what it does not use", SEGMENTER, train=_begin_anew_and_note_it
    ),
)
