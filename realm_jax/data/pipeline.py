"""Preparation on many machines, as an Apache Beam pipeline.

Every source is read by one worker, which cuts it into chunks; the chunks are spread over all workers, which
parse and encode them by the function that one machine uses, and leave each in a file. When the pipeline is
done, the process that started it reads the files in the order of the sources: so the corpus is the same. No
worker needs jax. Source: https://beam.apache.org, programming guide.
"""

import json
import os
import shutil
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.options.pipeline_options import PipelineOptions

from realm_jax.data.encode import EncodedChunk, encode_chunk
from realm_jax.data.prepare import Encoder, chunks_of, offsets
from realm_jax.data.records import BadRecord, RawRecord
from realm_jax.data.sources import Source, open_source
from realm_jax.errors import ConfigError, CorpusError, RealmError
from realm_jax.text.tokenizer import Tokenizer
from realm_jax.text.word_cache import WordCache

# Beam's own name for this machine, DirectRunner, first tries to fetch a program from the net.
HERE = "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner"
Key = tuple[int, int]  # number of the source, number of the chunk in it


def beam_encoder(
    options: Sequence[str], *, tfds_dir: str | Path | None = None, folder: Path | None = None
) -> Encoder:
    """Return an encoder for `prepare` that runs a pipeline.

    Args:
      options: Beam's own, such as --runner=FlinkRunner; none runs it in this process, in memory: for a trial.
      tfds_dir: where TFDS keeps its datasets, on the workers too.
      folder: where the workers leave their chunks, on a file system that they and this process share; None
        is a folder beside the corpus.
    """
    return partial(_encoded, options=options, tfds_dir=tfds_dir, folder=folder)


def _encoded(
    sources: Sequence[Source],
    tokenizer: Tokenizer,
    settings: dict[str, Any],
    scratch: Path,
    *,
    options: Sequence[str],
    tfds_dir: str | Path | None,
    folder: Path | None,
) -> Iterator[EncodedChunk]:
    place = scratch if folder is None else folder / f"chunks-{uuid.uuid4().hex}"
    place.mkdir(parents=True)
    try:
        given = [
            (number, source.name, before)
            for number, (source, before) in enumerate(zip(sources, offsets(sources), strict=True))
        ]
        with _pipeline(list(options) or [HERE]) as pipeline:
            counted = (
                pipeline
                | "sources" >> beam.Create(given)
                | "one a worker" >> beam.Reshuffle()
                | "read" >> beam.FlatMap(_read, tfds_dir=tfds_dir, place=place)
                | "spread" >> beam.Reshuffle()
                | "encode" >> beam.ParDo(_Encode(tokenizer, settings, place))
                | "count" >> beam.combiners.Count.Globally()
            )
            _ = counted | "say how many" >> beam.Map(_write_count, place=place)
        yield from _in_order(place)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _pipeline(options: list[str]) -> beam.Pipeline:
    try:
        return beam.Pipeline(options=PipelineOptions(options))
    except ValueError as error:  # Beam's list of what is wrong with them, or of the runners it has
        raise ConfigError(
            "a pipeline's options are Beam's own", got=str(error), remedy="Correct them in --beam."
        ) from error


def _read(
    given: tuple[int, str, float], *, tfds_dir: str | Path | None, place: Path
) -> Iterator[tuple[Key, list[RawRecord]]]:
    """Read one source in chunks; what is wrong with it is left in a file, for the process that asked."""
    number, name, before = given
    try:
        for order, chunk in enumerate(chunks_of(open_source(name, tfds_dir=tfds_dir), before=before)):
            yield (number, order), chunk
    except RealmError as error:
        said = {"rule": error.rule, "got": str(error.got), "remedy": error.remedy}
        (place / f"{number:06}{ERROR}").write_text(json.dumps(said), encoding="ascii")


class _Encode(beam.DoFn):
    """Encode chunks, and leave each in a file of its own."""

    def __init__(self, tokenizer: Tokenizer, settings: dict[str, Any], place: Path):
        self._tokenizer, self._settings, self._place = tokenizer, settings, place

    def setup(self) -> None:
        """Build the tokenizer, once a worker's thread."""
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        self._words = WordCache(self._tokenizer)

    def process(self, element: tuple[Key, list[RawRecord]]) -> Iterator[Key]:
        """Encode one chunk."""
        key, records = element
        write_chunk(chunk_path(self._place, key), encode_chunk(records, words=self._words, **self._settings))
        yield key


def _write_count(count: int, *, place: Path) -> None:
    (place / COUNT).write_text(str(count), encoding="ascii")


def _in_order(place: Path) -> Iterator[EncodedChunk]:
    """Read the chunks in the order of the sources, each file removed when it has been used."""
    for error in sorted(place.glob(f"*{ERROR}")):
        raise CorpusError(**json.loads(error.read_text(encoding="ascii")))
    paths = sorted(place.glob(f"*{SUFFIX}"))
    count = int((place / COUNT).read_text(encoding="ascii")) if (place / COUNT).exists() else 0
    if len(paths) != count:
        raise CorpusError(
            "A pipeline's workers leave their chunks where this process finds them",
            got=f"{len(paths)} of {count} in {place}",
            remedy="Give a folder that all of them share, with --beam-folder.",
        )
    for path in paths:
        yield read_chunk(path)
        path.unlink()


# ---- chunks in files -------------------------------------------------------------------------------

SUFFIX, ERROR, COUNT = ".npz", ".error", "count"
_ARRAYS = tuple(name for name, kind in EncodedChunk.__annotations__.items() if kind is np.ndarray)


def chunk_path(place: Path, key: Key) -> Path:
    """Return the file of a chunk; names are in the order of the keys."""
    return place / f"{key[0]:06}-{key[1]:09}{SUFFIX}"


def write_chunk(path: Path, chunk: EncodedChunk) -> None:
    """Write a chunk whole or not at all: a worker may die, or two may be given the same work."""
    others = {name: value for name, value in chunk._asdict().items() if name not in (*_ARRAYS, "texts")}
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with aside.open("wb") as file:
        np.savez(
            file,
            texts=np.frombuffer(chunk.texts, np.uint8),
            others=np.frombuffer(json.dumps(others).encode("ascii"), np.uint8),
            **{name: getattr(chunk, name) for name in _ARRAYS},
        )
    aside.replace(path)


def read_chunk(path: Path) -> EncodedChunk:
    """Read a chunk back; nothing in the file is executed."""
    with np.load(path, allow_pickle=False) as stored:
        others = json.loads(stored["others"].tobytes())
        others["bad"] = [BadRecord(*bad) for bad in others["bad"]]
        others["skipped"] = Counter(others["skipped"])
        arrays = {name: stored[name] for name in _ARRAYS}
        return EncodedChunk(texts=stored["texts"].tobytes(), **arrays, **others)
