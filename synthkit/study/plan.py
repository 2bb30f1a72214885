"""The steps of a study: each is a call of the library that makes one run folder, after those that it needs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from synthkit.contract import GeneratorDeclaration
from synthkit.errors import UsageError
from synthkit.registry.registry import discover
from synthkit.running.commands import command_of
from synthkit.study import layout
from synthkit.study.config import Generator, Segmenter, Study

Kind = Literal[
    "phantom",
    "prepare",
    "keep",
    "train generator",
    "generate",
    "fidelity",
    "audit",
    "train segmenter",
    "segment",
    "evaluate",
]

#: Kinds that compute on a GPU where the study has any.
_ON_GPU = frozenset({"keep", "train generator", "generate", "fidelity", "audit", "train segmenter", "segment"})
#: Kinds whose commands make run folders, in containers; the others are synthkit's own work.
_IN_CONTAINER = _ON_GPU | {"evaluate"}

#: Compressed size of a slice over its bytes, measured on BraTS-like slices of 64 to 256 pixels.
_COMPRESSED = 0.2


@dataclass(frozen=True)
class Step:
    """One command.

    Attributes
    ----------
    name : unique in the study, and a file name: ``train-unet-real-augmented-seed-0``.
    out : what the command writes, relative to the folder of the study.
    function, arguments : of :mod:`synthkit.api`; without those that say how to go on (``resume``) or where (``gpus``).
    after : names of the steps whose products it reads.
    gpus : how many it wants.
    gpu_hours, disk_bytes : what it is estimated to take; None where nobody knows.
    """

    name: str
    kind: Kind
    out: Path
    function: str
    arguments: Mapping[str, Any]
    after: tuple[str, ...] = ()
    gpus: int = 0
    in_container: bool = False
    gpu_hours: float | None = 0.0
    disk_bytes: float | None = 0.0

    @property
    def command(self) -> tuple[str, ...]:
        """What a user would type behind ``synthkit``. By this a step tells whether another one was run before it."""
        return command_of(self.function, self.arguments)[1:]

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "out": str(self.out), "after": list(self.after), "command": list(self.command)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Step:
        own = {name: value for name, value in data.items() if name != "command"}
        return cls(**{**own, "out": Path(data["out"]), "after": tuple(data["after"])})


@dataclass
class Plan:
    """All steps, each after those that it needs."""

    steps: list[Step] = field(default_factory=list)

    def add(self, step: Step) -> str:
        self.steps.append(step)
        return step.name

    def of_kind(self) -> dict[Kind, list[Step]]:
        found: dict[Kind, list[Step]] = defaultdict(list)
        for step in self.steps:
            found[step.kind].append(step)
        return dict(found)

    def depending_on(self, names: Sequence[str]) -> set[str]:
        """Names of the steps that would run again after these had changed, these among them."""
        found = set(names)
        for step in self.steps:
            if found.intersection(step.after):
                found.add(step.name)
        return found


def make_plan(study: Study) -> Plan:
    """The steps of ``study``, in an order in which they could run one after another.

    Raises :class:`UsageError` where names of generators and segmenters, put together, name two steps the same.
    """
    plan = _Planner(study).plan()
    for name, n in Counter(step.name for step in plan.steps).items():
        if n > 1:
            raise UsageError(
                f"{n} steps of the study would be called {name}.",
                "Names of generators, their numbers of patients and segmenters do not tell them apart.",
                "Rename one of them in study.toml.",
            )
    return plan


class _Planner:
    def __init__(self, study: Study) -> None:
        self.study = study
        self.result = Plan()
        self.registry = discover()
        self.samples: dict[str, str] = {}  # generator -> the step that draws its samples
        data = study.data
        self.subjects = str(layout.PHANTOM) if data.phantom else data.subjects
        self.real = Path(data.dataset) if data.dataset else layout.real_dataset()

    def plan(self) -> Plan:
        study, add = self.study, self.result.add
        first: tuple[str, ...] = ()
        if study.data.phantom:
            arguments = {"out": str(layout.PHANTOM), "number": study.data.phantom, "seed": 0}
            first = (add(Step("phantom", "phantom", layout.PHANTOM, "phantom", arguments)),)
        self.first = first
        self.prepared = first
        if not study.data.dataset:
            self.prepared = (*first, add(self._prepare(None)))
        sizes = sorted({n for generator in study.generators.values() for n in generator.training_patients})
        fewer = {n: add(self._prepare(n)) for n in sizes}
        self.kept = self._keep()
        for generator in study.generators.values():
            self.samples[generator.name] = self._generator(generator, None, self.prepared, self.real)
            for n in generator.training_patients:
                self._generator(generator, n, (*first, fewer[n]), layout.real_dataset(n))
        for segmenter in study.segmenters.values():
            for arm in study.arms:
                for augmentation in study.augmentation:
                    for seed in segmenter.seeds:
                        self._segmenter(segmenter, arm, augmentation, seed)
        return self.result

    def _prepare(self, n: int | None) -> Step:
        data, out = self.study.data, layout.real_dataset(n)
        arguments: dict[str, Any] = {
            "subjects": self.subjects, "out": str(out), "size": data.size, "holdout": data.holdout,
            "contrasts": list(data.contrasts), "intensity": data.intensity, "seed": data.seed,
            "orientation": data.orientation,
        }  # fmt: skip
        if data.spacing:
            arguments["spacing"] = data.spacing
        if data.labels:
            arguments["labels"] = data.labels
        if data.patients:
            arguments["patients"] = data.patients
        if n is not None:
            arguments["training_patients"] = n
        name = "prepare" if n is None else f"prepare-{n}"
        return Step(name, "prepare", out, "prepare", arguments, self.first, disk_bytes=None)

    def _keep(self) -> tuple[str, ...]:
        """The step, if any, that makes once what the fidelity of every generator needs of the real slices."""
        metrics = [self.registry.get(name, "metric") for name in self.study.metrics.fidelity]
        names = [metric.name for metric in metrics if "kept" in metric.optional_roles]
        if not (names and self.study.generators):
            return ()
        # For one generator too: with another one more, or less, its own steps stay as they are.
        arguments = {"metrics": names, "real": str(self.real), "keep": True}
        step = self._step("keep-real", "keep", layout.KEPT, "evaluate", arguments, self.prepared, disk_bytes=None)
        return (step,)

    def _generator(self, generator: Generator, n: int | None, after: tuple[str, ...], real: Path) -> str:
        """Train, draw, score and audit; returns the name of the step that draws."""
        name = generator.name if n is None else f"{generator.name}-{n}"
        train = self._step(
            f"train-{name}", "train generator", layout.generator_run(generator.name, "train", n),
            "train", {"plugin": generator.plugin, "datasets": [str(real)], "params": _plain(generator.params)},
            after, gpu_hours=generator.gpu_hours, disk_bytes=_bytes(generator.disk_gb),
        )  # fmt: skip
        samples = layout.generator_run(generator.name, "samples", n)
        seeds = f"0-{self.study.n_samples - 1}"
        draw = self._step(
            f"generate-{name}", "generate", samples,
            "generate", {"model": str(layout.generator_run(generator.name, "train", n)), "seeds": seeds},
            (train,), gpu_hours=generator.sampling_gpu_hours, disk_bytes=self._sample_bytes(),
        )  # fmt: skip
        if self.study.metrics.fidelity and n is None:
            self._step(
                f"fidelity-{name}", "fidelity", layout.generator_run(generator.name, "fidelity"),
                "evaluate",
                {"metrics": list(self.study.metrics.fidelity), "real": str(real), "synthetic": str(samples)}
                | ({"kept": str(layout.KEPT)} if self.kept else {}),
                (*after, *self.kept, draw),
            )  # fmt: skip
        if self.study.audit.enabled:
            policy = self.study.audit.policy or None
            self._step(
                f"audit-{name}", "audit", layout.generator_run(generator.name, "audit", n),
                "audit_memorization", {"real": str(real), "synthetic": str(samples), "policy": policy}, (*after, draw),
            )  # fmt: skip
        return draw

    def _segmenter(self, segmenter: Segmenter, arm: str, augmentation: str, seed: int) -> None:
        def run(what: str) -> Path:
            return layout.segmenter_run(segmenter.name, arm, augmentation, seed, what)

        name = f"{segmenter.name}-{arm}-{augmentation}-seed-{seed}"
        data, after = [], self.prepared
        if layout.has_real(arm):
            data.append(str(self.real))
        if generator := layout.generator_of(arm):
            data.append(str(layout.generator_run(generator, "samples")))
            after = (*after, self.samples[generator])
        values = {"augment": augmentation == layout.AUGMENTED, "seed": seed}
        own = {key: values[key] for key in segmenter.settings}
        train = self._step(
            f"train-{name}", "train segmenter", run("train"),
            "train", {"plugin": segmenter.plugin, "datasets": data, "params": _plain({**segmenter.params, **own})},
            after, gpu_hours=segmenter.gpu_hours, disk_bytes=_bytes(segmenter.disk_gb),
        )  # fmt: skip
        segment = self._step(
            f"segment-{name}", "segment", run("segment"),
            "segment", {"model": str(run("train")), "subjects": self.subjects}, (*self.first, train),
        )  # fmt: skip
        scored = {"reference": self.subjects, "prediction": str(run("segment"))}
        scored |= {"labels": self.study.data.labels} if self.study.data.labels else {}
        scored |= {"protocol": self.study.metrics.protocol} if self.study.metrics.protocol else {}
        self._step(
            f"evaluate-{name}", "evaluate", run("evaluate"),
            "evaluate", {"metrics": list(self.study.metrics.overlap), **scored}, (*self.first, segment),
        )  # fmt: skip

    def _step(
        self,
        name: str,
        kind: Kind,
        out: Path,
        function: str,
        arguments: Mapping[str, Any],
        after: tuple[str, ...],
        **cost: Any,
    ) -> str:
        gpus = self.study.machine.gpus if kind.startswith("train") else min(1, self.study.machine.gpus)
        if not self.study.machine.gpus:
            cost["gpu_hours"] = 0.0
        step = Step(
            name=name, kind=kind, out=out, function=function, arguments={**arguments, "out": str(out)},
            after=tuple(dict.fromkeys(after)), gpus=gpus if kind in _ON_GPU else 0, in_container=kind in _IN_CONTAINER,
            **cost,
        )  # fmt: skip
        return self.result.add(step)

    def _sample_bytes(self) -> float:
        channels = len(self.study.data.contrasts) + 1
        return float(self.study.n_samples * channels * self.study.data.size**2 * _COMPRESSED)


def _bytes(gigabytes: float | None) -> float | None:
    return None if gigabytes is None else gigabytes * 1e9


def _plain(params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as JSON holds them."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in params.items()}


def check_sizes(study: Study) -> list[str]:
    """Generators that do not make images of the study's size; each as a sentence."""
    found = []
    for generator in study.generators.values():
        declaration = discover().get(generator.plugin, "generator")
        assert isinstance(declaration, GeneratorDeclaration)
        if not declaration.minimum_size <= study.data.size <= declaration.maximum_size:
            found.append(
                f"{generator.name} makes images of {declaration.minimum_size} to {declaration.maximum_size} pixels"
            )
    return found
