"""A reader of untrusted pickles: it runs nothing that they name, and its time and memory are in proportion to theirs.

A pickle is a program for a small machine. The machine here is the standard library's in Python, whose operations can be
taken away: its twin in C fills memory at the word of eleven bytes, and crashes on keys that are deeply nested.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any, ClassVar

#: Operations that no checkpoint needs: objects from outside of the file, other ways to make what the rest makes.
_UNNEEDED = (
    *(pickle.PERSID, pickle.BINPERSID, pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.INST, pickle.OBJ, pickle.DICT),
    *(pickle.FROZENSET, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER),
)
_LONGEST_NAME = 200


class Function:
    """A function that a pickle can call but not change."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("it changes a function")


class RestrictedUnpickler(pickle._Unpickler):
    """Knows two tables of names, and refuses all others: functions, and classes by what stands for them.

    Whatever stands for a class must have a ``__setstate__`` of its own.
    """

    # What the base class has and its stub leaves out.
    stack: list[Any]
    append: Callable[[Any], None]
    read: Callable[[int], bytes]
    load_setitem: Callable[[], None]
    load_setitems: Callable[[], None]
    load_additems: Callable[[], None]

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(pickle._Unpickler.dispatch)

    def __init__(
        self,
        file: IO[bytes],
        called: Mapping[tuple[str, str], Callable[..., Any]],
        classes: Mapping[tuple[str, str], type],
    ) -> None:
        super().__init__(file)
        self._called, self._classes = called, classes
        self._made: dict[tuple[str, str], type] = {}

    def find_class(self, module: str, name: str) -> Any:
        found = module, name
        if found in self._called:
            return Function(self._called[found])
        if found in self._classes:
            # A class of this reader's own: what changes it changes nothing else.
            if found not in self._made:
                self._made[found] = type(name, (self._classes[found],), {})
            return self._made[found]
        what = ascii(f"{module}.{name}"[:_LONGEST_NAME])[1:-1]
        raise pickle.UnpicklingError(f"it names {what}, which no checkpoint needs; nothing was executed")

    def _refuse(self) -> None:
        raise pickle.UnpicklingError("it has an operation that no checkpoint needs")

    def _set_item(self) -> None:
        _check_keys(self.stack[-2:-1])
        self.load_setitem()

    def _set_items(self) -> None:
        _check_keys(self.stack[::2])
        self.load_setitems()

    def _add_items(self) -> None:
        _check_keys(self.stack)
        self.load_additems()

    def _bytearray(self) -> None:
        # The inherited one takes the memory before it looks for the bytes.
        self.append(bytearray(self.read(int.from_bytes(self.read(8), "little"))))

    dispatch |= dict.fromkeys((operation[0] for operation in _UNNEEDED), _refuse)
    dispatch |= {
        pickle.SETITEM[0]: _set_item,
        pickle.SETITEMS[0]: _set_items,
        pickle.ADDITEMS[0]: _add_items,
        pickle.BYTEARRAY8[0]: _bytearray,
    }


def _check_keys(keys: Sequence[Any]) -> None:
    """Tuples that hold each other take for ever to hash."""
    if not all(isinstance(key, (str, int)) for key in keys):
        raise pickle.UnpicklingError("it has a key that is not a name")


def name_of(value: Any) -> str:
    """The value, if it is a name that can be shown; ValueError else: what is not text may take for ever to print."""
    if not isinstance(value, str) or len(value) > _LONGEST_NAME or not value.isprintable():
        raise ValueError("it has a name that is not a name")
    return value


def n_values(shape: Any) -> int:
    """Number of values of a shape; ValueError if it is not one."""
    if not isinstance(shape, tuple) or len(shape) > 32:
        raise ValueError("an array has no shape")
    if not all(isinstance(n, int) and 0 <= n < 2**40 for n in shape):
        raise ValueError("an array has no shape")
    return math.prod(shape)
