"""Features of grey images by a pretrained network: batched, in float32, on the CPU or a GPU.

The features of an image depend on the image alone. Rounding may differ with the number of images in a batch, since
the libraries below choose their algorithms by it: at most 1e-4 of the largest feature (tested). On a CPU the same
call gives the same bits. On a GPU TF32 is off, and nothing here runs in half precision.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from synthkit.errors import DataError, GpuUnavailableError, UsageError
from synthkit_features import inception, preprocessing
from synthkit_features.published import ANY, Published, identify, sha256_of
from synthkit_features.weights import default_weights, read

#: Images that go through the network together.
BATCH_SIZE = 32


class Extractor:
    """A network with fixed weights that turns images into features; made by :func:`extractor`.

    Attributes
    ----------
    name : network and the first 8 digits of ``sha256``: ``"efficientnet-lite0@57934424"``. It stands beside every
        number computed from these features.
    sha256 : of the weights file, hexadecimal.
    published : the published file that this is; None of any other.
    dimension : number of features of an image.
    n_classes : classes that the network tells apart; None if it has no classifier.
    is_inception : these are the published Inception-v3 weights that FID and the Inception score are defined by.
    """

    def __init__(
        self,
        network: nn.Module,
        name: str,
        sha256: str,
        prepare: preprocessing.Prepare,
        device: str,
        published: Published | None = None,
    ):
        self._network = network
        self._prepare = prepare
        self._device = torch.device(device)
        self.name = f"{published.called if published else name}@{sha256[:8]}"
        self.sha256 = sha256
        self.published = published
        self.is_inception = published is not None and published.name in ("inception", "torch-fidelity")
        features, logits = self.with_logits(np.zeros((1, 64, 64), np.uint8))
        self.dimension: int = features.shape[1]
        self.n_classes: int | None = None if logits is None else logits.shape[1]

    @property
    def origin(self) -> str:
        """The network and the digest of its file in full, for a note."""
        return f"features {self.name.partition('@')[0]}, sha256 {self.sha256}"

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 ``(n, y, x)`` of any size -> float32 ``(n, dimension)``."""
        return self.with_logits(images)[0]

    def with_logits(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Features ``(n, dimension)`` and, where the network classifies, logits ``(n, n_classes)``.

        Raises
        ------
        ValueError : no uint8 ``(n, y, x)``.
        DataError : a TorchScript network gave something else than features, or features and logits.
        """
        if images.ndim != 3 or images.dtype != np.uint8:
            raise ValueError(f"images are {images.dtype} {images.shape}, not uint8 (n, y, x)")
        parts = [self._batch(images[first : first + BATCH_SIZE]) for first in range(0, len(images), BATCH_SIZE)]
        if not parts:
            empty = np.zeros((0, self.dimension), np.float32)
            return empty, None if self.n_classes is None else np.zeros((0, self.n_classes), np.float32)
        logits = [part[1] for part in parts if part[1] is not None]
        return np.concatenate([part[0] for part in parts]), np.concatenate(logits) if logits else None

    def _batch(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        exact = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
        with torch.inference_mode(), exact:
            pixels = torch.from_numpy(np.ascontiguousarray(images)).to(self._device)
            output = self._network(self._prepare(pixels))
            features, logits = output if isinstance(output, tuple) and len(output) == 2 else (output, None)
            if isinstance(features, torch.Tensor) and features.ndim == 4:
                features = features.mean(dim=(2, 3))
            for tensor in (features, logits):
                if tensor is not None and not (
                    isinstance(tensor, torch.Tensor) and tensor.shape[:1] == pixels.shape[:1]
                ):
                    raise self._not_features(tensor)
            if features is None or features.ndim != 2 or (logits is not None and logits.ndim != 2):
                raise self._not_features(features)
            return features.float().cpu().numpy(), None if logits is None else logits.float().cpu().numpy()

    def _not_features(self, output: object) -> DataError:
        what = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        return DataError(
            "The network in the weights file does not give features.",
            f"It gave {what} instead of features (n, d) or (n, d, y, x), alone or in a pair with logits (n, classes).",
            "Wrap it in a module that does, and save that as TorchScript.",
        )


def extractor(weights: Path | None = None, device: str = "cpu", network: str = ANY) -> Extractor:
    """The network of a weights file; None is EfficientNet-Lite0 on ImageNet, which is installed with this package.

    Parameters
    ----------
    weights : a published file, a state dictionary of a known architecture (.pth, .safetensors), or TorchScript.
        TorchScript is given float32 ``(n, 3, y, x)`` in 0..1 and returns features, or features and logits. See
        :mod:`synthkit_features.weights` for what loading a file runs.
    device : "cpu", "cuda" or "cuda:1".
    network : the published network that the file has to be (:data:`synthkit_features.published.NAMES`), or any.

    Raises
    ------
    synthkit.errors.UsageError : no such device or network.
    synthkit.errors.DataError : the file cannot be read, is of no network known here, or is not that of ``network``.
    synthkit.errors.GpuUnavailableError : torch sees no such device.
    """
    _check(device)
    published = identify(weights, network)  # before anything in the file is read, or run
    path = default_weights() if weights is None else weights
    digest = sha256_of(path)
    content = read(path)
    if isinstance(content, torch.jit.ScriptModule):
        program = content.to(device)
        if published is not None:  # NVlabs' is the only program that is published
            return Extractor(inception.NvlabsInception(program), "", digest, lambda images: images, device, published)
        return Extractor(program, "torchscript", digest, preprocessing.for_torchscript, device)
    architecture, state = content
    model = architecture.build(state).eval().to(device)
    torch_fidelity = published is not None and published.name == "torch-fidelity"
    prepare = preprocessing.INCEPTION_TENSORFLOW if torch_fidelity else architecture.prepare
    return Extractor(model, architecture.name, digest, prepare, device, published)


def _check(device: str) -> None:
    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdecimal()):
        raise UsageError(f"{device} is not a device.", fix="Write cpu, cuda or cuda:1.")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise GpuUnavailableError(
            f"There is no device {device}.", f"torch sees {torch.cuda.device_count()} GPUs.", "Use the CPU."
        )
