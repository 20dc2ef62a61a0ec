"""Read block records: text blocks saved as a pickled NumPy object array of byte strings.

A pickle is a program. The reader here runs it with stand-ins that only take notes, admits the three names a
saved array mentions, and looks at the notes afterwards; NumPy's own unpickling is never entered.
"""

import io
import os
import pickle
import struct
import tokenize
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from realm_jax.errors import CorpusError

MAX_HEADER = 10_000  # bytes of a .npy header; NumPy's own limit for untrusted files


# Each stand-in is a class with a __setstate__ of its own: a pickle can then set nothing on the class itself.


class _Dtype:
    """Stands in for numpy.dtype."""

    kind: Any = None

    def __init__(self, kind: Any = None, *rest: Any):
        self.kind = kind

    def __setstate__(self, state: Any) -> None:
        """Ignore byte order and flags: only the kind is looked at."""


class _ArrayType:
    """Stands in for numpy.ndarray, which is only mentioned."""

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("it gives a state to something that is no array")


class _Array:
    """Stands in for NumPy's function `_reconstruct`, and for the array it returns."""

    state: Any = None

    def __init__(self, kind: Any, shape: Any, code: Any):
        if kind is not _ArrayType:
            raise pickle.UnpicklingError("it rebuilds something that is no array")

    def __setstate__(self, state: Any) -> None:
        self.state = state


_ADMITTED = {
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _ArrayType,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
}


class _Bounded(io.RawIOBase):
    """A file that refuses to be asked for more than it holds, before memory is set aside for it."""

    def __init__(self, file: BinaryIO, size: int):
        self._file, self._left = file, size

    def read(self, size: int = -1, /) -> bytes:
        if size > self._left:
            raise pickle.UnpicklingError("it announces more bytes than the file has")
        data = self._file.read(size)
        self._left -= len(data)
        return data

    def readline(self, size: int | None = -1, /) -> bytes:
        data = self._file.readline(-1 if size is None else size)
        self._left -= len(data)
        return data

    def readinto(self, buffer: Any, /) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _RecordUnpickler(pickle._Unpickler):  # type: ignore[name-defined, misc]  # not in the stubs
    """Admit what a saved object array of byte strings mentions, and nothing else.

    Built on Python's unpickler in Python: the one in C sets memory aside for all memo entries up to the
    number that a file names, so that five bytes can ask for 30 GB.
    """

    def find_class(self, module: str, name: str) -> Any:
        admitted = _ADMITTED.get((module, name))
        if admitted is None:
            raise pickle.UnpicklingError(f"it mentions {module}.{name}")
        return admitted


def read_block_records(path: str | os.PathLike[str]) -> list[bytes]:
    """Read block records without executing the pickle in them.

    Args:
      path: a `.npy` file of an object array (`block_records.npy` of the public layout), or the bare pickle of
        such an array; one dimension, every entry bytes.

    Returns:
      The records, in order.

    Raises:
      CorpusError: the file holds or mentions anything else.
    """
    size = Path(path).stat().st_size
    with open(path, "rb") as file:
        try:
            shape = _read_header(file)
            result = _RecordUnpickler(_Bounded(file, size - file.tell())).load()
            return _records(result, shape)
        except _BROKEN as error:
            raise CorpusError(
                f"{path} must be a NumPy object array of byte strings and nothing else",
                got=f"a file that cannot be read so: {error or type(error).__name__}",
                remedy="Do not open it with another unpickler unless you trust who made it.",
            ) from error


# What a broken or hostile pickle makes the stand-ins and the interpreter of its opcodes raise.
_BROKEN = (
    pickle.UnpicklingError,
    ValueError,
    TypeError,
    AttributeError,
    IndexError,
    KeyError,
    EOFError,
    ImportError,
    MemoryError,
    OverflowError,
    RecursionError,
    SyntaxError,
    AssertionError,
    struct.error,
    tokenize.TokenError,
)


def write_block_records(path: str | os.PathLike[str], records: Sequence[bytes]) -> None:
    """Write block records as the public layout has them.

    Args:
      path: of the `.npy` file.
      records: text blocks, UTF-8.
    """
    array = np.empty(len(records), dtype=object)
    array[:] = list(records)
    with open(path, "wb") as file:
        np.save(file, array, allow_pickle=True)


def _read_header(file: BinaryIO) -> tuple[int, ...] | None:
    """Read the header of a `.npy` file and return its shape; None, at the start, for a bare pickle."""
    magic = file.read(6)
    if magic != b"\x93NUMPY":
        file.seek(0)
        return None
    file.seek(0)
    version = np.lib.format.read_magic(file)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(f"its .npy version is {version}")
    shape, _, dtype = readers[version](file, max_header_size=MAX_HEADER)
    if dtype != np.dtype(object):
        raise ValueError(f"its entries are {dtype}")
    return shape


def _records(result: Any, shape: tuple[int, ...] | None) -> list[bytes]:
    """Check the notes of the stand-ins: state is (version, shape, dtype, Fortran order, entries)."""
    if not isinstance(result, _Array) or not isinstance(result.state, tuple) or len(result.state) != 5:
        raise ValueError("it holds no array")
    _, inner_shape, dtype, _, entries = result.state
    if not isinstance(dtype, _Dtype) or dtype.kind not in ("O", "O8", "O4"):
        raise ValueError("its entries are no objects")
    if not isinstance(entries, list) or any(type(entry) is not bytes for entry in entries):
        raise ValueError("an entry is no byte string")
    if inner_shape != (len(entries),) or shape not in (None, inner_shape):
        raise ValueError(f"its shape {shape or inner_shape} does not fit its {len(entries)} entries")
    return entries
