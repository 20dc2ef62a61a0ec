"""Records to token arrays, a chunk at a time. No jax: worker processes import this."""

import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from realm_jax.data.records import BadRecord, Document, Fields, RawRecord, parse_document
from realm_jax.text.blocks import Splitter, block_uid, split_blocks
from realm_jax.text.salient import KINDS, Tagger
from realm_jax.text.tokenizer import Encoding, Tokenizer


class EncodedChunk(NamedTuple):
    """The blocks of some documents in a row."""

    titles: np.ndarray  # uint16 or int32 [N, L_title]; [CLS] title [SEP]
    title_lengths: np.ndarray  # uint16 [N]
    bodies: np.ndarray  # uint16 or int32 [N, L_body]; body [SEP]
    body_lengths: np.ndarray  # uint16 [N]
    sentences: np.ndarray  # uint16 [T, 2]; token ranges [start, stop) in the body
    sentence_counts: np.ndarray  # int64 [N]
    spans: np.ndarray  # uint16 [P, 3]; start, stop (exclusive), kind
    span_counts: np.ndarray  # int64 [N]
    texts: bytes  # document id, title and body of each block in UTF-8, one after the other
    text_lengths: np.ndarray  # int64 [N, 3]; bytes of each
    uids: np.ndarray  # uint64 [N]
    documents: int
    characters: int
    bad: list[BadRecord]
    position: float  # of the last record


def token_dtype(vocab_size: int) -> np.dtype:
    """Return the smallest dtype that holds every token id."""
    return np.dtype(np.uint16 if vocab_size <= 1 << 16 else np.int32)


def encode_chunk(
    records: Sequence[RawRecord],
    *,
    fields: Fields,
    tokenizer: Tokenizer,
    splitter: Splitter,
    tagger: Tagger,
    body_width: int,
    title_width: int,
) -> EncodedChunk:
    """Tokenise documents once, and derive blocks, sentences and salient spans from that one encoding.

    Args:
      records: what was read.
      fields: names of the fields.
      tokenizer, splitter, tagger: how text is cut up.
      body_width: L_body; a block has at most one token less, the last being [SEP].
      title_width: L_title; [CLS] and [SEP] included, longer titles lose their end.

    Returns:
      The blocks, and the records that were left out.
    """
    parsed = [parse_document(raw, fields) for raw in records]
    documents = [item for item in parsed if isinstance(item, Document)]
    # One call for titles and texts: the library spreads it over the cores where it may.
    encodings = tokenizer.encode_batch(
        [d.title for d in documents] + [d.text for d in documents], special_tokens=False)
    pairs = zip(encodings[: len(documents)], encodings[len(documents) :], strict=True)
    rows = _Rows(tokenizer, body_width=body_width, title_width=title_width)
    bad: list[BadRecord] = []
    characters = 0
    for raw, item in zip(records, parsed, strict=True):
        if isinstance(item, BadRecord):
            bad.append(item)
            continue
        title, body = next(pairs)
        if len(body.ids):
            characters += len(item.text)
            rows.add(item, title.ids, body, splitter=splitter, tagger=tagger)
        else:
            bad.append(BadRecord(raw.file, raw.line, "empty_text", f"no word in {fields.text}"))
    return rows.chunk(documents=len(records) - len(bad), characters=characters, bad=bad,
                      position=records[-1].position)


class _Rows:
    """Blocks as they come, to be stacked at the end."""

    def __init__(self, tokenizer: Tokenizer, *, body_width: int, title_width: int):
        self._tokenizer, self._body_width, self._title_width = tokenizer, body_width, title_width
        self._titles: list[np.ndarray] = []
        self._bodies: list[np.ndarray] = []
        self._sentences: list[np.ndarray] = []
        self._spans: list[np.ndarray] = []
        self._texts: list[bytes] = []
        self._uids: list[int] = []

    def add(
        self, document: Document, title: np.ndarray, body: Encoding, *, splitter: Splitter, tagger: Tagger
    ) -> None:
        text, continuation = document.text, self._tokenizer.is_continuation
        blocks = split_blocks(text, body, splitter(text), max_tokens=self._body_width - 1,
                              is_continuation=continuation)
        spans = salient_tokens(body, tagger(text), is_continuation=continuation)
        sentence_starts = np.concatenate([b.sentences[:, 0] + b.token_start for b in blocks])
        # A span belongs to the sentence it starts in, and is left out where it goes on into the next.
        ends = np.append(sentence_starts[1:], len(body.ids))
        spans = spans[spans[:, 1] <= ends[np.searchsorted(sentence_starts, spans[:, 0], side="right") - 1]]
        edges = np.searchsorted(spans[:, 0], [b.token_start for b in blocks] + [len(body.ids)])
        for i, block in enumerate(blocks):
            content = text[block.start : block.stop]
            shift = np.array([block.token_start, block.token_start, 0], np.int32)
            self._titles.append(title[: self._title_width - 2])
            self._bodies.append(body.ids[block.token_start : block.token_stop])
            self._sentences.append(block.sentences)
            self._spans.append(spans[edges[i] : edges[i + 1]] - shift)
            self._texts += [document.id.encode(), document.title.encode(), content.encode()]
            self._uids.append(block_uid(document.title, content))

    def chunk(
        self, *, documents: int, characters: int, bad: list[BadRecord], position: float
    ) -> EncodedChunk:
        n, tok = len(self._bodies), self._tokenizer
        dtype = token_dtype(len(tok))
        title_lengths = np.array([len(row) + 2 for row in self._titles], np.uint16)
        body_lengths = np.array([len(row) + 1 for row in self._bodies], np.uint16)
        titles = np.zeros((n, self._title_width), dtype)
        bodies = np.zeros((n, self._body_width), dtype)
        for i, (title, body) in enumerate(zip(self._titles, self._bodies, strict=True)):
            titles[i, 1 : 1 + len(title)] = title
            bodies[i, : len(body)] = body
        titles[:, 0] = tok.cls_id
        titles[np.arange(n), title_lengths.astype(np.int64) - 1] = tok.sep_id
        bodies[np.arange(n), body_lengths.astype(np.int64) - 1] = tok.sep_id
        return EncodedChunk(
            titles=titles, title_lengths=title_lengths, bodies=bodies, body_lengths=body_lengths,
            sentences=_stack(self._sentences, 2), sentence_counts=_counts(self._sentences),
            spans=_stack(self._spans, 3), span_counts=_counts(self._spans),
            texts=b"".join(self._texts),
            text_lengths=np.array([len(text) for text in self._texts], np.int64).reshape(n, 3),
            uids=np.array(self._uids, np.uint64),
            documents=documents, characters=characters, bad=bad, position=position)


def salient_tokens(
    encoding: Encoding, spans: Sequence[tuple[int, int, str]], *, is_continuation: np.ndarray
) -> np.ndarray:
    """Turn character spans into token spans; those that are no whole words are left out.

    Args:
      encoding: wordpieces of the text.
      spans: start, stop, kind in characters, in order and without overlap.
      is_continuation: bool [V].

    Returns:
      int32 [P, 3]: first token, token behind the last, kind id.
    """
    if not spans:
        return np.zeros((0, 3), np.int32)
    begin = np.array([span[0] for span in spans], np.int32)
    end = np.array([span[1] for span in spans], np.int32)
    kind = np.array([_KIND_IDS[span[2]] for span in spans], np.int64)
    start = np.searchsorted(encoding.offsets[:, 1], begin, side="right")
    stop = np.searchsorted(encoding.offsets[:, 0], end, side="left")
    inside = np.append(is_continuation[encoding.ids], False)
    whole = (start < stop) & ~inside[start] & ~inside[stop]
    return np.stack([start, stop, kind], axis=1)[whole].astype(np.int32)


# ---- in a worker process ---------------------------------------------------------------------------

_worker: dict[str, object] = {}


def start_worker(vocabulary: Sequence[str], settings: dict[str, object]) -> None:
    """Set up a worker process: its tokenizer is built once, and keeps to one core."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _worker.update(settings, tokenizer=Tokenizer(vocabulary))


def work(records: Sequence[RawRecord]) -> EncodedChunk:
    """Encode a chunk in a worker process."""
    return encode_chunk(records, **_worker)  # type: ignore[arg-type]


_KIND_IDS = {kind: i for i, kind in enumerate(KINDS)}


def _stack(arrays: list[np.ndarray], width: int) -> np.ndarray:
    return np.concatenate([np.zeros((0, width), np.uint16), *arrays]).astype(np.uint16)


def _counts(arrays: list[np.ndarray]) -> np.ndarray:
    return np.array([len(array) for array in arrays], np.int64)
