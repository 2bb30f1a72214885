"""The plugin on the bench: trains it once on small data, keeps what the checks share, and watches what it touches."""

from __future__ import annotations

import dataclasses
import importlib
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

import numpy as np

from synthkit import events
from synthkit.contract import Asked, Declaration, GeneratorDeclaration, SegmenterDeclaration
from synthkit.data.dataset import Dataset
from synthkit.errors import PluginError
from synthkit.registry.parameters import make_params
from synthkit.registry.registry import Registry, load_module
from synthkit.running.run import folder_digest
from synthkit.testing import data

if TYPE_CHECKING:
    from synthkit.contract import Samples, UInt8Array

SEEDS = (0, 1, 2, 3, 40, 2**31, 12345678901)
N_IMAGES = 7
_SEGMENTER_SIZE = 32
# Labels come from comparing numbers, and a batch of another size adds floats in another order.
_LABEL_PIXELS_THAT_MAY_DIFFER = 0.005


class CheckFailedError(AssertionError):
    """The plugin does not keep the promise; the message says how."""


class CheckSkippedError(Exception):
    """The check cannot be made here; the message says why."""


def require(condition: object, reason: str) -> None:
    """Raise :class:`CheckFailedError` unless ``condition``. Not ``assert``: it must hold under ``python -O``."""
    if not condition:
        raise CheckFailedError(reason)


class PluginUnderTest:
    """A declaration with its method and the means to try it.

    Parameters
    ----------
    declaration : the plugin.
    params : parameters over those of ``CONFORMANCE_PARAMS`` in the plugin's package.
    module : the method; None imports ``declaration.module``.
    backend : what the checks of whole jobs run on; None leaves those checks out.
    registry : the plugins known to jobs that run in this process; None finds the installed ones.
    """

    def __init__(
        self,
        declaration: Declaration,
        *,
        params: Mapping[str, Any] | None = None,
        module: Any = None,
        backend: str | None = None,
        registry: Registry | None = None,
    ) -> None:
        self.declaration = declaration
        self.backend = backend
        self.registry = registry
        self._given = dict(params or {})
        self._module = module
        self._module_is_unusable = False
        self._trained: dict[int, Path] = {}
        self._outputs: list[tuple[UInt8Array, ...]] | None = None
        # What a metric says of its usual inputs, with and without the optional roles.
        self.answers: dict[bool, list[Any]] = {}
        self.progress_calls: list[tuple[int, int | None]] = []
        # Of the dataset before, and of the checkpoint after that training.
        self.dataset_digest = self.checkpoint_digest = ""

    @property
    def package(self) -> str:
        """The package of the declaration: the one that the method's module is in."""
        return self.declaration.module.rpartition(".")[0] or self.declaration.module

    @property
    def quick(self) -> dict[str, Any]:
        """The parameters that differ from the defaults. A package's are for all its plugins: each takes what it has."""
        package: dict[str, Any] = getattr(importlib.import_module(self.package), "CONFORMANCE_PARAMS", {})
        known = {item.name for item in dataclasses.fields(self.declaration.params)}
        return {**{name: value for name, value in package.items() if name in known}, **self._given}

    @property
    def params(self) -> Any:
        return make_params(self.declaration, self.quick)

    @property
    def module(self) -> Any:
        """The method. Raises :class:`CheckSkippedError` if something that it needs is not installed here.

        One that cannot be used for another reason fails the check that asks for it first; the others are skipped.
        """
        if self._module_is_unusable:
            raise CheckSkippedError("the method cannot be used")
        if self._module is None:
            try:
                self._module = load_module(self.declaration)
            except PluginError as error:
                missing = error.__cause__
                if isinstance(missing, ModuleNotFoundError) and not _inside(missing.name, self.package):
                    raise CheckSkippedError(f"{missing.name} is not installed") from error
                self._module_is_unusable = True
                raise CheckFailedError(f"{error.what} {error.why}".rstrip(".")) from error
        return self._module

    @property
    def bitwise(self) -> bool:
        return self.declaration.reproducible == "bitwise"

    @property
    def size(self) -> int:
        """Side in pixels of the images it is tried on: the smallest that it takes, from 32."""
        if isinstance(self.declaration, GeneratorDeclaration):
            return max(self.declaration.minimum_size, min(32, self.declaration.maximum_size))
        if isinstance(self.declaration, SegmenterDeclaration):
            multiple = self.declaration.size_multiple
            return -(-_SEGMENTER_SIZE // multiple) * multiple
        return 32

    def dataset(self, n_contrasts: int = 4) -> Dataset:
        return data.real_dataset(n_contrasts, self.size)

    def folder(self) -> Path:
        """A new empty folder."""
        return Path(tempfile.mkdtemp(prefix=f"{self.declaration.name}-", dir=data.scratch()))

    def train(
        self, checkpoint: Path, n_contrasts: int = 4, interrupt_at: int | None = None, **optional: Path | None
    ) -> list[Any]:
        """Train into ``checkpoint`` as a run does; returns all progress calls as ``(step, total)``.

        ``interrupt_at`` raises :class:`KeyboardInterrupt` in that progress call (1-based), as Ctrl-C does. ``optional``
        are the arguments of optional roles.
        """
        part: Samples = self.dataset(n_contrasts).training_part()
        with recorded_progress(interrupt_at) as calls:
            self.module.train(part, checkpoint, self.params, **optional)
        return calls

    def trained(self, n_contrasts: int = 4) -> Path:
        """The checkpoint of one training, shared by the checks, which leave it as it is."""
        if n_contrasts not in self._trained:
            checkpoint = self.folder() / "checkpoint"
            checkpoint.mkdir()
            before = folder_digest(self.dataset(n_contrasts).path)
            calls = self.train(checkpoint, n_contrasts)
            if n_contrasts == 4:
                self.progress_calls = calls
                self.dataset_digest, self.checkpoint_digest = before, folder_digest(checkpoint)
            self._trained[n_contrasts] = checkpoint
        return self._trained[n_contrasts]

    def copy_of_trained(self) -> Path:
        return Path(shutil.copytree(self.trained(), self.folder() / "checkpoint"))

    def images(self, n_contrasts: int = 4, n: int = N_IMAGES) -> list[UInt8Array]:
        """Images ``(contrast, y, x)`` for a segmenter that it was not trained on."""
        return list(data.slices(n, n_contrasts, self.size, seed=9)[0])

    def apply(self, checkpoint: Path, n_contrasts: int = 4) -> list[tuple[UInt8Array, ...]]:
        """What the trained method makes: ``(image, labels)`` of each of ``SEEDS``, or ``(labels,)`` of each image."""
        if isinstance(self.declaration, GeneratorDeclaration):
            return self.generate(checkpoint, SEEDS)
        return self.segment(checkpoint, self.images(n_contrasts))

    def generate(
        self, checkpoint: Path, seeds: Sequence[int], asked: Sequence[Asked] | None = None
    ) -> list[tuple[UInt8Array, ...]]:
        """Samples of seeds, each as it is asked for where something is."""
        more = {} if asked is None else {"asked": iter(asked)}
        made = require_iterable(self.module.generate(checkpoint, list(seeds), self.params, **more), "generate")
        return [_pair_of_arrays(item) for item in made]

    def segment(self, checkpoint: Path, images: list[UInt8Array]) -> list[tuple[UInt8Array, ...]]:
        made = require_iterable(self.module.segment(checkpoint, iter(images), self.params), "segment")
        return [(np.asarray(labels),) for labels in made]

    def outputs(self) -> list[tuple[UInt8Array, ...]]:
        """``apply`` on the shared checkpoint, once."""
        if self._outputs is None:
            self._outputs = self.apply(self.trained())
        return self._outputs


def _inside(module: str | None, package: str) -> bool:
    return module is not None and (module == package or module.startswith(f"{package}."))


# ------------------------------------------------------------------------------------------------- comparisons


def require_iterable(made: Any, function: str) -> Iterable[Any]:
    """What a function of a method gives, which has to be something to iterate over."""
    require(isinstance(made, Iterable), f"{function} gives a {type(made).__name__} and yields nothing")
    return cast(Iterable[Any], made)


def _pair_of_arrays(item: Any) -> tuple[UInt8Array, UInt8Array]:
    is_pair = isinstance(item, (tuple, list)) and len(item) == 2
    require(is_pair, f"generate gives a {type(item).__name__} for a seed, not a pair of image and labels")
    image, labels = item
    return np.asarray(image), np.asarray(labels)


def require_form(made: list[tuple[UInt8Array, ...]], n: int, n_contrasts: int, size: int) -> None:
    """Number, shapes and types of what a method made."""
    require(len(made) == n, f"{n} were asked for, {len(made)} came")
    for *image, labels in made:
        for array, shape in (*((a, (n_contrasts, size, size)) for a in image), (labels, (size, size))):
            require(
                array.dtype == np.uint8 and array.shape == shape,
                f"expected uint8 {shape}, got {array.dtype} {array.shape}",
            )


def require_known_labels(made: list[tuple[UInt8Array, ...]], label_values: tuple[int, ...]) -> None:
    """No label but those of the training data."""
    unknown = sorted({int(v) for item in made for v in np.unique(item[-1])} - set(label_values))
    require(not unknown, f"labels hold {unknown}, the training data only {list(label_values)}")


def require_same(
    first: list[tuple[UInt8Array, ...]], second: list[tuple[UInt8Array, ...]], when: str, *, bitwise: bool = False
) -> None:
    """Images at most one grey level apart and labels equal but for 0.5 % of the pixels; or all bytes equal."""
    require(len(first) == len(second), f"{len(first)} against {len(second)} came {when}")
    for number, (a, b) in enumerate(zip(first, second, strict=True)):
        for x, y in zip(a, b, strict=True):
            require(x.shape == y.shape, f"the shape of number {number} changes {when}")
            if bitwise:
                require(np.array_equal(x, y), f"number {number} is not the same to the byte {when}")
        *image, labels = zip(a, b, strict=True)
        for x, y in image:
            gap = int(np.abs(x.astype(np.int16) - y.astype(np.int16)).max())
            require(gap <= 1, f"the image of number {number} differs by {gap} grey levels {when}")
        share = float((labels[0] != labels[1]).mean())
        require(
            share <= _LABEL_PIXELS_THAT_MAY_DIFFER,
            f"the labels of number {number} differ in {100 * share:.1f} % of the pixels {when}",
        )


# ---------------------------------------------------------------------------------------------------- watchers


class _RecordingLog(events.EventLog):
    """Keeps every progress call; may interrupt."""

    def __init__(self, sink: TextIO, interrupt_at: int | None) -> None:
        super().__init__(sink)
        self.calls: list[tuple[int, int | None]] = []
        self._interrupt_at = interrupt_at

    def progress(self, step: int, total: int | None, values: dict[str, float], unit: str) -> None:
        self.calls.append((step, total))
        if len(self.calls) == self._interrupt_at:
            raise KeyboardInterrupt

    def message(self, text: str, level: str) -> None:
        pass


@contextmanager
def recorded_progress(interrupt_at: int | None = None) -> Iterator[list[tuple[int, int | None]]]:
    """Collect the progress calls of the block."""
    log = _RecordingLog(sys.stderr, interrupt_at)
    token = events._current.set(log)
    try:
        yield log.calls
    finally:
        events._current.reset(token)


def random_states() -> dict[str, Any]:
    """States of the global random generators of Python, of numpy and, where it is loaded, of torch."""
    _, key, *rest = np.random.get_state()  # noqa: NPY002  (the global generator is the one meant)
    states: dict[str, Any] = {"random": random.getstate(), "numpy.random": (np.asarray(key).tobytes(), *rest)}
    torch = sys.modules.get("torch")
    if torch is not None:
        states["torch"] = torch.get_rng_state().numpy().tobytes()
    return states


def changed_random_states(before: dict[str, Any]) -> list[str]:
    """Which of the generators have another state than before; one that was loaded since has no other."""
    return [name for name, state in random_states().items() if before.get(name, state) != state]


def disturb_random_states(seed: int) -> None:
    """Set the global random generators to something else."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  (the global generator is the one meant)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(seed)


_WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link", "os.truncate"}
_sinks: list[Callable[[str], None]] = []
_hook_installed = False


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not _sinks:
        return
    if event == "open":
        path, _, flags = arguments
        touched = [path] if isinstance(flags, int) and flags & _WRITE_FLAGS else []
    elif event in _CHANGES:
        # The target of a link or of a renaming comes second; the first of a link is only what it points to.
        touched = list(arguments[:2]) if event == "os.rename" else [arguments[1 if "link" in event else 0]]
    else:
        return
    for path in touched:
        if isinstance(path, (str, bytes, os.PathLike)):
            for sink in _sinks:
                sink(os.path.realpath(os.fsdecode(path)))


@contextmanager
def watched_writes() -> Iterator[set[str]]:
    """Run the block in an empty working folder; collects the paths that it wrote to.

    Python's own calls are seen wherever they go (audit hooks, PEP 578), those of extension modules where they land in
    the working folder.
    """
    global _hook_installed
    if not _hook_installed:
        sys.addaudithook(_audit)  # cannot be removed again; idle without a sink
        _hook_installed = True
    seen: set[str] = set()
    with tempfile.TemporaryDirectory(prefix="synthkit-cwd-", dir=data.scratch()) as folder, chdir(folder):
        _sinks.append(seen.add)
        try:
            yield seen
        finally:
            _sinks.remove(seen.add)
            seen.update(os.path.realpath(p) for p in Path(folder).rglob("*"))


def stray(paths: set[str], allowed: Path | None) -> list[str]:
    """Those paths that are neither in ``allowed`` nor in a place for temporary or cached files."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    places = [Path(tempfile.gettempdir()).resolve(), Path("/dev"), Path("/proc"), Path(cache).resolve()]
    places += [Path("~").expanduser().resolve() / name for name in (".triton", ".nv")]
    found = []
    for text in sorted(paths):
        path = Path(text)
        if allowed is not None and path.is_relative_to(allowed.resolve()):
            continue
        inside_scratch = path.is_relative_to(data.scratch())
        if (not inside_scratch and any(path.is_relative_to(p) for p in places)) or "__pycache__" in path.parts:
            continue
        found.append(text)
    return found
