"""Records to token arrays, a chunk at a time. No jax: worker processes import this."""

import multiprocessing
import os
import signal
import threading
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from realm_jax.data.records import BadRecord, Document, Fields, RawRecord, Skipped, parse_document
from realm_jax.text.blocks import Splitter, block_uid, fill_blocks, first_tokens
from realm_jax.text.salient import KINDS, Tagger
from realm_jax.text.tokenizer import Tokenizer
from realm_jax.text.word_cache import BatchEncoding, WordCache


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
    skipped: Counter[str]  # records that are no documents, by reason
    position: float  # of the last record


def token_dtype(vocab_size: int) -> np.dtype:
    """Return the smallest dtype that holds every token id."""
    return np.dtype(np.uint16 if vocab_size <= 1 << 16 else np.int32)


def encode_chunk(
    records: Sequence[RawRecord],
    *,
    fields: Fields,
    words: WordCache,
    splitter: Splitter,
    tagger: Tagger,
    body_width: int,
    title_width: int,
) -> EncodedChunk:
    """Tokenise documents once, and derive blocks, sentences and salient spans from that one encoding.

    Args:
      records: what was read.
      fields: names of the fields.
      words: encodes texts.
      splitter, tagger: find sentences and salient spans.
      body_width: L_body; a block has at most one token less, the last being [SEP].
      title_width: L_title; [CLS] and [SEP] included, longer titles lose their end.

    Returns:
      The blocks, and the records that were left out.
    """
    parsed = [parse_document(raw, fields) for raw in records]
    documents = [item for item in parsed if isinstance(item, Document)]
    body = words.encode([document.text for document in documents])
    empty = iter(np.diff(body.tokens) == 0)
    bad = []
    for raw, item in zip(records, parsed, strict=True):
        if isinstance(item, BadRecord):
            bad.append(item)
        elif isinstance(item, Document) and next(empty):
            bad.append(BadRecord(raw.file, raw.line, "empty_text", f"no word in {fields.text}"))

    tokenizer = words.tokenizer
    starts_word = np.append(~tokenizer.is_continuation[body.ids], True)
    begins, spans = _annotate(documents, body.characters, splitter=splitter, tagger=tagger)
    # A document always begins a sentence.
    sentences = first_tokens(body.starts, begins, starts_word=starts_word)
    tokens = salient_tokens(body.starts, body.stops, spans, starts_word=starts_word)
    # A span belongs to the sentence it starts in, and is left out where it goes on into the next.
    bounds = np.append(sentences, len(body.ids))
    tokens = tokens[tokens[:, 1] <= bounds[np.searchsorted(sentences, tokens[:, 0], side="right")]]

    edges = bounds.tolist()
    at = np.searchsorted(sentences, body.tokens).tolist()
    first: list[int] = []  # token of each block
    starts: list[int] = []  # token of each sentence
    counts: list[int] = []  # sentences of each block
    owner: list[int] = []  # document of each block
    for number in range(len(documents)):
        if at[number] == at[number + 1]:
            continue
        own = edges[at[number] : at[number + 1] + 1]
        for block in fill_blocks(own, max_tokens=body_width - 1, starts_word=starts_word):
            first.append(block[0])
            starts += block[:-1]
            counts.append(len(block) - 1)
            owner.append(number)
    return _chunk(
        documents,
        body,
        words.encode([document.title for document in documents]),
        tokens,
        np.array(first, np.int64),
        np.array(starts, np.int64),
        np.array(counts, np.int64),
        owner,
        bad,
        Counter(item.reason for item in parsed if isinstance(item, Skipped)),
        tokenizer=tokenizer,
        body_width=body_width,
        title_width=title_width,
        position=records[-1].position,
    )


def salient_tokens(
    token_starts: np.ndarray, token_stops: np.ndarray, spans: np.ndarray, *, starts_word: np.ndarray
) -> np.ndarray:
    """Turn character spans into token spans; those that are no whole words are left out.

    Args:
      token_starts, token_stops: int [n], characters of each token.
      spans: int64 [P, 3]; start, stop in characters, kind id; in order and without overlap.
      starts_word: bool [n + 1], False where a token goes on a word.

    Returns:
      int64 [<= P, 3]: first token, token behind the last, kind id.
    """
    start = np.searchsorted(token_stops, spans[:, 0], side="right")
    stop = np.searchsorted(token_starts, spans[:, 1], side="left")
    whole = (start < stop) & starts_word[start] & starts_word[stop]
    return np.stack([start, stop, spans[:, 2]], axis=1)[whole]


def _annotate(
    documents: Sequence[Document], characters: np.ndarray, *, splitter: Splitter, tagger: Tagger
) -> tuple[np.ndarray, np.ndarray]:
    """Return where sentences begin (int64 [S]) and the salient spans (int64 [P, 3]) in the joined text."""
    begins: list[int] = []
    spans: list[tuple[int, int, int]] = []
    for document, base in zip(documents, characters.tolist(), strict=True):
        begins += [base + start for start, _ in splitter(document.text)]
        spans += [(base + start, base + stop, _KIND_IDS[kind]) for start, stop, kind in tagger(document.text)]
    return np.array(begins, np.int64), np.array(spans, np.int64).reshape(len(spans), 3)


def _chunk(
    documents: Sequence[Document],
    body: BatchEncoding,
    title: BatchEncoding,
    spans: np.ndarray,
    first: np.ndarray,
    starts: np.ndarray,
    counts: np.ndarray,
    owner: Sequence[int],
    bad: list[BadRecord],
    skipped: Counter[str],
    *,
    tokenizer: Tokenizer,
    body_width: int,
    title_width: int,
    position: float,
) -> EncodedChunk:
    """Lay blocks out as they are stored."""
    n, total = len(first), len(body.ids)
    last = np.append(first, total)[1:]
    dtype = token_dtype(len(tokenizer))
    bodies, lengths = np.zeros((n, body_width), dtype), last - first
    bodies[np.arange(body_width) < lengths[:, None]] = body.ids  # blocks follow each other without gaps
    bodies[np.arange(n), lengths] = tokenizer.sep_id

    texts, uids, own_titles, title_lengths = [], [], [], []
    cut = np.append(body.starts, 0)[last].tolist()  # character at which the next block begins
    for i, (number, start) in enumerate(zip(owner, body.starts[first].tolist(), strict=True)):
        document, base = documents[number], int(body.characters[number])
        ends = i + 1 == n or owner[i + 1] != number
        content = document.text[start - base : None if ends else cut[i] - base].rstrip()
        texts += [document.id.encode(), document.title.encode(), content.encode()]
        uids.append(block_uid(document.title, content))
        own_title = title.ids[title.tokens[number] : title.tokens[number + 1]][: title_width - 2]
        own_titles.append(own_title)
        title_lengths.append(len(own_title) + 2)
    titles = np.zeros((n, title_width), dtype)
    titles[:, 0] = tokenizer.cls_id
    for row, own_title in zip(titles, own_titles, strict=True):
        row[1 : len(own_title) + 1], row[len(own_title) + 1] = own_title, tokenizer.sep_id

    block_of_sentence = np.repeat(first, counts)
    sentences = np.stack([starts, np.append(starts, total)[1:]], axis=1) - block_of_sentence[:, None]
    block_of_span = np.searchsorted(first, spans[:, 0], side="right") - 1
    shift = first[block_of_span] if n else np.zeros(0, np.int64)
    return EncodedChunk(
        titles=titles,
        title_lengths=np.array(title_lengths, np.uint16),
        bodies=bodies,
        body_lengths=(lengths + 1).astype(np.uint16),
        sentences=sentences.astype(np.uint16),
        sentence_counts=counts,
        spans=np.stack([spans[:, 0] - shift, spans[:, 1] - shift, spans[:, 2]], axis=1).astype(np.uint16),
        span_counts=np.bincount(block_of_span, minlength=n).astype(np.int64),
        texts=b"".join(texts),
        text_lengths=np.array([len(text) for text in texts], np.int64).reshape(n, 3),
        uids=np.array(uids, np.uint64),
        documents=len(set(owner)),
        characters=sum(len(documents[number].text) for number in set(owner)),
        bad=bad,
        skipped=skipped,
        position=position,
    )


# ---- in a worker process ---------------------------------------------------------------------------

_worker: dict[str, object] = {}


def start_worker(tokenizer: Tokenizer, settings: dict[str, object]) -> None:
    """Set up a worker process: its tokenizer, built once, keeps to one core; Ctrl-C is the parent's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _worker.update(settings, words=WordCache(tokenizer))


def _end_with_parent() -> None:
    """End this process when its parent has ended, however it did."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def work(records: Sequence[RawRecord]) -> EncodedChunk:
    """Encode a chunk in a worker process."""
    return encode_chunk(records, **_worker)  # type: ignore[arg-type]


_KIND_IDS = {kind: i for i, kind in enumerate(KINDS)}
