"""Raw text to a prepared corpus, streaming and on all cores."""

import itertools
import math
import multiprocessing
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from realm_jax.data.encode import EncodedChunk, encode_chunk, start_worker, work
from realm_jax.data.records import SHOWN_BAD_RECORDS, BadRecord, Fields, RawRecord
from realm_jax.data.sources import Source, open_source
from realm_jax.data.texts import Texts
from realm_jax.data.writer import CorpusWriter
from realm_jax.errors import ConfigError, CorpusError
from realm_jax.progress import Reporter, reporter
from realm_jax.text.blocks import get_splitter
from realm_jax.text.salient import KINDS, get_tagger
from realm_jax.text.tokenizer import VOCABULARY, Tokenizer
from realm_jax.text.vocabulary import train_vocabulary
from realm_jax.text.word_cache import WordCache

CHUNK_RECORDS, CHUNK_BYTES = 256, 1 << 20  # whichever is reached first

# (sources, tokenizer, settings of `encode_chunk`, a folder to work in) -> the chunks in the sources' order
Encoder = Callable[[Sequence[Source], Tokenizer, dict[str, Any], Path], Iterator[EncodedChunk]]


class PrepareReport(NamedTuple):
    """What came of it."""

    path: Path
    blocks: int
    documents: int
    characters: int
    content_hash: str
    bad_counts: dict[str, int]  # by reason
    bad_records: list[BadRecord]  # the first few
    skipped_counts: dict[str, int]  # of a dump: pages that are no articles, by reason


def prepare(
    sources: Sequence[str | Path],
    out: str | Path,
    *,
    tokenizer: Tokenizer | str | Path | None = None,
    vocab_size: int | None = None,
    max_block_tokens: int = 288,
    title_tokens: int = 24,
    tagger: str = "rules",
    splitter: str = "rules",
    fields: Fields = Fields(),  # noqa: B008 - immutable
    workers: int | None = None,
    encoder: Encoder | None = None,
    strict: bool = False,
    overwrite: bool = False,
    tfds_dir: str | Path | None = None,
    progress: Reporter | None = None,
) -> PrepareReport:
    """Cut documents into blocks, tokenise them once, and write a corpus that `Corpus.open` reads.

    Records are read one after the other and written as they are done, so memory does not grow with the
    input. The same sources and settings give the same corpus, whatever the number of workers.

    Args:
      sources: .jsonl files, folders of .txt files, MediaWiki dumps, "tfds:name/config:split"; what
        `open_source` knows.
      out: the folder to write; appears when complete.
      tokenizer: a vocabulary (vocab.txt), or a prepared corpus whose vocabulary is to be shared.
      vocab_size: instead of `tokenizer`: train a vocabulary of this size on the sources.
      max_block_tokens: width of a body row: the wordpieces of a block and the closing [SEP].
      title_tokens: width of a title row, [CLS] and [SEP] included; longer titles lose their end.
      tagger: name of the tagger of salient spans.
      splitter: name of the sentence splitter.
      fields: names of the fields of a record.
      workers: processes; as many as this process may use cores if None; 1 works in this process.
      encoder: instead of `workers`: who reads and encodes, such as a pipeline on many machines; the corpus
        is the same.
      strict: stop at the first bad record; otherwise bad records are counted, left out, and named in
        `bad_records.jsonl` in the corpus's folder.
      overwrite: replace a prepared corpus of that name.
      tfds_dir: where TFDS keeps its datasets.
      progress: told the kilobytes of input that are done; if None, a bar or lines.

    Returns:
      Counts, the content hash, and which records were left out.

    Raises:
      ConfigError: a setting is unknown or contradicts another.
      CorpusError: an input cannot be read, `out` exists, no block came out, or, with `strict`, a record
        is bad.
      MissingExtra: a package that a source needs is not installed.
    """
    if (tokenizer is None) == (vocab_size is None):
        raise ConfigError(
            "prepare takes a tokenizer or a vocab_size to train one, not both",
            got=f"{tokenizer=}, {vocab_size=}",
            remedy="Give one of them.",
        )
    _check_settings(max_block_tokens, title_tokens, workers=workers, encoder=encoder)
    settings: dict[str, Any] = {
        "fields": fields,
        "splitter": get_splitter(splitter),
        "tagger": get_tagger(tagger),
        "body_width": max_block_tokens,
        "title_width": title_tokens,
    }
    opened = [open_source(source, tfds_dir=tfds_dir) for source in sources]
    if not opened:
        raise ConfigError("prepare needs a source", got="none", remedy="Name a file, folder or dataset.")
    encode = encoder or partial(encode_here, workers=workers or _cores())
    total = math.ceil(sum(source.total for source in opened) / 1000)
    tally = _Tally()
    with ExitStack() as stack:
        writer = stack.enter_context(CorpusWriter(Path(out), overwrite=overwrite))
        vocabulary = _tokenizer(tokenizer, vocab_size, opened, fields=fields, strict=strict)
        default = reporter("prepare", total, unit="kB")
        if progress is None:
            stack.enter_context(default)
        told = progress or default
        for chunk in encode(opened, vocabulary, settings, writer.scratch):
            if strict and chunk.bad:
                raise chunk.bad[0].error()
            writer.add(chunk)
            tally.add(chunk)
            # Files are read ahead: the end of the input is not yet the end of the work.
            told.update(
                min(int(chunk.position / 1000), max(total - 1, 0)), f"{tally.counts['blocks']} blocks"
            )
        told.update(total, f"{tally.counts['blocks']} blocks")
        tally.check()
        manifest = writer.finish(
            vocabulary,
            {
                **tally.to_json(),
                "kinds": list(KINDS),
                "settings": {
                    "max_block_tokens": max_block_tokens,
                    "title_tokens": title_tokens,
                    "tagger": tagger,
                    "splitter": splitter,
                    "fields": fields._asdict(),
                },
                "sources": [source.name for source in opened],
            },
        )
    return PrepareReport(
        Path(out),
        tally.counts["blocks"],
        tally.counts["documents"],
        tally.counts["characters"],
        manifest["content_hash"],
        manifest["bad_records"],
        tally.shown,
        manifest["skipped"],
    )


def _check_settings(
    max_block_tokens: int, title_tokens: int, *, workers: int | None, encoder: Encoder | None
) -> None:
    """Refuse widths that rows cannot have, and workers that there cannot be."""
    if not 2 <= max_block_tokens <= 1 << 15 or not 2 <= title_tokens <= 1 << 15:
        raise ConfigError(
            "Rows have 2 to 32768 tokens",
            got=f"{max_block_tokens=}, {title_tokens=}",
            remedy="The usual widths are 288 and 24.",
        )
    if workers is not None and (workers < 1 or encoder):
        raise ConfigError(
            "prepare has at least 1 worker, and a pipeline's workers are its own",
            got=workers,
            remedy="Leave it out: one a core.",
        )


class _Tally:
    """What was written, left out and passed over so far."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.shown: list[BadRecord] = []  # the first that were left out
        self._reasons: Counter[str] = Counter()
        self._skipped: Counter[str] = Counter()

    def add(self, chunk: EncodedChunk) -> None:
        """Count a chunk."""
        self._reasons.update(bad.reason for bad in chunk.bad)
        self._skipped.update(chunk.skipped)
        self.shown += chunk.bad[: SHOWN_BAD_RECORDS - len(self.shown)]
        self.counts.update(
            blocks=len(chunk.uids),
            documents=chunk.documents,
            characters=chunk.characters,
            sentences=len(chunk.sentences),
            salient_spans=len(chunk.spans),
            wordpieces=int(chunk.body_lengths.sum()) - len(chunk.uids),
        )

    def check(self) -> None:
        """Refuse a corpus without a block."""
        if not self.counts["blocks"]:
            raise CorpusError(
                "A corpus has at least one block",
                got=f"none ({sum(self._reasons.values())} bad records: {dict(self._reasons)}, "
                f"passed over: {dict(self._skipped)})",
                remedy=f"Check the sources{', ' + str(self.shown[0]) if self.shown else ''}.",
            )

    def to_json(self) -> dict[str, Any]:
        """Return what the manifest says of it."""
        return {
            "counts": dict(self.counts),
            "bad_records": dict(sorted(self._reasons.items())),
            "skipped": dict(sorted(self._skipped.items())),
            "bad_examples": [str(bad) for bad in self.shown],
        }


def _tokenizer(
    given: Tokenizer | str | Path | None,
    vocab_size: int | None,
    sources: Sequence[Source],
    *,
    fields: Fields,
    strict: bool,
) -> Tokenizer:
    if isinstance(given, Tokenizer):
        return given
    if given is not None:
        path = Path(given)
        return Tokenizer.load(path / VOCABULARY if path.is_dir() else path)
    assert vocab_size is not None
    return Tokenizer(train_vocabulary(Texts(sources, fields, strict=strict), vocab_size=vocab_size))


def offsets(sources: Sequence[Source]) -> list[float]:
    """Return the bytes before each source, by which positions go on from one to the next."""
    return [0.0, *itertools.accumulate(source.total for source in sources)][: len(sources)]


def chunks_of(source: Source, *, before: float = 0.0) -> Iterator[list[RawRecord]]:
    """Read a source in chunks of records; where the cuts fall depends on the records alone.

    Args:
      source: what to read.
      before: bytes of the sources before it.
    """
    chunk: list[RawRecord] = []
    held = 0
    for raw in source.records():
        chunk.append(raw._replace(position=before + raw.position))
        held += sum(map(_size, raw.data.values())) if isinstance(raw.data, Mapping) else len(raw.data)
        if len(chunk) >= CHUNK_RECORDS or held >= CHUNK_BYTES:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk


def _size(value: object) -> int:
    return len(value) if isinstance(value, str | bytes) else 8


def encode_here(
    sources: Sequence[Source],
    tokenizer: Tokenizer,
    settings: dict[str, Any],
    scratch: Path,
    *,
    workers: int,
) -> Iterator[EncodedChunk]:
    """Encode sources by processes of this machine, with a bounded number of chunks in memory."""
    del scratch
    each = (
        chunks_of(source, before=before) for source, before in zip(sources, offsets(sources), strict=True)
    )
    chunks = itertools.chain.from_iterable(each)
    first = list(itertools.islice(chunks, 2))
    if workers == 1 or len(first) < 2:  # starting processes would take longer than the work
        words = WordCache(tokenizer)
        for chunk in itertools.chain(first, chunks):
            yield encode_chunk(chunk, words=words, **settings)
        return
    # Spawned, not forked: a process that uses jax has threads, and forking those can hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        workers, mp_context=context, initializer=start_worker, initargs=(tokenizer, settings)
    ) as pool:
        waiting: deque[Future[EncodedChunk]] = deque()
        try:
            for chunk in itertools.chain(first, chunks):
                waiting.append(pool.submit(work, chunk))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise CorpusError(
                "Preparation needs its worker processes",
                got="one that was killed, as the system does when memory runs out, or that could not start",
                remedy="Use fewer with --workers; a script calls prepare under `if __name__ == '__main__':`.",
            ) from error
        finally:
            for future in waiting:
                future.cancel()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
