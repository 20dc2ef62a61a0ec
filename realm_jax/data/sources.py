"""Where documents come from: JSON lines, plain text, TFDS datasets, dumps of a wiki, public blocks."""

import importlib
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from realm_jax.data.block_records import read_block_records
from realm_jax.data.compressed import open_compressed, reading
from realm_jax.data.dump import DUMP_NAME, Dump
from realm_jax.data.records import RawRecord
from realm_jax.errors import ConfigError, CorpusError, MissingExtra


class Source(Protocol):
    """Records that can be gone through again and again, one at a time in memory."""

    name: str
    total: float  # bytes; the position of the last record

    def records(self) -> Iterator[RawRecord]: ...


class JsonLines:
    """A file with one JSON object a line, plain or .gz. Blank lines are passed over."""

    def __init__(self, path: Path):
        self.name, self._path = str(path), path
        self.total = float(path.stat().st_size)

    def records(self) -> Iterator[RawRecord]:
        line = 0
        with self._path.open("rb") as file, reading(lambda: f"{self.name}:{line + 1}"):
            stream = open_compressed(file, self._path.suffix)
            lines = io.BufferedReader(stream, 1 << 20)  # type: ignore[type-var]
            for line, data in enumerate(lines, start=1):
                if data.strip():
                    yield RawRecord(self.name, line, data, float(file.tell()))


class TextFolder:
    """A .txt file, or a folder of them, subfolders included; the title is the file's name without .txt."""

    def __init__(self, path: Path):
        self.name = str(path)
        self._folder = path if path.is_dir() else path.parent
        self._files = _text_files(path) if path.is_dir() else [path]
        if not self._files:
            raise CorpusError(
                "A folder given as a source holds .txt files",
                got=f"none in {path}",
                remedy="Give another folder, or a .jsonl file.",
            )
        self.total = float(sum(file.stat().st_size for file in self._files if file.exists()))

    def records(self) -> Iterator[RawRecord]:
        position = 0.0
        for file in self._files:
            try:
                data = file.read_bytes()
            except OSError as error:
                raise CorpusError(
                    "Every .txt file of a folder can be read",
                    got=f"{file} ({error.strerror})",
                    remedy="Make it readable, or move it out of the folder.",
                ) from error
            position += len(data)
            fields = {"title": file.stem, "text": data, "id": file.relative_to(self._folder).as_posix()}
            yield RawRecord(str(file), 1, fields, position)


def _text_files(folder: Path) -> list[Path]:
    """List the .txt files of a folder and its subfolders; unreadable ones too, to be told of."""

    def closed(error: OSError) -> None:
        raise CorpusError(
            "Every subfolder of a source can be read",
            got=f"{error.filename} ({error.strerror})",
            remedy="Make it readable, or move it out of the folder.",
        ) from error

    found = (Path(place, name) for place, _, names in os.walk(folder, onerror=closed) for name in names)
    return sorted(file for file in found if file.suffix == ".txt")


class BlockRecords:
    """The blocks of a public open-QA model, `block_records.npy`: a document each, without a title."""

    def __init__(self, path: Path):
        self.name, self._path = str(path), path
        self.total = float(path.stat().st_size)

    def records(self) -> Iterator[RawRecord]:
        blocks = read_block_records(self._path)
        for i, block in enumerate(blocks):
            fields = {"title": "", "text": block, "id": i}
            yield RawRecord(self.name, i + 1, fields, self.total * (i + 1) / len(blocks))


class TfdsSplit:
    """A dataset of TensorFlow Datasets, read from its ArrayRecord files without TensorFlow."""

    def __init__(self, name: str, *, data_dir: str | Path | None = None):
        dataset, _, split = name.partition(":")
        if not split:
            raise ConfigError(
                "A TFDS source names its split",
                got=f"tfds:{name}",
                remedy="Write tfds:name/config:split, such as tfds:wiki40b/en:train.",
            )
        try:
            tfds = importlib.import_module("tensorflow_datasets")
        except ImportError as error:
            raise MissingExtra(
                "Reading a TFDS source needs the package tensorflow-datasets",
                got=str(error),
                remedy="pip install tensorflow-datasets array-record.",
            ) from error
        self.name = f"tfds:{name}"
        try:
            self._rows: Sequence[Any] = tfds.data_source(
                dataset, split=split, data_dir=data_dir, download=False
            )
        except ImportError as error:  # TFDS imports what a dataset needs when it is asked for
            raise MissingExtra(
                f"{self.name} needs a further package", got=str(error), remedy=f"pip install {error.name}."
            ) from error
        except (ValueError, KeyError, NotImplementedError, OSError) as error:
            reason = str(error).strip() or type(error).__name__
            raise CorpusError(
                "A TFDS source is a dataset, config and split that TFDS can read by index",
                got=f"{self.name} ({reason.splitlines()[0]})",
                remedy="Check the name; prepare it with file_format='array_record'.",
            ) from error
        self.total = _split_bytes(self._rows)

    def records(self) -> Iterator[RawRecord]:
        for i in range(len(self._rows)):
            # Numbers come as NumPy scalars; text comes as bytes, which the parser decodes.
            row = {
                key: value.item() if isinstance(value, np.generic) else value
                for key, value in self._rows[i].items()
            }
            yield RawRecord(self.name, i + 1, row, self.total * (i + 1) / len(self._rows))


def _split_bytes(rows: Any) -> float:
    """Return the bytes of a split, or of a slice of one, as its dataset's metadata give them."""
    every = rows.dataset_info.splits.values()
    examples = sum(split.num_examples for split in every)
    return float(sum(split.num_bytes for split in every) * len(rows) / max(examples, 1))


def open_source(source: str | Path, *, tfds_dir: str | Path | None = None) -> Source:
    """Open a source by its name.

    Args:
      source: a .jsonl file, plain or .gz; a .txt file, or a folder of them; a MediaWiki dump (.xml,
        .xml.bz2, .xml.gz, or a part of one); the block_records.npy of a public open-QA model; or
        "tfds:name/config:split".
      tfds_dir: where TFDS keeps its datasets; its own default if None.

    Raises:
      CorpusError: there is no such file or folder, or nothing in it.
      MissingExtra: a package that the source needs is not installed.
    """
    if str(source).startswith("tfds:"):
        return TfdsSplit(str(source).removeprefix("tfds:"), data_dir=tfds_dir)
    if not str(source) or "://" in str(source):
        raise CorpusError(
            "A source is a file or folder of this machine, or tfds:name/config:split",
            got=str(source) or "an empty name",
            remedy="Name one; what lies in an object store is copied or mounted first.",
        )
    path = Path(source)
    if path.is_dir() or (path.is_file() and path.suffix == ".txt"):
        return TextFolder(path)
    if not path.is_file():
        raise CorpusError(
            "A source is a JSONL file, a folder of .txt files, one .txt file, a MediaWiki dump (.xml, "
            ".xml.bz2), the block_records.npy of a public model, or tfds:name/config:split",
            got=str(source),
            remedy="Check the path.",
        )
    if DUMP_NAME.search(path.name):
        return Dump(path)
    if path.suffix == ".npy":
        return BlockRecords(path)
    if path.suffix in (".bz2", ".xz", ".zst", ".zip", ".7z"):
        raise CorpusError(
            "A JSONL file is plain or .gz, and a dump .xml, .xml.bz2 or .xml.gz",
            got=str(path),
            remedy="Unpack it, or give it the name of what it is.",
        )
    return JsonLines(path)
