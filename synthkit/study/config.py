"""``study.toml``: what is compared with what. Every key is checked before anything runs."""

from __future__ import annotations

import dataclasses
import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from synthkit.contract import SLICE_ROLES, VOLUME_ROLES, Declaration, Kind, MetricDeclaration, param
from synthkit.data.geometry import AS_STORED, parsed_spacing
from synthkit.data.named_schemes import scheme_named
from synthkit.data.orientation import LPS
from synthkit.data.slices import SliceProtocol
from synthkit.data.splits import parse_holdout
from synthkit.errors import DataError, PluginError, UsageError
from synthkit.judging.policy import load_policy
from synthkit.registry.parameters import make, make_params
from synthkit.registry.registry import Registry, discover
from synthkit.running import backends
from synthkit.schemes import BRATS
from synthkit.study import layout

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*\Z", re.IGNORECASE)
_REFERENCE = "docs/study.md"
# Steps are processes: what would run in the process of the command is for tests.
_BACKENDS = tuple(name for name in backends.names() if name != backends.IN_PROCESS)


@dataclass(frozen=True)
class Data:
    """``[data]``: the real images."""

    subjects: str = param("", "folder of BraTS-style subjects (NIfTI); training, holdout and test come from it")
    phantom: int = param(0, "instead of subjects: so many of the phantom, made by the study", minimum=0)
    dataset: str = param("", "a dataset that was prepared from these subjects already; otherwise the study prepares")
    size: int = param(256, "side of a slice in pixels", choices=(32, 64, 128, 256))
    holdout: str = param("0.2", "subjects never trained on: ids, a number, a fraction, or akbar2024 (the study's)")
    contrasts: tuple[str, ...] = param(BRATS.contrast_names, "channels, in order; those of labels if not given")
    intensity: str = param("max", "what becomes 255: max, a percentile such as p99.9, or p0.5-p99.5 of the brain")
    orientation: str = param(
        LPS, "LPS brings all arrays into this order; as-stored is akbar2024's", choices=(LPS, AS_STORED)
    )
    spacing: str = param("", "resample to voxels of this size in mm, such as 1 or 1,1,5; empty: nothing is resampled")
    labels: str = param(
        "", "label scheme of the subjects: gli2024, ped, ... or a TOML file; empty: their names and values say it"
    )
    patients: str = param("", "who the subjects are: a table (columns subject, patient) or one-per-subject")
    seed: int = param(0, "for a holdout given as a number or a fraction", minimum=0)

    def __post_init__(self) -> None:
        if bool(self.subjects) == bool(self.phantom):
            raise ValueError("either subjects or phantom has to be given")
        if self.dataset and self.phantom:
            raise ValueError("a phantom is always prepared by the study: leave dataset out")
        if self.phantom and (other := [name for name in self.contrasts if name not in BRATS.contrast_names]):
            raise ValueError(f"the phantom has no contrast {other[0]}")
        if any(path.startswith("-") for path in (self.subjects, self.dataset, self.patients, self.labels)):
            raise ValueError("a path that begins with a hyphen looks like an option: write it in full")
        # What `prepare` would refuse is refused before anything has run.
        parse_holdout(self.holdout)
        SliceProtocol(
            contrasts=self.contrasts,
            size=self.size,
            intensity=self.intensity,
            orientation=self.orientation,
            spacing_mm=parsed_spacing(self.spacing),
        )


@dataclass(frozen=True)
class SampleSettings:
    """``[samples]``: what is drawn from every generator."""

    n: int = param(1000, "samples of a generator, seeds 0 to n - 1", minimum=1)


@dataclass(frozen=True)
class Arms:
    """``[arms]``: what the segmenters are trained on."""

    real: bool = param(True, "real images alone")
    synthetic: bool = param(True, "samples of each generator alone")
    both: bool = param(True, "samples of each generator and real images")
    augmentation: tuple[bool, ...] = param((True,), "segmenters with augmented images, without, or both ways")
    seeds: int = param(3, "trainings of every combination, which differ in their seed alone", minimum=1)

    def __post_init__(self) -> None:
        if not (self.real or self.synthetic or self.both):
            raise ValueError("no arm is left")
        if not self.augmentation or len(set(self.augmentation)) < len(self.augmentation):
            raise ValueError("augmentation is [true], [false] or [true, false]")


@dataclass(frozen=True)
class Metrics:
    """``[metrics]``: what is measured."""

    fidelity: tuple[str, ...] = param(
        ("kid", "prdc", "label-realism"), "metrics of samples beside real images; may be []"
    )
    overlap: tuple[str, ...] = param(
        ("dice", "lesion-dice", "lesion-f1", "surface-dice", "hausdorff"), "metrics of predictions"
    )
    protocol: str = param(
        "", "akbar2024: predictions are scored as in the study of that name", choices=("", "akbar2024")
    )

    def __post_init__(self) -> None:
        if "dice" not in self.overlap:
            raise ValueError("overlap needs dice: it is what the arms are compared by")


@dataclass(frozen=True)
class AuditSettings:
    """``[audit]``: the search for copies."""

    enabled: bool = param(True, "audit the samples of every generator")
    policy: str = param("", "TOML file that says what passes and what fails; empty for the default policy")


@dataclass(frozen=True)
class Machine:
    """``[run]``: where and with what."""

    backend: str = param("", "where runs execute, as --backend; empty for the usual choice", choices=("", *_BACKENDS))
    gpus: int = param(1, "GPUs of one training; 0 for none", minimum=0)
    cpus: int = param(1, "cores of one run", minimum=1)
    memory_gb: float = param(0.0, "memory of one run on a cluster, and its limit in a container; 0 for none", minimum=0)
    hours: float = param(0.0, "longest time of one run; 0 for none", minimum=0)
    retries: int = param(1, "how often a failed run is tried again", minimum=0)


@dataclass(frozen=True)
class _GeneratorCost:
    gpu_hours: float | None = param(None, "GPU-hours of one training, for the plan", minimum=0)
    disk_gb: float | None = param(None, "disk that one training takes, for the plan", minimum=0)
    sampling_gpu_hours: float | None = param(None, "GPU-hours of drawing the samples, for the plan", minimum=0)
    training_patients: tuple[int, ...] = param(
        (), "also trained and audited with so few patients, for memorization against the number of patients", minimum=1
    )


@dataclass(frozen=True)
class _SegmenterCost:
    gpu_hours: float | None = param(None, "GPU-hours of one training, for the plan", minimum=0)
    disk_gb: float | None = param(None, "disk that one training takes, for the plan", minimum=0)
    seeds: int | None = param(None, "instead of the number in [arms]", minimum=1)


@dataclass(frozen=True)
class Generator:
    """``[generators.NAME]``: a generator with its parameters. ``plugin`` is the name unless it is given."""

    name: str
    plugin: str
    params: Mapping[str, Any]
    gpu_hours: float | None = None
    disk_gb: float | None = None
    sampling_gpu_hours: float | None = None
    training_patients: tuple[int, ...] = ()


@dataclass(frozen=True)
class Segmenter:
    """``[segmenters.NAME]``: a segmenter with its parameters.

    ``settings`` are those of "augment" and "seed" that its plugin has as parameters; the study gives them.
    """

    name: str
    plugin: str
    params: Mapping[str, Any]
    gpu_hours: float | None = None
    disk_gb: float | None = None
    seeds: tuple[int, ...] = (0,)
    settings: tuple[str, ...] = ("augment", "seed")


@dataclass(frozen=True)
class Study:
    """A checked ``study.toml``.

    Attributes
    ----------
    folder : of the study; relative paths of the file are below it.
    arms : names of what the segmenters are trained on: "real", a generator, "real+" a generator.
    augmentation : "augmented", "plain".
    """

    folder: Path
    name: str
    data: Data
    n_samples: int
    generators: Mapping[str, Generator]
    segmenters: Mapping[str, Segmenter]
    arms: tuple[str, ...]
    augmentation: tuple[str, ...]
    metrics: Metrics
    audit: AuditSettings
    machine: Machine
    notes: str = ""

    @classmethod
    def load(cls, folder: Path) -> Study:
        """Read and check ``study.toml`` in ``folder`` (or the file itself).

        Raises :class:`UsageError` for what cannot be meant, :class:`PluginError` for a plugin that is not there.
        """
        file = folder if folder.is_file() else folder / layout.STUDY_FILE
        try:
            tables = tomllib.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise DataError(
                f"There is no study in {folder}.",
                f"It has no {layout.STUDY_FILE}.",
                f"Write one with `synthkit study init {folder}`.",
            ) from error
        except (OSError, ValueError) as error:
            raise UsageError(f"{file} cannot be read.", f"{error}.", "It is TOML: tables of name = value.") from error
        return _Reader(tables).study(file.parent)


_TABLES = ("study", "data", "samples", "generators", "segmenters", "arms", "metrics", "audit", "run")


@dataclass
class _Reader:
    """The tables of a file, taken out one after another."""

    tables: dict[str, Any]
    registry: Registry = field(default_factory=discover)

    def study(self, folder: Path) -> Study:
        self._refuse_unknown(self.tables, _TABLES, "study.toml")
        head = self._table("study")
        self._refuse_unknown(head, ("name", "notes"), "[study]")
        data = self.tables.get("data")
        if isinstance(data, dict) and type(data.get("holdout")) in (int, float):
            data["holdout"] = str(data["holdout"])  # 0.2 means what "0.2" does
        if isinstance(data, dict) and isinstance(labels := data.get("labels"), str) and labels:
            own = folder / labels
            scheme = scheme_named(str(own) if own.is_file() else labels)
            data.setdefault("contrasts", list(scheme.contrast_names))
        arms: Arms = self._made(Arms, "arms")
        generators = {name: self._generator(name, table) for name, table in self._named("generators").items()}
        segmenters = {name: self._segmenter(name, table, arms) for name, table in self._named("segmenters").items()}
        if not segmenters and not generators:
            raise UsageError(
                "The study compares nothing.", "It has no [generators.NAME] and no [segmenters.NAME].", "Name some."
            )
        study = Study(
            folder=folder,
            name=str(head.get("name") or folder.resolve().name),
            notes=str(head.get("notes", "")),
            data=self._made(Data, "data"),
            n_samples=self._made(SampleSettings, "samples").n,
            generators=generators,
            segmenters=segmenters,
            arms=_arms(arms, tuple(generators)),
            augmentation=tuple(layout.AUGMENTED if on else layout.PLAIN for on in arms.augmentation),
            metrics=self._made(Metrics, "metrics"),
            audit=self._made(AuditSettings, "audit"),
            machine=self._made(Machine, "run"),
        )
        self._check_metrics("fidelity", study.metrics.fidelity, SLICE_ROLES, "compare samples with real slices")
        self._check_metrics("overlap", study.metrics.overlap, VOLUME_ROLES, "compare predictions with references")
        if study.audit.enabled and study.audit.policy:
            load_policy(folder / study.audit.policy)
        return study

    def _check_metrics(self, key: str, names: tuple[str, ...], roles: frozenset[str], do: str) -> None:
        for name in names:
            declaration = self.registry.get(name, "metric")
            assert isinstance(declaration, MetricDeclaration)
            if not roles.issuperset(declaration.roles):
                raise UsageError(
                    f"{name} cannot be one of {key} in [metrics].",
                    f"Those {do}; it has the roles {', '.join(declaration.roles)}.",
                    "See `synthkit plugins list`.",
                )

    def _table(self, name: str) -> dict[str, Any]:
        table = self.tables.get(name, {})
        if not isinstance(table, dict):
            raise UsageError(f"{name} of study.toml is not a table.", fix=f"Write [{name}] and name = value below it.")
        return table

    def _made(self, kind: type, name: str) -> Any:
        return make(kind, self._table(name), f"[{name}] of study.toml", _REFERENCE)

    def _named(self, name: str) -> dict[str, dict[str, Any]]:
        found = self._table(name)
        for key, table in found.items():
            if not isinstance(table, dict):
                raise UsageError(f"{name}.{key} of study.toml is not a table.", fix=f"Write [{name}.{key}].")
            if not _NAME.match(key) or key == layout.REAL:
                raise UsageError(
                    f"{key!r} cannot be the name of one of the {name}.",
                    "It becomes the name of a folder; real is the arm of real images.",
                    "Use letters, digits, hyphens and dots.",
                )
        return found

    def _plugin(self, kind: Kind, name: str, table: dict[str, Any]) -> tuple[Declaration, dict[str, Any]]:
        """Its declaration and its parameters, which are checked."""
        try:
            declaration = self.registry.get(str(table.pop("plugin", name)), kind)
        except PluginError as error:
            error.what = f"[{kind}s.{name}]: {error.what}"
            raise
        params = table.pop("params", {})
        if not isinstance(params, dict):
            raise UsageError(f"params of [{kind}s.{name}] is not a table.", fix="Write params = { name = value }.")
        make_params(declaration, params)
        return declaration, params

    def _generator(self, name: str, table: Mapping[str, Any]) -> Generator:
        rest = dict(table)
        declaration, params = self._plugin("generator", name, rest)
        cost: _GeneratorCost = make(_GeneratorCost, rest, f"[generators.{name}]", _REFERENCE)
        return Generator(name, declaration.name, params, **vars(cost))

    def _segmenter(self, name: str, table: Mapping[str, Any], arms: Arms) -> Segmenter:
        rest = dict(table)
        declaration, params = self._plugin("segmenter", name, rest)
        cost: _SegmenterCost = make(_SegmenterCost, rest, f"[segmenters.{name}]", _REFERENCE)
        seeds = tuple(range(cost.seeds or arms.seeds))
        has = {item.name for item in dataclasses.fields(declaration.params)}
        varied = {"augment": ("augmentation", len(arms.augmentation) > 1), "seed": ("seeds", len(seeds) > 1)}
        for parameter, (key, several) in varied.items():
            if parameter in params:
                raise UsageError(
                    f"[segmenters.{name}] sets {parameter}.", f"The study does, by {key} in [arms].", "Leave it out."
                )
            if several and parameter not in has:
                raise UsageError(
                    f"{declaration.name} has no parameter {parameter}.",
                    f"The study asks for several trainings by {key}, which would all be the same.",
                    f"Give one value as {key}, or leave {name} out.",
                )
        settings = tuple(parameter for parameter in varied if parameter in has)
        return Segmenter(name, declaration.name, params, cost.gpu_hours, cost.disk_gb, seeds, settings)

    def _refuse_unknown(self, table: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
        for name in table:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                raise UsageError(
                    f"{where} has an unknown key: {name}.",
                    f"Did you mean {close[0]}?" if close else f"Known: {', '.join(known)}.",
                    f"See {_REFERENCE}.",
                )


def _arms(arms: Arms, generators: tuple[str, ...]) -> tuple[str, ...]:
    found = [layout.REAL] if arms.real else []
    if arms.synthetic:
        found += [layout.arm_of(name, with_real=False) for name in generators]
    if arms.both:
        found += [layout.arm_of(name, with_real=True) for name in generators]
    return tuple(found)
