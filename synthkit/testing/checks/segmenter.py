"""What a segmenter promises about its labels."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from synthkit.testing.bench import N_IMAGES, PluginUnderTest, require, require_form, require_known_labels, require_same
from synthkit.testing.checks.registry import check

if TYPE_CHECKING:
    from synthkit.contract import UInt8Array

_TOO_MANY_AHEAD = 1024


@check("segmenter")
def label_maps_have_the_right_form(plugin: PluginUnderTest) -> None:
    """One label map an image, uint8 (y, x), that holds label values of the training data only."""
    require_form(plugin.outputs(), N_IMAGES, 4, plugin.size)
    require_known_labels(plugin.outputs(), plugin.dataset().label_values)


@check("segmenter")
def labels_belong_to_their_image(plugin: PluginUnderTest) -> None:
    """The labels of an image come in its place and depend on that image alone, not on its neighbours or the batch."""
    images = plugin.images()
    reference = plugin.outputs()
    for order, when in (
        (list(range(len(images)))[::-1], "in another order"),
        ([3], "alone"),
        ([4, 2], "in a smaller batch"),
    ):
        made = plugin.segment(plugin.trained(), [images[i].copy() for i in order])
        require_same([reference[i] for i in order], made, when)


@check("segmenter")
def black_image_is_no_error(plugin: PluginUnderTest) -> None:
    """An image of zeros, alone or among others, gets labels like any other."""
    black = np.zeros((4, plugin.size, plugin.size), np.uint8)
    for images in ([black], [plugin.images(n=1)[0], black]):
        require_form(plugin.segment(plugin.trained(), images), len(images), 4, plugin.size)


@check("segmenter")
def no_images_are_no_error(plugin: PluginUnderTest) -> None:
    """No images give no labels."""
    made = plugin.segment(plugin.trained(), [])
    require(not made, f"no images give {len(made)} label maps")


@check("segmenter")
def probabilities_belong_to_the_labels(plugin: PluginUnderTest) -> None:
    """Labels with probabilities are those without; these are uint8 (label, y, x), sum to 255; the label has most."""
    if not getattr(plugin.declaration, "probabilities", False):
        return  # it gives none
    values = np.array(plugin.dataset().label_values)
    made = list(plugin.module.segment_with_probabilities(plugin.trained(), iter(plugin.images()), plugin.params))
    require(all(isinstance(pair, tuple) and len(pair) == 2 for pair in made), "it gives no pairs")
    require_same(plugin.outputs(), [(np.asarray(labels),) for labels, _ in made], "with probabilities")
    for labels, given in made:
        probabilities = np.asarray(given)
        form = (len(values), plugin.size, plugin.size)
        require(probabilities.dtype == np.uint8 and probabilities.shape == form, f"probabilities are not uint8 {form}")
        # Each is rounded by half a step at most.
        off = np.abs(probabilities.sum(axis=0, dtype=np.int64) - 255).max()
        require(off <= len(values) / 2, f"the probabilities of a pixel sum to 255 but for {off}")
        chosen = np.take_along_axis(probabilities, np.searchsorted(values, labels)[None], axis=0)[0]
        require((chosen == probabilities.max(axis=0)).all(), "a label is not the most probable one")


@check("segmenter")
def labels_come_as_they_are_made(plugin: PluginUnderTest) -> None:
    """The first labels come before all images are read, so that a thousand subjects need no more memory than one."""
    images = plugin.images()
    taken = 0

    def endless() -> Iterator[UInt8Array]:
        nonlocal taken
        for image in itertools.cycle(images):
            taken += 1
            require(taken <= _TOO_MANY_AHEAD, f"it reads more than {_TOO_MANY_AHEAD} images before the first labels")
            yield image.copy()

    made = iter(plugin.module.segment(plugin.trained(), endless(), plugin.params))
    next(made)
    if hasattr(made, "close"):
        made.close()
