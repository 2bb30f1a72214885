"""What a plugin promises and what it is given. Standard library only: importing this costs nothing.

A plugin has two halves. Its **declaration** is data (one of the three classes below) and names its
**module**, where the method and its heavy imports live. The module has no base class to derive from; it
offers the functions of :class:`GeneratorModule`, :class:`SegmenterModule` or :class:`MetricModule`.

Arrays everywhere: an *image* is ``uint8 (contrast, y, x)`` in 0..255, *labels* are ``uint8 (y, x)`` holding
label values (BraTS to 2021: 0 background, 1 necrotic core, 2 oedema, 4 enhancing tumour); a
:class:`synthkit.schemes.Scheme` says what they mean.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from synthkit.schemes import Scheme

    UInt8Array = NDArray[np.uint8]

#: Version of everything in this module, of ``job.json`` and of ``result.json``. A host refuses a newer one.
CONTRACT_VERSION = 1

Kind = Literal["generator", "segmenter", "metric"]

#: What a role of a metric refers to. Slices come as :class:`Samples`, volumes as :class:`Volumes`.
SLICE_ROLES = frozenset({"real", "synthetic", "train", "holdout", "control"})
VOLUME_ROLES = frozenset({"reference", "prediction"})
#: Files that a method may be given besides its datasets, as a :class:`pathlib.Path`: weights of a feature network,
#: weights that a training begins with, or the arrays of a :class:`Kept`.
FILE_ROLES = frozenset({"features", "pretrained", "kept"})
#: In a checkpoint: what synthkit notes of it; the folder of what only going on needs, which synthkit moves out of the
#: checkpoint at the end; and in one of an unfinished training, ``{"images": 4000}``: training images shown so far.
NOTES, STATE, PROGRESS = "synthkit.json", "state", "progress.json"


def param(
    default: Any,
    help: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: Sequence[Any] | None = None,
    unit: str = "",
    weaker: Literal["", "higher", "lower", "other"] = "",
    resume: Literal["", "any", "more"] = "",
) -> Any:
    """A field of a parameter dataclass: default, what it means, what it may be.

    ``weaker`` is for parameters of an audit: in which direction from the default it finds less, "other" for any. Of a
    tuple, "lower" is one that lacks items of the default. Verdict, pages and datasheets then say so before all else.
    ``resume`` is whether a training may go on with another value, since what was learned so far does not depend on it.
    """
    about = {"help": help, "minimum": minimum, "maximum": maximum, "choices": choices, "unit": unit, "weaker": weaker}
    return field(default=default, metadata={**about, "resume": resume})


@dataclass(frozen=True)
class NoParams:
    """For a plugin without parameters."""


@dataclass(frozen=True, kw_only=True)
class Citation:
    """Whom to cite. ``doi`` without a resolver in front of it; ``url`` where there is no DOI."""

    text: str
    doi: str = ""
    url: str = ""


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """What synthkit knows of a plugin without importing its method.

    Attributes
    ----------
    name : the noun on the command line: lower-case letters, digits and hyphens.
    summary : one line for ``synthkit plugins``.
    module : import path of the method, ``"synthkit_stylegan2.model"``.
    distribution : the installed distribution that brings it, ``"synthkit-stylegan2"``.
    params : a frozen dataclass, one for all verbs; every field has a default and is made by :func:`param`.
    licence : SPDX identifier of the method's code.
    citations : the papers behind the method.
    gpu : "required", "optional" or "none".
    reproducible : "bitwise" if the same job on the same kind of machine gives the same bytes, else "tolerance".
    dockerfile : file name inside the package that ``module`` belongs to.
    optional_roles : what it takes besides what it needs, by keyword and only where it is given. A training: "initial"
        (checkpoint folder of the same plugin to begin with; ``initial_state`` with it is the folder that the training
        left to go on, if there is one); of a segmenter also "validation" (:class:`Samples`, to validate on instead of a
        part of the data) and "pretrained" (a path).
    contract : version of this contract that the plugin was written for.
    """

    kind: ClassVar[Kind]

    name: str
    summary: str
    module: str
    distribution: str
    params: type = NoParams
    licence: str = ""
    citations: tuple[Citation, ...] = ()
    gpu: Literal["required", "optional", "none"] = "optional"
    reproducible: Literal["bitwise", "tolerance"] = "tolerance"
    dockerfile: str = "Dockerfile"
    optional_roles: tuple[str, ...] = ()
    contract: int = CONTRACT_VERSION

    def to_dict(self) -> dict[str, Any]:
        """JSON form: label of the container image, and ``plugins --json``."""
        data: dict[str, Any] = {"kind": self.kind}
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if item.name in ("params", "conditions"):
                value = describe_params(value)
            elif item.name in ("citations", "scores"):
                value = [dataclasses.asdict(part) for part in value]
            data[item.name] = list(value) if isinstance(value, tuple) else value
        return data


@dataclass(frozen=True, kw_only=True)
class GeneratorDeclaration(Declaration):
    """A generator learns the joint distribution of image and labels, then draws from it.

    Attributes
    ----------
    minimum_size, maximum_size : bounds of the side of its square images in pixels; sizes are powers of two.
    imports : files of other projects that its module's ``import_checkpoint`` can read; empty for none.
    label_maps : whether it can be asked for given label maps (``--labels``).
    label_maps_need : the parameter that has to be true in a training whose model can be asked for them; "" for any.
    conditions : what else it can be asked for (``--condition volume_ml=20``): a frozen dataclass like ``params``, every
        field ``... | None`` with the default None, not asked for. A number has a minimum and a maximum, and a text
        choices; those of a ``tuple[str, ...]`` may be "labels", for the names of labels that a model was trained on.
    """

    kind: ClassVar[Kind] = "generator"
    minimum_size: int = 32
    maximum_size: int = 256
    imports: tuple[str, ...] = ()
    label_maps: bool = False
    label_maps_need: str = ""
    conditions: type = NoParams


@dataclass(frozen=True, kw_only=True)
class SegmenterDeclaration(Declaration):
    """A segmenter learns labels from images.

    Attributes
    ----------
    size_multiple : its image sides are multiples of this (pixels).
    probabilities : its module has ``segment_with_probabilities``.
    """

    kind: ClassVar[Kind] = "segmenter"
    size_multiple: int = 1
    probabilities: bool = False


@dataclass(frozen=True, kw_only=True)
class ScoreDefinition:
    """What a number means. ``better`` is the direction; "neither" for counts and descriptions."""

    name: str
    summary: str
    better: Literal["higher", "lower", "neither"]
    unit: str = ""


@dataclass(frozen=True, kw_only=True)
class MetricDeclaration(Declaration):
    """A metric compares datasets in the roles it names; the roles decide which verb offers it.

    Metrics that share a module share one parameter class and are computed in one call. Among the optional roles may be
    those of :data:`FILE_ROLES`. One that may be given ``kept`` is also called without ``synthetic``, and then yields a
    :class:`Kept` alone. ``audit`` is whether ``synthkit audit-memorization`` may judge by it: then it takes the roles
    train and synthetic, and yields what :mod:`synthkit.judging.audit_scores` asks for.
    """

    kind: ClassVar[Kind] = "metric"
    roles: tuple[str, ...]
    scores: tuple[ScoreDefinition, ...] = ()
    audit: bool = False


def describe_params(params: type) -> list[dict[str, Any]]:
    """Name, type, default, help and bounds of each field of a parameter class, as JSON-ready dictionaries."""
    return [
        {
            "name": item.name,
            "type": item.type if isinstance(item.type, str) else getattr(item.type, "__name__", str(item.type)),
            **{
                key: list(value) if isinstance(value, (tuple, list)) else value
                for key, value in {"default": item.default, **item.metadata}.items()
                if key == "default" or value not in (None, "")
            },
        }
        for item in dataclasses.fields(params)
    ]


# --------------------------------------------------------------- what a module is given, what it gives, what it is


@dataclass(frozen=True, slots=True)
class Sample:
    """One row of a dataset's table: an image with its labels, and where it comes from.

    Attributes
    ----------
    id : unique in its dataset.
    split : "train" or "holdout" for real samples, "synthetic" for the others.
    subject, slice : the real subject and its axial slice index (0-based); None for synthetic samples.
    seed : the seed of a synthetic sample, where known.
    digest : sha256 (hex, 32 characters) of the image and label bytes.
    patient : whom the subject is a scan of, as the dataset says; None where it does not. Ask
        :func:`synthkit.data.patients.patient_behind`, which knows what the subject's id says.
    asked : what a synthetic sample was asked for besides its seed, as a JSON object, ``{"labels": 17, "volume_ml":
        20.0}``, where ``labels`` is the number of the label map from 0; None where nothing was.
    """

    id: str
    split: str
    subject: str | None
    slice: int | None
    seed: int | None
    digest: str
    patient: str | None = None
    asked: str | None = None


class Samples(Protocol):
    """A dataset, or a part of one, as a method sees it: a table and random reads. Nothing is held in memory.

    ``scheme`` says what label values mean: names, values, regions, colours. ``label_values`` are all of its values,
    background 0 first; ``size`` is (y, x) in pixels; ``digest`` is a sha256 of the content, however it is stored.
    """

    @property
    def contrasts(self) -> tuple[str, ...]: ...
    @property
    def scheme(self) -> Scheme: ...
    @property
    def label_values(self) -> tuple[int, ...]: ...
    @property
    def size(self) -> tuple[int, int]: ...
    @property
    def samples(self) -> Sequence[Sample]: ...
    @property
    def digest(self) -> str: ...
    def __len__(self) -> int: ...
    def read(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> tuple[UInt8Array, UInt8Array]:
        """Images ``(n, contrast, y, x)`` and labels ``(n, y, x)`` of these rows, in this order; rows may repeat."""

    def batches(self, batch_size: int) -> Iterator[tuple[UInt8Array, UInt8Array]]:
        """All rows in order, ``batch_size`` at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """What one sample of a generator is asked for besides its seed.

    Attributes
    ----------
    labels : the label map ``(y, x)`` that the sample is to have, with values of the model's scheme; None for any.
    values : an object of the declaration's ``conditions``.
    """

    labels: UInt8Array | None
    values: Any


class Volumes(Protocol):
    """Label volumes of subjects, one at a time. The schemes of two may differ: compare labels by names."""

    @property
    def subjects(self) -> Sequence[str]: ...
    @property
    def scheme(self) -> Scheme: ...
    def labels(self, subject: str) -> tuple[UInt8Array, tuple[float, float, float]]:
        """Labels ``(x, y, z)`` with values of the scheme, and the voxel spacing in mm along each axis."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """One number, with what is needed to believe it.

    Attributes
    ----------
    name : name of its :class:`ScoreDefinition`.
    value : the number; None where it is undefined (``note`` says why).
    of : what it is a number of, ``{"subject": "BraTS20_Training_002", "region": "WT"}``; empty for the whole dataset.
    low, high : bounds of the 95 % interval, where there is one.
    n : what it was computed from, in independent units (subjects rather than slices).
    note : the convention or exception that applied.
    """

    name: str
    value: float | None
    of: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    low: float | None = None
    high: float | None = None
    n: int | None = None
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        data: dict[str, Any] = {"name": self.name, "value": self.value, "of": dict(self.of)}
        for key in ("low", "high", "n"):
            if getattr(self, key) is not None:
                data[key] = getattr(self, key)
        return {**data, "note": self.note} if self.note else data


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table too long for the result; synthkit writes it to ``outputs/<table>.csv`` as it comes."""

    table: str
    values: Mapping[str, str | int | float | bool | None]


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What scores need of the data other than ``synthetic``, for later runs: no objects, they are read as ``.npz``.

    Scores are the same with it. It says what it is of: of other data, :class:`synthkit.errors.DataError`.
    """

    arrays: Mapping[str, NDArray[Any]]


class GeneratorModule(Protocol):
    """The method of a generator."""

    def train(self, data: Samples, checkpoint: Path, params: Any) -> None:
        """Train on all of ``data`` and leave the result in the existing folder ``checkpoint`` (safetensors, JSON).

        The folder may hold a training of the same job, unfinished or shorter; a method that can resumes from it.
        """

    def generate(self, checkpoint: Path, seeds: Iterable[int], params: Any) -> Iterator[tuple[UInt8Array, UInt8Array]]:
        """One ``(image, labels)`` a seed, in order. A sample depends on its seed alone, not on its neighbours.

        One that declares ``label_maps`` or ``conditions`` takes the keyword ``asked``: None, or an iterable of one
        :class:`Asked` a seed. Then a sample depends on its seed and on what it is asked for, and has exactly the labels
        that it is asked for. DataError for what the checkpoint has not learned.
        """


class ImportingModule(GeneratorModule, Protocol):
    """The method of a generator that declares ``imports``."""

    def import_checkpoint(
        self, file: Path, checkpoint: Path, *, contrasts: Sequence[str], label_values: Sequence[int], params: Any
    ) -> int:
        """Bring ``file``, of another project, into the existing folder ``checkpoint``; returns the images' side.

        The file is not trusted: it is read without executing anything stored in it, and DataError says what is wrong
        with it. ``contrasts`` are in the order of its image channels, the labels being the last channel. ``params`` say
        what the file does not tell of its network.
        """


class SegmenterModule(Protocol):
    """The method of a segmenter."""

    def train(self, data: Samples, checkpoint: Path, params: Any) -> None:
        """As for a generator. ``data`` may be several datasets joined; contrasts and size are the same in all.

        One that declares ``optional_roles`` takes each as a keyword argument, None by default.
        """

    def segment(self, checkpoint: Path, images: Iterable[UInt8Array], params: Any) -> Iterator[UInt8Array]:
        """Labels ``(y, x)`` for each image ``(contrast, y, x)``, in order and as many as there are images."""


class ProbabilisticModule(SegmenterModule, Protocol):
    """The method of a segmenter that declares ``probabilities``."""

    def segment_with_probabilities(
        self, checkpoint: Path, images: Iterable[UInt8Array], params: Any
    ) -> Iterator[tuple[UInt8Array, UInt8Array]]:
        """As ``segment``, with probabilities ``(label, y, x)``, background first as by value, 255 for 1."""


class MetricModule(Protocol):
    """The method of one or several metrics."""

    def score(self, *, metrics: Sequence[str], params: Any, **datasets: Any) -> Iterator[Score | Row | Kept]:
        """Scores of these metrics. Of each role :class:`Samples` or :class:`Volumes`, a path for :data:`FILE_ROLES`."""
