"""Training streams over a prepared corpus: ICT pairs and masked sentences."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from realm_jax.data.corpus import Corpus
from realm_jax.data.stream import Stream, build_stream
from realm_jax.text.ict import ict_pair
from realm_jax.text.masking import get_masker
from realm_jax.text.packing import framed, pack_rows
from realm_jax.types import NO_BLOCK, Blocks, IctBatch, MaskedBatch

SCAN_BLOCKS = 1 << 18  # blocks looked at in one go when eligible ones are sought


def ict_stream(
    corpus: Corpus,
    *,
    batch_size: int,
    rows: np.ndarray | None = None,
    query_length: int,
    keep_probability: float = 0.1,
    seed: int,
) -> Stream[IctBatch]:
    """Stream pseudo-queries with the blocks they were cut from.

    Args:
      corpus: the blocks; those with one sentence are left out ("one_sentence" in `dropped`).
      batch_size: B.
      rows: int `[b]`, which of the B rows are made; None: all.
      query_length: L, [CLS] and [SEP] included; longer sentences lose their end.
      keep_probability: how often the sentence stays in the block.
      seed: of order and choices.
    """
    tokenizer = corpus.tokenizer
    counts = np.diff(corpus.arrays["sentence_offsets"])
    eligible = np.flatnonzero(counts >= 2)
    frame = {"length": query_length, "cls_id": tokenizer.cls_id, "sep_id": tokenizer.sep_id}

    def example(index: int, rng: np.random.Generator) -> tuple[int, np.ndarray, np.ndarray]:
        block_id = int(eligible[index])
        pair = ict_pair(
            corpus.body(block_id), corpus.sentences(block_id), rng, keep_probability=keep_probability
        )
        return block_id, framed(pair.query, **frame), pair.body

    def batch(examples: Sequence[tuple[int, np.ndarray, np.ndarray]]) -> IctBatch:
        block_ids = np.array([block_id for block_id, _, _ in examples], np.int32)
        title = corpus.gather(block_ids).title
        body = pack_rows([row for _, _, row in examples], length=corpus.body_width)
        query = pack_rows([row for _, row, _ in examples], length=query_length)
        return IctBatch(query=query, blocks=Blocks(title=title, body=body), block_ids=block_ids)

    return build_stream(
        len(eligible),
        example,
        batch,
        batch_size=batch_size,
        rows=rows,
        seed=seed,
        dropped={"one_sentence": len(corpus) - len(eligible)},
        recipe={
            "stream": "ict",
            "corpus": corpus.content_hash,
            "query_length": query_length,
            "keep_probability": keep_probability,
        },
    )


class _Masked(NamedTuple):
    row: np.ndarray  # int32 [<= L], [MASK] at the targets
    positions: np.ndarray  # int32 [m], in the row
    targets: np.ndarray  # int32 [m]
    block_id: int


def masked_stream(
    corpus: Corpus,
    *,
    batch_size: int,
    rows: np.ndarray | None = None,
    query_length: int,
    max_masks: int,
    masker: str = "salient",
    same_corpus: bool,
    seed: int,
) -> Stream[MaskedBatch]:
    """Stream sentences with some of their tokens masked.

    An example is one sentence. `dropped` counts the sentences that are never drawn: "sentence_too_long",
    "no_salient_span", "span_too_long" (all its spans are).

    Args:
      corpus: where the sentences come from (X).
      batch_size: B.
      rows: int `[b]`, which of the B rows are made; None: all.
      query_length: L, [CLS] and [SEP] included.
      max_masks: M.
      masker: name of the masker; "salient" masks exactly one salient span whole.
      same_corpus: X is the searched corpus too, so `origin` names the block a sentence was cut from and
        retrieving it would be trivial; otherwise `origin` is NO_BLOCK.
      seed: of order and choices.
    """
    chosen, tokenizer = get_masker(masker), corpus.tokenizer
    eligible, dropped = _eligible_sentences(
        corpus, longest=query_length - 2, max_masks=max_masks, needs_span=chosen.needs_span
    )
    offsets = corpus.arrays["sentence_offsets"]
    frame = {"length": query_length, "cls_id": tokenizer.cls_id, "sep_id": tokenizer.sep_id}

    def example(index: int, rng: np.random.Generator) -> _Masked:
        sentence = int(eligible[index])
        block_id = int(np.searchsorted(offsets, sentence, side="right")) - 1
        start, stop = (int(i) for i in corpus.arrays["sentences"][sentence])
        spans = corpus.spans(block_id)
        inside = (spans[:, 0] >= start) & (spans[:, 1] <= stop)
        ids = corpus.body(block_id)
        positions = chosen.positions(
            ids[start:stop], spans[inside] - np.array([start, start, 0], np.int32), rng, max_masks
        ) + np.int32(start)
        targets = ids[positions]
        ids[positions] = tokenizer.mask_id
        return _Masked(framed(ids[start:stop], **frame), positions - np.int32(start - 1), targets, block_id)

    def batch(examples: Sequence[_Masked]) -> MaskedBatch:
        targets = pack_rows([e.targets for e in examples], length=max_masks)
        positions = pack_rows([e.positions for e in examples], length=max_masks)
        origin = [e.block_id if same_corpus else NO_BLOCK for e in examples]
        return MaskedBatch(
            query=pack_rows([e.row for e in examples], length=query_length),
            target_positions=positions.ids,
            target_ids=targets.ids,
            target_weights=(np.arange(max_masks) < targets.length[:, None]).astype(np.float32),
            origin=np.array(origin, np.int32),
        )

    return build_stream(
        len(eligible),
        example,
        batch,
        batch_size=batch_size,
        rows=rows,
        seed=seed,
        dropped=dropped,
        recipe={
            "stream": "masked",
            "corpus": corpus.content_hash,
            "query_length": query_length,
            "max_masks": max_masks,
            "masker": masker,
            "same_corpus": same_corpus,
            # Settings that are gone, as they always were: checkpoints of older runs hold a hash of all this.
            "kinds": list(range(len(corpus.manifest["kinds"]))),
            "context_sentences": 0,
        },
    )


def _eligible_sentences(
    corpus: Corpus, *, longest: int, max_masks: int, needs_span: bool
) -> tuple[np.ndarray, dict[str, int]]:
    """Return which sentences can be drawn (int64), and why the others cannot."""
    dropped = {"sentence_too_long": 0, "no_salient_span": 0, "span_too_long": 0}
    found = []
    width = corpus.body_width
    for low in range(0, len(corpus), SCAN_BLOCKS):
        blocks = slice(low, min(low + SCAN_BLOCKS, len(corpus)))
        sentences, first, base = _with_blocks(corpus, "sentences", "sentence_offsets", blocks)
        fits = sentences[:, 1] - sentences[:, 0] <= longest
        dropped["sentence_too_long"] += int((~fits).sum())
        if needs_span:
            spans, _, span_base = _with_blocks(corpus, "spans", "span_offsets", blocks)
            # One number line for all blocks, so that one search finds every span's sentence.
            starts = base * width + sentences[:, 0]
            at = np.searchsorted(starts, span_base * width + spans[:, 0], side="right") - 1
            short = spans[:, 1] - spans[:, 0] <= max_masks
            spans_in = np.bincount(at, minlength=len(sentences))
            short_in = np.bincount(at[short], minlength=len(sentences))
            dropped["no_salient_span"] += int((fits & (spans_in == 0)).sum())
            dropped["span_too_long"] += int((fits & (spans_in > 0) & (short_in == 0)).sum())
            fits &= short_in > 0
        found.append(np.flatnonzero(fits) + first)
    return np.concatenate([np.zeros(0, np.int64), *found]), dropped


def _with_blocks(
    corpus: Corpus, name: str, offsets_name: str, blocks: slice
) -> tuple[np.ndarray, int, np.ndarray]:
    """Return the rows of a ragged array for some blocks, the index of the first, and each row's block."""
    offsets = corpus.arrays[offsets_name][blocks.start : blocks.stop + 1]
    rows = corpus.arrays[name][offsets[0] : offsets[-1]].astype(np.int64)
    return rows, int(offsets[0]), np.repeat(np.arange(blocks.start, blocks.stop), np.diff(offsets))
