"""Fill in the [MASK]s of a sentence: without a block, with each retrieved block, and marginalised.

Source: REALM, table 3 (the "Fermat" example), for any sentence.
"""

from dataclasses import dataclass

import jax
import numpy as np

from realm_jax.config import RetrieverName
from realm_jax.errors import CheckpointError, ConfigError
from realm_jax.evaluate.utility import marginal_word_log_prob
from realm_jax.index.retriever import retrieve_candidates
from realm_jax.inspect.loaded import LoadedRun
from realm_jax.inspect.retrieve import search, search_rows, text_rows
from realm_jax.text.tokenizer import MASK
from realm_jax.types import NO_BLOCK, Candidates, MaskedBatch, Search

Guess = tuple[str, float]  # a wordpiece and its probability


@dataclass(frozen=True)
class Filling:
    """What one block makes of the masks."""

    block_id: int  # NO_BLOCK: the null block
    title: str
    text: str
    retrieval_probability: float  # p(z|x)
    guesses: tuple[tuple[Guess, ...], ...]  # for each mask the most probable wordpieces
    target_probability: float | None  # p(y|z,x), the product over its wordpieces


@dataclass(frozen=True)
class Filled:
    """What the candidates make of the masks, one by one and together."""

    sentence: str  # as it was read, one [MASK] a wordpiece
    target: str | None
    fillings: tuple[Filling, ...]  # the null block first
    guesses: tuple[tuple[Guess, ...], ...]  # marginalised over the candidates, each mask by itself
    token_marginal: float | None  # p(y|x), each wordpiece of the target marginalised by itself
    sequence_marginal: float | None  # p(y|x), whole targets marginalised, as in the paper


def fill_masks(
    run: LoadedRun,
    sentence: str,
    *,
    target: str | None = None,
    top: int = 5,
    candidates: int | None = None,
    retriever: RetrieverName = "model",
) -> Filled:
    """Fill in the masks of a sentence.

    Args:
      run: a run whose knowledge-augmented encoder was trained.
      sentence: text with one or more [MASK], one a wordpiece.
      target: a filler to give the probability of; a single [MASK] becomes as many as it has wordpieces.
      top: wordpieces shown a mask.
      candidates: K, the null block included; None takes the number of training.
      retriever: `model`, `bm25` (p(z|x) stays the model's), or `null` for the null block alone.

    Raises:
      CheckpointError: the encoder of this run was never trained.
      ConfigError: no mask, too many, masks that do not fit the target, a sentence too long, no candidates.
    """
    require_encoder(run)
    count = run.config.shapes.candidates if candidates is None else candidates
    if count < 1 or top < 1:
        raise ConfigError(
            "at least 1 candidate is read, the null block, and at least 1 wordpiece shown",
            got=f"candidates {count}, top {top}",
            remedy="8 and 5 are usual.",
        )
    sentence, target_ids = _expand(run, sentence, target)
    batch = _masked(run, sentence, target_ids)
    k = count + run.config.index.extra
    if retriever == "model":
        found = search_rows(run, batch.query, k=k)
    else:
        found = search(run, [sentence.replace(MASK, " ")], retriever=retriever, k=k)
    chosen = masked_candidates(run, batch, found, count=count)
    log_prob, logits = _padded(run, batch, chosen)
    masks = int(batch.target_weights[0].sum())
    words = np.asarray(jax.nn.log_softmax(logits, axis=-1))[0, :, :masks]  # [K, M, V]
    marginal = np.asarray(marginal_word_log_prob(log_prob, logits))[0, :masks]  # [M, V]
    prior = np.asarray(log_prob)[0]
    picked = None if target is None else words[:, np.arange(masks), target_ids]  # [K, M]
    fillings = []
    for place in np.flatnonzero(chosen.is_valid[0]).tolist():
        block_id = int(chosen.block_ids[0, place])
        text = run.corpus.text(block_id) if block_id != NO_BLOCK else None
        fillings.append(
            Filling(
                block_id=block_id,
                title=text.title if text else "",
                text=text.body if text else "",
                retrieval_probability=float(np.exp(prior[place])),
                guesses=_guesses(run, words[place], top),
                target_probability=None if picked is None else float(np.exp(picked[place].sum())),
            )
        )
    together = None if picked is None else float(np.exp(np.logaddexp.reduce(prior + picked.sum(axis=1))))
    each = None if target is None else float(np.exp(marginal[np.arange(masks), target_ids].sum()))
    return Filled(sentence, target, tuple(fillings), _guesses(run, marginal, top), each, together)


def require_encoder(run: LoadedRun) -> None:
    """Refuse a run of the phase that does not train the knowledge-augmented encoder.

    Raises:
      CheckpointError: the run comes from the inverse cloze task, which trains the embedder alone.
    """
    if run.phase == "ict":
        raise CheckpointError(
            "masks are filled in by a run whose encoder was trained",
            got=f"{run.folder}, a run of phase ict, which leaves the encoder as it was",
            remedy=f"Train it: realm_jax read (or pretrain) --start-from {run.folder} ...",
        )


def masked_candidates(run: LoadedRun, batch: MaskedBatch, found: Search, *, count: int) -> Candidates:
    """Choose the candidates of masked texts: the null block first, none trivial.

    All are compared with the null block, so it is there even where `shapes.null_block` is off.

    Args:
      run: the run.
      batch: masked texts `[B, ...]`.
      found: search results `[B, k]`.
      count: K, the null block included.
    """
    return retrieve_candidates(
        found, run.corpus, candidates=count, origin=np.asarray(batch.origin), null_block=True
    )


def _expand(run: LoadedRun, sentence: str, target: str | None) -> tuple[str, np.ndarray | None]:
    """Give a single mask the length of the target, and check that masks and target fit."""
    masks = sentence.count(MASK)
    if not masks:
        raise ConfigError(
            f"a sentence to fill in holds {MASK}", got=sentence, remedy=f"Write {MASK} for each wordpiece."
        )
    if target is None:
        return sentence, None
    ids = run.corpus.tokenizer.encode(target, special_tokens=False).ids
    if not len(ids) or run.corpus.tokenizer.unk_id in ids:
        raise ConfigError(
            "a target is made of known wordpieces", got=target, remedy="Choose another spelling."
        )
    if masks == 1:
        return sentence.replace(MASK, " ".join([MASK] * len(ids))), ids
    if masks != len(ids):
        raise ConfigError(
            f"a target of {len(ids)} wordpieces fills 1 or {len(ids)} masks",
            got=f"{masks} masks",
            remedy=f"Write one {MASK}; it is repeated as needed.",
        )
    return sentence, ids


def _masked(run: LoadedRun, sentence: str, target_ids: np.ndarray | None) -> MaskedBatch:
    """Tokenise a sentence as a batch of one."""
    shapes, mask_id = run.config.shapes, run.corpus.tokenizer.mask_id
    row = text_rows(run, [sentence])
    at = np.flatnonzero(row.ids[0] == mask_id)
    wanted = sentence.count(MASK)
    if wanted > shapes.max_masks or len(at) < wanted:
        raise ConfigError(
            f"a sentence has at most {shapes.max_masks} masks, all among its first "
            f"{shapes.query_length - 2} wordpieces",
            got=f"{wanted} masks, {len(at)} of them within the length",
            remedy="Shorten the sentence or the target.",
        )
    positions, targets = np.zeros((2, 1, shapes.max_masks), np.int32)
    positions[0, : len(at)] = at
    if target_ids is not None:
        targets[0, : len(at)] = target_ids
    weights = (np.arange(shapes.max_masks) < len(at)).astype(np.float32)[None]
    return MaskedBatch(
        query=row,
        target_positions=positions,
        target_ids=targets,
        target_weights=weights,
        origin=np.full(1, NO_BLOCK, np.int32),
    )


def _padded(run: LoadedRun, batch: MaskedBatch, candidates: Candidates) -> tuple[jax.Array, jax.Array]:
    """Read a batch of one in the run's batch shape."""
    numbers, _ = next(run.batches(1))
    batch, candidates = jax.tree.map(lambda leaf: np.asarray(leaf)[numbers], (batch, candidates))
    return run.read_words(run.params, batch, candidates)


def _guesses(run: LoadedRun, log_prob: np.ndarray, top: int) -> tuple[tuple[Guess, ...], ...]:
    """List the most probable wordpieces of log p(w) `[M, V]`."""
    vocabulary = run.corpus.tokenizer.vocabulary
    best = np.argsort(-log_prob, axis=-1, kind="stable")[:, :top]
    return tuple(
        tuple((vocabulary[i], float(np.exp(row[i]))) for i in ids.tolist())
        for row, ids in zip(log_prob, best, strict=True)
    )
