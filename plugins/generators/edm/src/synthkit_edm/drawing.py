"""Samples of EDM: free, asked for a label map, or for how much of the slice is labelled and with which labels."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from synthkit_generative.drawing import checkpoint_errors, draw, draw_given, load, to_grey_levels
from synthkit_generative.encodings import Encoding, of_bytes
from synthkit_torch.devices import find_device
from synthkit_torch.streams import SeedStreams, own_seed
from torch import Tensor

import synthkit
from synthkit.contract import Asked
from synthkit.errors import DataError, UsageError
from synthkit_edm import Conditions, Params, conditions, process
from synthkit_edm.networks import Model, Shape
from synthkit_edm.process import Denoiser

Sample = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def generate(
    checkpoint: Path, seeds: Iterable[int], params: Params, *, asked: Iterable[Asked] | None = None
) -> Iterator[Sample]:
    """Yield ``(image uint8 (contrast, y, x), labels uint8 (y, x))`` for each seed, in order.

    Of seeds that are ``asked`` for a label map the contrasts are drawn given that; only of a training with
    ``labels_first``, else a DataError. UsageError for a label map and conditions at once.
    """
    check_levels(params)
    device = find_device()
    config, tensors = load(Path(checkpoint))
    with checkpoint_errors("EDM"):
        with own_seed(0):  # for weights that are replaced at once
            network = Model(Shape(**config["architecture"]))
        network.load_state_dict(tensors)
        encoding = Encoding.of_config(config)
        names = dict(zip(config["label_values"], config["label_names"], strict=True))
        offsets = [float(offset) for offset in config.get("offsets", ())] if params.label_offsets else []
    network.requires_grad_(False).eval().to(device)
    drawing = Drawing(network, encoding, params, offsets)

    def free(wanted: Iterable[int], values: Conditions) -> Iterator[Sample]:
        sampler = functools.partial(drawing.samples, told=drawing.told(values, names))
        return draw(wanted, sampler, params, encoding=encoding, device=device, name="EDM", offsets=offsets)

    def painter(batch: Sequence[int], labels: NDArray[np.uint8]) -> Tensor:
        return drawing.contrasts(SeedStreams(batch, device), labels)

    if asked is None:
        yield from free(seeds, Conditions())
        return
    pairs = zip(seeds, asked, strict=False)
    for (has_map, values), group in itertools.groupby(pairs, lambda pair: (pair[1].labels is not None, pair[1].values)):
        if has_map:
            check_map(network.shape, values)
            given = ((seed, wanted.labels) for seed, wanted in group if wanted.labels is not None)
            yield from draw_given(given, painter, params, device=device, name="EDM")
        else:
            yield from free((seed for seed, _ in group), values)


@dataclass(frozen=True)
class Drawing:
    """What samples are drawn with. All noise of each comes from its seed alone."""

    network: Model
    encoding: Encoding
    params: Params
    offsets: Sequence[float] = ()

    def told(self, values: Conditions, names: dict[int, str]) -> Tensor:
        """What the network of labels is told of a sample that is asked for ``values``, ``(1, numbers)``.

        ``names`` are of the labels by value. An area that no training image has becomes the largest of them, with a
        warning.
        """
        area, largest = values.area_percent, 100 * float(self.network.largest_area)
        if area is not None and area > largest:
            synthkit.message(
                f"area_percent={area:g} is more than any training image has; samples are asked for {largest:.2g}.",
                level="warning",
            )
            area = largest
        above = sorted(self.encoding.label_values)[1:]
        parts = None if values.parts is None else [names[value] in values.parts for value in above]
        asked = conditions.asked_of(None if area is None else area / 100, parts, len(above), self._device)
        return torch.cat([torch.zeros(1, self.network.shape.told, device=self._device), asked], dim=1)

    def samples(self, seeds: Sequence[int], told: Tensor | None = None) -> Tensor:
        """Images of these seeds, ``float (n, contrast + channel, y, x)``.

        With labels first the contrasts are given the labels that were drawn, decoded with ``offsets``.
        """
        shape = self.network.shape
        streams = SeedStreams(seeds, self._device)
        told = torch.zeros(1, shape.told + shape.asked, device=self._device) if told is None else told
        if not shape.labels_first:
            return self._drawn(self.network.joint, streams, told=told)
        channels = self._drawn(self.network.labels, streams, told=told)
        labels = self.encoding.decode(of_bytes(to_grey_levels(channels)), self.offsets)
        return torch.cat([self.contrasts(streams, labels), channels], dim=1)

    def contrasts(self, streams: SeedStreams, labels: NDArray[np.uint8]) -> Tensor:
        """Contrasts ``(n, contrast, y, x)`` of labels ``(n, y, x)``."""
        given = torch.from_numpy(self.encoding.encode(labels)).to(self._device)
        unchanged = torch.zeros(1, self.network.shape.told, device=self._device)
        return self._drawn(self.network.contrasts, streams, given, unchanged)

    @property
    def _device(self) -> torch.device:
        return self.network.largest_area.device

    def _drawn(
        self, denoiser: Denoiser, streams: SeedStreams, given: Tensor | None = None, told: Tensor | None = None
    ) -> Tensor:
        """Images in about [-1, 1], one of each stream, through falling noise levels.

        Guidance is D(nothing) + w (D(asked) - D(nothing)), where anything is asked for (Ho, Salimans 2022, equation 6
        with its w + 1 as w).
        """
        params = self.params
        levels = process.schedule(params.sampler_steps, params.sigma_min, params.sigma_max, params.rho)
        is_asked = given is not None or bool(told is not None and told.any())
        nothing = tuple(None if each is None else torch.zeros_like(each) for each in (given, told))

        def denoise(x: Tensor, sigma: float) -> Tensor:
            sigmas = torch.full((len(x),), sigma, device=x.device)
            found: Tensor = denoiser(x, sigmas, given, told)
            if is_asked and params.guidance != 1:
                free: Tensor = denoiser(x, sigmas, *nothing)
                found = free + params.guidance * (found - free)
            return found

        return process.heun(denoise, streams.normal(*denoiser.shape), levels) + denoiser.mean


def check_map(shape: Shape, values: Conditions) -> None:
    """Refuse a label map that cannot be asked for: of this model, or beside these conditions."""
    if not shape.labels_first:
        raise DataError(
            "This model of EDM cannot be asked for label maps.",
            "It draws contrasts and labels together.",
            "Train one with -p labels_first=true.",
        )
    if values != Conditions():
        raise UsageError("A label map says its area and its parts already.", fix="Ask for one or for the other.")


def check_levels(params: Params) -> None:
    """:class:`synthkit.errors.UsageError` unless the noise levels of a sample fall."""
    if params.sigma_min >= params.sigma_max:
        raise UsageError(
            f"Noise cannot fall from sigma_max={params.sigma_max:g} to sigma_min={params.sigma_min:g}.",
            "A sample begins with the highest level and ends with the lowest.",
            "Give a sigma_min below sigma_max, or neither.",
        )
