"""The training loop around a segmenter's recipe: it resumes exactly, validates, and stops at numbers gone wrong.

Everything random about a step follows from the seed and the number of the step, and about an image from the seed and
its place in the order. So on a CPU a training that was interrupted and resumed gives the same bytes as one that was
not, and the images of a batch can be dealt to several GPUs. The budget is counted in images shown, so that equal
budgets are equal whatever the amount of data.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from synthkit_torch import devices, parallel
from synthkit_torch.statistics import Statistics
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import synthkit
from synthkit.contract import Samples
from synthkit.errors import PluginError, UsageError
from synthkit_segmentation.augmentation import augment
from synthkit_segmentation.checkpoints import LAST, TrainingState, begin, digest_of, load_initial, resume, save
from synthkit_segmentation.feeding import Reader, order_of, read_ahead
from synthkit_segmentation.inputs import normalise, pad
from synthkit_segmentation.recipe import AUGMENTATION, NETWORK, Recipe, RecipeOf, Task
from synthkit_segmentation.selection import channels_of, drawn, split
from synthkit_segmentation.validation import validate

if TYPE_CHECKING:
    from synthkit_segmentation.params import TrainingParams

_STEPS_PER_REPORT_ON_GPU = 10  # asking a GPU for the loss makes the host wait for it


@dataclass(frozen=True)
class _Plan:
    """A training as its processes are given it: ``budget`` images shown in all, ``validation_rows`` scored."""

    recipe_of: RecipeOf
    task: Task
    params: TrainingParams
    checkpoint: Path
    channels: list[int]
    data: Samples
    rows: list[int]
    validation: Samples
    validation_rows: list[int]
    pretrained: Path | None
    initial: Path | None
    budget: int

    @property
    def n_steps(self) -> int:
        return -(-self.budget // self.params.batch_size)

    def shown(self, step: int) -> int:
        """Training images shown before this step."""
        return min(step * self.params.batch_size, self.budget)


def fit(
    recipe_of: RecipeOf,
    data: Samples,
    checkpoint: Path,
    params: TrainingParams,
    *,
    validation: Samples | None = None,
    pretrained: Path | None = None,
    initial: Path | None = None,
) -> None:
    """Train on ``data`` and leave the network in ``checkpoint``; goes on from an unfinished training of the same job.

    Parameters
    ----------
    validation : real samples to validate on instead of a part of ``data``: of their patients the same are held out as
        when they are trained on, and whatever ``data`` has of these patients is not trained on.
    pretrained : file of weights to begin with.
    initial : checkpoint of the same segmenter to begin with: its best weights.

    Raises
    ------
    UsageError : an unknown contrast, or fewer images in a step than there are GPUs.
    DataError : data that cannot train a segmenter.
    PluginError : the loss is no longer a number, or the folder holds another training.
    OutOfMemoryError : with what to lower.
    """
    channels = channels_of(data.contrasts, params.contrasts)
    rows, held_out = split(data, validation, params)
    task = Task(len(channels), len(data.label_values), data.size)
    recipe = recipe_of(task, params)
    plan = _Plan(
        recipe_of=recipe_of,
        task=task,
        params=params,
        checkpoint=checkpoint,
        channels=channels,
        data=data,
        rows=rows,
        validation=data if validation is None else validation,
        validation_rows=drawn(held_out, params.validation_samples, params.seed),
        pretrained=pretrained,
        initial=initial,
        budget=params.samples if recipe.budget is None else recipe.budget(len(rows)),
    )
    if pretrained is not None and recipe.initialise is None:
        raise UsageError(f"{recipe.name} takes no pretrained weights.", fix="Leave --pretrained out.")
    begin(
        checkpoint,
        {
            "method": recipe.name,
            "contrasts": list(data.contrasts),
            "channels": channels,
            "label_values": list(data.label_values),
            "size": list(data.size),
            "params": {key: list(v) if isinstance(v, tuple) else v for key, v in dataclasses.asdict(params).items()},
            "data": data.digest,
            "validation_data": plan.validation.digest,
            "pretrained": pretrained is not None,
            "initial": None if initial is None else digest_of(initial),
            "training_samples": len(rows),
            "validation_samples": len(held_out),
        },
    )
    if not held_out:
        synthkit.message(
            "No sample could be kept for validation (one subject, or validation_fraction 0): the last weights are kept "
            "instead of the best.",
            level="warning",
        )
    load = f"batch_size {params.batch_size} at {data.size[0]}x{data.size[1]} pixels"
    with devices.memory_errors(recipe.name, recipe.remedy, load):
        parallel.launch(_train, plan, _usable_processes(plan))


def _train(plan: _Plan, rank: int) -> None:
    """The work of one process; that of rank 0 writes the checkpoints and reports."""
    training = _Training(plan, rank, parallel.n_processes(), devices.find_device(rank))
    if training.state.finished:
        synthkit.progress(plan.budget, plan.budget, unit="sample")
    else:
        training.run()


class _Training:
    """Network, optimiser and progress of one process."""

    def __init__(self, plan: _Plan, rank: int, world: int, device: torch.device) -> None:
        self.plan, self.rank, self.world, self.device = plan, rank, world, device
        self.recipe = recipe = plan.recipe_of(plan.task, plan.params)
        network = recipe.build(device, plan.params.seed)
        if world > 1 and device.type == "cuda":
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        self.network, self.optimiser = network, recipe.optimiser(network)
        self.state = resume(plan.checkpoint, network, self.optimiser)
        if plan.pretrained is not None and recipe.initialise is not None and not self.state.step:
            recipe.initialise(network, plan.pretrained)
        if plan.initial is not None and not self.state.step:
            load_initial(network, plan.initial)
        self.parallel = _in_parallel(network, device) if world > 1 else network
        self.validation_reader = Reader(plan.validation, plan.channels)
        #: Sum and number of the losses since the last checkpoint.
        self.losses, self.n_losses = torch.zeros((), device=device), 0
        if rank == 0:
            self.statistics = Statistics(plan.shown(self.state.step), plan.budget)
        last = self.state.history[-1]["val_dice"] if self.state.history else None
        self.known = {} if last is None else {"val_dice": last}

    def run(self) -> None:
        """All steps that are left."""
        plan, state = self.plan, self.state
        on_gpu = self.device.type == "cuda"
        steps_per_report = _STEPS_PER_REPORT_ON_GPU if on_gpu else 1
        precision = devices.choose_precision(plan.params.precision, self.device)
        fastest = devices.fastest_convolutions(precision, tf32=plan.params.precision == "tf32")
        shares = _shares(plan, state.step, self.rank, self.world)
        batches = read_ahead(Reader(plan.data, plan.channels), shares, pin=on_gpu)
        with fastest, closing(batches), torch.random.fork_rng([self.device] if on_gpu else []):
            for images, classes in batches:
                before, shown = plan.shown(state.step), plan.shown(state.step + 1)
                for group in self.optimiser.param_groups:
                    group["lr"] = self.recipe.learning_rate(before, plan.budget)
                numbers = range(before + self.rank, shown, self.world)
                loss = _step(
                    self.parallel, self.optimiser, images, classes, self.recipe, plan.params, precision, numbers
                )
                self.losses, self.n_losses = self.losses + loss, self.n_losses + 1
                state.step += 1
                every = plan.params.checkpoint_every
                due = state.step == plan.n_steps or shown // every > before // every
                if not (due or state.step % steps_per_report == 0):
                    continue
                if not math.isfinite(value := float(parallel.mean(loss))):
                    raise _diverged(self.recipe, plan, state, shown)
                if due:
                    self._checkpoint(shown)
                synthkit.progress(shown, plan.budget, unit="sample", loss=value, **self.known)

    def _checkpoint(self, shown: int) -> None:
        """Validate, and save what there is after ``shown`` images."""
        plan, state = self.plan, self.state
        mine = plan.validation_rows[self.rank :: self.world]
        dice, by_class = validate(
            self.network, self.validation_reader, mine, self.recipe, plan.task.classes, plan.params.batch_size
        )
        loss = float(parallel.mean(self.losses)) / self.n_losses
        state.history.append({"samples": shown, "loss": loss, "val_dice": dice, "val_dice_by_class": by_class})
        self.known = {} if dice is None else {"val_dice": dice}
        self.losses, self.n_losses = torch.zeros_like(self.losses), 0
        if self.rank == 0:
            rate = float(self.optimiser.param_groups[0]["lr"])
            self.statistics.write(shown, {"loss": loss, "learning_rate": rate, "val_dice": dice})
            finished = state.step == plan.n_steps
            save(plan.checkpoint, self.network, self.optimiser, state, shown, finished=finished)


def _step(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    images: Tensor,
    classes: Tensor,
    recipe: Recipe,
    params: TrainingParams,
    precision: torch.dtype,
    numbers: range,
) -> Tensor:
    """One update; its loss. ``numbers`` are the places of the images in the order of the training."""
    device = next(network.parameters()).device
    inputs, classes = normalise(images.to(device, non_blocking=True)), classes.to(device, non_blocking=True)
    if params.augment:
        rngs = [np.random.default_rng([params.seed, AUGMENTATION, number]) for number in numbers]
        inputs, classes = augment(inputs, classes, rngs)
    inputs, classes = (pad(array, recipe.stride, recipe.smallest) for array in (inputs, classes))
    # For what the network itself draws (drop path), without which a resumed training would differ.
    torch.manual_seed(int(np.random.default_rng([params.seed, NETWORK, numbers[0]]).integers(2**63 - 1)))
    network.train()
    with devices.autocast(device, precision):
        outputs = network(inputs)
    loss = recipe.loss(outputs, classes)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    if recipe.clip_norm is not None:
        nn.utils.clip_grad_norm_(network.parameters(), recipe.clip_norm)
    optimiser.step()
    return loss.detach()


def _shares(plan: _Plan, first_step: int, rank: int, world: int) -> Iterator[list[int]]:
    """Rows of each step from ``first_step`` on that are this process's."""
    for step in range(first_step, plan.n_steps):
        yield order_of(plan.rows, plan.params.seed, plan.shown(step), plan.shown(step + 1))[rank::world]


def _in_parallel(network: nn.Module, device: torch.device) -> nn.Module:
    with warnings.catch_warnings():
        # broadcast_buffers gets another name, which earlier versions do not know.
        warnings.simplefilter("ignore", FutureWarning)
        return DistributedDataParallel(
            network,
            device_ids=[device.index] if device.type == "cuda" else None,
            broadcast_buffers=False,
            gradient_as_bucket_view=True,
        )


def _usable_processes(plan: _Plan) -> int:
    n = devices.count_processes()
    smallest = plan.budget - plan.shown(plan.n_steps - 1)
    if n > min(smallest, plan.params.batch_size):
        raise UsageError(
            f"{n} GPUs cannot share a step of {smallest} images.",
            f"samples={plan.budget} and batch_size={plan.params.batch_size} leave {smallest} for the last step.",
            "Give fewer GPUs (--gpus), or make samples a multiple of batch_size.",
        )
    return n


def _diverged(recipe: Recipe, plan: _Plan, state: TrainingState, shown: int) -> PluginError:
    saved = state.history[-1]["samples"] if state.history else 0
    return PluginError(
        f"The training of {recipe.name} diverged: after {shown} samples its loss is not a number.",
        f"The last good checkpoint is {plan.checkpoint / LAST}, at {saved} samples."
        if saved
        else "It diverged before its first checkpoint.",
        "Train again with a smaller learning_rate "
        f"(-p learning_rate={plan.params.learning_rate / 3:.1g}), into another folder.",
    )
