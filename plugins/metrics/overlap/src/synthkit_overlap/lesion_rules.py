"""How the BraTS challenges count lesions: one named set of rules a challenge, as data. Standard library only.

Read from the challenges' published evaluation code (BraTS 2023, and the code of 2024 that 2025 ran too). All of them
take components by 26 neighbours and dilate by the 18 nearest neighbours, a number of steps that differs.

Names ending in ``-as-run`` keep what that code does beside its own rule; the others follow the rule:

* ``gli2024``: the dilation of oedema is 5 by the rule. The code asks for "SFNH" where the region is called "SNFH", so
  it is 3.
* Predicted lesions that are too small are dropped by their voxels, those of the reference by their volume in mm3 (all
  but meningioma). By the rule both have one volume; with voxels of 1 mm the two are the same.
* Where the penalty is the diagonal of the volume, the code takes it in voxels, not in mm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class LesionRules:
    """What makes a lesion, which ones count, and what a missed or a false one costs.

    Attributes
    ----------
    dilation : steps of dilation: lesions whose dilated masks meet are one, and a predicted lesion that meets a dilated
        lesion of the reference belongs to it.
    minimum_mm3 : lesions of this volume or less do not count: those of the reference, and with ``join_predicted`` those
        predicted.
    dilations, minima_mm3 : the same for regions that have their own.
    join_predicted : whether predicted lesions are made like those of the reference; else each component is one, and
        none is too small to be false.
    joined_by : region -> regions: lesions that touch the same lesion of one of these are one.
    penalty_mm : HD95 of a missed or false lesion; None for the diagonal of the volume.
    false_count : whether a predicted lesion that no lesion of the reference has lowers the scores (F1 it always does).
    sizes_in_voxels, diagonal_in_voxels : whether the size of predicted lesions, and the diagonal of the volume, are
        taken in voxels, as if these were of 1 mm.
    """

    dilation: int
    minimum_mm3: float
    penalty_mm: float | None
    dilations: Mapping[str, int] = field(default_factory=dict)
    minima_mm3: Mapping[str, float] = field(default_factory=dict)
    join_predicted: bool = True
    joined_by: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    false_count: bool = True
    sizes_in_voxels: bool = False
    diagonal_in_voxels: bool = False

    def steps(self, region: str) -> int:
        """Steps of dilation within which lesions of the region meet."""
        return self.dilations.get(region, self.dilation)

    def smallest_mm3(self, region: str) -> float:
        """Volume that a lesion of the region has to exceed."""
        return self.minima_mm3.get(region, self.minimum_mm3)

    @property
    def widest(self) -> int:
        """The most steps of dilation of any region."""
        return max(self.dilation, *self.dilations.values(), 0)


_2023 = LesionRules(dilation=3, minimum_mm3=50, penalty_mm=374, join_predicted=False)
_GLI_2024 = LesionRules(
    dilation=3,
    dilations={"NCR": 5, "ED": 5, "RC": 5},
    minimum_mm3=20,
    minima_mm3={"ET": 10},
    penalty_mm=337,
    joined_by={"NCR": ("ET", "RC"), "ED": ("ET", "RC", "NCR"), "ET": ("NCR", "RC"), "RC": ("ET", "NCR")},
)
_PED_2024 = LesionRules(dilation=5, minimum_mm3=10, penalty_mm=374)
_MET_2024 = LesionRules(dilation=1, minimum_mm3=2, penalty_mm=None, joined_by={"ET": ("NCR",)})
_MEN_2023 = replace(_2023, dilation=1)
_MEN_RT_2024 = LesionRules(dilation=1, minimum_mm3=50, penalty_mm=None, false_count=False)
_SSA_2024 = LesionRules(dilation=3, minimum_mm3=50, penalty_mm=374, joined_by={"ET": ("NCR",)})

#: Name -> rules; those of 2024 are those of 2025.
RULES: dict[str, LesionRules] = {
    "gli2024": _GLI_2024,
    "ped2024": _PED_2024,
    "met2024": _MET_2024,
    "men2024": _MEN_2023,
    "men-rt2024": _MEN_RT_2024,
    "ssa2024": _SSA_2024,
    "gli2023": _2023,
    "ped2023": _2023,
    "met2023": replace(_2023, dilation=1, minimum_mm3=2),
    "men2023": _MEN_2023,
    "ssa2023": _2023,
    "gli2024-as-run": replace(_GLI_2024, dilations={"NCR": 5, "RC": 5}, sizes_in_voxels=True),
    "ped2024-as-run": replace(_PED_2024, sizes_in_voxels=True),
    "met2024-as-run": replace(_MET_2024, sizes_in_voxels=True, diagonal_in_voxels=True),
    "men-rt2024-as-run": replace(_MEN_RT_2024, diagonal_in_voxels=True),
    "ssa2024-as-run": replace(_SSA_2024, sizes_in_voxels=True),
}
