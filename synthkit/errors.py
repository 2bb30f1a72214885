"""Errors that a user sees: each has its own class, its own exit code and says what to do next.

Every error carries three sentences: *what* happened, *why*, and what to *try*. The command line prints
them in that order and exits with the class's ``exit_code``. Anything else that escapes is a bug of
synthkit and exits with 1.
"""

from __future__ import annotations

import errno
from enum import IntEnum
from pathlib import Path


class ExitCode(IntEnum):
    """Exit codes of the ``synthkit`` command. They are part of the public interface."""

    OK = 0
    BUG = 1
    USAGE = 2
    INVALID_DATA = 3
    PLUGIN = 4
    BACKEND_UNAVAILABLE = 5
    CONTAINER_FAILED = 6
    OUT_OF_MEMORY = 7
    TIMEOUT = 8
    GPU_UNAVAILABLE = 9
    GATE_FAILED = 10
    NOT_WRITABLE = 11
    INSUFFICIENT_EVIDENCE = 12
    INTERRUPTED = 130


class SynthkitError(Exception):
    """Base of all errors that synthkit reports to its user.

    Parameters
    ----------
    what : one sentence, what happened.
    why : one sentence, the cause as far as it is known.
    fix : one sentence, what to try next.
    details : further lines (one bad subject each, say), printed below the sentences.
    """

    exit_code: ExitCode = ExitCode.BUG

    def __init__(self, what: str, why: str = "", fix: str = "", details: tuple[str, ...] | list[str] = ()) -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.fix = fix
        self.details = tuple(details)

    def __str__(self) -> str:
        return " ".join(part for part in (self.what, self.why, self.fix) if part)

    def to_dict(self) -> dict[str, object]:
        """The error as it is written into ``result.json`` and printed by ``--json``."""
        return {
            "type": type(self).__name__,
            "exit_code": int(self.exit_code),
            "what": self.what,
            "why": self.why,
            "fix": self.fix,
            "details": list(self.details),
        }


class UsageError(SynthkitError):
    """The command line asks for something that cannot be."""

    exit_code = ExitCode.USAGE


class DataError(SynthkitError):
    """An input (subject, dataset, checkpoint, PNG folder) is missing, corrupt or does not fit."""

    exit_code = ExitCode.INVALID_DATA


class PluginError(SynthkitError):
    """A plugin is unknown, broken, or its method failed."""

    exit_code = ExitCode.PLUGIN


class BackendUnavailableError(SynthkitError):
    """The backend asked for (an engine, a container image) cannot be used here."""

    exit_code = ExitCode.BACKEND_UNAVAILABLE


class ContainerFailedError(SynthkitError):
    """A container or process ended without leaving a result."""

    exit_code = ExitCode.CONTAINER_FAILED


class OutOfMemoryError(SynthkitError):
    """A run was killed, or gave up, for want of memory (host or GPU)."""

    exit_code = ExitCode.OUT_OF_MEMORY


class RunTimeoutError(SynthkitError):
    """A run outlasted its time limit."""

    exit_code = ExitCode.TIMEOUT


class GpuUnavailableError(SynthkitError):
    """A GPU was asked for and cannot be given."""

    exit_code = ExitCode.GPU_UNAVAILABLE


class GateFailedError(SynthkitError):
    """The work was done and its result fails the gate (audit, release, verify, lock)."""

    exit_code = ExitCode.GATE_FAILED


class InsufficientEvidenceError(SynthkitError):
    """The work was done, and tells too little for a verdict (audit, release): neither a pass nor a fail."""

    exit_code = ExitCode.INSUFFICIENT_EVIDENCE


class NotWritableError(SynthkitError):
    """The disk is full, or an output folder cannot be written."""

    exit_code = ExitCode.NOT_WRITABLE


class InterruptedRunError(SynthkitError):
    """The user interrupted the command."""

    exit_code = ExitCode.INTERRUPTED


#: What torch and CUDA's libraries say when an allocation fails; as a RuntimeError.
_ALLOCATION_FAILURES = (
    "DefaultCPUAllocator:",  # of Linux: "can't allocate memory", of others: "not enough memory"
    "CUDA out of memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that memory, of the host or of a GPU, ran out.

    Libraries are known by the names of their classes and by their words, so that none has to be imported to ask.
    """
    if isinstance(error, MemoryError) or any(cls.__name__ == "OutOfMemoryError" for cls in type(error).__mro__):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _ALLOCATION_FAILURES)


def reason_of(error: BaseException) -> str:
    """What an exception says, in its first line: not what torch advises, which is to run the code in a file."""
    text = str(error).strip()
    if "weights_only" in text or text.startswith("Weights only load failed"):
        return "It is damaged, or holds more than tensors: objects whose code would run, which is never done"
    return text.splitlines()[0] if text else type(error).__name__


def error_from_dict(data: dict[str, object]) -> SynthkitError:
    """Rebuild an error from ``result.json``, so that it exits with the same code wherever the run ran."""
    classes = {cls.__name__: cls for cls in SynthkitError.__subclasses__()}
    # A class further down (SubjectError) comes back as the one of its exit code: the code is what callers rely on.
    by_code: dict[object, type[SynthkitError]] = {int(cls.exit_code): cls for cls in classes.values()}
    cls = classes.get(str(data.get("type"))) or by_code.get(data.get("exit_code"), SynthkitError)
    details = data.get("details")
    return cls(
        str(data.get("what", "")),
        str(data.get("why", "")),
        str(data.get("fix", "")),
        [str(line) for line in details] if isinstance(details, list) else [],
    )


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
    frames = _frames_of_the_method(error)
    where = frames[-1].partition(", in ")[0] if frames else ""
    return PluginError(
        f"The method failed with {type(error).__name__}{f' ({where})' if where else ''}.",
        f"{reason_of(error)}." if "weights_only" in str(error) else f"{error}".strip() or "It gave no reason.",
        "The traceback is at the end of the run's log.txt.",
        frames,
    )


#: Frames of a method that are shown, the innermost ones.
_MOST_FRAMES = 5


def _frames_of_the_method(error: BaseException) -> list[str]:
    """Where a method failed, in its author's code: ``model.py, line 12, in train: loss.backward()``, innermost last.

    Neither the frames of synthkit, which called it, nor those of the libraries that it called.
    """
    import traceback  # these cost something, and only a bug needs them

    libraries, core = Path(traceback.__file__).parent, Path(__file__).parent
    installed = ("site-packages", "dist-packages")

    def is_of_others(path: Path) -> bool:
        inside = path.is_relative_to(libraries) and not set(installed) & set(path.parts)
        return path.is_relative_to(core) or inside or str(path).startswith("<")

    frames = [(Path(frame.filename), frame) for frame in traceback.extract_tb(error.__traceback__)]
    first = next((path for path, _ in frames if not is_of_others(path)), None)
    if first is None:
        return []
    home = first if first.parent.name in installed else first.parent  # a package, or a module of its own
    own = [frame for path, frame in frames if path.is_relative_to(home)]
    return [
        f"{Path(frame.filename).name}, line {frame.lineno}, in {frame.name}: {frame.line}"
        for frame in own[-_MOST_FRAMES:]
    ]


def explain_end(error: BaseException) -> SynthkitError:
    """What ended a command, as the error that it ends with; what nobody has foreseen is a bug of synthkit."""
    if isinstance(error, KeyboardInterrupt):
        return InterruptedRunError(
            "Interrupted.", fix="What was finished is kept; where the command has --resume, it goes on from there."
        )
    if isinstance(error, (SynthkitError, OSError, MemoryError)):
        known = explain(error)
        if isinstance(error, OSError) and known.exit_code == ExitCode.PLUGIN:  # no full disk: a path or a permission
            return NotWritableError(f"{error.filename or 'A file'} cannot be used.", f"{error.strerror}.", "Check it.")
        return known
    return SynthkitError(
        "This is a bug of synthkit.", f"{type(error).__name__}: {error}", "Please report it with the lines above."
    )


# ---------------------------------------------------------------------------------------------- the words of others


def printable(text: str) -> str:
    r"""Text that a method, a file or a name brought, harmless for a terminal: what it would obey is shown instead.

    Control characters but tab and newline, and those that turn the direction of text, become their escapes.

    >>> printable("\x1b[2Jdone")
    '\\x1b[2Jdone'
    """
    if text.isprintable():
        return text
    return "".join(c if c in "\t\n" or c.isprintable() or not _obeyed(c) else ascii(c)[1:-1] for c in text)


def _obeyed(character: str) -> bool:
    return ord(character) < 32 or 0x7F <= ord(character) < 0xA0 or character in _TURNING


#: Marks, embeddings, overrides and isolates of direction, and separators that end a line.
_TURNING = "\u061c\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
