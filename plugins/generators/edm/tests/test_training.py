# ruff: noqa: E402 (imports follow the check for torch)
"""Training that resumes exactly; samples that belong to their seed; labels first; offsets that are kept."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from synthkit_edm import Conditions, Params, drawing, model, networks
from synthkit_generative import testing
from synthkit_generative.encodings import Encoding
from synthkit_torch.on_device import assert_stays_on_the_device

import synthkit
from synthkit import api
from synthkit.contract import Asked
from synthkit.errors import DataError, UsageError
from synthkit.testing import InMemorySamples, data

SMALL = Params(kimg=0.032, batch_size=4, width=8, sampler_steps=3, gate_samples=8, checkpoint_kimg=0.012, warm_up=3)
CPU = torch.device("cpu")
KINDS = {"joint": SMALL, "labels first": dataclasses.replace(SMALL, labels_first=True, augment=0.5)}


@pytest.fixture(scope="module", params=sorted(KINDS))
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Params]:
    folder, params = tmp_path_factory.mktemp("checkpoint"), KINDS[request.param]
    model.train(testing.make_discs(12), folder, params)
    return folder, params


def training(params: Params, device: torch.device = CPU) -> model.Training:
    encoding = Encoding("onehot", (0, 4), ((4,),))
    told = model.augmentation.TOLD if params.augment else 0
    asked = model.conditions.numbers(1)
    shape = model.Shape(32, 1, 1, params.width, params.res_blocks, params.heads, params.labels_first, told, asked)
    known = model.Statistics(torch.zeros(2, 32, 32), torch.ones(2), 0.1)
    return model.Training(shape, params, encoding, known, device, torch.float32)


def everything(folder: Path) -> dict:
    return testing.load_file(folder / "generator.safetensors")


def test_a_resumed_training_ends_with_the_same_weights(trained: tuple[Path, Params], tmp_path: Path) -> None:
    whole, params = trained
    with testing.killed_after(20):
        model.train(testing.make_discs(12), tmp_path, params)
    model.train(testing.make_discs(12), tmp_path, params)
    expected, resumed = everything(whole), everything(tmp_path)
    assert expected.keys() == resumed.keys()
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in expected.items())
    assert (whole / "config.json").read_text() == (tmp_path / "config.json").read_text()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_parts_of_a_batch_add_up(kind: str) -> None:
    images = torch.rand(8, 2, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    losses = []
    for accumulate in (1, 4):
        made = training(dataclasses.replace(KINDS[kind], batch_size=8, accumulate=accumulate))
        losses.append([float(value) for _ in range(3) for value in made.training_step(images).values()])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    params = dataclasses.replace(KINDS["labels first"], kimg=0.012, gate_samples=0)
    testing.assert_processes_agree(model.train, tmp_path, params)


def test_noise_levels_follow_the_size_unless_they_are_given() -> None:
    assert training(SMALL).noise_mean == model.process.noise_mean(32)
    assert training(dataclasses.replace(SMALL, noise_mean=-1.2)).noise_mean == -1.2


@pytest.mark.parametrize(("patch", "remedy"), [(2, "patch=1"), (3, "patch=1")])
def test_a_patch_that_leaves_too_little_is_refused(patch: int, remedy: str, tmp_path: Path) -> None:
    params = dataclasses.replace(SMALL, patch=patch)
    with pytest.raises(UsageError, match="does not go with slices of 32 pixels") as caught:
        model.train(testing.make_discs(4), tmp_path, params)
    assert remedy in str(caught.value.fix)
    networks.check_patch(32, 1)
    networks.check_patch(64, 2)


def test_checkpoints_of_before_patches_are_drawn_from_as_they_were(trained: tuple[Path, Params]) -> None:
    """Those that name neither patch nor pace have the paper's noise level, ln(sigma) / 4, and single pixels."""
    architecture = json.loads((trained[0] / "config.json").read_text())["architecture"]
    assert architecture["pace"] == model.process.PACE
    older = {key: value for key, value in architecture.items() if key not in ("patch", "pace", "features")}
    for denoiser, *_ in model.Model(model.Shape(**older)).denoisers:
        assert (denoiser.patch, denoiser.pace, denoiser.detail) == (1, 0.25, None)


def test_a_training_goes_on_from_a_checkpoint_of_before_patches(tmp_path: Path) -> None:
    """It stays the network that it was, told of noise as it learned it."""
    older, newer = tmp_path / "older", tmp_path / "newer"
    for folder in (older, newer):
        folder.mkdir()
    with mock.patch.object(model.process, "PACE", 0.25):
        model.train(testing.make_discs(12), older, SMALL)
    assert not {"patch", "pace", "features"} & {*json.loads((older / "config.json").read_text())["architecture"]}
    model.train(testing.make_discs(12), newer, SMALL, initial=older)
    architecture = [json.loads((folder / "config.json").read_text())["architecture"] for folder in (older, newer)]
    assert architecture[0] == architecture[1]


def test_the_learning_rate_rises_and_falls() -> None:
    made = training(dataclasses.replace(SMALL, kimg=0.04, learning_rate=1.0))
    assert made.steps == 10
    rates = []
    for made.step in range(10):
        rates.append(made.learning_rate)
    assert rates == pytest.approx([1 / 3, 2 / 3, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2])
    made = training(dataclasses.replace(SMALL, warm_up=0, decay=0.0, learning_rate=1.0))
    assert made.learning_rate == 1.0


def test_a_length_is_fixed_from_the_start(tmp_path: Path) -> None:
    params = dataclasses.replace(SMALL, kimg=0.012, gate_samples=0)
    model.train(testing.make_discs(12), tmp_path, params)
    with pytest.raises(DataError, match="another training"):
        model.train(testing.make_discs(12), tmp_path, dataclasses.replace(params, kimg=0.02))


def test_another_training_begins_with_it(trained: tuple[Path, Params], tmp_path: Path) -> None:
    folder, params = trained
    testing.assert_begins_with(model.train, folder, tmp_path, dataclasses.replace(params, kimg=0.008))


@pytest.mark.parametrize(
    ("change", "wrong"),
    [({"label_encoding": "onehot"}, "coded as"), ({"width": 16}, "its width is 8, here 16")],
)
def test_another_network_does_not_begin_with_it(
    change: dict, wrong: str, trained: tuple[Path, Params], tmp_path: Path
) -> None:
    folder, params = trained
    data = testing.make_discs(12, label_values=(0, 1, 2, 4)) if "label_encoding" in change else testing.make_discs(12)
    if "label_encoding" in change:
        folder = tmp_path / "begun"
        folder.mkdir()
        model.train(data, folder, dataclasses.replace(params, kimg=0.004, gate_samples=0))
    (tmp_path / "new").mkdir()
    with pytest.raises(DataError, match=wrong):
        model.train(data, tmp_path / "new", dataclasses.replace(params, **change), initial=folder)


def test_samples_belong_to_their_seed(trained: tuple[Path, Params]) -> None:
    folder, params = trained
    params = dataclasses.replace(params, background_zero=False)
    images, labels = testing.stacked(model.generate(folder, [7, 1, 2**40], params))
    assert images.shape == (3, 2, 32, 32) and set(np.unique(labels)) <= {0, 4}
    again, labelled = testing.stacked(model.generate(folder, [2**40, 7], params))
    np.testing.assert_array_equal(again, images[[2, 0]])
    np.testing.assert_array_equal(labelled, labels[[2, 0]])


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_samples_in_a_batch_are_those_drawn_alone(kind: str) -> None:
    made = training(KINDS[kind])
    for parameter in made.ema.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    with torch.inference_mode():
        both = made.sample([3, 4])
        alone = torch.cat([made.sample([seed]) for seed in (3, 4)])
    torch.testing.assert_close(both, alone, rtol=0, atol=1e-3)


def test_labels_first_draws_contrasts_of_its_labels() -> None:
    """The contrasts are given the labels as they are decoded, with the offsets of the checkpoint."""
    made, seen = training(KINDS["labels first"]), []
    forward = made.ema.contrasts.network

    def watched(x, sigma, given, told):
        seen.append(given)
        return forward(x, sigma, given, told)

    with mock.patch.object(made.ema.contrasts, "network", watched), torch.inference_mode():
        for offsets in ((), (0.0, 3.0)):
            images = drawing.Drawing(made.ema, made.encoding, made.params, offsets).samples([1])
            grey = drawing.of_bytes(drawing.to_grey_levels(images[:, 1:]))
            expected = made.encoding.encode(made.encoding.decode(grey, offsets))
            np.testing.assert_array_equal(seen[-1].numpy(), expected)
    assert (seen[-1] == 1).all()  # an offset of 3 makes everything that label


def test_contrasts_are_drawn_for_label_maps(trained: tuple[Path, Params]) -> None:
    """Labels stay as they are asked for, outside the head too; a seed without a map is drawn as ever."""
    folder, params = trained
    labels = np.zeros((32, 32), dtype=np.uint8)
    labels[:6, :6] = 4
    asked = [Asked(each, Conditions()) for each in (labels, None, labels)]
    samples = model.generate(folder, [1, 2, 3], params, asked=asked)
    if not params.labels_first:
        with pytest.raises(DataError, match="cannot be asked for label maps") as caught:
            next(samples)
        assert "-p labels_first=true" in caught.value.fix
        return
    (first, drawn), free, (other, again) = samples
    assert np.array_equal(drawn, labels) and np.array_equal(again, labels) and not np.array_equal(first, other)
    ((plain, plain_labels),) = model.generate(folder, [2], params)
    np.testing.assert_array_equal(free[0], plain)
    np.testing.assert_array_equal(free[1], plain_labels)
    ((alone, _),) = model.generate(folder, [3], params, asked=asked[:1])
    np.testing.assert_array_equal(alone, other)


def test_offsets_are_kept_and_can_be_left_out(trained: tuple[Path, Params], tmp_path: Path) -> None:
    folder, params = trained
    config = json.loads((folder / "config.json").read_text())
    assert len(config["offsets"]) == 2 and config["offsets"][0] == 0
    for path in folder.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "config.json").write_text(json.dumps({**config, "offsets": [0.0, 5.0]}))
    params = dataclasses.replace(params, background_zero=False)
    ((_, labels),) = model.generate(tmp_path, [1], params)
    assert (labels == 4).all()
    ((_, labels),) = model.generate(tmp_path, [1], dataclasses.replace(params, label_offsets=False))
    assert not (labels == 4).all()


@pytest.mark.parametrize("encoding", ["grey", "onehot", "nested", "distance"])
def test_every_encoding_is_trained_and_told_of(encoding, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = []
    monkeypatch.setattr(synthkit, "message", lambda text, **_: said.append(text))
    data = testing.make_discs(8, label_values=(0, 1, 2, 4))
    params = dataclasses.replace(SMALL, kimg=0.004, label_encoding=encoding)
    model.train(data, tmp_path, params)
    assert any(text.startswith("Labels of 8 samples of this generator") for text in said)
    _, labels = testing.stacked(model.generate(tmp_path, [1, 2], params))
    assert set(np.unique(labels)) <= {0, 1, 2, 4}


def test_statistics_are_those_of_the_images_about_their_mean() -> None:
    images, labels = np.zeros((2, 1, 32, 32), dtype=np.uint8), np.zeros((2, 32, 32), dtype=np.uint8)
    images[0] = 255
    labels[1, :16] = 4
    found = networks.Statistics.of(
        InMemorySamples(images, labels, contrasts=("t1",), label_values=(0, 4)), Encoding("onehot", (0, 4), ((4,),))
    )
    assert torch.equal(found.mean[0], torch.zeros(32, 32))
    assert found.mean[1, :16].eq(0).all() and found.mean[1, 16:].eq(-1).all()
    assert found.sigma_data.tolist() == pytest.approx([1, 0.5**0.5])
    assert found.largest_area == 0.5
    found = networks.Statistics.of(
        InMemorySamples(images[:1], labels[:1], label_values=(0, 4), contrasts=("t1",)), Encoding("grey", (0, 4))
    )
    assert found.sigma_data.tolist() == [0.25, 0.25] and found.largest_area == 0


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"width": 5}, "multiple of 4"),
        ({"sigma_min": 30.0}, "Noise cannot fall"),
        ({"label_order": "0,4"}, "label_order says nothing"),
    ],
)
def test_parameters_that_do_not_go_together_are_refused(change: dict, wrong: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=wrong):
        model.train(testing.make_discs(4), tmp_path, dataclasses.replace(SMALL, **change))
    assert list(tmp_path.iterdir()) == []


def test_labels_first_without_labels_is_refused(tmp_path: Path) -> None:
    data = InMemorySamples(np.zeros((2, 1, 32, 32), np.uint8), None, label_values=(0,))
    with pytest.raises(UsageError, match="no labels to draw first") as caught:
        model.train(data, tmp_path, KINDS["labels first"])
    assert caught.value.fix == "Leave it out."
    model.train(data, tmp_path, dataclasses.replace(SMALL, kimg=0.004))
    ((_, labels),) = model.generate(tmp_path, [1], SMALL)
    assert not labels.any()


@pytest.mark.slow
def test_discs_are_learned(tmp_path: Path) -> None:
    params = Params(kimg=6.4, batch_size=16, width=16, gate_samples=32, warm_up=10)
    model.train(testing.make_discs(64), tmp_path, params)
    testing.assert_like_discs(*testing.stacked(model.generate(tmp_path, range(24), params)), overlap=0.8)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_step_needs_nothing_of_the_host(kind: str) -> None:
    assert_stays_on_the_device(lambda device: training(KINDS[kind], device), (4, 2, 32, 32))


def test_a_joint_model_is_refused_label_maps_before_a_run_starts(tmp_path: Path) -> None:
    params = {"kimg": 0.008, "batch_size": 4, "width": 4, "gate_samples": 0}
    real = data.real_dataset(4, 32).path
    joint = api.train("edm", [real], tmp_path / "joint", params=params, backend="inline").run.path
    with pytest.raises(UsageError, match=r"trained with labels_first=false.*Train one with -p labels_first=true"):
        api.generate(joint, "0", tmp_path / "made", labels=real, backend="inline")
    assert not (tmp_path / "made").exists()
    with pytest.raises(UsageError, match=r"kimg is fixed from the start of a training\..*--from"):
        api.train("edm", [real], tmp_path / "joint", params={**params, "kimg": 1.0}, resume=True, backend="inline")
