"""The training loop around a method's own step: it resumes exactly, reports, saves, and stops at numbers gone wrong.

A method brings a :class:`Training`, whose state is all that its next step depends on; random numbers and real images
follow from the seed and the number of the step. So the weights after a kill and a resumption are those of an
uninterrupted training (to the byte on the same CPU; a GPU may add in another order). On several GPUs each has a process
with a share of every batch (:mod:`~synthkit_torch.parallel`); that of rank 0 saves and reports.
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

import torch
from synthkit_torch import devices, parallel
from synthkit_torch.devices import memory_errors
from synthkit_torch.storage import load_json, load_tensors, partial_path, save_json, save_tensors
from torch import Tensor

import synthkit
from synthkit.contract import Samples
from synthkit.errors import DataError, PluginError
from synthkit_generative.data import RealImages, to_float
from synthkit_generative.decoding import read_order
from synthkit_generative.records import Records

STATE, GENERATOR, CONFIG = "state.safetensors", "generator.safetensors", "config.json"

#: Parameters that may differ between a training and its resumption: they do not touch what has been learned so far.
_DRAWING = ("background_zero", "settle_labels", "generate_batch_size")
_FREE = ("kimg", "accumulate", "checkpoint_kimg", "snapshot_kimg", *_DRAWING)


class Training(Protocol):
    """Networks, optimisers and the step that advances them. Images are float32 ``(n, contrast + 1, y, x)`` in [-1, 1].

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
    generating : parameters that only generation uses; they may differ between a training and its resumption.
    """

    name: str
    architecture: dict[str, Any]
    memory: str
    divergence: str
    generating: tuple[str, ...] = ()


def fit(
    method: Method,
    data: Samples,
    checkpoint: Path,
    params: Any,
    make: Callable[[torch.device, torch.dtype], Training],
) -> None:
    """Train on all of ``data``; ``checkpoint`` then holds ``generator.safetensors`` and ``config.json``.

    Until the end it also holds ``state.safetensors``, from which the same call resumes. The state goes at the end
    because the discriminator in it has seen the real images, and a checkpoint is made to be shared. Of ``params`` the
    loop reads kimg, batch_size, checkpoint_kimg, snapshot_kimg, precision, label_order and seed. ``make`` builds the
    training for a device and the precision asked for; where there are several GPUs it and ``data`` are pickled.
    """
    checkpoint = Path(checkpoint)
    steps = math.ceil(params.kimg * 1000 / params.batch_size)
    config: dict[str, Any] = {
        "format": 1,
        "contrasts": list(data.contrasts),
        "label_values": list(read_order(params.label_order, data.label_values)),  # from the lowest grey level on
        "architecture": method.architecture,
        "job": _job(method, data, params),
    }
    if _is_finished(checkpoint, config, steps):
        synthkit.message("This training is already finished.")
        return
    plan = _Plan(method, data, checkpoint, config, params, make, steps)
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


def _train(plan: _Plan, rank: int) -> None:
    """The work of one process."""
    device = devices.find_device(rank)
    precision = devices.choose_precision(plan.params.precision, device)
    with devices.whole_float32(precision is torch.float32):
        training = plan.make(device, precision)
        loop = _Loop(plan.method, plan.checkpoint, plan.config, plan.params, training, plan.steps)
        loop.resume()
        loop.run(plan.data, device)


@dataclass
class _Loop:
    method: Method
    checkpoint: Path
    config: dict[str, Any]
    params: Any
    training: Training
    steps: int

    @property
    def shown(self) -> int:
        """Real images shown so far."""
        return self.training.step * int(self.params.batch_size)

    def resume(self) -> None:
        path = self.checkpoint / STATE
        if not path.exists():
            return
        tensors, facts = load_tensors(path)
        if facts.get("job") != self.config["job"]:
            raise _other_job(self.checkpoint)
        self.training.restore(tensors, int(facts["step"]))
        synthkit.message(f"Resuming after {self.shown} images.")

    def run(self, data: Samples, device: torch.device) -> None:
        params, training = self.params, self.training
        total = self.steps * params.batch_size
        every, snapshot = self._interval(params.checkpoint_kimg), self._interval(params.snapshot_kimg)
        order = self.config["label_values"]
        # Reading a loss waits for the GPU, so there it is done now and then only.
        report = 1 if device.type == "cpu" else 8
        first = parallel.rank() == 0
        records = Records(data, order, self.shown, total)
        started, before = time.monotonic(), self.shown  # of the last save: a network that grows becomes slower
        with RealImages(data, order, params.batch_size, params.seed, training.step, self.steps) as batches:
            for batch in batches:
                values = training.training_step(to_float(batch, device))
                records.watch(values)
                at_end, saving = training.step == self.steps, every > 0 and training.step % every == 0
                if training.step % report == 0 or saving or at_end:
                    numbers = _numbers(values)
                    if not all(map(math.isfinite, numbers.values())):
                        raise self._diverged()
                    pace = (time.monotonic() - started) / (self.shown - before)
                    numbers |= {"seconds_per_kimg": pace * 1000, "hours_left": pace * (total - self.shown) / 3600}
                    synthkit.progress(self.shown, total, unit="image", **numbers)
                if saving and not at_end and first:
                    self._save(finished=False)
                if saving or at_end:
                    records.statistics(self.shown)
                    started, before = time.monotonic(), self.shown
                if snapshot > 0 and (training.step % snapshot == 0 or at_end):
                    records.snapshot(self.shown, training.sample)
        if first:
            self._save(finished=True)

    def _interval(self, kimg: float) -> int:
        """Steps between two events; 0 for never."""
        return max(1, round(kimg * 1000 / self.params.batch_size)) if kimg > 0 else 0

    def _save(self, *, finished: bool) -> None:
        training = self.training
        state = training.state()
        if not all(bool(torch.isfinite(tensor).all()) for tensor in state.values()):
            raise self._diverged()
        facts = {"job": self.config["job"], "step": training.step, "batch_size": self.params.batch_size}
        if not finished:
            save_tensors(self.checkpoint / STATE, state, facts)
        save_tensors(self.checkpoint / GENERATOR, training.inference_state(), facts)
        save_json(self.checkpoint / CONFIG, {**self.config, "images_shown": self.shown, "finished": finished})
        if finished:
            _discard_state(self.checkpoint)

    def _diverged(self) -> PluginError:
        state = self.checkpoint / STATE
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


def _job(method: Method, data: Samples, params: Any) -> str:
    """Digest of what a training depends on, so that a state is resumed by its own job only."""
    free = _FREE + method.generating
    learned = {name: value for name, value in dataclasses.asdict(params).items() if name not in free}
    facts = [data.digest, list(data.contrasts), list(data.label_values), list(data.size), learned]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def _is_finished(checkpoint: Path, config: dict[str, Any], steps: int) -> bool:
    if not (checkpoint / CONFIG).exists():
        return False
    found = load_json(checkpoint / CONFIG)
    if not found.get("finished"):
        return False
    _, facts = load_tensors(checkpoint / GENERATOR)
    if found.get("job") != config["job"] or facts["step"] < steps:
        raise _other_job(checkpoint)
    _discard_state(checkpoint)
    return True


def _discard_state(checkpoint: Path) -> None:
    """Remove the state of a training, and what an interrupted write of it may have left."""
    for path in (checkpoint / STATE, partial_path(checkpoint / STATE)):
        path.unlink(missing_ok=True)


def _other_job(checkpoint: Path) -> DataError:
    return DataError(
        "The checkpoint folder holds another training.",
        f"{checkpoint.name} was begun with other data or parameters, or was finished with fewer images.",
        "Choose a new output folder, or repeat the data and parameters of the first command.",
    )
