"""``synthkit-run FOLDER``: the one way in. Executes the job of a run folder in this process.

Every backend only makes the folder appear somewhere (this process, a fresh one, a container) and comes here. The
plugin gets arrays and gives arrays; reading the inputs, writing the outputs and the result is done here.
"""

from __future__ import annotations

import csv
import dataclasses
import datetime
import errno
import importlib
import math
import numbers
import os
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from synthkit import events
from synthkit.contract import (
    CONTRACT_VERSION,
    Declaration,
    GeneratorDeclaration,
    MetricDeclaration,
    Row,
    Score,
    SegmenterDeclaration,
)
from synthkit.data.lineage import datasets_behind
from synthkit.errors import (
    DataError,
    ExitCode,
    GpuUnavailableError,
    InterruptedRunError,
    NotWritableError,
    OutOfMemoryError,
    PluginError,
    SynthkitError,
    UsageError,
    is_out_of_memory,
)
from synthkit.registry import provenance
from synthkit.registry.parameters import make_params, params_to_dict
from synthkit.registry.registry import Registry, discover, load_module
from synthkit.running.run import (
    CHECKPOINT_METADATA,
    EVENTS,
    Job,
    Run,
    file_digest,
    folder_digest,
    read_checkpoint_metadata,
    write_json,
)

if TYPE_CHECKING:
    import numpy as np

    from synthkit.contract import Samples, UInt8Array
    from synthkit.data.dataset import Dataset
    from synthkit.data.slices import SliceProtocol

_SAMPLES_PER_WRITE = 16


def execute(folder: Path, registry: Registry | None = None) -> dict[str, Any]:
    """Do the job in ``folder`` and write ``result.json`` whatever happens. Returns the result; raises nothing."""
    run = Run(folder)
    started = datetime.datetime.now(datetime.UTC)
    clock = time.monotonic()
    result: dict[str, Any] = {"contract": CONTRACT_VERSION, "status": "failed"}
    declarations: tuple[Declaration, ...] = ()
    handlers: dict[int, Any] = {}
    try:
        try:
            job = run.job()
            run.outputs.mkdir(exist_ok=True)
            with events.logging_to(folder / EVENTS):
                if job.resources.gpus == "none":
                    # Before any plugin imports torch, which looks once.
                    os.environ["CUDA_VISIBLE_DEVICES"] = ""
                found = registry or discover()
                declarations = tuple(found.get(name) for name in job.plugins)
                _check_gpu(job, declarations)
                result.update(_VERBS[job.verb](run, job, declarations))
        finally:
            handlers = _ignore_signals()  # the work is done or lost; what is left is to say so
        result.update(status="succeeded", error=None)
        result.setdefault("exit_code", int(ExitCode.OK))  # a gate may have set its own
    except BaseException as error:  # everything becomes a result
        traceback.print_exc()
        known = explain(error)
        result.update(status="failed", exit_code=int(known.exit_code), error=known.to_dict())
    result.update(
        started=started.isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - clock, 3),
        versions=_or_nothing(lambda: provenance.versions(declarations)),
        code=_or_nothing(lambda: provenance.code(declarations)),
        machine=_or_nothing(provenance.machine),
    )
    try:
        run.write_result(result)
    except (TypeError, ValueError) as error:  # something that JSON cannot hold
        traceback.print_exc()
        known = explain(error)
        result = {key: result[key] for key in ("contract", "started", "seconds", "versions", "machine")}
        result.update(status="failed", exit_code=int(known.exit_code), error=known.to_dict())
        run.write_result(result)
    except OSError:
        traceback.print_exc()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return result


def _ignore_signals() -> dict[int, Any]:
    """Be deaf to SIGTERM and Ctrl-C; returns the handlers to put back, none outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGTERM, signal.SIGINT)}


def _or_nothing(look: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    # A damaged installation or driver must not cost a finished run its result.
    try:
        return look()
    except Exception:
        traceback.print_exc()
        return {}


def explain(error: BaseException) -> SynthkitError:
    """Any exception as an error with what, why and what to try."""
    if isinstance(error, SynthkitError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return InterruptedRunError("The run was interrupted.", fix="Run the same command with --resume to go on.")
    if isinstance(error, MemoryError):
        return OutOfMemoryError(
            "The run is out of memory.", f"{error}".strip(), "Lower the batch size, or give it more memory."
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        return NotWritableError(
            "The output cannot be written.",
            f"{error.strerror}" + (f": {error.filename}." if error.filename else "."),
            "Free some space or choose another folder, then run the command again (with --resume, where it has that).",
        )
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return PluginError(
        f"The method failed with {type(error).__name__}{where}.",
        f"{error}".strip() or "It gave no reason.",
        "The traceback is at the end of the run's log.txt.",
    )


# ------------------------------------------------------------------------------------------------------- verbs


def _train(run: Run, job: Job, declarations: tuple[Declaration, ...]) -> dict[str, Any]:
    from synthkit.data.views import Joined

    declaration = declarations[0]
    datasets = {role: _dataset(run, job, role) for role, item in job.inputs.items() if item.kind == "dataset"}
    validation = {role: datasets.pop(role) for role in ("validation",) if role in datasets}
    optional: dict[str, Any] = {role: dataset.training_part() for role, dataset in validation.items()}
    optional |= {role: _file(run, job, role) for role, item in job.inputs.items() if item.kind == "file"}
    parts = [dataset.training_part() for dataset in datasets.values()]
    data: Samples = parts[0] if len(parts) == 1 else Joined(parts)
    if not len(data):
        raise DataError(
            "There is nothing to train on.", "Every sample is held out.", "Prepare with a smaller --holdout."
        )
    if isinstance(declaration, GeneratorDeclaration):
        _check_generator_size(declaration, data.size)
    if isinstance(declaration, SegmenterDeclaration) and any(s % declaration.size_multiple for s in data.size):
        raise DataError(
            f"{declaration.name} cannot take images of {data.size[1]} x {data.size[0]} pixels.",
            f"Their sides must be multiples of {declaration.size_multiple}.",
            "Prepare the dataset with another --size.",
        )
    params = make_params(declaration, job.params)
    module = load_module(declaration)
    run.checkpoint.mkdir(parents=True, exist_ok=True)
    _call(declaration, module.train, data, run.checkpoint, params, **optional)
    if not any(run.checkpoint.iterdir()):
        raise PluginError(
            f"{declaration.name} trained but left no checkpoint.", fix=f"Report it to {declaration.distribution}."
        )
    first = next(iter(datasets.values()))
    write_json(
        run.checkpoint / CHECKPOINT_METADATA,
        {
            "plugin": declaration.name,
            "kind": declaration.kind,
            "distribution": declaration.distribution,
            "params": params_to_dict(params),
            "contrasts": list(data.contrasts),
            "labels": first.labels,
            "size": list(data.size),
            "protocol": _common_protocol(datasets | validation),
            "training_datasets": [dataset.training_entry() for dataset in datasets.values()],
            **({"validation_datasets": [v.training_entry() for v in validation.values()]} if validation else {}),
        },
    )
    return {"outputs": {"checkpoint": {"kind": "checkpoint", "digest": folder_digest(run.checkpoint)}}}


def _import_checkpoint(run: Run, job: Job, declarations: tuple[Declaration, ...]) -> dict[str, Any]:
    declaration = declarations[0]
    if not isinstance(declaration, GeneratorDeclaration):
        raise UsageError(f"{declaration.name} is not a generator.")
    file = _file(run, job, "file")
    contrasts, labels = job.options["contrasts"], job.options["labels"]
    module = load_module(declaration)
    run.checkpoint.mkdir(parents=True, exist_ok=True)
    side = _call(
        declaration,
        module.import_checkpoint,
        file,
        run.checkpoint,
        contrasts=tuple(contrasts),
        label_values=tuple(sorted(labels.values())),
    )
    _check_generator_size(declaration, (side, side))
    write_json(
        run.checkpoint / CHECKPOINT_METADATA,
        {
            "plugin": declaration.name,
            "kind": declaration.kind,
            "distribution": declaration.distribution,
            "params": {},
            "contrasts": list(contrasts),
            "labels": labels,
            "size": [side, side],
            "protocol": {},
            "training_datasets": [],
            "imported": {"file": job.options["name"], "digest": job.inputs["file"].digest},
        },
    )
    return {"outputs": {"checkpoint": {"kind": "checkpoint", "digest": folder_digest(run.checkpoint)}}}


def _generate(run: Run, job: Job, declarations: tuple[Declaration, ...]) -> dict[str, Any]:
    import numpy as np

    from synthkit.data.writer import DatasetWriter
    from synthkit.running.verbs.seeds import count_seeds, iterate_seeds, parse_seeds

    declaration = declarations[0]
    checkpoint, metadata = _checkpoint(run, job, declaration)
    params = make_params(declaration, {**metadata["params"], **job.params})
    ranges = parse_seeds(job.options["seeds"])
    total = count_seeds(ranges)
    module = load_module(declaration)
    writer = DatasetWriter(
        run.dataset,
        contrasts=metadata["contrasts"],
        labels=metadata["labels"],
        size=tuple(metadata["size"]),
        kind="synthetic",
        protocol=metadata.get("protocol"),
        provenance={"plugin": declaration.name, "params": params_to_dict(params), "seeds": job.options["seeds"]},
        lineage={
            "generator": declaration.name,
            "checkpoint_digest": job.inputs["checkpoint"].digest,
            "training_datasets": metadata["training_datasets"],
            **({"imported": metadata["imported"]} if "imported" in metadata else {}),
        },
        resume=True,
    )
    with writer:
        done = {row.seed for row in writer.samples}
        if done:
            events.message(f"{len(done)} of {total} samples were there already.")
        seeds = [seed for seed in iterate_seeds(ranges) if seed not in done]
        images: list[UInt8Array] = []
        labels: list[UInt8Array] = []
        first = 0

        def flush() -> None:
            nonlocal first
            rows = [{"id": f"seed{s:08d}", "split": "synthetic", "seed": s} for s in seeds[first : first + len(images)]]
            try:
                writer.append(np.stack(images), np.stack(labels), rows)
            except (DataError, ValueError) as error:
                raise PluginError(f"{declaration.name} made a sample that does not fit.", f"{error}") from error
            first += len(images)
            images.clear()
            labels.clear()
            events.progress(len(done) + first, total, unit="sample")

        samples = _call(declaration, module.generate, checkpoint, list(seeds), params) if seeds else ()
        for sample in _yielded(declaration, samples):
            if not isinstance(sample, (tuple, list)) or len(sample) != 2:
                raise PluginError(
                    f"{declaration.name} made a {type(sample).__name__} where a sample belongs.",
                    "A sample is a pair of image and labels.",
                    f"Report it to the authors of {declaration.distribution}.",
                )
            if first + len(images) == len(seeds):
                raise PluginError(
                    f"{declaration.name} made more samples than {len(seeds)} for {len(seeds)} seeds.",
                    "A generator yields one sample a seed.",
                    f"Report it to the authors of {declaration.distribution}.",
                )
            image, label_map = sample
            images.append(np.asarray(image))
            labels.append(np.asarray(label_map))
            if len(images) == _SAMPLES_PER_WRITE:
                flush()
        if images:
            flush()
        if first != len(seeds):
            raise PluginError(
                f"{declaration.name} made {first} samples for {len(seeds)} seeds.",
                "A generator yields one sample a seed.",
                f"Report it to the authors of {declaration.distribution}.",
            )
    from synthkit.data.dataset import Dataset

    made = Dataset(run.dataset)
    return {"outputs": {"dataset": {"kind": "dataset", "digest": made.digest, "n_samples": len(made)}}}


def _segment(run: Run, job: Job, declarations: tuple[Declaration, ...]) -> dict[str, Any]:
    from synthkit.data.lineage import was_trained_on
    from synthkit.data.nifti import write_labels
    from synthkit.data.slices import slices_for_segmentation, to_native
    from synthkit.data.subjects import bad_subjects_error, load_subject, scan_subjects
    from synthkit.running.verbs.probabilities import ProbabilityKeeper

    declaration = declarations[0]
    checkpoint, metadata = _checkpoint(run, job, declaration)
    params = make_params(declaration, {**metadata["params"], **job.params})
    protocol = _protocol_of(metadata)
    wanted = list(job.options["subjects"])
    good, bad = scan_subjects(run.input("subjects"), contrasts=protocol.contrasts, need_labels=False)
    if unusable := [subject for subject in bad if subject.id in set(wanted)]:
        raise bad_subjects_error(unusable, len(wanted), fix="Repair them, or make the run again without them.")
    by_id = {subject.id: subject for subject in good}
    if missing := [name for name in wanted if name not in by_id]:
        raise DataError(
            f"{len(missing)} subjects of the job are not in the folder any more.",
            f"Missing: {', '.join(missing[:5])}.",
            "Make the run again.",
        )
    module = load_module(declaration)
    run.predictions.mkdir(parents=True, exist_ok=True)
    keeper = ProbabilityKeeper(run.probabilities, metadata, protocol) if job.options.get("keep_probabilities") else None
    todo = [name for name in wanted if not (run.predictions / f"{name}.nii.gz").is_file()]
    # What has been sliced and not yet segmented; a segmenter reads ahead by a batch, so this stays short.
    waiting: deque[tuple[str, Any, Any]] = deque()

    def images() -> Iterator[UInt8Array]:
        for name in todo:
            volumes = load_subject(by_id[name], labels=False)
            slices = slices_for_segmentation(volumes, protocol)
            waiting.append((name, volumes, slices.slice_indices))
            yield from slices.images

    import numpy as np

    done = len(wanted) - len(todo)
    collected: list[np.ndarray[Any, Any]] = []

    def finish_subjects() -> None:
        nonlocal done, collected
        while waiting and len(collected) >= len(waiting[0][2]):
            name, volumes, indices = waiting.popleft()
            label_slices = (
                np.stack(collected[: len(indices)]) if len(indices) else np.zeros((0, *metadata["size"]), np.uint8)
            )
            collected = collected[len(indices) :]
            native = to_native(label_slices, indices, volumes.shape, protocol)
            if keeper is not None:  # before the labels, which say that a subject is finished
                keeper.write(name, volumes, indices)
            write_labels(run.predictions / f"{name}.nii.gz", native, like=volumes)
            done += 1
            events.progress(done, len(wanted), unit="subject")

    method = module.segment if keeper is None else module.segment_with_probabilities
    for answer in _yielded(declaration, _call(declaration, method, checkpoint, images(), params)):
        label_map = np.asarray(answer if keeper is None else keeper.take(answer, declaration))
        if label_map.shape != tuple(metadata["size"]) or label_map.dtype != np.uint8:
            raise PluginError(
                f"{declaration.name} gave labels that do not fit.",
                f"Expected uint8 {tuple(metadata['size'])}, got {label_map.dtype} {label_map.shape}.",
                f"Report it to the authors of {declaration.distribution}.",
            )
        unknown = set(np.flatnonzero(np.bincount(label_map.ravel())).tolist()) - set(metadata["labels"].values())
        if unknown:
            raise PluginError(
                f"{declaration.name} gave the label{'s' if len(unknown) > 1 else ''} {sorted(unknown)}.",
                f"It was trained on the labels {metadata['labels']}.",
                f"Report it to the authors of {declaration.distribution}.",
            )
        collected.append(label_map)
        finish_subjects()
    finish_subjects()
    if done != len(wanted) or collected:
        raise PluginError(
            f"{declaration.name} segmented {'fewer' if done != len(wanted) else 'more'} slices than it was given.",
            f"{done} of {len(wanted)} subjects are complete.",
            f"Report it to the authors of {declaration.distribution}.",
        )
    seen = [name for name in sorted(wanted) if was_trained_on(name, datasets_behind(metadata))]
    write_json(
        run.predictions / "predictions.json",
        {"segmenter": declaration.name, "checkpoint_digest": job.inputs["checkpoint"].digest, "seen_in_training": seen},
    )
    outputs = {"predictions": {"kind": "labels", "digest": folder_digest(run.predictions), "n_subjects": len(wanted)}}
    if keeper is not None:
        outputs["probabilities"] = {
            "kind": "probabilities",
            "digest": folder_digest(run.probabilities),
            "n_subjects": len(wanted),
        }
    return {"outputs": outputs}


def _score(run: Run, job: Job, declarations: tuple[Declaration, ...]) -> dict[str, Any]:
    from synthkit.data.label_folders import LabelFolder, check_same_grids
    from synthkit.data.views import Joined

    metrics = [d for d in declarations if isinstance(d, MetricDeclaration)]
    first = metrics[0]
    if len({(d.module, d.params) for d in metrics}) != 1:
        raise UsageError("Metrics of different packages cannot share a run.", fix="Evaluate them one by one.")
    params = make_params(first, job.params)
    datasets: dict[str, Any] = {}
    parts: dict[str, list[Any]] = {}
    for role, item in job.inputs.items():
        if item.kind == "dataset":
            dataset = _dataset(run, job, role)
            part = dataset.select(*item.splits) if item.splits else dataset.training_part()
            parts.setdefault(role.rstrip("0123456789"), []).append(part)  # train, train2, ... are searched together
        elif item.kind == "file":
            datasets[role] = _file(run, job, role)
        else:
            subjects = job.options.get("subjects")
            if subjects is not None and role == "reference":
                subjects = [*subjects, *job.options.get("references_without_prediction", ())]
            datasets[role] = LabelFolder(run.input(role), subjects=subjects)
    datasets |= {role: found[0] if len(found) == 1 else Joined(found) for role, found in parts.items()}
    if "reference" in datasets and "prediction" in datasets:
        check_same_grids(datasets["reference"], datasets["prediction"])
    if protocol := job.options.get("protocol"):
        from synthkit.judging.protocols import KeptSlices, SliceRule

        rule = SliceRule(run.input("reference"))
        datasets |= {role: KeptSlices(datasets[role], rule) for role in ("reference", "prediction")}
    module = load_module(first)
    known = {score.name for d in metrics for score in d.scores}
    scores: list[dict[str, Any]] = []
    tables = _Tables(run.outputs)
    with tables:
        answers = _call(first, module.score, metrics=[d.name for d in metrics], params=params, **datasets)
        for answer in _yielded(first, answers):
            if isinstance(answer, Row):
                tables.write(answer)
            elif isinstance(answer, Score) and answer.name in known:
                scores.append(_sound(answer, first).to_dict())
            else:
                raise PluginError(
                    f"{first.name} gave {getattr(answer, 'name', type(answer).__name__)!r}, which it does not declare.",
                    f"It declares the scores {', '.join(sorted(known))}.",
                    f"Report it to the authors of {first.distribution}.",
                )
    result: dict[str, Any] = {"scores": scores, "outputs": tables.described()}
    if protocol:
        from synthkit.judging.protocols import evaluation_protocol

        result["protocol"] = {"name": protocol, "policy": list(evaluation_protocol(protocol).policy)}
    if job.verb == "audit-memorization":
        from synthkit.judging.policy import Policy
        from synthkit.judging.verdict import verdict

        judged = verdict(scores, Policy(**job.options.get("policy", {})))
        result["verdict"] = judged.to_dict()
        result["exit_code"] = int(ExitCode.OK if judged.outcome == "pass" else ExitCode.GATE_FAILED)
    return result


_VERBS: dict[str, Callable[[Run, Job, tuple[Declaration, ...]], dict[str, Any]]] = {
    "train": _train,
    "import-checkpoint": _import_checkpoint,
    "generate": _generate,
    "segment": _segment,
    "evaluate": _score,
    "audit-memorization": _score,
}


# ----------------------------------------------------------------------------------------------------- helpers


class _Tables:
    """Writes rows to ``outputs/<table>.csv`` as they come; complete tables only (temporary name until the end)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: dict[str, tuple[IO[str], Any, list[str]]] = {}
        self._done: list[Path] = []

    def write(self, row: Row) -> None:
        if row.table not in self._open:
            if not row.table.isidentifier():
                raise PluginError(
                    f"{row.table!r} is not a name for a table.", fix="Use letters, digits and underscores."
                )
            file = (self.folder / f".{row.table}.csv.tmp").open("w", newline="", encoding="utf-8")
            writer = csv.DictWriter(file, list(row.values), lineterminator="\n")
            writer.writeheader()
            self._open[row.table] = (file, writer, list(row.values))
        _, writer, columns = self._open[row.table]
        if list(row.values) != columns:
            raise PluginError(
                f"Rows of the table {row.table} differ in their columns.", f"First {columns}, then {list(row.values)}."
            )
        writer.writerow(row.values)

    def described(self) -> dict[str, Any]:
        return {path.stem: {"kind": "table", "digest": file_digest(path)} for path in self._done}

    def __enter__(self) -> _Tables:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        for name, (file, _, _) in self._open.items():
            file.close()
            temporary = Path(file.name)
            if kind is None:
                self._done.append(temporary.replace(self.folder / f"{name}.csv"))
            else:
                temporary.unlink(missing_ok=True)


def _call(declaration: Declaration, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call the method; what it raises without a class of ours is the plugin's error, out of memory apart."""
    try:
        return function(*args, **kwargs)
    except Exception as error:
        raise _plugin_error(declaration, error) from error


def _yielded(declaration: Declaration, values: Iterable[Any]) -> Iterator[Any]:
    """The values of a method's iterator, its exceptions treated as by :func:`_call`."""
    iterator: Iterator[Any] | None = None
    while True:
        try:
            iterator = iter(values) if iterator is None else iterator
            value = next(iterator)
        except StopIteration:
            return
        except Exception as error:
            raise _plugin_error(declaration, error) from error
        yield value


def _plugin_error(declaration: Declaration, error: Exception) -> BaseException:
    if isinstance(error, (SynthkitError, MemoryError, OSError)):
        return error
    if is_out_of_memory(error):
        return OutOfMemoryError(
            f"{declaration.name} is out of memory.",
            str(error).strip().partition("\n")[0],
            "Lower its batch size (-p batch_size=...) or use smaller images.",
        )
    known = explain(error)
    return PluginError(known.what.replace("The method", declaration.name), known.why, known.fix)


def _dataset(run: Run, job: Job, role: str) -> Dataset:
    from synthkit.data.dataset import Dataset
    from synthkit.data.format import content_digest

    dataset = Dataset(run.input(role))
    expected = job.inputs[role].digest
    content = content_digest(dataset.contrasts, dataset.label_values, dataset.size, dataset.samples)
    if content != dataset.digest:
        raise DataError(
            f"The dataset for {role} is damaged.",
            f"Its table gives the digest {content[:23]}, its description says {dataset.digest[:23]}.",
            "Restore it from its source, or make it again.",
        )
    if expected and dataset.digest != expected:
        raise DataError(
            f"The dataset for {role} has changed since the run was made.",
            f"Its digest is {dataset.digest[:23]}, the job says {expected[:23]}.",
            "Make the run again.",
        )
    return dataset


def _file(run: Run, job: Job, role: str) -> Path:
    path, expected = run.input(role), job.inputs[role].digest
    if expected and (found := file_digest(path)) != expected:
        raise DataError(
            f"The file given as {role} has changed since the run was made.",
            f"Its digest is {found[:23]}, the job says {expected[:23]}.",
            "Make the run again.",
        )
    return path


def _common_protocol(datasets: dict[str, Dataset]) -> dict[str, Any]:
    """How slices are made for a model trained on these datasets: the protocol of all that have one.

    Without the holdout and its seed, which name subjects and are not part of how a slice is made. Datasets without a
    protocol (imported ones) are taken to follow the others'; if none has one, size and contrasts are those of the
    data and the rest is the default, with a warning.
    """
    from synthkit.data.conventions import BRATS
    from synthkit.data.slices import SIZES, SliceProtocol

    first: tuple[str, SliceProtocol] | None = None
    for role, dataset in datasets.items():
        recorded = dataset.description.get("protocol")
        if not recorded:
            continue
        protocol = SliceProtocol.from_dict(recorded)
        if first and any(
            getattr(protocol, key) != getattr(first[1], key) for key in ("intensity", "size", "contrasts")
        ):
            raise DataError(
                "The datasets were made by different protocols.",
                f"{first[0]}: {first[1].name}; {role}: {protocol.name}.",
                "Prepare them with the same options, or train on one of them.",
            )
        first = first or (role, protocol)
    if first:
        return first[1].to_dict()
    dataset = next(iter(datasets.values()))
    height, width = dataset.size
    if height != width or height not in SIZES or set(dataset.contrasts) - set(BRATS.contrast_names):
        events.message(
            f"The data record no protocol, and volumes cannot be sliced to {'/'.join(dataset.contrasts)} of {width} x "
            f"{height}: no subject can be segmented by what is trained on them.",
            level="warning",
        )
        return {}
    events.message(
        "The data record no protocol: it is assumed that the maximum of each volume became 255, as by "
        "`synthkit prepare` without --intensity.",
        level="warning",
    )
    return SliceProtocol(contrasts=dataset.contrasts, size=height).to_dict()


def _protocol_of(metadata: dict[str, Any]) -> SliceProtocol:
    """The protocol that a segmenter's volumes are sliced by."""
    from synthkit.data.slices import SliceProtocol

    if not metadata.get("protocol"):
        raise DataError(
            f"The model {metadata['plugin']} cannot segment subjects.",
            "Its training data record no protocol, and volumes are not sliced to their size and contrasts.",
            "Train it on data of 256, 128, 64 or 32 pixels a side, with contrasts of BraTS.",
        )
    return SliceProtocol.from_dict(metadata["protocol"])


def _checkpoint(run: Run, job: Job, declaration: Declaration) -> tuple[Path, dict[str, Any]]:
    checkpoint = run.input("checkpoint")
    expected = job.inputs["checkpoint"].digest
    if expected and (found := folder_digest(checkpoint)) != expected:
        raise DataError(
            "The checkpoint has changed since the run was made.",
            f"Its digest is {found[:23]}, the job says {expected[:23]}.",
            "Make the run again.",
        )
    metadata = read_checkpoint_metadata(checkpoint)
    if metadata["plugin"] != declaration.name:
        raise DataError(
            f"The checkpoint is of {metadata['plugin']}, not of {declaration.name}.", fix="Give another run."
        )
    return checkpoint, metadata


def _check_generator_size(declaration: GeneratorDeclaration, size: tuple[int, int]) -> None:
    height, width = size
    power = height & (height - 1) == 0
    if height != width or not power or not declaration.minimum_size <= height <= declaration.maximum_size:
        raise DataError(
            f"{declaration.name} cannot make images of {width} x {height} pixels.",
            f"It makes squares, a power of two from {declaration.minimum_size} to {declaration.maximum_size} a side.",
            "Prepare the dataset with another --size.",
        )


def _check_gpu(job: Job, declarations: Sequence[Declaration]) -> None:
    """A GPU that was asked for must be here: some engines ignore the request without a word."""
    if job.resources.gpus == "none" or all(d.gpu == "none" for d in declarations):
        return
    try:
        n = int(importlib.import_module("torch").cuda.device_count())
    except ImportError as error:
        raise PluginError(
            "torch is not installed here.", str(error), "Use --backend docker, or install the extra [local]."
        ) from error
    if n == 0:
        raise GpuUnavailableError(
            f"The run asked for GPUs ({job.resources.gpus}) and sees none.",
            "The driver, the container runtime or this build of torch lacks CUDA.",
            "Check with `synthkit doctor`; --gpus none runs on the CPU.",
        )


def _sound(score: Score, declaration: Declaration) -> Score:
    """The score in plain Python numbers, which JSON can hold."""
    plain: dict[str, Any] = {"of": {str(key): str(value) for key, value in score.of.items()}}
    for field in ("value", "low", "high", "n"):
        number = getattr(score, field)
        if number is None:
            continue
        if not isinstance(number, numbers.Real) or not math.isfinite(number):
            raise PluginError(
                f"{declaration.name} gave {score.name} with {field} = {number!r}.",
                "A score is a number; an undefined one is None with a note, never NaN or infinite.",
                f"Report it to the authors of {declaration.distribution}.",
            )
        plain[field] = int(number) if isinstance(number, numbers.Integral) else float(number)
    return dataclasses.replace(score, **plain)


def main() -> None:
    """Entry point of ``synthkit-run``."""
    if len(sys.argv) != 2 or sys.argv[1] in ("-h", "--help"):
        print("usage: synthkit-run FOLDER\n\nExecutes the job in FOLDER/job.json and writes FOLDER/result.json.")
        sys.exit(0 if "--help" in sys.argv or "-h" in sys.argv else int(ExitCode.USAGE))

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    # Engines and schedulers stop a run by SIGTERM; it gets the chance to leave a result.
    signal.signal(signal.SIGTERM, interrupt)
    result = execute(Path(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: threads of a broken plugin must not keep a finished run from ending.
    os._exit(int(result["exit_code"]))


if __name__ == "__main__":
    main()
