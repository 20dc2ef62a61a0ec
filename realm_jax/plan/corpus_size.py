"""The size of a corpus: of one that is prepared, or that of the paper."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from realm_jax.config import Config
from realm_jax.data.corpus import Corpus
from realm_jax.data.encode import token_dtype
from realm_jax.data.writer import MANIFEST
from realm_jax.index.embed import row_lengths

WIKIPEDIA_BLOCKS = 13_353_718  # of REALM's Wikipedia of December 2018, blocks of up to 288 wordpieces
BERT_VOCABULARY = 30_522  # wordpieces of bert-base-uncased


class CorpusSize(NamedTuple):
    """What of a corpus decides how large a run is."""

    blocks: int
    title_width: int  # tokens kept of a title
    body_width: int  # tokens kept of a body
    vocab_size: int
    embedded_length: float  # mean tokens of a row the refresher embeds
    known: bool  # measured on a prepared corpus, or assumed

    @property
    def token_dtype(self) -> str:
        return token_dtype(self.vocab_size).name

    @property
    def row_bytes(self) -> int:
        """Bytes of one block's tokens and their two lengths."""
        width = self.title_width + self.body_width
        return width * token_dtype(self.vocab_size).itemsize + 2 * np.dtype(np.uint16).itemsize


def corpus_size(config: Config, *, blocks: int | None = None) -> CorpusSize:
    """Measure the config's corpus where it is prepared, else assume Wikipedia in rows as wide as the shapes.

    Args:
      config: the experiment.
      blocks: number of blocks; None: those of the corpus, or of the paper's Wikipedia.

    Raises:
      CorpusError: what is there is no prepared corpus.
    """
    if config.corpus and (Path(config.corpus) / MANIFEST).is_file():
        return _measured(Corpus.open(config.corpus), block_length=config.shapes.block_length, blocks=blocks)
    shapes = config.shapes
    body = shapes.joint_length - shapes.query_length
    return CorpusSize(
        blocks=blocks or WIKIPEDIA_BLOCKS,
        title_width=max(3, shapes.block_length - body),
        body_width=body,
        vocab_size=config.model.vocab_size or BERT_VOCABULARY,
        embedded_length=shapes.block_length,
        known=False,
    )


def _measured(corpus: Corpus, *, block_length: int, blocks: int | None) -> CorpusSize:
    lengths = row_lengths(corpus.token_counts(), widest=corpus.title_width + corpus.body_width)
    return CorpusSize(
        blocks=blocks or len(corpus),
        title_width=corpus.title_width,
        body_width=corpus.body_width,
        vocab_size=corpus.tokenizer.vocab_size,
        embedded_length=float(np.minimum(lengths, block_length).mean()),
        known=True,
    )
