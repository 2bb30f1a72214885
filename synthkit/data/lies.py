"""Heads that lie otherwise in their arrays than those of other subjects, though by their affines they lie alike."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from synthkit.data.signatures import LIES, Lie, Signature, turned

# Correlation with the mean of all others in another lie, and by how much it has to be above that in their own. Of 5
# real heads and 20 phantoms as they should be it is 0.48 and less, and at most 0.07 more; mirrored front to back or
# head to foot, or turned, of all phantoms and of three real heads it is 0.4 to 0.8, and 0.19 to 0.66 more.
_ALIKE, _MORE = 0.4, 0.15


def lying_otherwise(signatures: Mapping[str, Signature | None]) -> dict[str, str]:
    """Subject -> how its array lies to those of all others, in words, where that is beyond doubt.

    Left and right are alike in a head: an array that is mirrored so is not found. Slabs of heads are not to be given:
    mirrored they look like those of others.

    Parameters
    ----------
    signatures : of arrays whose axes should lead to the left, to the back and up; None of who is not compared.
    """
    coarse = {subject: found.coarse for subject, found in signatures.items() if found is not None}
    if len(coarse) < 2:
        return {}
    total = np.sum([*coarse.values()], axis=0)
    found = {}
    for subject, own in coarse.items():
        others = total - own
        others /= max(float(np.linalg.norm(others)), 1e-6)
        alike = np.array([float((others * turned(own, lie)).sum()) for lie in LIES])
        upright = max(alike[k] for k, lie in enumerate(LIES) if _is_upright(lie))
        best = int(alike.argmax())
        if alike[best] > max(_ALIKE, upright + _MORE):
            found[subject] = _in_words(LIES[best])
    return found


def _is_upright(lie: Lie) -> bool:
    """Whether at most left and right are exchanged."""
    order, signs = lie
    return order == (0, 1, 2) and signs[1:] == (1, 1)


def _in_words(lie: Lie) -> str:
    order, signs = lie
    if order != (0, 1, 2):
        return "with its axes exchanged"
    ways = [way for way, sign in zip(("front to back", "head to foot"), signs[1:], strict=True) if sign < 0]
    return f"mirrored {' and '.join(ways)}"
