"""The lexical baseline: BM25 (Robertson and Zaragoza 2009) by the library bm25s."""

import logging
from collections.abc import Callable, Sequence

import numpy as np
from bm25s import BM25
from bm25s.stopwords import STOPWORDS_EN_PLUS

from realm_jax.data.corpus import Corpus
from realm_jax.text.answers import words
from realm_jax.types import NO_BLOCK, Search

logging.getLogger("bm25s").setLevel(logging.WARNING)  # importing it sets DEBUG, and it reports on every call
STOPWORDS = frozenset(STOPWORDS_EN_PLUS)
REPORTED_BLOCKS = 1000  # between two words of progress


class LexicalIndex:
    """Words of title and body of every block; built by `LexicalIndex.build`.

    Args:
      bm25: the library's index.
      count: N.
    """

    def __init__(self, bm25: BM25, count: int):
        self._bm25, self._count = bm25, count

    @classmethod
    def build(cls, corpus: Corpus, *, progress: Callable[[int], None] = lambda done: None) -> "LexicalIndex":
        """Index the words of a corpus, in memory.

        Args:
          corpus: the blocks.
          progress: told how many blocks have been split into words, which takes most of the time.
        """
        bags = []
        for block_id in range(len(corpus)):
            text = corpus.text(block_id)
            bags.append(terms(f"{text.title} {text.body}"))
            if len(bags) % REPORTED_BLOCKS == 0:
                progress(len(bags))
        bm25 = BM25(k1=0.9, b=0.4)  # the usual values for passages
        bm25.index(bags, show_progress=False)
        return cls(bm25, len(corpus))

    def __len__(self) -> int:
        return self._count

    def search_texts(self, texts: Sequence[str], k: int) -> Search:
        """Find the k best blocks of each text.

        Args:
          texts: B questions or sentences.
          k: how many.

        Returns:
          Scores and ids `[B, k]`, best first, ties by lower id; a block that shares no word with the text is
          never found, and rows with fewer are filled with NO_BLOCK and -inf.
        """
        scores = np.full((len(texts), k), -np.inf, np.float32)
        block_ids = np.full((len(texts), k), NO_BLOCK, np.int32)
        known = self._bm25.vocab_dict
        for row, text in enumerate(texts):
            query = [term for term in terms(text) if term in known]
            if not query:
                continue
            all_scores = self._bm25.get_scores(query)
            found = np.flatnonzero(all_scores > 0)
            if len(found) > k:
                least = np.partition(all_scores[found], -k)[-k]
                found = found[all_scores[found] >= least]
            found = found[np.lexsort((found, -all_scores[found]))][:k]
            scores[row, : len(found)], block_ids[row, : len(found)] = all_scores[found], found
        return Search(scores=scores, block_ids=block_ids)


def terms(text: str) -> list[str]:
    """Split a text into the words that are searched: lower-cased, without accents and stop words."""
    return [word for word in words(text) if word not in STOPWORDS]
