"""Names that nobody else may give a plugin: those of synthkit's own, whoever is installed.

A package that declares ``memorization`` would otherwise decide what may be released.
"""

from __future__ import annotations

#: Name -> the distribution that declares it.
RESERVED = {
    **{name: f"synthkit-{name}" for name in ("progan", "stylegan1", "stylegan2", "stylegan3", "diffusion", "edm")},
    **{name: f"synthkit-{name}" for name in ("unet", "swin", "memorization")},
    **dict.fromkeys(("dice", "hausdorff", "surface-dice"), "synthkit-overlap"),
    **dict.fromkeys(("lesion-dice", "lesion-hd95", "lesion-nsd", "lesion-f1"), "synthkit-overlap"),
    **dict.fromkeys(("fid", "inception-score", "kid", "prdc"), "synthkit-fidelity"),
    **dict.fromkeys(("contrast-identity", "label-realism", "obedience"), "synthkit-realism"),
}
