# ruff: noqa: E402 (imports follow the check for torch)
"""The loop around a method: it resumes exactly, reports, and fails with reasons. The method is one linear layer."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from safetensors.torch import load_file
from synthkit_generative import training as loop
from synthkit_generative.encodings import Encoding, encoding_of
from synthkit_generative.initial import Initial, load_initial
from synthkit_generative.testing import killed_after, make_discs
from synthkit_generative.training import Method, fit
from synthkit_generative.weights import ema_decay, load_state_dict, state_dict, update_ema
from synthkit_torch.streams import SeedStreams, own_seed, stream
from torch import Tensor, nn

import synthkit
from synthkit import events
from synthkit.errors import DataError, OutOfMemoryError, PluginError

METHOD = Method("Toy", {"size": 32}, "Lower batch_size.", "Use a lower learning_rate.")


@dataclass(frozen=True)
class Params:
    kimg: float = synthkit.param(0.16, "length", resume="more")
    batch_size: int = 8
    mirror: bool = False
    checkpoint_kimg: float = 0.04
    snapshot_kimg: float = 0.08
    keep_kimg: float = 0.08
    precision: str = "float32"
    gate_samples: int = synthkit.param(0, "at the end", resume="any")
    seed: int = 0
    label_order: str = ""
    learning_rate: float = 0.01
    truncation_psi: float = synthkit.param(1.0, "of generation", resume="any")


class Toy:
    """Learns a weight a channel: the mean of the images, disturbed by noise that follows from seed and step."""

    def __init__(self, params: Params, device: torch.device) -> None:
        self.params, self.device, self.step = params, device, 0
        with own_seed(params.seed):
            self.layer = nn.Linear(3, 3)
        self.ema = nn.Linear(3, 3)
        self.ema.load_state_dict(self.layer.state_dict())
        self.optimiser = torch.optim.Adam(self.layer.parameters(), lr=params.learning_rate)

    def training_step(self, real: Tensor) -> dict[str, Tensor]:
        noise = torch.randn(len(real), 3, generator=stream(self.device, self.params.seed, 1, self.step))
        loss = (self.layer(noise) - real.mean(dim=(2, 3))).square().mean()
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.step += 1
        update_ema(self.ema, self.layer, ema_decay(8, self.step * 8, 0.05))
        return {"loss": loss}

    @property
    def _roles(self) -> tuple[dict[str, nn.Module], dict[str, torch.optim.Optimizer]]:
        return {"layer": self.layer, "averaged": self.ema}, {"layer": self.optimiser}

    def state(self) -> dict[str, Tensor]:
        return state_dict(*self._roles)

    def restore(self, tensors: dict[str, Tensor], step: int) -> None:
        load_state_dict(tensors, *self._roles)
        self.step = step

    def begin_with(self, weights: dict[str, Tensor], state: dict[str, Tensor]) -> None:
        load_initial({"network": self.layer, "averaged": self.ema}, weights, {})

    def inference_state(self) -> dict[str, Tensor]:
        return dict(self.ema.state_dict())

    def sample(self, seeds: Sequence[int]) -> Tensor:
        return self.ema(SeedStreams(seeds, self.device).normal(3))[:, :, None, None].expand(-1, -1, 32, 32)


def train(data, folder: Path, params: Params = Params(), toy: type[Toy] = Toy, initial: Initial | None = None) -> None:
    encoding = encoding_of("grey", data, params.label_order)
    fit(METHOD, data, folder, params, lambda device, precision: toy(params, device), initial, encoding=encoding)


def test_a_killed_training_ends_with_the_same_weights(tmp_path: Path) -> None:
    data, whole, broken = make_discs(20), tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    train(data, whole)
    for images in (72, 112):  # between two saved states, twice
        with killed_after(images):
            train(data, broken)
        assert (broken / "state" / "training.safetensors").exists()
        assert json.loads((broken / "progress.json").read_text())["images"] in (40, 80)
        assert json.loads((broken / "config.json").read_text())["finished"] is False
    train(data, broken)
    expected, resumed = (load_file(folder / "generator.safetensors") for folder in (whole, broken))
    assert all(torch.equal(expected[name], resumed[name]) for name in expected) and expected.keys() == resumed.keys()
    assert {path.name for path in broken.iterdir()} == {"config.json", "generator.safetensors", "state"}
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in broken.iterdir())


def test_mirrored_images_are_shown_where_that_is_asked_for(tmp_path: Path) -> None:
    seen: list[Tensor] = []

    class Looking(Toy):
        def training_step(self, real: Tensor) -> dict[str, Tensor]:
            seen.append(real)
            return super().training_step(real)

    for mirror in (False, True):
        (tmp_path / f"{mirror}").mkdir()
        train(make_discs(1), tmp_path / f"{mirror}", Params(kimg=0.008, mirror=mirror), Looking)
    plain, both = seen
    assert all(torch.equal(image, plain[0]) for image in plain)
    mirrored = [torch.equal(image, plain[0].flip(-1)) for image in both]  # the label channel as well
    assert sum(mirrored) == 4 and all(torch.equal(both[n], plain[0]) for n in range(8) if not mirrored[n])


def test_a_finished_training_is_made_longer_as_if_it_had_been_long_from_the_start(tmp_path: Path) -> None:
    data, whole, short = make_discs(20), tmp_path / "whole", tmp_path / "short"
    whole.mkdir()
    short.mkdir()
    train(data, whole)
    train(data, short, Params(kimg=0.072))
    train(data, short)
    expected, longer = (load_file(folder / "generator.safetensors") for folder in (whole, short))
    assert all(torch.equal(expected[name], longer[name]) for name in expected)
    with pytest.raises(DataError, match="was trained on more images"):
        train(data, short, Params(kimg=0.08))
    (short / "state" / "training.safetensors").unlink()
    with pytest.raises(DataError, match="cannot go on"):
        train(data, short, Params(kimg=0.24))


def test_a_training_begins_with_the_weights_of_another(tmp_path: Path) -> None:
    data = make_discs(20)
    for name in ("first", "second", "none"):
        (tmp_path / name).mkdir()
    train(data, tmp_path / "first")
    initial = Initial(tmp_path / "first")
    train(make_discs(8), tmp_path / "none", Params(kimg=0), initial=initial)  # no step: the weights as they were
    learned, begun = (load_file(tmp_path / name / "generator.safetensors") for name in ("first", "none"))
    assert all(torch.equal(learned[name], begun[name]) for name in learned)
    with killed_after(48):
        train(make_discs(8), tmp_path / "second", initial=initial)
    with pytest.raises(DataError, match="another training"):  # one that began with random weights
        train(make_discs(8), tmp_path / "second")
    train(make_discs(8), tmp_path / "second", initial=initial)
    with pytest.raises(DataError, match=r"its size is 32, here 64"):
        initial.check({"label_values": [0, 4], "architecture": {"size": 64}})
    with pytest.raises(DataError, match=r"Its labels are, from dark to bright, \[0, 4\]"):
        initial.check({"label_values": [4, 0], "architecture": {"size": 32}})


def test_a_state_of_another_training_or_network_is_refused(tmp_path: Path) -> None:
    for name, params in (("one", Params()), ("other", Params(seed=1))):
        (tmp_path / name).mkdir()
        train(make_discs(8), tmp_path / name, params)
    assert Initial(tmp_path / "one", tmp_path / "one" / "state").state_tensors()
    with pytest.raises(DataError, match="is of another training"):
        Initial(tmp_path / "one", tmp_path / "other" / "state").state_tensors()
    with pytest.raises(DataError, match="Its discriminator is another network"):
        modules = {"averaged": nn.Linear(3, 3), "discriminator": nn.Linear(2, 2)}
        state = {f"{role}.{name}": torch.zeros(3, 3) for role in modules for name in ("weight",)}
        load_initial(modules, {}, state | {"averaged.bias": torch.zeros(3), "discriminator.bias": torch.zeros(3)})


def test_a_run_keeps_generators_to_draw_from(tmp_path: Path) -> None:
    outputs = _run(tmp_path)
    (outputs / "checkpoint" / "synthkit.json").write_text('{"plugin": "toy"}')
    with events.logging_to(tmp_path / "events.jsonl"):
        train(make_discs(8), outputs / "checkpoint")
    kept = outputs / "snapshots" / "000000.080"
    assert [path.name for path in (outputs / "snapshots").iterdir() if path.is_dir()] == [kept.name]
    assert {path.name for path in kept.iterdir()} == {
        *("config.json", "generator.safetensors", "progress.json", "synthkit.json")
    }
    assert json.loads((kept / "progress.json").read_text()) == {"images": 80}
    assert not (outputs / "checkpoint" / "progress.json").exists()


def test_a_finished_training_is_not_repeated(tmp_path: Path) -> None:
    data, params = make_discs(8), Params(kimg=0.008)
    train(data, tmp_path, params)
    reads = len(data.reads)
    train(data, tmp_path, params)
    assert len(data.reads) == reads


@pytest.mark.parametrize(
    ("change", "resumes"),
    [
        ({"seed": 1}, False),
        ({"learning_rate": 0.001}, False),
        ({"label_order": "0,4"}, False),
        ({"truncation_psi": 0.5}, True),
    ],
)
def test_only_the_same_job_resumes(tmp_path: Path, change: dict, resumes: bool) -> None:
    params = Params(checkpoint_kimg=0.008)
    with killed_after(16):
        train(make_discs(8), tmp_path, params)
    changed = dataclasses.replace(params, **change)
    if resumes:
        train(make_discs(8), tmp_path, changed)
    else:
        with pytest.raises(DataError, match="another training"):
            train(make_discs(8), tmp_path, changed)


def test_labels_are_learned_in_the_order_asked_for(tmp_path: Path) -> None:
    data, seen = make_discs(8, label_values=(0, 1, 2, 4)), []

    class Watching(Toy):
        def training_step(self, real: Tensor) -> dict[str, Tensor]:
            seen.append(real[:, -1].amax().item())
            return super().training_step(real)

    for name, order, level in (("study", "", 204), ("nested", "0,2,4,1", 102)):
        (tmp_path / name).mkdir()
        train(data, tmp_path / name, Params(kimg=0.008, label_order=order), Watching)
        assert seen.pop() == pytest.approx(level / 127.5 - 1)
        found = json.loads((tmp_path / name / "config.json").read_text())["label_values"]
        assert found == [int(item) for item in (order or "0,1,2,4").split(",")]


def test_other_data_does_not_resume(tmp_path: Path) -> None:
    train(make_discs(8), tmp_path, Params(kimg=0.008))
    with pytest.raises(DataError, match="another training"):
        train(make_discs(9), tmp_path, Params(kimg=0.008))


def test_a_loss_that_is_no_number_names_the_last_good_state(tmp_path: Path) -> None:
    class Spoilt(Toy):
        def training_step(self, real: Tensor) -> dict[str, Tensor]:
            values = super().training_step(real)
            return {"loss": values["loss"] * float("nan")} if self.step == 12 else values

    with pytest.raises(
        PluginError, match=r"diverged by image 96.*training\.safetensors, after 80 images.*lower learning_rate"
    ):
        train(make_discs(8), tmp_path, toy=Spoilt)


def test_a_state_with_nan_is_never_saved(tmp_path: Path) -> None:
    class Spoilt(Toy):
        def state(self) -> dict[str, Tensor]:
            return {**super().state(), "layer.bias": torch.tensor(float("nan"))}

    with pytest.raises(PluginError, match="No state had been saved yet"):
        train(make_discs(8), tmp_path, toy=Spoilt)
    assert list(tmp_path.iterdir()) == []


def test_memory_errors_say_what_to_lower(tmp_path: Path) -> None:
    class Greedy(Toy):
        def training_step(self, real: Tensor) -> dict[str, Tensor]:
            return {"loss": torch.empty(2**50)}

    with pytest.raises(OutOfMemoryError, match="Lower batch_size"):
        train(make_discs(8), tmp_path, toy=Greedy)


def test_errors_of_the_reading_thread_reach_the_caller(tmp_path: Path) -> None:
    data = make_discs(8)

    def broken(_: object) -> None:
        raise DataError("A shard is corrupt.")

    data.read = broken
    with pytest.raises(DataError, match="shard"):
        train(data, tmp_path)


def test_training_leaves_the_callers_random_state_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()

    class Quiet(Toy):  # its averaged layer draws initial weights of its own
        def __init__(self, *arguments: object) -> None:
            with own_seed(9):
                super().__init__(*arguments)

    train(make_discs(8), tmp_path, Params(kimg=0.008), toy=Quiet)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("precision", "allowed"), [("float32", (False, False)), ("tf32", (True, True)), ("bfloat16", (True, False))]
)
def test_tf32_is_what_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str, allowed: tuple[bool, bool]
) -> None:
    """In convolutions, and in products of matrices."""
    seen = set()

    class Watching(Toy):
        def training_step(self, real: Tensor) -> dict[str, Tensor]:
            seen.add((torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32))
            return super().training_step(real)

    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    train(make_discs(8), tmp_path, Params(kimg=0.008, precision=precision), toy=Watching)
    assert seen == {allowed} and torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32


def _run(folder: Path) -> Path:
    (folder / "outputs" / "checkpoint").mkdir(parents=True, exist_ok=True)
    return folder / "outputs"


def test_a_run_keeps_statistics_and_snapshots_of_the_whole_training(tmp_path: Path) -> None:
    """A line each 40 images and a grid each 80, also where a kill came in between; none of it in the checkpoint."""
    outputs, data = _run(tmp_path), make_discs(20)
    seen: list[float] = []
    for images in (72, None):
        with events.logging_to(tmp_path / "events.jsonl"):
            if images:
                with killed_after(images):
                    train(data, outputs / "checkpoint")
            else:
                train(data, outputs / "checkpoint")
    lines = [json.loads(line) for line in (outputs / "stats.jsonl").read_text().splitlines()]
    assert [line["images"] for line in lines] == [40, 80, 120, 160]
    assert (outputs / "progress.png").is_file() and (outputs / "reals.png").is_file()
    seen = [line["seconds"] for line in lines]
    assert seen == sorted(seen) and lines[-1]["eta_seconds"] == 0 and lines[0]["loss"] > 0
    assert {p.name for p in (outputs / "snapshots").glob("*.png")} == {"000000.080.png", "000000.160.png"}
    assert {p.name for p in (outputs / "checkpoint").iterdir()} == {"config.json", "generator.safetensors", "state"}


def test_statistics_are_means_since_the_last_line(tmp_path: Path) -> None:
    class Counting(Toy):
        def training_step(self, real: Tensor) -> dict[str, Tensor]:
            super().training_step(real)
            return {"loss": torch.tensor(float(self.step))}

    outputs = _run(tmp_path)
    with events.logging_to(tmp_path / "events.jsonl"):
        train(make_discs(8), outputs / "checkpoint", toy=Counting)
    lines = [json.loads(line) for line in (outputs / "stats.jsonl").read_text().splitlines()]
    assert [line["loss"] for line in lines] == [3.0, 8.0, 13.0, 18.0]  # of steps 1-5, 6-10, ...


def test_progress_counts_images_and_tells_the_pace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(synthkit, "progress", lambda *a, **k: calls.append((*a, k)))
    train(make_discs(8), tmp_path, Params(kimg=0.024))
    assert [call[:2] for call in calls] == [(8, 24), (16, 24), (24, 24)]
    assert all(call[2]["unit"] == "image" and call[2]["seconds_per_kimg"] > 0 for call in calls)


def test_the_state_of_a_training_is_everything(tmp_path: Path) -> None:
    """Two steps after a restoration are those without it, whatever the new object held before."""
    data = torch.rand(8, 3, 32, 32)
    first, second = Toy(Params(), torch.device("cpu")), Toy(Params(seed=5), torch.device("cpu"))
    second.params = first.params
    first.training_step(data)
    second.training_step(data)
    second.restore({name: tensor.clone() for name, tensor in first.state().items()}, first.step)
    for _ in range(2):
        first.training_step(data)
        second.training_step(data)
    assert all(torch.equal(a, b) for a, b in zip(first.state().values(), second.state().values(), strict=True))


def test_half_lives() -> None:
    assert ema_decay(8, 10**9, 0.008) == pytest.approx(0.5)
    assert ema_decay(8, 160, 10.0, ramp=0.05) == pytest.approx(0.5)  # 5 % of 160 images are one batch
    assert ema_decay(8, 160, 0.0) == 0.0


def test_interval_of_zero_is_never() -> None:
    made = loop._Loop(METHOD, Path(), {}, Params(), Toy(Params(), torch.device("cpu")), 1, Encoding("grey", (0, 4)))
    assert made._interval(0) == 0 and made._interval(0.001) == 1 and made._interval(0.04) == 5
    assert np.isfinite(made.shown)
