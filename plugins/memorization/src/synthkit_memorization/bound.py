"""A certified upper bound of r for every pair of images, from a few hundred numbers an image.

Let u be a centred image divided by its norm, so r = <u_x, u_y>. For orthonormal rows Q, with a = Q u and
rho = |u - Q^T a| = sqrt(1 - |a|^2), the inequality of Cauchy and Schwarz on what Q leaves out gives

    r <= <a_x, a_y> + rho_x rho_y                                                             (1)

Brain slices are smooth, so a few hundred directions hold nearly all of |u|: the principal axes (of a sample of the
training images) of the low-frequency coefficients of the 2-D discrete cosine transform on the box of the training
images. Two more kinds of direction, orthogonal to these, hold what the constant leaves behind: per contrast the centred
indicator of the box (where the box is smaller than the image) and, in a rule over several contrasts, their mean levels.

Rounding. Coefficients and rho are computed in float64 (errors below 1e-9 of |u| = 1) and rounded to float32 (2^-24
each). A float32 sum of p products, in any order, errs by at most (p + 2) 2^-24 |a_x| |a_y| <= (p + 2) 2^-24 (Higham,
Accuracy and Stability of Numerical Algorithms, 2002, eq. 3.7). :func:`slack` is more than the sum of these.
"""

from __future__ import annotations

import numpy as np

from synthkit_memorization.pixels import Block, Float32, Float64, Int8, Moments

#: Low frequencies kept along each side of the box.
FREQUENCIES = 48
#: Lengths of the two prefixes of the principal axes.
SHORT, LONG = 256, 768
#: Training images (evenly spaced) that the principal axes are found from.
AXES_SAMPLE = 1024
#: Images embedded at a time, and transformed at a time (what fits a cache).
EMBEDDED, TRANSFORMED = 256, 8


def slack(prefix: int) -> float:
    """What (1) may fall short by when its right side is computed in float32 with this prefix."""
    return (prefix + 16) * 2.0**-23


def cosines(n: int, count: int) -> Float64:
    """The first ``count`` rows of the orthonormal DCT-II of length n: ``(count, n)``."""
    frequency, position = np.arange(count)[:, None], np.arange(n)[None, :]
    rows: Float64 = np.sqrt(2.0 / n) * np.cos(np.pi * frequency * (2 * position + 1) / (2 * n))
    rows[0] = np.sqrt(1.0 / n)
    return rows


class Directions:
    """Orthonormal directions of one rule, fitted to a block of training images.

    Parameters
    ----------
    shard : training images; their box is where the directions live.
    contrasts : positions of the contrasts that the rule concatenates.
    image_pixels : pixels of one whole contrast, D.
    """

    def __init__(self, shard: Block, contrasts: tuple[int, ...], image_pixels: int) -> None:
        self.contrasts = contrasts
        self.image_pixels = image_pixels
        self._box = shard.box
        height, width = shard.box.shape
        self._rows = cosines(height, min(height, FREQUENCIES))
        self._columns = cosines(width, min(width, FREQUENCIES))
        self._axes = self._principal_axes(shard)

    def moments(self, block: Block) -> Moments:
        return Moments.of(block, self.contrasts, self.image_pixels)

    def embed(self, block: Block, moments: Moments) -> tuple[Float32, Float32]:
        """``[a, rho]`` of all images of a block for the short and the long prefix, float32 ``(image, prefix + 1)``."""
        short: list[Float32] = []
        long: list[Float32] = []
        for first in range(0, len(block), EMBEDDED):
            a = self._coefficients(block, slice(first, first + EMBEDDED), moments) @ self._axes
            for prefix, parts in ((SHORT, short), (LONG, long)):
                head = a[:, :prefix]
                # The term keeps rho an upper bound where 1 - |a|^2 is lost to rounding.
                rho = np.sqrt(np.maximum(0.0, 1.0 - np.einsum("np,np->n", head, head)) + 1e-12)
                parts.append(np.concatenate([head, rho[:, None]], axis=1).astype(np.float32))
        return np.concatenate(short), np.concatenate(long)

    def _coefficients(self, block: Block, part: slice, moments: Moments) -> Float64:
        """Q u for the directions before rotation, float64 ``(image, direction)``; zero for constant images."""
        box, d = self._box, float(self.image_pixels)
        mean = moments.sums[part] / moments.n_pixels
        columns = []
        for contrast in self.contrasts:
            # All kept cosines but the first are orthogonal to the constant, so the shift by 128 does not matter.
            columns.append(self._cosine_transform(block.pixels[contrast, part, : box.n_pixels])[:, 1:])
            # Indicator of the box minus its mean over the contrast, normalised; orthogonal to the constant.
            share = box.n_pixels / d
            if share < 1:
                sums, inside = block.sums[contrast, part], block.box_sums[contrast, part]
                columns.append(((inside - share * sums) / np.sqrt(box.n_pixels * (1 - share)))[:, None])
            if len(self.contrasts) > 1:
                columns.append((np.sqrt(d) * (block.sums[contrast, part] / d - mean))[:, None])
        coefficients = np.concatenate(columns, axis=1)
        norm = np.sqrt(moments.variance[part] / moments.n_pixels)
        result: Float64 = np.divide(
            coefficients, norm[:, None], out=np.zeros_like(coefficients), where=norm[:, None] > 0
        )
        return result

    def _cosine_transform(self, pixels: Int8) -> Float64:
        """Low-frequency coefficients ``(image, frequency)`` of int8 ``(image, pixel of the box)``."""
        height, width = self._box.shape
        n_rows, n_columns = len(self._rows), len(self._columns)
        result = np.empty((len(pixels), n_rows, n_columns))
        for first in range(0, len(pixels), TRANSFORMED):
            some = pixels[first : first + TRANSFORMED].astype(np.float64)
            along_x = (some.reshape(-1, width) @ self._columns.T).reshape(len(some), height, n_columns)
            np.matmul(self._rows, along_x, out=result[first : first + TRANSFORMED])
        return result.reshape(len(pixels), -1)

    def _principal_axes(self, shard: Block) -> Float64:
        """Orthonormal columns ``(direction, at most LONG)``, those of largest second moment first."""
        sample = shard.take(np.unique(np.linspace(0, len(shard) - 1, AXES_SAMPLE).astype(np.int64)))
        moments = self.moments(sample)
        points = np.concatenate(
            [
                self._coefficients(sample, slice(first, first + EMBEDDED), moments)
                for first in range(0, len(sample), EMBEDDED)
            ]
        )
        _, vectors = np.linalg.eigh(points @ points.T)
        spanning = points.T @ vectors[:, ::-1][:, :LONG]
        # QR keeps the nesting of the prefixes and is orthonormal whatever the rank.
        axes: Float64 = np.linalg.qr(spanning)[0]
        return axes
