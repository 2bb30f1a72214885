"""The training loop around a method's own step: it resumes exactly, reports, saves, and stops at numbers gone wrong.

A method brings a :class:`Training`, whose state is all that its next step depends on; random numbers and real images
follow from the seed and the number of the step. So the weights after a kill and a resumption, or of a training that was
made longer after its end, are those of an uninterrupted training (to the byte on the same CPU; a GPU may add in another
order). On several GPUs each has a process with a share of every batch (:mod:`~synthkit_torch.parallel`); that of rank 0
saves and reports.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from synthkit_torch import devices, parallel
from synthkit_torch.devices import memory_errors
from synthkit_torch.fused import fused_operators
from synthkit_torch.storage import load_json, load_tensors, save_json, save_tensors
from torch import Tensor

import synthkit
from synthkit import events
from synthkit.contract import NOTES, PROGRESS, STATE, Samples
from synthkit.errors import DataError, PluginError
from synthkit_generative.data import RealImages, to_float
from synthkit_generative.drawing import to_grey_levels
from synthkit_generative.encodings import Encoding, fitted_offsets, of_bytes
from synthkit_generative.gate import Gate
from synthkit_generative.initial import Initial
from synthkit_generative.params import wants_fused
from synthkit_generative.records import Records

GENERATOR, CONFIG = "generator.safetensors", "config.json"
_STATE = f"{STATE}/training.safetensors"


class Training(Protocol):
    """Networks, optimisers and the step that advances them. Images are float32 ``(n, contrast + channel, y, x)`` in
    [-1, 1], the labels last, in their encoding.

    ``step`` is the number of steps done.
    """

    step: int

    def training_step(self, real: Tensor) -> dict[str, Tensor]:
        """One step on a batch of real images, or on this process's share of it.

        Returns scalars worth watching, the losses among them, by name: those of the whole batch.
        """
        ...

    def state(self) -> dict[str, Tensor]:
        """Everything that the next step depends on, but the step's number."""
        ...

    def restore(self, tensors: dict[str, Tensor], step: int) -> None:
        """Continue from what :meth:`state` gave after ``step`` steps."""
        ...

    def begin_with(self, weights: dict[str, Tensor], state: dict[str, Tensor]) -> None:
        """Begin with what another training learned: its :meth:`inference_state`, and its :meth:`state` if kept."""
        ...

    def inference_state(self) -> dict[str, Tensor]:
        """What generating needs: the EMA of the weights, and what follows from them."""
        ...

    def sample(self, seeds: Sequence[int]) -> Tensor:
        """Images of these seeds by the EMA of the weights, for snapshots. Called in inference mode."""
        ...


@dataclass(frozen=True)
class Method:
    """What the loop says and writes of a method.

    Attributes
    ----------
    name : as in its paper, for messages.
    architecture : what the shapes of the networks follow from, JSON-ready; kept in ``config.json``.
    memory : what to lower when memory runs out, a sentence.
    divergence : what to change when a loss or weight is no longer finite, a sentence.
    offsets : whether offsets of labels are fitted to ``gate_samples``, for it draws with them.
    """

    name: str
    architecture: dict[str, Any]
    memory: str
    divergence: str
    offsets: bool = False


def fit(
    method: Method,
    data: Samples,
    checkpoint: Path,
    params: Any,
    make: Callable[[torch.device, torch.dtype], Training],
    initial: Initial | None = None,
    *,
    encoding: Encoding,
) -> None:
    """Train on all of ``data``; ``checkpoint`` then holds ``generator.safetensors`` and ``config.json``.

    In its folder ``state`` is what the same call goes on from, be it with a larger kimg; synthkit takes that out of the
    checkpoint, because the discriminator in it has seen the real images, and a checkpoint is made to be shared. Of
    ``params`` the loop reads kimg, batch_size, mirror, checkpoint_kimg, snapshot_kimg, keep_kimg, gate_samples,
    precision and seed. ``make`` builds the training for a device and the precision asked for; where there are several
    GPUs it and ``data`` are pickled. ``initial`` is what to begin with, not random weights; ``encoding`` how labels are
    coded.
    """
    checkpoint = Path(checkpoint)
    steps = math.ceil(params.kimg * 1000 / params.batch_size)
    names = data.scheme.label_names
    config: dict[str, Any] = {
        "format": 1,
        "contrasts": list(data.contrasts),
        "label_values": list(encoding.label_values),  # of grey levels from the lowest on
        "label_names": [names[value] for value in encoding.label_values],
        "label_encoding": encoding.to_dict(),
        "architecture": method.architecture,
        "job": _job(data, params, initial),
    }
    if initial is not None:
        initial.check(config)
        config |= {"imported": True} if initial.imported else {}
    if _is_finished(checkpoint, config, steps):
        synthkit.message("This training is already finished.")
        return
    plan = _Plan(method, data, checkpoint, config, params, make, steps, initial, encoding)
    n = devices.count_processes()
    parallel.rows(params.batch_size, n, 0)  # refused here rather than by each process
    with memory_errors(method.name, method.memory):
        parallel.launch(_train, plan, n)


@dataclass(frozen=True)
class _Plan:
    """A training as its processes are given it."""

    method: Method
    data: Samples
    checkpoint: Path
    config: dict[str, Any]
    params: Any
    make: Callable[[torch.device, torch.dtype], Training]
    steps: int
    initial: Initial | None
    encoding: Encoding


def _train(plan: _Plan, rank: int) -> None:
    """The work of one process."""
    device = devices.find_device(rank)
    precision = devices.choose_precision(plan.params.precision, device)
    fastest = devices.fastest_convolutions(precision, tf32=plan.params.precision == "tf32")
    with fastest, fused_operators(wants_fused(plan.params)):
        training = plan.make(device, precision)
        loop = _Loop(plan.method, plan.checkpoint, plan.config, plan.params, training, plan.steps, plan.encoding)
        loop.resume(plan.initial)
        loop.run(plan.data, device)


@dataclass
class _Loop:
    method: Method
    checkpoint: Path
    config: dict[str, Any]
    params: Any
    training: Training
    steps: int
    encoding: Encoding

    @property
    def shown(self) -> int:
        """Real images shown so far."""
        return self.training.step * int(self.params.batch_size)

    def resume(self, initial: Initial | None) -> None:
        path = self.checkpoint / _STATE
        if not path.exists():
            if initial is not None:
                self.training.begin_with(initial.weights(), initial.state_tensors())
            return
        tensors, facts = load_tensors(path)
        if facts.get("job") != self.config["job"] or facts["step"] > self.steps:
            raise _other_job(self.checkpoint)
        self.training.restore(tensors, int(facts["step"]))
        synthkit.message(f"Resuming after {self.shown} images.")

    def run(self, data: Samples, device: torch.device) -> None:
        params, training = self.params, self.training
        total = self.steps * params.batch_size
        every, snapshot = self._interval(params.checkpoint_kimg), self._interval(params.snapshot_kimg)
        keep = self._interval(params.keep_kimg)
        # Reading a loss waits for the GPU, so there it is done now and then only.
        report = 1 if device.type == "cpu" else 8
        first = parallel.rank() == 0
        records = Records(data, self.encoding, self.shown, total)
        started, before = time.monotonic(), self.shown  # of the last save: a network that grows becomes slower
        reals = RealImages(
            data, self.encoding, params.batch_size, params.seed, training.step, self.steps, mirror=params.mirror
        )
        with reals as batches:
            for batch in batches:
                values = training.training_step(to_float(batch, device))
                records.watch(values)
                at_end, saving = training.step == self.steps, every > 0 and training.step % every == 0
                if training.step % report == 0 or saving or at_end:
                    numbers = _numbers(values)
                    if not all(map(math.isfinite, numbers.values())):
                        raise self._diverged()
                    pace = (time.monotonic() - started) / (self.shown - before)
                    numbers |= {"seconds_per_kimg": pace * 1000}
                    synthkit.progress(self.shown, total, unit="image", **numbers)
                if saving and not at_end and first:
                    self._save(finished=False)
                if saving or at_end:
                    records.statistics(self.shown)
                    started, before = time.monotonic(), self.shown
                if at_end and first and params.gate_samples > 0 and len(self.encoding.label_values) > 1:
                    self._look_at_labels(data)
                if snapshot > 0 and (training.step % snapshot == 0 or at_end):
                    records.snapshot(self.shown, training.sample)
                if keep > 0 and training.step % keep == 0 and not at_end and first:
                    self._keep()
        if first:
            self._save(finished=True)

    def _look_at_labels(self, data: Samples) -> None:
        """Say how labels of samples compare with real ones; keep offsets that give each label its pixels, if wanted."""
        gate = Gate.of(data, self.encoding)
        with torch.inference_mode(), devices.float32_arithmetic():
            batches = [range(n, min(n + 16, self.params.gate_samples)) for n in range(0, self.params.gate_samples, 16)]
            drawn = np.concatenate([to_grey_levels(self.training.sample(list(batch))) for batch in batches])
        channels = of_bytes(drawn[:, len(data.contrasts) :])
        offsets: tuple[float, ...] = ()
        if self.method.offsets:
            offsets = fitted_offsets(self.encoding.scores(channels), gate.shares, self.encoding.most_offset)
            self.config |= {"offsets": list(offsets)}
        gate.tell(channels, offsets)

    def _interval(self, kimg: float) -> int:
        """Steps between two events; 0 for never."""
        return max(1, round(kimg * 1000 / self.params.batch_size)) if kimg > 0 else 0

    def _save(self, *, finished: bool) -> None:
        training = self.training
        state = training.state()
        if not all(bool(torch.isfinite(tensor).all()) for tensor in state.values()):
            raise self._diverged()
        (self.checkpoint / STATE).mkdir(exist_ok=True)
        save_tensors(self.checkpoint / _STATE, state, self._facts)
        self._save_generator(self.checkpoint, finished=finished)

    @property
    def _facts(self) -> dict[str, Any]:
        return {"job": self.config["job"], "step": self.training.step, "batch_size": self.params.batch_size}

    def _save_generator(self, folder: Path, *, finished: bool) -> None:
        """What samples are drawn with, into a checkpoint folder; in one of an unfinished training how far it is."""
        save_tensors(folder / GENERATOR, self.training.inference_state(), self._facts)
        save_json(folder / CONFIG, {**self.config, "images_shown": self.shown, "finished": finished})
        if finished:
            (folder / PROGRESS).unlink(missing_ok=True)
        else:
            save_json(folder / PROGRESS, {"images": self.shown})

    def _keep(self) -> None:
        """Keep the generator as it is now, beside the grids of samples, as a checkpoint to draw from."""
        outputs, notes = events.outputs(), self.checkpoint / NOTES
        if outputs is None or not notes.exists():
            return
        folder = outputs / "snapshots" / f"{self.shown / 1000:010.3f}"
        folder.mkdir(parents=True, exist_ok=True)
        self._save_generator(folder, finished=False)
        save_json(folder / NOTES, load_json(notes))

    def _diverged(self) -> PluginError:
        state = self.checkpoint / _STATE
        if state.exists():
            _, facts = load_tensors(state)
            good = f"The last good state is {state.name}, after {facts['step'] * facts['batch_size']} images."
        else:
            good = "No state had been saved yet."
        return PluginError(
            f"Training diverged by image {self.shown}.",
            f"A loss or weight is no longer a finite number. {good}",
            self.method.divergence,
        )


def _numbers(values: dict[str, Tensor]) -> dict[str, float]:
    """All at once: each reading would wait for the GPU."""
    return dict(zip(values, torch.stack([value.detach().float() for value in values.values()]).tolist(), strict=True))


def _job(data: Samples, params: Any, initial: Initial | None) -> str:
    """Digest of what a training depends on, so that a state is resumed by its own job only."""
    learned = {
        item.name: getattr(params, item.name)
        for item in dataclasses.fields(params)
        if not item.metadata.get("resume")  # those do not touch what has been learned so far
    }
    facts = [data.digest, list(data.contrasts), list(data.label_values), list(data.size), learned]
    facts += [] if initial is None else [initial.digest]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def _is_finished(checkpoint: Path, config: dict[str, Any], steps: int) -> bool:
    if not (checkpoint / CONFIG).exists():
        return False
    found = load_json(checkpoint / CONFIG)
    if not found.get("finished"):
        return False
    _, facts = load_tensors(checkpoint / GENERATOR)
    if found.get("job") != config["job"] or facts["step"] > steps:
        raise _other_job(checkpoint)
    if facts["step"] < steps and not (checkpoint / _STATE).exists():
        raise DataError(
            "The training cannot go on.",
            "It has finished, and the state that it ended in is not there.",
            "Begin a new training with its weights: --from.",
        )
    return bool(facts["step"] == steps)


def _other_job(checkpoint: Path) -> DataError:
    return DataError(
        "The checkpoint folder holds another training.",
        f"{checkpoint.name} was begun with other data or parameters, or was trained on more images.",
        "Choose a new output folder, or repeat the data and parameters of the first command.",
    )
