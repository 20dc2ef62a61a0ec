"""Is a predicted answer right, and where among the found blocks do answer and gold block stand?"""

import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from realm_jax.data.corpus import Corpus
from realm_jax.data.questions import Question
from realm_jax.text.answers import exact_match, has_answer_words, matching_spans, whole_character, words
from realm_jax.text.regex import RegexMatcher
from realm_jax.types import NO_BLOCK

NOT_FOUND = -1  # rank of what stands in no block
CACHED_BLOCKS = 100_000
LOOKS_BEHIND_ITS_END = re.compile(r"\$|\(\?|\\[bBZ]").search


def is_correct(prediction: str, question: Question, *, matcher: RegexMatcher) -> bool:
    """Say whether a prediction is right: exact match, or for regular expressions a match at its beginning.

    Source: the official evaluations of NaturalQuestions-Open and CuratedTREC, as ORQA runs them.
    """
    if not prediction:
        return False
    if question.is_regex:
        return matcher.match(prediction, question.answers)
    return exact_match(prediction, question.answers)


def is_readable(
    text: str, offsets: np.ndarray, question: Question, *, max_width: int, matcher: RegexMatcher
) -> bool:
    """Say whether a reader that chooses a span of a body could be right.

    Args:
      text: the body.
      offsets: int `[n, 2]`, characters [start, stop) of the tokens the reader sees.
      question: what is asked.
      max_width: widest span, tokens.
      matcher: runs regular expressions.
    """
    if question.is_regex:
        # An expression matches at the beginning of a span, so of spans with one beginning the longest says it
        # for all, unless the expression asks for an end.
        shorter = max_width if any(map(LOOKS_BEHIND_ITS_END, question.answers)) else 1
        spans = [
            text[start : whole_character(text, offsets[min(i + max_width, len(offsets)) - 1 - less, 1])]
            for i, start in enumerate(offsets[:, 0].tolist())
            for less in range(min(shorter, max_width, len(offsets) - i))
        ]
        return matcher.match_any(spans, question.answers)
    return any(
        exact_match(text[offsets[i, 0] : whole_character(text, offsets[j, 1])], question.answers)
        for i, j in matching_spans(text, offsets, question.answers).tolist()
        if i <= j < min(i + max_width, len(offsets))
    )


def answer_ranks(
    corpus: Corpus, block_ids: np.ndarray, questions: Sequence[Question], *, matcher: RegexMatcher
) -> np.ndarray:
    """Find the first block whose body holds an answer.

    Args:
      corpus: the blocks.
      block_ids: int `[n, k]`, best first; NO_BLOCK holds nothing.
      questions: n of them.
      matcher: runs regular expressions with a time limit.

    Returns:
      int32 `[n]`, from 0; NOT_FOUND where no block holds one.

    Source: the rule of DPR (Karpukhin et al. 2020) for a passage with the answer, on the body alone.
    """

    @lru_cache(CACHED_BLOCKS)
    def body_words(block_id: int) -> str:
        return " ".join(words(corpus.text(block_id).body))

    ranks = np.full(len(questions), NOT_FOUND, np.int32)
    for n, question in enumerate(questions):
        wanted = [words(answer) for answer in question.answers]
        for rank, block_id in enumerate(block_ids[n].tolist()):
            if block_id == NO_BLOCK:
                continue
            if question.is_regex:
                found = bool(matcher.search(corpus.text(block_id).body, question.answers))
            else:
                found = has_answer_words(body_words(block_id).split(" "), wanted)
            if found:
                ranks[n] = rank
                break
    return ranks


def gold_ranks(corpus: Corpus, block_ids: np.ndarray, questions: Sequence[Question]) -> np.ndarray:
    """Find the first block that was cut from a gold document.

    Args:
      corpus: the blocks.
      block_ids: int `[n, k]`, best first.
      questions: n of them; `gold_passage_ids` are document ids of the corpus.

    Returns:
      int32 `[n]`, from 0; NOT_FOUND where there is none.
    """
    ranks = np.full(len(questions), NOT_FOUND, np.int32)
    for n, question in enumerate(questions):
        gold = set(question.gold_passage_ids)
        documents = (
            corpus.text(block_id).document_id if block_id != NO_BLOCK else None
            for block_id in (block_ids[n].tolist() if gold else [])
        )
        ranks[n] = next((rank for rank, document in enumerate(documents) if document in gold), NOT_FOUND)
    return ranks


def recall_at(ranks: np.ndarray, k: int) -> np.ndarray:
    """Turn ranks int `[n]` into float64 `[n]`: 1 where something was found among the first k, else 0."""
    return ((ranks != NOT_FOUND) & (ranks < k)).astype(np.float64)
