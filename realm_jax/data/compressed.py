"""Files that may be compressed, and what goes wrong when they are read."""

import bz2
import gzip
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from realm_jax.errors import CorpusError

BZ2_END = 0x177245385090  # the digits of the square root of pi, then 32 bits of checksum


def open_compressed(file: BinaryIO, suffix: str) -> BinaryIO:
    """Return the content of an open file.

    Args:
      file: at its start; of the result's kind if `suffix` names no compression.
      suffix: ".gz" or ".bz2", of one stream or several one after the other.
    """
    if suffix == ".gz":
        return cast(BinaryIO, gzip.GzipFile(fileobj=file))
    if suffix == ".bz2":
        return cast(BinaryIO, bz2.BZ2File(file))
    return file


@contextmanager
def reading(place: Callable[[], str]) -> Iterator[None]:
    """Turn what goes wrong in decompressing and reading into an error that says where.

    Args:
      place: says how far the reading has come.

    Raises:
      CorpusError: the file is damaged or not whole.
    """
    try:
        yield
    except (EOFError, OSError, zlib.error) as error:
        raise CorpusError(
            "An input file can be read to its end",
            got=f"{place()} ({error})",
            remedy="Fetch or compress the file again.",
        ) from error


def check_whole(path: Path) -> None:
    """Refuse a bzip2 file that is cut off, before it is read for hours and not after.

    A stream ends with 48 known bits and its checksum, filled up to a byte.

    Raises:
      CorpusError: the file ends with anything else.
    """
    if path.suffix != ".bz2":
        return
    with path.open("rb") as file, reading(lambda: str(path)):
        file.seek(max(0, path.stat().st_size - 11))
        tail = int.from_bytes(file.read(), "big")
        if not any(tail >> (32 + filled) & (1 << 48) - 1 == BZ2_END for filled in range(8)):
            raise EOFError("a bzip2 file that is cut off")
