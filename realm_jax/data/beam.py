"""Which of a question's thousands of blocks hold an answer? Found in the stored tokens, or in the texts.

Letters: B batch, R blocks of a beam, L tokens, N blocks of the corpus.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from realm_jax.data.corpus import Corpus
from realm_jax.data.questions import Occurrences, Question, regex_occurrences
from realm_jax.text.regex import RegexMatcher
from realm_jax.types import NO_BLOCK


def beam_has_answer(
    bodies: np.ndarray,
    block_ids: np.ndarray,
    answers: Sequence[Sequence[np.ndarray]],
    *,
    is_continuation: np.ndarray,
    unk_id: int,
) -> np.ndarray:
    """Find the blocks in whose bodies an answer stands as whole words.

    An answer's first token is looked for in all of a question's blocks at once; the places where it stands
    become fewer with each further token. No work is done in Python a block.

    Args:
      bodies: int `[N, L]`, each row ending with [SEP] and padding; memory-mapped, only R rows a question are
        read.
      block_ids: int `[B, R]`; NO_BLOCK holds nothing.
      answers: for each question, token ids int [m] of its answers; one that holds [UNK] matches nothing.
      is_continuation: bool `[V]`.
      unk_id: id of [UNK].

    Returns:
      bool `[B, R]`.
    """
    found = np.zeros(block_ids.shape, bool)
    width = bodies.shape[1]
    for b, runs in enumerate(answers):
        used = np.flatnonzero(block_ids[b] != NO_BLOCK)
        distinct = {run.tobytes(): run for run in runs if len(run) and unk_id not in run}
        if not len(used) or not distinct:
            continue
        flat = bodies[block_ids[b, used]].ravel()
        for run in distinct.values():
            if is_continuation[run[0]]:
                continue
            at = np.flatnonzero(flat == run[0].astype(flat.dtype))
            at = at[at % width + len(run) <= width]
            for j, token in enumerate(run[1:], start=1):
                at = at[flat[at + j] == token]
            # A word ends where the row does, or where the next token begins another.
            behind = at + len(run)
            whole = (behind % width == 0) | ~is_continuation[flat[np.minimum(behind, flat.size - 1)]]
            found[b, used[at[whole] // width]] = True
    return found


class PatternAnswers:
    """Where the regular expressions of questions match; a question looks at no text twice.

    Args:
      corpus: the blocks.
      questions: the whole set, all with regular expressions for answers.
      matcher: runs them with a time limit.
      max_spans: S, matches kept a body.
    """

    def __init__(
        self, corpus: Corpus, questions: Sequence[Question], *, matcher: RegexMatcher, max_spans: int
    ):
        self._corpus, self._questions, self._matcher = corpus, questions, matcher
        self._known: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # question -> ids, sorted; match or not
        self._places = lru_cache(100_000)(self._find_places)
        self._max_spans = max_spans

    def has_answer(self, numbers: np.ndarray, block_ids: np.ndarray) -> np.ndarray:
        """Find the blocks whose bodies an expression matches.

        Args:
          numbers: int `[B]`, places in the question set.
          block_ids: int `[B, R]`; NO_BLOCK holds nothing.

        Returns:
          bool `[B, R]`.
        """
        found = np.zeros(block_ids.shape, bool)
        for b, number in enumerate(numbers.tolist()):
            ids, match = self._known.get(number, (np.zeros(0, block_ids.dtype), np.zeros(0, bool)))
            new = np.setdiff1d(block_ids[b][block_ids[b] != NO_BLOCK], ids)
            if len(new):
                texts = [self._corpus.text(block_id).body for block_id in new.tolist()]
                hits = self._matcher.search_all(texts, self._questions[number].answers)
                ids, match = np.concatenate([ids, new]), np.append(match, [bool(hit) for hit in hits])
                order = np.argsort(ids)
                ids, match = ids[order], match[order]
                self._known[number] = ids, match
            if match.any():
                found[b] = np.isin(block_ids[b], ids[match])
        return found

    def occurrences(self, numbers: np.ndarray, block_ids: np.ndarray) -> Occurrences:
        """Find the tokens that matches stretch over, in blocks int `[B, K]`."""
        B, K = block_ids.shape
        shape = (B, K, self._max_spans)
        has_answer = self.has_answer(numbers, block_ids)
        found = Occurrences(
            np.zeros(shape, np.int32), np.zeros(shape, np.int32), np.zeros(shape, bool), has_answer
        )
        for b, k in np.argwhere(has_answer).tolist():
            places = self._places(int(numbers[b]), int(block_ids[b, k]))
            found.starts[b, k], found.stops[b, k] = places.starts[0, 0], places.stops[0, 0]
            found.mask[b, k] = places.mask[0, 0]
        return found

    def _find_places(self, number: int, block_id: int) -> Occurrences:
        return regex_occurrences(
            self._corpus,
            np.array([[block_id]]),
            [self._questions[number].answers],
            matcher=self._matcher,
            max_spans=self._max_spans,
        )
