"""A study, or any folder of runs, as an RO-Crate: what was run, by which versions, from what, with which result.

The metadata follow the profile Process Run Crate 0.5 (Leo et al., "Recording provenance of workflow runs with
RO-Crate", PLOS ONE 2024, doi:10.1371/journal.pone.0309210) on RO-Crate 1.1: a CreateAction for each run, its plugin as
SoftwareApplication, inputs as ``object``, outputs as ``result``.

Only small texts are copied: ``study.toml``, ``synthkit.lock``, jobs, results, tables, figures and the report. Datasets,
checkpoints and predictions are named with their digests and stay where they are: they hold patients' images, or may.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import mimetypes
import tomllib
import urllib.parse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from synthkit import __version__
from synthkit.contract import Declaration
from synthkit.errors import DataError, UsageError
from synthkit.files import write_atomically
from synthkit.registry.registry import Registry, discover
from synthkit.registry.wheels import CORE
from synthkit.running.lock import LOCK_FILE
from synthkit.running.run import JOB, RESULT, Job, Run, find_runs
from synthkit.study import layout
from synthkit.study.deidentify import Deidentifier

METADATA = "ro-crate-metadata.json"
_CONTEXT = ("https://w3id.org/ro/crate/1.1/context", "https://w3id.org/ro/terms/workflow-run/context")
_PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
_DOCKER_IMAGE = "https://w3id.org/ro/terms/workflow-run#DockerImage"
_STATUS = {"succeeded": "http://schema.org/CompletedActionStatus", "failed": "http://schema.org/FailedActionStatus"}
_TYPES = {".toml": "application/toml", ".lock": "application/json", ".tex": "application/x-tex"}

Entity = dict[str, Any]


def write_crate(
    folder: Path, out: Path, *, subject_names: bool = False, payloads_at: str = "", licence: str = ""
) -> Path:
    """Describe the runs at or below ``folder`` in ``out``, a new or empty folder. Returns the metadata file.

    Parameters
    ----------
    subject_names : keep the names of subjects, which otherwise become ``subject-001`` and so on in all files.
    payloads_at : address (``https://...``) of ``folder`` for those who may see the data; datasets, checkpoints and
        predictions are then referred to there. They are never copied.
    licence : of the crate: its SPDX identifier or its URL.

    Raises :class:`UsageError` if ``out`` is not empty or lies in ``folder``, :class:`DataError` if there is no run.
    """
    folder = folder.resolve()
    if out.resolve().is_relative_to(folder):
        raise UsageError(f"{out} lies in {folder}.", "Its copies would count as runs.", "Choose another folder.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is not empty.", "Nothing is overwritten unasked.", "Choose another folder.")
    runs = [run for run in find_runs([folder]) if run.result() is not None]
    if not runs:
        raise DataError(f"There is no run with a result in {folder}.", fix="Give a study, or a folder of runs.")
    deidentifier = Deidentifier.of(folder, runs, keep_names=subject_names)
    out.mkdir(parents=True, exist_ok=True)
    graph = _Graph(folder, out, deidentifier, payloads_at, discover())
    for path in _files_of_the_study(folder):
        graph.add_file(path)
    for run in runs:
        graph.add_run(run)
    metadata = {"@context": list(_CONTEXT), "@graph": graph.whole(_title(folder), licence)}
    write_atomically(out / METADATA, (json.dumps(metadata, indent=1, allow_nan=False) + "\n").encode())
    return out / METADATA


def _files_of_the_study(folder: Path) -> list[Path]:
    single = [folder / layout.STUDY_FILE, folder / LOCK_FILE, folder / layout.REPORT]
    tables = [path for suffix in ("csv", "tex") for path in sorted((folder / layout.TABLES).glob(f"*.{suffix}"))]
    return [path for path in (*single, *tables, *sorted((folder / layout.FIGURES).glob("*.svg"))) if path.is_file()]


def _title(folder: Path) -> str:
    try:
        study = tomllib.loads((folder / layout.STUDY_FILE).read_text(encoding="utf-8"))["study"]
        return str(study["name"])
    except (OSError, ValueError, KeyError, TypeError):
        return folder.name


class _Graph:
    """The entities of a crate by ``@id``, and the files that they stand for."""

    def __init__(
        self, folder: Path, out: Path, deidentifier: Deidentifier, payloads_at: str, registry: Registry
    ) -> None:
        self._folder, self._out, self._deidentifier, self._registry = folder, out, deidentifier, registry
        self._base = payloads_at.rstrip("/") + "/" if payloads_at else ""
        self._entities: dict[str, Entity] = {}
        self._files: list[str] = []
        self._actions: list[str] = []

    def _add(self, entity: Entity) -> Entity:
        """Keep it, unless there is one of this id; returns a reference."""
        self._entities.setdefault(entity["@id"], entity)
        return {"@id": entity["@id"]}

    # -------------------------------------------------------------------------------------------------- files

    def add_file(self, path: Path, about: str = "") -> Entity | None:
        """Copy a small text; None if it may not be given away."""
        content = self._deidentifier.clean(path)
        if content is None:
            return None
        name = self._deidentifier.text(path.relative_to(self._folder).as_posix())
        target = self._out / name
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, content)
        identity = urllib.parse.quote(name)
        if identity not in self._files:
            self._files.append(identity)
        return self._add(
            {
                "@id": identity,
                "@type": "File",
                "name": name,
                **({"description": about} if about else {}),
                "encodingFormat": _TYPES.get(path.suffix) or mimetypes.guess_type(name)[0] or "text/plain",
                "contentSize": str(len(content)),
                "sha256": hashlib.sha256(content).hexdigest(),
            }
        )

    def _payload(self, path: Path, kind: str, digest: str, role: str) -> Entity:
        """A dataset, checkpoint or folder of volumes, which stays where it is."""
        place = path.resolve()
        inside = place.is_relative_to(self._folder)
        name = self._deidentifier.text(place.relative_to(self._folder).as_posix()) if inside else role
        if inside and self._base:
            identity = self._base + urllib.parse.quote(name) + "/"
            if identity not in self._files:
                self._files.append(identity)
        elif digest:
            identity = f"#{digest}"
        else:
            identity = f"#{role}-{hashlib.sha256(str(place).encode()).hexdigest()[:12]}"
        return self._add(
            {
                "@id": identity,
                "@type": "Dataset" if identity in self._files else "CreativeWork",
                "name": name,
                "description": f"{kind}; not part of this crate, since it may hold patients' data",
                **({"identifier": digest} if digest else {}),
            }
        )

    # --------------------------------------------------------------------------------------------------- runs

    def add_run(self, run: Run) -> None:
        """The action of a run, its instrument, image, inputs and outputs."""
        job, result = run.job(), run.result() or {}
        name = self._deidentifier.text(run.path.resolve().relative_to(self._folder).as_posix())
        identity = f"#run/{urllib.parse.quote(name)}"
        status = str(result.get("status"))
        instruments = [self._plugin(plugin, result) for plugin in job.plugins]
        action: Entity = {
            "@id": identity,
            "@type": "CreateAction",
            "name": f"{job.verb} {' '.join(job.plugins)}: {name}",
            "description": self._deidentifier.text(" ".join(job.command)),
            "instrument": _one_or_many(instruments),
            "object": _one_or_many([*self._inputs(run, job), *self._params(identity, job)]),
            "result": _one_or_many(self._outputs(run, result)),
            "actionStatus": _STATUS.get(status, _STATUS["failed"]),
            **_times(job, result),
        }
        if status != "succeeded":
            action["error"] = self._deidentifier.text(str((result.get("error") or {}).get("what", "")))
        if image := (result.get("container") or {}).get("image_id"):
            action["containerImage"] = self._image(str(image), result["container"])
        self._actions.append(identity)
        self._add(action)

    def _inputs(self, run: Run, job: Job) -> list[Entity]:
        found = [self.add_file(run.path / JOB, "what the run was to do")]
        for role, item in job.inputs.items():
            found.append(self._payload(run.input(role), item.kind, item.digest, role))
        return [entity for entity in found if entity is not None]

    def _params(self, identity: str, job: Job) -> list[Entity]:
        return [
            self._add(
                {
                    "@id": f"{identity}/params/{urllib.parse.quote(name)}",
                    "@type": "PropertyValue",
                    "name": name,
                    "value": value if isinstance(value, str | int | float) else json.dumps(value),
                }
            )
            for name, value in sorted(self._deidentifier.value(job.params).items())
        ]

    def _outputs(self, run: Run, result: dict[str, Any]) -> list[Entity]:
        found = [self.add_file(run.path / RESULT, "how the run ended, with which scores and versions")]
        for name, output in result.get("outputs", {}).items():
            table = run.outputs / f"{name}.csv"
            if output["kind"] == "table" and table.is_file():
                found.append(self.add_file(table, f"table {name} of the run"))
            else:
                found.append(self._payload(run.outputs / name, output["kind"], output["digest"], name))
        return [entity for entity in found if entity is not None]

    def _plugin(self, name: str, result: dict[str, Any]) -> Entity:
        declaration = self._registry.declarations.get(name)
        versions, codes = result.get("versions") or {}, result.get("code") or {}
        distribution = declaration.distribution if declaration is not None else ""
        release = str(versions.get(distribution, "unknown"))
        code = str(codes.get(distribution, ""))
        others = [self._library(other, str(v)) for other, v in sorted(versions.items()) if other != distribution]
        package = _package(distribution or name, release)
        entity: Entity = {
            "@id": f"{package}?code={code[7:19]}#{name}" if code else f"{package}#{name}",
            "@type": "SoftwareApplication",
            "name": name,
            "softwareVersion": release,
            "softwareRequirements": others,
            **({"identifier": code} if code else {}),
        }
        return self._add(entity | (self._declared(declaration) if declaration is not None else {}))

    def _declared(self, declaration: Declaration) -> Entity:
        citations = [
            self._add(
                {
                    "@id": f"https://doi.org/{c.doi}" if c.doi else c.url or f"#citation/{urllib.parse.quote(c.text)}",
                    "@type": "ScholarlyArticle",
                    "name": c.text,
                }
            )
            for c in declaration.citations
        ]
        return {
            "description": f"{declaration.kind}: {declaration.summary}",
            **({"url": citations[0]["@id"]} if citations else {}),
            **({"license": own if " " in own else _licence(own)} if (own := declaration.licence) else {}),
            **({"citation": _one_or_many(citations)} if citations else {}),
        }

    def _library(self, name: str, release: str) -> Entity:
        return self._add(
            {
                "@id": _package(name, release),
                "@type": "SoftwareApplication",
                "name": "synthkit" if name == CORE else name,
                "softwareVersion": release,
            }
        )

    def _image(self, identity: str, container: dict[str, Any]) -> Entity:
        name, _, tag = str(container.get("image", "")).rpartition(":")
        digests = [str(digest) for digest in container.get("repo_digests") or ()]
        return self._add(
            {
                "@id": f"#image/{identity}",
                "@type": "ContainerImage",
                "additionalType": {"@id": _DOCKER_IMAGE},
                "name": name,
                "tag": tag,
                "sha256": identity.removeprefix("sha256:"),
                **({"identifier": digests} if digests else {}),
            }
        )

    # ----------------------------------------------------------------------------------------------- the whole

    def whole(self, title: str, licence: str) -> list[Entity]:
        """All entities, the descriptor and the root first."""
        names = "Names of subjects are replaced. " if self._deidentifier.names else ""
        root: Entity = {
            "@id": "./",
            "@type": "Dataset",
            "name": title,
            "description": f"{len(self._actions)} runs of synthkit: jobs, results, scores and tables. No image, label "
            f"volume, checkpoint or picture is part of it. {names}Digests tell which ones were used.",
            "datePublished": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "license": _licence(licence) if licence else {"@id": "#licence"},
            "conformsTo": {"@id": _PROFILE},
            "hasPart": _references(self._files),
            "mentions": _references(self._actions),
        }
        descriptor: Entity = {
            "@id": METADATA,
            "@type": "CreativeWork",
            "about": {"@id": "./"},
            "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
            "sdPublisher": self._library(CORE, __version__),
        }
        profile = {"@id": _PROFILE, "@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"}
        terms = {
            "@id": root["license"]["@id"],
            "@type": "CreativeWork",
            "name": licence or "No licence is stated",
            "description": "Licence of this crate." if licence else "Ask those who made the study.",
        }
        return [descriptor, root, profile, terms, *self._entities.values()]


def _package(name: str, release: str) -> str:
    """A package URL (purl), which names a release wherever it comes from."""
    return f"pkg:{'generic' if name == 'python' else 'pypi'}/{name}@{urllib.parse.quote(release)}"


def _one_or_many(entities: list[Entity]) -> Any:
    return entities[0] if len(entities) == 1 else entities


def _references(identities: Iterable[str]) -> list[Entity]:
    return [{"@id": identity} for identity in identities]


def _licence(name: str) -> Entity:
    """A reference to a licence that is given by its URL, its SPDX identifier or in words."""
    if "://" in name:
        return {"@id": name}
    return {"@id": f"#licence/{urllib.parse.quote(name)}" if " " in name else f"https://spdx.org/licenses/{name}"}


def _times(job: Job, result: dict[str, Any]) -> Entity:
    """Start and end; a run that was killed knows only when its job was made."""
    try:
        started = datetime.datetime.fromisoformat(result["started"])
        ended = started + datetime.timedelta(seconds=float(result["seconds"]))
    except (KeyError, TypeError, ValueError):
        return {"startTime": job.created} if job.created else {}
    return {"startTime": started.isoformat(), "endTime": ended.isoformat(timespec="seconds")}
