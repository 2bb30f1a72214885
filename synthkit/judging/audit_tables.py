"""The tables that an audit writes beside its scores (``audit_scores.py``), whichever plugin made them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class AuditTable:
    """One table of the seam: its name, what a line is, and what each column holds; more columns may follow.

    ``required`` is whether every audit yields it. Others are complete where they are there.
    """

    name: str
    summary: str
    columns: Mapping[str, str]
    required: bool = False

    @property
    def file(self) -> str:
        """Name of the file in ``outputs/`` of a run."""
        return f"{self.name}.csv"


MATCHES = AuditTable(
    name="matches",
    summary="the best training match of a synthetic image in a view by a rule",
    required=True,
    columns={
        "synthetic_id": "id of the synthetic image; images that are no copies may be left out",
        "contrast": "the view: a contrast, joint for all contrasts as one image, labels for the label map, tumour "
        "for the tumour alone, or asked for what the label map that was asked for leaves open",
        "rule": "how images were compared; pearson is r over all pixels in place",
        "train_id": "id of the training image",
        "train_subject": "its subject, empty where there is none",
        "r": "how similar they are; 1 is identical",
        "r_null_quantile": "share of null images with a smaller best r; empty without a null",
        "copy": "True or False: whether the image is a copy by this view and rule; empty without a null",
        "margin": "how near it comes by this view and rule, in units of what chance allows; empty without a null",
    },
)
NULL = AuditTable(
    name="null",
    summary="the best training match of a real image that cannot have been copied",
    columns={
        "holdout_id": "id of the real image",
        "contrast": "the view",
        "rule": "the rule",
        "train_id": "id of the training image",
        "r": "how similar they are",
    },
)
PAIRS = AuditTable(
    name="pairs",
    summary="one of the pairs that stand out most in a view",
    columns={
        "contrast": "the view",
        "rule": "the rule",
        "synthetic_id": "id of the synthetic image",
        "train_id": "id of the training image",
        "r": "how similar they are",
        "threshold": "as the score of that name; empty without a null",
        "r_null_quantile": "as in matches",
        "copy": "as in matches",
        "margin": "as in matches",
        "holdout_id": "the held-out image that is most similar to the synthetic one, empty where nothing is held out",
        "r_holdout": "how similar",
        "holdout_copy": "True or False: whether the image is a copy of a held-out person by this view and rule",
    },
)
SUBJECTS = AuditTable(
    name="subjects",
    summary="a training subject",
    columns={
        "train_subject": "its name",
        "n_train": "its training images",
        "n_copies": "copies that show it; empty without a null",
        "best_r": "largest r of a synthetic image with one of its images",
    },
)

HOLDOUT_SUBJECTS = AuditTable(
    name="holdout_subjects",
    summary="a held-out subject whom synthetic images copy",
    columns={
        "holdout_subject": "its name",
        "n_holdout": "its images",
        "n_copies": "copies that show it",
        "best_r": "largest r of such a copy with one of its images",
    },
)
HOLDOUT_TWINS = AuditTable(
    name="holdout_twins",
    summary="a held-out person who is a training person under another id",
    columns={
        "holdout_subject": "the held-out person",
        "train_subject": "the training person",
        "margin": "how near the two are, in units of what chance allows",
    },
)

#: Every table that something outside an audit reads, by name.
TABLES: Mapping[str, AuditTable] = {
    table.name: table for table in (MATCHES, NULL, PAIRS, SUBJECTS, HOLDOUT_SUBJECTS, HOLDOUT_TWINS)
}

#: Columns that name a real person or image, in whichever table they are.
NAMES_OF_REAL = ("train_id", "train_subject", "holdout_id", "holdout_subject")
