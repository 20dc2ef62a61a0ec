"""Read pairs of question and block, each in a row hardly longer than it needs.

Letters: n questions, K candidates, L tokens of the longest row.
"""

import jax
import jax.numpy as jnp
import numpy as np

from realm_jax.inspect.loaded import LoadedRun
from realm_jax.ops.open_qa import SPAN_LOG_PROBS
from realm_jax.ops.spans import span_table
from realm_jax.types import NO_BLOCK, Candidates, Rows

WIDTHS = 12  # row lengths, and so compiled programs, at most


def best_span_of_each(
    run: LoadedRun, questions: Rows, candidates: Candidates, relevance: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Find the best span of every candidate, and its probability among all spans of a question.

    The pairs are read in order of length, as many at a time as `run.batch_size` questions have.

    Args:
      run: a fine-tuned run; its loss says how spans are normalised.
      questions: rows `[n, L_question]`; NumPy arrays.
      candidates: `[n, K]`; NumPy arrays.
      relevance: float32 `[n, K]`.

    Returns:
      int32 `[n, K, 2]`, first and last token in the body, and float32 `[n, K]` probabilities, 0 where there
      is no span.
    """
    shape, longest = candidates.block_ids.shape, run.config.shapes.joint_length
    width = run.models.reader.max_span_width
    spans = np.zeros((*shape, 2), np.int32)
    scores = np.full((*shape, 2), -np.inf, np.float32)  # of the best span, and of all others together
    body = candidates.blocks.body
    lengths = np.minimum(questions.length[:, None] + body.length, longest)
    of, place = np.nonzero(candidates.is_valid & (candidates.block_ids != NO_BLOCK))
    order = np.argsort(lengths[of, place], kind="stable")
    size = run.batch_size * shape[1]
    reading = []  # nobody waits for a call before the next one is made
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        padded = np.resize(chosen, size)
        length = row_length(int(lengths[of[chosen], place[chosen]].max()), longest=longest)
        of_row, place_row = of[padded], place[padded]
        read = run.read_pairs(
            run.params,
            jax.tree.map(lambda leaf, rows=of_row: leaf[rows], questions),
            jax.tree.map(lambda leaf, rows=of_row, places=place_row: leaf[rows, places], body),
            length=length,
        )
        reading.append((chosen, length, read))
    for chosen, length, read in reading:
        best, score, rest = (np.asarray(leaf)[: len(chosen)] for leaf in read)
        here = of[chosen], place[chosen]
        ends = np.stack([side[best] for side in span_table(length, width)], axis=-1)
        spans[here] = ends - questions.length[of[chosen], None]
        scores[here] = np.stack([score, rest], axis=-1)
    # Two spans stand for all of a block: the best one, and the others as one.
    log_prob = SPAN_LOG_PROBS[run.config.qa.loss](
        span_scores=jnp.asarray(scores),
        relevance=jnp.asarray(relevance),
        is_valid=jnp.asarray(candidates.is_valid),
    )
    return spans, np.exp(np.asarray(log_prob)[..., 0])


def row_length(needed: int, *, longest: int) -> int:
    """Round the tokens a row needs up to one of `WIDTHS` lengths, multiples of 8 but for the longest."""
    step = -(-longest // WIDTHS)
    step = -(-step // 8) * 8
    return min(-(-needed // step) * step, longest)
