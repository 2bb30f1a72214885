"""Errors keep their class, their sentences and their exit code, wherever a run ran."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest

from synthkit import errors
from synthkit.errors import DataError, ExitCode, OutOfMemoryError, SynthkitError, error_from_dict, is_out_of_memory

CLASSES = [
    value
    for value in vars(errors).values()
    if inspect.isclass(value) and issubclass(value, SynthkitError) and value is not SynthkitError
]


def test_every_exit_code_has_one_class_but_ok_and_bug() -> None:
    codes = [cls.exit_code for cls in CLASSES]
    assert len(set(codes)) == len(codes)
    assert set(codes) == set(ExitCode) - {ExitCode.OK, ExitCode.BUG}
    assert SynthkitError.exit_code == ExitCode.BUG


def test_exit_codes_are_the_published_ones() -> None:
    published = {
        "OK": 0, "BUG": 1, "USAGE": 2, "INVALID_DATA": 3, "PLUGIN": 4, "BACKEND_UNAVAILABLE": 5, "CONTAINER_FAILED": 6,
        "OUT_OF_MEMORY": 7, "TIMEOUT": 8, "GPU_UNAVAILABLE": 9, "GATE_FAILED": 10, "NOT_WRITABLE": 11,
        "INSUFFICIENT_EVIDENCE": 12, "INTERRUPTED": 130,
    }  # fmt: skip
    assert {code.name: int(code) for code in ExitCode} == published
    assert len(set(published.values())) == len(ExitCode), "two names for one code"


@pytest.mark.parametrize("cls", [SynthkitError, *CLASSES], ids=lambda cls: cls.__name__)
def test_an_error_survives_the_way_through_json(cls: type[SynthkitError]) -> None:
    error = cls("It broke.", "A reason.", "Do this.", ("one: a", "two: b"))
    again = error_from_dict(json.loads(json.dumps(error.to_dict())))
    assert type(again) is cls
    assert again.exit_code == cls.exit_code
    assert (again.what, again.why, again.fix, again.details) == ("It broke.", "A reason.", "Do this.", error.details)


def test_an_error_of_an_unknown_class_is_still_told() -> None:
    again = error_from_dict({"type": "FromTheFutureError", "exit_code": 77, "what": "New.", "details": None})
    assert type(again) is SynthkitError
    assert (again.what, again.why, again.details) == ("New.", "", ())


def test_the_text_of_an_error_leaves_out_what_is_not_known() -> None:
    assert str(SynthkitError("It broke.", fix="Do this.")) == "It broke. Do this."


def test_a_class_further_down_keeps_its_exit_code() -> None:
    class NarrowerError(DataError):
        pass

    again = error_from_dict(NarrowerError("A", "b", "c").to_dict())
    assert (type(again), again.exit_code, str(again)) == (DataError, ExitCode.INVALID_DATA, "A b c")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (type("OutOfMemoryError", (RuntimeError,), {})("of another library"), True),
        (type("Deeper", (OutOfMemoryError,), {})("of ours"), True),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (ValueError("CUDA out of memory, says the manual"), False),
        (DataError("There is no memory of it."), False),
    ],
    ids=str,
)
def test_out_of_memory_is_known_by_class_and_words(error: Exception, expected: bool) -> None:
    """What torch itself says on a CPU is asked of it where torch is at hand: in the tests of synthkit-torch."""
    assert is_out_of_memory(error) is expected


def test_an_error_of_a_method_shows_its_authors_frames(tmp_path: Path) -> None:
    """Not those of synthkit, which called it, nor those of the library that it called."""
    source = tmp_path / "method.py"
    source.write_text(
        "import json\n\ndef train(step):\n    return inner(step)\n\ndef inner(step):\n    return json.loads(step)\n"
    )
    code = compile(source.read_text(), str(source), "exec")
    module: dict[str, Any] = {}
    exec(code, module)

    def caught() -> errors.SynthkitError:
        try:
            module["train"]("{")
        except ValueError as error:
            error.__traceback__ = error.__traceback__.tb_next if error.__traceback__ else None  # as synthkit sees it
            return errors.explain(error)
        raise AssertionError

    told = caught()
    assert told.what == "The method failed with JSONDecodeError (method.py, line 7)."
    assert told.details == (
        "method.py, line 4, in train: return inner(step)", "method.py, line 7, in inner: return json.loads(step)",
    )  # fmt: skip
