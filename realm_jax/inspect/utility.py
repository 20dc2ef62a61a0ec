"""Measure what retrieval is worth to a run on masked sentences of a prepared corpus."""

import jax
import numpy as np

from realm_jax.data.corpus import Corpus
from realm_jax.data.streams import masked_stream
from realm_jax.errors import ConfigError
from realm_jax.evaluate.tally import Tally, tally
from realm_jax.evaluate.utility import FillStatistics, fill_statistics
from realm_jax.inspect.fill import masked_candidates
from realm_jax.inspect.loaded import LoadedRun
from realm_jax.inspect.retrieve import search_rows
from realm_jax.progress import reporter, to_stderr
from realm_jax.runs.setup import check_vocabulary

SEED = 7_919  # of order and masks: the same sentences for every run


def masked_utility(
    run: LoadedRun, text: Corpus, *, batches: int, masker: str = "salient", seed: int = SEED
) -> dict[str, Tally]:
    """Read masked sentences with their candidates, and with the null block alone.

    Args:
      run: a run whose knowledge-augmented encoder was trained.
      text: where the sentences come from; if it is the searched corpus, a sentence's own block is left out.
      batches: of `run.batch_size` sentences each.
      masker: name of the masker.
      seed: of order and masks.

    Returns:
      By sentence: `retrieval_utility` and `best_block_utility` (nats per masked token), `log_likelihood` and
      `null_log_likelihood` (nats per masked token), `fill_accuracy` and `null_fill_accuracy` (all masked
      tokens right).

    Source: REALM, section 4.4 (retrieval utility).
    """
    if batches < 1:
        raise ConfigError("utility takes at least 1 batch", got=batches, remedy="50 give a fair estimate.")
    check_vocabulary(text, run.corpus)
    shapes, extra = run.config.shapes, run.config.index.extra
    stream = masked_stream(
        text,
        batch_size=run.batch_size,
        query_length=shapes.query_length,
        max_masks=shapes.max_masks,
        masker=masker,
        same_corpus=text.content_hash == run.corpus.content_hash,
        seed=seed,
    )
    statistics = jax.jit(fill_statistics)
    rows: list[FillStatistics] = []
    with reporter("masked sentences", batches, unit="batches", write=to_stderr) as progress:
        for done in range(1, batches + 1):
            batch = next(stream)
            found = search_rows(run, batch.query, k=shapes.candidates + extra)
            chosen = masked_candidates(run, batch, found, count=shapes.candidates)
            log_prob, logits = run.read_words(run.params, batch, chosen)
            filled = statistics(
                log_prob,
                logits,
                batch.target_ids,
                batch.target_weights,
                is_null=chosen.is_null,
                is_valid=chosen.is_valid,
            )
            rows.append(jax.device_get(filled))
            progress.update(done)
    every = jax.tree.map(lambda *leaves: np.concatenate(leaves).astype(np.float64), *rows)
    values = {
        "retrieval_utility": every.utility / every.tokens,
        "best_block_utility": every.best_utility / every.tokens,
        "log_likelihood": every.log_likelihood / every.tokens,
        "null_log_likelihood": every.null_log_likelihood / every.tokens,
        "fill_accuracy": every.right,
        "null_fill_accuracy": every.null_right,
    }
    found_values = {name: tally(column) for name, column in values.items()}
    return {name: value for name, value in found_values.items() if value is not None}
