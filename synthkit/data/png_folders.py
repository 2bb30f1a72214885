"""The study's PNG folders, as imports read and exports write them (Akbar et al., Scientific Data 2024).

A folder for each contrast and one for the labels, 8-bit files ``<stem>_<folder>.png``, labels as grey levels (see
:mod:`synthkit.data.labels`); beside them a table that says which subject, slice and split a picture is of.
"""

from __future__ import annotations

from synthkit.data.conventions import BRATS

#: Folder of each contrast; read without regard to case.
FOLDERS = {contrast.name: contrast.title for contrast in BRATS.contrasts}
#: Folder of the labels.
LABELS = "Seg"
TABLE = "samples.csv"
