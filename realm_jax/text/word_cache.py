"""The tokenizer's results for many texts at once, each word looked up once.

The library needs about two microseconds a wordpiece, most of it for words it has seen a thousand times.
WordPiece treats what stands between blanks and ASCII punctuation by itself, so the result for
such a piece can be kept. The results are the library's own, token for token and offset for offset; a test
compares them.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from realm_jax.text.tokenizer import Tokenizer

# A word or a punctuation mark with the blank before it, or another blank. Everything else (other blanks,
# accents, scripts without blanks, control characters) is inside a word here, for the library to see to.
_PIECE = re.compile(r" ?[^ \t\n\r!-/:-@\[-`{-~]+| ?[!-/:-@\[-`{-~]|[ \t\n\r]")


class BatchEncoding(NamedTuple):
    """The wordpieces of some texts joined by line feeds."""

    ids: np.ndarray  # int32 [n]
    starts: np.ndarray  # int64 [n]; first character in the joined text
    stops: np.ndarray  # int64 [n]
    tokens: np.ndarray  # int64 [T + 1]; where each text's tokens begin
    characters: np.ndarray  # int64 [T]; where each text begins in the joined text


class WordCache:
    """Encode texts as `Tokenizer.encode_batch(..., special_tokens=False)` does, several times as fast."""

    def __init__(self, tokenizer: Tokenizer, *, max_entries: int = 1 << 19):
        """Start with an empty cache, which starts again when it holds more than `max_entries` pieces.

        Half a million pieces take about 100 MB.
        """
        self._max_entries = max_entries
        self.tokenizer = tokenizer
        self._entry: dict[str, int] = {}  # piece -> its number
        self._count = self._first = np.zeros(0, np.int64)  # by number: tokens, and where they stand below
        self._ids = np.zeros(0, np.int32)
        self._starts = self._stops = np.zeros(0, np.int64)  # characters in the piece

    def encode(self, texts: Sequence[str]) -> BatchEncoding:
        """Encode texts.

        Args:
          texts: T strings.

        Returns:
          All their wordpieces in order.
        """
        joined = "\n".join(texts)
        pieces = _PIECE.findall(joined)
        if len(self._entry) > self._max_entries:
            self._forget()
        self._learn(set(pieces).difference(self._entry))
        entry = np.fromiter(map(self._entry.__getitem__, pieces), np.int64, len(pieces))
        piece_length = np.fromiter(map(len, pieces), np.int64, len(pieces))
        piece_start = np.cumsum(piece_length) - piece_length
        count = self._count[entry]
        total = int(count.sum())
        # Token j of a piece stands at first[entry] + j in the store.
        before = np.cumsum(count) - count
        at = np.repeat(self._first[entry] - before, count) + np.arange(total)
        origin = np.repeat(piece_start, count)
        ids, starts, stops = self._ids[at], origin + self._starts[at], origin + self._stops[at]
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        characters = np.cumsum(lengths + 1) - lengths - 1
        tokens = np.append(np.searchsorted(starts, characters), total)
        return BatchEncoding(ids, starts, stops, tokens, characters)

    def _learn(self, pieces: set[str]) -> None:
        if not pieces:
            return
        order = sorted(pieces)
        found = self.tokenizer.encode("\n".join(order), special_tokens=False)  # one call: calls are dear
        length = np.fromiter(map(len, order), np.int64, len(order)) + 1
        begin = np.cumsum(length) - length
        edges = np.append(np.searchsorted(found.offsets[:, 0], begin), len(found.ids))
        shift = np.repeat(begin, np.diff(edges))
        self._entry.update(zip(order, range(len(self._count), len(self._count) + len(order)), strict=True))
        self._count = np.append(self._count, np.diff(edges))
        self._first = np.append(self._first, len(self._ids) + edges[:-1])
        self._ids = np.append(self._ids, found.ids)
        self._starts = np.append(self._starts, found.offsets[:, 0] - shift)
        self._stops = np.append(self._stops, found.offsets[:, 1] - shift)

    def _forget(self) -> None:
        self._entry.clear()
        self._count = self._first = self._starts = self._stops = np.zeros(0, np.int64)
        self._ids = np.zeros(0, np.int32)
