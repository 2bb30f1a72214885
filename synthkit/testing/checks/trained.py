"""What a generator and a segmenter promise alike: training, the checkpoint, and being a good guest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from synthkit.contract import STATE
from synthkit.running.run import folder_digest
from synthkit.testing.bench import (
    CheckSkippedError,
    PluginUnderTest,
    changed_random_states,
    disturb_random_states,
    random_states,
    require,
    require_form,
    require_same,
    stray,
    watched_writes,
)
from synthkit.testing.checks.registry import check


@check("generator", "segmenter")
def checkpoint_is_safetensors_and_json(plugin: PluginUnderTest) -> None:
    """Training leaves a checkpoint of safetensors and JSON files alone: loading one never runs code."""
    files = [p for p in plugin.trained().rglob("*") if p.is_file()]
    require(files, "training left no file in the checkpoint folder")
    for file in files:
        if file.suffix == ".json":
            try:
                json.loads(file.read_text(encoding="utf-8"))
            except ValueError as error:
                require(False, f"{file.name} is not JSON: {error}")
        else:
            require(file.suffix == ".safetensors", f"{file.name} is neither safetensors nor JSON")
            _require_safetensors(file)


def _require_safetensors(file: Path) -> None:
    """The format: length of the header as little-endian uint64, JSON header, tensors one after another."""
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    try:
        header = json.loads(content[8 : 8 + length]) if 8 + length <= len(content) else None
    except ValueError:
        header = None
    require(isinstance(header, dict), f"{file.name} has no header of safetensors")
    ends = [tensor["data_offsets"][1] for name, tensor in (header or {}).items() if name != "__metadata__"]
    require(8 + length + max(ends, default=0) == len(content), f"{file.name} is not as long as its header says")


@check("generator", "segmenter")
def progress_ends_at_its_total(plugin: PluginUnderTest) -> None:
    """Training reports progress that never goes back, and the last step equals the total."""
    plugin.trained()
    calls = plugin.progress_calls
    require(calls, "training reports no progress")
    steps = [step for step, _ in calls]
    require(steps == sorted(steps), "its steps go back")
    step, total = calls[-1]
    require(step == total, f"the last progress is {step} of {total}")


@check("generator", "segmenter")
def contrasts_may_be_any_number(plugin: PluginUnderTest) -> None:
    """One contrast and two contrasts do as well as four."""
    for n_contrasts in (1, 2):
        made = plugin.apply(plugin.trained(n_contrasts), n_contrasts)
        require_form(made, len(plugin.outputs()), n_contrasts, plugin.size)


@check("generator", "segmenter")
def call_can_be_repeated(plugin: PluginUnderTest) -> None:
    """The same call on the same checkpoint gives the same, whatever the global random generators hold.

    To the byte where the declaration says "bitwise".
    """
    before = plugin.outputs()
    disturb_random_states(777)
    again = plugin.apply(plugin.trained())
    require_same(before, again, "in a second call", bitwise=plugin.bitwise)


@check("generator", "segmenter")
def checkpoint_can_be_moved(plugin: PluginUnderTest) -> None:
    """A checkpoint works from another folder when the one that it was trained in is gone."""
    before = plugin.outputs()
    trained = plugin.trained()
    moved = plugin.copy_of_trained()
    hidden = trained.rename(trained.with_name("hidden"))
    try:
        made = plugin.apply(moved)
    finally:
        hidden.rename(trained)
    require_same(before, made, "after the checkpoint was moved")


@check("generator", "segmenter")
def inputs_are_left_alone(plugin: PluginUnderTest) -> None:
    """Training leaves the dataset as it was; applying a checkpoint leaves its files and the images as they were."""
    checkpoint = plugin.trained()
    if plugin.declaration.kind == "segmenter":
        images = plugin.images()
        plugin.segment(checkpoint, images)
        for given, fresh in zip(images, plugin.images(), strict=True):
            require((given == fresh).all(), "segment changed an image that it was given")
    else:
        plugin.apply(checkpoint)
    require(folder_digest(plugin.dataset().path) == plugin.dataset_digest, "training changed the dataset")
    require(folder_digest(checkpoint) == plugin.checkpoint_digest, "applying the checkpoint changed its files")


@check("generator", "segmenter")
def files_are_written_in_the_checkpoint_only(plugin: PluginUnderTest) -> None:
    """Training writes in its checkpoint folder, and temporary or cached files in their places, and nowhere else."""
    checkpoint = plugin.folder() / "checkpoint"
    checkpoint.mkdir()
    plugin.trained()  # so that what is imported on first use is imported already
    with watched_writes() as paths:
        plugin.train(checkpoint)
        plugin.apply(checkpoint)
    found = stray(paths, checkpoint)
    require(not found, f"it wrote {', '.join(found[:3])}")


@check("generator", "segmenter")
def global_random_state_is_left_alone(plugin: PluginUnderTest) -> None:
    """Applying a checkpoint leaves the global random generators of Python, numpy and torch as they were.

    Training may seed them: it has a process of its own.
    """
    plugin.outputs()
    disturb_random_states(778)
    before = random_states()
    plugin.apply(plugin.trained())
    changed = changed_random_states(before)
    require(not changed, f"it changes the global state of {', '.join(changed)}")


@check("generator", "segmenter")
def finished_training_can_be_repeated(plugin: PluginUnderTest) -> None:
    """Training on top of a finished checkpoint of the same job succeeds and changes nothing in what it makes."""
    checkpoint = plugin.copy_of_trained()
    plugin.train(checkpoint)
    require_same(plugin.outputs(), plugin.apply(checkpoint), "after training was called on the finished checkpoint")


@check("generator", "segmenter")
def interrupted_training_can_be_repeated(plugin: PluginUnderTest) -> None:
    """After an interruption half-way, training into the same folder succeeds."""
    plugin.trained()
    n_calls = len(plugin.progress_calls)
    if n_calls == 0:
        raise CheckSkippedError("it reports no progress, so there is no half-way")
    checkpoint = plugin.folder() / "checkpoint"
    checkpoint.mkdir()
    interrupted = False
    try:
        plugin.train(checkpoint, interrupt_at=max(1, n_calls // 2))
    except KeyboardInterrupt:
        interrupted = True
    require(interrupted, "it goes on after an interrupt (KeyboardInterrupt must reach the caller)")
    plugin.train(checkpoint)
    require_form(plugin.apply(checkpoint), len(plugin.outputs()), 4, plugin.size)
    shutil.rmtree(checkpoint)


@check("generator", "segmenter")
def training_begins_with_what_it_is_given(plugin: PluginUnderTest) -> None:
    """A training that takes ``initial`` goes on from it: it does not learn what one learns that begins anew.

    Told by the checkpoints' tensors, or their JSON where they have none. Outputs may be alike after a few steps.
    """
    if "initial" not in plugin.declaration.optional_roles:
        return  # it always begins anew
    initial, checkpoint = plugin.copy_of_trained(), plugin.folder() / "checkpoint"
    checkpoint.mkdir()
    state = initial / STATE
    beside = state.rename(initial.parent / STATE) if state.is_dir() else None  # where a run puts it
    plugin.train(checkpoint, initial=initial, initial_state=beside)
    require_form(plugin.apply(checkpoint), len(plugin.outputs()), 4, plugin.size)
    require(_learned(checkpoint) != _learned(plugin.trained()), "it learns the same with `initial` as without")


def _learned(checkpoint: Path) -> dict[str, bytes]:
    """The tensors of a checkpoint by file, without what their headers say of the training; or else its JSON files."""
    files = {str(path.relative_to(checkpoint)): path.read_bytes() for path in checkpoint.rglob("*.*") if path.is_file()}
    learned = {name: content for name, content in files.items() if not name.startswith(f"{STATE}/")}
    tensors = {name: content for name, content in learned.items() if name.endswith(".safetensors")}
    return {name: content[8 + int.from_bytes(content[:8], "little") :] for name, content in tensors.items()} or learned
